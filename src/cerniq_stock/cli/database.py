"""`cerniq-stock database`: the server and its schema."""

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from cerniq_stock.cli.call import Call, command, group
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.problems import UsageProblemError

if TYPE_CHECKING:
    from pathlib import Path

app = group("The embedded server, and the schema of any server.")


LABELS = {
    "running": "running",
    "embedded": "embedded",
    "dataDir": "data folder",
    "pid": "process",
    "version": "PostgreSQL",
    "url": "address",
    "revision": "schema",
    "newest": "newest schema",
    "upToDate": "up to date",
}


class StopMode(StrEnum):
    """How to stop: wait for the clients, roll their work back, or leave recovery for the start."""

    SMART = "smart"
    FAST = "fast"
    IMMEDIATE = "immediate"


@command(app, "start", "database start")
async def start(call: Call) -> Shown:
    """Start the embedded server and bring its schema up to date; it stays until it is stopped.

    Other commands do so by themselves where it does not run.
    """
    from cerniq_stock.wiring import prepare_database  # noqa: PLC0415 - it brings everything

    folder = _embedded_folder(call)
    await prepare_database(call.settings)
    return _facts(await embedded_facts(folder))


@command(app, "stop", "database stop", "database stop --mode immediate")
async def stop(
    call: Call,
    mode: Annotated[
        StopMode, typer.Option(help="smart waits for clients; immediate leaves recovery.")
    ] = StopMode.FAST,
) -> Shown:
    """Stop the embedded server. What was committed stays."""
    from cerniq_stock.store import embedded  # noqa: PLC0415 - of no use to the other commands

    was_running = await asyncio.to_thread(embedded.stop, _embedded_folder(call), mode.value)
    return Shown({"stopped": was_running}, ("Stopped" if was_running else "It was not running",))


@command(app, "status", "database status", "database status --json")
async def status(call: Call) -> Shown:
    """Say whether the database runs, where, and whether its schema is up to date.

    Starts nothing.
    """
    url = call.settings.database_url
    if url is None:
        return _facts(await embedded_facts(_embedded_folder(call)))
    return _facts(await _external_facts(url))


@command(
    app,
    "migrate",
    "database migrate",
    "database migrate --database postgresql://stock@db.example/stock",
)
async def migrate(call: Call) -> Shown:
    """Bring the schema up to date, of the embedded or of another server."""
    from cerniq_stock import wiring  # noqa: PLC0415 - it brings everything
    from cerniq_stock.store.database import create_database  # noqa: PLC0415 - slow to import
    from cerniq_stock.store.migrate import migrate as upgrade  # noqa: PLC0415 - slow to import

    settings = call.settings
    dsn = await asyncio.to_thread(wiring.database_dsn, settings)
    if settings.database_url is None:
        await create_database(dsn, wiring.EMBEDDED_DATABASE)
    before, after = await upgrade(dsn)
    text = f"Up to date: {after}" if before == after else f"{before or 'no schema'} -> {after}"
    return Shown({"before": before, "after": after}, (text,))


def _embedded_folder(call: Call) -> "Path":
    from cerniq_stock.wiring import data_dir  # noqa: PLC0415 - slow to import

    settings = call.settings
    if settings.database_url is not None:
        raise UsageProblemError(
            "EXTERNAL_DATABASE", "Another database is set; only the embedded one starts and stops"
        )
    return data_dir(settings)


async def embedded_facts(folder: "Path") -> dict[str, Any]:
    """Look at the embedded server and its schema."""
    from cerniq_stock.store import embedded  # noqa: PLC0415 - slow to import
    from cerniq_stock.store.database import with_database  # noqa: PLC0415 - slow to import
    from cerniq_stock.wiring import EMBEDDED_DATABASE  # noqa: PLC0415 - slow to import

    server = await asyncio.to_thread(embedded.status, folder)
    facts = {
        "running": server.running,
        "embedded": True,
        "dataDir": str(server.data_dir),
        "pid": server.pid,
        "version": server.server_version,
        "url": None,
    }
    if server.dsn is None:
        return facts | await _schema(None)
    dsn = with_database(server.dsn, EMBEDDED_DATABASE)
    return facts | {"url": dsn} | await _schema(dsn)


async def _external_facts(url: str) -> dict[str, Any]:
    import asyncpg  # noqa: PLC0415 - slow to import

    connection = await asyncpg.connect(url, timeout=10)
    try:
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    parts = urlsplit(url)
    # the login may carry a password
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    facts = {"running": True, "embedded": False, "version": version, "url": shown}
    return facts | await _schema(url)


async def _schema(dsn: str | None) -> dict[str, Any]:
    """Which revision is there, and which this program wants."""
    import asyncpg  # noqa: PLC0415 - slow to import

    from cerniq_stock.store.migrate import head, revisions  # noqa: PLC0415 - slow to import

    current = None
    if dsn is not None:
        # a server without our database has no schema either
        with suppress(asyncpg.InvalidCatalogNameError):
            current = (await revisions(dsn)).current
    return {"revision": current, "newest": head(), "upToDate": current == head()}


def _facts(facts: dict[str, Any]) -> Shown:
    rows = [(LABELS[name], value) for name, value in facts.items() if value is not None]
    return Shown(facts, (Table(("", ""), rows),))
