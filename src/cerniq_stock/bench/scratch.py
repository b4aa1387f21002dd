"""Scratch databases: made for one benchmark, dropped after it, whatever happens."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from cerniq_stock import wiring
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import create_database, drop_database, with_database
from cerniq_stock.store.migrate import migrate

PREFIX = "cerniq_bench_"


def say(text: str) -> None:
    """Tell how far it is; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


async def server_dsn(settings: Settings) -> str:
    """Address of the server to measure on: the configured one, else the embedded one, started."""
    return await asyncio.to_thread(wiring.database_dsn, settings)


@asynccontextmanager
async def scratch(server: str, *, clone_of: str | None = None) -> AsyncIterator[str]:
    """Make a database with the newest schema, or a copy of one; yield its address; drop it."""
    name = f"{PREFIX}{uuid4().hex[:12]}"
    template = urlsplit(clone_of).path[1:] if clone_of else "template1"
    try:
        dsn = await create_database(server, name, template=template)
        if clone_of is None:
            await migrate(dsn)
        yield dsn
    finally:
        await drop_database(server, name)


async def tidy(dsn: str) -> None:
    """VACUUM ANALYZE, as autovacuum would have done by the time it matters."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def server_version(server: str) -> str:
    """Version of the server, such as `18.6`."""
    connection = await asyncpg.connect(with_database(server, "postgres"))
    try:
        version: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return version.split(maxsplit=1)[0]
