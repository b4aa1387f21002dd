-- ERP integrations and the log of their runs.
CREATE TABLE erp_integrations (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    erp_system varchar(30) NOT NULL,
    name varchar(100) NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    config_encrypted bytea NOT NULL,
    sync_schedule varchar(50) DEFAULT '*/15 * * * *',
    last_sync_at timestamptz,
    last_sync_status varchar(20),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_tenant_erp UNIQUE (tenant_id, erp_system)
);

CREATE TABLE stock_sync_logs (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id varchar(26) COLLATE "C" NOT NULL,
    erp_system varchar(30) NOT NULL,
    sync_type varchar(20) NOT NULL
        CHECK (sync_type IN ('FULL', 'INCREMENTAL', 'SELECTIVE', 'WEBHOOK')),
    status varchar(20) NOT NULL CHECK (status IN ('SUCCESS', 'PARTIAL', 'FAILED')),
    statistics_json jsonb,
    changes_count integer NOT NULL DEFAULT 0,
    conflicts_count integer NOT NULL DEFAULT 0,
    errors_count integer NOT NULL DEFAULT 0,
    error_message text,
    started_at timestamptz NOT NULL,
    completed_at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX stock_sync_logs_erp
    ON stock_sync_logs (tenant_id, erp_system, completed_at DESC);
