"""Dry runs: they tell what the run would do, and are applied only to what they have seen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest
from ulid import ULID

from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.rows import Parsed
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.syncing import prune_plans
from cerniq_stock.sync.syncs import Syncs
from tests.sync.conftest import Known, Told, row
from tests.sync.test_run import sell


@pytest.fixture
async def syncs(shop):
    async with create_pool(shop.stock.dsn, "cerniq_app", max_size=2) as pool:
        yield Syncs(shop.stock.dsn, pool, Known(shop.integration))


def told(changes) -> set[tuple]:
    """Changes without ids, which a dry run cannot know of what it would make."""
    return {
        (x.sku, x.warehouse, x.field, x.previous_value, x.new_value, x.change_type) for x in changes
    }


async def test_products_that_would_be_made_are_in_the_plan(shop, syncs):
    making = shop.having(create_unknown=True)
    figures = (
        "A=5",
        row("NEW=7", price=Decimal("2.5"), currency="EUR", status=ProductStatus.INACTIVE),
        row("NEW@DEPOT=2", price=Decimal("2.5"), currency="EUR", status=ProductStatus.INACTIVE),
    )
    dry = await making.sync(*figures, dry=True)
    assert dry.statistics.products_created == 1
    assert await shop.operator.fetchval("SELECT count(*) FROM products WHERE sku = 'NEW'") == 0
    done = await syncs.apply(shop.tenant, dry.sync_id)
    assert told(done.changes) == told(dry.changes)
    assert (done.errors, done.statistics.products_created) == ((), 1)
    assert await shop.levels() == {"A@MAIN": "5 0 0", "NEW@MAIN": "7 0 0", "NEW@DEPOT": "2 0 0"}
    made = await shop.operator.fetchrow("SELECT * FROM products WHERE sku = 'NEW'")
    assert (made["price"], made["currency"], made["status"]) == (Decimal("2.5"), "EUR", "INACTIVE")
    again = await making.sync(*figures)
    assert (again.changes, again.success) == ((), True)
    assert (await shop.stock.verify()).ok


async def test_prices_that_have_changed_since_are_not_overwritten(shop, syncs):
    dry = await shop.sync(row("A=5", price=Decimal(3), currency="RON"), dry=True)
    owner = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    await owner.execute("UPDATE products SET price = 9 WHERE sku = 'A'")
    await owner.close()
    with pytest.raises(InvalidInputError, match="moved since, of A"):
        await syncs.apply(shop.tenant, dry.sync_id)
    assert await shop.levels() == {}


async def test_a_dry_run_that_failed_is_no_plan(shop, syncs):
    source = Told([Parsed((row("A=5"),))], fails=InvalidInputError("page", "cut off"))
    with pytest.raises(InvalidInputError):
        await shop.sync(source=source, dry=True)
    (run,) = await syncs.review.runs(shop.tenant)
    assert (run.status, run.dry_run) == ("FAILED", True)
    with pytest.raises(NotFoundError):
        await syncs.apply(shop.tenant, run.id)


async def test_plans_end(shop, syncs):
    dry = await shop.sync("A=5", dry=True)
    await prune_plans(shop.operator)
    assert await shop.operator.fetchval("SELECT count(*) FROM sync_plans") == 1
    owner = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    old = str(ULID.from_datetime(datetime.now(UTC) - timedelta(days=30)))
    await owner.execute("UPDATE sync_plans SET sync_id = $1", old)
    await owner.execute(
        "UPDATE stock_sync_logs SET id = $2, completed_at = now() - interval '30 days'"
        " WHERE id = $1",
        *(dry.sync_id, old),
    )
    with pytest.raises(InvalidInputError, match="long ago"):
        await syncs.apply(shop.tenant, old)
    await prune_plans(shop.operator)
    assert await owner.fetchval("SELECT count(*) FROM sync_plans") == 0
    await owner.close()


async def test_applying_learns_what_a_run_would_have_learned(shop, syncs):
    """Of a level that agreed, too: else the next sync would put back what was sold since."""
    await shop.stock.receive(shop.tenant, "A", 10)
    dry = await shop.sync("A=10", "B=1", dry=True)
    assert {x.sku for x in dry.changes} == {"B"}
    await syncs.apply(shop.tenant, dry.sync_id)
    await sell(shop, "A", 3)
    await shop.sync("A=10", "B=1")
    assert (await shop.levels())["A@MAIN"] == "7 0 0"


async def test_another_currency_alone_is_applied(shop, syncs):
    await shop.sync(row("A=1", price=Decimal(10), currency="RON"))
    dry = await shop.sync(row("A=1", price=Decimal(10), currency="EUR"), dry=True)
    done = await syncs.apply(shop.tenant, dry.sync_id)
    assert [(x.field, x.new_value) for x in done.changes] == [("currency", "EUR")]
    assert told(done.changes) == told(dry.changes)


async def test_conflicts_of_a_dry_run_are_kept_when_it_is_applied(shop, syncs):
    await shop.sync("A=10", "B=10")
    await shop.stock.reserve(shop.tenant, shop.negotiation, [Item("A", 8)], type="HARD")
    dry = await shop.sync("A=5", "B=11", dry=True)
    assert await shop.operator.fetchval("SELECT count(*) FROM sync_conflicts") == 0
    done = await syncs.apply(shop.tenant, dry.sync_id)
    assert done.conflicts == dry.conflicts
    (kept,) = await syncs.review.conflicts(shop.tenant)
    assert (kept.sku, kept.reason, kept.erp_value) == ("A", "SHORT", 5)


@pytest.mark.parametrize("figure", ["NEW=-3/-3", "NEW=2/-1", "NEW=1.5"])
async def test_products_that_would_be_made_are_decided_as_if_they_were(shop, syncs, figure):
    making = shop.having(create_unknown=True)
    dry = await making.sync(figure, dry=True)
    assert await shop.operator.fetchval("SELECT count(*) FROM products WHERE sku = 'NEW'") == 0
    real = await making.sync(figure)
    assert told(dry.changes) == told(real.changes)
    for name in ("errors", "warnings", "conflicts", "statistics"):
        assert getattr(dry, name) == getattr(real, name), name


async def test_the_plan_of_an_integration_that_was_removed_is_not_applied(shop, syncs):
    dry = await shop.sync("A=5", dry=True)
    successor = Known(replace(shop.integration, id=uuid4()))
    syncs = Syncs(shop.stock.dsn, syncs._app, successor)
    with pytest.raises(InvalidInputError, match="another integration"):
        await syncs.apply(shop.tenant, dry.sync_id)
