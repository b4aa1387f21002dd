-- When the next job that finds no token is told to come back. Tokens are taken by what begins only.
ALTER TABLE cerniq_queue.rates ADD COLUMN back_at timestamptz NOT NULL DEFAULT now();
