"""Connections: which role they act as, which tenant they see, how long they may take."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import asyncpg.pool

log = logging.getLogger(__name__)

CLOSE_S = 5.0
"""How long a pool that is closed waits for connections in use."""

Role = Literal["cerniq_app", "cerniq_operator"]

_LIMITS = {
    "search_path": "cerniq",
    "application_name": "cerniq-stock",
    "timezone": "UTC",
    "jit": "off",
    # the engine's statements gain nothing from planning again
    "plan_cache_mode": "force_generic_plan",
    "lock_timeout": "3s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
}


KEY_LOOKUPS = {
    # A plan made while a table was empty, or before it was ever analysed, would scan it for ever.
    # Leave the planner no such choice: joins run in the order in which they are written, from the
    # arguments to their rows, by index; and what an index has in order is not sorted.
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "enable_memoize": "off",
}
"""For connections whose every statement looks rows up by key."""


def plan_again(uses: int) -> bool:
    """Whether a connection should DISCARD PLANS before its n-th use.

    A plan made while a table was empty may stand on the wrong index, and tables grow with their
    use: so at 1, 2, 4, … 64. After that the sizes are known, and autovacuum's ANALYZE has the
    plans made again.
    """
    return uses <= PLANNED_AGAIN and uses.bit_count() == 1


PLANNED_AGAIN = 64


async def _open(*args: Any, **options: Any) -> asyncpg.Connection:
    """Connect. A database that takes no connections for now is like one that is starting."""
    try:
        return await asyncpg.connect(*args, **options)
    except asyncpg.ObjectNotInPrerequisiteStateError as error:
        raise asyncpg.CannotConnectNowError(str(error)) from error


async def connect(
    dsn: str, role: Role = "cerniq_app", settings: Mapping[str, str] | None = None
) -> asyncpg.Connection:
    """Open a connection that acts as `role`. `settings` override the defaults."""
    return await _open(
        dsn, timeout=10, server_settings={**_LIMITS, "role": role, **(settings or {})}
    )


@asynccontextmanager
async def create_pool(
    dsn: str, role: Role, *, max_size: int, reset: bool = True
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool whose connections act as `role`, for the length of the block.

    Without `reset` a connection comes back as it was left, which spares a round trip: for users
    who change nothing of the session. Connections that are not back CLOSE_S after the block are
    cut off: whoever keeps one, a process that is told to stop does.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=max_size,
        server_settings={**_LIMITS, "role": role},
        connect=_open,
        reset=None if reset else _leave,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), CLOSE_S)
        except TimeoutError:
            log.warning("connections of %s were not given back in %s s", role, CLOSE_S)


async def _leave(connection: object) -> None:
    pass


@asynccontextmanager
async def as_tenant(
    pool: asyncpg.Pool, tenant_id: UUID
) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """Enter a transaction that sees one tenant's rows only. It commits on a clean exit."""
    assert isinstance(tenant_id, UUID), tenant_id
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL app.tenant = '{tenant_id}'")
        yield connection


async def unsafe_role(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy,
) -> str | None:
    """Say why row-level security would not hold for this connection's role, if so."""
    row = await connection.fetchrow(
        "SELECT r.rolname, r.rolsuper, r.rolbypassrls, EXISTS ("
        "  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        "  WHERE n.nspname = 'cerniq' AND c.relowner = r.oid) AS owns"
        " FROM pg_roles r WHERE r.rolname = current_user"
    )
    assert row is not None
    for fault in ("rolsuper", "rolbypassrls", "owns"):
        if row[fault]:
            return f"role {row['rolname']} bypasses row-level security ({fault})"
    return None


def with_database(dsn: str, name: str) -> str:
    """Return the address of another database on the same server."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def create_database(dsn: str, name: str, *, template: str = "template1") -> str:
    """Make a database on the server of `dsn` unless it exists; return its address."""
    connection = await asyncpg.connect(with_database(dsn, "postgres"))
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # it is there, or another process makes it at this moment
    finally:
        await connection.close()
    return with_database(dsn, name)


async def drop_database(dsn: str, name: str) -> None:
    """Drop a database on the server of `dsn`, whoever is connected to it."""
    connection = await asyncpg.connect(with_database(dsn, "postgres"))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()
