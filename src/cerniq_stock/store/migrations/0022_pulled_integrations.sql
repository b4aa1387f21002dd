-- Whether there is anything to fetch: not where files are handed over only, and no schedule asks
-- those. The configuration that says so is sealed. Old code does not write it; then it is asked.
ALTER TABLE erp_integrations ADD COLUMN pull boolean NOT NULL DEFAULT true;
