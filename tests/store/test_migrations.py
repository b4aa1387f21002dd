"""Every way to the newest schema: from nothing, from each revision, twice, two at once."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from tests.helpers import uid

from cerniq_stock.store import migrate as module
from cerniq_stock.store.database import create_database, drop_database
from cerniq_stock.store.migrate import Revisions, head, migrate, revisions
from cerniq_stock.store.verify import verify

MIGRATIONS = Path(module.__file__).parent / "migrations"
FILES = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))
NUMBERS = [path.name[:4] for path in FILES]

# What a user of each revision may have written, in plain SQL of that time. A statement stands
# under the first revision that knows its tables.
DATA = {
    "0001": """
        INSERT INTO tenants (id, name, warehouses) VALUES ('{tenant}', 'Shop', '{{W1,W2}}');
        INSERT INTO negotiations (tenant_id, id, state) VALUES ('{tenant}', '{deal}', 'PROPOSAL');
    """,
    "0002": """
        INSERT INTO products (tenant_id, id, sku, name) VALUES ('{tenant}', '{product}', 'A', 'a');
        UPDATE stock_levels SET total = 10;
    """,
    "0003": """
        UPDATE stock_levels SET reserved = 4, version = 2;
        INSERT INTO stock_movements
            (tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta,
             blocked_delta, previous_available, sequence, reference_type, reference_id,
             negotiation_id, created_at)
        VALUES ('{tenant}', new_ulid(), '{product}', 'W1', 'A', 'RESERVATION', 0, 4, 0, 10, 2,
                'RESERVATION', 'r1', '{deal}', now());
        INSERT INTO stock_reservations
            (tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
             total_requested, total_reserved, first_expires_at, expires_at, created_at, updated_at)
        VALUES ('{tenant}', 'r1', '{deal}', 'k1', '', 'SOFT', 'ACTIVE', 'NORMAL', 4, 4,
                now() + interval '72 h', now() + interval '72 h', now(), now());
        INSERT INTO stock_reservation_lines
            (tenant_id, reservation_id, line_no, warehouse, product_id, reserved, expires_at)
        SELECT tenant_id, id, 1, 'W1', '{product}', 4, expires_at FROM stock_reservations;
    """,
    "0004": """
        INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted)
        VALUES ('{tenant}', 'ERP', 'name', 'secret');
    """,
}
_numbers = count(1)


@pytest.fixture
async def empty(server: str) -> AsyncIterator[str]:
    """Address of a database in which nothing is."""
    name = f"migrations_{next(_numbers)}"
    yield await create_database(server, name)
    await drop_database(server, name)


@pytest.fixture
async def superuser(empty: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty, server_settings={"search_path": "cerniq"})
    yield connection
    await connection.close()


async def contents(connection: asyncpg.Connection) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'cerniq'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'alembic_version'"
    )
    found = {}
    for (name,) in tables:
        rows = await connection.fetch(f"SELECT * FROM {name} AS t ORDER BY t::text")
        if rows:
            found[name] = [dict(row) for row in rows]
    return found


async def structure(connection: asyncpg.Connection) -> set[tuple[str, ...]]:
    """What the schema is made of, by the words with which it would be made again."""
    rows = await connection.fetch("""
        SELECT attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod)
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE relnamespace = 'cerniq'::regnamespace AND attnum > 0
        UNION ALL
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'cerniq'::regnamespace
        UNION ALL
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'cerniq'
        UNION ALL
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT tablename, policyname, concat_ws(' ', permissive, roles, cmd, qual, with_check)
        FROM pg_policies WHERE schemaname = 'cerniq'
        UNION ALL
        SELECT proname, 'function', md5(pg_get_functiondef(oid))
        FROM pg_proc WHERE pronamespace = 'cerniq'::regnamespace
        UNION ALL
        SELECT oid::regclass::text, 'access', coalesce(relacl::text, '') || relowner::regrole
        FROM pg_class WHERE relnamespace = 'cerniq'::regnamespace
    """)
    return {tuple(row) for row in rows}


# -- the files ------------------------------------------------------------------------------


def test_the_chain_is_linear_and_without_gaps():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    assert [script.revision for script in scripts] == NUMBERS
    assert [script.down_revision for script in scripts] == [None, *NUMBERS[:-1]]
    assert [int(number) for number in NUMBERS] == list(range(1, len(NUMBERS) + 1))
    assert head() == NUMBERS[-1]


def test_every_revision_has_its_sql_and_no_way_back():
    sql = {path.stem for path in MIGRATIONS.glob("*.sql")} - {"roles"}
    assert sql == {path.stem for path in FILES}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert f'run_sql_file("{path.stem}.sql")' in text
        assert "downgrade" not in text


# -- the ways -------------------------------------------------------------------------------


async def test_revisions_tells_what_is_and_changes_nothing(empty, superuser):
    assert await revisions(empty) == Revisions(None, head())
    assert not (await revisions(empty)).up_to_date
    assert await superuser.fetchval("SELECT to_regnamespace('cerniq')") is None
    for number in NUMBERS:
        await migrate(empty, target=number)
        assert await revisions(empty) == Revisions(number, head())
        assert (await revisions(empty)).up_to_date == (number == head())


async def test_from_empty_to_head(empty, superuser):
    assert await migrate(empty) == (None, head())
    assert await contents(superuser) == {}
    assert (await verify(empty)).ok
    owners = await superuser.fetch(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'cerniq'::regnamespace AND relname NOT LIKE 'alembic_version%'"
    )
    assert [row[0] for row in owners] == ["cerniq_owner"]


@pytest.mark.parametrize("number", NUMBERS[:-1])
async def test_from_each_revision_to_head_with_data(empty, superuser, number):
    await migrate(empty, target=number)
    for first, sql in DATA.items():
        if first <= number:
            words = {"tenant": uid("tenant"), "deal": uid("n1"), "product": uid("A")}
            await superuser.execute(sql.format(**words))
    before = await contents(superuser)
    assert len(before) == {"0001": 2, "0002": 5, "0003": 7}.get(number, 8)

    assert await migrate(empty) == (number, head())

    # what came with a later revision is empty; what was there has all it had
    after = await contents(superuser)
    assert after.keys() == before.keys()
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert kept == rows, table
    report = await verify(empty)
    assert report.ok, report.differences


@pytest.mark.parametrize("number", NUMBERS[:-1])
async def test_every_way_ends_at_the_same_schema(empty, superuser, database, number):
    await migrate(empty, target=number)
    await migrate(empty)
    fresh = await asyncpg.connect(database, server_settings={"search_path": "cerniq"})
    assert await structure(superuser) == await structure(fresh)
    await fresh.close()


@pytest.mark.parametrize("target", ["head", NUMBERS[-1]])
async def test_a_second_run_changes_nothing(empty, superuser, target):
    files = "SELECT oid, relname, relfilenode FROM pg_class ORDER BY oid"
    await migrate(empty)
    before = await structure(superuser), await superuser.fetch(files)
    assert await migrate(empty, target=target) == (head(), head())
    assert (await structure(superuser), await superuser.fetch(files)) == before


async def test_two_at_once_both_succeed(empty, superuser):
    ends = await asyncio.gather(migrate(empty), migrate(empty), migrate(empty))
    assert [after for _, after in ends] == [head()] * 3
    assert (await verify(empty)).ok
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = ("
    database = "SELECT oid FROM pg_database WHERE datname = current_database())"
    assert await superuser.fetchval(locks + database) == 0


async def test_a_revision_that_fails_leaves_the_one_before(empty, superuser):
    await migrate(empty, target="0002")
    await superuser.execute("CREATE TABLE stock_commands ()")
    before = await structure(superuser)
    with pytest.raises(asyncpg.DuplicateTableError, match="stock_commands"):
        await migrate(empty)
    assert await revisions(empty) == Revisions("0002", head())
    assert await structure(superuser) == before
    await superuser.execute("DROP TABLE stock_commands")
    assert await migrate(empty) == ("0002", head())


async def test_who_has_pushes_switched_on_already_has_them_from_then_on(empty, superuser):
    await migrate(empty, target="0016")
    await superuser.execute(f"INSERT INTO tenants (id, name) VALUES ('{uid('tenant')}', 'Shop')")
    for system, options in (("ON", '{"push": true}'), ("OFF", '{"push": false}'), ("NEVER", "{}")):
        await superuser.execute(
            "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted, options)"
            " VALUES ($1, $2, 'x', '', $3)",
            *(uid("tenant"), system, options),
        )
    began = await superuser.fetchval("SELECT now()")
    await migrate(empty)
    since = await superuser.fetch("SELECT erp_system, lower(push_times) FROM erp_integrations")
    found = dict(row for row in since if row[1] is not None)
    assert found.keys() == {"ON"}
    assert found["ON"] > began
