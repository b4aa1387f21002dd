-- A producer logs that he added or took back a job. That one was begun only workers may say: it is how
-- jobs that kill their workers are found.
ALTER TABLE cerniq_queue.pgqueuer_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE cerniq_queue.pgqueuer_log FORCE ROW LEVEL SECURITY;
CREATE POLICY producers_rows ON cerniq_queue.pgqueuer_log FOR INSERT TO cerniq_app
    WITH CHECK (status IN ('queued', 'canceled'));
CREATE POLICY operator_rows ON cerniq_queue.pgqueuer_log TO cerniq_operator USING (true);
CREATE POLICY owner_rows ON cerniq_queue.pgqueuer_log TO cerniq_owner USING (true);

-- Buckets of limits that nobody has asked for long are forgotten.
GRANT DELETE ON cerniq_queue.rates TO cerniq_operator;
