"""Products by the thousand: each is looked up by its key, however few there were before."""

from collections.abc import Sequence

import pytest

from cerniq_stock.errors import InvalidInputError
from cerniq_stock.store import catalog
from cerniq_stock.store.catalog import NewProduct, upsert_products
from cerniq_stock.store.database import create_pool

MANY = 6_000
"""More than one statement takes."""


async def read(database: str, superuser, tenant, imports: Sequence[Sequence[NewProduct]]) -> int:
    """Import one after the other on one connection; returns how many index entries were read."""
    async with create_pool(database, "cerniq_app", max_size=1) as pool:
        for products in imports:
            await upsert_products(pool, tenant.id, products)
    # what a connection has counted is told at its end
    counted = "SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname = ANY ($1)"
    return await superuser.fetchval(counted, ["products", "stock_levels"])


def products(many: int, unit: str = "BUC") -> list[NewProduct]:
    return [NewProduct(f"P-{n:05}", "Product", unit=unit) for n in range(many)]


async def test_the_first_products_are_not_compared_with_each_other(database, superuser, tenant):
    imports = [products(1), products(MANY), products(MANY)]
    assert await read(database, superuser, tenant, imports) < 20 * MANY


async def test_plans_that_are_never_made_again_compare_them(
    database, superuser, tenant, monkeypatch
):
    monkeypatch.setattr(catalog, "plan_again", lambda _: False)
    imports = [products(1), products(MANY)]
    assert await read(database, superuser, tenant, imports) > 100 * MANY


async def test_units_are_compared_by_key(database, superuser, tenant):
    imports = [products(1), products(MANY), products(MANY, "KG")]
    assert await read(database, superuser, tenant, imports) < 40 * MANY
    units = await superuser.fetch("SELECT DISTINCT unit FROM products WHERE sku LIKE 'P-%'")
    assert [row["unit"] for row in units] == ["KG"]


async def test_a_unit_in_which_stock_was_moved_stays(database, superuser, tenant):
    wanted = [*products(3), NewProduct("A", "A", unit="KG")]
    async with create_pool(database, "cerniq_app", max_size=1) as pool:
        with pytest.raises(InvalidInputError, match="The unit of A stays BUC"):
            await upsert_products(pool, tenant.id, wanted)
    assert await superuser.fetchval("SELECT count(*) FROM products WHERE sku LIKE 'P-%'") == 0
