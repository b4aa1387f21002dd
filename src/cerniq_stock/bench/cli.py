"""`cerniq-stock bench`: the measurements as commands."""

import asyncio
import signal
from collections.abc import Awaitable
from functools import partial
from typing import Annotated, Protocol

import typer

from cerniq_stock.bench.classic import CONNECTIONS
from cerniq_stock.bench.expire import bench_expire
from cerniq_stock.bench.read import bench_read
from cerniq_stock.bench.report import Document, machine, show
from cerniq_stock.bench.reserve import Against, bench_reserve
from cerniq_stock.bench.scratch import server_dsn
from cerniq_stock.bench.verify_load import bench_verify
from cerniq_stock.bench.workload import Load, Plan
from cerniq_stock.settings import Settings

app = typer.Typer(
    help="Measure the engine on a scratch database that is dropped afterwards.",
    no_args_is_help=True,
)


class Benchmark(Protocol):
    """A measurement whose size is settled."""

    def __call__(self, *, server: str, settings: Settings) -> Awaitable[Document]:
        """Run it on this server."""


Callers = Annotated[int, typer.Option(min=1, max=5_000, help="callers that ask at once")]
Products = Annotated[int, typer.Option(min=10, max=1_000_000, help="products of all tenants")]
Tenants = Annotated[int, typer.Option(min=1, max=10_000, help="tenants")]
Seconds = Annotated[float, typer.Option(min=0.1, max=3_600, help="length of a measured window")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]


@app.command()
def reserve(
    load: Annotated[Load, typer.Option(help="which products the requests name")] = Load.SPREAD,
    callers: Callers = 200,
    lines: Annotated[int, typer.Option(min=1, max=100, help="lines of a request")] = 1,
    tenants: Tenants = 1,
    products: Products = 10_000,
    seconds: Seconds = 5.0,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="windows of each side; default 1, or 3 against"),
    ] = None,
    against: Annotated[Against | None, typer.Option(help="what to compare with")] = None,
    connections: Annotated[
        int, typer.Option(min=1, max=1_000, help="connections of the classic side")
    ] = CONNECTIONS,
    as_json: AsJson = False,
) -> None:
    """Reservations in a closed loop, alone or in turns with something to compare with."""
    if against is Against.PGBENCH and (load not in (Load.SPREAD, Load.HOT) or lines > 1):
        raise typer.BadParameter("pgbench knows the loads spread and hot, with one line")
    plan = Plan(load, callers, lines, tenants, products)
    turns = rounds or (3 if against else 1)
    found = partial(bench_reserve, plan, against=against, connections=connections)
    _present("reserve", partial(found, seconds=seconds, rounds=turns), as_json)


@app.command()
def read(
    callers: Callers = 200,
    skus: Annotated[int, typer.Option(min=1, max=2_000, help="SKUs of a question")] = 1,
    tenants: Tenants = 1,
    products: Products = 10_000,
    seconds: Seconds = 5.0,
    as_json: AsJson = False,
) -> None:
    """Availability questions in a closed loop."""
    plan = Plan(Load.SPREAD, callers, skus, tenants, products)
    _present("read", partial(bench_read, plan, seconds=seconds), as_json)


@app.command()
def expire(
    reservations: Annotated[int, typer.Option(min=1, help="expired reservations")] = 100_000,
    callers: Callers = 50,
    products: Products = 10_000,
    as_json: AsJson = False,
) -> None:
    """Sweep expired reservations while others go on reserving."""
    plan = Plan(Load.SPREAD, callers, 1, 1, products)
    _present("expire", partial(bench_expire, plan, reservations=reservations), as_json)


@app.command()
def verify(
    movements: Annotated[int, typer.Option(min=100, help="movements to verify")] = 10_000_000,
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
