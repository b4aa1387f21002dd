-- What a dry run found of a product, so that a plan is not applied to prices and states that have
-- changed since. Plans do not wait for ever.
ALTER TABLE sync_plans ADD COLUMN price_then numeric(14, 4);
ALTER TABLE sync_plans ADD COLUMN currency_then varchar(3);
ALTER TABLE sync_plans ADD COLUMN status_then varchar(12);
