"""`cerniq-stock worker` and `up`: processes that stay."""

from typing import Annotated

import typer

from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.output import Shown

commands = top_level()

MetricsPort = Annotated[
    int | None,
    typer.Option(metavar="PORT", min=0, max=65535, help="Port of the metrics; 0 serves none."),
]


@command(commands, "worker", "worker", "worker --no-schedules --metrics-port 9465")
async def worker(
    call: Call,
    schedules: Annotated[
        bool, typer.Option(help="Add the jobs of schedules as well; several workers may.")
    ] = True,
    metrics_port: MetricsPort = None,
) -> Shown:
    """Run jobs until SIGTERM or Ctrl-C.

    Then no more are taken; those that run may end (CERNIQ_STOP_GRACE_S), the rest is taken over
    by other workers. Events are logged to stderr.
    """
    await _run(call, schedules=schedules, metrics_port=metrics_port)
    return Shown({"stopped": True}, ())


@command(commands, "up", "up", "up --metrics-port 0")
async def up(call: Call, metrics_port: MetricsPort = None) -> Shown:
    """Run everything in one process: the embedded database, workers, schedules.

    Until SIGTERM or Ctrl-C; the database goes on running (cerniq-stock database stop).
    """
    await _run(call, schedules=True, metrics_port=metrics_port)
    return Shown({"stopped": True}, ())


async def _run(call: Call, *, schedules: bool, metrics_port: int | None) -> None:
    from cerniq_stock import logs  # noqa: PLC0415 - processes that stay bring more than commands
    from cerniq_stock.running import run_workers  # noqa: PLC0415 - see above

    settings = call.settings
    if metrics_port is not None:
        settings = settings.model_copy(update={"metrics_port": metrics_port})
    level = "ERROR" if call.options.quiet else settings.log_level
    logs.configure(settings.log_format, level)
    await run_workers(settings, schedules=schedules)
