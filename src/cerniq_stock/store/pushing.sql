-- What pushing sales to an ERP asks of the database, on a connection of its own. `$1` is the tenant,
-- `$2` the integration.

-- name: take_push_turn
-- One push of an integration at a time; the lock ends with the connection. Syncs have another one.
SELECT pg_try_advisory_lock(hashtextextended('cerniq push ' || $1::uuid, 0));

-- name: push_since
SELECT statement_timestamp() AS now, lower(push_times) AS since
FROM erp_integrations WHERE tenant_id = $1 AND id = $2;

-- name: push_warehouses
-- In their order, and whether the ERP has told of any stock in them.
SELECT w.name, EXISTS (
    SELECT FROM erp_levels AS e
    WHERE e.tenant_id = $1 AND e.integration_id = $2 AND e.warehouse = w.name
) AS told
FROM tenants AS t CROSS JOIN unnest(t.warehouses) WITH ORDINALITY AS w (name, place)
WHERE t.id = $1 ORDER BY w.place;

-- name: unpushed_sales
-- Sold, or come back, while push was on, and not yet written down. Ids sort by time, but transactions
-- do not end in their order: what was looked through is looked through again (see push.py).
SELECT m.id AS movement_id, m.product_id, m.sku, m.warehouse, -m.total_delta AS quantity,
    m.created_at AS sold_at
FROM stock_movements AS m
WHERE m.tenant_id = $1 AND m.id > $3 AND m.created_at >= $4 AND m.type IN ('SALE', 'RETURN')
    AND m.total_delta <> 0 AND m.warehouse = ANY ($5::text[])
    AND m.created_at <@ (
        SELECT push_times FROM erp_integrations WHERE tenant_id = $1 AND id = $2
    )
    AND NOT EXISTS (
        SELECT FROM erp_pushes AS p
        WHERE p.tenant_id = $1 AND p.integration_id = $2 AND p.movement_id = m.id
        OFFSET 0  -- one look by key each: joined, all rows would be read where their number is not known
    )
ORDER BY m.id LIMIT $6;

-- name: put_pushes
INSERT INTO erp_pushes (
    tenant_id, integration_id, state, movement_id, product_id, sku, warehouse, quantity, sold_at, batch
)
SELECT $1, $2, 'SENDING', x.*
FROM unnest(
    $3::text[], $4::uuid[], $5::text[], $6::text[], $7::numeric[], $8::timestamptz[], $9::text[]
) AS x;

-- name: waiting_pushes
-- Those never tried, or those whose last try has settled: an ERP may still be at work on the others.
SELECT movement_id, sku, warehouse, quantity, batch
FROM erp_pushes
WHERE tenant_id = $1 AND integration_id = $2 AND state = 'SENDING'
    AND CASE WHEN $3 THEN attempts = 0 ELSE
        attempts > 0 AND tried_at <= statement_timestamp() - $4::float8 * interval '1 second' END
ORDER BY attempts, batch, movement_id;

-- name: try_pushes
UPDATE erp_pushes SET attempts = attempts + 1, tried_at = statement_timestamp(), error = NULL
WHERE tenant_id = $1 AND integration_id = $2 AND movement_id = ANY ($3::text[])
    AND state = 'SENDING'
RETURNING attempts;

-- name: trouble_pushes
UPDATE erp_pushes SET error = $4
WHERE tenant_id = $1 AND integration_id = $2 AND movement_id = ANY ($3::text[])
    AND state = 'SENDING';

-- name: end_pushes
UPDATE erp_pushes
SET state = $4, document = $5, error = $6, ended_at = statement_timestamp()
WHERE tenant_id = $1 AND integration_id = $2 AND movement_id = ANY ($3::text[])
    AND state = 'SENDING';

-- name: part_pushes
-- Each goes on as a document of its own: nothing of what was refused together is booked.
UPDATE erp_pushes AS p SET batch = x.batch, attempts = 0, tried_at = NULL
FROM unnest($3::text[], $4::text[]) AS x (movement_id, batch)
WHERE p.tenant_id = $1 AND p.integration_id = $2 AND p.movement_id = x.movement_id
    AND p.state = 'SENDING';

-- name: count_waiting_pushes
SELECT count(*) FROM erp_pushes
WHERE tenant_id = $1 AND integration_id = $2 AND state = 'SENDING';

-- name: cut_push_times
-- What was looked through needs no other look.
UPDATE erp_integrations SET push_times = push_times * tstzmultirange(tstzrange($3, NULL))
WHERE tenant_id = $1 AND id = $2 AND lower(push_times) < $3;

-- name: refused_pushes
-- Of all of them ($3 is null), or of these.
SELECT movement_id FROM erp_pushes
WHERE tenant_id = $1 AND integration_id = $2 AND state = 'REFUSED'
    AND ($3::text[] IS NULL OR movement_id = ANY ($3))
ORDER BY movement_id;

-- name: push_again
UPDATE erp_pushes AS p
SET state = 'SENDING', batch = x.batch, attempts = 0, tried_at = NULL, error = NULL, ended_at = NULL
FROM unnest($3::text[], $4::text[]) AS x (movement_id, batch)
WHERE p.tenant_id = $1 AND p.integration_id = $2 AND p.movement_id = x.movement_id
    AND p.state = 'REFUSED';

-- name: pushes
SELECT movement_id, sku, warehouse, quantity, sold_at, state, document, error, attempts, tried_at,
    ended_at
FROM erp_pushes
WHERE tenant_id = $1 AND integration_id = $2 AND ($3::text IS NULL OR state = $3)
ORDER BY movement_id DESC LIMIT $4;
