"""What the races share: many callers at once, transactions that meet, the engine without a lock."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import reserve

from cerniq_stock.domain.commands import Command
from cerniq_stock.store import database, transaction
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Limits, Writer

CALLERS = 64


class Crowd:
    """Two writers, as if in two processes, and callers with a connection of their own each."""

    def __init__(self, writers: list[Writer], raw: list[asyncpg.Connection]) -> None:
        self.writers, self.raw = writers, raw
        self.free: asyncio.Queue[asyncpg.Connection] = asyncio.Queue()
        for connection in raw:
            self.free.put_nowait(connection)

    async def ask(self, caller: int, tenant: UUID, command: Command) -> Any:
        """Two of three callers go through a writer, the third has a transaction of its own."""
        if caller % 3 < 2:
            return await self.writers[caller % 3].submit(tenant, command)
        connection = await self.free.get()
        try:
            return (await Transaction(tenant, [command]).run(connection))[0]
        finally:
            self.free.put_nowait(connection)


@asynccontextmanager
async def crowd(dsn: str, raw: int = 8) -> AsyncIterator[Crowd]:
    """Nobody in it gives up waiting for a lock, however slow the machine is."""
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setitem(database._LIMITS, "lock_timeout", "60s")
        writers = [
            await stack.enter_async_context(Writer(dsn, Limits(connections=4, batch=7)))
            for _ in range(2)
        ]
        connections = []
        for _ in range(raw):
            connection = await connect(dsn, settings=KEY_LOOKUPS)
            stack.push_async_callback(connection.close)
            await connection.execute(PREPARE)
            connections.append(connection)
        yield Crowd(writers, connections)


async def sold_and_held(superuser: asyncpg.Connection, tenant: UUID) -> tuple[int, int]:
    """What lines hold or have sold, and what is on the shelf or was sold."""
    held = await superuser.fetchval(
        "SELECT coalesce(sum(held + consumed), 0) FROM stock_reservation_lines"
        " WHERE tenant_id = $1", tenant,
    )  # fmt: skip
    total = await superuser.fetchval(
        "SELECT coalesce(sum(total), 0) FROM stock_levels WHERE tenant_id = $1", tenant
    )
    sold = await superuser.fetchval(
        "SELECT coalesce(-sum(total_delta), 0) FROM stock_movements"
        " WHERE tenant_id = $1 AND type = 'SALE'", tenant,
    )  # fmt: skip
    return held, total + sold


async def race_two(
    tenant: UUID,
    connections: list[Any],
    meet: asyncio.Barrier,
    make: Callable[[int], Command] = lambda n: reserve(f"r{n}", "A=1"),
) -> list[bool]:
    """Two transactions for the last unit that meet between reading and writing, if they can."""

    async def write(*args: Any) -> Any:
        # where there is a lock, the other one waits for it instead of coming here
        with suppress(TimeoutError, asyncio.BrokenBarrierError):
            await asyncio.wait_for(meet.wait(), timeout=0.3)
        return await real(*args)

    real = transaction.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "write", write)
        answers = await asyncio.gather(
            *(
                Transaction(tenant, [make(n)]).run(connection)
                for n, connection in enumerate(connections)
            )
        )
    return [answer.success for (answer,) in answers]


@contextmanager
def no_locks(*, checked: bool) -> Iterator[None]:
    """The engine without the lock on the levels; `checked`: it still counts what it updated."""
    lock, count = "FOR NO KEY UPDATE", "SELECT count(*) FROM levels"
    assert count in SQL["write_holds"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("lock_levels", "lock_levels_of_products"):
            assert lock in SQL[name]
            patch.setitem(SQL, name, SQL[name].replace(lock, ""))
        if not checked:
            all_of_them = "SELECT cardinality($3::text::uuid[])"
            patch.setitem(SQL, "write_holds", SQL["write_holds"].replace(count, all_of_them))
        yield


async def deadlocks(superuser: asyncpg.Connection) -> int:
    """Count of the database's deadlocks, once every backend has told its own."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    while await superuser.fetchval(sql):  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    return await superuser.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
