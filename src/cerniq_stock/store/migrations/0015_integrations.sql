-- What decides how an integration is synchronised, and up to where its source was read.
-- The bounds keep one tenant's row from becoming everybody's trouble. Nothing is scanned for long:
-- there is one row for each system of a tenant. Old code writes neither column.
ALTER TABLE erp_integrations
    ADD COLUMN options jsonb NOT NULL DEFAULT '{}'
        CHECK (jsonb_typeof(options) = 'object' AND octet_length(options::text) <= 65536),
    ADD COLUMN watermark jsonb
        CHECK (jsonb_typeof(watermark) = 'object' AND octet_length(watermark::text) <= 65536),
    -- counts changes of the configuration: what a run with an older one read is no place to go on
    ADD COLUMN config_revision integer NOT NULL DEFAULT 1,
    ADD CHECK (octet_length(config_encrypted) <= 131072);
