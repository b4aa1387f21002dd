-- Jobs, by name of the statement. `$1` is the tenant in those that a producer runs.

-- name: known
-- One that was cancelled never ran: its id is free.
SELECT id, name FROM cerniq.jobs
WHERE tenant_id = $1 AND id = ANY ($2::text[]) AND status <> 'CANCELLED';

-- name: add
INSERT INTO cerniq.jobs (
    tenant_id, id, name, payload, priority, turn, ticket, trace_id, run_at, effect_key
)
SELECT
    x.tenant_id, x.id, x.name, x.payload, x.priority, x.turn, x.ticket, x.trace_id,
    now() + x.delay_s * interval '1 second', x.effect_key
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::int2[], $6::int4[], $7::int8[],
    $8::text[], $9::float8[], $10::text[]
) AS x (tenant_id, id, name, payload, priority, turn, ticket, trace_id, delay_s, effect_key)
ON CONFLICT (tenant_id, id) DO UPDATE
SET name = EXCLUDED.name, payload = EXCLUDED.payload, priority = EXCLUDED.priority,
    turn = EXCLUDED.turn, ticket = EXCLUDED.ticket, trace_id = EXCLUDED.trace_id,
    run_at = EXCLUDED.run_at, effect_key = EXCLUDED.effect_key, created_at = now(),
    status = 'WAITING', finished_at = NULL
WHERE jobs.status = 'CANCELLED'
RETURNING ticket;

-- name: jobs
-- The newest first. What PgQueuer says of a ticket decides between waiting, delayed and active.
SELECT
    j.tenant_id, j.id, j.name, s.state, j.priority, j.attempts, j.payload, j.progress, j.result,
    j.error, j.traceback, j.trace_id, j.created_at, j.run_at, j.finished_at
FROM cerniq.jobs AS j
LEFT JOIN cerniq_queue.pgqueuer AS q ON j.status = 'WAITING' AND q.id = j.ticket
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN j.status <> 'WAITING' THEN j.status
        WHEN q.status = 'picked' THEN 'ACTIVE'
        WHEN q.execute_after > now() THEN 'DELAYED'
        ELSE 'WAITING'
    END AS state
) AS s
WHERE j.tenant_id = $1
    AND ($2::text IS NULL OR j.id = $2)
    AND ($3::text IS NULL OR j.name = $3)
    AND ($4::text IS NULL OR s.state = $4)
ORDER BY j.created_at DESC, j.id DESC
LIMIT $5;

-- name: counts
SELECT
    j.name, s.state, count(*) AS count,
    min(j.run_at) FILTER (WHERE s.state = 'WAITING') AS oldest_waiting_at
FROM cerniq.jobs AS j
LEFT JOIN cerniq_queue.pgqueuer AS q ON j.status = 'WAITING' AND q.id = j.ticket
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN j.status <> 'WAITING' THEN j.status
        WHEN q.status = 'picked' THEN 'ACTIVE'
        WHEN q.execute_after > now() THEN 'DELAYED'
        ELSE 'WAITING'
    END AS state
) AS s
WHERE j.tenant_id = $1
GROUP BY j.name, s.state;

-- name: ticket_to_cancel
-- Locked, so that no worker takes it meanwhile.
SELECT q.id
FROM cerniq.jobs AS j
JOIN cerniq_queue.pgqueuer AS q ON q.id = j.ticket
WHERE j.tenant_id = $1 AND j.id = $2 AND j.status = 'WAITING' AND q.status = 'queued'
FOR UPDATE;

-- name: cancel
UPDATE cerniq.jobs SET status = 'CANCELLED', finished_at = now()
WHERE tenant_id = $1 AND id = $2 AND status = 'WAITING';

-- name: job_to_retry
SELECT name, payload, priority, trace_id, effect_key FROM cerniq.jobs
WHERE tenant_id = $1 AND id = $2 AND status = 'FAILED'
FOR UPDATE;

-- name: retry
UPDATE cerniq.jobs
SET status = 'WAITING', finished_at = NULL, attempts = 0, error = NULL, traceback = NULL,
    progress = NULL, ticket = $3, turn = $4, run_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: finish
-- What workers have done, of several tenants: they act as cerniq_operator.
UPDATE cerniq.jobs AS j
SET status = x.status, result = x.result, error = x.error, traceback = x.traceback,
    attempts = j.attempts + x.attempts, finished_at = now()
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::int2[]
) AS x (tenant_id, id, status, result, error, traceback, attempts)
WHERE j.tenant_id = x.tenant_id AND j.id = x.id AND j.status = 'WAITING';

-- name: failed_attempt
UPDATE cerniq.jobs
SET attempts = attempts + 1, error = $3, traceback = $4
WHERE tenant_id = $1 AND id = $2 AND status = 'WAITING'
RETURNING attempts;

-- name: progress
UPDATE cerniq.jobs SET progress = $3::jsonb
WHERE tenant_id = $1 AND id = $2 AND status = 'WAITING';

-- name: prune_by_age
DELETE FROM cerniq.jobs
WHERE name = $1 AND (
    (status IN ('COMPLETED', 'CANCELLED') AND finished_at < now() - $2 * interval '1 second')
    OR (status = 'FAILED' AND finished_at < now() - $3 * interval '1 second')
);

-- name: prune_by_count
-- Of each tenant's completed jobs of a kind, the latest `$2` stay.
DELETE FROM cerniq.jobs AS j
USING (
    SELECT
        tenant_id, id,
        row_number() OVER (PARTITION BY tenant_id ORDER BY finished_at DESC, id DESC) AS place
    FROM cerniq.jobs
    WHERE name = $1 AND status = 'COMPLETED'
) AS x
WHERE j.tenant_id = x.tenant_id AND j.id = x.id AND x.place > $2;

-- name: prune_log
-- PgQueuer's own log: what a job was is told by `jobs`. Of unfinished ones it tells how often they
-- were begun.
DELETE FROM cerniq_queue.pgqueuer_log AS l
WHERE l.created < now() - interval '5 minutes'
    AND NOT EXISTS (SELECT FROM cerniq_queue.pgqueuer AS q WHERE q.id = l.job_id);

-- name: prune_rates
-- Buckets that are full again.
DELETE FROM cerniq_queue.rates WHERE at < now() - interval '1 day';

-- name: lost
-- Unfinished jobs whose ticket is gone: a worker was stopped at the wrong moment.
SELECT
    j.tenant_id, j.id, j.name, j.payload, j.priority, j.turn, j.trace_id, j.effect_key,
    greatest(j.run_at - now(), interval '0') AS delay
FROM cerniq.jobs AS j
WHERE j.status = 'WAITING' AND NOT EXISTS (
    SELECT FROM cerniq_queue.pgqueuer AS q
    WHERE q.id = j.ticket AND q.status IN ('queued', 'picked')
)
LIMIT 1000
FOR UPDATE SKIP LOCKED;

-- name: new_ticket
UPDATE cerniq.jobs AS j SET ticket = x.ticket
FROM unnest($1::uuid[], $2::text[], $3::int8[]) AS x (tenant_id, id, ticket)
WHERE j.tenant_id = x.tenant_id AND j.id = x.id;

-- name: fail_poison
-- Jobs that were begun again and again: each time their worker died. What comes back by itself, after
-- a failure or for want of a token, is logged as queued again.
UPDATE cerniq.jobs AS j
SET status = 'FAILED', finished_at = now(),
    error = 'STALLED: begun ' || p.picks || ' times without an end; its workers died'
FROM (
    SELECT
        l.job_id,
        count(*) FILTER (WHERE l.status = 'picked')
            - count(*) FILTER (WHERE l.status = 'queued') AS picks
    FROM cerniq_queue.pgqueuer_log AS l
    WHERE l.status IN ('picked', 'queued')
    GROUP BY l.job_id
    HAVING count(*) FILTER (WHERE l.status = 'picked')
        - count(*) FILTER (WHERE l.status = 'queued') >= $1
) AS p
WHERE j.ticket = p.job_id AND j.status = 'WAITING'
RETURNING j.ticket;

-- name: depth
SELECT
    q.entrypoint AS name,
    CASE
        WHEN q.status = 'picked' THEN 'ACTIVE'
        WHEN q.execute_after > now() THEN 'DELAYED'
        ELSE 'WAITING'
    END AS state,
    count(*) AS count,
    extract(epoch FROM now() - min(q.execute_after))::float8 AS oldest_s
FROM cerniq_queue.pgqueuer AS q
WHERE q.status IN ('queued', 'picked')
GROUP BY 1, 2;

-- name: expiry_lag
SELECT greatest(extract(epoch FROM now() - min(d.expires_at))::float8, 0)
FROM cerniq.tenants AS t
CROSS JOIN LATERAL (
    SELECT r.expires_at FROM cerniq.stock_reservations AS r
    WHERE r.tenant_id = t.id AND r.status = 'ACTIVE'
    ORDER BY r.expires_at LIMIT 1
) AS d;

-- name: all_tenants
SELECT id FROM cerniq.tenants ORDER BY id;

-- name: integrations
-- Those that follow the common schedule, or that have one of their own.
SELECT i.tenant_id, i.id, i.erp_system, i.sync_schedule, i.pull,
    coalesce(i.options -> 'push' = 'true', false) AS push,
    coalesce(s.renew_at <= now(), false) AS renew
FROM cerniq.erp_integrations AS i
LEFT JOIN cerniq.erp_subscriptions AS s ON s.tenant_id = i.tenant_id AND s.integration_id = i.id
WHERE i.enabled;

-- name: waits
-- For how long the failed sync of an ERP waits to be tried again.
SELECT
    j.tenant_id,
    CASE q.entrypoint WHEN 'stock:sync:oblio' THEN 'OBLIO' ELSE j.payload ->> 'erpSystem' END,
    extract(epoch FROM max(q.execute_after) - now())::float8
FROM cerniq_queue.pgqueuer AS q
JOIN cerniq.jobs AS j ON j.status = 'WAITING' AND j.ticket = q.id
WHERE q.status = 'queued' AND q.execute_after > now() AND j.attempts > 0
    AND q.entrypoint IN ('stock:sync:erp', 'stock:sync:oblio')
GROUP BY 1, 2;

-- name: schedules
SELECT tenant_id, name, expression, timezone, next_at FROM cerniq.job_schedules;

-- name: set_schedule
INSERT INTO cerniq.job_schedules AS s (tenant_id, name, expression, timezone, next_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, name) DO UPDATE
SET expression = EXCLUDED.expression, timezone = EXCLUDED.timezone, next_at = EXCLUDED.next_at
WHERE (s.expression, s.timezone) IS DISTINCT FROM (EXCLUDED.expression, EXCLUDED.timezone);

-- name: drop_schedule
DELETE FROM cerniq.job_schedules WHERE tenant_id = $1 AND name = $2;

-- name: due_schedules
-- Locked: of several schedulers one gets a schedule that has come due, the others go on without it.
SELECT tenant_id, name, expression, timezone, next_at
FROM cerniq.job_schedules
WHERE next_at <= now()
ORDER BY next_at
FOR UPDATE SKIP LOCKED;

-- name: advance_schedule
UPDATE cerniq.job_schedules SET last_at = next_at, next_at = $3 WHERE tenant_id = $1 AND name = $2;

-- name: earliest_schedule
SELECT extract(epoch FROM min(next_at) - now())::float8 FROM cerniq.job_schedules;
