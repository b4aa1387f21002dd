-- Every statement of the engine, by name. `$1` is the tenant wherever a tenant's rows are touched;
-- row-level security stands below it.
--
-- Rows are looked up by key from the arguments on: each `LATERAL` with a LIMIT, OFFSET, ORDER or
-- lock is a subquery that the planner can run in no other way, whatever it believes of the table.

-- name: lock_levels
-- Products by SKU with their levels, locked in the one fixed order. Every product has a level.
SELECT
    p.id, p.sku, p.name, p.unit, p.status, p.reorder_point, p.expected_restock_date,
    s.warehouse, s.total, s.reserved, s.blocked, s.version, s.place
FROM (
    SELECT k.*
    FROM unnest($2::text::text[]) AS q (sku)
    CROSS JOIN LATERAL (
        SELECT * FROM products AS m WHERE m.tenant_id = $1 AND m.sku = q.sku LIMIT 1
    ) AS k
    ORDER BY k.id
) AS p
CROSS JOIN LATERAL (
    SELECT l.warehouse, l.total, l.reserved, l.blocked, l.version, l.ctid::text AS place
    FROM stock_levels AS l
    WHERE l.tenant_id = $1 AND l.product_id = p.id
    ORDER BY l.warehouse
    FOR NO KEY UPDATE
) AS s;

-- name: lock_levels_of_products
-- The same by product id.
SELECT
    p.id, p.sku, p.name, p.unit, p.status, p.reorder_point, p.expected_restock_date,
    s.warehouse, s.total, s.reserved, s.blocked, s.version, s.place
FROM (
    SELECT k.*
    FROM unnest($2::uuid[]) AS q (id)
    CROSS JOIN LATERAL (
        SELECT * FROM products AS m WHERE m.tenant_id = $1 AND m.id = q.id LIMIT 1
    ) AS k
    ORDER BY k.id
) AS p
CROSS JOIN LATERAL (
    SELECT l.warehouse, l.total, l.reserved, l.blocked, l.version, l.ctid::text AS place
    FROM stock_levels AS l
    WHERE l.tenant_id = $1 AND l.product_id = p.id
    ORDER BY l.warehouse
    FOR NO KEY UPDATE
) AS s;

-- name: products_of_skus
SELECT p.id
FROM unnest($2::text[]) AS q (sku)
CROSS JOIN LATERAL (
    SELECT m.id FROM products AS m WHERE m.tenant_id = $1 AND m.sku = q.sku LIMIT 1
) AS p;

-- name: look_around
-- The clock after the locks; the tenant's rules; whether anything is due; how many levels the
-- locked products have by now; states of negotiations; reservations made under the batch's keys. A
-- statement of its own, so that its snapshot sees what those before us committed.
SELECT
    statement_timestamp() AS now,
    t.name, t.language, t.warehouses, t.max_extensions, t.max_reservation_h,
    coalesce((
        SELECT d.expires_at FROM stock_reservations AS d
        WHERE d.tenant_id = $1 AND d.status = 'ACTIVE'
        ORDER BY d.expires_at LIMIT 1
    ) <= statement_timestamp(), false) AS due,
    CASE WHEN cardinality(t.warehouses) > 1 THEN (
        SELECT count(*)
        FROM unnest($4::text::uuid[]) AS q (id)
        CROSS JOIN LATERAL (
            SELECT FROM stock_levels AS l
            WHERE l.tenant_id = $1 AND l.product_id = q.id
            OFFSET 0
        ) AS l
    ) END AS levels,
    n.ids, n.states,
    k.id, k.reservation_key, k.fingerprint, k.items_json, k.errors_json, k.first_expires_at
FROM tenants AS t
CROSS JOIN (
    SELECT array_agg(q.id) AS ids, array_agg(m.state::text) AS states
    FROM unnest($2::text::uuid[]) AS q (id)
    CROSS JOIN LATERAL (
        SELECT state FROM negotiations AS m WHERE m.tenant_id = $1 AND m.id = q.id LIMIT 1
    ) AS m
) AS n
LEFT JOIN (
    unnest($3::text::text[]) AS q (key)
    CROSS JOIN LATERAL (
        SELECT * FROM stock_reservations AS r
        WHERE r.tenant_id = $1 AND r.reservation_key = q.key
        LIMIT 1
    ) AS k
) ON true
WHERE t.id = $1;

-- name: told_answers
-- Answers given under the batch's keys.
SELECT c.key, c.fingerprint, c.answer_type, c.answer_json
FROM unnest($2::text[]) AS q (key)
CROSS JOIN LATERAL (
    SELECT * FROM stock_commands AS m WHERE m.tenant_id = $1 AND m.key = q.key LIMIT 1
) AS c;

-- name: products_of_holds
-- What the named reservations, and the active ones of the named negotiations, have lines on.
SELECT r.id, array_agg(DISTINCT l.product_id) AS products
FROM (
    SELECT id FROM unnest($2::text[]) AS q (id)
    UNION
    SELECT h.id
    FROM unnest($3::uuid[]) AS q (negotiation_id)
    CROSS JOIN LATERAL (
        SELECT m.id FROM stock_reservations AS m
        WHERE m.tenant_id = $1 AND m.status = 'ACTIVE' AND m.negotiation_id = q.negotiation_id
        OFFSET 0
    ) AS h
) AS r
CROSS JOIN LATERAL (
    SELECT m.product_id FROM stock_reservation_lines AS m
    WHERE m.tenant_id = $1 AND m.reservation_id = r.id
    OFFSET 0
) AS l
GROUP BY r.id;

-- name: about_orders
-- What never changes of orders: where they come from, and what they have lines on.
SELECT o.id, o.negotiation_id, l.products
FROM unnest($2::uuid[]) AS q (id)
CROSS JOIN LATERAL (
    SELECT * FROM stock_orders AS m WHERE m.tenant_id = $1 AND m.id = q.id LIMIT 1
) AS o
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT m.product_id) AS products FROM stock_order_lines AS m
    WHERE m.tenant_id = $1 AND m.order_id = o.id
) AS l;

-- name: lock_orders
SELECT o.id, o.negotiation_id, o.reservation_id
FROM (SELECT id FROM unnest($2::uuid[]) AS q (id) ORDER BY id) AS q
CROSS JOIN LATERAL (
    SELECT * FROM stock_orders AS m WHERE m.tenant_id = $1 AND m.id = q.id FOR UPDATE
) AS o;

-- name: lines_of_orders
SELECT
    l.order_id, l.line_no, l.product_id, p.sku, l.quantity, l.reserved, l.deducted, l.released,
    l.returned
FROM unnest($2::uuid[]) AS q (id)
CROSS JOIN LATERAL (
    SELECT * FROM stock_order_lines AS m WHERE m.tenant_id = $1 AND m.order_id = q.id OFFSET 0
) AS l
CROSS JOIN LATERAL (
    SELECT m.sku FROM products AS m WHERE m.tenant_id = $1 AND m.id = l.product_id LIMIT 1
) AS p
ORDER BY l.order_id, l.line_no;

-- name: lock_reservations
-- Headers locked in order, after the levels.
SELECT
    r.id, r.reservation_key, r.negotiation_id, r.type, r.priority, r.status, r.created_at,
    r.expires_at, r.extensions, r.released_at, r.release_reason, r.released_by, r.release_notes,
    r.order_id
FROM (SELECT id FROM unnest($2::text[]) AS q (id) ORDER BY id COLLATE "C") AS q
CROSS JOIN LATERAL (
    SELECT * FROM stock_reservations AS m WHERE m.tenant_id = $1 AND m.id = q.id FOR UPDATE
) AS r;

-- name: lines_of_reservations
SELECT
    l.reservation_id, l.line_no, l.product_id, p.sku, l.warehouse,
    l.reserved, l.consumed, l.released
FROM unnest($2::text[]) AS q (id)
CROSS JOIN LATERAL (
    SELECT * FROM stock_reservation_lines AS m
    WHERE m.tenant_id = $1 AND m.reservation_id = q.id
    OFFSET 0
) AS l
CROSS JOIN LATERAL (
    SELECT m.sku FROM products AS m WHERE m.tenant_id = $1 AND m.id = l.product_id LIMIT 1
) AS p
ORDER BY l.reservation_id, l.line_no, l.warehouse;

-- name: due_of_products
-- How much of each level is held by reservations past their expiry.
SELECT q.product_id, l.warehouse, sum(l.held) AS due
FROM unnest($2::uuid[]) AS q (product_id)
CROSS JOIN LATERAL (
    SELECT m.warehouse, m.held FROM stock_reservation_lines AS m
    WHERE m.tenant_id = $1 AND m.product_id = q.product_id AND m.held > 0 AND m.expires_at <= $3
    OFFSET 0
) AS l
GROUP BY q.product_id, l.warehouse;

-- name: holders_to_give_way
-- Who may have to give way for so much of each product: expired first, then SOFT by priority,
-- then the latest; no more of them than it takes. Those that are loaded anyway (`$5`) do not
-- count: the batch may sell what they hold before anybody has to give way.
SELECT DISTINCT reservation_id
FROM (
    SELECT
        l.reservation_id, w.amount,
        sum(l.held) OVER (
            PARTITION BY l.product_id
            ORDER BY
                (l.expires_at <= $4) DESC,
                CASE r.priority WHEN 'NORMAL' THEN 0 WHEN 'HIGH' THEN 1 ELSE 2 END,
                r.created_at DESC, r.id DESC, l.line_no, l.warehouse
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) - l.held AS before
    FROM unnest($2::uuid[], $3::numeric[]) AS w (product_id, amount)
    CROSS JOIN LATERAL (
        SELECT * FROM stock_reservation_lines AS m
        WHERE m.tenant_id = $1 AND m.product_id = w.product_id AND m.held > 0
            AND m.reservation_id <> ALL ($5::text[])
        OFFSET 0
    ) AS l
    CROSS JOIN LATERAL (
        SELECT * FROM stock_reservations AS m
        WHERE m.tenant_id = $1 AND m.id = l.reservation_id
        LIMIT 1
    ) AS r
    WHERE l.expires_at <= $4 OR r.type = 'SOFT'
) AS ranked
WHERE before < amount;

-- Updates of many rows look each up by its key in a LATERAL and then update by `ctid`: the rows are
-- locked, so it holds still, and no plan can start from the table instead of from the arguments.

-- name: write_holds
-- Levels, new reservations, their lines and all movements, in one statement. Columns come as the
-- text of an array (see write.py). Levels are updated where `lock_levels` found them: under the lock
-- they hold still, and no second search is needed.
WITH levels AS (
    UPDATE stock_levels AS s
    SET total = d.total, reserved = d.reserved, blocked = d.blocked, version = d.version,
        updated_at = $2
    FROM unnest(
        $3::text::uuid[], $4::text::text[], $5::text::numeric[], $6::text::numeric[],
        $7::text::numeric[], $8::text::int8[], $9::text::tid[]
    ) AS d (product_id, warehouse, total, reserved, blocked, version, place)
    WHERE s.ctid = d.place
        AND s.tenant_id = $1 AND s.product_id = d.product_id AND s.warehouse = d.warehouse
    RETURNING 1
), headers AS (
    INSERT INTO stock_reservations (
        tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
        items_json, errors_json, total_requested, total_reserved, first_expires_at, expires_at,
        requested_by, channel, notes, order_id, created_at, updated_at
    )
    SELECT
        $1, id, negotiation_id, key, fingerprint, type, status, priority, items::jsonb,
        errors::jsonb, requested, reserved,
        coalesce($2 + hours * interval '1 hour', 'infinity'),
        coalesce($2 + hours * interval '1 hour', 'infinity'),
        requested_by, channel, notes, order_id, $2, $2
    FROM unnest(
        $10::text::text[], $11::text::uuid[], $12::text::text[], $13::text::text[],
        $14::text::text[], $15::text::numeric[], $16::text::numeric[], $17::text::int2[],
        $18::text::text[], $19::text::bytea[], $20::text::text[], $21::text::text[],
        $22::text::text[], $23::text::text[], $24::text::text[], $25::text::uuid[]
    ) AS h (
        id, negotiation_id, type, status, priority, requested, reserved, hours,
        key, fingerprint, items, errors, requested_by, channel, notes, order_id
    )
), lines AS (
    INSERT INTO stock_reservation_lines (
        tenant_id, reservation_id, line_no, warehouse, product_id, reserved, expires_at
    )
    SELECT
        $1, id, line_no, warehouse, product_id, reserved,
        coalesce($2 + hours * interval '1 hour', 'infinity')
    FROM unnest(
        $26::text::text[], $27::text::int2[], $28::text::uuid[], $29::text::numeric[],
        $30::text::int2[], $31::text::text[]
    ) AS x (id, line_no, product_id, reserved, hours, warehouse)
), movements AS (
    INSERT INTO stock_movements (
        tenant_id, created_at, id, product_id, type, total_delta, reserved_delta, blocked_delta,
        previous_available, sequence, sku, warehouse, reference_type, reference_id,
        negotiation_id, order_id, notes, created_by
    )
    SELECT $1, $2, x.*
    FROM unnest(
        $32::text::text[], $33::text::uuid[], $34::text::text[], $35::text::numeric[],
        $36::text::numeric[], $37::text::numeric[], $38::text::numeric[], $39::text::int8[],
        $40::text::text[], $41::text::text[], $42::text::text[], $43::text::text[],
        $44::text::uuid[], $45::text::uuid[], $46::text::text[], $47::text::text[]
    ) AS x
)
SELECT count(*) FROM levels;

-- name: insert_levels
INSERT INTO stock_levels (tenant_id, product_id, warehouse, total, reserved, blocked, version)
SELECT $1, x.*
FROM unnest(
    $2::text::uuid[], $3::text::text[], $4::text::numeric[], $5::text::numeric[], $6::text::numeric[],
    $7::text::int8[]
) AS x;

-- name: write_changed_lines
UPDATE stock_reservation_lines AS l
SET consumed = x.consumed, released = x.released, expires_at = x.expires_at
FROM unnest(
    $2::text[], $3::int2[], $4::text[], $5::numeric[], $6::numeric[], $7::timestamptz[]
) AS x (reservation_id, line_no, warehouse, consumed, released, expires_at)
CROSS JOIN LATERAL (
    SELECT m.ctid FROM stock_reservation_lines AS m
    WHERE m.tenant_id = $1 AND m.reservation_id = x.reservation_id AND m.line_no = x.line_no
        AND m.warehouse = x.warehouse
    LIMIT 1
) AS k
WHERE l.tenant_id = $1 AND l.ctid = k.ctid;

-- name: write_changed_reservations
UPDATE stock_reservations AS r
SET status = x.status, expires_at = x.expires_at, extensions = x.extensions,
    released_at = x.released_at, release_reason = x.release_reason,
    released_by = x.released_by, release_notes = x.release_notes, updated_at = $2
FROM unnest(
    $3::text[], $4::text[], $5::timestamptz[], $6::int2[], $7::timestamptz[], $8::text[],
    $9::text[], $10::text[]
) AS x (
    id, status, expires_at, extensions, released_at, release_reason, released_by, release_notes
)
CROSS JOIN LATERAL (
    SELECT m.ctid FROM stock_reservations AS m WHERE m.tenant_id = $1 AND m.id = x.id LIMIT 1
) AS k
WHERE r.tenant_id = $1 AND r.ctid = k.ctid;

-- name: insert_orders
INSERT INTO stock_orders (
    tenant_id, id, negotiation_id, reservation_id, status, created_at, updated_at
)
SELECT $1, x.id, x.negotiation_id, x.reservation_id, x.status, $2, $2
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[])
    AS x (id, negotiation_id, reservation_id, status);

-- name: insert_order_lines
INSERT INTO stock_order_lines (
    tenant_id, order_id, line_no, product_id, quantity, reserved, deducted, released, returned
)
SELECT $1, x.*
FROM unnest(
    $2::uuid[], $3::int2[], $4::uuid[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
    $9::numeric[]
) AS x;

-- name: write_changed_orders
UPDATE stock_orders AS o
SET reservation_id = x.reservation_id, status = x.status, updated_at = $2
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[])
    AS x (id, negotiation_id, reservation_id, status)
CROSS JOIN LATERAL (
    SELECT m.ctid FROM stock_orders AS m WHERE m.tenant_id = $1 AND m.id = x.id LIMIT 1
) AS k
WHERE o.tenant_id = $1 AND o.ctid = k.ctid;

-- name: write_changed_order_lines
UPDATE stock_order_lines AS l
SET reserved = x.reserved, deducted = x.deducted, released = x.released, returned = x.returned
FROM unnest($2::uuid[], $3::int2[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[])
    AS x (order_id, line_no, reserved, deducted, released, returned)
CROSS JOIN LATERAL (
    SELECT m.ctid FROM stock_order_lines AS m
    WHERE m.tenant_id = $1 AND m.order_id = x.order_id AND m.line_no = x.line_no
    LIMIT 1
) AS k
WHERE l.tenant_id = $1 AND l.ctid = k.ctid;

-- name: write_negotiations
UPDATE negotiations AS n SET state = x.state, updated_at = $2
FROM unnest($3::uuid[], $4::text[]) AS x (id, state)
CROSS JOIN LATERAL (
    SELECT m.ctid FROM negotiations AS m WHERE m.tenant_id = $1 AND m.id = x.id LIMIT 1
) AS k
WHERE n.tenant_id = $1 AND n.ctid = k.ctid;

-- name: lock_negotiations_to_change
SELECT id FROM negotiations WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR UPDATE;

-- name: share_negotiations
SELECT FROM negotiations WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR SHARE;

-- name: insert_negotiations
INSERT INTO negotiations (tenant_id, id, state)
SELECT t.id, x.id, $3::text
FROM tenants AS t CROSS JOIN unnest($2::uuid[]) AS x (id)
WHERE t.id = $1
ORDER BY x.id
ON CONFLICT DO NOTHING;

-- name: drop_negotiations
-- Take out those that the batch's decision left without a state.
DELETE FROM negotiations WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND state = $3;

-- name: write_answers
INSERT INTO stock_commands (tenant_id, created_at, key, fingerprint, answer_type, answer_json)
SELECT $1, $2, x.key, x.fingerprint, x.type, x.answer::jsonb
FROM unnest($3::text[], $4::bytea[], $5::text[], $6::text[]) AS x (key, fingerprint, type, answer)
ORDER BY x.key;

-- name: write_notifications
INSERT INTO notifications (
    tenant_id, created_at, id, type, severity, title, message, entity_type, entity_id
)
SELECT $1, $2, x.*
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
    AS x;

-- name: write_erp_levels
INSERT INTO erp_levels AS e (
    tenant_id, synced_at, integration_id, product_id, warehouse, erp_total, local_total,
    agreed_total, pending, blocked
)
SELECT $1, $2, x.*
FROM unnest(
    $3::text::uuid[], $4::text::uuid[], $5::text::text[], $6::text::numeric[], $7::text::numeric[],
    $8::text::numeric[], $9::text::numeric[], $10::text::numeric[]
) AS x
ON CONFLICT (tenant_id, integration_id, product_id, warehouse) DO UPDATE
SET erp_total = EXCLUDED.erp_total, local_total = EXCLUDED.local_total,
    agreed_total = EXCLUDED.agreed_total, pending = EXCLUDED.pending,
    blocked = EXCLUDED.blocked, synced_at = EXCLUDED.synced_at;

-- name: was_written
-- Whether a transaction whose commit was lost on the wire took effect: it wrote this row at this
-- time. Another may have used the same key, and a key may look like an id.
SELECT
    EXISTS (
        SELECT FROM stock_reservations WHERE tenant_id = $1 AND id = $2 AND created_at = $3
    )
    OR EXISTS (SELECT FROM stock_movements WHERE tenant_id = $1 AND id = $2 AND created_at = $3)
    OR EXISTS (
        SELECT FROM stock_commands WHERE tenant_id = $1 AND key = $2 AND created_at = $3
    );
