"""The reads on a real server: exact in time, one tenant at a time, page by page."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import (
    adjust,
    consume,
    product,
    put,
    receive,
    release,
    reserve,
    shift_expiry,
    shop,
    uid,
)

from cerniq_stock import wire
from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.model import ZERO, Level, Tenant
from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.store import reads
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.writer import Writer

TENANT = uid("tenant")
OTHER = uid("other")
HOUR = timedelta(hours=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with create_pool(database, "cerniq_app", max_size=2) as app:
        yield app


@pytest.fixture
async def operator(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with create_pool(database, "cerniq_operator", max_size=2) as pool:
        yield pool


@pytest.fixture
async def stock(superuser: asyncpg.Connection) -> UUID:
    """A shop with 10 and 5 of A (one blocked) in two places, 2.5 of B, none of C."""
    a = product("A", reorder_point=Decimal(3), restock_date=date(2027, 1, 2))
    b = product("B", unit="KG", name="Făină 100%_albă")
    tenant = Tenant(TENANT, "Shop", warehouses=("NEAR", "FAR"))
    state = shop("B=2.5 C=0", tenant=tenant, products=[a, b], negotiations=DEALS)
    levels = tuple(
        Level(a.id, place, Decimal(total), ZERO, Decimal(blocked), 0)
        for place, total, blocked in (("NEAR", 10, 1), ("FAR", 5, 0))
    )
    return await put(superuser, replace(state, levels={**state.levels, a.id: levels}))


DEALS = {"n1": "PROPOSAL", "n2": "PROPOSAL"}


@pytest.fixture
async def do(database: str, stock: UUID) -> AsyncIterator[Any]:
    async with Writer(database) as writer:

        async def submit(*commands: Command) -> list[Any]:
            return [await writer.submit(stock, command) for command in commands]

        yield submit


def figures(view: Any) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    return view.total, view.reserved, view.blocked, view.available


# -- stock ------------------------------------------------------------------------------------


async def test_levels_by_sku_and_warehouse(pool, stock, do):
    await do(reserve("r1", "A=12 B=0.5", expires_in_h=1))
    rows = await reads.levels(pool, stock)
    assert [(row.sku, row.warehouse, *figures(row)) for row in rows] == [
        ("A", "FAR", 5, 3, 0, 2),
        ("A", "NEAR", 10, 9, 1, 0),
        ("B", "NEAR", Decimal("2.5"), Decimal("0.5"), 0, 2),
        ("C", "NEAR", 0, 0, 0, 0),
    ]
    far = rows[0]
    assert (far.name, far.unit, far.status, far.reorder_point) == ("Product A", "BUC", "ACTIVE", 3)
    assert datetime.now(UTC) - far.updated_at < HOUR


async def test_levels_count_what_is_past_its_expiry_as_available(superuser, pool, stock, do):
    await do(reserve("r1", "A=12 B=0.5", expires_in_h=1), reserve("r2", "A=1", expires_in_h=3))
    await shift_expiry(superuser, stock, HOUR)
    rows = await reads.levels(pool, stock)
    assert [(row.sku, row.warehouse, *figures(row)) for row in rows[:3]] == [
        ("A", "FAR", 5, 1, 0, 4),
        ("A", "NEAR", 10, 0, 1, 9),
        ("B", "NEAR", Decimal("2.5"), 0, 0, Decimal("2.5")),
    ]


async def test_products_with_their_figures(superuser, pool, stock, do):
    await do(reserve("r1", "A=12", expires_in_h=1), reserve("r2", "A=1", expires_in_h=3))
    await shift_expiry(superuser, stock, HOUR)
    a, b, c = await reads.products(pool, stock)
    assert (a.id, a.sku, a.name, a.currency, a.price) == (uid("A"), "A", "Product A", "RON", None)
    assert (a.reorder_point, a.reorder_quantity) == (3, 100)
    assert a.expected_restock_date == date(2027, 1, 2)
    assert (a.stock_total, a.stock_reserved, a.stock_blocked, a.stock_available) == (15, 1, 1, 13)
    assert (b.unit, b.stock_available, c.stock_total) == ("KG", Decimal("2.5"), 0)


async def test_pages_by_sku_never_split_a_product(pool, stock):
    first = await reads.levels(pool, stock, limit=1)
    assert [(row.sku, row.warehouse) for row in first] == [("A", "FAR"), ("A", "NEAR")]
    then = await reads.levels(pool, stock, limit=1, after_sku=first[-1].sku)
    assert [row.sku for row in then] == ["B"]
    rest = await reads.products(pool, stock, limit=5, after_sku="A")
    assert [row.sku for row in rest] == ["B", "C"]
    assert await reads.products(pool, stock, after_sku="C") == ()


async def test_levels_of_named_skus(pool, stock):
    rows = await reads.levels(pool, stock, skus=["C", "A", "NONE"])
    assert [row.sku for row in rows] == ["A", "A", "C"]
    assert await reads.levels(pool, stock, skus=[]) == ()
    assert [row.sku for row in await reads.levels(pool, stock, skus=["A", "B"], search="b")] == [
        "B"
    ]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("a", ["A", "B"]),
        ("PRODUCT", ["A", "C"]),
        ("FĂIN", ["B"]),
        ("%", ["B"]),
        ("_", ["B"]),
        ("0%_A", ["B"]),
        ("c", ["A", "C"]),
        ("\\", []),
        ("A%", []),
        ("", ["A", "B", "C"]),
        (None, ["A", "B", "C"]),
    ],
)
async def test_search_takes_the_text_as_it_stands(pool, stock, search, found):
    assert [row.sku for row in await reads.products(pool, stock, search=search)] == found
    levels = await reads.levels(pool, stock, search=search)
    assert sorted({row.sku for row in levels}) == found


async def test_search_folds_every_letter_of_a_sku(superuser, pool, stock):
    await superuser.execute("UPDATE products SET sku = 'ȘURUB' WHERE sku = 'C'")
    assert [row.sku for row in await reads.products(pool, stock, search="șur")] == ["ȘURUB"]


async def test_explain_names_the_holders(superuser, pool, stock, do):
    await do(
        reserve("r1", "A=2", expires_in_h=1),
        reserve("r2", "A=8 B=1", expires_in_h=3, requested_by="ana", priority="URGENT"),
        reserve("r3", "A=3", to="n2", type="HARD", expires_in_h=4),
    )
    await shift_expiry(superuser, stock, HOUR)
    explanation = await reads.explain(pool, stock, "A")
    assert explanation is not None
    whole = explanation.availability
    assert figures(whole) == (15, 11, 1, 3)
    assert (whole.sku, whole.product_id, whole.unit) == ("A", uid("A"), "BUC")
    assert whole.restock_date == date(2027, 1, 2)
    assert [(x.warehouse, *figures(x)) for x in explanation.levels] == [
        ("FAR", 5, 4, 0, 1),
        ("NEAR", 10, 7, 1, 2),
    ]
    assert [(x.reservation_id, x.warehouse, x.held) for x in explanation.holders] == [
        ("r2", "FAR", 1),
        ("r2", "NEAR", 7),
        ("r3", "FAR", 3),
    ]
    assert sum(x.held for x in explanation.holders) == whole.reserved
    first, *_, last = explanation.holders
    assert (first.type, first.priority, first.requested_by) == ("SOFT", "URGENT", "ana")
    assert (last.type, last.negotiation_id, last.requested_by) == ("HARD", uid("n2"), None)
    assert HOUR < first.expires_at - whole.as_of <= 2 * HOUR


async def test_explain_of_an_unknown_sku(pool, stock):
    assert await reads.explain(pool, stock, "NONE") is None


# -- reservations -----------------------------------------------------------------------------


async def test_a_reservation_as_it_stands(pool, stock, do):
    (answer,) = await do(
        reserve("r1", "A=12 C=1", key="k1", requested_by="ana", channel="mail", notes="vă rog")
    )
    await do(consume("r1", "A=2"), release("r1", "A=1"))
    view = await reads.reservation(pool, stock, "r1")
    assert view is not None
    assert (view.id, view.reservation_key, view.negotiation_id) == ("r1", "k1", uid("n1"))
    assert (view.type, view.status, view.priority) == ("SOFT", "ACTIVE", "NORMAL")
    assert (view.total_requested, view.total_reserved, view.total_held) == (13, 12, 9)
    assert (view.extensions, view.released_at, view.release_reason) == (0, None, None)
    assert (view.requested_by, view.channel, view.notes) == ("ana", "mail", "vă rog")
    assert view.expires_at == answer.expires_at
    assert (view.items, view.errors) == (answer.items, answer.errors)
    assert [x.code for x in view.errors] == ["INSUFFICIENT_STOCK"]
    assert {(x.line_no, x.sku, x.product_id) for x in view.lines} == {(1, "A", uid("A"))}
    assert sum(x.held for x in view.lines) == 9
    assert all(x.reserved == x.held + x.consumed + x.released for x in view.lines)
    assert wire.dumps(view).startswith('{"id":"r1","reservationKey":"k1"')


async def test_a_reservation_past_its_expiry_is_expired(superuser, pool, stock, do):
    await do(reserve("r1", "A=12 B=1", expires_in_h=1), consume("r1", "A=2"))
    await shift_expiry(superuser, stock, HOUR)
    view = await reads.reservation(pool, stock, "r1")
    assert view is not None
    assert (view.status, view.total_reserved, view.total_held) == ("EXPIRED", 13, 0)
    assert view.released_at is None
    assert [x.held for x in view.lines] == [0, 0, 0]
    assert (sum(x.consumed for x in view.lines), sum(x.released for x in view.lines)) == (2, 11)
    assert all(x.reserved == x.held + x.consumed + x.released for x in view.lines)
    assert await reads.reservations(pool, stock, status="ACTIVE") == ()


async def test_an_ended_reservation(pool, stock, do):
    await do(reserve("r1", "A=1"), replace(release("r1"), by="ana", notes="nu mai vor"))
    view = await reads.reservation(pool, stock, "r1")
    assert view is not None
    assert (view.status, view.release_reason, view.total_held) == ("RELEASED", "MANUAL", 0)
    assert (view.released_by, view.release_notes) == ("ana", "nu mai vor")
    assert view.released_at is not None
    assert await reads.reservation(pool, stock, "r2") is None


async def test_reservations_by_what_is_shown(superuser, pool, stock, do):
    await do(reserve("r1", "A=1", expires_in_h=1), reserve("r2", "B=1", to="n2"))
    await do(reserve("r3", "C=1"), reserve("r4", "A=1 B=1"), release("r4"))
    await shift_expiry(superuser, stock, HOUR)

    async def ids(**asked: Any) -> list[str]:
        return [view.id for view in await reads.reservations(pool, stock, **asked)]

    assert await ids() == ["r4", "r3", "r2", "r1"]
    assert [await ids(status=of) for of in ("ACTIVE", "EXPIRED", "RELEASED", "FAILED")] == [
        ["r2"],
        ["r1"],
        ["r4"],
        ["r3"],
    ]
    assert await ids(negotiation_id=uid("n2")) == ["r2"]
    assert await ids(sku="A") == ["r4", "r1"]
    assert await ids(sku="B", status="ACTIVE", negotiation_id=uid("n2")) == ["r2"]
    assert await ids(sku="NONE") == []
    assert await ids(limit=2) == ["r4", "r3"]
    assert await ids(limit=2, after_id="r3") == ["r2", "r1"]
    held = [(view.id, view.total_held) for view in await reads.reservations(pool, stock)]
    assert held == [("r4", 0), ("r3", 0), ("r2", 1), ("r1", 0)]


async def test_the_list_leaves_the_details_out(pool, stock, do):
    await do(reserve("r1", "A=1 C=1"))
    (view,) = await reads.reservations(pool, stock)
    full = await reads.reservation(pool, stock, "r1")
    assert full is not None
    assert view == replace(full, items=(), errors=(), lines=())


# -- the log ----------------------------------------------------------------------------------


async def test_movements_the_newest_first(pool, stock, do):
    await do(receive("C=4"), reserve("r1", "A=11 C=3"), consume("r1", "C=1"), adjust("B", 1))
    rows = await reads.movements(pool, stock, reference_id="r1")
    assert [(x.type, x.sku, x.warehouse, x.quantity) for x in rows] == [
        ("SALE", "C", "NEAR", -1),
        ("RESERVATION", "C", "NEAR", -3),
        ("RESERVATION", "A", "FAR", -2),
        ("RESERVATION", "A", "NEAR", -9),
    ]
    sale = rows[0]
    assert (sale.total_delta, sale.reserved_delta, sale.blocked_delta) == (-1, -1, 0)
    assert (sale.previous_available, sale.new_available, sale.sequence) == (1, 1, 3)
    assert (sale.product_id, sale.negotiation_id) == (uid("C"), uid("n1"))
    assert [x.id for x in rows] == sorted([x.id for x in rows], reverse=True)


async def test_movements_by_every_filter(pool, stock, do):
    await do(receive("C=4"), reserve("r1", "A=11 C=3"), consume("r1", "C=1"))

    async def ids(**asked: Any) -> list[str]:
        return [view.id for view in await reads.movements(pool, stock, **asked)]

    rows = await reads.movements(pool, stock)
    assert await ids(sku="A", warehouse="FAR", type="RESERVATION") == [
        x.id for x in rows if (x.sku, x.warehouse, x.type) == ("A", "FAR", "RESERVATION")
    ]
    assert await ids(sku="C") == [x.id for x in rows if x.sku == "C"]
    middle = rows[2].created_at
    assert await ids(since=middle) == [x.id for x in rows if x.created_at >= middle]
    assert await ids(until=middle) == [x.id for x in rows if x.created_at < middle]
    assert await ids(limit=3) == [x.id for x in rows[:3]]
    assert await ids(limit=3, before_id=rows[2].id) == [x.id for x in rows[3:6]]
    assert await ids(sku="NONE") == []


async def test_notifications_the_newest_first(superuser, pool, stock):
    for n in range(5):
        await superuser.execute(
            "INSERT INTO notifications (tenant_id, id, type, severity, title, message,"
            " entity_type, entity_id, created_at)"
            " VALUES ($1, $2, 'LOW_STOCK', 'WARNING', 'Titlu', 'Mesaj', 'product', 'A', now())",
            *(stock, f"N{n}"),
        )
    rows = await reads.notifications(pool, stock, limit=2)
    assert [row.id for row in rows] == ["N4", "N3"]
    assert (rows[0].type, rows[0].severity, rows[0].title) == ("LOW_STOCK", "WARNING", "Titlu")
    rest = await reads.notifications(pool, stock, before_id="N3")
    assert [row.id for row in rest] == ["N2", "N1", "N0"]


# -- tenants ----------------------------------------------------------------------------------


async def test_no_read_sees_another_tenant(superuser, pool, stock, do):
    await do(reserve("r1", "A=1"))
    await put(superuser, shop("X=1", tenant=Tenant(OTHER, "Other")))
    assert [row.sku for row in await reads.levels(pool, OTHER)] == ["X"]
    assert [row.sku for row in await reads.products(pool, OTHER)] == ["X"]
    assert await reads.explain(pool, OTHER, "A") is None
    assert await reads.reservation(pool, OTHER, "r1") is None
    assert await reads.reservations(pool, OTHER) == ()
    assert {row.sku for row in await reads.movements(pool, OTHER)} == {"X"}
    assert await reads.movements(pool, OTHER, reference_id="r1") == ()
    assert await reads.products(pool, uid("nobody")) == ()


async def test_the_operator_sees_all_tenants(superuser, operator, stock):
    await put(superuser, shop("X=1", tenant=Tenant(OTHER, "Other", "en")))
    other, mine = await reads.tenants(operator)
    assert (other.id, other.name, other.language, other.warehouses) == (
        OTHER,
        "Other",
        "en",
        ("MAIN",),
    )
    assert (mine.id, mine.warehouses, mine.max_extensions) == (stock, ("NEAR", "FAR"), 3)
    assert await reads.tenant(operator, stock) == mine
    assert await reads.tenant(operator, uid("nobody")) is None


# -- trouble ----------------------------------------------------------------------------------


async def test_text_that_no_database_can_hold(pool, stock):
    with pytest.raises(InvalidInputError):
        await reads.products(pool, stock, search="\0")
    assert len(await reads.products(pool, stock)) == 3


async def test_a_database_that_is_away(database, pool, stock):
    async with create_pool(f"{database}&port=1", "cerniq_app", max_size=1) as away:
        with pytest.raises(UnavailableError):
            await reads.products(away, stock)
        with pytest.raises(UnavailableError):
            await reads.tenants(away)
