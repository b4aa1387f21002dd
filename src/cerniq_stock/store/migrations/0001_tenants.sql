-- Tenants and negotiations.
-- The tenant of the running transaction; NULL, and so no rows at all, when none was set.
CREATE FUNCTION current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(current_setting('app.tenant', true), '')::uuid;

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    name varchar(100) NOT NULL CHECK (name <> ''),
    language varchar(2) NOT NULL DEFAULT 'ro' CHECK (language IN ('ro', 'en')),
    -- in the order in which stock is taken
    warehouses text[] NOT NULL DEFAULT '{MAIN}' CHECK (cardinality(warehouses) > 0),
    max_extensions smallint NOT NULL DEFAULT 3 CHECK (max_extensions >= 0),
    max_reservation_h integer NOT NULL DEFAULT 336 CHECK (max_reservation_h > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE negotiations (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    state varchar(30) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);
