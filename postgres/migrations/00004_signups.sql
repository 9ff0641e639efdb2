-- Sign-ups: several names at once. Names without a schema: the connection's search_path says which.

-- +goose Up

-- Every column is null in the usual row.
ALTER TABLE names
    ADD COLUMN signup uuid, -- the sign-up that has the reservation: nothing ends it but what that decides
    ADD COLUMN ballot text; -- of a sign-up (space signup): what it asks for, and what the names have said

-- Kind is also s sent, a request of dibs' own that the record leads to beside its other rows (request_id is that request's),
-- and g pending, a sign-up whose outcome comes with a later record. Outcome is also G Begun, O Voted, Y Abandoned.
ALTER TABLE decisions ADD COLUMN signup uuid; -- of what is sent: the sign-up; null: none

DROP FUNCTION change_names;

-- Changes names that have a row, and raises unless every one is still as it was read. The rows are found one by one
-- through the primary key, then joined by their place: no plan for it reads the table.
-- +goose StatementBegin
CREATE FUNCTION change_names(
    _was bigint[], _versions bigint[], _sinces timestamptz[], _partitions integer[], _policy_versions integer[],
    _states "char"[], _claim_ids uuid[], _spaces text[], _keys text[], _names text[], _owners text[],
    _expires timestamptz[], _settled boolean[], _previous text[], _replaces text[], _replaces_versions bigint[],
    _signups uuid[], _ballots text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE names n SET
        version = c.version, since = c.since, policy_version = c.policy_version, state = c.state,
        claim_id = c.claim_id, name = c.name, owner = c.owner, expires_at = c.expires_at, settled = c.settled,
        previous = c.previous, replaces = c.replaces, replaces_version = c.replaces_version,
        signup = c.signup, ballot = c.ballot,
        first_claim = coalesce(n.first_claim, CASE WHEN n.claim_id IS DISTINCT FROM c.claim_id THEN n.claim_id END)
    FROM unnest(_was, _versions, _sinces, _partitions, _policy_versions, _states, _claim_ids, _spaces, _keys, _names, _owners,
            _expires, _settled, _previous, _replaces, _replaces_versions, _signups, _ballots)
        AS c (was, version, since, partition, policy_version, state, claim_id, space, key, name, owner,
            expires_at, settled, previous, replaces, replaces_version, signup, ballot)
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

-- Where there are sign-ups there is no way back: an older dibs does not know that a name is promised, nor what the rows say
-- that lead to something; and what each sign-up asked for would be gone.
-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM names WHERE space = 'signup') OR EXISTS (SELECT FROM names WHERE signup IS NOT NULL) THEN
        RAISE EXCEPTION 'there are sign-ups, which the schema before version 4 cannot keep: it stays as it is';
    END IF;
END $$;
-- +goose StatementEnd

DROP FUNCTION change_names;
ALTER TABLE decisions DROP COLUMN signup;
ALTER TABLE names DROP COLUMN signup, DROP COLUMN ballot;
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
