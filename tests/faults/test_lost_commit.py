"""Connections that break at a chosen statement: what is done is done once, what is said is true."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import pytest

from cerniq_stock.errors import UnavailableError
from cerniq_stock.service import Stock
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.writer import Limits
from cerniq_stock.wiring import open_stock

TENANT = uuid4()
SKU = "BUC-1"


class Fault(NamedTuple):
    """The next statement that begins so raises an error, before or after it reached the server."""

    statement: str
    error: Exception
    after: bool = False


LOST_BEFORE_COMMIT = Fault("COMMIT", ConnectionResetError("cut"))
LOST_AFTER_COMMIT = Fault("COMMIT", ConnectionResetError("cut"), after=True)
BLOCKED = Fault("BEGIN", asyncpg.LockNotAvailableError("canceling statement due to lock timeout"))
# asyncpg says so where the server's last word (a FATAL) was read and the end of the stream was not
BROKEN = Fault(
    "BEGIN", asyncpg.InternalClientError("cannot switch to state 15; another operation (2)")
)

Break = Callable[..., None]


@pytest.fixture
def break_at(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Takes the faults to come, in their order."""
    faults: list[Fault] = []
    execute = asyncpg.Connection.execute

    async def faulty(connection: Any, query: str, *args: Any, **kwargs: Any) -> str:
        if not faults or not query.startswith(faults[0].statement):
            return await execute(connection, query, *args, **kwargs)
        fault = faults.pop(0)
        if fault.after:
            await execute(connection, query, *args, **kwargs)
        raise fault.error

    monkeypatch.setattr(asyncpg.Connection, "execute", faulty)
    return lambda *given: faults.extend(given)


@pytest.fixture
async def stock(database: str) -> AsyncIterator[Stock]:
    """One lane, so that commands of one moment are one batch."""
    limits = Limits(connections=1, lanes_per_tenant=1)
    async with open_stock(database, limits=limits, sweep=False) as handle:
        await handle.create_tenant(NewTenant("Lost", TENANT))
        await handle.import_products(TENANT, [NewProduct(SKU, "Product")])
        await handle.receive(TENANT, SKU, 1)
        yield handle


async def _received(superuser: asyncpg.Connection) -> int:
    """How often ten pieces came in, by the movements, which must be what the level says."""
    total = await superuser.fetchval("SELECT sum(total) FROM stock_levels")
    moved = await superuser.fetchval("SELECT sum(total_delta) FROM stock_movements")
    assert total == moved
    times, rest = divmod(total - 1, Decimal(10))
    assert rest == 0
    return int(times)


async def _receive(stock: Stock, times: int) -> list[Any]:
    """Callers without a key, who have no way to ask again."""
    calls = [stock.receive(TENANT, SKU, 10) for _ in range(times)]
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    "faults",
    [
        [LOST_BEFORE_COMMIT],
        [LOST_AFTER_COMMIT],
        [LOST_AFTER_COMMIT, LOST_AFTER_COMMIT._replace(statement="BEGIN")],
        [LOST_BEFORE_COMMIT, LOST_AFTER_COMMIT],
    ],
)
@pytest.mark.parametrize("callers", [1, 3])
async def test_a_lost_commit_is_done_once(stock, superuser, break_at, faults, callers):
    break_at(*faults)
    answers = await _receive(stock, callers)
    assert [answer.total for answer in answers] == [11 + 10 * n for n in range(callers)]
    assert await _received(superuser) == callers


@pytest.mark.parametrize("callers", [1, 3])
async def test_a_lost_commit_is_not_done_again_when_its_batch_is_split(
    stock, superuser, break_at, callers
):
    break_at(LOST_AFTER_COMMIT, BLOCKED)
    answers = await _receive(stock, callers)
    assert await _received(superuser) == callers
    for answer in answers:
        assert not isinstance(answer, UnavailableError) or "nothing" not in str(answer)


@pytest.mark.parametrize("callers", [1, 3])
async def test_a_connection_that_the_server_gave_up_is_opened_again(
    stock, superuser, break_at, callers
):
    break_at(BROKEN)
    answers = await _receive(stock, callers)
    assert [answer.total for answer in answers] == [11 + 10 * n for n in range(callers)]
    assert await _received(superuser) == callers
