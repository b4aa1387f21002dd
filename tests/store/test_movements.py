"""Movements are the history: every change leaves one, none is ever changed, each has its month."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest
from tests.helpers import put, shop, uid

from cerniq_stock.domain.model import Tenant
from cerniq_stock.store.database import connect

ONE = Tenant(uid("one"), "One")
TWO = Tenant(uid("two"), "Two")
REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError)


@pytest.fixture
async def shops(superuser: asyncpg.Connection) -> None:
    """Two tenants with ten of A each."""
    for tenant in (ONE, TWO):
        await put(superuser, shop("A=10", tenant=tenant))


@pytest.fixture
async def app(database: str) -> AsyncIterator[asyncpg.Connection]:
    """The engine's role, at work for the first tenant."""
    connection = await connect(database, settings={"app.tenant": str(ONE.id)})
    yield connection
    await connection.close()


# -- changes behind the engine's back ---------------------------------------------------------

SUMS = (
    "SELECT (sum(total_delta), sum(reserved_delta), sum(blocked_delta), count(*))"
    " FROM stock_movements WHERE tenant_id = $1"
)
FIGURES = "SELECT (total, reserved, blocked, version) FROM stock_levels WHERE tenant_id = $1"


@pytest.mark.parametrize(
    ("change", "deltas"),
    [
        ("total = 12.5", (Decimal("2.5"), 0, 0)),
        ("reserved = 3", (0, 3, 0)),
        ("blocked = 4", (0, 0, 4)),
        ("total = 8, reserved = 1, blocked = 7", (-2, 1, 7)),
    ],
)
@pytest.mark.parametrize("role", ["superuser", "app"])
async def test_a_change_by_plain_sql_is_logged(shops, superuser, app, role, change, deltas):
    writer = {"superuser": superuser, "app": app}[role]
    await writer.execute(f"UPDATE stock_levels SET {change} WHERE tenant_id = $1", ONE.id)
    row = await superuser.fetchrow(
        "SELECT * FROM stock_movements WHERE tenant_id = $1 AND sequence = 2", ONE.id
    )
    assert (row["type"], row["sku"], row["previous_available"]) == ("ADJUSTMENT", "A", 10)
    assert (row["total_delta"], row["reserved_delta"], row["blocked_delta"]) == deltas
    assert row["new_available"] == 10 + deltas[0] - deltas[1] - deltas[2]
    assert row["notes"] == "changed outside of the engine"
    figures = await superuser.fetchval(FIGURES, ONE.id)
    assert figures[3] == 2
    assert figures == await superuser.fetchval(SUMS, ONE.id)
    assert await superuser.fetchval(FIGURES, TWO.id) == (10, 0, 0, 1)


async def test_levels_that_come_and_go_by_plain_sql_are_logged(shops, superuser):
    await superuser.execute(
        "INSERT INTO stock_levels (tenant_id, product_id, warehouse, total, blocked)"
        " VALUES ($1, $2, 'W2', 5, 1)",
        *(ONE.id, uid("A")),
    )
    assert await superuser.fetchval(SUMS, ONE.id) == (15, 0, 1, 2)
    await superuser.execute("DELETE FROM stock_levels WHERE warehouse = 'W2'")
    assert await superuser.fetchval(SUMS, ONE.id) == (10, 0, 0, 3)


async def test_what_changes_no_figure_is_not_logged(shops, superuser):
    await superuser.execute("UPDATE stock_levels SET updated_at = now(), total = total")
    assert await superuser.fetchval(SUMS, ONE.id) == (10, 0, 0, 1)


# -- append-only ----------------------------------------------------------------------------

ROLES = ["cerniq_app", "cerniq_operator", "cerniq_owner", "superuser"]
CHANGES = ["UPDATE {} SET notes = 'other'", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]


async def history(superuser: asyncpg.Connection) -> list[asyncpg.Record]:
    return await superuser.fetch("SELECT * FROM stock_movements ORDER BY tenant_id, id")


async def as_role(connection: asyncpg.Connection, role: str, sql: str) -> None:
    """Run a statement as a role; it may be refused."""
    await connection.execute("RESET ROLE" if role == "superuser" else f"SET ROLE {role}")
    with suppress(*REFUSED):
        await connection.execute(sql)
    await connection.execute("RESET ROLE")


@pytest.mark.parametrize("change", CHANGES)
async def test_nobody_changes_a_movement(shops, superuser, change):
    before = await history(superuser)
    await superuser.execute(f"SET app.tenant = '{ONE.id}'")
    for role in ROLES:
        await as_role(superuser, role, change.format("stock_movements"))
        assert await history(superuser) == before, role
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await superuser.execute(change.format("stock_movements"))


@pytest.mark.parametrize("change", CHANGES)
async def test_nobody_changes_a_movement_in_its_partition(shops, superuser, change):
    before = await history(superuser)
    await superuser.execute(f"SET app.tenant = '{ONE.id}'")
    child = await superuser.fetchval("SELECT tableoid::regclass::text FROM stock_movements")
    for role in ROLES:
        await as_role(superuser, role, change.format(child))
        assert await history(superuser) == before, role


# -- months ---------------------------------------------------------------------------------


def month(n: int) -> datetime:
    """The first moment of this month, or of the nth after it."""
    now = datetime.now(UTC)
    years, months = divmod(now.month - 1 + n, 12)
    return datetime(now.year + years, months + 1, 1, tzinfo=UTC)


def partition(n: int) -> str:
    return f"stock_movements_{month(n):%Y_%m}"


async def moved(connection: asyncpg.Connection, when: datetime) -> str:
    """Write a movement of that time; returns the partition in which it lies."""
    await connection.execute(
        "INSERT INTO stock_movements (tenant_id, id, product_id, warehouse, sku, type,"
        " total_delta, reserved_delta, blocked_delta, previous_available, sequence, created_at)"
        " VALUES ($1, new_ulid(), $2, 'MAIN', 'A', 'PURCHASE', 1, 0, 0, 0, 1, $3)",
        *(ONE.id, uid("A"), when),
    )
    return await connection.fetchval(
        "SELECT tableoid::regclass::text FROM stock_movements WHERE created_at = $1", when
    )


async def test_a_movement_lies_in_the_partition_of_its_month(superuser):
    for n in range(4):
        assert await moved(superuser, month(n)) == partition(n)
        assert await moved(superuser, month(n + 1) - timedelta(microseconds=1)) == partition(n)


async def test_a_movement_of_no_partition_is_kept_all_the_same(superuser):
    for when in (month(0) - timedelta(microseconds=1), month(4), month(400)):
        assert await moved(superuser, when) == "stock_movements_default"


async def test_partitions_are_made_ahead_once(app, superuser):
    months = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass"
    made = {row[0] for row in await superuser.fetch(months, "stock_movements")}
    assert made == {"stock_movements_default", *map(partition, range(4))}
    assert await app.fetchval("SELECT ensure_movement_partitions()") == 0
    assert await app.fetchval("SELECT ensure_movement_partitions(5)") == 2
    assert await app.fetchval("SELECT ensure_movement_partitions(5)") == 0
    assert await moved(superuser, month(5)) == partition(5)


async def test_partitions_are_made_ahead_although_one_came_too_late(superuser):
    assert await moved(superuser, month(4)) == "stock_movements_default"
    await superuser.execute("SELECT ensure_movement_partitions(5)")
    assert await moved(superuser, month(5)) == partition(5)


@pytest.mark.parametrize("change", ["warehouse = 'W9'", "product_id = gen_random_uuid()"])
async def test_a_level_keeps_its_key(superuser, change):
    await put(superuser, shop("A=3"))
    with pytest.raises(asyncpg.RestrictViolationError):
        await superuser.execute(f"UPDATE stock_levels SET {change}")
