-- Retention of decisions. Names without a schema: the connection's search_path says which.

-- +goose Up

-- What is gone of decisions: of a partition everything before this position but for policies, and the dead letters beside it.
CREATE TABLE forgotten (
    "offset"  bigint NOT NULL,
    rows      bigint NOT NULL,      -- so far
    log_time  timestamptz NOT NULL, -- of the last that is gone
    partition integer PRIMARY KEY,
    log_epoch integer NOT NULL
) WITH (fillfactor = 10); -- as partitions: it is rewritten all the time

-- A fifth of a large table is a long time to wait for the room of what was deleted, and much to clear away at once.
ALTER TABLE decisions SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE names SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- +goose Down

-- What was deleted stays so. An older dibs does not know why it is gone, and verify says that it is missing.
ALTER TABLE names RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE decisions RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
DROP TABLE forgotten;
