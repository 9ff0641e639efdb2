package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// connections is how many the server has of a record, and how many of them wait for a lock.
func connections(t *testing.T, c *pgx.Conn, cfg postgres.Config) (all, waiting int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity WHERE application_name = $1`,
		cfg.Application).Scan(&all, &waiting); err != nil {
		t.Fatal(err)
	}
	return all, waiting
}

// TestReadsNeverKeepDecidingWaiting: more look-ups than there are connections wait for a lock, and whatever the processor
// and the standings do goes on beside them.
func TestReadsNeverKeepDecidingWaiting(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	cfg.MaxConns, cfg.Application = 4, "reads "+uuid.NewString()
	r := open(t, cfg)
	s := acquire(t, r, 0)
	batch := accepting(s, 1, "alice")
	commit(t, r, batch)
	s = standing(t, r, 0)

	locked := connect(t, cfg)
	exec(t, locked, "begin")
	exec(t, locked, "LOCK TABLE names, decisions IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reads sync.WaitGroup
	for i := range 20 {
		reads.Go(func() {
			for ctx.Err() == nil { // a look-up gives up after lock_timeout; the next one is there at once
				if i%2 == 0 {
					_, _ = r.Name(ctx, ref("alice0"))
				} else {
					_, _ = r.Decided(ctx, []uuid.UUID{batch.Rows[0].RequestID})
				}
			}
		})
	}
	onlooker := connect(t, cfg)
	waiting := 0
	for deadline := time.Now().Add(10 * time.Second); waiting < 2 && time.Now().Before(deadline); {
		_, waiting = connections(t, onlooker, cfg)
	}
	if waiting < 2 { // every connection for reading should be taken
		exec(t, locked, "rollback")
		t.Fatalf("%d connections wait for a lock", waiting)
	}
	empty := accepting(s, 0, "")
	empty.Next = s.NextOffset + 1 // what a batch of transaction markers does: no table that is locked is needed
	for what, f := range map[string]func() error{
		"Ping":       func() error { return r.Ping(t.Context()) },
		"Partitions": func() error { _, err := r.Partitions(t.Context()); return err },
		"Standings":  func() error { _, err := r.Standings(t.Context(), []int32{0}); return err },
		"Acquire":    func() error { _, err := r.Acquire(t.Context(), 1, uuid.New()); return err },
		"Published": func() error {
			return r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence, Through: 1}})
		},
		"Commit": func() error { return r.Commit(t.Context(), []processor.Batch{empty}) },
	} {
		began := time.Now()
		err := f()
		if took := time.Since(began); err != nil || took > 3*time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
	}
	exec(t, locked, "rollback")
	cancel()
	reads.Wait()
	if h, err := r.Name(t.Context(), ref("alice0")); err != nil || !h.Held() {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestMaxConnsIsTheTotal, however much is asked of both halves; and with one connection all goes over it.
func TestMaxConnsIsTheTotal(t *testing.T) {
	for _, total := range []int{1, 2, 5} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			cfg := configure(t)
			cfg.MaxConns, cfg.Application = total, "total "+uuid.NewString()
			r := open(t, cfg)
			s := acquire(t, r, 0)
			locked := connect(t, cfg)
			exec(t, locked, "begin")
			exec(t, locked, "LOCK TABLE names IN ACCESS EXCLUSIVE MODE")
			var calls sync.WaitGroup
			for range 10 {
				calls.Go(func() { _, _ = r.Name(t.Context(), ref("alice")) })
				calls.Go(func() { _, _ = r.Look(t.Context(), []processor.Fence{s.Fence}, nil, nil) })
			}
			onlooker, most := connect(t, cfg), 0
			for deadline := time.Now().Add(10 * time.Second); most < total && time.Now().Before(deadline); {
				n, _ := connections(t, onlooker, cfg)
				most = max(most, n)
			}
			exec(t, locked, "rollback")
			calls.Wait()
			if n, _ := connections(t, onlooker, cfg); n > total || most != total {
				t.Errorf("%d connections at most and %d in the end, want %d", most, n, total)
			}
		})
	}
}

// TestPublishedWaitsForNoLock: a row that somebody holds locked fails what is written down with it at once. While it waits it
// holds the rows before it, and the decisions of these partitions wait for them.
func TestPublishedWaitsForNoLock(t *testing.T) {
	cfg := configure(t)
	r := open(t, cfg)
	var cursors []processor.Cursor
	for p := range int32(3) {
		commit(t, r, accepting(acquire(t, r, p), 1, fmt.Sprintf("name%d", p)))
		cursors = append(cursors, processor.Cursor{Fence: standing(t, r, p).Fence, Through: 1})
	}
	locked := connect(t, cfg)
	exec(t, locked, "begin")
	exec(t, locked, "SELECT FROM partitions WHERE partition = 2 FOR UPDATE")
	began := time.Now()
	err := r.Published(t.Context(), cursors)
	if took := time.Since(began); err == nil || took > lockTimeoutOfTests {
		t.Errorf("beside a locked row it answers %v after %v", err, took)
	}
	if err := r.Published(t.Context(), cursors[:2]); err != nil {
		t.Errorf("without that row: %v", err)
	}
	exec(t, locked, "rollback")
	if err := r.Published(t.Context(), cursors); err != nil {
		t.Errorf("when it is free: %v", err)
	}
	for p := range int32(3) {
		if s := standing(t, r, p); s.PublishedThrough != 1 {
			t.Errorf("partition %d is published through %d", p, s.PublishedThrough)
		}
	}
}

// lockTimeoutOfTests is below the 2 s that any other statement waits for a row.
const lockTimeoutOfTests = 1500 * time.Millisecond
