"""Fill a scratch database with SQL, set by set, as the engine would have written it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from uuid import UUID

import asyncpg

from cerniq_stock.bench.scratch import tidy
from cerniq_stock.bench.workload import Plan, Town, make_town
from cerniq_stock.store.database import connect

MOVEMENTS_A_STATEMENT = 250_000
FILLERS = 2


async def fill(dsn: str, plan: Plan) -> Town:
    """Make tenants, products with opening stock, and a negotiation for each caller."""
    town = make_town(plan)
    await _insert_tenants(dsn, town)
    negotiations: dict[UUID, list[UUID]] = {}
    for seat in (seat for seats in town.seats for seat in seats):
        negotiations.setdefault(seat.tenant_id, []).append(seat.negotiation_id)
    async with _filler(dsn) as connection:
        for tenant_id in town.tenants:
            async with _tenant(connection, tenant_id):
                await connection.execute(_PRODUCTS, tenant_id, plan.products_per_tenant)
                await connection.execute(_OPENING, tenant_id, plan.opening_units)
                await connection.execute(_NEGOTIATIONS, tenant_id, negotiations.get(tenant_id, []))
    await tidy(dsn)
    return town


async def fill_expired(dsn: str, tenant_id: UUID, count: int) -> None:
    """Add reservations of one line that expired an hour ago, spread evenly over the products."""
    async with _filler(dsn) as connection, _tenant(connection, tenant_id):
        await connection.execute(_EXPIRED, tenant_id, count)
    await tidy(dsn)


async def fill_history(
    dsn: str, town: Town, sales_per_product: int, progress: Callable[[int], None]
) -> None:
    """Give each product so many sold reservations (two movements each) and one that is live."""
    movements_each = 2 * sales_per_product + 1
    step = max(MOVEMENTS_A_STATEMENT // movements_each, 1)
    products = range(0, town.plan.products_per_tenant, step)
    left = iter([(tenant_id, first) for tenant_id in town.tenants for first in products])
    done = count(1)

    async def work() -> None:
        async with _filler(dsn) as connection:
            for tenant_id, first in left:
                async with _tenant(connection, tenant_id):
                    await connection.execute(
                        _HISTORY, tenant_id, sales_per_product, first, first + step
                    )
                progress(next(done) * step * movements_each)

    async with asyncio.TaskGroup() as fillers:
        for _ in range(FILLERS):
            fillers.create_task(work())
    await tidy(dsn)


async def _insert_tenants(dsn: str, town: Town) -> None:
    connection = await connect(dsn, "cerniq_operator")
    try:
        await connection.execute(
            "INSERT INTO tenants (id, name) SELECT id, 'Bench ' || number"
            " FROM unnest($1::uuid[]) WITH ORDINALITY AS t (id, number)",
            town.tenants,
        )
    finally:
        await connection.close()


@asynccontextmanager
async def _filler(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the engine's role whose statements may take long and be planned freely."""
    free = {"statement_timeout": "0", "plan_cache_mode": "auto", "work_mem": "256MB"}
    connection = await connect(dsn, settings=free)
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def _tenant(connection: asyncpg.Connection, tenant_id: UUID) -> AsyncIterator[None]:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL app.tenant = '{tenant_id}'")
        yield


_PRODUCTS = """
INSERT INTO products (tenant_id, id, sku, name, reorder_point)
SELECT
    $1, gen_random_uuid(), 'SKU-' || lpad(n::text, greatest(5, length(n::text)), '0'),
    'Product ' || n, 0
FROM generate_series(1, $2::integer) AS n
"""

_OPENING = """
WITH opened AS (
    UPDATE stock_levels SET total = $2::bigint, version = 1 WHERE tenant_id = $1
    RETURNING product_id, warehouse
)
INSERT INTO stock_movements (
    tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,
    previous_available, sequence, notes, created_at
)
SELECT
    $1, 'M0' || lpad((row_number() OVER (ORDER BY p.sku))::text, 24, '0'), o.product_id,
    o.warehouse, p.sku, 'PURCHASE', $2::bigint, 0, 0, 0, 1, 'opening stock', now()
FROM opened AS o JOIN products AS p ON p.tenant_id = $1 AND p.id = o.product_id
"""

_NEGOTIATIONS = """
INSERT INTO negotiations (tenant_id, id, state) SELECT $1, unnest($2::uuid[]), 'PROPOSAL'
"""

# One product after the other, round and round: reservation n is the n / levels-th of its product.
_EXPIRED = """
WITH level AS MATERIALIZED (
    SELECT
        row_number() OVER (ORDER BY s.product_id) - 1 AS place, count(*) OVER () AS levels,
        s.product_id, s.warehouse, p.sku, s.available, s.version
    FROM stock_levels AS s JOIN products AS p ON p.tenant_id = $1 AND p.id = s.product_id
    WHERE s.tenant_id = $1
), hold AS MATERIALIZED (
    SELECT
        'E0' || lpad(n::text, 24, '0') AS id, 'M1' || lpad(n::text, 24, '0') AS movement_id,
        l.product_id, l.warehouse, l.sku, l.available - n / l.levels AS before,
        l.version + n / l.levels + 1 AS sequence, negotiation_id
    FROM generate_series(0, $2::integer - 1) AS n
    CROSS JOIN (SELECT min(id::text)::uuid AS negotiation_id FROM negotiations) AS any_one
    JOIN level AS l ON l.place = n % l.levels
), headers AS (
    INSERT INTO stock_reservations (
        tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
        items_json, total_requested, total_reserved, first_expires_at, expires_at, released_at,
        release_reason, created_at, updated_at
    )
    SELECT
        $1, id, negotiation_id, id, decode(md5(id), 'hex'), 'SOFT', 'ACTIVE', 'NORMAL',
        jsonb_build_array(jsonb_build_object(
            'sku', sku, 'productId', product_id, 'requestedQuantity', 1, 'reservedQuantity', 1,
            'availableBefore', before, 'availableAfter', before - 1, 'status', 'RESERVED'
        )),
        1, 1, now() - interval '1 hour', now() - interval '1 hour', NULL, NULL,
        now() - interval '2 hours', now() - interval '2 hours'
    FROM hold
), lines AS (
    INSERT INTO stock_reservation_lines (
        tenant_id, reservation_id, line_no, warehouse, product_id, reserved, expires_at
    )
    SELECT $1, id, 1, warehouse, product_id, 1, now() - interval '1 hour' FROM hold
), movements AS (
    INSERT INTO stock_movements (
        tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,
        previous_available, sequence, reference_type, reference_id, negotiation_id, notes,
        created_at
    )
    SELECT
        $1, movement_id, product_id, warehouse, sku, 'RESERVATION', 0, 1, 0, before, sequence,
        'RESERVATION', id, negotiation_id, NULL, now() - interval '2 hours'
    FROM hold
)
UPDATE stock_levels AS s
SET reserved = s.reserved + h.count, version = s.version + h.count
FROM (SELECT product_id, warehouse, count(*) FROM hold GROUP BY 1, 2) AS h
WHERE s.tenant_id = $1 AND s.product_id = h.product_id AND s.warehouse = h.warehouse
"""

# Sale `nth` of a product makes movements 2 nth (held) and 2 nth + 1 (sold); after the last sale
# one more reservation stays live. In the order of the indexes, which is much faster.
_HISTORY = """
WITH level AS MATERIALIZED (
    SELECT * FROM (
        SELECT
            row_number() OVER (ORDER BY s.product_id) - 1 AS place,
            s.product_id, s.warehouse, p.sku, s.available
        FROM stock_levels AS s JOIN products AS p ON p.tenant_id = $1 AND p.id = s.product_id
        WHERE s.tenant_id = $1
    ) AS ranked
    WHERE place >= $3::bigint AND place < $4::bigint
), hold AS MATERIALIZED (
    SELECT
        'H' || lpad(l.place::text, 10, '0') || lpad(nth::text, 15, '0') AS id,
        l.product_id, l.warehouse, l.sku, l.available - nth + 1 AS before, nth,
        nth <= $2 AS sold, negotiation_id
    FROM level AS l
    CROSS JOIN generate_series(1, $2::integer + 1) AS nth
    CROSS JOIN (SELECT min(id::text)::uuid AS negotiation_id FROM negotiations) AS any_one
    ORDER BY l.place, nth
), headers AS (
    INSERT INTO stock_reservations (
        tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
        items_json, total_requested, total_reserved, first_expires_at, expires_at, released_at,
        release_reason, created_at, updated_at
    )
    SELECT
        $1, id, negotiation_id, id, decode(md5(id), 'hex'), 'SOFT',
        CASE WHEN sold THEN 'CONSUMED' ELSE 'ACTIVE' END, 'NORMAL',
        jsonb_build_array(jsonb_build_object(
            'sku', sku, 'productId', product_id, 'requestedQuantity', 1, 'reservedQuantity', 1,
            'availableBefore', before, 'availableAfter', before - 1, 'status', 'RESERVED'
        )),
        1, 1, now() + interval '72 hours', now() + interval '72 hours',
        CASE WHEN sold THEN now() END, CASE WHEN sold THEN 'CONSUMED' END, now(), now()
    FROM hold
), lines AS (
    INSERT INTO stock_reservation_lines (
        tenant_id, reservation_id, line_no, warehouse, product_id, reserved, consumed, expires_at
    )
    SELECT
        $1, id, 1, warehouse, product_id, 1, CASE WHEN sold THEN 1 ELSE 0 END,
        now() + interval '72 hours'
    FROM hold
), movements AS (
    INSERT INTO stock_movements (
        tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,
        previous_available, sequence, reference_type, reference_id, negotiation_id, notes,
        created_at
    )
    SELECT
        $1, k.mark || substr(h.id, 2), h.product_id, h.warehouse, h.sku, k.type, -k.sold,
        1 - 2 * k.sold, 0, h.before - k.sold, 2 * h.nth + k.sold, 'RESERVATION', h.id,
        h.negotiation_id, CASE WHEN k.sold = 1 THEN 'CONSUMED' END, now()
    FROM hold AS h
    CROSS JOIN (VALUES ('R', 'RESERVATION', 0), ('S', 'SALE', 1)) AS k (mark, type, sold)
    WHERE h.sold OR k.sold = 0
)
UPDATE stock_levels AS s
SET total = s.total - $2::integer, reserved = 1, version = 2 * $2::integer + 2
FROM level AS l
WHERE s.tenant_id = $1 AND s.product_id = l.product_id AND s.warehouse = l.warehouse
"""
