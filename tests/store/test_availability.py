"""Availability on a real server: exact, coalesced, fair, and not to be broken by one caller."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import adjust, product, put, reserve, shift_expiry, shop, uid

from cerniq_stock.domain.model import Level, Tenant
from cerniq_stock.errors import InvalidInputError, OverloadedError, UnavailableError
from cerniq_stock.store import availability
from cerniq_stock.store.availability import AvailabilityReader, Limits, Link
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.writer import Writer

ZERO = Decimal(0)
TENANT = uid("tenant")
OTHER = uid("other")


class Tap(Link):
    """A connection that notes each query (whose, how many SKUs) and lets it through when told."""

    queries: ClassVar[list[tuple[UUID, int]]]
    arrived: ClassVar[asyncio.Event]
    opened: ClassVar[asyncio.Event]

    async def _fetch(self, tenant_id: UUID, skus: list[str]) -> asyncpg.Record:
        Tap.queries.append((tenant_id, len(skus)))
        Tap.arrived.set()
        await Tap.opened.wait()
        return await super()._fetch(tenant_id, skus)


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> type[Tap]:
    """The open tap: all connections of readers made from now on go through it."""
    Tap.queries, Tap.arrived, Tap.opened = [], asyncio.Event(), asyncio.Event()
    Tap.opened.set()
    monkeypatch.setattr(availability, "Link", Tap)
    return Tap


@pytest.fixture
def queries(tap: type[Tap]) -> list[tuple[UUID, int]]:
    return tap.queries


@pytest.fixture
async def reader(database: str) -> AsyncIterator[AvailabilityReader]:
    async with AvailabilityReader(database) as open_reader:
        yield open_reader


@pytest.fixture
async def stock(superuser: asyncpg.Connection) -> UUID:
    """SKUs S0 to S9 with 0 to 9 pieces."""
    return await put(superuser, shop({f"S{n}": n for n in range(10)}))


async def two_warehouses(superuser: asyncpg.Connection) -> UUID:
    """A shop with 10 and 5 of A (one blocked), and 2.5 of B in one place only."""
    a = product("A", unit="KG", restock_date=date(2027, 1, 2))
    state = shop("B=2.5", tenant=Tenant(TENANT, "Shop", warehouses=("NEAR", "FAR")), products=[a])
    levels = tuple(
        Level(a.id, place, Decimal(total), ZERO, Decimal(blocked), 0)
        for place, total, blocked in (("NEAR", 10, 1), ("FAR", 5, 0))
    )
    return await put(superuser, replace(state, levels={**state.levels, a.id: levels}))


async def backends(superuser: asyncpg.Connection) -> list[int]:
    rows = await superuser.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'cerniq-stock'"
    )
    return [row["pid"] for row in rows]


# -- exact ------------------------------------------------------------------------------------


async def test_the_sum_over_the_warehouses(superuser, reader):
    tenant = await two_warehouses(superuser)
    answers = await reader.get(tenant, ["B", "A", "NONE"])
    assert list(answers) == ["B", "A"]
    a, b = answers["A"], answers["B"]
    assert (a.product_id, a.unit, a.status) == (uid("A"), "KG", "ACTIVE")
    assert (a.total, a.reserved, a.blocked, a.available) == (15, 0, 1, 14)
    assert (b.total, b.reserved, b.blocked, b.available) == (Decimal("2.5"), 0, 0, Decimal("2.5"))
    assert (a.restock_date, b.restock_date) == (date(2027, 1, 2), None)
    assert abs(a.as_of - await superuser.fetchval("SELECT now()")).total_seconds() < 5
    assert a.as_of is b.as_of


async def test_what_is_past_its_expiry_holds_nothing(superuser, reader, database):
    tenant = await two_warehouses(superuser)
    async with Writer(database) as writer:
        await writer.submit(tenant, reserve("r1", "A=12 B=1", expires_in_h=1))
        await writer.submit(tenant, reserve("r2", "A=1", expires_in_h=3))
    held = (await reader.get(tenant, ["A"]))["A"]
    assert (held.total, held.reserved, held.blocked, held.available) == (15, 13, 1, 1)
    await shift_expiry(superuser, tenant, timedelta(hours=1))
    answers = await reader.get(tenant, ["A", "B"])
    a = answers["A"]
    assert (a.total, a.reserved, a.blocked, a.available) == (15, 1, 1, 13)
    assert (answers["B"].reserved, answers["B"].available) == (0, Decimal("2.5"))
    assert await superuser.fetchval("SELECT sum(reserved) FROM stock_levels") == 14


async def test_a_question_sees_every_commit_before_it(stock, reader, database):
    async with Writer(database) as writer:
        for n in range(1, 20):
            await writer.submit(stock, adjust("S0", 1))
            assert (await reader.get(stock, ["S0"]))["S0"].total == n


async def test_nobody_sees_another_tenant(superuser, stock, reader):
    await put(superuser, shop("S1=100", tenant=Tenant(OTHER, "Other")))
    mine, theirs, nobodys = await asyncio.gather(
        reader.get(stock, ["S1", "S2"]),
        reader.get(OTHER, ["S1", "S2"]),
        reader.get(uid("nobody"), ["S1"]),
    )
    assert (mine["S1"].total, mine["S2"].total) == (1, 2)
    assert theirs["S1"].total == 100
    assert list(theirs) == ["S1"]
    assert nobodys == {}


async def test_every_tenant_in_turn_on_one_connection(superuser, stock, database):
    await put(superuser, shop("S1=100", tenant=Tenant(OTHER, "Other")))
    async with AvailabilityReader(database, connections=1) as reader:
        for tenant, total in [(stock, 1), (OTHER, 100)] * 3:
            assert (await reader.get(tenant, ["S1"]))["S1"].total == total


# -- coalesced --------------------------------------------------------------------------------


async def test_concurrent_questions_share_queries(stock, database, queries):
    async with AvailabilityReader(database, connections=1) as reader:
        answers = await asyncio.gather(
            *(reader.get(stock, [f"S{n % 10}", "NONE"]) for n in range(50))
        )
        assert [set(found) for found in answers] == [{f"S{n % 10}"} for n in range(50)]
        assert [skus for _, skus in queries] == [11]
        assert answers[3]["S3"] is answers[13]["S3"]


async def test_a_question_does_not_join_a_query_under_way(stock, database, tap):
    async with AvailabilityReader(database, connections=1) as reader:
        tap.opened.clear()
        first = asyncio.create_task(reader.get(stock, ["S1"]))
        await tap.arrived.wait()
        later = [asyncio.create_task(reader.get(stock, [sku])) for sku in ("S1", "S2")]
        await asyncio.sleep(0)
        tap.opened.set()
        await asyncio.gather(first, *later)
        assert [skus for _, skus in tap.queries] == [1, 2]


async def test_much_is_split_over_queries_and_connections(stock, database, queries):
    limits = Limits(query_skus=8)
    async with AvailabilityReader(database, limits=limits) as reader:
        names = [f"S{n}" for n in range(10)]
        answers = await asyncio.gather(
            reader.get(stock, names), *(reader.get(stock, [f"N{n}", "S1"]) for n in range(40))
        )
        assert [answers[0][f"S{n}"].total for n in range(10)] == list(range(10))
        assert all(found["S1"].total == 1 for found in answers[1:])
        assert max(skus for _, skus in queries) <= 8


async def test_the_free_connection_takes_a_share(stock, database, queries):
    async with AvailabilityReader(database, connections=2) as reader:
        await asyncio.gather(*(reader.get(stock, [f"N{n}"]) for n in range(100)))
        assert sorted(skus for _, skus in queries) == [50, 50]


async def test_tenants_are_served_in_turn(superuser, stock, database, queries):
    await put(superuser, shop("S1=100", tenant=Tenant(OTHER, "Other")))
    async with AvailabilityReader(database, connections=1, limits=Limits(query_skus=1)) as reader:
        flood = [reader.get(stock, [f"S{n}"]) for n in range(10)]
        await asyncio.gather(*flood, reader.get(OTHER, ["S1"]))
        assert [tenant for tenant, _ in queries].index(OTHER) == 1


async def test_nothing_is_asked_for_nothing(stock, reader, queries):
    assert await reader.get(stock, []) == {}
    assert queries == []


# -- one caller and the others ----------------------------------------------------------------


async def test_a_cancelled_caller_disturbs_nobody(stock, database, tap):
    async with AvailabilityReader(database, connections=1) as reader:
        tap.opened.clear()
        tasks = [asyncio.create_task(reader.get(stock, [f"S{n}"])) for n in range(10)]
        await tap.arrived.wait()
        tasks[3].cancel()
        tap.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(3), asyncio.CancelledError)
        assert [found.popitem()[1].total for found in results] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert reader.waiting == 0


async def test_nobody_asks_for_those_who_have_gone(stock, database, queries):
    async with AvailabilityReader(database, connections=1) as reader:
        tasks = [asyncio.create_task(reader.get(stock, [f"S{n}"])) for n in range(3)]
        await asyncio.sleep(0)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.wait(tasks)
        assert queries == [(stock, 1)]


@pytest.mark.parametrize("poison", ["S\0", "\ud800", 5, None, ["S1"]], ids=repr)
async def test_an_unreadable_question_fails_alone(stock, reader, poison):
    questions = [reader.get(stock, [f"S{n}"]) for n in range(9)]
    results = await asyncio.gather(
        *questions, reader.get(stock, ["S1", poison]), return_exceptions=True
    )
    assert [found[f"S{n}"].total for n, found in enumerate(results[:9])] == list(range(9))
    if poison is None:
        assert list(results[9]) == ["S1"]
    else:
        assert isinstance(results[9], InvalidInputError)


async def test_a_full_queue_refuses(stock, database):
    limits = Limits(waiting=5, waiting_per_tenant=4)
    async with AvailabilityReader(database, connections=1, limits=limits) as reader:
        names = [f"S{n}" for n in range(4)]
        results = await asyncio.gather(
            reader.get(stock, names),
            reader.get(stock, ["S1"]),
            reader.get(OTHER, ["S1"]),
            reader.get(OTHER, ["S2"]),
            return_exceptions=True,
        )
        assert [type(found) for found in results] == [
            dict,
            OverloadedError,
            dict,
            OverloadedError,
        ]
        assert reader.waiting == 0
        assert len(await reader.get(stock, names)) == 4


# -- trouble ----------------------------------------------------------------------------------


async def test_a_killed_connection_is_survived(superuser, stock, reader):
    stop = asyncio.Event()

    async def ask() -> int:
        asked = 0
        while not stop.is_set():
            assert (await reader.get(stock, ["S7"]))["S7"].total == 7
            asked += 1
        return asked

    callers = [asyncio.create_task(ask()) for _ in range(5)]
    for _ in range(5):
        await asyncio.sleep(0.05)
        for pid in await backends(superuser):
            await superuser.execute("SELECT pg_terminate_backend($1)", pid)
    stop.set()
    assert all(asked > 0 for asked in await asyncio.gather(*callers))


async def test_a_database_that_stays_away(stock, database, monkeypatch):
    monkeypatch.setattr(availability, "RECONNECT_DELAY_S", 0.01)
    limits = Limits(answer_s=0.1)
    async with AvailabilityReader(f"{database}&port=1", limits=limits) as reader:
        questions = [reader.get(tenant, ["S1"]) for tenant in (stock, OTHER) for _ in range(3)]
        results = await asyncio.gather(*questions, return_exceptions=True)
    assert {type(found) for found in results} == {UnavailableError}
    assert len({id(found) for found in results}) == 6


async def test_a_worker_that_dies_is_replaced(stock, reader, monkeypatch, caplog):
    async def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(reader, "_serve", broken)
    with pytest.raises(UnavailableError):
        await reader.get(stock, ["S1"])
    monkeypatch.undo()
    assert (await reader.get(stock, ["S1"]))["S1"].total == 1
    assert "started again" in caplog.text


async def test_closing_answers_what_was_asked(stock, database):
    async with AvailabilityReader(database) as reader:
        tasks = [asyncio.create_task(reader.get(stock, [f"S{n}"])) for n in range(10)]
        await asyncio.sleep(0)
    assert [len(found) for found in await asyncio.gather(*tasks)] == [1] * 10
    with pytest.raises(UnavailableError):
        await reader.get(stock, ["S1"])


async def test_a_plan_made_on_empty_tables_stands_on_the_keys(database):
    connection = await connect(database, settings=KEY_LOOKUPS)
    await connection.execute(f"PREPARE q (uuid, text[]) AS {SQL['availability']}")
    rows = await connection.fetch(f"EXPLAIN EXECUTE q ('{TENANT}', '{{A,B}}')")
    await connection.close()
    lines = [row[0].strip() for row in rows]
    scans = {
        line.split(" using ")[1].split()[0]: lines[n + 1]
        for n, line in enumerate(lines)
        if " using " in line
    }
    assert scans == {
        "products_tenant_id_sku_key": (
            "Index Cond: ((tenant_id = $1) AND ((sku)::text = ANY ($2)))"
        ),
        "stock_levels_pkey": "Index Cond: ((tenant_id = $1) AND (product_id = p.id))",
        "stock_reservations_due": "Index Cond: (tenant_id = $1)",
        "stock_reservation_lines_held": (
            "Index Cond: ((tenant_id = $1) AND (product_id = s.product_id)"
            " AND (expires_at <= statement_timestamp()))"
        ),
    }
    assert not [line for line in lines if "Sort" in line or "Seq" in line or "Join" in line]
