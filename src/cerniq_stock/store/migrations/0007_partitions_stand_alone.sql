-- A trigger against TRUNCATE is not inherited: each partition of the movements gets its own, now and
-- when it is made. And a month that already has rows in the default partition keeps them there,
-- instead of standing in the way of all months after it.
CREATE OR REPLACE FUNCTION ensure_movement_partitions(months_ahead integer DEFAULT 3)
    RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = cerniq, pg_temp AS $$
DECLARE
    first_day date;
    made integer := 0;
    name text;
BEGIN
    FOR n IN 0..months_ahead LOOP
        first_day := (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date;
        name := 'stock_movements_' || to_char(first_day, 'YYYY_MM');
        CONTINUE WHEN to_regclass('cerniq.' || name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE IF NOT EXISTS %I PARTITION OF stock_movements'
                ' FOR VALUES FROM (%L) TO (%L)',
                name,
                first_day::text || ' 00:00+00',
                (first_day + interval '1 month')::date::text || ' 00:00+00'
            );
            EXECUTE format(
                'CREATE TRIGGER stock_movements_no_truncate BEFORE TRUNCATE ON %I'
                ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name
            );
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            NULL;  -- the default partition has rows of that month; they stay there
        END;
    END LOOP;
    RETURN made;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'stock_movements'::regclass
    LOOP
        EXECUTE format(
            'CREATE TRIGGER stock_movements_no_truncate BEFORE TRUNCATE ON %s'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name
        );
    END LOOP;
END $$;
