"""The composition root: the only place that knows all implementations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cerniq_stock.errors import UnavailableError
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store import embedded
from cerniq_stock.store.availability import AvailabilityReader
from cerniq_stock.store.database import create_database, create_pool, unsafe_role, with_database
from cerniq_stock.store.migrate import migrate, revisions
from cerniq_stock.store.sweep import Sweeper
from cerniq_stock.store.writer import Limits, Observer, Writer

if TYPE_CHECKING:
    from cerniq_stock.erp.guard import Policy
    from cerniq_stock.erp.secrets import Keys
    from cerniq_stock.integrations import Integrations
    from cerniq_stock.sync.syncs import Syncs

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


def erp_policy(settings: Settings) -> "Policy":
    """Where sessions with ERPs may connect to. Raises InvalidInputError naming the setting."""
    from cerniq_stock.erp.guard import Policy  # noqa: PLC0415 - most processes talk to no ERP

    return Policy.parse(settings.erp_allowed_hosts, settings.erp_ports)


def secret_keys(settings: Settings) -> "Keys":
    """The keys of stored credentials. Raises SecretsError, which says how to make one."""
    from cerniq_stock.erp.secrets import read_keys  # noqa: PLC0415 - most need no cryptography

    given = settings.secret_keys
    text = None if given is None else given.get_secret_value()
    return read_keys(text, settings.secret_keys_file)


@asynccontextmanager
async def open_integrations(settings: Settings, dsn: str) -> "AsyncIterator[Integrations]":
    """Open what is stored of tenants' ERPs, in a database that is prepared."""
    from cerniq_stock.integrations import Integrations  # noqa: PLC0415 - it brings an HTTP client

    async with (
        create_pool(dsn, "cerniq_app", max_size=4) as app,
        create_pool(dsn, "cerniq_operator", max_size=1) as operator,
    ):
        yield Integrations(
            app,
            operator,
            # asked for where something is sealed or opened: the rest goes without keys
            keys=partial(secret_keys, settings),
            policy=erp_policy(settings),
            files=settings.erp_files_dir,
            ca_file=settings.erp_ca_file,
        )


@asynccontextmanager
async def open_syncs(settings: Settings, dsn: str) -> "AsyncIterator[Syncs]":
    """Open what brings tenants' stock in line with their ERPs."""
    from cerniq_stock.sync.syncs import Syncs  # noqa: PLC0415 - it brings an HTTP client

    async with (
        create_pool(dsn, "cerniq_app", max_size=4) as app,
        open_integrations(settings, dsn) as integrations,
    ):
        yield Syncs(dsn, app, integrations)
