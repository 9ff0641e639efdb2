package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/jackc/pgx/v5"
)

var _ api.Traces = (*Record)(nil)

// Held implements api.Traces.
func (r *Record) Held(ctx context.Context, owner string) (all []api.Trace, err error) {
	err = r.read(ctx, "look up an owner's names", func(ctx context.Context, c *pgx.Conn) error {
		rows, _ := c.Query(ctx, `SELECT n.space, n.key, n.version FROM (SELECT * FROM names n WHERE n.owner = $1 OFFSET 0) n ORDER BY n.space, n.key`, owner)
		var t api.Trace
		all = nil
		_, err := pgx.ForEachRow(rows, []any{&t.Space, &t.Key, &t.Version}, func() error {
			all = append(all, t)
			return nil
		})
		return err
	})
	return all, err
}

// mostTraces is how many names of an owner are found at once.
const mostTraces = 10_000

// Named implements api.Traces. No index that every claim would pay for has decisions by their owner: all of them are read, unless
// somebody has made one. What a sign-up asks for is recorded with the sign-up, not with the name.
func (r *Record) Named(ctx context.Context, owner string) (all []api.Trace, err error) {
	conn, err := r.reading.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for an owner: %w", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn.Conn(), pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for _, s := range []*statement{patience, wholly} {
			if _, err := tx.Exec(ctx, s.sql); err != nil {
				return err
			}
		}
		rows, _ := tx.Query(ctx, `
			SELECT coalesce(n.space, ''), n.key, log_epoch, max("offset")
			FROM decisions d CROSS JOIN LATERAL (
				SELECT d.space, d.key WHERE d.kind <> 's' OR d.request = 'SignupVoted'
				UNION ALL SELECT 'signup', d.signup::text WHERE d.kind = 's' AND d.request IS DISTINCT FROM 'SignupVoted'
			) n (space, key)
			WHERE owner = $1 AND kind IN ('o', 'f', 's') AND n.key IS NOT NULL
			GROUP BY 1, 2, log_epoch ORDER BY 1, 2, log_epoch LIMIT $2`, owner, mostTraces)
		var t api.Trace
		all = nil
		_, err := pgx.ForEachRow(rows, []any{&t.Space, &t.Key, &t.LogEpoch, &t.Offset}, func() error {
			if n := len(all); n > 0 && all[n-1].Ref == t.Ref { // of an earlier log
				all = all[:n-1]
			}
			all = append(all, t)
			return nil
		})
		return err
	})
	if err != nil {
		_ = conn.Conn().Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("look for an owner: %w", classify(err))
	}
	return all, nil
}

// Erased implements api.Traces.
func (r *Record) Erased(ctx context.Context, owner string) (e api.Erased, err error) {
	if r.cfg.Eraser == nil {
		return e, errNoSecret
	}
	err = r.read(ctx, "look up what was erased", func(ctx context.Context, c *pgx.Conn) error {
		var last *time.Time
		err := c.QueryRow(ctx, `
			SELECT count(*) FILTER (WHERE done_at IS NULL), count(*) FILTER (WHERE done_at IS NOT NULL),
				coalesce(sum(decisions), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint, max(at),
				count(*) FILTER (WHERE done_at IS NOT NULL AND EXISTS (
					SELECT FROM decisions d
					WHERE d.partition = e.partition AND d.log_epoch = e.log_epoch AND d."offset" = e."offset" AND d.outcome = 'Z' AND d.space = 'signup'))
			FROM erasures e WHERE subject = $1`, r.cfg.Eraser.Owner(owner)).Scan(&e.Pending, &e.Done, &e.Decisions, &e.DeadLetters, &last, &e.Signups)
		if e.Last = (time.Time{}); last != nil {
			e.Last = last.UTC()
		}
		return err
	})
	return e, err
}
