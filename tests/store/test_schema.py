"""What the database promises by itself, whoever writes: keys, figures, tenants apart."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import put, shop, uid

from cerniq_stock.domain.model import Tenant
from cerniq_stock.store.database import connect, unsafe_role

ONE = Tenant(uid("one"), "One")
TWO = Tenant(uid("two"), "Two")

# What `put` leaves empty: a row of each table, the same in every tenant.
REST = """
INSERT INTO stock_reservations
    (tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
     total_requested, total_reserved, first_expires_at, expires_at, created_at, updated_at)
VALUES ('{tenant}', 'r1', '{deal}', 'k1', '', 'SOFT', 'ACTIVE', 'NORMAL', 2, 2,
        now(), now(), now(), now());
INSERT INTO stock_reservation_lines
    (tenant_id, reservation_id, line_no, warehouse, product_id, reserved, expires_at)
VALUES ('{tenant}', 'r1', 1, 'MAIN', '{product}', 2, now());
INSERT INTO stock_commands (tenant_id, key, fingerprint, answer_type, answer_json, created_at)
VALUES ('{tenant}', 'k2', '', 'ExtendResult', '[]', now());
INSERT INTO notifications
    (tenant_id, id, type, severity, title, message, entity_type, entity_id, created_at)
VALUES ('{tenant}', 'n1', 'LOW', 'INFO', 'title', 'message', 'product', 'A', now());
INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted)
VALUES ('{tenant}', 'ERP', 'name', '');
INSERT INTO stock_sync_logs
    (tenant_id, id, erp_system, sync_type, status, started_at, completed_at, duration_ms)
VALUES ('{tenant}', 's1', 'ERP', 'FULL', 'SUCCESS', now(), now(), 1);
INSERT INTO erp_levels (tenant_id, integration_id, product_id, warehouse, erp_total, local_total,
    agreed_total, pending, blocked, synced_at)
VALUES ('{tenant}', '{deal}', '{product}', 'MAIN', 1, 1, 1, 0, 0, now());
INSERT INTO sync_conflicts (tenant_id, id, integration_id, erp_system, sync_id, product_id, sku,
    warehouse, field, reason, local_value, erp_value, seen_at, first_seen_at)
VALUES ('{tenant}', 'c1', '{deal}', 'ERP', 's1', '{product}', 'A', 'MAIN', 'stock_total', 'REVIEW',
    1, 2, now(), now());
INSERT INTO sync_plans (tenant_id, sync_id, place, sku) VALUES ('{tenant}', 's1', 1, 'A');
INSERT INTO erp_pushes (tenant_id, integration_id, movement_id, product_id, sku, warehouse,
    quantity, sold_at, batch, state)
VALUES ('{tenant}', '{deal}', 'm1', '{product}', 'A', 'MAIN', 1, now(), 'b1', 'SENDING');
INSERT INTO erp_subscriptions
    (tenant_id, integration_id, subscription_id, url_encrypted, renew_at, expires_at)
SELECT tenant_id, id, 'w1', '', now(), now() FROM erp_integrations WHERE tenant_id = '{tenant}';
INSERT INTO stock_orders (tenant_id, id, status, created_at, updated_at)
VALUES ('{tenant}', '{order}', 'PARTLY_DELIVERED', now(), now());
INSERT INTO stock_order_lines
    (tenant_id, order_id, line_no, product_id, quantity, reserved, deducted, released, returned)
VALUES ('{tenant}', '{order}', 1, '{product}', 9, 2, 3, 1, 1);
INSERT INTO jobs (tenant_id, id, name, payload, turn, ticket, effect_key, run_at)
VALUES ('{tenant}', 'j1', 'job', '{{}}', 0, 1, 'job_1', now());
INSERT INTO job_schedules (tenant_id, name, expression, timezone, next_at)
VALUES ('{tenant}', 'job', '* * * * *', 'UTC', now());
"""

OURS = "c.relnamespace = 'cerniq'::regnamespace AND c.relname <> 'alembic_version'"
TABLES = f"""
SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
    (SELECT array_agg(a.attname::text) FROM pg_attribute AS a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = '' AND NOT a.attisdropped
    ) AS columns
FROM pg_class AS c WHERE {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""


def tenant_of(table: str) -> str:
    """The column that says whose a row is."""
    return "id" if table.startswith("tenants") else "tenant_id"


@pytest.fixture
async def shops(superuser: asyncpg.Connection) -> list[asyncpg.Record]:
    """Two tenants that are equal but for their ids, with a row in every table there is."""
    for tenant in (ONE, TWO):
        await put(superuser, shop("A=10", tenant=tenant))
        ids = {"deal": uid("n1"), "product": uid("A"), "order": uid("o1")}
        await superuser.execute(REST.format(tenant=tenant.id, **ids))
    tables = await superuser.fetch(TABLES)
    for table in tables:
        owners = f"SELECT DISTINCT {tenant_of(table['name'])} FROM {table['name']}"
        found = {row[0] for row in await superuser.fetch(owners)}
        assert found == {ONE.id, TWO.id}, f"give {table['name']} a row in REST"
    return tables


@pytest.fixture
async def app(database: str) -> AsyncIterator[asyncpg.Connection]:
    """The engine's role, at work for the first tenant."""
    connection = await connect(database, settings={"app.tenant": str(ONE.id)})
    yield connection
    await connection.close()


# -- keys -----------------------------------------------------------------------------------


async def test_every_key_and_every_index_is_led_by_the_tenant(superuser):
    rows = await superuser.fetch(
        "SELECT c.relname AS table, i.indexrelid::regclass::text AS name, i.indisprimary,"
        " pg_get_indexdef(i.indexrelid, 1, false) AS first"
        f" FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE {OURS}"
    )
    assert [row["name"] for row in rows if row["first"] != tenant_of(row["table"])] == []
    tables = {row["name"] for row in await superuser.fetch(TABLES)}
    assert tables <= {row["table"] for row in rows if row["indisprimary"]}


async def test_every_foreign_key_is_led_by_the_tenant(superuser):
    rows = await superuser.fetch(
        "SELECT k.conname, a.attname FROM pg_constraint AS k JOIN pg_class AS c"
        " ON c.oid = k.conrelid JOIN pg_attribute AS a"
        f" ON a.attrelid = c.oid AND a.attnum = k.conkey[1] WHERE k.contype = 'f' AND {OURS}"
    )
    assert rows
    assert [row["conname"] for row in rows if row["attname"] != "tenant_id"] == []


async def test_no_index_on_what_every_reservation_changes(superuser):
    rows = await superuser.fetch(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'stock_levels'::regclass"
    )
    changing = re.compile(r"\b(total|reserved|blocked|available|version|updated_at)\b")
    assert rows
    assert [row[0] for row in rows if changing.search(row[0])] == []


async def test_a_new_product_has_a_level_in_the_first_warehouse(app, superuser):
    await put(superuser, shop({}, tenant=replace(ONE, warehouses=("W2", "W1"))))
    await app.execute(
        "INSERT INTO products (tenant_id, id, sku, name) VALUES ($1, $2, 'A', 'a')",
        *(ONE.id, uid("A")),
    )
    (level,) = await app.fetch("SELECT product_id, warehouse, total, version FROM stock_levels")
    assert tuple(level) == (uid("A"), "W2", 0, 0)


# -- figures --------------------------------------------------------------------------------


def level(change: str) -> str:
    return f"UPDATE stock_levels SET version = version + 1, {change}"


# the row that each constraint refuses, made from one that is right
BAD = {
    "tenants_name_check": "UPDATE tenants SET name = ''",
    "tenants_language_check": "UPDATE tenants SET language = 'xx'",
    "tenants_warehouses_check": "UPDATE tenants SET warehouses = '{}'",
    "tenants_max_extensions_check": "UPDATE tenants SET max_extensions = -1",
    "tenants_max_reservation_h_check": "UPDATE tenants SET max_reservation_h = 0",
    "products_sku_check": "UPDATE products SET sku = ''",
    "products_unit_check": "UPDATE products SET unit = 'OZ'",
    "products_status_check": "UPDATE products SET status = 'GONE'",
    "products_price_check": "UPDATE products SET price = -0.0001",
    "products_reorder_point_check": "UPDATE products SET reorder_point = -0.001",
    "products_reorder_quantity_check": "UPDATE products SET reorder_quantity = -0.001",
    "stock_levels_total_check": level("total = -1"),
    "stock_levels_reserved_check": level("reserved = -1"),
    "stock_levels_blocked_check": level("blocked = -1"),
    "stock_levels_available_check": level("reserved = 9, blocked = 1.001"),
    "stock_movements_type_check": "INSERT INTO stock_movements (tenant_id, id, product_id,"
    " warehouse, sku, type, total_delta, reserved_delta, blocked_delta, previous_available,"
    " sequence, created_at) VALUES (gen_random_uuid(), 'm', gen_random_uuid(), 'MAIN', 'A',"
    " 'THEFT', 1, 0, 0, 0, 1, now())",
    "stock_movements_new_available_check": "INSERT INTO stock_movements (tenant_id, id,"
    " product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,"
    " previous_available, sequence, created_at) VALUES (gen_random_uuid(), 'm',"
    " gen_random_uuid(), 'MAIN', 'A', 'SALE', 0, 2, 0, 1, 1, now())",
    "stock_reservations_type_check": "UPDATE stock_reservations SET type = 'FIRM'",
    "stock_reservations_status_check": "UPDATE stock_reservations SET status = 'LOST'",
    "stock_reservations_priority_check": "UPDATE stock_reservations SET priority = 'LOW'",
    "stock_reservations_extensions_check": "UPDATE stock_reservations SET extensions = -1",
    "stock_reservations_check": "UPDATE stock_reservations SET total_reserved = 2.001",
    "stock_reservations_check1": "UPDATE stock_reservations SET released_at = now()",
    "stock_reservation_lines_reserved_check": "UPDATE stock_reservation_lines SET reserved = 0",
    "stock_reservation_lines_consumed_check": "UPDATE stock_reservation_lines SET consumed = -1",
    "stock_reservation_lines_released_check": "UPDATE stock_reservation_lines SET released = -1",
    "stock_reservation_lines_held_check": "UPDATE stock_reservation_lines"
    " SET consumed = 1, released = 1.001",
    "held_for_one": "UPDATE stock_reservations SET order_id = gen_random_uuid()",
    "stock_orders_status_check": "UPDATE stock_orders SET status = 'LOST'",
    "stock_order_lines_quantity_check": "UPDATE stock_order_lines SET quantity = 0",
    "stock_order_lines_reserved_check": "UPDATE stock_order_lines SET reserved = -1",
    "stock_order_lines_deducted_check": "UPDATE stock_order_lines SET deducted = -1, returned = -1",
    "stock_order_lines_released_check": "UPDATE stock_order_lines SET released = -1",
    "stock_order_lines_returned_check": "UPDATE stock_order_lines SET returned = -1",
    "stock_order_lines_check": "UPDATE stock_order_lines SET quantity = 5.999",
    "stock_order_lines_check1": "UPDATE stock_order_lines SET returned = 3.001",
    "jobs_priority_check": "UPDATE jobs SET priority = 1001",
    "jobs_status_check": "UPDATE jobs SET status = 'LOST', finished_at = now()",
    "finished_in_time": "UPDATE jobs SET finished_at = now()",
    "notifications_severity_check": "UPDATE notifications SET severity = 'MILD'",
    "erp_integrations_options_check": "UPDATE erp_integrations SET options = '[]'",
    "erp_integrations_watermark_check": "UPDATE erp_integrations"
    " SET watermark = jsonb_build_object('a', repeat('a', 65536))",
    "erp_integrations_config_encrypted_check": "UPDATE erp_integrations"
    " SET config_encrypted = repeat('a', 131073)::bytea",
    "stock_sync_logs_sync_type_check": "UPDATE stock_sync_logs SET sync_type = 'HALF'",
    "stock_sync_logs_status_check": "UPDATE stock_sync_logs SET status = 'MAYBE'",
    "erp_levels_erp_total_check": "UPDATE erp_levels SET erp_total = -1",
    "erp_levels_local_total_check": "UPDATE erp_levels SET local_total = -1",
    "erp_levels_blocked_check": "UPDATE erp_levels SET blocked = -1",
    "sync_conflicts_reason_check": "UPDATE sync_conflicts SET reason = 'WHY'",
    "sync_conflicts_resolution_check": "UPDATE sync_conflicts SET resolution = 'NONE',"
    " resolved_at = now()",
    "resolved_in_time": "UPDATE sync_conflicts SET resolved_at = now()",
    "erp_subscriptions_subscription_id_check": "UPDATE erp_subscriptions SET subscription_id = ''",
    "erp_subscriptions_url_encrypted_check": "UPDATE erp_subscriptions"
    " SET url_encrypted = repeat('a', 8193)::bytea",
    "renewed_in_time": "UPDATE erp_subscriptions SET renew_at = now() + interval '1 day'",
    "erp_pushes_quantity_check": "UPDATE erp_pushes SET quantity = 0",
    "erp_pushes_state_check": "UPDATE erp_pushes SET state = 'LOST', ended_at = now()",
    "erp_pushes_attempts_check": "UPDATE erp_pushes SET attempts = -1",
    "pushed_in_time": "UPDATE erp_pushes SET ended_at = now()",
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_row_is_refused_by_its_constraint(shops, superuser, name):
    """One row may break several constraints; those named before the one meant are taken away."""
    for _ in range(3):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await superuser.execute(BAD[name])
        told = caught.value.constraint_name
        if told == name:
            return
        await superuser.execute(f"ALTER TABLE {caught.value.table_name} DROP CONSTRAINT {told}")
    pytest.fail(f"{name} did not refuse")


async def test_no_constraint_is_without_its_bad_row(superuser):
    rows = await superuser.fetch(
        "SELECT k.conname FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid"
        f" WHERE k.contype = 'c' AND NOT c.relispartition AND {OURS}"
    )
    assert {row["conname"] for row in rows} == set(BAD)


async def test_a_reservation_is_held_for_a_negotiation_or_an_order(shops, superuser):
    sql = "UPDATE stock_reservations SET negotiation_id = $1, order_id = $2"
    for deal, order in ((None, None), (uid("n1"), uid("o1"))):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await superuser.execute(sql, deal, order)
        assert caught.value.constraint_name == "held_for_one"
    await superuser.execute(sql, None, uid("o1"))
    await superuser.execute(sql, uid("n1"), None)


async def test_a_line_is_of_an_order_of_its_tenant(shops, superuser):
    """Of one that there is, and not of another tenant's."""
    await superuser.execute(
        "INSERT INTO stock_orders (tenant_id, id, status, created_at, updated_at)"
        " VALUES ($1, $2, 'NEW', now(), now())", TWO.id, uid("o2"),
    )  # fmt: skip
    sql = (
        "INSERT INTO stock_order_lines (tenant_id, order_id, line_no, product_id, quantity)"
        " VALUES ($1, $2, 2, $3, 1)"
    )
    for order in (uid("o2"), uid("o3")):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await superuser.execute(sql, ONE.id, order, uid("A"))
    await superuser.execute(sql, TWO.id, uid("o2"), uid("A"))


@pytest.mark.parametrize("status", ["RELEASED", "CONSUMED", "EXPIRED"])
async def test_what_ended_has_the_time_of_its_end(shops, superuser, status):
    sql = "UPDATE stock_reservations SET status = $1"
    with pytest.raises(asyncpg.CheckViolationError):
        await superuser.execute(sql, status)
    await superuser.execute(f"{sql}, released_at = now()", status)


# -- tenants apart --------------------------------------------------------------------------


async def rows_of(superuser: asyncpg.Connection, table: str, tenant: UUID) -> list[Any]:
    sql = f"SELECT * FROM {table} AS t WHERE {tenant_of(table)} = $1 ORDER BY t::text"
    return await superuser.fetch(sql, tenant)


async def allowed(connection: asyncpg.Connection, sql: str, *args: object) -> str | None:
    """What the server did, or None where the role may not do it at all."""
    try:
        return await connection.execute(sql, *args)
    except asyncpg.InsufficientPrivilegeError:
        return None


async def refused(connection: asyncpg.Connection, sql: str) -> bool:
    """Whether the role may not do it, or nobody may."""
    try:
        return await allowed(connection, sql) is None
    except asyncpg.RestrictViolationError:
        return True


async def test_every_table_is_under_forced_row_security(superuser):
    tables = await superuser.fetch(TABLES)
    assert len(tables) >= 15
    assert [row["name"] for row in tables if not (row["enabled"] and row["forced"])] == []
    floors = await superuser.fetch(
        "SELECT tablename FROM pg_policies WHERE schemaname = 'cerniq' AND cmd = 'ALL'"
        " AND permissive = 'RESTRICTIVE' AND 'cerniq_app' = ANY (roles)"
        " AND qual LIKE '%current_tenant()%' AND with_check = qual"
    )
    assert {row["tablename"] for row in floors} == {row["name"] for row in tables}


async def test_no_way_around_the_tables(superuser):
    """Neither a view, nor a function, nor a partition lets the application past the policies."""
    around = await superuser.fetch(
        f"SELECT c.relname FROM pg_class AS c WHERE {OURS} AND ("
        " c.relkind = 'm' OR c.relkind = 'v'"
        "  AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)"
        " OR c.relispartition AND has_table_privilege('cerniq_app', c.oid,"
        "  'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
        " OR c.relkind IN ('r', 'p') AND has_table_privilege('cerniq_app', c.oid,"
        "  'TRUNCATE, REFERENCES, TRIGGER'))"
    )
    assert [row["relname"] for row in around] == []
    definers = await superuser.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'cerniq'::regnamespace AND prosecdef"
    )
    # `next_turn` tells how many turns stand before a job, and nothing of whose
    allowed = {"ensure_movement_partitions", "next_turn"}
    assert {row["proname"] for row in definers} == allowed


async def test_the_application_sees_its_tenant_only(shops, app):
    for table in shops:
        name, tenant = table["name"], tenant_of(table["name"])
        rows = await app.fetch(f"SELECT DISTINCT {tenant} FROM {name}")
        assert [row[0] for row in rows] == [ONE.id], name
    assert {row["tenant_id"] for row in await app.fetch("SELECT * FROM product_stock")} == {ONE.id}


@pytest.mark.parametrize("forget", ["SELECT 1", "SET app.tenant = ''"])
async def test_without_a_tenant_nothing_is_seen(shops, database, forget):
    connection = await connect(database)
    await connection.execute(forget)
    for table in shops:
        assert await connection.fetchval(f"SELECT count(*) FROM {table['name']}") == 0
    await connection.close()


async def test_the_application_changes_no_row_of_another_tenant(shops, app, superuser):
    for table in shops:
        name, tenant = table["name"], tenant_of(table["name"])
        columns = ", ".join(table["columns"])
        copied = ", ".join(f"'{TWO.id}'" if x == tenant else x for x in table["columns"])
        before = await rows_of(superuser, name, TWO.id)
        for sql in (
            f"UPDATE {name} SET {tenant} = {tenant} WHERE {tenant} = '{TWO.id}'",
            f"DELETE FROM {name} WHERE {tenant} = '{TWO.id}'",
        ):
            assert await allowed(app, sql) in {None, "UPDATE 0", "DELETE 0"}, name
        for sql in (
            f"UPDATE {name} SET {tenant} = '{TWO.id}'",
            f"INSERT INTO {name} ({columns}) SELECT {copied} FROM {name}",
        ):
            assert await refused(app, sql), name
        assert await rows_of(superuser, name, TWO.id) == before, name


async def test_the_application_is_nobody_special(app):
    assert await unsafe_role(app) is None
    row = await app.fetchrow(
        "SELECT current_user::text, rolcreaterole OR rolcreatedb OR rolreplication AS may_more,"
        " (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) AS member_of,"
        " has_schema_privilege('cerniq', 'CREATE') AS may_create"
        " FROM pg_roles AS r WHERE rolname = current_user"
    )
    assert tuple(row) == ("cerniq_app", False, 0, False)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE cerniq.mine ()",
        "CREATE SCHEMA mine",
        "CREATE OR REPLACE FUNCTION current_tenant() RETURNS uuid RETURN gen_random_uuid()",
        "ALTER TABLE stock_movements DISABLE TRIGGER ALL",
        "ALTER TABLE stock_levels DISABLE TRIGGER stock_levels_changed",
        "ALTER TABLE products DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE products NO FORCE ROW LEVEL SECURITY",
        "DROP TRIGGER stock_movements_append_only ON stock_movements",
        "DROP POLICY tenant_floor ON products",
        "CREATE POLICY mine ON products USING (true)",
        "SET session_replication_role = replica",
        "SET row_security = off; SELECT * FROM products",
        "TRUNCATE products",
        "DELETE FROM stock_levels",
        "DELETE FROM stock_reservations",
        "DELETE FROM stock_orders",
        "DELETE FROM stock_order_lines",
        "INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'mine')",
        "UPDATE stock_commands SET fingerprint = ''",
        "INSERT INTO stock_movements_default DEFAULT VALUES",
    ],
)
async def test_the_application_may_not(shops, app, sql):
    assert await allowed(app, sql) is None


async def test_only_a_negotiation_without_a_state_is_taken_out(shops, app, superuser):
    for tenant in (ONE, TWO):
        await superuser.execute(
            "INSERT INTO negotiations (tenant_id, id, state) VALUES ($1, $2, '')",
            *(tenant.id, uid("undecided")),
        )
    assert await app.execute("DELETE FROM negotiations") == "DELETE 1"
    left = await superuser.fetch("SELECT tenant_id, state FROM negotiations")
    assert {tuple(row) for row in left} == {
        (ONE.id, "PROPOSAL"), (TWO.id, "PROPOSAL"), (TWO.id, ""),
    }  # fmt: skip
