-- The sweep: writes down what has expired, a chunk of one tenant's reservations at a time.
-- `$1` is the tenant.

-- name: due_tenants
-- Tenants with anything due: one probe of `stock_reservations_due` for each.
SELECT t.id
FROM tenants AS t
CROSS JOIN LATERAL (
    SELECT r.expires_at FROM stock_reservations AS r
    WHERE r.tenant_id = t.id AND r.status = 'ACTIVE'
    ORDER BY r.expires_at LIMIT 1
) AS first
WHERE first.expires_at <= statement_timestamp();

-- name: pick_due
-- What is due, the longest overdue first, up to so many lines; and the locks of its levels, in
-- the engine's order. The choice is older than the locks, so `expire_due` looks again; the clock is
-- younger, so that the movements' ids sort after those of whoever held the levels before.
WITH due AS MATERIALIZED (
    SELECT id, product_id, warehouse
    FROM (
        SELECT
            r.id, l.product_id, l.warehouse,
            rank() OVER (ORDER BY r.expires_at, r.id) AS place
        FROM (
            SELECT id, expires_at FROM stock_reservations
            WHERE tenant_id = $1 AND status = 'ACTIVE' AND expires_at <= statement_timestamp()
                AND id <> ALL ($3::text[])
            ORDER BY expires_at LIMIT $2
        ) AS r
        LEFT JOIN LATERAL (
            SELECT m.product_id, m.warehouse FROM stock_reservation_lines AS m
            WHERE m.tenant_id = $1 AND m.reservation_id = r.id AND m.held > 0
            OFFSET 0
        ) AS l ON true
    ) AS ranked
    WHERE place <= $2
), locked AS MATERIALIZED (
    SELECT
    FROM (
        SELECT DISTINCT product_id, warehouse FROM due ORDER BY product_id, warehouse
    ) AS d
    CROSS JOIN LATERAL (
        SELECT FROM stock_levels AS s
        WHERE s.tenant_id = $1 AND s.product_id = d.product_id AND s.warehouse = d.warehouse
        FOR NO KEY UPDATE
    ) AS s
)
SELECT array_agg(DISTINCT id) AS ids, count(*) AS lines, clock_timestamp() AS now
FROM due WHERE (SELECT count(*) FROM locked) >= 0;

-- name: expire_due
-- Headers in the order of their ids, where they are still due now that the levels are ours (who
-- was extended meanwhile stays); their levels, their lines, and one movement per line. A line
-- without a level ends in a NULL that no movement may have: nothing is lost in silence. Lines and
-- levels are updated by `ctid`, which holds still under our locks.
WITH headers AS (
    UPDATE stock_reservations AS r
    SET status = 'EXPIRED', released_at = statement_timestamp(), release_reason = 'EXPIRED',
        updated_at = statement_timestamp()
    FROM unnest($2::text[]) AS q (id)
    CROSS JOIN LATERAL (
        SELECT m.ctid FROM stock_reservations AS m WHERE m.tenant_id = $1 AND m.id = q.id LIMIT 1
    ) AS k
    WHERE r.tenant_id = $1 AND r.ctid = k.ctid
        AND r.status = 'ACTIVE' AND r.expires_at <= statement_timestamp()
    RETURNING r.id, r.negotiation_id
), due AS MATERIALIZED (
    SELECT
        l.reservation_id, l.line_no, l.warehouse, l.product_id, l.held, h.negotiation_id, p.sku,
        l.ctid AS line_at, s.ctid AS level_at,
        s.version + row_number() OVER of_level AS sequence,
        s.available - l.held + sum(l.held) OVER of_level AS previous_available,
        row_number() OVER (ORDER BY l.reservation_id, l.line_no, l.warehouse) AS n
    FROM headers AS h
    CROSS JOIN LATERAL (
        SELECT m.*, m.ctid FROM stock_reservation_lines AS m
        WHERE m.tenant_id = $1 AND m.reservation_id = h.id AND m.held > 0
        OFFSET 0
    ) AS l
    LEFT JOIN LATERAL (
        SELECT m.*, m.ctid FROM stock_levels AS m
        WHERE m.tenant_id = $1 AND m.product_id = l.product_id AND m.warehouse = l.warehouse
        LIMIT 1
    ) AS s ON true
    LEFT JOIN LATERAL (
        SELECT m.sku FROM products AS m WHERE m.tenant_id = $1 AND m.id = l.product_id LIMIT 1
    ) AS p ON true
    WINDOW of_level AS (
        PARTITION BY l.product_id, l.warehouse ORDER BY l.reservation_id, l.line_no
        ROWS UNBOUNDED PRECEDING
    )
), levels AS (
    UPDATE stock_levels AS s
    SET reserved = s.reserved - d.held, version = s.version + d.movements,
        updated_at = statement_timestamp()
    FROM (
        SELECT level_at, sum(held) AS held, count(*) AS movements FROM due GROUP BY level_at
    ) AS d
    WHERE s.tenant_id = $1 AND s.ctid = d.level_at
), lines AS (
    UPDATE stock_reservation_lines AS l
    SET released = l.released + d.held
    FROM due AS d
    WHERE l.tenant_id = $1 AND l.ctid = d.line_at
), movements AS (
    INSERT INTO stock_movements (
        tenant_id, created_at, id, product_id, sku, warehouse, type, total_delta, reserved_delta,
        blocked_delta, previous_available, sequence, reference_type, reference_id, negotiation_id,
        notes
    )
    SELECT
        $1, statement_timestamp(), ($3::name[])[n], product_id, sku, warehouse, 'RELEASE', 0, -held,
        0, previous_available, sequence, 'RESERVATION', reservation_id, negotiation_id,
        'EXPIRED'
    FROM due
)
SELECT count(*) FROM headers;
