-- Row-level security below every query: a restrictive floor for the application role, so that no
-- policy added later can widen what it sees. The operator reads everything (verify, lists).
DO $$
DECLARE
    name text;
    tenant_column text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'tenants', 'negotiations', 'products', 'stock_levels', 'stock_movements',
        'stock_reservations', 'stock_reservation_lines', 'stock_commands', 'notifications',
        'erp_integrations', 'stock_sync_logs'
    ] LOOP
        tenant_column := CASE name WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_floor ON %I AS RESTRICTIVE TO cerniq_app'
            ' USING (%I = (SELECT current_tenant()))'
            ' WITH CHECK (%I = (SELECT current_tenant()))',
            name, tenant_column, tenant_column
        );
        EXECUTE format('CREATE POLICY tenant_rows ON %I TO cerniq_app USING (true)', name);
        EXECUTE format('CREATE POLICY operator_rows ON %I TO cerniq_operator USING (true)', name);
        EXECUTE format('GRANT SELECT ON %I TO cerniq_app, cerniq_operator', name);
    END LOOP;
END $$;

GRANT SELECT ON product_stock TO cerniq_app, cerniq_operator;
GRANT INSERT, UPDATE ON negotiations, products, stock_levels, stock_reservations,
    stock_reservation_lines, notifications, erp_integrations, stock_sync_logs TO cerniq_app;
GRANT DELETE ON erp_integrations TO cerniq_app;
GRANT INSERT ON stock_movements, stock_commands TO cerniq_app;
GRANT INSERT, UPDATE ON tenants TO cerniq_operator;
REVOKE ALL ON FUNCTION ensure_movement_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_movement_partitions(integer) TO cerniq_app, cerniq_operator;
