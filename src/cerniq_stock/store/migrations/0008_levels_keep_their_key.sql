-- A level that changes its product or warehouse would leave its movements behind, unnoticed by the
-- trigger that logs changes of figures.
CREATE FUNCTION refuse_new_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a level keeps its tenant, product and warehouse'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER stock_levels_keep_their_key
    BEFORE UPDATE OF tenant_id, product_id, warehouse ON stock_levels
    FOR EACH ROW
    WHEN ((NEW.tenant_id, NEW.product_id, NEW.warehouse)
        IS DISTINCT FROM (OLD.tenant_id, OLD.product_id, OLD.warehouse))
    EXECUTE FUNCTION refuse_new_key();
