"""Where the rows of a sync are kept, compared and applied: connections with temporary tables.

A run has a few *lanes*, each with its own connection and its part of the SKUs, so that PostgreSQL
works on all of them at once. What is plain is applied by one statement a chunk, without any of it
passing through Python; the rest comes out, to be decided one by one (`domain.sync`).
"""

import asyncio
import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from importlib.resources import files
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import asyncpg

from cerniq_stock.domain.model import DECIMAL_PLACES
from cerniq_stock.store.database import KEY_LOOKUPS, plan_again
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.queries import parse
from cerniq_stock.store.syncing import SQL as LOG
from cerniq_stock.store.syncing import connected, turn
from cerniq_stock.store.trouble import ATTEMPTS, LOST, TRANSIENT

SQL = parse((files("cerniq_stock.store") / "staging.sql").read_text(encoding="utf-8"))

LANES = 2
"""Sides of a run that go on at once."""
_ODD = "".join(map(chr, range(1, 128, 2)))
"""Characters of odd codes: how many of them a SKU has says its lane, as `lane_of` does."""
CHUNK = 500
"""Levels of one transaction: what they hold locked is free again within some tens of ms."""
BUFFERED = 2_000
"""Rows that a lane gathers before it sends them on, while the next ones are read."""

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

T = TypeVar("T")


class Bringing(NamedTuple):
    """Who brings figures in, and how."""

    tenant_id: UUID
    integration_id: UUID
    sync_id: str
    by: str
    """Who is named in the movements."""
    force: bool
    """Apply what the ERP has said before, too."""
    dry: bool
    """Change nothing; what would be changed is planned."""


_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": ""})
_NULL = "\\N"


class Lane:
    """One connection, with the SKUs whose `lane_of` is its number."""

    def __init__(self, connection: asyncpg.Connection, number: int) -> None:
        self.number = number
        self.connection = connection
        self._lines: list[str] = []
        self._copying: asyncio.Task[Any] | None = None

    def add(self, line: str) -> None:
        """Take a row in; it is on its way to the database some time later."""
        self._lines.append(line)

    async def move_on(self) -> None:
        """Send rows on where there are enough of them, once those before have arrived."""
        if len(self._lines) >= BUFFERED:
            await self._send()

    async def _send(self) -> None:
        if self._copying is not None:
            await self._copying
        data = "".join(self._lines).encode(errors="replace")
        self._lines = []
        self._copying = asyncio.create_task(
            self.connection.copy_to_table("incoming", source=BytesIO(data), format="text")
        )

    async def forget(self, skus: Sequence[str]) -> None:
        """Have these rows not come in."""
        await self._send()
        assert self._copying is not None
        await self._copying
        await self.connection.execute(SQL["forget"], skus)

    async def stop(self) -> None:
        """Wait for what is on its way, whatever becomes of it."""
        if self._copying is not None:
            await asyncio.wait([self._copying])
            if not self._copying.cancelled():
                self._copying.exception()

    async def gather(self) -> None:
        """Put together what belongs together; no more rows come after that."""
        await self._send()
        assert self._copying is not None
        await self._copying
        run = self.connection.execute
        await run("ANALYZE incoming (sku, warehouse)")
        if await self.connection.fetchval(SQL["is_unique"]):
            await run(SQL["gather_unique"])
            await run(SQL["mark_unique"])
        else:
            await run(SQL["gather"])
            await run("ANALYZE figures")
        await run(SQL["mark_versions"])

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement of `staging.sql`, again where it lost a race."""
        return await self._again(lambda: self.connection.fetch(SQL[name], *arguments))

    async def apply_plain(
        self, how: Bringing, after: int, until: int, *, told: int
    ) -> list[asyncpg.Record]:
        """Apply the plain ones of the candidates after one place until another: one transaction.

        Returns one row for each of the first `told` changed levels, and one at least; the counts of
        the chunk stand in all of them. Raises what the database does, after a few lost races.
        """
        place = how.tenant_id, after, until

        async def apply() -> list[asyncpg.Record]:
            async with self.connection.transaction():
                (locked,) = await self.connection.fetch(SQL["lock_candidates"], *place)
                if locked["without_level"] and not how.dry:
                    return []
                now = locked["now"]
                rows = await self.connection.fetch(
                    SQL["apply_plain"],
                    *(*place, how.integration_id, how.sync_id, how.force, how.dry),
                    *(id_block(now, until - after), now, how.by, told),
                    *(LANES, self.number),
                )
                assert how.dry or rows[0]["written"] == rows[0]["updated"], rows[0]
                return rows

        while not (rows := await self._again(apply)):
            # while nothing is locked: whoever makes a level has others of its product
            await self.fetch("make_levels", *place)
        return rows

    async def _again(
        self, step: Callable[[], Awaitable[list[asyncpg.Record]]]
    ) -> list[asyncpg.Record]:
        for _ in range(ATTEMPTS - 1):
            try:
                return await step()
            except (*TRANSIENT, asyncpg.LockNotAvailableError):
                continue
        return await step()


class Staging:
    """The rows of one run, in their lanes. Only statements of `staging.sql` are run on it."""

    def __init__(self, tenant_id: UUID, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self._tenant_id = tenant_id

    async def add(self, rows: Iterable[Incoming]) -> None:
        """Take rows in."""
        add = [lane.add for lane in self.lanes]
        for row in rows:
            add[lane_of(row[0])](_line(*row))
        for lane in self.lanes:
            await lane.move_on()

    async def gather(self) -> None:
        """Put together what belongs together; no more rows come after that."""
        await side_by_side(lane.gather() for lane in self.lanes)

    async def forget(self, skus: Sequence[str]) -> None:
        """Have the rows of these SKUs not come in: they will be read again."""
        await side_by_side(lane.forget(skus) for lane in self.lanes)

    async def each(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement in every lane; what all of them answer."""
        return list(chain(*await side_by_side(x.fetch(name, *arguments) for x in self.lanes)))

    async def own(
        self, name: str, *arguments: Any, more: Sequence[Any] = ()
    ) -> list[asyncpg.Record]:
        """Run a statement that finds its lane's SKUs among others'.

        Characters of odd codes and the lane's number come after the arguments, `more` after them.
        """
        return list(
            chain(
                *await side_by_side(
                    lane.fetch(name, *arguments, _ODD, lane.number, *more) for lane in self.lanes
                )
            )
        )

    async def log(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement of `syncing.sql`, on the tenant's rows."""
        return await self.lanes[0].connection.fetch(LOG[name], self._tenant_id, *arguments)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Log what follows as one transaction."""
        async with self.lanes[0].connection.transaction():
            yield

    async def find(
        self,
        tenant_id: UUID,
        integration_id: UUID,
        *,
        force: bool,
        use_available: bool,
        prices: bool,
        statuses: bool,
        warehouses: Sequence[str],
        in_part: bool,
    ) -> Mapping[str, int]:
        """Compare with what we have; returns how much there is of everything.

        `in_part`: of a product there may be some warehouses and not others.
        """
        places = json.dumps(DECIMAL_PLACES)
        options = force, use_available, prices, statuses, places, warehouses, in_part
        counted = _summed(await self.each("compare", tenant_id, integration_id, *options))
        for table in ("candidates", "product_changes", "unknown"):
            await self.each(f"index_{table}")
        return counted

    @asynccontextmanager
    async def by_keys(self) -> AsyncIterator[None]:
        """Have all that is run in here look rows up by their keys."""
        await self._all(f"SET {name} = {value}" for name, value in KEY_LOOKUPS.items())
        try:
            yield
        finally:
            with suppress(*LOST):
                await self._all(f"RESET {name}" for name in KEY_LOOKUPS)

    async def _all(self, commands: Iterable[str]) -> None:
        together = "; ".join(commands)
        await side_by_side(lane.connection.execute(together) for lane in self.lanes)

    async def counted(self) -> Mapping[str, int]:
        """How many levels, products and unknown products are staged."""
        return _summed(await self.each("count_staged"))

    async def in_chunks(
        self, name: str, of: str, tenant_id: UUID, *, more: Sequence[Any] = ()
    ) -> None:
        """Run a statement on so many places at a time, of what `count_staged` counts."""

        async def run(lane: Lane) -> None:
            (counted,) = await lane.fetch("count_staged")
            for n, start in enumerate(range(0, counted[of], CHUNK), 1):
                if plan_again(n):  # those of foreign keys, too, made on tables that were empty
                    await lane.connection.execute("DISCARD PLANS")
                await lane.fetch(name, tenant_id, start, start + CHUNK, *more)

        await side_by_side(map(run, self.lanes))

    async def left_over(self, chunk: int) -> AsyncIterator[list[asyncpg.Record]]:
        """Read what is to be decided one by one, in chunks in the order of locks."""
        for lane in self.lanes:
            last = 0
            while rows := await lane.fetch("left_over", last, chunk):
                last = rows[-1]["place"]
                yield rows


def lane_of(sku: str) -> int:
    """In which lane a SKU is: by all of its characters, as many SKUs may end or begin alike."""
    return sum(sku.encode("ascii", "ignore")) % LANES


async def side_by_side(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of it at once; where one fails, the others are over before it is said."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@asynccontextmanager
async def staging(dsn: str, tenant_id: UUID, integration_id: UUID) -> AsyncIterator[Staging]:
    """Open the staging of one run. Raises BusyError while another run of the integration lasts."""
    async with AsyncExitStack() as stack:
        lanes = []
        for number in range(LANES):
            opened = connected(dsn, tenant_id) if number else turn(dsn, tenant_id, integration_id)
            connection = await stack.enter_async_context(opened)
            await connection.execute(SQL["make_tables"])
            lanes.append(Lane(connection, number))
            stack.push_async_callback(lanes[-1].stop)
        yield Staging(tenant_id, lanes)


def _line(
    sku: str,
    warehouse: str,
    lot: str | None,
    total: Decimal | None,
    available: Decimal | None,
    price: Decimal | None,
    currency: str | None,
    status: str | None,
    broken: bool,
) -> str:
    """A row as COPY takes it."""
    return (
        f"{_text(sku)}\t{_text(warehouse)}\t{_text(lot)}\t{_value(total)}\t{_value(available)}\t"
        f"{_value(price)}\t{_text(currency)}\t{_value(status)}\t{'t' if broken else 'f'}\n"
    )


def _value(value: Decimal | str | None) -> str:
    return _NULL if value is None else str(value)


def _text(text: str | None) -> str:
    if text is None:
        return _NULL
    # what is to be escaped is a backslash or not printable, and nearly nothing is either
    if text.isprintable() and "\\" not in text:
        return text
    return text.translate(_ESCAPED)


def _summed(rows: Sequence[asyncpg.Record]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in rows[0].keys()}  # noqa: SIM118 - a record iterates over its values
