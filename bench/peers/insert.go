package peers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/bench"
)

// insert is what people would do with one Postgres: INSERT … ON CONFLICT DO NOTHING on a table with a unique key, each in a
// transaction of its own.
type insert struct {
	*table
	sql     string
	backlog []asked
}

// asked is one claim of a backlog.
type asked struct{ name, owner string }

func openInsert(ctx context.Context, o *opening) (bench.Peer, error) { return newInsert(ctx, o) }

func newInsert(ctx context.Context, o *opening) (*insert, error) {
	t, err := openTable(ctx, o, columns)
	if err != nil {
		return nil, err
	}
	return &insert{table: t, sql: "INSERT INTO " + t.name + " (key, name, owner) VALUES (lower($1), $1, $2) ON CONFLICT DO NOTHING"}, nil
}

// Name implements bench.Peer.
func (*insert) Name() string { return InsertName }

// Claim implements bench.Peer.
func (in *insert) Claim(ctx context.Context, name, owner string) (bool, error) {
	tag, err := in.pool.Exec(ctx, in.sql, name, owner)
	return tag.RowsAffected() == 1, err
}

// Fill implements bench.Drainer: what is to be inserted lies in memory.
func (in *insert) Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error {
	in.backlog = make([]asked, n)
	for i := range in.backlog {
		in.backlog[i].name, in.backlog[i].owner = claim(i)
	}
	return in.empty(ctx)
}

// Drain implements bench.Drainer: every connection inserts one after the other.
func (in *insert) Drain(ctx context.Context, progress func(decided int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, decided atomic.Int64
	var workers sync.WaitGroup
	for range connections {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(in.backlog)); i = next.Add(1) - 1 {
				if _, err := in.Claim(ctx, in.backlog[i].name, in.backlog[i].owner); err != nil {
					cancel(err)
					return
				}
				decided.Add(1)
			}
		})
	}
	done := make(chan struct{})
	go func() { workers.Wait(); close(done) }()
	err := report(ctx, done, progress, func() int { return int(decided.Load()) })
	<-done
	in.backlog = nil
	return err
}

// report tells how many are decided until all are, or ctx ends: then its error is the cause.
func report(ctx context.Context, done <-chan struct{}, progress func(int), decided func() int) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-done:
			progress(decided())
			return context.Cause(ctx)
		case <-tick.C:
			progress(decided())
		}
	}
}
