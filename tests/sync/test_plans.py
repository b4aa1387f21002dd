"""Dry runs: they tell what the run would do, and are applied only to what they have seen."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest
from ulid import ULID

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.rows import Parsed
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.syncing import prune_plans
from cerniq_stock.sync.syncs import Syncs
from tests.sync.conftest import Known, Told, row


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
