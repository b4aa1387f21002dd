-- Integrations with ERPs, by name. `$1` is the tenant. Only `sealed_integrations` is for the
-- operator; whatever changes a row runs as its tenant, under row-level security.

-- name: insert_integration
INSERT INTO erp_integrations
    (tenant_id, id, erp_system, name, enabled, config_encrypted, sync_schedule, options, pull)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: integrations_of_tenant
-- All of a tenant's, or the one of a system (`$2`).
SELECT
    id, erp_system, name, enabled, sync_schedule, options, last_sync_at, last_sync_status,
    created_at, updated_at, watermark, config_revision, config_encrypted
FROM erp_integrations
WHERE tenant_id = $1 AND ($2::text IS NULL OR erp_system = $2)
ORDER BY erp_system;

-- name: update_integration
-- Change what is given; null leaves what there is. With another configuration (`$6`) or other options
-- what was read until now may have meant something else: it is read from its beginning.
UPDATE erp_integrations SET
    name = coalesce($3, name),
    enabled = coalesce($4, enabled),
    options = coalesce($5, options),
    config_encrypted = coalesce($6, config_encrypted),
    pull = coalesce($7, pull),
    config_revision = config_revision + ($6 IS NOT NULL OR coalesce($5, options) <> options)::int,
    watermark = CASE WHEN $6 IS NULL AND coalesce($5, options) = options THEN watermark END,
    updated_at = statement_timestamp()
WHERE tenant_id = $1 AND id = $2
RETURNING id;

-- name: schedule_integration
UPDATE erp_integrations SET sync_schedule = $3, updated_at = statement_timestamp()
WHERE tenant_id = $1 AND id = $2
RETURNING id;

-- name: committed_levels
-- A page of the levels on which the ERP's own part is blocked, after (`$3`, `$4`).
SELECT
    e.product_id, e.warehouse, p.sku,
    e.erp_total, e.local_total, e.agreed_total, e.pending, e.blocked
FROM erp_levels AS e
JOIN products AS p ON p.tenant_id = $1 AND p.id = e.product_id
WHERE e.tenant_id = $1 AND e.integration_id = $2 AND (e.product_id, e.warehouse) > ($3, $4)
    AND e.blocked > 0
ORDER BY e.product_id, e.warehouse LIMIT $5;

-- name: forget_levels
DELETE FROM erp_levels WHERE tenant_id = $1 AND integration_id = $2;

-- name: end_all_conflicts
-- Nobody can decide any more what a removed ERP has said.
WITH ended AS (
    UPDATE sync_conflicts SET resolution = 'GONE', resolved_at = now(), resolved_by = $3
    WHERE tenant_id = $1 AND integration_id = $2 AND resolution IS NULL
    RETURNING id
)
SELECT count(*) FROM ended;

-- name: delete_integration
DELETE FROM erp_integrations WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: skus_of_two_spellings
-- Those with letters that old code pages have with a cedilla only; what is there in both ways is two
-- products.
SELECT translate(sku, 'şţŞŢ', 'șțȘȚ') AS key, min(sku) AS sku
FROM products WHERE tenant_id = $1 AND sku ~ '[şţŞŢșțȘȚ]'
GROUP BY key HAVING count(*) = 1;

-- name: sealed_integrations
-- A page of all tenants' sealed configurations after (`$1`, `$2`).
SELECT tenant_id, id, config_encrypted FROM erp_integrations
WHERE (tenant_id, id) > ($1, $2)
ORDER BY tenant_id, id LIMIT $3;

-- name: swap_sealed
-- Unless somebody else has changed it meanwhile.
UPDATE erp_integrations SET config_encrypted = $4
WHERE tenant_id = $1 AND id = $2 AND config_encrypted = $3
RETURNING id;

-- name: subscription_of
SELECT subscription_id, url_encrypted, made_at, renewed_at, renew_at, expires_at
FROM erp_subscriptions WHERE tenant_id = $1 AND integration_id = $2;

-- name: keep_subscription
INSERT INTO erp_subscriptions
    (tenant_id, integration_id, subscription_id, url_encrypted, renew_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, integration_id) DO UPDATE SET
    subscription_id = EXCLUDED.subscription_id,
    url_encrypted = EXCLUDED.url_encrypted,
    renew_at = EXCLUDED.renew_at,
    expires_at = EXCLUDED.expires_at,
    made_at = now(),
    renewed_at = now();

-- name: renew_subscription
-- Unless somebody has subscribed elsewhere meanwhile, or not at all: `$3` is what was renewed.
UPDATE erp_subscriptions SET
    subscription_id = $4::text,
    renew_at = $5,
    expires_at = $6,
    made_at = CASE WHEN subscription_id = $4::text THEN made_at ELSE now() END,
    renewed_at = now()
WHERE tenant_id = $1 AND integration_id = $2 AND subscription_id = $3
RETURNING subscription_id;

-- name: drop_subscription
DELETE FROM erp_subscriptions WHERE tenant_id = $1 AND integration_id = $2;

-- name: read_all_next
-- Nothing is known of what happened meanwhile: a run that is under way keeps no mark either.
UPDATE erp_integrations SET
    watermark = NULL, config_revision = config_revision + 1, updated_at = statement_timestamp()
WHERE tenant_id = $1 AND id = $2
RETURNING id;

-- name: sealed_subscriptions
-- A page of all tenants' sealed addresses after (`$1`, `$2`).
SELECT tenant_id, integration_id, url_encrypted FROM erp_subscriptions
WHERE (tenant_id, integration_id) > ($1, $2)
ORDER BY tenant_id, integration_id LIMIT $3;

-- name: swap_sealed_subscription
-- Unless somebody else has changed it meanwhile.
UPDATE erp_subscriptions SET url_encrypted = $4
WHERE tenant_id = $1 AND integration_id = $2 AND url_encrypted = $3
RETURNING integration_id;
