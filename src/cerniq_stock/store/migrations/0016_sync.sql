-- What an integration and we knew of a level when we last spoke: see domain/sync.py.
CREATE TABLE erp_levels (
    tenant_id uuid NOT NULL,
    integration_id uuid NOT NULL,
    product_id uuid NOT NULL,
    warehouse varchar(50) COLLATE "C" NOT NULL,
    erp_total numeric(14, 3) NOT NULL CHECK (erp_total >= 0),
    local_total numeric(14, 3) NOT NULL CHECK (local_total >= 0),
    agreed_total numeric(14, 3) NOT NULL,
    pending numeric(14, 3) NOT NULL,
    blocked numeric(14, 3) NOT NULL CHECK (blocked >= 0),
    synced_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, product_id, warehouse)
) WITH (fillfactor = 70);

-- What a person has to decide, or the strategy has decided. One is open for each level and field.
CREATE TABLE sync_conflicts (
    tenant_id uuid NOT NULL,
    id varchar(26) COLLATE "C" NOT NULL,
    integration_id uuid NOT NULL,
    erp_system varchar(30) NOT NULL,
    sync_id varchar(26) COLLATE "C" NOT NULL,
    product_id uuid NOT NULL,
    sku varchar(50) COLLATE "C" NOT NULL,
    warehouse varchar(50) COLLATE "C" NOT NULL,
    field varchar(20) NOT NULL,
    reason varchar(10) NOT NULL CHECK (reason IN ('REVIEW', 'SHORT')),
    local_value numeric(14, 3) NOT NULL,
    erp_value numeric(14, 3) NOT NULL,
    erp_available numeric(14, 3),
    last_agreed numeric(14, 3),
    seen_at timestamptz NOT NULL,
    first_seen_at timestamptz NOT NULL,
    resolution varchar(10) CHECK (resolution IN ('ACCEPT_ERP', 'KEEP_LOCAL', 'SET_VALUE', 'GONE')),
    resolved_value numeric(14, 3),
    resolved_by varchar(100),
    resolved_because varchar(500),
    resolved_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT resolved_in_time CHECK ((resolution IS NULL) = (resolved_at IS NULL))
);
CREATE UNIQUE INDEX sync_conflicts_open
    ON sync_conflicts (tenant_id, integration_id, product_id, warehouse, field)
    WHERE resolution IS NULL;

-- What a dry run would have changed, to be applied by its id if nothing has moved.
CREATE TABLE sync_plans (
    tenant_id uuid NOT NULL,
    sync_id varchar(26) COLLATE "C" NOT NULL,
    place integer NOT NULL,
    sku varchar(50) COLLATE "C" NOT NULL,
    warehouse varchar(50) COLLATE "C",
    version bigint,
    erp_total numeric(14, 3),
    erp_available numeric(14, 3),
    price numeric(14, 4),
    currency varchar(3),
    status varchar(12),
    PRIMARY KEY (tenant_id, sync_id, place)
);

ALTER TABLE stock_sync_logs ADD COLUMN integration_id uuid;
ALTER TABLE stock_sync_logs ADD COLUMN dry_run boolean NOT NULL DEFAULT false;
ALTER TABLE stock_sync_logs ADD COLUMN result_json jsonb;
ALTER TABLE stock_sync_logs ADD COLUMN applied_as varchar(26) COLLATE "C";

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['erp_levels', 'sync_conflicts', 'sync_plans'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_floor ON %I AS RESTRICTIVE TO cerniq_app'
            ' USING (tenant_id = (SELECT current_tenant()))'
            ' WITH CHECK (tenant_id = (SELECT current_tenant()))',
            name
        );
        EXECUTE format('CREATE POLICY tenant_rows ON %I TO cerniq_app USING (true)', name);
        EXECUTE format('CREATE POLICY operator_rows ON %I TO cerniq_operator USING (true)', name);
        EXECUTE format('GRANT SELECT ON %I TO cerniq_app, cerniq_operator', name);
        EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %I TO cerniq_app', name);
    END LOOP;
END $$;
