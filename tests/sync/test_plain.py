"""What one statement a chunk does, against the pure core: two shops with the same history.

In one of them the plain path is shut, so that every level is decided by `domain.sync.decide`. Both
must end alike: levels, movements, what is remembered, messages, conflicts, and what the run tells.
"""

import asyncio
import json
import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.rows import ErpRow, Parsed
from cerniq_stock.store import staging
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.staging import Lane
from tests.sync.conftest import Told

PRODUCTS = 60
UNITS = ("BUC", "KG")
STATES = ("ACTIVE", "INACTIVE")
COMPARED = {
    "levels": "SELECT p.sku, warehouse, total, reserved, blocked, version FROM stock_levels"
    " AS x JOIN products AS p ON p.tenant_id = x.tenant_id AND p.id = x.product_id"
    " WHERE x.tenant_id = $1 AND x.version > 0",
    "movements": "SELECT sku, warehouse, sequence, type, total_delta, reserved_delta,"
    " blocked_delta, previous_available, reference_type,"
    " CASE WHEN type = 'SYNC' THEN created_by END"
    " FROM stock_movements WHERE tenant_id = $1",
    "remembered": "SELECT p.sku, warehouse, erp_total, local_total, agreed_total, pending, blocked"
    " FROM erp_levels AS x JOIN products AS p ON p.tenant_id = x.tenant_id AND p.id = x.product_id"
    " WHERE x.tenant_id = $1",
    # of a product whose levels both change, what is plain comes first: nothing is said then of a
    # fall that a rise elsewhere makes good
    "messages": "SELECT type, title, regexp_replace(message, '[0-9A-Z]{26}', '')"
    " FROM notifications WHERE tenant_id = $1"
    " AND (type <> 'LOW_STOCK' OR substring(title FROM '[0-9]+$')::int % 3 <> 0)",
    "conflicts": "SELECT sku, warehouse, reason, local_value, erp_value, erp_available,"
    " last_agreed, resolution FROM sync_conflicts WHERE tenant_id = $1",
    "reservations": "SELECT status, total_reserved, count(*) FROM stock_reservations"
    " WHERE tenant_id = $1 GROUP BY status, total_reserved",
    "plan": "SELECT sku, warehouse, version, erp_total, erp_available FROM sync_plans"
    " WHERE tenant_id = $1",
}
MUTANTS = {
    "less than is held": ("erp >= reserved + own + erps", "true"),
    "more than fits is committed": ("erp >= reserved + own + erps", "erp >= reserved"),
    "what was sold here is forgotten": ("pending + total - local_total = 0 AND ", ""),
    "nobody is told of low stock": ("erp - own - erps >= total - blocked", "true"),
    "our own blocks go": ("coalesce(l.blocked, 0) - coalesce(c.blocked, 0)", "0"),
    "a version too few": ("version = d.version + 1", "version = greatest(d.version, 1)"),
    "what is remembered is not the ERP's": (
        "agreed_total = erp, pending",
        "agreed_total = 0, pending",
    ),
    "what is learned is not the ERP's": (
        "warehouse, erp, erp, erp, 0, erps, $9 FROM news",
        "warehouse, erp, erp, 0, 0, erps, $9 FROM news",
    ),
    "what is blocked is not remembered": ("blocked = erps,", "blocked = 0,"),
    "movements without a cause": ("'SYNC', $5, $10", "NULL, $5, $10"),
}


async def a_shop(shop, seed: int):
    """A tenant with a history: synced once, reserved, sold, blocked, by chance but repeatably."""
    chance, tenant = random.Random(seed), uuid4()
    await shop.stock.create_tenant(NewTenant("Shop", id=tenant, warehouses=("MAIN", "DEPOT")))
    skus = [f"P-{n}" for n in range(PRODUCTS)]
    await shop.stock.import_products(
        tenant,
        [
            NewProduct(sku, sku, unit=UNITS[n % 2], reorder_point=5, status=STATES[n % 5 == 0])
            for n, sku in enumerate(skus)
        ],
    )
    owner = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    await owner.execute(
        "INSERT INTO erp_integrations (tenant_id, id, erp_system, name, config_encrypted)"
        " VALUES ($1, $2, 'SAGA', 'SAGA', '')",
        *(tenant, shop.integration.id),
    )
    await owner.close()
    mine = replace(shop, tenant=tenant, integration=replace(shop.integration, tenant_id=tenant))
    await mine.sync(source=figures(chance, skus), force=True)
    held = []
    for _ in range(PRODUCTS):
        sku = chance.choice(skus)
        match chance.randrange(4):
            case 0 | 1:
                kind, quantity = chance.choice(["SOFT", "HARD"]), chance.randint(1, 9)
                asked = [Item(sku, quantity)]
                made = await shop.stock.reserve(
                    tenant, await negotiation(shop, tenant), asked, type=kind
                )
                held.append(made.reservation_id)
            case 2:
                await shop.stock.adjust(tenant, sku, blocked=1)
            case 3 if held:
                await shop.stock.release(
                    tenant,
                    reservation_id=held.pop(),
                    reason=chance.choice(["CONSUMED", "CANCELLED"]),
                )
    return mine, figures(chance, skus)


async def negotiation(shop, tenant):
    id_ = uuid4()
    await shop.stock.set_negotiation(tenant, id_, "PROPOSAL")
    return id_


def figures(chance: random.Random, skus: list[str]) -> Told:
    """Most products, in one warehouse or two; some with what is available, some strange."""
    rows = []
    for n, sku in enumerate(skus):
        for warehouse in ("MAIN", "DEPOT")[: 1 if n % 3 else 2]:
            if chance.random() < 0.2:
                continue
            total = Decimal(chance.choice([0, 3, 5, 6, 10, 10, 10, 20, -1]))
            if chance.random() < 0.1:
                total += Decimal("0.5")
            available = None if chance.random() < 0.5 else total - chance.choice([-1, 0, 1, 2])
            rows.append(ErpRow(sku, total, available, warehouse=warehouse))
    return Told([Parsed(tuple(rows))])


async def ended(shop, source: Told, strategy: Strategy, **asked):
    """Sync, and tell all that can be seen of it; how much was plain."""
    result = await shop.by(strategy).sync(source=source, **asked)
    seen = {
        name: sorted(map(repr, map(tuple, await shop.operator.fetch(sql, shop.tenant))))
        for name, sql in COMPARED.items()
    }
    seen["statistics"] = repr(result.statistics)
    seen["counts"] = repr((result.changes_count, result.success))
    for name in ("errors", "warnings", "conflicts"):
        seen[f"told {name}"] = sorted(repr(x) for x in getattr(result, name))
    return seen


async def both(shop, monkeypatch, seed: int, strategy: Strategy, **asked):
    decided = []
    apply = Lane.apply_plain

    async def counted(self, *what, told):
        rows = await apply(self, *what, told=told)
        decided.append(rows[0]["decided"])
        return rows

    monkeypatch.setattr(Lane, "apply_plain", counted)
    mine, source = await a_shop(shop, seed)
    decided.clear()
    plain = await ended(mine, source, strategy, **asked)
    number = sum(decided)

    async def shut(self, *what, told):
        await self.connection.execute("UPDATE candidates SET plain = false")
        return await apply(self, *what, told=told)

    monkeypatch.setattr(Lane, "apply_plain", shut)
    mine, source = await a_shop(shop, seed)
    return plain, await ended(mine, source, strategy, **asked), number


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("asked", [{}, {"force": True}, {"dry": True}], ids=["", "force", "dry"])
async def test_both_ways_end_alike(shop, monkeypatch, strategy, asked):
    seed = list(Strategy).index(strategy)
    plain, one_by_one, number = await both(shop, monkeypatch, seed, strategy, **asked)
    assert number > PRODUCTS / 3, "the plain path was taken"
    for name, seen in plain.items():
        assert seen == one_by_one[name], name
    assert (await shop.stock.verify()).ok


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_ends_otherwise(shop, monkeypatch, name):
    right, wrong = MUTANTS[name]
    statement = staging.SQL["apply_plain"]
    assert right in statement
    for seed in range(5):
        with monkeypatch.context() as patched:
            patched.setitem(staging.SQL, "apply_plain", statement.replace(right, wrong))
            try:
                plain, one_by_one, _ = await both(shop, patched, seed, Strategy.ERP_WINS)
            except Exception:  # noqa: BLE001 - the database or an assertion has noticed
                return
            if plain != one_by_one:
                return
    pytest.fail("nobody noticed")


@pytest.mark.parametrize("locked", [True, False], ids=["", "control: without the lock"])
async def test_what_commits_meanwhile_is_counted(shop, monkeypatch, locked):
    """Somebody changes the level and has not committed when the sync comes to it."""
    if not locked:
        blind = staging.SQL["lock_candidates"].replace("FOR NO KEY UPDATE", "")
        monkeypatch.setitem(staging.SQL, "lock_candidates", blind)
    await shop.sync("A=50", "B=50")
    other = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    await other.execute("BEGIN; UPDATE stock_levels SET total = total + 3 WHERE total = 50")
    run = asyncio.create_task(shop.sync("A=90", "B=80", force=True))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while not await other.fetchval(waiting):
        assert not run.done(), run.result()
    await other.execute("COMMIT")
    await other.close()
    if not locked:  # what was to be updated is not where it was seen
        with pytest.raises(AssertionError, match="written"):
            await run
        return
    await run
    assert await shop.levels() == {"A@MAIN": "90 0 0", "B@MAIN": "80 0 0"}
    assert (await shop.stock.verify()).ok


async def test_rows_are_found_by_their_keys_whatever_the_statistics_say(shop, monkeypatch):
    """Tables that were never analysed, or whose statistics are of another tenant."""
    explained = []
    apply = Lane.apply_plain

    async def explain(self, how, after, until, *, told):
        now = datetime.now(UTC)
        plan = await self.connection.fetchval(
            "EXPLAIN (FORMAT JSON) " + staging.SQL["apply_plain"],
            *(how.tenant_id, after, until, how.integration_id, how.sync_id),
            *(how.force, how.dry, [""], now, how.by, told, 2, self.number),
        )
        explained.append(json.loads(plan))
        return await apply(self, how, after, until, told=told)

    monkeypatch.setattr(Lane, "apply_plain", explain)
    await shop.sync("A=50", "B=50")
    owner = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    await owner.execute("ANALYZE")  # of two rows, and both of this tenant
    await owner.close()
    await shop.sync("A=51", "B=51")
    scans = [node for plan in explained for node in nodes(plan[0]["Plan"])]
    keyed = [x for x in scans if x.get("Index Name") in ("stock_levels_pkey", "erp_levels_pkey")]
    assert len(keyed) >= 2 * len(explained)
    for node in scans:
        if node.get("Relation Name") in ("stock_levels", "erp_levels", "candidates"):
            assert node["Node Type"] in ("Index Scan", "Tid Scan", "ModifyTable"), node
    for node in keyed:
        assert {"product_id", "warehouse"} <= set(re.findall(r"\w+", node["Index Cond"])), node


def nodes(plan):
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
