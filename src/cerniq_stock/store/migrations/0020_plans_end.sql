-- Plans of dry runs that nobody has applied are forgotten after a while, by whoever keeps house.
GRANT DELETE ON sync_plans TO cerniq_operator;
