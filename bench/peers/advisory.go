package peers

import (
	"context"
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/bench"
	"github.com/jackc/pgx/v5"
)

// advisory locks the name before it looks: pg_advisory_xact_lock, SELECT, INSERT, in one transaction. What can go in one
// round trip does: BEGIN, the lock and the look-up; then INSERT and COMMIT.
type advisory struct {
	*table
	look, insert string
}

func openAdvisory(ctx context.Context, o *opening) (bench.Peer, error) {
	t, err := openTable(ctx, o, columns)
	if err != nil {
		return nil, err
	}
	return &advisory{
		table: t, look: "SELECT owner FROM " + t.name + " WHERE key = lower($1)",
		insert: "INSERT INTO " + t.name + " (key, name, owner) VALUES (lower($1), $1, $2)",
	}, nil
}

// Name implements bench.Peer.
func (*advisory) Name() string { return AdvisoryName }

// Claim implements bench.Peer.
func (a *advisory) Claim(ctx context.Context, name, owner string) (got bool, err error) {
	conn, err := a.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil { // with a transaction that may be open still
			_ = conn.Conn().Close(context.WithoutCancel(ctx))
		}
		conn.Release()
	}()
	// Each statement sees what is committed when it begins: the look-up, what is when the lock is ours.
	var first pgx.Batch
	first.Queue("BEGIN")
	first.Queue("SELECT pg_advisory_xact_lock(hashtextextended(lower($1), 0))", name)
	taken := false
	first.Queue(a.look, name).QueryRow(func(row pgx.Row) error {
		var holder string
		err := row.Scan(&holder)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		taken = err == nil
		return err
	})
	if err := conn.SendBatch(ctx, &first).Close(); err != nil {
		return false, fmt.Errorf("lock and look up: %w", err)
	}
	var second pgx.Batch
	if !taken {
		second.Queue(a.insert, name, owner)
	}
	second.Queue("COMMIT")
	if err := conn.SendBatch(ctx, &second).Close(); err != nil {
		return false, fmt.Errorf("insert and commit: %w", err)
	}
	return !taken, nil
}
