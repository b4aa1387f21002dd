"""`cerniq-stock worker` and `up`: processes that stay."""

from enum import StrEnum
from typing import Annotated

import typer

from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.output import Shown
from cerniq_stock.cli.problems import UsageProblemError

commands = top_level()

MetricsPort = Annotated[
    int | None,
    typer.Option(metavar="PORT", min=0, max=65535, help="Port of the metrics; 0 serves none."),
]


class Transport(StrEnum):
    """Where jobs come from."""

    POSTGRES = "postgres"
    BULLMQ = "bullmq"


@command(
    commands,
    "worker",
    "worker",
    "worker --no-schedules --metrics-port 9465",
    "worker --transport bullmq --redis-url redis://localhost:6379/0",
)
async def worker(
    call: Call,
    schedules: Annotated[
        bool, typer.Option(help="Add the jobs of schedules as well; several workers may.")
    ] = True,
    transport: Annotated[
        Transport, typer.Option(case_sensitive=False, help="Where jobs come from.")
    ] = Transport.POSTGRES,
    redis_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Redis of BullMQ; without it CERNIQ_REDIS_URL."),
    ] = None,
    metrics_port: MetricsPort = None,
) -> Shown:
    """Run jobs until SIGTERM or Ctrl-C.

    Then no more are taken; those that run may end (CERNIQ_STOP_GRACE_S), the rest is taken over
    by other workers. Events are logged to stderr.
    """
    url = None
    if transport is Transport.BULLMQ:
        url = redis_url or call.settings.redis_url
        if url is None:
            raise UsageProblemError("USAGE", "Name the Redis with --redis-url")
        schedules = False  # they stay with the workers on PostgreSQL
    await _run(call, schedules=schedules, metrics_port=metrics_port, redis_url=url)
    return Shown({"stopped": True}, ())


@command(commands, "up", "up", "up --metrics-port 0")
async def up(call: Call, metrics_port: MetricsPort = None) -> Shown:
    """Run everything in one process: the embedded database, workers, schedules.

    Until SIGTERM or Ctrl-C; the database goes on running (cerniq-stock database stop).
    """
    await _run(call, schedules=True, metrics_port=metrics_port)
    return Shown({"stopped": True}, ())


async def _run(
    call: Call, *, schedules: bool, metrics_port: int | None, redis_url: str | None = None
) -> None:
    from cerniq_stock import logs  # noqa: PLC0415 - processes that stay bring more than commands
    from cerniq_stock.running import run_workers  # noqa: PLC0415 - see above

    settings = call.settings
    if metrics_port is not None:
        settings = settings.model_copy(update={"metrics_port": metrics_port})
    level = "ERROR" if call.options.quiet else settings.log_level
    logs.configure(settings.log_format, level)
    await run_workers(settings, schedules=schedules, redis_url=redis_url)
