-- Where ERPs tell of changes by themselves, and when that has to be asked for again. The address
-- lies sealed: of some systems it is the secret that notifications are known by.
CREATE TABLE erp_subscriptions (
    tenant_id uuid NOT NULL,
    integration_id uuid NOT NULL,
    -- the ERP's own
    subscription_id varchar(150) COLLATE "C" NOT NULL CHECK (subscription_id <> ''),
    url_encrypted bytea NOT NULL CHECK (octet_length(url_encrypted) <= 8192),
    made_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    renew_at timestamptz NOT NULL,
    -- null: it does not end by itself
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id)
        REFERENCES erp_integrations (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT renewed_in_time CHECK (renew_at <= expires_at)
);

ALTER TABLE erp_subscriptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE erp_subscriptions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_floor ON erp_subscriptions AS RESTRICTIVE TO cerniq_app
    USING (tenant_id = (SELECT current_tenant()))
    WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY tenant_rows ON erp_subscriptions TO cerniq_app USING (true);
CREATE POLICY operator_rows ON erp_subscriptions TO cerniq_operator USING (true);
GRANT SELECT ON erp_subscriptions TO cerniq_app, cerniq_operator;
GRANT INSERT, UPDATE, DELETE ON erp_subscriptions TO cerniq_app;
