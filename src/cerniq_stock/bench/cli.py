"""`cerniq-stock bench`: the measurements as commands."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Protocol, TypeVar

import typer

from cerniq_stock.bench.classic import CONNECTIONS
from cerniq_stock.bench.csv_sync import bench_csv_sync
from cerniq_stock.bench.expire import bench_expire
from cerniq_stock.bench.jobs import bench_jobs
from cerniq_stock.bench.read import bench_read
from cerniq_stock.bench.report import Document, machine, show
from cerniq_stock.bench.reserve import Against, bench_reserve
from cerniq_stock.bench.scratch import server_dsn
from cerniq_stock.bench.sync import bench_sync
from cerniq_stock.bench.verify_load import bench_verify
from cerniq_stock.bench.workload import Load, Plan
from cerniq_stock.settings import Settings
from cerniq_stock.validate import MAX_LINES

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    help="Measure the engine on a scratch database that is dropped afterwards.",
    add_completion=False,
    context_settings=CONTEXT,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _enter(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)


def command(*examples: str) -> Callable[[F], F]:
    """Register a function as a command that looks like those of the engine itself."""
    lines = "\n".join(["\b", "Examples:", *[f"  cerniq-stock bench {each}" for each in examples]])
    return app.command(epilog=lines, context_settings=CONTEXT)


class Benchmark(Protocol):
    """A measurement whose size is settled."""

    def __call__(self, *, server: str, settings: Settings) -> Awaitable[Document]:
        """Run it on this server."""


def _count(least: int, most: int | None, text: str) -> Any:
    return typer.Option(metavar="N", min=least, max=most, help=text)


Callers = Annotated[int, _count(1, 5_000, "So many ask at once.")]
Products = Annotated[int, _count(10, 1_000_000, "Products of all tenants together.")]
Tenants = Annotated[int, _count(1, 10_000, "So many tenants.")]
Seconds = Annotated[
    float, typer.Option(metavar="S", min=0.1, max=3_600, help="Length of a measured window.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document on stdout.")]


@command(
    "reserve --load hot --against classic",
    "reserve --callers 50 --lines 5 --seconds 10 --json",
)
def reserve(
    load: Annotated[
        Load, typer.Option(case_sensitive=False, help="Which products the requests name.")
    ] = Load.SPREAD,
    callers: Callers = 200,
    lines: Annotated[int, _count(1, MAX_LINES, "Lines of a request.")] = 1,
    tenants: Tenants = 1,
    products: Products = 10_000,
    seconds: Seconds = 5.0,
    rounds: Annotated[
        int | None, _count(1, 100, "Windows of each side; without it 1, or 3 --against another.")
    ] = None,
    against: Annotated[
        Against | None, typer.Option(case_sensitive=False, help="What to compare with.")
    ] = None,
    connections: Annotated[int, _count(1, 1_000, "Connections of the classic side.")] = CONNECTIONS,
    as_json: AsJson = False,
) -> None:
    """Reserve in a closed loop.

    Alone, or in turns with what it is compared with.
    """
    if against is Against.PGBENCH and (load not in (Load.SPREAD, Load.HOT) or lines > 1):
        raise typer.BadParameter("pgbench knows the loads spread and hot, with one line")
    plan = Plan(load, callers, lines, tenants, products)
    turns = rounds or (3 if against else 1)
    found = partial(bench_reserve, plan, against=against, connections=connections)
    _present("reserve", partial(found, seconds=seconds, rounds=turns), as_json)


@command("read --callers 200 --skus 20")
def read(
    callers: Callers = 200,
    skus: Annotated[int, _count(1, 2_000, "SKUs of a question.")] = 1,
    tenants: Tenants = 1,
    products: Products = 10_000,
    seconds: Seconds = 5.0,
    as_json: AsJson = False,
) -> None:
    """Ask for availability in a closed loop."""
    plan = Plan(Load.SPREAD, callers, skus, tenants, products)
    _present("read", partial(bench_read, plan, seconds=seconds), as_json)


@command("expire --reservations 100000 --callers 50")
def expire(
    reservations: Annotated[int, _count(1, None, "So many are past their time.")] = 100_000,
    callers: Callers = 50,
    products: Products = 10_000,
    as_json: AsJson = False,
) -> None:
    """Sweep expired reservations while others go on reserving."""
    plan = Plan(Load.SPREAD, callers, 1, 1, products)
    _present("expire", partial(bench_expire, plan, reservations=reservations), as_json)


@command("jobs --jobs 10000", "jobs --redis-url redis://localhost:6379/0")
def jobs(
    number: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="So many.")] = 10_000,
    products: Products = 10_000,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="By BullMQ on this Redis, to be empty.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a worker get through a queue of reservations; then jobs one by one."""
    plan = Plan(Load.SPREAD, 200, 1, 1, products)
    _present("jobs", partial(bench_jobs, plan, jobs=number, redis_url=redis_url), as_json)


@command("sync", "sync --products 10000 --callers 20", "sync --csv-rows 1000000")
def sync(
    callers: Callers = 20,
    products: Products = 100_000,
    csv_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="A file of so many lines instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Synchronise a whole catalogue with an ERP, alone and while others reserve."""
    if csv_rows is not None:
        _present("sync", partial(bench_csv_sync, csv_rows), as_json)
        return
    _present("sync", partial(bench_sync, Plan(Load.SPREAD, callers, 1, 1, products)), as_json)


@command("verify --movements 1000000 --json")
def verify(
    movements: Annotated[int, _count(100, None, "So many are verified.")] = 10_000_000,
    products: Products = 10_000,
    tenants: Tenants = 1,
    as_json: AsJson = False,
) -> None:
    """Rebuild every level from its movements and compare."""
    found = partial(bench_verify, movements=movements, products=products, tenants=tenants)
    _present("verify", found, as_json)


def _present(name: str, benchmark: Benchmark, as_json: bool) -> None:
    """Run, show, and fail where the database was not right afterwards."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        document = runner.run(_run(name, benchmark))
    show(document, as_json=as_json)
    sides = [document, *(found for found in document.values() if isinstance(found, dict))]
    if any(found.get("oversold") or found.get("verified") is False for found in sides):
        raise typer.Exit(1)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(name: str, benchmark: Benchmark) -> Document:
    task = asyncio.current_task()
    assert task is not None
    # like Ctrl-C: the scratch databases are dropped on the way out
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    settings = Settings()
    server = await server_dsn(settings)
    return {
        "benchmark": name,
        "machine": await machine(server),
        **await benchmark(server=server, settings=settings),
    }
