-- Policies through the log. Names without a schema: the connection's search_path says which.

-- +goose Up

-- A partition's row is rewritten with every batch, and what holds in it (policies) is as large as its list of reserved
-- words: it is kept out of line, where a batch that does not touch it leaves it as it is. Kind in decisions is also
-- p policy.
ALTER TABLE partitions ALTER COLUMN policies SET STORAGE EXTERNAL;
ALTER TABLE partitions SET (toast_tuple_target = 128);

-- +goose Down

ALTER TABLE partitions RESET (toast_tuple_target);
ALTER TABLE partitions ALTER COLUMN policies SET STORAGE EXTENDED;
