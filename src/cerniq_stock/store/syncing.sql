-- What syncs leave behind: conflicts, plans, logs. `$1` is the tenant. What a run does with what
-- arrives stands in staging.sql.

-- name: take_turn
-- One run of an integration at a time; the lock ends with the connection. `$1` is the integration.
SELECT pg_try_advisory_lock(hashtextextended('cerniq sync ' || $1::uuid, 0));

-- name: has_integration
SELECT EXISTS (SELECT FROM erp_integrations WHERE tenant_id = $1 AND id = $2);

-- name: others
-- Other integrations that may tell of the same levels.
SELECT id FROM erp_integrations WHERE tenant_id = $1 AND id <> $2 AND enabled;

-- name: last_snapshot
-- How many rows the last whole snapshot had that was applied, of those that could be used.
SELECT (statistics_json ->> 'productsChecked')::int8
FROM stock_sync_logs
WHERE tenant_id = $1 AND integration_id = $2 AND result_json @> '{"whole": true}' AND NOT dry_run
    AND status IN ('SUCCESS', 'PARTIAL')
ORDER BY completed_at DESC LIMIT 1;

-- name: new_products
-- Products that were made since this integration was read last (a little before: clocks differ), and
-- that it has not told of.
SELECT p.sku FROM products AS p
WHERE p.tenant_id = $1 AND p.created_at > (
    SELECT s.started_at - interval '10 minutes' FROM stock_sync_logs AS s
    WHERE s.tenant_id = $1 AND s.erp_system = $3 AND s.integration_id = $2 AND NOT s.dry_run
        AND s.status IN ('SUCCESS', 'PARTIAL') AND s.sync_type IN ('FULL', 'INCREMENTAL')
    ORDER BY s.completed_at DESC LIMIT 1
) AND NOT EXISTS (
    SELECT FROM erp_levels AS e
    WHERE e.tenant_id = $1 AND e.integration_id = $2 AND e.product_id = p.id
)
ORDER BY p.sku LIMIT $4;

-- name: count_remembered
SELECT count(*) FROM erp_levels WHERE tenant_id = $1 AND integration_id = $2;

-- name: stocked_in_all
-- How many levels have stock that can be sold, of those that this integration tells of.
SELECT count(*) AS levels
FROM erp_levels AS e
JOIN stock_levels AS l
    ON l.tenant_id = $1 AND l.product_id = e.product_id AND l.warehouse = e.warehouse
WHERE e.tenant_id = $1 AND e.integration_id = $2 AND l.total > l.blocked;

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

-- name: moved
-- Levels of a plan, prices and states, that are not what they were.
SELECT s.sku
FROM sync_plans AS s
JOIN products AS p ON p.tenant_id = $1 AND p.sku = s.sku
LEFT JOIN stock_levels AS l
    ON l.tenant_id = $1 AND l.product_id = p.id AND l.warehouse = s.warehouse
WHERE s.tenant_id = $1 AND s.sync_id = $2 AND (
    s.version IS NOT NULL AND coalesce(l.version, 0) <> s.version
    OR s.status_then IS NOT NULL AND (
        p.price IS DISTINCT FROM s.price_then OR p.currency <> s.currency_then
        OR p.status <> s.status_then
    )
)
ORDER BY s.place LIMIT $3;

-- name: drop_plan
DELETE FROM sync_plans WHERE tenant_id = $1 AND sync_id = $2;

-- name: log_cut_off
-- Runs that never ended; whoever has the integration's turn knows that they are over.
UPDATE stock_sync_logs
SET status = 'FAILED', error_message = 'The run was cut off', completed_at = now(),
    duration_ms = least(1000 * extract(epoch FROM now() - started_at), 2147483647)
WHERE tenant_id = $1 AND integration_id = $2 AND status = 'RUNNING';

-- name: log_start
INSERT INTO stock_sync_logs (
    tenant_id, id, integration_id, erp_system, sync_type, status, started_at, completed_at,
    duration_ms, dry_run
)
VALUES ($1, $2, $3, $4, $5, 'RUNNING', $6, $6, 0, $7);

-- name: log_end
UPDATE stock_sync_logs
SET status = $3, statistics_json = $4, changes_count = $5, conflicts_count = $6, errors_count = $7,
    error_message = $8, completed_at = $9, duration_ms = $10, result_json = $11
WHERE tenant_id = $1 AND id = $2;

-- name: runs
SELECT
    id, erp_system, sync_type, status, dry_run, applied_as, statistics_json, changes_count,
    conflicts_count, errors_count, error_message, started_at, completed_at, duration_ms
FROM stock_sync_logs
WHERE tenant_id = $1 AND ($2::text IS NULL OR erp_system = $2)
ORDER BY id DESC LIMIT $3;

-- name: told
SELECT status, result_json FROM stock_sync_logs WHERE tenant_id = $1 AND id = $2;

-- name: dry_run
SELECT
    s.*, s.result_json -> 'asked' AS asked, s.completed_at < now() - $3::interval AS too_old,
    EXISTS (
        SELECT FROM stock_sync_logs AS o
        WHERE o.tenant_id = $1 AND o.integration_id = s.integration_id AND o.id > s.id
            AND NOT o.dry_run AND o.status <> 'FAILED'
    ) AS overtaken
FROM stock_sync_logs AS s
WHERE s.tenant_id = $1 AND s.id = $2 AND s.dry_run AND s.status IN ('SUCCESS', 'PARTIAL');

-- name: prune_plans
-- Those of all tenants, by the time that their ids begin with.
DELETE FROM sync_plans WHERE sync_id < $1;

-- name: warehouses
SELECT warehouses FROM tenants WHERE id = $1;

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

-- name: level_of_conflict
SELECT l.total, l.version
FROM sync_conflicts AS c
JOIN stock_levels AS l
    ON l.tenant_id = $1 AND l.product_id = c.product_id AND l.warehouse = c.warehouse
WHERE c.tenant_id = $1 AND c.id = $2;

-- name: see_conflict
-- What it is about has moved since somebody looked.
UPDATE sync_conflicts SET local_value = $3, seen_at = now() WHERE tenant_id = $1 AND id = $2;

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
