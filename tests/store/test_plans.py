"""Every statement of the writer looks rows up by key, whatever the planner knew when it planned.

The trap: a connection plans while the tables are empty, keeps the plan, and scans for ever after.
The plans are taken from the running engine by auto_explain, with what they really touched.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import (
    adjust,
    consume,
    extend,
    negotiation,
    of_order,
    order,
    receive,
    release,
    reserve,
    reserve_order,
    uid,
)

from cerniq_stock.domain.commands import DeductOrder, ReleaseOrder, ReturnOrder, SyncLevel
from cerniq_stock.domain.sync import Figure, Strategy
from cerniq_stock.store import queries
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect, create_database, drop_database
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.transaction import Transaction

EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "client_min_messages": "notice",
    "auto_explain.log_level": "notice",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
}
HOT = set(queries.parse((files("cerniq_stock.store") / "queries.sql").read_text("utf-8")))

MONTH = f"{datetime.now(UTC):%Y_%m}"
OTHER_MONTH = re.compile(rf"stock_movements_(?!{MONTH}).*")
LEVELS = "stock_levels_pkey"
RESERVATIONS = "stock_reservations_pkey"
LINES = "stock_reservation_lines_pkey"
ORDERS = "stock_orders_pkey"
ORDER_LINES = "stock_order_lines_pkey"
NEGOTIATIONS = "negotiations_pkey"
EXPECTED = {
    "lock_levels": {"products_tenant_id_sku_key", LEVELS},
    "lock_levels_of_products": {"products_pkey", LEVELS},
    "products_of_skus": {"products_tenant_id_sku_key"},
    "look_around": {
        "tenants_pkey",
        "stock_reservations_due",
        LEVELS,
        NEGOTIATIONS,
        "uq_reservation_key",
    },
    "told_answers": {"stock_commands_pkey"},
    "products_of_holds": {"stock_reservations_negotiation", LINES},
    "about_orders": {ORDERS, ORDER_LINES},
    "lock_orders": {ORDERS},
    "lines_of_orders": {ORDER_LINES, "products_pkey"},
    "lock_reservations": {RESERVATIONS},
    "lines_of_reservations": {LINES, "products_pkey"},
    "due_of_products": {"stock_reservation_lines_held"},
    "holders_to_give_way": {"stock_reservation_lines_held", RESERVATIONS},
    "write_holds": set(),
    "insert_levels": set(),
    "write_changed_lines": {LINES},
    "write_changed_reservations": {RESERVATIONS},
    "insert_orders": set(),
    "insert_order_lines": set(),
    "write_changed_orders": {ORDERS},
    "write_changed_order_lines": {ORDER_LINES},
    "write_negotiations": {NEGOTIATIONS},
    "lock_negotiations_to_change": {NEGOTIATIONS},
    "share_negotiations": {NEGOTIATIONS},
    "insert_negotiations": {"tenants_pkey"},
    "drop_negotiations": {NEGOTIATIONS},
    "write_erp_levels": set(),
    "write_answers": set(),
    "write_notifications": set(),
    "was_written": {RESERVATIONS, f"stock_movements_{MONTH}_pkey", "stock_commands_pkey"},
}
ONE_COLUMN = {"tenants_pkey", "stock_reservations_due"}
"""The tenants' own key; and the earliest expiry of a tenant, of which one row is read."""
MOST_ROWS = 60
"""What a statement may touch of a table for a batch of these few commands."""

BIG = 3_000


async def fill(connection: asyncpg.Connection, tenants: list[UUID]) -> None:
    """Tenants with thousands of rows in every table; most reservations are over."""
    for tenant in tenants:
        for sql in FILLING.split(";"):
            await connection.execute(sql, tenant, BIG)


FILLING = """
INSERT INTO tenants (id, name, warehouses) SELECT $1, 'Shop', '{W1,W2,W3}' WHERE $2 > 0;

INSERT INTO negotiations
SELECT $1, md5('n' || n)::uuid, 'PROPOSAL' FROM generate_series(1, $2::int) AS n;

INSERT INTO products (tenant_id, id, sku, name)
SELECT $1, md5('p' || n)::uuid, 'S' || n, 'P' FROM generate_series(1, $2::int) AS n;

INSERT INTO stock_levels (tenant_id, product_id, warehouse)
SELECT $1, md5('p' || n)::uuid, 'W2' FROM generate_series(1, $2::int) AS n;

UPDATE stock_levels SET total = 50, reserved = 20, version = 1 WHERE tenant_id = $1 AND $2 > 0;

INSERT INTO stock_reservations (
    tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
    first_expires_at, expires_at, released_at, created_at, updated_at
)
SELECT
    $1, 'r' || n, md5('n' || n % $2)::uuid, 'k' || n, '', 'SOFT',
    CASE WHEN n % 4 < 3 THEN 'RELEASED' ELSE 'ACTIVE' END, 'NORMAL',
    now(), now() + (n - 40) * interval '1 minute', CASE WHEN n % 4 < 3 THEN now() END,
    now() - n * interval '1 second', now()
FROM generate_series(1, 2 * $2::int) AS n;

INSERT INTO stock_reservation_lines (
    tenant_id, reservation_id, line_no, warehouse, product_id, reserved, released, expires_at
)
SELECT
    $1, r.id, line, 'W1', md5('p' || (substr(r.id, 2)::int * line) % ($2 - 1) + 1)::uuid,
    2, CASE WHEN r.status = 'ACTIVE' THEN 0 ELSE 2 END, r.expires_at
FROM stock_reservations AS r, generate_series(1, 2) AS line WHERE r.tenant_id = $1;

INSERT INTO stock_movements (
    tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,
    previous_available, sequence, created_at
)
SELECT
    $1, 'm' || n, md5('p' || n)::uuid, 'W1', 'S' || n, 'PURCHASE', 50, 0, 0, 0, 1, now()
FROM generate_series(1, $2::int) AS n;

INSERT INTO stock_orders (tenant_id, id, negotiation_id, status, created_at, updated_at)
SELECT $1, md5('o' || n)::uuid, md5('n' || n)::uuid, 'PARTLY_DELIVERED', now(), now()
FROM generate_series(1, $2::int) AS n;

INSERT INTO stock_order_lines (tenant_id, order_id, line_no, product_id, quantity, deducted)
SELECT o.tenant_id, o.id, line, md5('p' || line)::uuid, 2, 1
FROM stock_orders AS o, generate_series(1, 3) AS line WHERE o.tenant_id = $1 AND $2 > 0;

INSERT INTO stock_commands
SELECT $1, 'c' || n, '', 'LevelResult', '{}', now() FROM generate_series(1, $2::int) AS n
"""


class Plan(NamedTuple):
    """What one statement did."""

    name: str
    tree: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every node, but for the partitions of other months: they are empty."""

        def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if OTHER_MONTH.fullmatch(node.get("Relation Name", "")):
                return
            yield node
            for below in node.get("Plans", ()):
                yield from walk(below)

        return walk(self.tree)

    def indexes(self) -> set[str]:
        """Names of the indexes in use."""
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}


class Watched:
    """A connection of the engine that keeps the plans of what runs on it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.plans: list[Plan] = []
        connection.add_log_listener(self._listen)

    def _listen(self, _: Any, message: Any) -> None:
        if "plan:" in message.message:
            told = json.loads(message.message.split("plan:", 1)[1])
            text = told["Query Text"]
            names = [name for name, sql in SQL.items() if sql == text]
            if "share_negotiations" in text:
                names = ["share_negotiations"]
            self.plans += [Plan(name, told["Plan"]) for name in names]


MODES = {
    "empty": "analysed while they were empty, then filled",
    "never": "filled and never analysed",
    "full": "analysed when they were full",
}


@pytest.fixture(scope="module")
async def plans(server: str, template: str) -> dict[str, list[Plan]]:
    """The plans of every statement, for each state of the planner's knowledge."""
    found: dict[str, list[Plan]] = {}
    for mode in MODES:
        dsn = await create_database(server, f"test_plans_{mode}", template=template)
        superuser = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        if mode == "empty":
            await superuser.execute("ANALYZE")
        connection = await connect(dsn, settings={**KEY_LOOKUPS, **EXPLAIN})
        await connection.execute(PREPARE)
        watched = Watched(connection)
        # plans of the empty tables, which a writer has until it plans again
        await Transaction(uid("tenant"), [reserve("x", "A=1", type="HARD")]).run(connection)
        await fill(superuser, [uid("tenant"), uid("another")])
        if mode == "full":
            await superuser.execute("ANALYZE")
        await connection.execute("DISCARD PLANS")
        watched.plans.clear()
        await run_everything(connection)
        found[mode] = watched.plans
        await connection.close()
        await superuser.close()
        await drop_database(server, f"test_plans_{mode}")
    return found


def synced(sku: str, total: int) -> SyncLevel:
    figure = Figure(Decimal(total))
    about = None, Strategy.ERP_WINS, uid("erp"), "sync"
    return SyncLevel(None, b"", "erp", None, sku, "W2", figure, *about)


async def run_everything(connection: asyncpg.Connection) -> None:
    """Commands that between them run every statement of the writer."""
    tenant = uid("tenant")
    for batch in (
        [negotiation("n1", "PROPOSAL", key="k1")],
        [reserve("x1", "S5=70 S9=1 S1=1"), receive("S5=1", into="W3")],
        [reserve("x2", "S5=200 S6=3 S5=1", type="HARD"), reserve("x3", "S8=1")],
        [release("x1"), extend("x2", 1), adjust("S6", -1, 0), adjust("S11", -60, 0)],
        [consume("x3", key="k2"), release("n1")],
        [negotiation("n1", "DEAD")],
        [negotiation("n2", "PROPOSAL", key="k1")],
        [negotiation("n3", "PROPOSAL"), order("o1", "S20=6 S21=2 S20=9", of="n3")],
        [order("o2", "S22=3", of="n3"), of_order(ReleaseOrder, "o1", "3=1")],
        [reserve("x4", "S20=2 S24=9", to="n3"), reserve("x5", "S21=30", to="n3")],
        [reserve_order("o1", "x6"), reserve_order("o2", "x7"), receive("S20=1", into="W3")],
        [of_order(DeductOrder, "o1", "S20=2"), of_order(ReleaseOrder, "o2", key="k3")],
        [of_order(DeductOrder, "o1"), of_order(ReturnOrder, "o1", "2=1", into="W3")],
        [synced("S30", 70), synced("S31", 80)],
    ):
        lost = Transaction(tenant, batch)
        await lost.run(connection)
        if lost.proof is not None:
            await lost.run(connection)  # as after a lost COMMIT: nothing is done again


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("mode", MODES)
def test_a_statement_looks_up_by_key(plans, mode, name):
    of_name = [plan for plan in plans[mode] if plan.name == name]
    assert of_name, "no command runs it"
    for plan in of_name:
        for node in plan.nodes():
            check_node(node)
    used = set().union(*(plan.indexes() for plan in of_name))
    assert used == EXPECTED[name]


def test_every_statement_is_looked_at():
    assert {*HOT, "share_negotiations"} == set(EXPECTED)


def check_node(node: dict[str, Any]) -> None:
    kind, index = node["Node Type"], node.get("Index Name")
    assert kind not in ("Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"), node
    loops = node.get("Actual Loops", 0)
    rows = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    assert rows * max(loops, 1) <= MOST_ROWS, node
    if index is not None and loops:
        conditions = len(re.findall(r" (=|<=) ", node.get("Index Cond", "")))
        assert conditions >= (1 if index in ONE_COLUMN else 2), node
        assert "tenant_id" in node["Index Cond"] or index == "tenants_pkey", node


async def test_levels_are_updated_in_their_pages(database, superuser):
    """No index has to be told of a change of stock: updates of levels are heap-only.

    But for a few, where an ANALYZE that goes on meanwhile keeps old versions, and a page gets full.
    """
    await fill(superuser, [uid("tenant")])
    connection = await connect(database, settings=KEY_LOOKUPS)
    await connection.execute(PREPARE)
    await Transaction(uid("tenant"), [negotiation("n1", "PROPOSAL")]).run(connection)
    before = await updates(superuser)
    for n in range(40):
        skus = " ".join(f"S{m}=1" for m in range(n, n + 10))
        await Transaction(uid("tenant"), [reserve(f"x{n}", skus)]).run(connection)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.close()
    made, hot = (new - old for new, old in zip(await updates(superuser), before, strict=True))
    assert made >= 390
    assert hot > 0.9 * made


async def updates(superuser: asyncpg.Connection) -> tuple[int, int]:
    await superuser.execute("SELECT pg_stat_force_next_flush()")
    row = await superuser.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'stock_levels'"
    )
    return tuple(row)
