"""The composition root: the only place that knows all implementations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cerniq_stock.errors import UnavailableError
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store import embedded
from cerniq_stock.store.availability import AvailabilityReader
from cerniq_stock.store.database import create_database, create_pool, unsafe_role, with_database
from cerniq_stock.store.migrate import migrate, revisions
from cerniq_stock.store.sweep import Sweeper
from cerniq_stock.store.writer import Limits, Observer, Writer

EMBEDDED_DATABASE = "cerniq"


def data_dir(settings: Settings) -> Path:
    """Folder of the embedded server."""
    return settings.data_dir or embedded.default_data_dir()


def database_dsn(settings: Settings) -> str:
    """Address of the database; starts the embedded server where none is configured."""
    if settings.database_url is not None:
        return settings.database_url
    return with_database(embedded.start(data_dir(settings)), EMBEDDED_DATABASE)


async def prepare_database(settings: Settings) -> str:
    """Start what must run and bring the schema up to date where it is ours alone.

    An external database is migrated only when asked (`cerniq-stock database migrate`): others may
    depend on it.
    """
    dsn = await asyncio.to_thread(database_dsn, settings)
    if settings.database_url is None:
        await create_database(dsn, EMBEDDED_DATABASE)
        await migrate(dsn)
    elif not (await revisions(dsn)).up_to_date:
        raise UnavailableError(
            "The database's schema is not up to date; run: cerniq-stock database migrate"
        )
    return dsn


@asynccontextmanager
async def open_stock(
    url: str | None = None,
    *,
    settings: Settings | None = None,
    limits: Limits | None = None,
    sweep: bool = True,
    observer: Observer | None = None,
) -> AsyncIterator[Stock]:
    """Open the engine for the length of a block: an async context manager.

    `url` names a PostgreSQL database; without it CERNIQ_DATABASE_URL does, and without that the
    embedded server is started (it keeps running afterwards). `limits` bounds the writer. While
    the handle is open, expired reservations are swept within a second, unless `sweep` is False.
    `observer` is told what the writer does, for metrics.

    Raises UnavailableError when the schema is not up to date or row-level security would not hold.
    """
    settings = settings or Settings()
    if url is not None:
        settings = settings.model_copy(update={"database_url": url})
    dsn = await prepare_database(settings)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(create_pool(dsn, "cerniq_app", max_size=8))
        operator = await stack.enter_async_context(create_pool(dsn, "cerniq_operator", max_size=2))
        async with app.acquire() as connection:
            unsafe = await unsafe_role(connection)
        if unsafe is not None:
            raise UnavailableError(unsafe)
        if sweep:
            await stack.enter_async_context(Sweeper(dsn))
        availability = await stack.enter_async_context(AvailabilityReader(dsn))
        limits = limits or Limits(connections=settings.writer_connections)
        writer = await stack.enter_async_context(Writer(dsn, limits, observer))
        yield Stock(dsn, writer, availability, app, operator)
