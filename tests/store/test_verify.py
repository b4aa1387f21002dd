"""Every rule of `verify` has mutants: break exactly that, and it must be named with its subject."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count

import asyncpg
import pytest
from tests.helpers import (
    adjust,
    consume,
    negotiation,
    of_order,
    order,
    put,
    receive,
    release,
    reserve,
    reserve_order,
    shop,
    uid,
)

from cerniq_stock.domain.commands import DeductOrder, ReleaseOrder, ReturnOrder
from cerniq_stock.domain.model import ZERO, Level, Tenant
from cerniq_stock.store import verify as module
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect, create_database, drop_database
from cerniq_stock.store.sweep import SETTINGS, Sweeper, sweep_tenant
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.verify import RULES, verify
from cerniq_stock.store.writer import Writer

SHOP = Tenant(uid("tenant"), "Shop", warehouses=("W1", "W2"))
NEIGHBOUR = Tenant(uid("neighbour"), "Neighbour", warehouses=("W1", "W2"))
_numbers = count(1)


async def open_shop(superuser: asyncpg.Connection, tenant: Tenant) -> None:
    """Fifty of A and B in two warehouses; C never had any stock, D has none yet."""
    state = shop("A=0 B=0 C=0 D=0", tenant=tenant)
    levels = {
        uid(sku): tuple(Level(uid(sku), w, ZERO, ZERO, ZERO, 0) for w in tenant.warehouses)
        for sku in "AB"
    }
    await put(superuser, replace(state, levels=levels))
    await superuser.execute(
        "UPDATE stock_levels SET total = 50 WHERE tenant_id = $1 AND product_id <> ALL ($2)",
        *(tenant.id, [uid("C"), uid("D")]),
    )


async def trade(app: asyncpg.Connection, tenant: Tenant) -> None:
    """Leave reservations and orders in every state, on both warehouses; all kinds of movements."""
    commands = [
        reserve("active", "A=60 B=3 A=1"),
        reserve("another", "A=7 B=2"),
        reserve("partly", "A=4"),
        consume("partly", "A=1"),
        release("partly", "A=1"),
        reserve("consumed", "B=5"),
        consume("consumed"),
        reserve("released", "B=5"),
        release("released"),
        reserve("failed", "C=1"),
        reserve("expired", "B=6", expires_in_h=0),
        reserve("displaced", "B=70"),
        reserve("hard", "B=60", type="HARD"),
        *(receive("B=2", into="W2") for _ in range(8)),
        adjust("B", blocked=3, into="W2"),
        negotiation("n2", "DEAD"),
        receive("B=30", into="W1"),
        receive("D=20", into="W1"),
        order("new", "B=2"),
        order("kept", "B=4 D=3 B=2"),
        reserve_order("kept", "for_kept"),
        order("begun", "D=6 D=2"),
        reserve_order("begun", "for_begun"),
        of_order(DeductOrder, "begun", "D=3"),
        of_order(ReleaseOrder, "begun", "D=2"),
        of_order(ReturnOrder, "begun", "D=1", into="W2"),
        order("delivered", "D=2"),
        of_order(DeductOrder, "delivered"),
        order("cancelled", "D=1"),
        reserve_order("cancelled", "for_cancelled"),
        of_order(ReleaseOrder, "cancelled"),
    ]
    for command in commands:
        await Transaction(tenant.id, [command]).run(app)
    await sweep_tenant(app, tenant.id)


@pytest.fixture(scope="module")
def sound(server: str, template: str) -> Iterator[str]:
    """Name of a database with two tenants' trade, to be cloned and broken."""

    async def make() -> None:
        dsn = await create_database(server, "sound", template=template)
        superuser = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        app = await connect(dsn, settings=SETTINGS)
        await app.execute(PREPARE)
        for tenant in (SHOP, NEIGHBOUR):
            await open_shop(superuser, tenant)
            await trade(app, tenant)
        await app.close()
        await superuser.close()

    asyncio.run(make())
    yield "sound"
    asyncio.run(drop_database(server, "sound"))


@pytest.fixture
async def traded(server: str, sound: str) -> AsyncIterator[str]:
    """Address of a clone of the sound database."""
    name = f"mutant_{next(_numbers)}"
    yield await create_database(server, name, template=sound)
    await drop_database(server, name)


async def harm(dsn: str, sql: str) -> None:
    """Break something of the shop (not of its neighbour) past all triggers."""
    superuser = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    mine = f"tenant_id = '{SHOP.id}'"
    await superuser.execute(f"SET session_replication_role = replica; {sql.replace('MINE', mine)}")
    await superuser.close()


# -- mutants --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """`sql` breaks `rule` for `subject`. `alone`: and nothing else."""

    rule: str
    subject: str
    sql: str
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.rule}-{self.sql[:40]}"


def on(sku: str, warehouse: str) -> str:
    return f"MINE AND product_id = '{uid(sku)}' AND warehouse = '{warehouse}'"


def level(rule: str, change: str, *, first: str = "", alone: bool = False) -> Mutant:
    sql = f"{first} UPDATE stock_levels SET {change} WHERE {on('A', 'W2')}"
    return Mutant(rule, "A @ W2", sql, alone)


def movement(
    rule: str, change: str, where: str, subject: str, *, first: str = "", alone: bool = False
) -> Mutant:
    sql = f"{first} UPDATE stock_movements SET {change} WHERE {on('B', 'W2')} AND {where}"
    return Mutant(rule, f"B @ W2 #{subject}", sql, alone)


def line(
    rule: str, change: str, subject: str = "active", *, first: str = "", alone: bool = False
) -> Mutant:
    sql = (
        f"{first} UPDATE stock_reservation_lines SET {change}"
        f" WHERE MINE AND reservation_id = '{subject}' AND line_no = 1"
    )
    return Mutant(rule, subject, sql, alone)


def header(rule: str, id_: str, change: str, *, first: str = "", alone: bool = False) -> Mutant:
    sql = f"{first} UPDATE stock_reservations SET {change} WHERE MINE AND id = '{id_}'"
    return Mutant(rule, id_, sql, alone)


def of_order_line(
    rule: str, name: str, line_no: int, change: str, *, first: str = "", alone: bool = False
) -> Mutant:
    sql = (
        f"{first} UPDATE stock_order_lines SET {change}"
        f" WHERE MINE AND order_id = '{uid(name)}' AND line_no = {line_no}"
    )
    subject = str(uid(name)) + (f" #{line_no}" if rule in LINE_RULES else "")
    return Mutant(rule, subject, sql, alone)


def of_order_header(rule: str, name: str, change: str, subject: str | None = None) -> Mutant:
    sql = f"UPDATE stock_orders SET {change} WHERE MINE AND id = '{uid(name)}'"
    return Mutant(rule, subject or str(uid(name)), sql, alone=True)


def of_order_movement(change: str, where: str, name: str) -> Mutant:
    sql = f"UPDATE stock_movements SET {change} WHERE MINE AND order_id = '{uid(name)}' AND {where}"
    return Mutant("order.moved", f"{uid(name)}, product {uid('D')}", sql, alone=True)


LINE_RULES = {"order.reserved", "order.figures"}


def loose(table: str, *columns: str) -> str:
    """Make generated columns plain ones."""
    return "".join(f"ALTER TABLE {table} ALTER {x} DROP EXPRESSION;" for x in columns)


UNCHECKED = """
DO $$
DECLARE c record;
BEGIN
    FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
        WHERE contype = 'c' AND connamespace = 'cerniq'::regnamespace AND coninhcount = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname);
    END LOOP;
END $$;
"""

# The same number, sum and sum of squares as 1 … 8, smallest and largest as well.
SAME_SUMS = "sequence = CASE sequence WHEN 2 THEN 3 WHEN 6 THEN 4 ELSE 8 END"

# What `active` holds of A in W2, and what `another` does, exchanged by one.
EXCHANGED = f"""
UPDATE stock_reservation_lines SET reserved = reserved + 1
WHERE {on("A", "W2")} AND reservation_id = 'active' AND line_no = 1;
UPDATE stock_reservation_lines SET reserved = reserved - 1
WHERE {on("A", "W2")} AND reservation_id = 'another';
UPDATE stock_reservations SET total_reserved = total_reserved + 1, total_requested = 99
WHERE MINE AND id = 'active';
UPDATE stock_reservations SET total_reserved = total_reserved - 1 WHERE MINE AND id = 'another';
"""

MUTANTS = [
    level("level.figures", "available = available + 1", first=loose("stock_levels", "available")),
    level("level.figures", "total = 1", first=UNCHECKED),
    level("level.figures", "blocked = -1, total = total - 1", first=UNCHECKED),
    level("level.total", "total = total + 1", alone=True),
    level("level.reserved", "reserved = reserved + 1"),
    level("level.blocked", "blocked = blocked + 1", alone=True),
    level("level.version", "version = version + 1", alone=True),
    level("level.version", "version = version - 1", alone=True),
    level("level.held", "reserved = reserved - 1"),
    Mutant("product.level", "C", f"DELETE FROM stock_levels WHERE {on('C', 'W1')}", alone=True),
    Mutant("movement.level", "A @ W2", f"DELETE FROM stock_levels WHERE {on('A', 'W2')}"),
    Mutant("line.level", "A @ W2", f"DELETE FROM stock_levels WHERE {on('A', 'W2')}"),
    movement("movement.sequence", "sequence = 99", "sequence = 5", "6"),
    movement("movement.sequence", "sequence = 1", "sequence = 2", "1"),
    movement("movement.sequence", "sequence = sequence + 1", "true", "2"),
    movement("movement.sequence", SAME_SUMS, "sequence IN (2, 6, 7)", "3"),
    Mutant(
        "movement.sequence", "B @ W2 #4",
        f"DELETE FROM stock_movements WHERE {on('B', 'W2')} AND sequence = 3",
    ),
    Mutant(
        "movement.sequence", "B @ W2 #2",
        f"DELETE FROM stock_movements WHERE {on('B', 'W2')} AND sequence = 1",
    ),
    movement("movement.chain", "previous_available = previous_available + 1", "sequence = 4", "4"),
    movement("movement.chain", "previous_available = previous_available + 1", "true", "1"),
    movement("movement.chain", "total_delta = total_delta + 1", "sequence = 4", "5"),
    movement(
        "movement.figures", "new_available = new_available + 1", "sequence = 4", "4",
        first=loose("stock_movements", "new_available"),
    ),
    movement(
        "movement.figures", "previous_available = -100", "sequence = 4", "4", first=UNCHECKED
    ),
    Mutant(
        "line.reservation", "active",
        "DELETE FROM stock_reservations WHERE MINE AND id = 'active'",
    ),
    line("line.figures", "held = held + 1", first=loose("stock_reservation_lines", "held")),
    line("line.figures", "consumed = -1, released = released + 1", first=UNCHECKED),
    line("line.figures", "reserved = 0, consumed = 0, released = 0", first=UNCHECKED),
    line("line.expiry", "expires_at = expires_at + interval '1 us'", alone=True),
    header(
        "line.held", "active",
        "status = 'RELEASED', released_at = now(), release_reason = 'MANUAL'",
    ),
    Mutant("line.movements", "A @ W2: active", EXCHANGED, alone=True),
    Mutant("line.movements", "A @ W2: another", EXCHANGED, alone=True),
    line("line.movements", "released = 1", "another"),
    replace(line("level.held", "released = 1", "another"), subject="A @ W2"),
    header("reservation.pending", "failed", "status = 'PENDING'"),
    header(
        "reservation.failed", "released",
        "status = 'FAILED', released_at = NULL, release_reason = NULL", alone=True,
    ),
    header("reservation.failed", "failed", "status = 'RELEASED', released_at = now()"),
    header("reservation.requested", "active", "total_requested = 1", first=UNCHECKED, alone=True),
    header("reservation.total", "active", "total_reserved = 1", alone=True),
    header("reservation.total", "consumed", "total_reserved = 1", alone=True),
    Mutant(
        "reservation.total", "released",
        "DELETE FROM stock_reservation_lines WHERE MINE AND reservation_id = 'released'",
        alone=True,
    ),
    header("reservation.total", "failed", "total_reserved = 1"),
    Mutant(
        "reservation.holds", "another",
        "UPDATE stock_reservation_lines SET released = reserved"
        " WHERE MINE AND reservation_id = 'another'",
    ),
    Mutant(
        "reservation.holds", "another",
        "DELETE FROM stock_reservation_lines WHERE MINE AND reservation_id = 'another'",
    ),
    header("reservation.early", "expired", "expires_at = now() + interval '1 hour'", alone=True),
    header("reservation.end", "released", "release_reason = NULL", alone=True),
    header("reservation.end", "consumed", "release_reason = 'MANUAL'", alone=True),
    header("reservation.end", "released", "release_reason = 'EXPIRED'", alone=True),
    header("reservation.end", "released", "released_at = NULL", first=UNCHECKED, alone=True),
    header(
        "reservation.end", "active", "released_at = now(), release_reason = 'MANUAL'",
        first=UNCHECKED, alone=True,
    ),
    header("reservation.negotiation", "released", "negotiation_id = tenant_id", alone=True),
    of_order_line("order.reserved", "kept", 1, "reserved = 3", alone=True),
    of_order_line("order.reserved", "kept", 2, "product_id = tenant_id", alone=True),
    # one more here, one less there: of one product and one order
    of_order_line(
        "order.reserved", "kept", 3, "reserved = 1", alone=True,
        first="UPDATE stock_order_lines SET quantity = 5, reserved = 5"
        f" WHERE MINE AND order_id = '{uid('kept')}' AND line_no = 1;",
    ),
    replace(
        of_order_line("order.reserved", "new", 1, "line_no = 2, reserved = 1"),
        subject=f"{uid('new')} #2",
    ),
    Mutant(
        "order.reserved", f"{uid('kept')} #2",
        f"DELETE FROM stock_order_lines WHERE MINE AND order_id = '{uid('kept')}' AND line_no = 2",
        alone=True,
    ),
    replace(
        header("order.reserved", "for_kept", f"order_id = '{uid('new')}'"),
        subject=f"{uid('kept')} #1",
    ),
    of_order_line("order.moved", "begun", 1, "deducted = 4, released = 1", alone=True),
    of_order_line("order.moved", "begun", 1, "returned = 2", alone=True),
    of_order_line("order.moved", "delivered", 1, "product_id = tenant_id", alone=True),
    of_order_line("order.moved", "delivered", 1, "deducted = 1"),
    of_order_movement("order_id = NULL", "type = 'RETURN'", "begun"),
    of_order_movement("order_id = tenant_id", "type = 'SALE'", "delivered"),
    of_order_movement("type = 'SYNC'", "type = 'SALE'", "delivered"),
    of_order_line("order.figures", "kept", 1, "released = 1", first=UNCHECKED, alone=True),
    of_order_line("order.figures", "begun", 1, "returned = 4", first=UNCHECKED),
    of_order_line(
        "order.figures", "kept", 1, "released = -1", first=UNCHECKED, alone=True
    ),
    of_order_line("order.figures", "new", 1, "reserved = -1", first=UNCHECKED),
    of_order_line("order.figures", "new", 1, "returned = -1", first=UNCHECKED),
    of_order_line("order.figures", "new", 1, "deducted = -1, returned = -1", first=UNCHECKED),
    of_order_header("order.reservation", "begun", "reservation_id = NULL", "for_begun"),
    of_order_header("order.reservation", "begun", "reservation_id = 'active'", "for_begun"),
    of_order_header("order.reservation", "cancelled", "reservation_id = NULL", "for_cancelled"),
    Mutant(
        "order.reservation", "for_kept",
        "UPDATE stock_reservations SET expires_at = '2222-02-22' WHERE MINE AND id = 'for_kept';"
        " UPDATE stock_reservation_lines SET expires_at = '2222-02-22'"
        " WHERE MINE AND reservation_id = 'for_kept'",
        alone=True,
    ),
    header("order.reservation", "for_cancelled", "order_id = tenant_id", alone=True),
    *(
        of_order_header("order.status", name, f"status = '{status}'")
        for name, status in (
            ("new", "RESERVED"), ("new", "CANCELLED"), ("kept", "NEW"), ("begun", "RESERVED"),
            ("begun", "DELIVERED"), ("delivered", "PARTLY_DELIVERED"), ("cancelled", "DELIVERED"),
            ("cancelled", "NEW"),
        )
    ),
    of_order_line("order.status", "new", 1, "released = 2", alone=True),
    Mutant(
        "negotiation.ended", "another", "UPDATE negotiations SET state = 'DEAD' WHERE MINE",
        alone=True,
    ),
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
async def test_a_mutant_is_found(traded, mutant):
    await harm(traded, mutant.sql)
    report = await verify(traded)
    assert not report.ok
    assert {d.tenant_id for d in report.differences} == {SHOP.id}
    found = {(d.rule, d.subject) for d in report.differences}
    assert any(rule == mutant.rule and mutant.subject in subject for rule, subject in found), found
    assert {rule for rule, _ in found} <= RULES.keys()
    if mutant.alone:
        assert {rule for rule, _ in found} == {mutant.rule}
    assert all(d.expected != d.found for d in report.differences)


def test_every_rule_has_a_mutant():
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)


async def test_a_difference_says_what_was_expected_and_found(traded):
    await harm(traded, f"UPDATE stock_levels SET total = total + 1 WHERE {on('A', 'W2')}")
    (difference,) = (await verify(traded)).differences
    assert (difference.subject, difference.expected, difference.found) == (
        "A @ W2", "49.000", "50.000",
    )  # fmt: skip


async def test_a_break_of_the_chain_says_where(traded):
    await harm(
        traded,
        f"UPDATE stock_movements SET previous_available = 7 WHERE {on('B', 'W2')} AND sequence = 1",
    )
    (difference,) = (await verify(traded)).differences
    assert difference.subject == "B @ W2 #1"
    assert (difference.rule, difference.expected, difference.found) == (
        "movement.chain", "0", "7.000",
    )  # fmt: skip


# -- no mutant ------------------------------------------------------------------------------


async def test_a_sound_database_is_sound(traded):
    report = await verify(traded)
    assert report.differences == ()
    assert report.ok
    assert (report.tenants, report.levels, report.reservations) == (2, 14, 24)
    assert report.movements > 50
    assert 0 < report.duration_s < 60


async def test_an_empty_database_is_sound(database):
    report = await verify(database)
    assert report.ok
    assert (report.tenants, report.levels, report.movements, report.reservations) == (0, 0, 0, 0)


async def test_one_tenant_can_be_looked_at_alone(traded):
    await harm(traded, f"UPDATE stock_levels SET total = total + 1 WHERE {on('A', 'W2')}")
    assert (await verify(traded, tenant_id=NEIGHBOUR.id)).ok
    report = await verify(traded, tenant_id=SHOP.id)
    assert [d.rule for d in report.differences] == ["level.total"]
    whole = await verify(traded)
    assert report.tenants == 1
    assert 2 * report.levels == whole.levels
    assert 2 * report.movements == whole.movements
    assert 2 * report.reservations == whole.reservations


async def test_differences_are_capped_rule_by_rule(traded, monkeypatch):
    monkeypatch.setattr(module, "DIFFERENCES_MAX", 2)
    await harm(traded, "UPDATE stock_levels SET total = total + 1, version = version + 1")
    await harm(traded, "UPDATE stock_reservations SET release_reason = 'X' WHERE id = 'consumed'")
    found = [(d.rule, d.subject) for d in (await verify(traded)).differences]
    for rule in ("level.total", "level.version"):
        of_rule = [subject for name, subject in found if name == rule]
        assert len(of_rule) == 3
        assert of_rule.index("…") == 2
    assert [subject for name, subject in found if name == "reservation.end"] == ["consumed"] * 2


async def test_progress_is_told(database):
    told: list[tuple[str, int, int]] = []
    await verify(database, progress=lambda *of: told.append(of))
    assert told == [(check, done, 1) for check in module.CHECKS for done in (0, 1)]


async def test_it_runs_beside_traffic(superuser, database):
    """One snapshot: what is being written is seen whole or not at all."""
    await open_shop(superuser, SHOP)
    chance = random.Random(3)
    done = asyncio.Event()

    async def call(writer: Writer, caller: int) -> None:
        for n in range(40):
            id_ = f"r{caller}-{n}"
            sku = chance.choice("AB")
            made = reserve(id_, f"{sku}={chance.randint(1, 9)}", expires_in_h=chance.choice((0, 1)))
            await writer.submit(SHOP.id, made)
            await writer.submit(SHOP.id, chance.choice((release, consume))(id_))

    async def watch() -> int:
        looks = 0
        while not done.is_set():
            assert (await verify(database)).differences == ()
            looks += 1
        return looks

    async with Sweeper(database, interval_s=0.001), Writer(database) as writer:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(call(writer, caller) for caller in range(8)))
        done.set()
        assert await watching > 0


# -- what others change ---------------------------------------------------------------------

INSERT = (
    "INSERT INTO stock_levels (tenant_id, product_id, warehouse, total)"
    f" VALUES ('{SHOP.id}', '{uid('A')}', '{{}}', {{}})"
)


@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE stock_levels SET total = total + 5, blocked = 2 WHERE {on('A', 'W2')}",
        INSERT.format("W9", 5),
        (
            f"{INSERT.format('W2', 77)} ON CONFLICT (tenant_id, product_id, warehouse)"
            " DO UPDATE SET total = excluded.total"
        ),
    ],
    ids=["update", "insert", "upsert"],
)
async def test_a_change_behind_the_engine_is_logged_and_sound(traded, sql):
    superuser = await asyncpg.connect(traded, server_settings={"search_path": "cerniq"})
    await superuser.execute(sql.replace("MINE", f"tenant_id = '{SHOP.id}'"))
    await superuser.close()
    assert (await verify(traded)).differences == ()


async def test_the_writer_goes_on_after_a_change_behind_it(traded):
    superuser = await asyncpg.connect(traded, server_settings={"search_path": "cerniq"})
    await superuser.execute("UPDATE stock_levels SET total = total + 5")
    await superuser.close()
    app = await connect(traded, settings=KEY_LOOKUPS)
    await app.execute(PREPARE)
    (answer,) = await Transaction(SHOP.id, [reserve("more", "A=3")]).run(app)
    await app.close()
    assert answer.total_reserved == Decimal(3)
    assert (await verify(traded)).ok
