-- Erasure. Names without a schema: the connection's search_path says which.

-- +goose Up

-- A free name whose last holder was erased is stored under the form that names.Eraser gives of its key, and found by either.
ALTER TABLE names ADD COLUMN erased boolean; -- true: who had it last was erased; null: false

-- A wiped row keeps what is needed to answer its request again the same: id, outcome, versions, times and hash. Its key is of
-- the form above; a mark's owner too. Outcome is also Z Erased.
ALTER TABLE decisions ADD COLUMN erased boolean; -- true: wiped; null: false

-- Forwarded records are stored as they were read. There are few, and they are to be found for an erasure.
CREATE INDEX decisions_raw ON decisions (partition, log_epoch, "offset") WHERE raw IS NOT NULL;

-- What is to be wiped of the rows up to a position, and what was. It is written with the decision that asks for it, and done
-- once everything up to there is published. What is done says of owner and name nothing any more.
CREATE TABLE erasures (
    "offset"     bigint NOT NULL,
    at           timestamptz NOT NULL,     -- log time
    done_at      timestamptz,              -- null: to be done
    partition    integer NOT NULL,
    log_epoch    integer NOT NULL,
    whole        boolean NOT NULL,         -- rows without an owner as well
    request_id   uuid NOT NULL,
    subject      text COLLATE "C",         -- the form that names.Eraser gives of the owner; null: of nobody
    space        text COLLATE "C",         -- null once it is done, as are key and owner
    key          text COLLATE "C",
    owner        text COLLATE "C",
    decisions    bigint,                   -- that were wiped
    dead_letters bigint,                   -- and forwarded records
    PRIMARY KEY (partition, log_epoch, "offset")
);
CREATE INDEX erasures_subject ON erasures (subject);

-- What tells the secret of the Eraser from another one: with another one, nothing erased would be found again.
CREATE TABLE erasure_secret (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    "check" bytea NOT NULL
);

-- Keeps a secret's check, and raises where another one is kept.
-- +goose StatementBegin
CREATE FUNCTION keep_erasure_secret(_check bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO erasure_secret ("check") VALUES (_check) ON CONFLICT DO NOTHING;
    IF (SELECT "check" FROM erasure_secret) <> _check THEN
        RAISE EXCEPTION 'names were erased with another security.erasure_secret_file' USING ERRCODE = 'ZN002';
    END IF;
END $$;
-- +goose StatementEnd

-- Raises where a name that is to be new is there in its other form: the unique key stands behind one form at a time.
-- +goose StatementBegin
CREATE FUNCTION absent_names(_spaces text[], _keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    there bigint;
BEGIN
    SELECT count(*) INTO there
    FROM unnest(_spaces, _keys) AS c (space, key)
    CROSS JOIN LATERAL (SELECT FROM names r WHERE r.space = c.space AND r.key = c.key LIMIT 1) r;
    IF there > 0 THEN
        RAISE EXCEPTION '% names are there in another form', there USING ERRCODE = 'ZN001';
    END IF;
END $$;
-- +goose StatementEnd

-- change_names for a partition in which something was erased: a row is found by either form of its key, and stored under the
-- one that fits what it is from now on.
-- +goose StatementBegin
CREATE FUNCTION move_names(
    _was bigint[], _versions bigint[], _sinces timestamptz[], _partitions integer[], _policy_versions integer[],
    _states "char"[], _claim_ids uuid[], _spaces text[], _keys text[], _names text[], _owners text[],
    _expires timestamptz[], _settled boolean[], _previous text[], _replaces text[], _replaces_versions bigint[],
    _signups uuid[], _ballots text[], _erased boolean[], _others text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE names n SET
        version = c.version, since = c.since, policy_version = c.policy_version, state = c.state,
        claim_id = c.claim_id, name = c.name, owner = c.owner, expires_at = c.expires_at, settled = c.settled,
        previous = c.previous, replaces = c.replaces, replaces_version = c.replaces_version,
        signup = c.signup, ballot = c.ballot, key = c.key, erased = c.erased,
        first_claim = coalesce(n.first_claim, CASE WHEN n.claim_id IS DISTINCT FROM c.claim_id THEN n.claim_id END)
    FROM unnest(_was, _versions, _sinces, _partitions, _policy_versions, _states, _claim_ids, _spaces, _keys, _names, _owners,
            _expires, _settled, _previous, _replaces, _replaces_versions, _signups, _ballots, _erased, _others)
        AS c (was, version, since, partition, policy_version, state, claim_id, space, key, name, owner,
            expires_at, settled, previous, replaces, replaces_version, signup, ballot, erased, other)
    CROSS JOIN LATERAL (
        (SELECT r.ctid FROM names r
        WHERE r.space = c.space AND r.key = c.key AND r.version = c.was AND r.partition = c.partition)
        UNION ALL
        (SELECT r.ctid FROM names r
        WHERE r.space = c.space AND r.key = c.other AND r.version = c.was AND r.partition = c.partition)
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

-- Where something was erased there is no way back: an older dibs does not find those names, and their versions would begin anew;
-- and what wiped rows answer it would take for names.
-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM erasures) THEN
        RAISE EXCEPTION 'names were erased, which the schema before version 5 cannot keep: it stays as it is';
    END IF;
END $$;
-- +goose StatementEnd

DROP FUNCTION move_names, absent_names, keep_erasure_secret;
DROP TABLE erasure_secret, erasures;
DROP INDEX decisions_raw;
ALTER TABLE decisions DROP COLUMN erased;
ALTER TABLE names DROP COLUMN erased;
