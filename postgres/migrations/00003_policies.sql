-- Policies through the log. Names without a schema: the connection's search_path says which.

-- +goose Up

-- A partition's row is rewritten with every batch, and what holds in it (policies) is as large as its lists of reserved
-- words. Postgres moves a column out of line, where a batch that does not touch it leaves it as it is, only from a row that
-- is larger than about 2 kB, which no setting changes: up to about 1.9 kB of policies stay in the row, and are written again
-- with it. Of a larger row, EXTERNAL (not compressed back below that size) and the small target see to it that they go.
-- Kind in decisions is also p policy.
ALTER TABLE partitions ALTER COLUMN policies SET STORAGE EXTERNAL;
ALTER TABLE partitions SET (toast_tuple_target = 128);

-- +goose Down

ALTER TABLE partitions RESET (toast_tuple_target);
ALTER TABLE partitions ALTER COLUMN policies SET STORAGE EXTENDED;
