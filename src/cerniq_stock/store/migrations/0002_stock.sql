-- Products, levels, movements.
CREATE TABLE products (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    sku varchar(50) COLLATE "C" NOT NULL CHECK (sku <> ''),
    name varchar(200) NOT NULL,
    unit varchar(3) NOT NULL DEFAULT 'BUC'
        CHECK (unit IN ('BUC', 'KG', 'L', 'M', 'M2', 'M3', 'SET', 'PAL')),
    status varchar(12) NOT NULL DEFAULT 'ACTIVE'
        CHECK (status IN ('ACTIVE', 'INACTIVE', 'DISCONTINUED')),
    price numeric(14, 4) CHECK (price >= 0),
    currency varchar(3) NOT NULL DEFAULT 'RON',
    reorder_point numeric(14, 3) NOT NULL DEFAULT 10 CHECK (reorder_point >= 0),
    reorder_quantity numeric(14, 3) NOT NULL DEFAULT 100 CHECK (reorder_quantity >= 0),
    expected_restock_date date,
    erp_last_sync_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, sku)
);

-- No index but the key: every reservation changes `reserved` and `available`, and an index on
-- either would end heap-only updates.
CREATE TABLE stock_levels (
    tenant_id uuid NOT NULL,
    product_id uuid NOT NULL,
    warehouse varchar(50) COLLATE "C" NOT NULL,
    total numeric(14, 3) NOT NULL DEFAULT 0 CHECK (total >= 0),
    reserved numeric(14, 3) NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    blocked numeric(14, 3) NOT NULL DEFAULT 0 CHECK (blocked >= 0),
    available numeric(14, 3) GENERATED ALWAYS AS (total - reserved - blocked) STORED
        CHECK (available >= 0),
    -- the number of movements of this level
    version bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, product_id, warehouse),
    FOREIGN KEY (tenant_id, product_id) REFERENCES products (tenant_id, id)
) WITH (fillfactor = 50);

-- Every product has a level in the tenant's first warehouse, so that locking finds it.
CREATE FUNCTION make_first_level() RETURNS trigger LANGUAGE plpgsql
SET search_path = cerniq, pg_temp AS $$
BEGIN
    INSERT INTO stock_levels (tenant_id, product_id, warehouse)
    SELECT NEW.tenant_id, NEW.id, t.warehouses[1] FROM tenants AS t WHERE t.id = NEW.tenant_id;
    RETURN NULL;
END $$;
CREATE TRIGGER products_first_level
    AFTER INSERT ON products FOR EACH ROW EXECUTE FUNCTION make_first_level();

-- A product's figures are the sums over its warehouses.
CREATE VIEW product_stock WITH (security_invoker = true) AS
SELECT
    p.tenant_id,
    p.id AS product_id,
    p.sku,
    coalesce(sum(s.total), 0) AS stock_total,
    coalesce(sum(s.reserved), 0) AS stock_reserved,
    coalesce(sum(s.blocked), 0) AS stock_blocked,
    coalesce(sum(s.available), 0) AS stock_available
FROM products AS p
LEFT JOIN stock_levels AS s ON s.tenant_id = p.tenant_id AND s.product_id = p.id
GROUP BY p.tenant_id, p.id;

-- Append-only. `sequence` is the level's version after the change: 1, 2, 3, ... without gaps.
CREATE TABLE stock_movements (
    tenant_id uuid NOT NULL,
    id varchar(26) COLLATE "C" NOT NULL,
    product_id uuid NOT NULL,
    warehouse varchar(50) COLLATE "C" NOT NULL,
    sku varchar(50) COLLATE "C" NOT NULL,
    type varchar(20) NOT NULL CHECK (
        type IN ('RESERVATION', 'RELEASE', 'SALE', 'PURCHASE', 'ADJUSTMENT', 'RETURN', 'SYNC')
    ),
    total_delta numeric(14, 3) NOT NULL,
    reserved_delta numeric(14, 3) NOT NULL,
    blocked_delta numeric(14, 3) NOT NULL,
    -- what moved, negative for decreases: of the total where that changed, else of the available
    quantity numeric(14, 3) NOT NULL GENERATED ALWAYS AS (
        CASE WHEN total_delta <> 0 THEN total_delta ELSE -reserved_delta - blocked_delta END
    ) STORED,
    previous_available numeric(14, 3) NOT NULL,
    new_available numeric(14, 3) NOT NULL GENERATED ALWAYS AS (
        previous_available + total_delta - reserved_delta - blocked_delta
    ) STORED CHECK (new_available >= 0),
    sequence bigint NOT NULL,
    reference_type varchar(20),
    reference_id varchar(50) COLLATE "C",
    negotiation_id uuid,
    order_id uuid,
    notes text,
    created_by varchar(100),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id, created_at)
) PARTITION BY RANGE (created_at);

CREATE INDEX stock_movements_level
    ON stock_movements (tenant_id, product_id, warehouse, sequence);
CREATE INDEX stock_movements_reference
    ON stock_movements (tenant_id, reference_id) WHERE reference_id IS NOT NULL;

-- Nothing is ever refused for want of a partition; the months are made ahead.
CREATE TABLE stock_movements_default PARTITION OF stock_movements DEFAULT;

-- Make the partitions of this month and of the next `months_ahead`. Run by the engine's sweep.
CREATE FUNCTION ensure_movement_partitions(months_ahead integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = cerniq, pg_temp AS $$
DECLARE
    first_day date;
    made integer := 0;
BEGIN
    FOR n IN 0..months_ahead LOOP
        first_day := (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date;
        IF to_regclass(format('cerniq.stock_movements_%s', to_char(first_day, 'YYYY_MM'))) IS NULL
        THEN
            EXECUTE format(
                'CREATE TABLE IF NOT EXISTS stock_movements_%s PARTITION OF stock_movements'
                ' FOR VALUES FROM (%L) TO (%L)',
                to_char(first_day, 'YYYY_MM'),
                first_day::text || ' 00:00+00',
                (first_day + interval '1 month')::date::text || ' 00:00+00'
            );
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;
SELECT ensure_movement_partitions();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER stock_movements_append_only
    BEFORE UPDATE OR DELETE ON stock_movements
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER stock_movements_no_truncate
    BEFORE TRUNCATE ON stock_movements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A ULID made in SQL, for movements that the engine did not write.
CREATE FUNCTION new_ulid() RETURNS varchar LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    alphabet constant text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    milliseconds bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    random_bytes bytea := uuid_send(gen_random_uuid());
    result text := '';
BEGIN
    FOR n IN REVERSE 9..0 LOOP
        result := result || substr(alphabet, ((milliseconds >> (5 * n)) & 31)::integer + 1, 1);
    END LOOP;
    FOR n IN 0..15 LOOP
        result := result || substr(alphabet, (get_byte(random_bytes, n) & 31) + 1, 1);
    END LOOP;
    RETURN result;
END $$;

-- The engine raises `version` with every change. Who does not, changes behind its back: the
-- change is caught, counted and logged.
CREATE FUNCTION track_stock_change() RETURNS trigger LANGUAGE plpgsql
SET search_path = cerniq, pg_temp AS $$
DECLARE
    old_total numeric := 0;
    old_reserved numeric := 0;
    old_blocked numeric := 0;
    level stock_levels;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        old_total := OLD.total;
        old_reserved := OLD.reserved;
        old_blocked := OLD.blocked;
    END IF;
    IF TG_OP = 'DELETE' THEN
        level := OLD;
        level.total := 0;
        level.reserved := 0;
        level.blocked := 0;
    ELSE
        level := NEW;
    END IF;
    level.version := level.version + 1;
    INSERT INTO stock_movements (
        tenant_id, id, product_id, warehouse, sku, type,
        total_delta, reserved_delta, blocked_delta, previous_available, sequence,
        notes, created_by, created_at
    )
    SELECT
        level.tenant_id, new_ulid(), level.product_id, level.warehouse, p.sku, 'ADJUSTMENT',
        level.total - old_total, level.reserved - old_reserved, level.blocked - old_blocked,
        old_total - old_reserved - old_blocked, level.version,
        'changed outside of the engine', session_user, clock_timestamp()
    FROM products AS p
    WHERE p.tenant_id = level.tenant_id AND p.id = level.product_id;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN level;
END $$;
CREATE TRIGGER stock_levels_changed
    BEFORE UPDATE ON stock_levels FOR EACH ROW
    WHEN (
        NEW.version = OLD.version
        AND (NEW.total <> OLD.total OR NEW.reserved <> OLD.reserved OR NEW.blocked <> OLD.blocked)
    )
    EXECUTE FUNCTION track_stock_change();
CREATE TRIGGER stock_levels_inserted
    BEFORE INSERT ON stock_levels FOR EACH ROW
    WHEN (NEW.version = 0 AND (NEW.total <> 0 OR NEW.reserved <> 0 OR NEW.blocked <> 0))
    EXECUTE FUNCTION track_stock_change();
CREATE TRIGGER stock_levels_deleted
    BEFORE DELETE ON stock_levels FOR EACH ROW
    WHEN (OLD.total <> 0 OR OLD.reserved <> 0 OR OLD.blocked <> 0)
    EXECUTE FUNCTION track_stock_change();
