-- A sync may change each row of a page: with half of it free all of them stay on it, and the index
-- as it is. Pages that are full already are as they were.
ALTER TABLE erp_levels SET (fillfactor = 50);
