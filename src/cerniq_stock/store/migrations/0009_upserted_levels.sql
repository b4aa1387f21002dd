-- A row that is inserted fires its trigger before it is known whether it is in the way of another;
-- so an upsert by plain SQL was logged twice. After the insert, it is known.
CREATE FUNCTION track_new_level() RETURNS trigger LANGUAGE plpgsql
SET search_path = cerniq, pg_temp AS $$
BEGIN
    UPDATE stock_levels SET version = 1
    WHERE tenant_id = NEW.tenant_id AND product_id = NEW.product_id AND warehouse = NEW.warehouse;
    INSERT INTO stock_movements (
        tenant_id, id, product_id, warehouse, sku, type,
        total_delta, reserved_delta, blocked_delta, previous_available, sequence,
        notes, created_by, created_at
    )
    SELECT
        NEW.tenant_id, new_ulid(), NEW.product_id, NEW.warehouse, p.sku, 'ADJUSTMENT',
        NEW.total, NEW.reserved, NEW.blocked, 0, 1,
        'changed outside of the engine', session_user, clock_timestamp()
    FROM products AS p
    WHERE p.tenant_id = NEW.tenant_id AND p.id = NEW.product_id;
    RETURN NULL;
END $$;
DROP TRIGGER stock_levels_inserted ON stock_levels;
CREATE TRIGGER stock_levels_inserted
    AFTER INSERT ON stock_levels FOR EACH ROW
    WHEN (NEW.version = 0 AND (NEW.total <> 0 OR NEW.reserved <> 0 OR NEW.blocked <> 0))
    EXECUTE FUNCTION track_new_level();
