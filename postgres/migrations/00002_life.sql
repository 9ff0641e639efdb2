-- The life of a name beyond its registration: reservations, cool-downs, renames, marks of withdrawn claims, what actors did.
-- Every column is null in the usual row, which is no larger for it. Names without a schema: the connection's search_path
-- says which.

-- +goose Up

-- State is also s reserved, i inactive, c cooling, b blocked.
ALTER TABLE names
    ADD COLUMN expires_at       timestamptz,       -- when a reservation or a cool-down is over
    ADD COLUMN settled          boolean,           -- true: nobody can withdraw it any more; null: false
    ADD COLUMN previous         text COLLATE "C",  -- who may come back
    ADD COLUMN replaces         text COLLATE "C",  -- the key that a reservation gives up when it is confirmed
    ADD COLUMN replaces_version bigint,            -- null: 0
    ADD COLUMN first_claim      uuid;              -- the first claim that held the name; null where it is claim_id, or there is none
CREATE INDEX names_due ON names (partition, expires_at) WHERE expires_at IS NOT NULL;

-- Kind is also m mark. Outcome is also C Confirmed, X Extended, L Released, W Withdrawn, D Deactivated, V Reactivated,
-- T Transferred, B Blocked, U Unblocked, E Expired, N Unchanged. A follow-up's claim, space and owner are the row's.
ALTER TABLE decisions
    ADD COLUMN expires_at     timestamptz,         -- null: never
    ADD COLUMN follow_key     text COLLATE "C",    -- the key that is released for this one; null: none
    ADD COLUMN follow_version bigint,              -- null: 0
    ADD COLUMN request        text COLLATE "C",    -- what was asked; null: UsernameClaimed, or what cannot be read
    ADD COLUMN actor          text COLLATE "C",    -- null: the owner, or nobody
    ADD COLUMN why            text;
-- Every request asks for it, and it is as good as empty.
CREATE INDEX decisions_mark ON decisions (request_id, partition) WHERE kind = 'm';
-- What happened to a name, but for the claim that made its first version: that is most of the table, and it is found by
-- its id (names.first_claim). So a first claim, and a claim that is rejected, has nothing to write here.
CREATE INDEX decisions_history ON decisions (key, space, version, log_epoch, "offset", seq)
    WHERE state IS NOT NULL AND (version > 1 OR outcome <> 'A');

DROP FUNCTION change_names;

-- Changes names that have a row, and raises unless every one is still as it was read. The rows are found one by one
-- through the primary key, then joined by their place: no plan for it reads the table.
-- +goose StatementBegin
CREATE FUNCTION change_names(
    _was bigint[], _versions bigint[], _sinces timestamptz[], _partitions integer[], _policy_versions integer[],
    _states "char"[], _claim_ids uuid[], _spaces text[], _keys text[], _names text[], _owners text[],
    _expires timestamptz[], _settled boolean[], _previous text[], _replaces text[], _replaces_versions bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE names n SET
        version = c.version, since = c.since, policy_version = c.policy_version, state = c.state,
        claim_id = c.claim_id, name = c.name, owner = c.owner, expires_at = c.expires_at, settled = c.settled,
        previous = c.previous, replaces = c.replaces, replaces_version = c.replaces_version,
        first_claim = coalesce(n.first_claim, CASE WHEN n.claim_id IS DISTINCT FROM c.claim_id THEN n.claim_id END)
    FROM unnest(_was, _versions, _sinces, _partitions, _policy_versions, _states, _claim_ids, _spaces, _keys, _names, _owners,
            _expires, _settled, _previous, _replaces, _replaces_versions)
        AS c (was, version, since, partition, policy_version, state, claim_id, space, key, name, owner,
            expires_at, settled, previous, replaces, replaces_version)
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

-- What an older dibs does not know stays in rows that it refuses to read.
DROP FUNCTION change_names;
DROP INDEX decisions_history, decisions_mark, names_due;
ALTER TABLE decisions DROP COLUMN expires_at, DROP COLUMN follow_key, DROP COLUMN follow_version, DROP COLUMN request, DROP COLUMN actor, DROP COLUMN why;
ALTER TABLE names DROP COLUMN expires_at, DROP COLUMN settled, DROP COLUMN previous, DROP COLUMN replaces,
    DROP COLUMN replaces_version, DROP COLUMN first_claim;
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
