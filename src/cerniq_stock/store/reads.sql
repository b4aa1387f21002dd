-- The reads, by name. `$1` is the tenant; row-level security stands below it. Nothing here waits
-- for the sweep: what is past its expiry at `statement_timestamp()` holds nothing.

-- name: availability
-- The levels of products by SKU: one array for each column, quantities as thousandths, because
-- that is read faster than rows of decimals. What is due is looked for only where the tenant has
-- anything due at all: the first row of one index tells.
-- Whatever the planner thinks of tables that were never analysed, the keys are all that is left to
-- it: without a sort, the order of SKUs is that of one index (PostgreSQL 17 and later), and OFFSET
-- keeps the levels from being joined before they are looked up.
SELECT
    statement_timestamp(),
    array_agg(p.sku),
    array_agg(p.id),
    array_agg(p.unit),
    array_agg(p.status),
    array_agg(p.expected_restock_date),
    array_agg((s.total * 1000)::int8),
    array_agg((s.reserved * 1000)::int8),
    array_agg((s.blocked * 1000)::int8),
    array_agg(CASE
        WHEN (
            SELECT d.expires_at FROM stock_reservations AS d
            WHERE d.tenant_id = $1 AND d.status = 'ACTIVE'
            ORDER BY d.expires_at LIMIT 1
        ) <= statement_timestamp() THEN (
            SELECT (coalesce(sum(l.held), 0) * 1000)::int8 FROM stock_reservation_lines AS l
            WHERE l.tenant_id = $1 AND l.product_id = s.product_id AND l.warehouse = s.warehouse
                AND l.held > 0 AND l.expires_at <= statement_timestamp()
        )
        ELSE 0
    END)
FROM (
    SELECT * FROM products AS p
    WHERE p.tenant_id = $1 AND p.sku = ANY ($2::text[])
    ORDER BY p.sku
) AS p
CROSS JOIN LATERAL (
    SELECT * FROM stock_levels AS s
    WHERE s.tenant_id = $1 AND s.product_id = p.id
    OFFSET 0
) AS s;

-- name: levels
-- A page of products by SKU (`$2`: after which, `$3`: how many), with the levels of each.
SELECT
    p.id, p.sku, p.name, p.unit, p.status, p.price, p.currency, p.reorder_point,
    p.reorder_quantity, p.expected_restock_date, s.warehouse, s.total,
    s.reserved - d.due AS reserved, s.blocked, s.available + d.due AS available,
    s.updated_at, statement_timestamp() AS as_of
FROM (
    SELECT * FROM products AS p
    WHERE p.tenant_id = $1 AND p.sku > $2
        -- and
    ORDER BY p.sku LIMIT $3
) AS p
JOIN stock_levels AS s ON s.tenant_id = $1 AND s.product_id = p.id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN (
            SELECT r.expires_at FROM stock_reservations AS r
            WHERE r.tenant_id = $1 AND r.status = 'ACTIVE'
            ORDER BY r.expires_at LIMIT 1
        ) <= statement_timestamp() THEN (
            SELECT coalesce(sum(l.held), 0) FROM stock_reservation_lines AS l
            WHERE l.tenant_id = $1 AND l.product_id = s.product_id AND l.warehouse = s.warehouse
                AND l.held > 0 AND l.expires_at <= statement_timestamp()
        )
        ELSE 0
    END AS due
) AS d
ORDER BY p.sku, s.warehouse;

-- name: holders
-- The lines that hold a product (`$2`) at `$3`, the oldest first.
SELECT
    l.reservation_id, r.negotiation_id, r.order_id, r.type, r.priority, l.warehouse, l.held,
    nullif(l.expires_at, 'infinity') AS expires_at, r.requested_by
FROM stock_reservation_lines AS l
JOIN stock_reservations AS r ON r.tenant_id = $1 AND r.id = l.reservation_id
WHERE l.tenant_id = $1 AND l.product_id = $2 AND l.held > 0 AND l.expires_at > $3
ORDER BY l.reservation_id, l.line_no, l.warehouse;

-- name: reservations
-- Before the id `$2`, `$3` of them, the newest first. Without `released_at` it is the clock that
-- ended an EXPIRED one: the sweep has not come by yet.
SELECT
    r.id, r.reservation_key, r.negotiation_id, r.order_id, r.type, r.shown AS status, r.priority,
    r.total_requested, r.total_reserved,
    CASE
        WHEN r.shown = 'ACTIVE' THEN (
            SELECT coalesce(sum(l.held), 0) FROM stock_reservation_lines AS l
            WHERE l.tenant_id = $1 AND l.reservation_id = r.id
        )
        ELSE 0
    END AS total_held,
    r.extensions, r.created_at, nullif(r.expires_at, 'infinity') AS expires_at, r.released_at,
    r.release_reason, r.released_by, r.release_notes, r.requested_by, r.channel, r.notes
FROM (
    SELECT
        *,
        CASE
            WHEN status = 'ACTIVE' AND expires_at <= statement_timestamp() THEN 'EXPIRED'
            ELSE status
        END AS shown
    FROM stock_reservations
) AS r
WHERE r.tenant_id = $1 AND r.id < $2
    -- and
ORDER BY r.id DESC LIMIT $3;

-- name: reservation_answer
-- The first answer, as given.
SELECT items_json, errors_json FROM stock_reservations WHERE tenant_id = $1 AND id = $2;

-- name: reservation_lines
-- What became of each line. `$3`: whether the reservation still holds what its lines say; if not,
-- they have given it back.
SELECT
    l.line_no, p.sku, l.product_id, l.warehouse, l.reserved,
    CASE WHEN $3::boolean THEN l.held ELSE 0 END AS held,
    l.consumed,
    CASE WHEN $3::boolean THEN l.released ELSE l.released + l.held END AS released
FROM stock_reservation_lines AS l
JOIN products AS p ON p.tenant_id = $1 AND p.id = l.product_id
WHERE l.tenant_id = $1 AND l.reservation_id = $2
ORDER BY l.line_no, l.warehouse;

-- name: orders
-- Made before the order `$2` (NULL: all), `$3` of them, the newest first.
SELECT
    o.id, o.negotiation_id, o.reservation_id, o.status, l.*, o.created_at, o.updated_at
FROM (
    SELECT * FROM stock_orders AS o
    WHERE o.tenant_id = $1
        AND ($2::uuid IS NULL OR (o.created_at, o.id) < (
            SELECT b.created_at, b.id FROM stock_orders AS b
            WHERE b.tenant_id = $1 AND b.id = $2
        ))
        -- and
    ORDER BY o.created_at DESC, o.id DESC LIMIT $3
) AS o
CROSS JOIN LATERAL (
    SELECT
        sum(quantity) AS quantity, sum(reserved) AS reserved, sum(deducted) AS deducted,
        sum(released) AS released, sum(returned) AS returned, count(*)::int AS line_count
    FROM stock_order_lines AS m
    WHERE m.tenant_id = $1 AND m.order_id = o.id
) AS l
ORDER BY o.created_at DESC, o.id DESC;

-- name: order_lines
SELECT
    l.line_no, p.sku, l.product_id, l.quantity, l.reserved, l.deducted, l.released, l.returned
FROM stock_order_lines AS l
JOIN products AS p ON p.tenant_id = $1 AND p.id = l.product_id
WHERE l.tenant_id = $1 AND l.order_id = $2
ORDER BY l.line_no;

-- name: movements
-- Before the id `$2`, `$3` of them, the newest first.
SELECT
    m.id, m.created_at, m.sku, m.product_id, m.warehouse, m.type, m.quantity, m.total_delta,
    m.reserved_delta, m.blocked_delta, m.previous_available, m.new_available, m.sequence,
    m.reference_type, m.reference_id, m.negotiation_id, m.order_id, m.notes, m.created_by
FROM stock_movements AS m
WHERE m.tenant_id = $1 AND m.id < $2
    -- and
ORDER BY m.id DESC LIMIT $3;

-- name: notifications
-- Before the id `$2`, `$3` of them, the newest first.
SELECT id, created_at, type, severity, title, message, entity_type, entity_id
FROM notifications
WHERE tenant_id = $1 AND id < $2
ORDER BY id DESC LIMIT $3;

-- name: tenants
-- All tenants, or the one with the id `$1`; for the operator, who sees more than one.
SELECT id, name, language, warehouses, max_extensions, max_reservation_h, created_at
FROM tenants
WHERE id = coalesce($1, id)
ORDER BY name, id;
