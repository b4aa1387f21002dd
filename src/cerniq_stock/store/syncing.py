"""Where the rows of a sync are kept and compared: its own connection, with temporary tables."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg

from cerniq_stock.errors import UnavailableError
from cerniq_stock.store.database import connect
from cerniq_stock.store.queries import parse
from cerniq_stock.store.trouble import LOST

SQL = parse((files("cerniq_stock.store") / "syncing.sql").read_text(encoding="utf-8"))

Incoming = tuple[
    str,
    str,
    str | None,
    Decimal | None,
    Decimal | None,
    Decimal | None,
    str | None,
    str | None,
    bool,
]
"""SKU, warehouse, lot, total, available, price, currency, status, whether it is in error."""

SETTINGS = {"statement_timeout": "10min", "work_mem": "64MB", "plan_cache_mode": "auto"}
"""A million rows take their time, and temporary tables have no plans worth keeping."""


class BusyError(UnavailableError):
    """Another run of the integration is under way."""


class Staging:
    """The rows of one run. Only statements of `syncing.sql` are run on it."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: UUID) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def add(self, rows: Sequence[Incoming]) -> None:
        """Take rows in, with COPY."""
        if rows:
            await self._connection.copy_records_to_table("incoming", records=rows)

    async def gather(self) -> None:
        """Put together what belongs together; no more rows come after that."""
        await self._connection.execute("ANALYZE incoming")
        if await self._connection.fetchval(SQL["is_unique"]):
            await self._connection.execute(SQL["gather_unique"])
            await self._connection.execute(SQL["mark_unique"])
        else:
            await self._connection.execute(SQL["gather"])
            await self._connection.execute("ANALYZE figures")

    async def find(self, integration_id: UUID, *, force: bool, use_available: bool) -> int:
        """Find what may have to change; returns how much that is."""
        await self.own("find_candidates", integration_id, force, use_available)
        await self._connection.execute(SQL["index_candidates"])
        count: int = await self._connection.fetchval(SQL["count_candidates"])
        return count

    async def candidates(self, chunk: int) -> AsyncIterator[list[asyncpg.Record]]:
        """Read what may have to change, in chunks in the order of locks."""
        last = 0
        while rows := await self._connection.fetch(SQL["candidates"], last, chunk):
            last = rows[-1]["place"]
            yield rows

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement that touches the temporary tables only."""
        return await self._connection.fetch(SQL[name], *arguments)

    async def own(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement on the tenant's rows."""
        return await self._connection.fetch(SQL[name], self._tenant_id, *arguments)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Run what follows as one transaction."""
        async with self._connection.transaction():
            yield


@asynccontextmanager
async def turn(
    dsn: str, tenant_id: UUID, integration_id: UUID
) -> AsyncIterator[asyncpg.Connection]:
    """Have an integration for oneself. Raises BusyError while somebody else has it."""
    settings = {**SETTINGS, "app.tenant": str(tenant_id)}
    connection = await connect(dsn, settings=settings)
    try:
        if not await connection.fetchval(SQL["take_turn"], integration_id):
            raise BusyError("Another sync of this integration is under way")
        yield connection
    except LOST as error:
        raise UnavailableError("The database does not answer") from error
    finally:
        await connection.close()


@asynccontextmanager
async def staging(dsn: str, tenant_id: UUID, integration_id: UUID) -> AsyncIterator[Staging]:
    """Open the staging of one run. Raises BusyError while another run of the integration lasts."""
    async with turn(dsn, tenant_id, integration_id) as connection:
        await connection.execute(SQL["make_incoming"])
        yield Staging(connection, tenant_id)


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[Any]:
    """Turn rows into the columns that a statement takes."""
    turned = list(zip(*rows, strict=True))
    return turned or [()] * width
