-- What a sync asks of the database, on a connection of its own. `$1` is the tenant wherever a
-- tenant's rows are touched. What arrives is kept in temporary tables, which end with the connection.

-- name: take_turn
-- One run of an integration at a time; the lock ends with the connection.
SELECT pg_try_advisory_lock(hashtextextended('cerniq sync ' || $1::uuid, 0));

-- name: make_incoming
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

-- name: gather
-- Duplicates, lots and sums by the rules of erp/gather.py.
CREATE TEMP TABLE figures AS
SELECT
    sku, warehouse, sum(total) AS total,
    CASE WHEN count(available) = count(*) THEN sum(available) END AS available,
    CASE WHEN min(price) = max(price) AND min(currency) IS NOT DISTINCT FROM max(currency)
        THEN min(price) END AS price,
    CASE WHEN min(price) = max(price) AND min(currency) IS NOT DISTINCT FROM max(currency)
        THEN min(currency) END AS currency,
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
                OR (min(currency) OVER w) <> (max(currency) OVER w)
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

-- name: is_unique
SELECT NOT EXISTS (SELECT FROM incoming GROUP BY sku, warehouse HAVING count(*) > 1);

-- name: too_much
-- What no level can hold, as the sum of lots may be.
UPDATE figures SET broken = true WHERE abs(total) > $1 AND NOT broken RETURNING sku, warehouse;

-- name: conflicting
SELECT sku, warehouse FROM figures WHERE conflicting ORDER BY sku, warehouse LIMIT $1;

-- name: find_candidates
-- What may have to be changed: the ERP says something new, or we are told to believe it anyway.
CREATE TEMP TABLE candidates AS
SELECT
    row_number() OVER (ORDER BY p.id, f.warehouse) AS place,
    f.sku, f.warehouse, f.total, CASE WHEN $4 THEN f.available END AS available,
    e.erp_total, e.local_total, e.agreed_total, e.pending, e.blocked,
    c.id IS NOT NULL AS open
FROM figures AS f
JOIN products AS p ON p.tenant_id = $1 AND p.sku = f.sku
LEFT JOIN sync_conflicts AS c ON c.tenant_id = $1 AND c.integration_id = $2
    AND c.product_id = p.id AND c.warehouse = f.warehouse AND c.field = 'stock_total'
    AND c.resolution IS NULL
LEFT JOIN erp_levels AS e ON e.tenant_id = $1 AND e.integration_id = $2
    AND e.product_id = p.id AND e.warehouse = f.warehouse
WHERE NOT f.broken AND f.total IS NOT NULL AND (
    $3 OR e.erp_total IS NULL OR c.id IS NOT NULL OR greatest(f.total, 0) <> e.erp_total
    OR ($4 AND greatest(greatest(f.total, 0) - f.available, 0) <> e.blocked)
);

-- name: index_candidates
CREATE UNIQUE INDEX candidates_place ON candidates (place);

-- name: candidates
SELECT * FROM candidates WHERE place > $1 ORDER BY place LIMIT $2;

-- name: count_figures
SELECT
    count(*) AS rows, count(DISTINCT sku) AS products,
    count(*) FILTER (WHERE broken) AS broken
FROM figures;

-- name: count_candidates
SELECT count(*) FROM candidates;

-- name: product_changes
-- Prices and states that the ERP has changed; a product of several warehouses has one of each only
-- where they agree.
SELECT p.id, p.sku, p.price, p.currency, p.status,
    CASE WHEN $2 THEN x.price END AS new_price, CASE WHEN $2 THEN x.currency END AS new_currency,
    CASE WHEN $3 THEN x.status END AS new_status
FROM (
    SELECT
        sku,
        CASE WHEN min(price) = max(price) THEN round(min(price), 4) END AS price,
        CASE WHEN min(currency) = max(currency) THEN min(currency) END AS currency,
        CASE WHEN min(status) = max(status) THEN min(status) END AS status
    FROM figures WHERE NOT broken GROUP BY sku
) AS x
JOIN products AS p ON p.tenant_id = $1 AND p.sku = x.sku
WHERE ($2 AND x.price IS NOT NULL AND (
        p.price IS DISTINCT FROM x.price OR coalesce(x.currency, p.currency) <> p.currency
    ))
    OR ($3 AND x.status IS NOT NULL AND x.status <> p.status)
ORDER BY p.id;

-- name: change_products
UPDATE products AS p
SET price = coalesce(x.price, p.price), currency = coalesce(x.currency, p.currency),
    status = coalesce(x.status, p.status), erp_last_sync_at = now(), updated_at = now()
FROM unnest($2::uuid[], $3::numeric[], $4::text[], $5::text[]) AS x (id, price, currency, status)
WHERE p.tenant_id = $1 AND p.id = x.id;

-- name: unknown_skus
SELECT f.sku FROM figures AS f
WHERE NOT f.broken AND NOT EXISTS (SELECT FROM products AS p WHERE p.tenant_id = $1 AND p.sku = f.sku)
GROUP BY f.sku ORDER BY f.sku LIMIT $2;

-- name: missing_skus
-- Products that this integration has told of before, and a whole snapshot no longer does.
SELECT p.sku
FROM (
    SELECT DISTINCT product_id FROM erp_levels WHERE tenant_id = $1 AND integration_id = $2
) AS e
JOIN products AS p ON p.tenant_id = $1 AND p.id = e.product_id
WHERE NOT EXISTS (SELECT FROM figures AS f WHERE f.sku = p.sku)
ORDER BY p.sku LIMIT $3;

-- name: zeroing
-- Of the levels that have stock here and that a snapshot tells of, how many there are and how many
-- it would empty.
SELECT count(*) AS stocked, count(*) FILTER (WHERE f.total <= 0) AS emptied
FROM figures AS f
JOIN products AS p ON p.tenant_id = $1 AND p.sku = f.sku
JOIN stock_levels AS l ON l.tenant_id = $1 AND l.product_id = p.id AND l.warehouse = f.warehouse
WHERE NOT f.broken AND l.total > 0;

-- name: last_snapshot
-- How many rows the last whole snapshot had that was applied.
SELECT (statistics_json ->> 'totalProducts')::int8
FROM stock_sync_logs
WHERE tenant_id = $1 AND integration_id = $2 AND result_json @> '{"whole": true}' AND NOT dry_run
    AND status IN ('SUCCESS', 'PARTIAL')
ORDER BY completed_at DESC LIMIT 1;

-- name: keep_conflicts
INSERT INTO sync_conflicts AS c (
    tenant_id, integration_id, erp_system, sync_id, seen_at, first_seen_at, field,
    id, product_id, sku, warehouse, reason, local_value, erp_value, erp_available, last_agreed
)
SELECT $1, $2, $3, $4, now(), now(), 'stock_total', x.*
FROM unnest(
    $5::text[], $6::uuid[], $7::text[], $8::text[], $9::text[], $10::numeric[], $11::numeric[],
    $12::numeric[], $13::numeric[]
) AS x
ON CONFLICT (tenant_id, integration_id, product_id, warehouse, field) WHERE resolution IS NULL
DO UPDATE SET sync_id = EXCLUDED.sync_id, seen_at = EXCLUDED.seen_at, reason = EXCLUDED.reason,
    local_value = EXCLUDED.local_value, erp_value = EXCLUDED.erp_value,
    erp_available = EXCLUDED.erp_available;

-- name: end_conflicts
-- Levels that agree again need nobody.
UPDATE sync_conflicts AS c
SET resolution = 'GONE', resolved_at = now(), resolved_by = 'sync ' || $3
FROM unnest($4::uuid[], $5::text[]) AS x (product_id, warehouse)
WHERE c.tenant_id = $1 AND c.integration_id = $2 AND c.product_id = x.product_id
    AND c.warehouse = x.warehouse AND c.resolution IS NULL;

-- name: has_conflicts
SELECT EXISTS (
    SELECT FROM sync_conflicts
    WHERE tenant_id = $1 AND integration_id = $2 AND resolution IS NULL
);

-- name: plan_levels
INSERT INTO sync_plans (
    tenant_id, sync_id, place, sku, warehouse, version, erp_total, erp_available
)
SELECT $1, $2, x.*
FROM unnest($3::int4[], $4::text[], $5::text[], $6::int8[], $7::numeric[], $8::numeric[]) AS x;

-- name: plan_products
INSERT INTO sync_plans (tenant_id, sync_id, place, sku, price, currency, status)
SELECT $1, $2, x.*
FROM unnest($3::int4[], $4::text[], $5::numeric[], $6::text[], $7::text[]) AS x;

-- name: planned
SELECT * FROM sync_plans WHERE tenant_id = $1 AND sync_id = $2 ORDER BY place;

-- name: moved
-- Levels of a plan that are not what they were.
SELECT s.sku
FROM sync_plans AS s
JOIN products AS p ON p.tenant_id = $1 AND p.sku = s.sku
LEFT JOIN stock_levels AS l
    ON l.tenant_id = $1 AND l.product_id = p.id AND l.warehouse = s.warehouse
WHERE s.tenant_id = $1 AND s.sync_id = $2 AND s.version IS NOT NULL
    AND coalesce(l.version, 0) <> s.version
ORDER BY s.place LIMIT $3;

-- name: drop_plan
DELETE FROM sync_plans WHERE tenant_id = $1 AND sync_id = $2;

-- name: log_run
INSERT INTO stock_sync_logs (
    tenant_id, id, integration_id, erp_system, sync_type, status, statistics_json, changes_count,
    conflicts_count, errors_count, error_message, started_at, completed_at, duration_ms, dry_run,
    result_json
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: runs
SELECT
    id, erp_system, sync_type, status, dry_run, applied_as, statistics_json, changes_count,
    conflicts_count, errors_count, error_message, started_at, completed_at, duration_ms
FROM stock_sync_logs
WHERE tenant_id = $1 AND ($2::text IS NULL OR erp_system = $2)
ORDER BY id DESC LIMIT $3;

-- name: dry_run
SELECT
    s.*, s.result_json -> 'asked' AS asked,
    EXISTS (
        SELECT FROM stock_sync_logs AS o
        WHERE o.tenant_id = $1 AND o.integration_id = s.integration_id AND o.id > s.id
            AND NOT o.dry_run AND o.status <> 'FAILED'
    ) AS overtaken
FROM stock_sync_logs AS s
WHERE s.tenant_id = $1 AND s.id = $2 AND s.dry_run;

-- name: warehouses
SELECT warehouses FROM tenants WHERE id = $1;

-- name: stage_plan
-- Prices and states of a plan are compared like those that arrive.
INSERT INTO figures (sku, warehouse, price, currency, status, broken, conflicting)
SELECT sku, '', price, currency, status, false, false
FROM sync_plans WHERE tenant_id = $1 AND sync_id = $2 AND version IS NULL;

-- name: mark_applied
UPDATE stock_sync_logs SET applied_as = $3
WHERE tenant_id = $1 AND id = $2 AND applied_as IS NULL;

-- name: conflicts
SELECT * FROM sync_conflicts
WHERE tenant_id = $1 AND ($2::text IS NULL OR erp_system = $2)
    AND ($3 OR resolution IS NULL) AND ($4::text IS NULL OR id > $4)
ORDER BY id LIMIT $5;

-- name: open_conflict
SELECT * FROM sync_conflicts WHERE tenant_id = $1 AND id = $2;

-- name: see_conflict
-- What it is about has moved since somebody looked.
UPDATE sync_conflicts AS c SET local_value = l.total, seen_at = now()
FROM stock_levels AS l
WHERE c.tenant_id = $1 AND c.id = $2 AND l.tenant_id = $1 AND l.product_id = c.product_id
    AND l.warehouse = c.warehouse AND l.total <> c.local_value
RETURNING l.total;

-- name: resolve_conflict
UPDATE sync_conflicts
SET resolution = $3, resolved_value = $4, resolved_by = $5, resolved_because = $6,
    resolved_at = now()
WHERE tenant_id = $1 AND id = $2 AND resolution IS NULL;

-- name: remembered
SELECT e.erp_total, e.local_total, e.agreed_total, e.pending, e.blocked
FROM erp_levels AS e
WHERE e.tenant_id = $1 AND e.integration_id = $2 AND e.product_id = $3 AND e.warehouse = $4;

-- name: finish_integration
-- The watermark of another configuration is no place to go on from.
UPDATE erp_integrations
SET last_sync_at = $3, last_sync_status = $4, updated_at = now(),
    watermark = CASE WHEN $5::jsonb IS NOT NULL AND config_revision = $6 THEN $5 ELSE watermark END
WHERE tenant_id = $1 AND id = $2;

-- name: create_products
INSERT INTO products (tenant_id, id, sku, name, unit)
SELECT $1, x.id, x.sku, x.sku, $4
FROM unnest($2::uuid[], $3::text[]) AS x (id, sku)
ON CONFLICT (tenant_id, sku) DO NOTHING;
