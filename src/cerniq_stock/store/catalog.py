"""Tenants and products: written seldom, straight through SQL."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock import validate
from cerniq_stock.domain.messages import LANGUAGES
from cerniq_stock.domain.model import ProductStatus, Unit
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.store.database import as_tenant, plan_again

_PRODUCTS_A_STATEMENT = 5_000
_MOST = 32_000
_PRICE_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A merchant to be made. `warehouses` stand in the order in which stock is taken.

    A reservation may be extended `max_extensions` times and last `max_reservation_h` hours in all.
    """

    name: str
    id: UUID = field(default_factory=uuid4)
    language: str = "ro"
    warehouses: tuple[str, ...] = ("MAIN",)
    max_extensions: int = 3
    max_reservation_h: int = 336


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to be inserted, or updated where its SKU exists (the id is kept then)."""

    sku: str
    name: str
    id: UUID | None = None
    unit: Unit | str = Unit.BUC
    status: ProductStatus | str = ProductStatus.ACTIVE
    price: Decimal | None = None
    currency: str = "RON"
    reorder_point: Decimal = Decimal(10)
    reorder_quantity: Decimal = Decimal(100)
    expected_restock_date: date | None = None


async def insert_tenant(operator: asyncpg.Pool, tenant: NewTenant) -> None:
    """Make a tenant. Raises InvalidInputError for bad values or a taken id."""
    if tenant.language not in LANGUAGES:
        raise InvalidInputError("language", f"language must be one of {sorted(LANGUAGES)}")
    if not validate.uuid("id", tenant.id).int:
        raise InvalidInputError("id", "The id of zeros is the platform's own")
    if isinstance(tenant.warehouses, str):
        raise InvalidInputError("warehouses", "warehouses must be a list of names")
    names = [validate.text("warehouse", name, most=50) for name in tenant.warehouses]
    if not names or len(set(names)) != len(names):
        raise InvalidInputError("warehouses", "name at least one warehouse, each once")
    if not 0 <= tenant.max_extensions <= _MOST:
        raise InvalidInputError("maxExtensions", f"maxExtensions must be from 0 to {_MOST}")
    if not 1 <= tenant.max_reservation_h <= _MOST:
        raise InvalidInputError("maxReservationH", f"maxReservationH must be from 1 to {_MOST}")
    try:
        await operator.execute(
            "INSERT INTO tenants"
            " (id, name, language, warehouses, max_extensions, max_reservation_h)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            validate.uuid("tenantId", tenant.id),
            validate.text("name", tenant.name, most=100),
            tenant.language,
            names,
            tenant.max_extensions,
            tenant.max_reservation_h,
        )
    except asyncpg.UniqueViolationError:
        raise InvalidInputError("tenantId", f"Tenant {tenant.id} exists already") from None


async def upsert_products(
    app: asyncpg.Pool, tenant_id: UUID, products: Sequence[NewProduct]
) -> int:
    """Insert or update by SKU, all or none; returns how many are new."""
    rows = [_checked(product) for product in products]
    skus = [row[1] for row in rows]
    if len(set(skus)) != len(skus):
        twice = next(sku for sku in skus if skus.count(sku) > 1)
        raise InvalidInputError("sku", f"SKU {twice} stands twice in the list")
    rows.sort(key=lambda row: row[1])
    made = 0
    async with as_tenant(app, tenant_id) as connection:
        for use, start in enumerate(range(0, len(rows), _PRODUCTS_A_STATEMENT), 1):
            chunk = rows[start : start + _PRODUCTS_A_STATEMENT]
            if plan_again(use):
                # Above all the foreign key's check of each first level: planned while there were
                # hardly any products, it reads all of the tenant's for every new one.
                await connection.execute("DISCARD PLANS")
            await _refuse_new_units(connection, tenant_id, chunk)
            try:
                made += await connection.fetchval(_UPSERT, tenant_id, *zip(*chunk, strict=True))
            except asyncpg.UniqueViolationError as error:
                raise InvalidInputError(
                    "productId", f"A product id is another product's: {error.detail}"
                ) from None
    return made


def _checked(product: NewProduct) -> tuple[Any, ...]:
    price = product.price
    if price is not None and not _usable_price(price):
        raise InvalidInputError(
            "price", f"price of {product.sku} is not a number of four places: {price}"
        )
    restock = product.expected_restock_date
    if restock is not None and type(restock) is not date:
        raise InvalidInputError(
            "expectedRestockDate", f"restock date of {product.sku} is not a date: {restock!r}"
        )
    points = [
        validate.number(name, value)
        for name, value in (
            ("reorderPoint", product.reorder_point),
            ("reorderQuantity", product.reorder_quantity),
        )
    ]
    if min(points) < 0:
        raise InvalidInputError("reorderPoint", f"reorder point of {product.sku} is negative")
    return (
        uuid4() if product.id is None else validate.uuid("productId", product.id),
        validate.text("sku", product.sku, most=validate.MAX_SKU),
        validate.text("name", product.name, most=200),
        validate.choice("unit", Unit, product.unit),
        validate.choice("status", ProductStatus, product.status),
        price,
        validate.text("currency", product.currency, most=3),
        *points,
        restock,
    )


def _usable_price(price: Decimal) -> bool:
    return (
        isinstance(price, Decimal)
        and price.is_finite()
        and 0 <= price < Decimal("1e10")
        and price.quantize(_PRICE_PLACES) == price
    )


async def _refuse_new_units(
    connection: Any, tenant_id: UUID, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Figures in the old unit would silently mean something else.

    The levels are locked first, in the engine's order, so that no first movement slips in between.
    """
    asked = [row[1] for row in rows], [row[3] for row in rows]
    changed = [row["id"] for row in await connection.fetch(_NEW_UNITS, tenant_id, *asked)]
    if not changed:
        return
    await connection.execute(_LOCK_LEVELS, tenant_id, changed)
    row = await connection.fetchrow(_FIRST_MOVED, tenant_id, changed)
    if row is not None:
        raise InvalidInputError(
            "unit", f"The unit of {row['sku']} stays {row['unit']}: its stock was moved in it"
        )


# LIMIT and LATERAL: each is looked up by its key. A join planned while there were no products yet
# would compare each with all.
_NEW_UNITS = """
SELECT p.id FROM unnest($2::text[], $3::text[]) AS q (sku, unit) CROSS JOIN LATERAL (
    SELECT id, unit FROM products WHERE tenant_id = $1 AND sku = q.sku LIMIT 1
) AS p
WHERE p.unit <> q.unit
"""
_LOCK_LEVELS = """
SELECT FROM stock_levels WHERE tenant_id = $1 AND product_id = ANY ($2::uuid[])
ORDER BY product_id, warehouse FOR NO KEY UPDATE
"""
_FIRST_MOVED = """
SELECT p.sku, p.unit FROM unnest($2::uuid[]) AS q (id) CROSS JOIN LATERAL (
    SELECT 1 FROM stock_movements WHERE tenant_id = $1 AND product_id = q.id LIMIT 1
) AS m
JOIN products AS p ON p.tenant_id = $1 AND p.id = q.id LIMIT 1
"""
_UPSERT = """
WITH written AS (
    INSERT INTO products AS p (
        tenant_id, id, sku, name, unit, status, price, currency, reorder_point, reorder_quantity,
        expected_restock_date
    )
    SELECT $1, x.* FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[], $8::text[],
        $9::numeric[], $10::numeric[], $11::date[]
    ) AS x
    ON CONFLICT (tenant_id, sku) DO UPDATE SET
        name = excluded.name, unit = excluded.unit, status = excluded.status,
        price = excluded.price, currency = excluded.currency,
        reorder_point = excluded.reorder_point, reorder_quantity = excluded.reorder_quantity,
        expected_restock_date = excluded.expected_restock_date, updated_at = statement_timestamp()
    RETURNING xmax = 0 AS made
)
SELECT count(*) FILTER (WHERE made) FROM written
"""
