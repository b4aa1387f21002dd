"""What pages say of one level is put together alike by `erp parse` and by a sync."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import asyncpg
import pytest

from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import ErpRow, ErrorCode, Parsed, Remark
from cerniq_stock.store import staging
from cerniq_stock.store.staging import Lane, Staging
from cerniq_stock.sync.reading import Reading
from cerniq_stock.sync.result import Asked, SyncType, Tally
from tests.sync.conftest import Told

CASES = 600
FIGURES = "total", "available", "price", "currency", "status"


def page(chance: Random) -> Parsed:
    """Some rows of each of many SKUs, and some rows in error: seldom alike, often nearly."""
    rows, errors = [], []
    for number in range(CASES):
        sku = f"S{number:03}"
        for n in range(chance.choice([1, 2, 2, 3, 4])):
            warehouse = chance.choice(["MAIN", "MAIN", "DEPOT"])
            lot = chance.choice([None, "L1", "L2"]) if number % 2 else None
            if chance.random() < 0.1:
                code = ErrorCode.UNPARSEABLE_NUMBER
                errors.append(Remark(f"{sku}[{n}]", "stock", code, "?", sku, warehouse, lot))
            else:
                rows.append(
                    ErpRow(
                        sku,
                        Decimal(chance.choice([1, 1, 1, 2])),
                        chance.choice([None, Decimal(1)]) if number % 3 else None,
                        price=chance.choice([Decimal(10), Decimal("10.0"), None, Decimal(12)]),
                        currency=chance.choice(["RON", "RON", None]),
                        status=chance.choice(["ACTIVE", "ACTIVE", None, "INACTIVE"]),
                        warehouse=warehouse,
                        lot=lot,
                        where=f"{sku}[{n}]",
                    )
                )
    return Parsed(tuple(rows), tuple(errors))


@pytest.fixture
async def lane(shop) -> AsyncIterator[Lane]:
    connection = await asyncpg.connect(shop.stock.dsn)
    await connection.execute(staging.SQL["make_tables"])
    lane = Lane(connection, 0)
    yield lane
    await lane.stop()
    await connection.close()


async def staged(shop: Any, lane: Lane, told: Parsed) -> dict[tuple[str, str], Any]:
    """The figures of each level that a sync would use. A currency is one of a price."""
    both = Staging(shop.tenant, [lane] * staging.LANES)
    reading = Reading(both, Asked(kind=SyncType.FULL), shop.integration, Tally())
    both.gather = lane.gather  # the one lane, once
    await reading.read(Told([told]), incremental=False, by_sku=False)
    rows = await lane.connection.fetch(
        "SELECT sku, warehouse, total, available, price,"
        " CASE WHEN price IS NOT NULL THEN currency END AS currency, status"
        " FROM figures WHERE NOT broken"
    )
    return {(x["sku"], x["warehouse"]): tuple(x[name] for name in FIGURES) for x in rows}


def parsed(told: Parsed) -> dict[tuple[str, str], Any]:
    """Those that `erp parse` shows."""
    rows = (replace(x, currency=x.currency if x.price else None) for x in gather([told]).rows)
    return {(x.sku, x.warehouse): tuple(getattr(x, name) for name in FIGURES) for x in rows}


@pytest.mark.parametrize("seed", range(4))
async def test_both_put_together_the_same(shop, lane, seed):
    told = page(Random(seed))
    ours = await staged(shop, lane, told)
    assert len(ours) > CASES / 4
    assert ours == parsed(told)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("OR (count(currency) OVER w) NOT IN (0, count(*) OVER w)", ""),
        ("OR (count(status) OVER w) NOT IN (0, count(*) OVER w)", ""),
        ("count(DISTINCT (price, currency))", "count(DISTINCT price)"),
        ("bool_or(broken) OR conflicting AS broken", "conflicting AS broken"),
    ],
)
async def test_a_mutant_is_noticed(shop, lane, monkeypatch, right, wrong):
    statement = staging.SQL["gather"]
    assert right in statement
    monkeypatch.setitem(staging.SQL, "gather", statement.replace(right, wrong))
    told = page(Random(0))
    assert await staged(shop, lane, told) != parsed(told)
