-- What one run of a sync does with what arrived: on connections of its own, in temporary tables that
-- end with them. A run has several such lanes, each with its part of the SKUs; `lane` tells whose.

-- name: make_tables
CREATE TEMP TABLE incoming (
    sku text COLLATE "C" NOT NULL,
    warehouse text COLLATE "C" NOT NULL,
    lot text COLLATE "C",
    total numeric,
    available numeric,
    price numeric,
    currency text,
    status text,
    broken boolean NOT NULL
);
CREATE TEMP TABLE candidates (
    place int8 NOT NULL,
    product_id uuid NOT NULL,
    sku text COLLATE "C" NOT NULL,
    warehouse text COLLATE "C" NOT NULL,
    total numeric NOT NULL,
    available numeric,
    erp_total numeric,
    local_total numeric,
    agreed_total numeric,
    pending numeric,
    blocked numeric,
    open boolean NOT NULL,
    plain boolean NOT NULL,
    reorder_point numeric,
    version int8
);
CREATE TEMP TABLE product_changes (
    place int8 NOT NULL,
    product_id uuid NOT NULL,
    sku text COLLATE "C" NOT NULL,
    price numeric,
    currency text,
    status text,
    new_price numeric,
    new_currency text,
    new_status text
);
CREATE TEMP TABLE unknown (
    place int8 NOT NULL,
    product_id uuid NOT NULL,
    sku text COLLATE "C" NOT NULL,
    price numeric,
    currency text,
    status text
);

-- name: forget
DELETE FROM incoming WHERE sku = ANY ($1::text[]);

-- name: is_unique
SELECT NOT EXISTS (
    SELECT FROM incoming WHERE warehouse <> '' GROUP BY sku, warehouse HAVING count(*) > 1
);

-- name: gather
-- Duplicates, lots and sums by the rules of erp/gather.py.
CREATE TEMP TABLE figures AS
SELECT
    sku, warehouse, sum(total) AS total,
    CASE WHEN count(available) = count(*) THEN sum(available) END AS available,
    CASE WHEN count(DISTINCT (price, currency)) FILTER (WHERE price IS NOT NULL) = 1
        THEN min(price) END AS price,
    CASE WHEN count(DISTINCT (price, currency)) FILTER (WHERE price IS NOT NULL) = 1
        THEN min(currency) FILTER (WHERE price IS NOT NULL) END AS currency,
    CASE WHEN min(status) = max(status) THEN min(status) END AS status,
    bool_or(broken) AS broken,
    bool_or(conflicting) AS conflicting
FROM (
    SELECT
        sku, warehouse, lot, min(total) AS total, min(available) AS available,
        min(price) AS price, min(currency) AS currency, min(status) AS status,
        conflicting, bool_or(broken) OR conflicting AS broken
    FROM (
        SELECT
            sku, warehouse, lot, total, available, price, currency, status, broken,
            (count(*) OVER w) > 1 AND (
                (min(total) OVER w) <> (max(total) OVER w)
                OR (count(available) OVER w) NOT IN (0, count(*) OVER w)
                OR (min(available) OVER w) <> (max(available) OVER w)
                OR (count(price) OVER w) NOT IN (0, count(*) OVER w)
                OR (min(price) OVER w) <> (max(price) OVER w)
                OR (count(currency) OVER w) NOT IN (0, count(*) OVER w)
                OR (min(currency) OVER w) <> (max(currency) OVER w)
                OR (count(status) OVER w) NOT IN (0, count(*) OVER w)
                OR (min(status) OVER w) <> (max(status) OVER w)
            ) IS TRUE AS conflicting
        FROM incoming
        WINDOW w AS (PARTITION BY sku, warehouse, lot)
    ) AS each
    GROUP BY sku, warehouse, lot, conflicting
) AS lots
GROUP BY sku, warehouse;

-- name: gather_unique
-- The same where no key comes twice, which is nearly always: nothing needs to be put together.
ALTER TABLE incoming RENAME TO figures;

-- name: mark_unique
ALTER TABLE figures ADD COLUMN conflicting boolean NOT NULL DEFAULT false;

-- name: mark_versions
ALTER TABLE figures ADD COLUMN version int8;

-- name: stage_plan
-- A dry run's plan comes as figures of ours, with the version that each level had; prices and states
-- of products have no warehouse.
INSERT INTO figures (
    sku, warehouse, total, available, price, currency, status, broken, conflicting, version
)
SELECT
    sku, coalesce(warehouse, ''), erp_total, erp_available, price, currency, status,
    false, false, version
FROM sync_plans
WHERE tenant_id = $1 AND sync_id = $2
    AND (length(sku) - length(translate(sku, $3, ''))) % 2 = $4::int4;

-- name: too_much
-- What no level can hold, as the sum of lots may be.
UPDATE figures SET broken = true WHERE abs(total) > $1 AND NOT broken RETURNING sku, warehouse;

-- name: conflicting
SELECT sku, warehouse FROM figures WHERE conflicting ORDER BY sku, warehouse LIMIT $1;

-- name: compare
-- What arrived beside what we have: what may have to be changed, products that differ, products that
-- we do not have, and how much of everything there is. A level may have to be changed where the ERP
-- says something new, or we are told to believe it anyway. `$7` has the decimal places of each unit;
-- `$9`: not all of each product was read.
WITH joined AS MATERIALIZED (
    SELECT
        f.sku, f.warehouse, f.total, f.price, f.currency, f.status, f.broken, f.version,
        CASE WHEN $4 THEN f.available ELSE greatest(f.total, 0) END AS available,
        p.id AS product_id, p.unit, p.price AS our_price, p.currency AS our_currency,
        p.status AS our_status, p.reorder_point,
        e.erp_total, e.local_total, e.agreed_total, e.pending, e.blocked, c.id AS conflict_id
    FROM figures AS f
    LEFT JOIN products AS p ON p.tenant_id = $1 AND p.sku = f.sku
    LEFT JOIN erp_levels AS e ON e.tenant_id = $1 AND e.integration_id = $2
        AND e.product_id = p.id AND e.warehouse = f.warehouse
    LEFT JOIN sync_conflicts AS c ON c.tenant_id = $1 AND c.integration_id = $2
        AND c.product_id = p.id AND c.warehouse = f.warehouse AND c.field = 'stock_total'
        AND c.resolution IS NULL
), levels AS (
    INSERT INTO candidates
    SELECT
        row_number() OVER (ORDER BY product_id, warehouse),
        product_id, sku, warehouse, total, available,
        erp_total, local_total, agreed_total, pending, blocked, conflict_id IS NOT NULL,
        conflict_id IS NULL AND warehouse = ANY ($8::text[])
            AND total = round(total, ($7::jsonb ->> unit)::int4)
            AND (available IS NULL OR available = round(available, ($7::jsonb ->> unit)::int4)),
        CASE WHEN our_status = 'ACTIVE' THEN reorder_point END, version
    FROM joined
    WHERE product_id IS NOT NULL AND NOT broken AND total IS NOT NULL AND (
        $3 OR erp_total IS NULL OR conflict_id IS NOT NULL OR greatest(total, 0) <> erp_total
        OR greatest(greatest(total, 0) - available, 0) <> blocked
    )
), agreed AS (
    -- A product of several warehouses has one price and state only where they agree; where not all
    -- that is remembered of it was read, the others might not. A price of no currency is one in lei.
    SELECT
        product_id, sku, our_price, our_currency, our_status,
        CASE WHEN $5 AND min(price) = max(price) AND min(price) BETWEEN 0 AND 9999999999
            AND min(currency) IS NOT DISTINCT FROM max(currency)
            AND count(currency) IN (0, count(price))
            AND (count(currency) > 0 OR our_price IS NULL OR our_currency = 'RON')
            THEN round(min(price), 4) END AS price,
        CASE WHEN $5 AND min(price) = max(price) AND min(currency) = max(currency)
            THEN min(currency) END AS currency,
        CASE WHEN $6 AND min(status) = max(status) THEN min(status) END AS status
    FROM joined
    WHERE NOT broken AND (product_id IS NULL OR product_id IN (
        SELECT j.product_id FROM joined AS j
        WHERE j.price <> j.our_price OR j.currency <> j.our_currency OR j.status <> j.our_status
            OR j.our_price IS NULL AND j.price IS NOT NULL
    ))
    GROUP BY product_id, sku, our_price, our_currency, our_status
    HAVING NOT $9 OR product_id IS NULL OR count(erp_total) = (
        SELECT count(*) FROM erp_levels AS o
        WHERE o.tenant_id = $1 AND o.integration_id = $2 AND o.product_id = joined.product_id
    )
), changes AS (
    INSERT INTO product_changes
    SELECT row_number() OVER (ORDER BY product_id), *
    FROM (
        SELECT
            product_id, sku, our_price, our_currency, our_status,
            CASE WHEN price IS DISTINCT FROM our_price THEN price END AS new_price,
            CASE WHEN price IS NOT NULL AND currency <> our_currency THEN currency END
                AS new_currency,
            CASE WHEN status <> our_status THEN status END AS new_status
        FROM agreed WHERE product_id IS NOT NULL
    ) AS x
    WHERE coalesce(new_price::text, new_currency, new_status) IS NOT NULL
), strangers AS (
    INSERT INTO unknown
    SELECT row_number() OVER (ORDER BY sku), gen_random_uuid(), sku, price, currency, status
    FROM agreed WHERE product_id IS NULL
)
SELECT
    count(*) FILTER (WHERE warehouse <> '') AS rows,
    count(*) FILTER (WHERE broken AND warehouse <> '') AS broken,
    count(erp_total) AS remembered,
    count(*) FILTER (
        WHERE currency IS NULL AND price <> our_price AND our_currency <> 'RON' AND NOT broken
    ) AS foreign_prices
FROM joined;

-- name: compare_made
-- The levels of products that are made, or in a dry run would be: after all others.
INSERT INTO candidates
SELECT
    coalesce((SELECT max(place) FROM candidates), 0)
        + row_number() OVER (ORDER BY coalesce(p.id, u.product_id), f.warehouse),
    coalesce(p.id, u.product_id), f.sku, f.warehouse, f.total,
    CASE WHEN $2 THEN f.available ELSE greatest(f.total, 0) END,
    NULL, NULL, NULL, NULL, NULL, false,
    f.warehouse = ANY ($4::text[]) AND f.total = round(f.total, $3::int4)
        AND (f.available IS NULL OR f.available = round(f.available, $3::int4)),
    p.reorder_point, f.version
FROM unknown AS u
JOIN figures AS f ON f.sku = u.sku
LEFT JOIN products AS p ON p.tenant_id = $1 AND p.sku = u.sku
WHERE NOT f.broken AND f.total IS NOT NULL;

-- name: foreign_prices
-- Prices of no currency, of products that are priced in another one than lei: they are left alone.
SELECT DISTINCT f.sku, p.currency
FROM figures AS f JOIN products AS p ON p.tenant_id = $1 AND p.sku = f.sku
WHERE f.currency IS NULL AND f.price <> p.price AND NOT f.broken AND p.currency <> 'RON'
ORDER BY f.sku LIMIT $2;

-- name: index_candidates
CREATE UNIQUE INDEX ON candidates (place);

-- name: index_product_changes
CREATE UNIQUE INDEX ON product_changes (place);

-- name: index_unknown
CREATE UNIQUE INDEX ON unknown (place);

-- name: count_staged
SELECT
    (SELECT count(*) FROM candidates) AS levels,
    (SELECT count(*) FROM product_changes) AS products,
    (SELECT count(*) FROM unknown) AS unknown;

-- name: emptied
-- How many levels with stock that can be sold would have none of it.
SELECT count(*) AS levels
FROM figures AS f
JOIN products AS p ON p.tenant_id = $1 AND p.sku = f.sku
JOIN stock_levels AS l ON l.tenant_id = $1 AND l.product_id = p.id AND l.warehouse = f.warehouse
WHERE NOT f.broken AND (f.total <= 0 OR $2 AND f.available <= 0) AND l.total > l.blocked;

-- name: stocked
-- How many levels with stock that can be sold it tells of.
SELECT count(*) AS levels
FROM figures AS f
JOIN products AS p ON p.tenant_id = $1 AND p.sku = f.sku
JOIN stock_levels AS l ON l.tenant_id = $1 AND l.product_id = p.id AND l.warehouse = f.warehouse
WHERE NOT f.broken AND l.total > l.blocked;

-- name: unknown_skus
SELECT sku FROM unknown WHERE place <= $1 ORDER BY place;

-- name: unknown_but_for_case
-- Products that we have, written otherwise.
SELECT u.sku, min(p.sku) AS ours
FROM unknown AS u JOIN products AS p ON p.tenant_id = $1 AND lower(p.sku) = lower(u.sku)
GROUP BY u.sku ORDER BY u.sku LIMIT $2;

-- name: missing
-- Levels that this integration has told of before, and a whole snapshot no longer does. `whole`:
-- none of the product's.
SELECT
    p.sku, bool_and(f.sku IS NULL) AS whole,
    array_agg(e.warehouse ORDER BY e.warehouse) FILTER (WHERE f.sku IS NULL) AS warehouses
FROM erp_levels AS e
JOIN products AS p ON p.tenant_id = $1 AND p.id = e.product_id
LEFT JOIN figures AS f ON f.sku = p.sku AND f.warehouse = e.warehouse
WHERE e.tenant_id = $1 AND e.integration_id = $2
    AND (length(p.sku) - length(translate(p.sku, $3, ''))) % 2 = $4::int4
GROUP BY p.sku
HAVING bool_or(f.sku IS NULL)
    -- it is told of, if only of a warehouse that is none here
    AND NOT EXISTS (SELECT FROM figures AS w WHERE w.sku = p.sku AND w.warehouse = '')
ORDER BY p.sku LIMIT $5;

-- name: not_told
-- Of the SKUs that were asked for, those that did not come.
SELECT q.sku FROM unnest($1::text[]) AS q (sku)
WHERE (length(q.sku) - length(translate(q.sku, $2, ''))) % 2 = $3::int4
    AND NOT EXISTS (SELECT FROM figures AS f WHERE f.sku = q.sku);

-- name: told_by_others
-- Levels of this reading that another integration tells, too.
SELECT i.erp_system, count(*) AS levels
FROM candidates AS c
JOIN erp_levels AS e ON e.tenant_id = $1 AND e.integration_id <> $2
    AND e.product_id = c.product_id AND e.warehouse = c.warehouse
JOIN erp_integrations AS i ON i.tenant_id = $1 AND i.id = e.integration_id AND i.enabled
GROUP BY i.erp_system;

-- name: make_products
INSERT INTO products (tenant_id, id, sku, name, unit, price, currency, status)
SELECT $1, product_id, sku, sku, $4, price, coalesce(currency, 'RON'), coalesce(status, 'ACTIVE')
FROM unknown WHERE place > $2 AND place <= $3
ORDER BY sku
ON CONFLICT (tenant_id, sku) DO NOTHING;

-- name: made_products
SELECT u.sku, p.id AS product_id, p.status
FROM unknown AS u JOIN products AS p ON p.tenant_id = $1 AND p.sku = u.sku
WHERE u.place <= $2 ORDER BY u.place;

-- name: unknown_products
SELECT sku, product_id, coalesce(status, 'ACTIVE') AS status FROM unknown WHERE place <= $1 ORDER BY place;

-- name: would_be
-- Products that a dry run would make, of these SKUs.
SELECT product_id, sku, coalesce(status, 'ACTIVE') AS status
FROM unknown WHERE sku = ANY ($1::text[]);

-- name: suppose_product
INSERT INTO products (tenant_id, id, sku, name, unit, status) VALUES ($1, $2, $3, $3, $4, $5)
ON CONFLICT DO NOTHING;

-- name: make_levels
-- Levels that there are not yet, empty; each is somebody else's like ours.
INSERT INTO stock_levels (tenant_id, product_id, warehouse)
SELECT $1, c.product_id, c.warehouse
FROM candidates AS c
WHERE c.place > $2 AND c.place <= $3 AND c.plain AND c.total > 0 AND NOT EXISTS (
    SELECT FROM stock_levels AS l
    WHERE l.tenant_id = $1 AND l.product_id = c.product_id AND l.warehouse = c.warehouse
)
ORDER BY c.place
ON CONFLICT DO NOTHING;

-- name: lock_candidates
-- In the one fixed order; the clock after that, and how many have no level yet that need one.
SELECT
    clock_timestamp() AS now,
    count(*) FILTER (WHERE s.found IS NULL AND c.total > 0) AS without_level
FROM (
    SELECT product_id, warehouse, total FROM candidates
    WHERE place > $2 AND place <= $3 AND plain
    ORDER BY place
) AS c
LEFT JOIN LATERAL (
    SELECT 1 AS found FROM stock_levels AS l
    WHERE l.tenant_id = $1 AND l.product_id = c.product_id AND l.warehouse = c.warehouse
    FOR NO KEY UPDATE
) AS s ON true;

-- name: apply_plain
-- What `domain.sync.decide` does where it is plain: only the ERP has changed, all that is reserved
-- and blocked fits, and nothing falls to its reorder point. What is not so is left to it: the
-- candidate is marked. The levels are locked; a statement of its own sees what they are by now. Rows
-- are found by LATERAL and LIMIT, which no statistics can turn round.
WITH here AS MATERIALIZED (
    SELECT
        c.place, c.product_id, c.sku, c.warehouse, c.reorder_point, c.erp_total,
        c.local_total, c.agreed_total, c.pending, c.blocked AS known_blocked,
        greatest(c.total, 0) AS erp, c.total AS told, c.available AS told_available,
        coalesce(l.total, 0) AS total, coalesce(l.reserved, 0) AS reserved,
        coalesce(l.blocked, 0) AS blocked, coalesce(l.version, 0) AS version, l.spot,
        c.version AS version_then,
        greatest(coalesce(l.blocked, 0) - coalesce(c.blocked, 0), 0) AS own,
        CASE WHEN c.available IS NULL THEN coalesce(c.blocked, 0)
            ELSE greatest(greatest(c.total, 0) - c.available, 0) END AS erps
    FROM candidates AS c
    LEFT JOIN LATERAL (
        SELECT k.total, k.reserved, k.blocked, k.version, k.ctid AS spot
        FROM stock_levels AS k
        WHERE k.tenant_id = $1 AND k.product_id = c.product_id AND k.warehouse = c.warehouse
        LIMIT 1
    ) AS l ON true
    WHERE c.place > $2 AND c.place <= $3 AND c.plain
), decided AS MATERIALIZED (
    SELECT
        *, total <> erp OR blocked <> own + erps AS changes,
        (version_then IS NULL OR version_then = version)
            AND ($6 OR erp_total IS NULL
                OR pending + total - local_total = 0 AND erp <> erp_total)
            AND erp >= reserved + own + erps
            AND (
                reorder_point IS NULL
                OR erp - own - erps >= total - blocked
                OR erp - reserved - own - erps > reorder_point
            ) AS plain
    FROM here
), changed AS MATERIALIZED (
    SELECT *, row_number() OVER (ORDER BY place) AS n FROM decided WHERE plain AND changes
), levels AS (
    UPDATE stock_levels AS s
    SET total = d.erp, blocked = d.own + d.erps, version = d.version + 1, updated_at = $9
    FROM changed AS d
    WHERE s.ctid = d.spot AND s.tenant_id = $1 AND NOT $7
    RETURNING 1
), movements AS (
    INSERT INTO stock_movements (
        tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,
        previous_available, sequence, reference_type, reference_id, created_by, created_at
    )
    SELECT
        $1, ($8::text[])[n], product_id, warehouse, sku, 'SYNC', erp - total, 0,
        own + erps - blocked, total - reserved - blocked, version + 1, 'SYNC', $5, $10, $9
    FROM changed WHERE NOT $7
), news AS MATERIALIZED (
    SELECT product_id, warehouse, erp, erps, erp_total IS NOT NULL AS known
    FROM decided
    WHERE plain AND NOT $7
        AND (erp, erp, erp, 0, erps)
            IS DISTINCT FROM (erp_total, local_total, agreed_total, pending, known_blocked)
), remembered AS (
    -- three times as fast as an upsert
    UPDATE erp_levels AS e
    SET erp_total = erp, local_total = erp, agreed_total = erp, pending = 0, blocked = erps,
        synced_at = $9
    FROM news AS x
    CROSS JOIN LATERAL (
        SELECT k.ctid AS spot FROM erp_levels AS k
        WHERE k.tenant_id = $1 AND k.integration_id = $4 AND k.product_id = x.product_id
            AND k.warehouse = x.warehouse
        LIMIT 1
    ) AS f
    WHERE e.ctid = f.spot AND e.tenant_id = $1 AND x.known
), learned AS (
    INSERT INTO erp_levels (
        tenant_id, integration_id, product_id, warehouse, erp_total, local_total, agreed_total,
        pending, blocked, synced_at
    )
    SELECT $1, $4, product_id, warehouse, erp, erp, erp, 0, erps, $9 FROM news WHERE NOT known
), planned AS (
    INSERT INTO sync_plans (
        tenant_id, sync_id, place, sku, warehouse, version, erp_total, erp_available
    )
    -- what is agreed, too: applying it is to learn the same
    SELECT $1, $5, place * $12::int4 + $13::int4, sku, warehouse, version, told, told_available
    FROM decided WHERE plain AND $7
), left_over AS (
    UPDATE candidates AS c SET plain = false
    FROM decided AS d WHERE c.place = d.place AND NOT d.plain
), counted AS (
    SELECT
        count(*) FILTER (WHERE plain) AS decided,
        count(*) FILTER (WHERE plain AND changes) AS updated,
        count(*) FILTER (WHERE plain AND total <> erp)
            + count(*) FILTER (WHERE plain AND total - blocked <> erp - own - erps) AS fields
    FROM decided
)
SELECT
    counted.*, (SELECT count(*) FROM levels) AS written,
    t.sku, t.product_id, t.warehouse, t.total, t.total - t.reserved - t.blocked AS available,
    t.erp AS new_total, t.erp - t.reserved - t.own - t.erps AS new_available
FROM counted
LEFT JOIN changed AS t ON t.n <= $11
ORDER BY t.n;

-- name: left_over
-- What is to be decided one by one.
SELECT * FROM candidates WHERE place > $1 AND NOT plain ORDER BY place LIMIT $2;

-- name: told_product_changes
SELECT * FROM product_changes WHERE place <= $1 ORDER BY place;

-- name: count_product_changes
SELECT count(new_price) + count(new_currency) + count(new_status) AS fields FROM product_changes;

-- name: change_products
UPDATE products AS p
SET price = coalesce(x.new_price, p.price), currency = coalesce(x.new_currency, p.currency),
    status = coalesce(x.new_status, p.status),
    erp_last_sync_at = now(), updated_at = now()
FROM product_changes AS x
WHERE x.place > $2 AND x.place <= $3 AND p.tenant_id = $1 AND p.id = x.product_id;

-- name: plan_products
INSERT INTO sync_plans (
    tenant_id, sync_id, place, sku, price, currency, status,
    price_then, currency_then, status_then
)
SELECT
    $1, $2, -(row_number() OVER (ORDER BY sku) * $3::int4 + $4::int4), sku,
    -- a currency is one of a price
    CASE WHEN new_currency IS NULL THEN new_price ELSE coalesce(new_price, price) END,
    new_currency, new_status, price, currency, status
FROM (
    SELECT sku, new_price, new_currency, new_status, price, currency, status FROM product_changes
    UNION ALL
    SELECT sku, price, currency, status, NULL, NULL, NULL FROM unknown WHERE $5
) AS x;
