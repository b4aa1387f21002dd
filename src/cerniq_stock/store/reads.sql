-- The reads, by name. `$1` is the tenant; row-level security stands below it. Nothing here waits
-- for the sweep: what is past its expiry at `statement_timestamp()` holds nothing.

-- name: availability
-- The levels of products by SKU: one array for each column, quantities as thousandths, because
-- that is read faster than rows of decimals. What is due is looked for only where the tenant has
-- anything due: the first row of one index tells.
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
FROM products AS p
JOIN stock_levels AS s ON s.tenant_id = $1 AND s.product_id = p.id
WHERE p.tenant_id = $1 AND p.sku = ANY ($2::text[]);
