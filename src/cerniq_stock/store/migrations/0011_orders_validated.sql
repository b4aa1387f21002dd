-- A transaction of its own: the scan runs under a lock that lets everybody read and write.
ALTER TABLE stock_reservations VALIDATE CONSTRAINT held_for_one;
