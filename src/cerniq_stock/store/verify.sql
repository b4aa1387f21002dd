-- What must always hold, looked for where it does not: each check returns (rule, tenant_id,
-- subject, expected, found) for every difference and nothing on a sound database. Read-only, each
-- in one pass over its tables. `$1` is a tenant, or NULL for all; plans are made anew each time,
-- so that either way the condition on it is folded.

-- name: levels
-- Levels, their movements and the lines on them, level by level.
--
-- That the movements of a level are a chain (numbered 1, 2, 3, … without gap or repeat, each
-- starting from what the one before left) is proved without sorting them: a movement is a step
-- from (sequence - 1, previous) to (sequence, new). Hash both ends, XOR everything: what every
-- movement left and the next one found cancels out, and only the two ends of the chain remain.
-- As every step raises the sequence by one, n steps with these ends can only be 1, 2, …, n.
--
-- That each reservation holds what its movements say is proved the same way: a sum weighted with
-- a hash of the reservation's id is the same over both only if it is for every one of them.
WITH moved AS MATERIALIZED (
    SELECT
        tenant_id, product_id, warehouse, count(*) AS movements,
        sum(total_delta) AS total, sum(reserved_delta) AS reserved, sum(blocked_delta) AS blocked,
        sum(hashtextextended(coalesce(reference_id, ''), 0) * reserved_delta) AS holders,
        bit_xor(
            hashint8extended(sequence, hash_numeric_extended(new_available, 0))
            # hashint8extended(sequence - 1, hash_numeric_extended(previous_available, 0))
        ) AS chain,
        count(*) FILTER (
            WHERE new_available < 0
            OR new_available <> previous_available + total_delta - reserved_delta - blocked_delta
        ) AS miscounted
    FROM stock_movements
    WHERE $1::uuid IS NULL OR tenant_id = $1
    GROUP BY tenant_id, product_id, warehouse
), held AS MATERIALIZED (
    SELECT
        l.tenant_id, l.product_id, l.warehouse,
        coalesce(sum(l.held) FILTER (WHERE r.id IS NOT NULL), 0) AS held,
        sum(hashtextextended(l.reservation_id, 0) * l.held) AS holders
    FROM stock_reservation_lines AS l
    LEFT JOIN stock_reservations AS r
        ON r.tenant_id = l.tenant_id AND r.id = l.reservation_id AND r.status = 'ACTIVE'
    WHERE l.held > 0 AND ($1::uuid IS NULL OR l.tenant_id = $1)
    GROUP BY l.tenant_id, l.product_id, l.warehouse
), compared AS (
    SELECT
        tenant_id, product_id, warehouse, s.version IS NULL AS homeless,
        s.total, s.reserved, s.blocked, s.available, s.version,
        coalesce(m.movements, 0) AS movements, coalesce(m.total, 0) AS moved_total,
        coalesce(m.reserved, 0) AS moved_reserved, coalesce(m.blocked, 0) AS moved_blocked,
        coalesce(h.held, 0) AS held, h.tenant_id IS NOT NULL AS is_held,
        coalesce(m.miscounted, 0) AS miscounted,
        coalesce(m.holders, 0) <> coalesce(h.holders, 0) AS misheld,
        m.chain <> (
            hashint8extended(
                m.movements, hash_numeric_extended(m.total - m.reserved - m.blocked, 0)
            )
            # hashint8extended(0, hash_numeric_extended(0, 0))
        ) AS torn
    FROM (SELECT * FROM stock_levels WHERE $1::uuid IS NULL OR tenant_id = $1) AS s
    FULL JOIN moved AS m USING (tenant_id, product_id, warehouse)
    FULL JOIN held AS h USING (tenant_id, product_id, warehouse)
), suspects AS MATERIALIZED (
    SELECT c.*, coalesce(p.sku, c.product_id::text) || ' @ ' || c.warehouse AS subject
    FROM compared AS c
    LEFT JOIN products AS p ON p.tenant_id = c.tenant_id AND p.id = c.product_id
    WHERE c.homeless OR c.torn OR c.misheld OR c.miscounted > 0
        OR c.total <> c.moved_total OR c.reserved <> c.moved_reserved
        OR c.blocked <> c.moved_blocked OR c.version <> c.movements OR c.reserved <> c.held
        OR least(c.total, c.reserved, c.blocked, c.available) < 0
        OR c.available <> c.total - c.reserved - c.blocked
)
SELECT v.rule, s.tenant_id, s.subject, v.expected, v.found
FROM suspects AS s
CROSS JOIN LATERAL (
    VALUES
    (
        'level.figures',
        least(total, reserved, blocked, available) < 0 OR available <> total - reserved - blocked,
        'total - reserved - blocked = available, none below 0',
        format('%s - %s - %s = %s', total, reserved, blocked, available)
    ),
    ('level.total', total <> moved_total, moved_total::text, total::text),
    ('level.reserved', reserved <> moved_reserved, moved_reserved::text, reserved::text),
    ('level.blocked', blocked <> moved_blocked, moved_blocked::text, blocked::text),
    ('level.version', version <> movements, movements::text, version::text),
    ('level.held', reserved <> held, held::text, reserved::text),
    ('movement.level', homeless AND movements > 0, 'a level', format('%s movements', movements)),
    ('line.level', homeless AND is_held, 'a level', format('%s held', held))
) AS v (rule, broken, expected, found)
WHERE v.broken
UNION ALL
SELECT
    CASE WHEN b.sequence <> b.place THEN 'movement.sequence' ELSE 'movement.chain' END,
    s.tenant_id, format('%s #%s', s.subject, b.sequence),
    CASE WHEN b.sequence <> b.place THEN b.place::text ELSE b.left_before::text END,
    CASE WHEN b.sequence <> b.place THEN b.sequence::text ELSE b.previous_available::text END
FROM suspects AS s
CROSS JOIN LATERAL (
    -- the first break tells enough; what follows it is shifted
    SELECT sequence, place, previous_available, left_before
    FROM (
        SELECT
            m.sequence, m.previous_available, row_number() OVER in_order AS place,
            coalesce(lag(m.new_available) OVER in_order, 0) AS left_before
        FROM stock_movements AS m
        WHERE m.tenant_id = s.tenant_id AND m.product_id = s.product_id
            AND m.warehouse = s.warehouse
        WINDOW in_order AS (ORDER BY m.sequence, m.id)
    ) AS placed
    WHERE sequence <> place OR previous_available <> left_before
    ORDER BY place LIMIT 1
) AS b
WHERE s.torn
UNION ALL
SELECT
    'movement.figures', s.tenant_id, format('%s #%s', s.subject, b.sequence),
    'previous + total - reserved - blocked = new, not below 0',
    format(
        '%s + %s - %s - %s = %s', b.previous_available, b.total_delta, b.reserved_delta,
        b.blocked_delta, b.new_available
    )
FROM suspects AS s
CROSS JOIN LATERAL (
    SELECT m.*
    FROM stock_movements AS m
    WHERE m.tenant_id = s.tenant_id AND m.product_id = s.product_id
        AND m.warehouse = s.warehouse
        AND (
            m.new_available < 0
            OR m.new_available
                <> m.previous_available + m.total_delta - m.reserved_delta - m.blocked_delta
        )
    ORDER BY m.sequence LIMIT 1
) AS b
WHERE s.miscounted > 0
UNION ALL
SELECT
    'line.movements', s.tenant_id, format('%s: %s', s.subject, coalesce(nullif(b.id, ''), 'no reservation')),
    b.moved::text, b.held::text
FROM suspects AS s
CROSS JOIN LATERAL (
    SELECT u.id, sum(u.moved) AS moved, sum(u.held) AS held
    FROM (
        SELECT coalesce(m.reference_id, '') AS id, m.reserved_delta AS moved, 0 AS held
        FROM stock_movements AS m
        WHERE m.tenant_id = s.tenant_id AND m.product_id = s.product_id
            AND m.warehouse = s.warehouse
        UNION ALL
        SELECT l.reservation_id, 0, l.held
        FROM stock_reservation_lines AS l
        WHERE l.tenant_id = s.tenant_id AND l.product_id = s.product_id
            AND l.warehouse = s.warehouse AND l.held > 0
    ) AS u
    GROUP BY u.id
    HAVING sum(u.moved) <> sum(u.held)
) AS b
WHERE s.misheld;

-- name: lines
-- Lines by themselves, and those that hold something beside their header.
SELECT v.rule, l.tenant_id, l.subject, v.expected, v.found
FROM (
    SELECT *, format('%s #%s @ %s', reservation_id, line_no, warehouse) AS subject
    FROM stock_reservation_lines
    WHERE ($1::uuid IS NULL OR tenant_id = $1) AND held > 0
) AS l
JOIN stock_reservations AS r ON r.tenant_id = l.tenant_id AND r.id = l.reservation_id
CROSS JOIN LATERAL (
    VALUES
    ('line.held', r.status <> 'ACTIVE', '0, as it is ' || r.status, l.held::text),
    ('line.expiry', r.expires_at <> l.expires_at, r.expires_at::text, l.expires_at::text)
) AS v (rule, broken, expected, found)
WHERE (r.status <> 'ACTIVE' OR r.expires_at <> l.expires_at) AND v.broken
UNION ALL
SELECT
    'line.figures', tenant_id, format('%s #%s @ %s', reservation_id, line_no, warehouse),
    'reserved = held + consumed + released, none below 0',
    format('%s = %s + %s + %s', reserved, held, consumed, released)
FROM stock_reservation_lines
WHERE ($1::uuid IS NULL OR tenant_id = $1) AND (
    reserved <= 0 OR least(held, consumed, released) < 0
    OR reserved <> held + consumed + released
);

-- name: reservations
-- Headers by themselves, and the ACTIVE ones beside what they hold.
SELECT v.rule, r.tenant_id, r.id AS subject, v.expected, v.found
FROM (
    SELECT
        *, (released_at IS NULL) <> (status IN ('PENDING', 'ACTIVE', 'FAILED'))
            OR (release_reason IS NULL) <> (released_at IS NULL)
            OR (status = 'EXPIRED') <> (coalesce(release_reason, '') = 'EXPIRED')
            OR (status = 'CONSUMED') <> (coalesce(release_reason, '') = 'CONSUMED') AS ill_ended
    FROM stock_reservations
    WHERE $1::uuid IS NULL OR tenant_id = $1
) AS r
CROSS JOIN LATERAL (
    VALUES
    ('reservation.pending', status = 'PENDING', 'a decision', status),
    (
        'reservation.requested', total_reserved > total_requested,
        'at most ' || total_requested, total_reserved::text
    ),
    (
        'reservation.failed', (status = 'FAILED') <> (total_reserved = 0),
        CASE status WHEN 'FAILED' THEN '0' ELSE 'more than 0' END, total_reserved::text
    ),
    (
        'reservation.early', status = 'EXPIRED' AND released_at < expires_at,
        'its end not before ' || expires_at, released_at::text
    ),
    (
        'reservation.end', ill_ended, 'time and reason of the end of ' || status,
        format('%s, %s', coalesce(released_at::text, 'no time'), coalesce(release_reason, 'none'))
    )
) AS v (rule, broken, expected, found)
WHERE (
    ill_ended OR status = 'PENDING' OR total_reserved > total_requested
    OR (status = 'FAILED') <> (total_reserved = 0)
    OR (status = 'EXPIRED' AND released_at < expires_at)
) AND v.broken
UNION ALL
SELECT 'reservation.holds', r.tenant_id, r.id, 'something, as it is ACTIVE', 'nothing'
FROM stock_reservations AS r
WHERE ($1::uuid IS NULL OR r.tenant_id = $1) AND r.status = 'ACTIVE'
    AND NOT EXISTS (
        SELECT FROM stock_reservation_lines AS l
        WHERE l.tenant_id = r.tenant_id AND l.reservation_id = r.id AND l.held > 0
    );

-- name: totals
-- The totals of the headers beside the sums of their lines. Weighted as above they are compared
-- in buckets, without a join of all with all; only buckets that differ are looked into.
WITH headers AS NOT MATERIALIZED (
    SELECT
        tenant_id, id, total_reserved,
        hashtextextended(id, uuid_hash_extended(tenant_id, 0)) AS hash
    FROM stock_reservations
    WHERE $1::uuid IS NULL OR tenant_id = $1
), lines AS NOT MATERIALIZED (
    SELECT
        tenant_id, reservation_id AS id, reserved,
        hashtextextended(reservation_id, uuid_hash_extended(tenant_id, 0)) AS hash
    FROM stock_reservation_lines
    WHERE $1::uuid IS NULL OR tenant_id = $1
), buckets AS MATERIALIZED (
    SELECT hash & 16383 AS bucket
    FROM (
        SELECT hash, reserved FROM lines
        UNION ALL
        SELECT hash, -total_reserved FROM headers
    ) AS u
    GROUP BY hash & 16383
    HAVING sum(hash * reserved) <> 0
)
SELECT
    CASE WHEN r.id IS NULL THEN 'line.reservation' ELSE 'reservation.total' END AS rule,
    tenant_id, id AS subject,
    CASE WHEN r.id IS NULL THEN 'a reservation' ELSE coalesce(l.reserved, 0)::text END AS expected,
    coalesce(r.total_reserved::text, 'none') AS found
FROM (
    SELECT tenant_id, id, total_reserved
    FROM headers WHERE hash & 16383 IN (SELECT bucket FROM buckets)
) AS r
FULL JOIN (
    SELECT tenant_id, id, sum(reserved) AS reserved
    FROM lines WHERE hash & 16383 IN (SELECT bucket FROM buckets)
    GROUP BY tenant_id, id
) AS l USING (tenant_id, id)
WHERE r.id IS NULL OR r.total_reserved <> coalesce(l.reserved, 0);

-- name: negotiations
-- Whom reservations are made for.
SELECT v.rule, r.tenant_id, r.id AS subject, v.expected, v.found
FROM stock_reservations AS r
LEFT JOIN negotiations AS n ON n.tenant_id = r.tenant_id AND n.id = r.negotiation_id
CROSS JOIN LATERAL (
    VALUES
    ('reservation.negotiation', n.id IS NULL, 'negotiation ' || r.negotiation_id::text, 'none'),
    (
        'negotiation.ended',
        n.state IN ('DEAD', 'TIMEOUT') AND r.status = 'ACTIVE' AND r.expires_at > statement_timestamp(),
        'nothing held, as its negotiation is ' || n.state, 'ACTIVE'
    )
) AS v (rule, broken, expected, found)
WHERE ($1::uuid IS NULL OR r.tenant_id = $1)
    AND r.order_id IS NULL
    AND (n.id IS NULL OR (n.state IN ('DEAD', 'TIMEOUT') AND r.status = 'ACTIVE'))
    AND v.broken;

-- name: orders
-- The lines of orders beside what their reservations hold and beside the movements that name the
-- order: each quantity was moved once. Once an order is reserved nothing of it is open, so what was
-- ordered and neither held nor sold without being held was released before, without a movement.
WITH orders AS NOT MATERIALIZED (
    SELECT * FROM stock_orders WHERE $1::uuid IS NULL OR tenant_id = $1
), lines AS NOT MATERIALIZED (
    SELECT * FROM stock_order_lines WHERE $1::uuid IS NULL OR tenant_id = $1
), holding AS MATERIALIZED (
    SELECT tenant_id, id, order_id, status, expires_at
    FROM stock_reservations
    WHERE order_id IS NOT NULL AND ($1::uuid IS NULL OR tenant_id = $1)
), held AS (
    SELECT r.tenant_id, r.order_id, l.line_no, l.product_id, sum(l.held) AS held
    FROM holding AS r
    JOIN stock_reservation_lines AS l ON l.tenant_id = r.tenant_id AND l.reservation_id = r.id
    WHERE r.status = 'ACTIVE'
    GROUP BY r.tenant_id, r.order_id, l.line_no, l.product_id
), moved AS (
    SELECT
        tenant_id, order_id, product_id,
        -sum(total_delta) FILTER (WHERE type = 'SALE') AS sold,
        sum(total_delta) FILTER (WHERE type = 'RETURN') AS returned,
        sum(reserved_delta) FILTER (WHERE type = 'RESERVATION') AS reserved,
        -sum(reserved_delta) FILTER (WHERE type = 'RELEASE') AS released,
        -sum(total_delta) FILTER (WHERE type = 'SALE' AND reserved_delta = 0) AS sold_unheld
    FROM stock_movements
    WHERE order_id IS NOT NULL AND ($1::uuid IS NULL OR tenant_id = $1)
    GROUP BY tenant_id, order_id, product_id
), figures AS (
    SELECT
        tenant_id, order_id, product_id,
        sum(quantity) AS quantity, sum(deducted) AS deducted, sum(released) AS released,
        sum(returned) AS returned
    FROM lines
    GROUP BY tenant_id, order_id, product_id
), compared AS (
    SELECT
        tenant_id, order_id, product_id,
        coalesce(m.sold, 0) AS sold, coalesce(f.deducted, 0) AS deducted,
        coalesce(m.returned, 0) AS came_back, coalesce(f.returned, 0) AS returned,
        coalesce(f.released, 0) AS released,
        CASE
            WHEN m.reserved IS NULL AND m.released IS NULL THEN coalesce(f.released, 0)
            ELSE coalesce(m.released, 0) + greatest(
                coalesce(f.quantity, 0) - coalesce(m.reserved, 0) - coalesce(m.sold_unheld, 0), 0
            )
        END AS given_back
    FROM figures AS f
    FULL JOIN moved AS m USING (tenant_id, order_id, product_id)
)
SELECT
    'order.reserved' AS rule, tenant_id,
    format('%s #%s', order_id, line_no) AS subject,
    coalesce(h.held, 0)::text AS expected, coalesce(l.reserved, 0)::text AS found
FROM lines AS l
FULL JOIN held AS h USING (tenant_id, order_id, line_no, product_id)
WHERE coalesce(h.held, 0) <> coalesce(l.reserved, 0)
UNION ALL
SELECT
    v.rule, c.tenant_id, format('%s, product %s', c.order_id, c.product_id), v.expected, v.found
FROM compared AS c
CROSS JOIN LATERAL (
    VALUES
    (
        'order.moved', c.sold <> c.deducted OR c.came_back <> c.returned,
        format('%s sold, %s returned', c.sold, c.came_back),
        format('%s, %s', c.deducted, c.returned)
    ),
    ('order.released', c.given_back <> c.released, c.given_back::text, c.released::text)
) AS v (rule, broken, expected, found)
WHERE (c.sold <> c.deducted OR c.came_back <> c.returned OR c.given_back <> c.released)
    AND v.broken
UNION ALL
SELECT
    'order.figures', tenant_id, format('%s #%s', order_id, line_no),
    'reserved + deducted + released up to the quantity, returned up to deducted, none below 0',
    format('%s + %s + %s of %s, %s', reserved, deducted, released, quantity, returned)
FROM lines
WHERE reserved + deducted + released > quantity OR returned > deducted
    OR least(reserved, deducted, released, returned) < 0
UNION ALL
SELECT
    'order.reservation', coalesce(r.tenant_id, o.tenant_id), coalesce(r.id, o.id::text),
    CASE WHEN r.id IS NULL THEN 'a reservation of its own'
        ELSE 'to be the one of order ' || r.order_id END,
    coalesce(o.reservation_id, 'none')
FROM holding AS r
FULL JOIN (SELECT * FROM orders WHERE reservation_id IS NOT NULL) AS o
    ON o.tenant_id = r.tenant_id AND o.id = r.order_id
WHERE o.reservation_id IS DISTINCT FROM r.id OR r.expires_at <> 'infinity'
UNION ALL
SELECT v.rule, o.tenant_id, o.id::text, v.expected, v.found
FROM orders AS o
LEFT JOIN negotiations AS n ON n.tenant_id = o.tenant_id AND n.id = o.negotiation_id
CROSS JOIN LATERAL (
    SELECT count(*) AS lines, CASE
        WHEN sum(quantity - deducted - released) = 0 AND sum(deducted) > 0 THEN 'DELIVERED'
        WHEN sum(quantity - deducted - released) = 0 THEN 'CANCELLED'
        WHEN sum(deducted) > 0 THEN 'PARTLY_DELIVERED'
        WHEN sum(reserved) > 0 THEN 'RESERVED'
        ELSE 'NEW'
    END AS status
    FROM stock_order_lines AS l
    WHERE l.tenant_id = o.tenant_id AND l.order_id = o.id
) AS s
CROSS JOIN LATERAL (
    VALUES
    ('order.status', s.status <> o.status, s.status, o.status),
    ('order.lines', s.lines = 0, 'a line', 'none'),
    (
        'order.negotiation', o.negotiation_id IS NOT NULL AND n.id IS NULL,
        'negotiation ' || o.negotiation_id, 'none'
    )
) AS v (rule, broken, expected, found)
WHERE (s.status <> o.status OR s.lines = 0 OR (o.negotiation_id IS NOT NULL AND n.id IS NULL))
    AND v.broken;

-- name: products
-- Locking finds a product by its levels.
SELECT
    'product.level' AS rule, p.tenant_id, p.sku AS subject, 'a level' AS expected, 'none' AS found
FROM products AS p
WHERE ($1::uuid IS NULL OR p.tenant_id = $1)
    AND NOT EXISTS (
        SELECT FROM stock_levels AS s WHERE s.tenant_id = p.tenant_id AND s.product_id = p.id
    );

-- name: counts
SELECT
    (SELECT count(*) FROM tenants WHERE $1::uuid IS NULL OR id = $1) AS tenants,
    (SELECT count(*) FROM stock_levels WHERE $1::uuid IS NULL OR tenant_id = $1) AS levels,
    (SELECT count(*) FROM stock_movements WHERE $1::uuid IS NULL OR tenant_id = $1) AS movements,
    (SELECT count(*) FROM stock_reservations WHERE $1::uuid IS NULL OR tenant_id = $1)
        AS reservations;
