"""What all that deals with syncs shares: an integration's turn, and the statements of their log."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg
import asyncpg.pool
from ulid import ULID

from cerniq_stock.errors import NotFoundError, UnavailableError
from cerniq_stock.store.database import connect
from cerniq_stock.store.queries import parse
from cerniq_stock.store.trouble import BLOCKED, LOST

SQL = parse((files("cerniq_stock.store") / "syncing.sql").read_text(encoding="utf-8"))

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

SETTINGS = {"statement_timeout": "10min", "work_mem": "64MB", "plan_cache_mode": "auto"}
"""A million rows take their time, and temporary tables have no plans worth keeping."""

PLANS_KEPT = timedelta(days=7)
"""So long a dry run may be applied, if nothing has moved."""


class BusyError(UnavailableError):
    """Another run of the integration is under way."""


@asynccontextmanager
async def connected(dsn: str, tenant_id: UUID) -> AsyncIterator[asyncpg.Connection]:
    """Have a connection of one's own for a tenant. Raises UnavailableError when it is lost."""
    settings = {**SETTINGS, "app.tenant": str(tenant_id)}
    connection = await connect(dsn, settings=settings)
    try:
        yield connection
    except LOST as error:
        raise UnavailableError("The database does not answer") from error
    except BLOCKED as error:
        raise UnavailableError("Somebody else holds a level or a row for too long") from error
    finally:
        await connection.close()


@asynccontextmanager
async def turn(
    dsn: str, tenant_id: UUID, integration_id: UUID
) -> AsyncIterator[asyncpg.Connection]:
    """Have an integration for oneself, until the connection ends.

    Raises BusyError while somebody else has it, and NotFoundError where it was removed.
    """
    async with connected(dsn, tenant_id) as connection:
        await take_turn(connection, tenant_id, integration_id)
        yield connection


async def take_turn(connection: Connection, tenant_id: UUID, integration_id: UUID) -> None:
    """Take an integration's turn on a connection of its tenant. Raises like `turn`."""
    if not await connection.fetchval(SQL["take_turn"], integration_id):
        raise BusyError("Another sync of this integration is under way")
    # whoever looked it up before the turn may have looked before it was removed
    if not await connection.fetchval(SQL["has_integration"], tenant_id, integration_id):
        raise NotFoundError("The integration is gone")


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[Any]:
    """Turn rows into the columns that a statement takes."""
    turned = list(zip(*rows, strict=True))
    return turned or [()] * width


async def prune_plans(operator: asyncpg.Pool) -> None:
    """Forget the plans of dry runs that are too old to be applied."""
    oldest = ULID.from_datetime(datetime.now(UTC) - 2 * PLANS_KEPT)
    await operator.execute(SQL["prune_plans"], str(oldest))
