-- Sales that an ERP is told of: a row of each movement and integration, written before the request,
-- so that no end of a process leaves open what was sent. `batch` is the document it goes into: a
-- repeat has to be of the same sales to be known there.
CREATE TABLE erp_pushes (
    tenant_id uuid NOT NULL,
    integration_id uuid NOT NULL,
    movement_id varchar(26) COLLATE "C" NOT NULL,
    product_id uuid NOT NULL,
    sku varchar(50) COLLATE "C" NOT NULL,
    warehouse varchar(50) COLLATE "C" NOT NULL,
    -- sold, or negative: came back
    quantity numeric(14, 3) NOT NULL CHECK (quantity <> 0),
    sold_at timestamptz NOT NULL,
    batch varchar(26) COLLATE "C" NOT NULL,
    state varchar(7) NOT NULL CHECK (state IN ('SENDING', 'BOOKED', 'REFUSED')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    tried_at timestamptz,
    document varchar(100),
    error varchar(500),
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, integration_id, movement_id),
    CONSTRAINT pushed_in_time CHECK ((ended_at IS NULL) = (state = 'SENDING'))
) WITH (fillfactor = 70);
-- what is not booked is little; a row leaves the index when it is
CREATE INDEX erp_pushes_open ON erp_pushes (tenant_id, integration_id, state, movement_id)
    WHERE state <> 'BOOKED';

ALTER TABLE erp_pushes ENABLE ROW LEVEL SECURITY;
ALTER TABLE erp_pushes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_floor ON erp_pushes AS RESTRICTIVE TO cerniq_app
    USING (tenant_id = (SELECT current_tenant()))
    WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY tenant_rows ON erp_pushes TO cerniq_app USING (true);
CREATE POLICY operator_rows ON erp_pushes TO cerniq_operator USING (true);
GRANT SELECT ON erp_pushes TO cerniq_app, cerniq_operator;
-- nothing is ever taken out: what was booked must be known to have been
GRANT INSERT, UPDATE ON erp_pushes TO cerniq_app;

-- The times whose sales are still to be looked for: from each moment in which `push` was switched on
-- to that in which it was switched off. What was looked through is taken off by the runs.
ALTER TABLE erp_integrations ADD COLUMN push_times tstzmultirange NOT NULL DEFAULT '{}';

-- A trigger, as the option is set by more than one statement, and by releases that know no pushes.
CREATE FUNCTION keep_push_times() RETURNS trigger LANGUAGE plpgsql
SET search_path = cerniq, pg_temp AS $$
DECLARE
    was boolean := false;
    is_on boolean := coalesce(NEW.options -> 'push' = 'true', false);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := coalesce(OLD.options -> 'push' = 'true', false);
    END IF;
    IF is_on AND NOT was THEN
        NEW.push_times := NEW.push_times + tstzmultirange(tstzrange(now(), NULL));
    ELSIF was AND NOT is_on THEN
        NEW.push_times := NEW.push_times * tstzmultirange(tstzrange(NULL, now()));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER erp_integrations_push
    BEFORE INSERT OR UPDATE OF options ON erp_integrations
    FOR EACH ROW EXECUTE FUNCTION keep_push_times();

-- Who has it switched on already has it from now on: a row of each tenant's ERP, at most.
ALTER TABLE erp_integrations NO FORCE ROW LEVEL SECURITY;
UPDATE erp_integrations SET push_times = tstzmultirange(tstzrange(now(), NULL))
WHERE options -> 'push' = 'true';
ALTER TABLE erp_integrations FORCE ROW LEVEL SECURITY;
