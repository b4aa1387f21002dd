-- Reservations, their lines, answers given under a key, notifications.
-- No foreign keys here: the engine writes a reservation and its lines in one statement, rows are
-- never deleted, and a key check on each line costs an eighth of the write. `verify` looks for
-- orphans.
CREATE TABLE stock_reservations (
    tenant_id uuid NOT NULL,
    id varchar(26) COLLATE "C" NOT NULL,
    negotiation_id uuid NOT NULL,
    reservation_key varchar(100) COLLATE "C" NOT NULL,
    -- digest of what was asked under the key
    fingerprint bytea NOT NULL,
    type varchar(4) NOT NULL CHECK (type IN ('SOFT', 'HARD')),
    status varchar(8) NOT NULL CHECK (
        status IN ('PENDING', 'ACTIVE', 'RELEASED', 'CONSUMED', 'EXPIRED', 'FAILED')
    ),
    priority varchar(6) NOT NULL CHECK (priority IN ('NORMAL', 'HIGH', 'URGENT')),
    -- the first answer, line by line; what is held now stands in the lines
    items_json jsonb NOT NULL DEFAULT '[]',
    errors_json jsonb,
    total_requested numeric(16, 3) NOT NULL DEFAULT 0,
    total_reserved numeric(16, 3) NOT NULL DEFAULT 0,
    extensions smallint NOT NULL DEFAULT 0 CHECK (extensions >= 0),
    first_expires_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    released_at timestamptz,
    release_reason varchar(20),
    released_by varchar(100),
    release_notes text,
    requested_by varchar(100),
    channel varchar(20),
    notes text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_reservation_key UNIQUE (tenant_id, reservation_key),
    CHECK (total_reserved <= total_requested),
    CHECK ((released_at IS NULL) = (status IN ('PENDING', 'ACTIVE', 'FAILED')))
) WITH (fillfactor = 80);
CREATE INDEX stock_reservations_due
    ON stock_reservations (tenant_id, expires_at) WHERE status = 'ACTIVE';
CREATE INDEX stock_reservations_negotiation
    ON stock_reservations (tenant_id, negotiation_id) WHERE status = 'ACTIVE';

CREATE TABLE stock_reservation_lines (
    tenant_id uuid NOT NULL,
    reservation_id varchar(26) COLLATE "C" NOT NULL,
    line_no smallint NOT NULL,
    warehouse varchar(50) COLLATE "C" NOT NULL,
    product_id uuid NOT NULL,
    reserved numeric(14, 3) NOT NULL CHECK (reserved > 0),
    consumed numeric(14, 3) NOT NULL DEFAULT 0 CHECK (consumed >= 0),
    released numeric(14, 3) NOT NULL DEFAULT 0 CHECK (released >= 0),
    held numeric(14, 3) NOT NULL GENERATED ALWAYS AS (reserved - consumed - released) STORED
        CHECK (held >= 0),
    -- the reservation's, repeated so that what is due of a product is one index range
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, reservation_id, line_no, warehouse)
) WITH (fillfactor = 80);
CREATE INDEX stock_reservation_lines_held
    ON stock_reservation_lines (tenant_id, product_id, expires_at) WHERE held > 0;

-- The first answer to each keyed command that is no reservation.
CREATE TABLE stock_commands (
    tenant_id uuid NOT NULL,
    key varchar(100) COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    answer_type varchar(30) NOT NULL,
    answer_json jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

CREATE TABLE notifications (
    tenant_id uuid NOT NULL,
    id varchar(26) COLLATE "C" NOT NULL,
    type varchar(30) NOT NULL,
    severity varchar(10) NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'CRITICAL')),
    title text NOT NULL,
    message text NOT NULL,
    entity_type varchar(20) NOT NULL,
    entity_id varchar(50) NOT NULL,
    read_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
