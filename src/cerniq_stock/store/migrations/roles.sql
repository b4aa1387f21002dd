-- Roles belong to the whole server, so they may be there already; run before every upgrade.
--   cerniq_owner     owns the schema; only migrations act as it
--   cerniq_app       the engine: sees one tenant at a time
--   cerniq_operator  reads all tenants (verify, lists), makes tenants
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['cerniq_owner', 'cerniq_app', 'cerniq_operator'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
            IF NOT pg_has_role(current_user, name, 'MEMBER') THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another process was faster
        END;
    END LOOP;
END $$;
CREATE SCHEMA IF NOT EXISTS cerniq AUTHORIZATION cerniq_owner;
GRANT USAGE ON SCHEMA cerniq TO cerniq_app, cerniq_operator;
-- PgQueuer's tables
CREATE SCHEMA IF NOT EXISTS cerniq_queue AUTHORIZATION cerniq_owner;
GRANT USAGE ON SCHEMA cerniq_queue TO cerniq_app, cerniq_operator;
