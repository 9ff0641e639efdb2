package load

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/jackc/pgx/v5"
)

// tables is what the record says.
type tables struct {
	partitions int
	decisions  []checker.Decision
	names      []checker.Name
	progress   []checker.Progress
	gaps       []gap
}

// gap is where an operator has given up a log.
type gap struct {
	partition            int32
	fromEpoch, toEpoch   int64
	fromOffset, toOffset int64
}

// readTables reads all tables in one snapshot.
func readTables(ctx context.Context, cfg Config) (*tables, error) {
	conn, err := pgx.Connect(ctx, cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // everything is read by then
	t := new(tables)
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+pgx.Identifier{cfg.Schema}.Sanitize()); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT partitions FROM topics WHERE topic = $1`, cfg.Claims).Scan(&t.partitions); err != nil {
			return fmt.Errorf("the routing contract of %s: %w", cfg.Claims, err)
		}
		for _, read := range []func(context.Context, pgx.Tx, string) error{t.readProgress, t.readGaps, t.readDecisions, t.readNames} {
			if err := read(ctx, tx, cfg.Claims); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	return t, nil
}

func (t *tables) readProgress(ctx context.Context, tx pgx.Tx, topic string) error {
	rows, err := tx.Query(ctx, `SELECT partition, log_epoch::bigint, next_offset, log_time, writer_epoch, published_through, coalesce(halted, '')
		FROM partitions WHERE topic = $1 ORDER BY partition`, topic)
	if err != nil {
		return err
	}
	t.progress, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p checker.Progress, err error) {
		var logTime *time.Time
		err = row.Scan(&p.Partition, &p.LogEpoch, &p.NextOffset, &logTime, &p.WriterEpoch, &p.PublishedThrough, &p.Halted)
		p.LogTime = timeOf(logTime)
		return p, err
	})
	return err
}

func (t *tables) readGaps(ctx context.Context, tx pgx.Tx, topic string) error {
	rows, err := tx.Query(ctx, `SELECT partition, from_epoch::bigint, to_epoch::bigint, from_offset, to_offset FROM gaps WHERE topic = $1`, topic)
	if err != nil {
		return err
	}
	t.gaps, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g gap, err error) {
		return g, row.Scan(&g.partition, &g.fromEpoch, &g.toEpoch, &g.fromOffset, &g.toOffset)
	})
	return err
}

// The letters that stand for closed lists.
var (
	kinds = map[string]string{
		"o": checker.KindOutcome, "f": checker.KindFact, "d": checker.KindDuplicate, "w": checker.KindForwarded, "x": checker.KindDead,
		"m": checker.KindMark, "p": checker.KindPolicy, "s": checker.KindSent, "g": checker.KindPending,
	}
	types = map[string]string{
		"A": "Accepted", "R": "Rejected", "C": "Confirmed", "X": "Extended", "L": "Released", "W": "Withdrawn", "D": "Deactivated",
		"V": "Reactivated", "T": "Transferred", "B": "Blocked", "U": "Unblocked", "E": "Expired", "N": "Unchanged", "G": "Begun", "O": "Voted", "Y": "Abandoned", "Z": "Erased",
	}
	// What changes nothing leaves no state.
	states = map[string]string{
		"": "", "f": "free", "r": "registered", "s": "reserved", "i": "inactive", "c": "cooling", "b": "blocked",
	}
)

// noID is how no id is stored where null stands for another.
const noID = "00000000-0000-0000-0000-000000000000"

func meaning(of map[string]string, letter string) (string, error) {
	if v, ok := of[letter]; ok {
		return v, nil
	}
	return "", fmt.Errorf("the letter %q stands for nothing that is known", letter)
}

func (t *tables) readDecisions(ctx context.Context, tx pgx.Tx, _ string) error {
	rows, err := tx.Query(ctx, `SELECT partition, log_epoch::bigint, "offset", seq::integer, kind::text, coalesce(request_id::text, ''), coalesce(principal, ''),
			coalesce(outcome::text, ''), coalesce(reason, ''), coalesce(nullif(coalesce(claim_id, request_id)::text, '`+noID+`'), ''), coalesce(space, ''), coalesce(key, ''),
			coalesce(name, CASE WHEN erased IS NULL THEN key END, ''), coalesce(owner, ''), coalesce(state::text, ''), coalesce(version, 0), coalesce(current_version, 0), log_time,
			coalesce(policy_version, 0), request_hash, expires_at, coalesce(request, ''), coalesce(actor, ''), coalesce(why, ''),
			coalesce(follow_key, ''), coalesce(follow_version, 0), coalesce(signup::text, ''), coalesce(erased, false)
		FROM decisions ORDER BY partition, log_epoch, "offset", seq`)
	if err != nil {
		return err
	}
	t.decisions, err = pgx.CollectRows(rows, decisionOf)
	return err
}

func decisionOf(row pgx.CollectableRow) (d checker.Decision, err error) {
	var o checker.Outcome
	var kind, letter, state, signup string
	var logTime, expires *time.Time
	var hash []byte
	if err := row.Scan(&d.Partition, &d.LogEpoch, &d.Offset, &d.Seq, &kind, &d.RequestID, &d.Principal,
		&letter, &o.Reason, &o.ClaimID, &o.Space, &o.Key,
		&o.Name, &o.Owner, &state, &o.Version, &o.CurrentVersion, &logTime,
		&o.PolicyVersion, &hash, &expires, &o.Request, &d.Actor, &d.Why,
		&d.FollowKey, &d.FollowVersion, &signup, &d.Erased); err != nil {
		return d, err
	}
	if d.Kind, err = meaning(kinds, kind); err != nil {
		return d, err
	}
	if d.Kind == checker.KindMark {
		d.Owner = o.Owner
	}
	if d.Kind == checker.KindSent {
		d.Sent = &checker.Sent{
			Request: o.Request, Space: o.Space, Key: o.Key, Name: o.Name, Owner: o.Owner, ClaimID: o.ClaimID, Signup: signup, Reason: o.Reason,
		}
	}
	if d.Kind != checker.KindOutcome && d.Kind != checker.KindFact {
		return d, nil
	}
	if o.Type, err = meaning(types, letter); err != nil {
		return d, err
	}
	if o.State, err = meaning(states, state); err != nil {
		return d, err
	}
	o.RequestID, o.RequestHash, o.LogTime = d.RequestID, hex.EncodeToString(hash), timeOf(logTime)
	o.Partition, o.LogEpoch, o.Offset, o.Seq, o.ExpiresAt = d.Partition, d.LogEpoch, d.Offset, d.Seq, timeOf(expires)
	d.Outcome = &o
	return d, nil
}

func (t *tables) readNames(ctx context.Context, tx pgx.Tx, _ string) error {
	rows, err := tx.Query(ctx, `SELECT space, key, partition, state::text, coalesce(name, key), coalesce(owner, ''), coalesce(claim_id::text, ''), version,
			policy_version, since, expires_at, coalesce(settled, false), coalesce(previous, ''), coalesce(replaces, ''), coalesce(replaces_version, 0),
			coalesce(signup::text, ''), coalesce(ballot, ''), coalesce(erased, false)
		FROM names ORDER BY space, key`)
	if err != nil {
		return err
	}
	t.names, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n checker.Name, err error) {
		var state string
		var since, expires *time.Time
		if err := row.Scan(&n.Space, &n.Key, &n.Partition, &state, &n.Name, &n.Owner, &n.ClaimID, &n.Version, &n.PolicyVersion, &since,
			&expires, &n.Settled, &n.Previous, &n.Replaces, &n.ReplacesVersion, &n.Signup, &n.Ballot, &n.Erased); err != nil {
			return n, err
		}
		n.Since, n.ExpiresAt = timeOf(since), timeOf(expires)
		n.State, err = meaning(states, state)
		return n, err
	})
	return err
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
