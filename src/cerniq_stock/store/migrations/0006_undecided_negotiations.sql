-- A negotiation that is new in a batch gets its row before anything is decided, to be locked. What
-- the decision then leaves without a state is taken out again, and nothing else ever is.
CREATE POLICY undecided_only ON negotiations AS RESTRICTIVE FOR DELETE TO cerniq_app
    USING (state = '');
GRANT DELETE ON negotiations TO cerniq_app;
