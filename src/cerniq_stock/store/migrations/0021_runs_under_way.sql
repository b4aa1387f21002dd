-- A run is written down when it begins, so that one whose process was killed leaves a trace.
ALTER TABLE stock_sync_logs DROP CONSTRAINT stock_sync_logs_status_check;
ALTER TABLE stock_sync_logs ADD CONSTRAINT stock_sync_logs_status_check
    CHECK (status IN ('RUNNING', 'SUCCESS', 'PARTIAL', 'FAILED')) NOT VALID;
ALTER TABLE stock_sync_logs VALIDATE CONSTRAINT stock_sync_logs_status_check;
