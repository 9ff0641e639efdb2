-- The record of design section 5. Names without a schema: the connection's search_path says which.

-- +goose Up

-- The routing contract: pinned the first time a processor or an API starts, and compared ever after.
CREATE TABLE topics (
    topic      text COLLATE "C" PRIMARY KEY,
    cluster_id text NOT NULL,
    partitions integer NOT NULL CHECK (partitions > 0),
    hash       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- How far each partition is, and who writes it. A row is rewritten with every batch and read by nothing but its primary
-- key, so a page holds few rows and much room for their next versions (HOT).
CREATE TABLE partitions (
    next_offset        bigint NOT NULL DEFAULT 0,
    writer_epoch       bigint NOT NULL,
    published_through  bigint NOT NULL DEFAULT 0,
    last_record_offset bigint NOT NULL DEFAULT -1,
    last_record_hash   bigint NOT NULL DEFAULT 0, -- CRC-32C, unsigned
    log_time           timestamptz,               -- null before the first record
    partition          integer NOT NULL,
    log_epoch          integer NOT NULL DEFAULT 1,
    writer_id          uuid NOT NULL,
    topic              text COLLATE "C" NOT NULL,
    halted             text,                      -- why nobody may go on
    policies           jsonb,                     -- versions that hold here beside the built-in ones
    PRIMARY KEY (topic, partition),
    CHECK (published_through <= next_offset)
) WITH (fillfactor = 10);

-- The last word on uniqueness, and the snapshot of decisions. A freed name keeps its row, so its version goes on.
CREATE TABLE names (
    version        bigint NOT NULL CHECK (version > 0),
    since          timestamptz,      -- log time of the last change
    partition      integer NOT NULL, -- whose writer may change it
    policy_version integer NOT NULL,
    state          "char" NOT NULL,  -- f free, r registered
    claim_id       uuid,
    space          text COLLATE "C" NOT NULL,
    key            text COLLATE "C" NOT NULL,
    name           text,             -- as typed; null where it is the key
    owner          text COLLATE "C",
    PRIMARY KEY (key, space) -- spaces are few: a comparison that begins with one decides nothing
);
CREATE INDEX names_owner ON names (owner) WHERE owner IS NOT NULL;

-- What every consumed record left: event log, outbox and idempotency store in one. This is the table that grows, so a
-- value that is the usual one is not stored: columns are nullable, and the comment says what null stands for.
CREATE TABLE decisions (
    "offset"        bigint NOT NULL,
    version         bigint,                      -- null: 0
    current_version bigint,                      -- null: 0
    log_time        timestamptz,
    partition       integer NOT NULL,
    log_epoch       integer NOT NULL,
    policy_version  integer,                     -- null: 0
    seq             smallint NOT NULL,
    rules           smallint NOT NULL DEFAULT 1, -- version of the encoder of what is published
    kind            "char" NOT NULL,             -- o outcome, f fact, d duplicate, w forwarded, x dead
    outcome         "char",                      -- A Accepted, R Rejected
    state           "char",                      -- as in names; null: none
    request_id      uuid,
    claim_id        uuid,                        -- null: the request's id
    request_hash    bytea,
    reason          text COLLATE "C",
    detail          text,                        -- null: the usual text of the reason
    space           text COLLATE "C",
    key             text COLLATE "C",
    name            text,                        -- as typed; null where it is the key
    owner           text COLLATE "C",
    principal       text COLLATE "C",
    raw             bytea,                       -- the record as read, of a forwarded one
    PRIMARY KEY (partition, log_epoch, "offset", seq)
);
CREATE UNIQUE INDEX decisions_request ON decisions (request_id, partition) WHERE kind = 'o';

CREATE TABLE dead_letters (
    "offset"  bigint NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    partition integer NOT NULL,
    log_epoch integer NOT NULL,
    reason    text NOT NULL,
    raw       bytea,
    PRIMARY KEY (partition, log_epoch, "offset")
);

-- The policies that were ever active.
CREATE TABLE spaces (
    space   text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    policy  jsonb NOT NULL,
    PRIMARY KEY (space, version)
);

-- What operators said of halted partitions: dibs partitions resume. Without a gap, from and to are the same.
CREATE TABLE gaps (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    from_epoch  integer NOT NULL,
    to_epoch    integer NOT NULL,
    from_offset bigint NOT NULL, -- the next offset in the old log
    to_offset   bigint NOT NULL, -- where the new log starts
    halted      text NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL
);

-- The fence, and the new standing in one: partition by partition in the order given, which is ascending everywhere, so
-- that two writers never wait for each other in a circle. The rows stay locked until the transaction ends. It raises
-- where a row is not as its writer thinks.
-- +goose StatementBegin
CREATE FUNCTION advance(
    _topic text, _partitions integer[], _log_epochs bigint[], _offsets bigint[], _writer_epochs bigint[], _writer_ids uuid[],
    _nexts bigint[], _log_times timestamptz[], _last_offsets bigint[], _last_hashes bigint[], _throughs bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. coalesce(array_length(_partitions, 1), 0) LOOP
        UPDATE partitions SET
            next_offset = _nexts[i],
            log_time = _log_times[i],
            last_record_offset = _last_offsets[i],
            last_record_hash = _last_hashes[i],
            published_through = greatest(published_through, least(_throughs[i], _nexts[i]))
        WHERE topic = _topic AND partition = _partitions[i]
            AND log_epoch = _log_epochs[i] AND next_offset = _offsets[i]
            AND writer_epoch = _writer_epochs[i] AND writer_id = _writer_ids[i] AND halted IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'partition % is fenced', _partitions[i] USING ERRCODE = 'ZF001';
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd

-- Moves published_through where the fence stands, and passes over the rest.
-- +goose StatementBegin
CREATE FUNCTION published(
    _topic text, _partitions integer[], _log_epochs bigint[], _writer_epochs bigint[], _writer_ids uuid[], _throughs bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. coalesce(array_length(_partitions, 1), 0) LOOP
        UPDATE partitions SET published_through = least(_throughs[i], next_offset)
        WHERE topic = _topic AND partition = _partitions[i]
            AND log_epoch = _log_epochs[i] AND writer_epoch = _writer_epochs[i] AND writer_id = _writer_ids[i]
            AND published_through < least(_throughs[i], next_offset);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Changes names that have a row, and raises unless every one is still as it was read. The rows are found one by one
-- through the primary key, then joined by their place: no plan for it reads the table.
-- +goose StatementBegin
CREATE FUNCTION change_names(
    _was bigint[], _versions bigint[], _sinces timestamptz[], _partitions integer[], _policy_versions integer[],
    _states "char"[], _claim_ids uuid[], _spaces text[], _keys text[], _names text[], _owners text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE names n SET
        version = c.version, since = c.since, policy_version = c.policy_version, state = c.state,
        claim_id = c.claim_id, name = c.name, owner = c.owner
    FROM unnest(_was, _versions, _sinces, _partitions, _policy_versions, _states, _claim_ids, _spaces, _keys, _names, _owners)
        AS c (was, version, since, partition, policy_version, state, claim_id, space, key, name, owner)
    CROSS JOIN LATERAL (
        SELECT r.ctid FROM names r
        WHERE r.space = c.space AND r.key = c.key AND r.version = c.was AND r.partition = c.partition
        LIMIT 1
    ) found
    WHERE n.ctid = found.ctid;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> array_length(_keys, 1) THEN
        RAISE EXCEPTION '% of % names are not as they were read', array_length(_keys, 1) - changed, array_length(_keys, 1)
            USING ERRCODE = 'ZN001';
    END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION change_names, published, advance;
DROP TABLE gaps, spaces, dead_letters, decisions, names, partitions, topics;
