"""The ledger of sales that an ERP is told of: being sent, booked, refused."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import asyncpg

from cerniq_stock.errors import UnavailableError
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.queries import parse
from cerniq_stock.store.syncing import BusyError
from cerniq_stock.store.trouble import BLOCKED, LOST

SQL = parse((files("cerniq_stock.store") / "pushing.sql").read_text(encoding="utf-8"))

LONGEST_ERROR, LONGEST_DOCUMENT = 500, 100
_TIME = 10
"""Characters of an id that are its time."""


class Sold(NamedTuple):
    """A sale that is written down, by its movement. A negative quantity came back."""

    movement_id: str
    sku: str
    warehouse: str
    quantity: Decimal


class Batch(NamedTuple):
    """Sales of one document; a repeat is of the same ones."""

    sales: tuple[Sold, ...]

    @property
    def ids(self) -> list[str]:
        """Of its movements."""
        return [sale.movement_id for sale in self.sales]


def first_id(moment: datetime) -> str:
    """Return what sorts before every id of that moment and after."""
    return f"{id_block(moment, 1)[0][:_TIME]:0<26}"


class Ledger:
    """What is known of one integration's pushes. Every call is durable when it returns."""

    def __init__(
        self, connection: asyncpg.Connection, tenant_id: UUID, integration_id: UUID
    ) -> None:
        self._connection = connection
        self._of = tenant_id, integration_id

    async def since(self) -> tuple[datetime, datetime | None]:
        """Return the time, and from when on sales are to be looked for (None: there are none)."""
        row = await self._connection.fetchrow(SQL["push_since"], *self._of)
        if row is None:
            raise UnavailableError("The integration is gone")
        return row["now"], row["since"]

    async def warehouses(self) -> list[tuple[str, bool]]:
        """Return ours in their order, and whether the ERP has told of stock in them."""
        rows = await self._connection.fetch(SQL["push_warehouses"], *self._of)
        return [(row["name"], row["told"]) for row in rows]

    async def unpushed(
        self, after_id: str, since: datetime, warehouses: Sequence[str], most: int
    ) -> list[asyncpg.Record]:
        """Find sales that are not written down yet, in the order of their ids."""
        asked = after_id, since, warehouses, most
        return await self._connection.fetch(SQL["unpushed_sales"], *self._of, *asked)

    async def put(self, groups: Sequence[Sequence[asyncpg.Record]]) -> list[Batch]:
        """Write found sales down as being sent, each group as one document."""
        names = id_block(datetime.now(UTC), len(groups))
        rows = [
            (*(row["movement_id"], row["product_id"], row["sku"], row["warehouse"]),
             *(row["quantity"], row["sold_at"], name))
            for name, group in zip(names, groups, strict=True)
            for row in group
        ]  # fmt: skip
        if rows:
            columns = list(zip(*rows, strict=True))
            await self._connection.execute(SQL["put_pushes"], *self._of, *columns)
        return [_batch(group) for group in groups]

    async def waiting(self, *, fresh: bool, settle_s: float) -> list[Batch]:
        """Return what is to be sent: never tried yet, or tried long enough ago."""
        rows = await self._connection.fetch(SQL["waiting_pushes"], *self._of, fresh, settle_s)
        return [_batch(group) for _, group in groupby(rows, key=lambda row: row["batch"])]

    async def trying(self, batch: Batch) -> int:
        """Count a try before it is made; returns which one it is."""
        rows = await self._connection.fetch(SQL["try_pushes"], *self._of, batch.ids)
        assert len(rows) == len(batch.sales), "somebody else has it"
        attempt: int = rows[0]["attempts"]
        return attempt

    async def troubled(self, batch: Batch, why: str) -> None:
        """Keep what went wrong; whether it is booked is open."""
        await self._run("trouble_pushes", batch, why[:LONGEST_ERROR])

    async def booked(self, batch: Batch, document: str | None) -> None:
        """It is in the ERP."""
        number = None if document is None else document[:LONGEST_DOCUMENT]
        await self._run("end_pushes", batch, "BOOKED", number, None)

    async def refused(self, batch: Batch, why: str) -> None:
        """It is not, and is not sent again by itself."""
        await self._run("end_pushes", batch, "REFUSED", None, why[:LONGEST_ERROR])

    async def apart(self, batch: Batch) -> list[Batch]:
        """Give each sale a document of its own."""
        names = id_block(datetime.now(UTC), len(batch.sales))
        await self._run("part_pushes", batch, names)
        return [Batch((sale,)) for sale in batch.sales]

    async def looked_through(self, until: datetime) -> None:
        """Look for no sales before that any more."""
        await self._connection.execute(SQL["cut_push_times"], *self._of, until)

    async def count_waiting(self) -> int:
        """Return how many sales are not booked and not refused."""
        found: int = await self._connection.fetchval(SQL["count_waiting_pushes"], *self._of)
        return found

    async def _run(self, name: str, batch: Batch, *arguments: object) -> None:
        await self._connection.execute(SQL[name], *self._of, batch.ids, *arguments)


def _batch(rows: Iterable[asyncpg.Record]) -> Batch:
    return Batch(
        tuple(
            Sold(row["movement_id"], row["sku"], row["warehouse"], row["quantity"]) for row in rows
        )
    )


@asynccontextmanager
async def push_turn(dsn: str, tenant_id: UUID, integration_id: UUID) -> AsyncIterator[Ledger]:
    """Have an integration's pushes for oneself. Raises BusyError while somebody else has them."""
    settings = {**KEY_LOOKUPS, "app.tenant": str(tenant_id)}
    connection = await connect(dsn, settings=settings)
    try:
        if not await connection.fetchval(SQL["take_push_turn"], integration_id):
            raise BusyError("Another push to this ERP is under way")
        yield Ledger(connection, tenant_id, integration_id)
    except (*LOST, *BLOCKED) as error:
        raise UnavailableError("The database does not answer") from error
    finally:
        await connection.close()
