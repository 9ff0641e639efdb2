package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestPausedWriter: a writer that is paused in the middle of a transaction does not keep its successor waiting, wherever
// it was paused, and its transaction leaves nothing.
func TestPausedWriter(t *testing.T) {
	const lock = `UPDATE partitions SET next_offset = next_offset + 1 WHERE partition = 0`
	for where, pause := range map[string]func(*testing.T, *pgx.Conn){
		"between statements": func(t *testing.T, c *pgx.Conn) {
			exec(t, c, "begin")
			exec(t, c, lock)
		},
		"in COPY": func(t *testing.T, c *pgx.Conn) {
			exec(t, c, "begin")
			exec(t, c, lock)
			say(t, c, &pgproto3.Query{String: "COPY dead_letters FROM STDIN"})
			hear[*pgproto3.CopyInResponse](t, c)
		},
		"in a message of COPY": func(t *testing.T, c *pgx.Conn) {
			exec(t, c, "begin")
			exec(t, c, lock)
			say(t, c, &pgproto3.Query{String: "COPY dead_letters FROM STDIN"})
			hear[*pgproto3.CopyInResponse](t, c)
			half := binary.BigEndian.AppendUint32([]byte{'d'}, 1000)
			if _, err := c.PgConn().Conn().Write(append(half, "1\t"...)); err != nil {
				t.Fatal(err)
			}
		},
		"before the end of its batch": func(t *testing.T, c *pgx.Conn) {
			say(t, c, &pgproto3.Parse{Query: lock}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{})
			hear[*pgproto3.CommandComplete](t, c)
		},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			cfg := configure(t)
			var log strings.Builder
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			r := open(t, cfg)
			before := acquire(t, r, 0)
			paused := connect(t, cfg)
			exec(t, paused, "SET application_name = 'paused'; SET idle_in_transaction_session_timeout = 0")
			pause(t, paused)

			began := time.Now()
			s := acquire(t, r, 0)
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("the take-over took %v", took)
			}
			if s.NextOffset != before.NextOffset || s.WriterEpoch != before.WriterEpoch+1 {
				t.Errorf("taken over at %+v", s)
			}
			if !strings.Contains(log.String(), "paused") {
				t.Errorf("nobody was told: %q", log.String())
			}
			commit(t, r, accepting(s, 1, "alice"))
		})
	}
}

func say(t *testing.T, c *pgx.Conn, messages ...pgproto3.FrontendMessage) {
	t.Helper()
	for _, m := range messages {
		c.PgConn().Frontend().Send(m)
	}
	if err := c.PgConn().Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
}

func hear[M pgproto3.BackendMessage](t *testing.T, c *pgx.Conn) {
	t.Helper()
	for {
		m, err := c.PgConn().Frontend().Receive()
		if err != nil {
			t.Fatal(err)
		}
		if refusal, ok := m.(*pgproto3.ErrorResponse); ok {
			t.Fatal(refusal.Message)
		}
		if _, ok := m.(M); ok {
			return
		}
	}
}

// TestBusyWriter: one whose transaction is at work is waited for, not ended.
func TestBusyWriter(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	r := open(t, cfg)
	s := acquire(t, r, 0)
	busy := connect(t, cfg)
	exec(t, busy, "begin")
	exec(t, busy, "UPDATE partitions SET next_offset = 7 WHERE partition = 0")
	done := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(3)")
		if err == nil {
			_, err = busy.Exec(context.Background(), "commit")
		}
		done <- err
	}()
	next := acquire(t, r, 0)
	if err := <-done; err != nil {
		t.Errorf("the writer at work: %v", err)
	}
	if next.NextOffset != 7 || next.WriterEpoch != s.WriterEpoch+1 {
		t.Errorf("taken over at %+v", next)
	}
}

// TestLostAnswer cuts a commit's connection at every place of the conversation: what is done and what is not is always
// seen from the row, and the same batch again is either the first or refused.
func TestLostAnswer(t *testing.T) {
	for _, size := range []int{1, 100, 600} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			cfg := configure(t)
			p, dsn := startProxy(t, cfg.DSN)
			direct, r := open(t, cfg), open(t, postgres.Config{DSN: dsn, Schema: cfg.Schema})
			s := acquire(t, r, 0)
			lost, kept := 0, 0
			for place, try := 1, 0; ; place, try = place+1, try+1 {
				b := accepting(s, size, fmt.Sprintf("try%d-", try))
				warm(t, r) // connections and prepared statements are no part of this
				p.cut(place)
				err := r.Commit(t.Context(), []processor.Batch{b})
				if p.uncut() {
					if err != nil {
						t.Fatalf("nothing was cut: %v", err)
					}
					if kept > 0 || try > 50 {
						break
					}
					s = standing(t, direct, 0)
					place = max(0, place-2) // the answer to the commit may come in one packet less, or more
					continue
				}
				if !unsaid(err) {
					t.Fatalf("cut at %d: %v", place, err)
				}
				now := standing(t, direct, 0)
				for deadline := time.Now().Add(5 * time.Second); now.NextOffset == s.NextOffset && time.Now().Before(deadline) && busy(t, direct, cfg); {
					now = standing(t, direct, 0) // it may still be on its way
				}
				now = standing(t, direct, 0) // it may have come to its end between the two looks
				again := r.Commit(t.Context(), []processor.Batch{b})
				switch now.NextOffset {
				case b.Next:
					kept++
					if !errors.Is(again, processor.ErrFenced) {
						t.Fatalf("committed, and again: %v", again)
					}
				case s.NextOffset:
					if errors.Is(again, processor.ErrFenced) { // it was on its way all the same, which the row says
						kept++
						break
					}
					lost++
					if again != nil {
						t.Fatalf("not committed, and again: %v", again)
					}
				}
				s = standing(t, direct, 0)
				if s.NextOffset != b.Next {
					t.Fatalf("the row is %+v", s)
				}
				rows, err := direct.Unpublished(t.Context(), s.Fence, s.NextOffset-int64(size))
				if err != nil || len(rows) != size {
					t.Fatalf("%d rows, want %d, %v", len(rows), size, err)
				}
			}
			t.Logf("%d commits were done and not heard of, %d were not done", kept, lost)
			if kept == 0 {
				t.Error("no answer was lost behind its commit")
			}
		})
	}
}

// TestCutWhileSaying cuts a commit by COPY in the middle of what is sent: less than all of it leaves nothing, wherever it ends.
func TestCutWhileSaying(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	p, dsn := startProxy(t, cfg.DSN)
	direct, r := open(t, cfg), open(t, postgres.Config{DSN: dsn, Schema: cfg.Schema})
	s := acquire(t, r, 0)
	const size, much = 300, 1 << 30
	try := 0
	next := func() processor.Batch { try++; return accepting(s, size, fmt.Sprintf("try%d-", try)) }
	warm(t, r)
	p.cutSaying(much)
	b := next()
	commit(t, r, b)
	whole := much - p.unsaidYet()
	s = standing(t, direct, 0)
	var places []int
	for i := range 20 {
		places = append(places, 1+i*whole/20)
	}
	for _, back := range []int{150, 90, 60, 45, 30, 20, 14, 10, 5, 1} { // what is behind the COPYs
		places = append(places, whole-back)
	}
	for _, place := range places {
		warm(t, r)
		b := next()
		p.cutSaying(place)
		if err := r.Commit(t.Context(), []processor.Batch{b}); !unsaid(err) {
			t.Fatalf("cut at byte %d of %d: %v", place, whole, err)
		}
		if left := p.unsaidYet(); left != 0 {
			t.Fatalf("cut at byte %d of %d: %d bytes were not said", place, whole, left)
		}
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && busy(t, direct, cfg); {
			_ = standing(t, direct, 0)
		}
		now := standing(t, direct, 0)
		var names int
		if err := connect(t, cfg).QueryRow(t.Context(), `SELECT count(*) FROM names WHERE name LIKE $1`, fmt.Sprintf("try%d-%%", try)).Scan(&names); err != nil {
			t.Fatal(err)
		}
		switch {
		case now.NextOffset == s.NextOffset && names == 0:
		case now.NextOffset == b.Next && names == size && whole-place <= 5: // all but the last word, a Sync, which the commit does not wait for
			s = now
		default:
			t.Fatalf("cut at byte %d of %d: the row is at %d, and %d names are there", place, whole, now.NextOffset, names)
		}
	}
}

// warm prepares every statement of a commit on the connection that the next one gets.
func warm(t *testing.T, r *postgres.Record) {
	t.Helper()
	for _, size := range []int{1, 100, 600} {
		b := accepting(acquire(t, r, 1), size, "warm")
		b.NextOffset++
		for i := range b.Rows {
			b.Rows[i].Outcome.Offset = b.Rows[i].Offset
		}
		if err := r.Commit(t.Context(), []processor.Batch{b}); !errors.Is(err, processor.ErrFenced) {
			t.Fatal(err)
		}
	}
}

// busy reports whether a writer's transaction is still under way.
func busy(t *testing.T, r *postgres.Record, cfg postgres.Config) bool {
	t.Helper()
	c := connect(t, cfg)
	defer func() { _ = c.Close(t.Context()) }()
	var n int
	if err := c.QueryRow(t.Context(), `SELECT count(*) FROM partitions p JOIN pg_stat_activity a ON a.backend_xid = p.xmax WHERE p.partition = 0`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// TestFrozen: a server that does not answer costs every call its timeout, and no more.
func TestFrozen(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	p, dsn := startProxy(t, cfg.DSN)
	const timeout = 700 * time.Millisecond
	r := open(t, postgres.Config{DSN: dsn, Schema: cfg.Schema, Timeout: timeout, MaxConns: 40}) // one for each call, of either kind
	s := acquire(t, r, 0)
	small, large := accepting(s, 1, "small"), accepting(s, 600, "large")
	calls := map[string]func() error{
		"Acquire":    func() error { _, err := r.Acquire(t.Context(), 1, uuid.New()); return err },
		"Standings":  func() error { _, err := r.Standings(t.Context(), []int32{0}); return err },
		"Look":       func() error { _, err := r.Look(t.Context(), []processor.Fence{s.Fence}, nil, nil); return err },
		"Commit":     func() error { return r.Commit(t.Context(), []processor.Batch{small}) },
		"CommitMany": func() error { return r.Commit(t.Context(), []processor.Batch{large}) },
		"Unpublished": func() error {
			_, err := r.Unpublished(t.Context(), s.Fence, 0)
			return err
		},
		"Published": func() error { return r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence}}) },
		"Halt":      func() error { return r.Halt(t.Context(), s.Fence, "why") },
		"Decided":   func() error { _, err := r.Decided(t.Context(), []uuid.UUID{uuid.New()}); return err },
		"Name":      func() error { _, err := r.Name(t.Context(), names.Ref{}); return err },
		"Ping":      func() error { return r.Ping(t.Context()) },
		"Check":     func() error { _, err := r.Check(t.Context()); return err },
		"Pin": func() error {
			_, err := r.Pin(t.Context(), postgres.Contract{Topic: "claims", Partitions: 1})
			return err
		},
	}
	p.freeze()
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			began := time.Now()
			err := call()
			if took := time.Since(began); !unsaid(err) || took > timeout+time.Second {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		})
	}
	wg.Wait()
	p.melt()
	// Whatever was on its way arrives late; then everything is as before.
	deadline := time.Now().Add(20 * time.Second)
	for name, call := range calls {
		for {
			err := call()
			if err == nil || errors.Is(err, processor.ErrFenced) { // a frozen call may have arrived after all
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s, thawed: %v", name, err)
			}
		}
	}

	p.freeze()
	began := time.Now()
	_ = r.Ping(t.Context())
	r.Close()
	if took := time.Since(began); took > 2*timeout+2*time.Second {
		t.Errorf("to close took %v", took)
	}
	if err := r.Ping(t.Context()); !errors.Is(err, postgres.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestKilledConnections ends the server's side of connections again and again under writers that do as a lane does.
func TestKilledConnections(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	cfg.Application = "victims of " + cfg.Schema
	r := open(t, cfg)
	killer := connect(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for pace := time.NewTicker(25 * time.Millisecond); ctx.Err() == nil; <-pace.C {
			_, _ = killer.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 ORDER BY random() LIMIT 1`, cfg.Application[:min(63, len(cfg.Application))])
		}
	})
	var writers sync.WaitGroup
	unknown := make([]int, 3)
	const batches = 12
	for w, size := range []int{1, 60, 500} {
		writers.Go(func() {
			s := patient(t, func() (processor.Standing, error) { return r.Acquire(t.Context(), int32(w), uuid.New()) })
			for i := range batches {
				b := accepting(s, size, fmt.Sprintf("w%d-%d-", w, i))
				for {
					err := r.Commit(t.Context(), []processor.Batch{b})
					if err != nil && !unsaid(err) && !errors.Is(err, processor.ErrFenced) {
						t.Errorf("commit: %v", err)
						return
					}
					if err == nil {
						break
					}
					unknown[w]++
					now := patient(t, func() (processor.Standing, error) {
						all, err := r.Standings(t.Context(), []int32{int32(w)})
						if err != nil {
							return processor.Standing{}, err
						}
						return all[0], nil
					})
					if now.NextOffset == b.Next {
						break
					}
				}
				s.NextOffset = b.Next
			}
		})
	}
	writers.Wait()
	cancel()
	wg.Wait()
	t.Logf("errors that left it open, by size of batch: %v", unknown)
	for w, size := range []int{1, 60, 500} {
		s := patient(t, func() (processor.Standing, error) { return r.Acquire(t.Context(), int32(w), uuid.New()) })
		rows := patient(t, func() ([]processor.Row, error) { return r.Unpublished(t.Context(), s.Fence, 0) })
		if s.NextOffset != int64(batches*size) || len(rows) != batches*size {
			t.Errorf("partition %d stands at %d with %d rows, want %d", w, s.NextOffset, len(rows), batches*size)
		}
	}
}

// patient asks until it gets an answer.
func patient[T any](t *testing.T, ask func() (T, error)) T {
	for deadline := time.Now().Add(30 * time.Second); ; {
		v, err := ask()
		if err == nil || !unsaid(err) || time.Now().After(deadline) {
			if err != nil {
				t.Error(err)
			}
			return v
		}
	}
}

// TestCommitFails: what the server says at the commit itself is heard.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	r := open(t, cfg)
	c := connect(t, cfg)
	exec(t, c, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '53100'; END $$`)
	exec(t, c, `CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON names DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	for _, size := range []int{1, 600} {
		s := acquire(t, r, int32(size))
		b := accepting(s, size, "name")
		if err := r.Commit(t.Context(), []processor.Batch{b}); !unsaid(err) {
			t.Errorf("size %d: %v", size, err)
		}
		if now := standing(t, r, int32(size)); now != s {
			t.Errorf("size %d: the row is %+v, want %+v", size, now, s)
		}
	}
	exec(t, c, `DROP TRIGGER refuse ON names`)
	commit(t, r, accepting(standing(t, r, 1), 1, "name"))
}

// TestStandby: a server that takes no writes is no record.
func TestStandby(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	if strings.Contains(cfg.DSN, "://") {
		sep := "?"
		if strings.Contains(cfg.DSN, "?") {
			sep = "&"
		}
		cfg.DSN += sep + "default_transaction_read_only=on"
	} else {
		cfg.DSN += " default_transaction_read_only=on"
	}
	if err := open(t, cfg).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "read only") {
		t.Errorf("ping: %v", err)
	}
}

// TestConnectionIsKept: a refusal says what happened, so its connection is in order.
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	cfg.MaxConns, cfg.Application = 1, "kept "+uuid.NewString()
	r := open(t, cfg)
	s := acquire(t, r, 0)
	c := connect(t, cfg)
	pid := func() (n int) {
		t.Helper()
		if err := c.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity WHERE application_name = $1`, cfg.Application).Scan(&n); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return n
	}
	before := pid()
	commit(t, r, accepting(s, 1, "taken"))
	for _, size := range []int{1, 600} {
		stale := accepting(s, size, "x")
		if err := r.Commit(t.Context(), []processor.Batch{stale}); !errors.Is(err, processor.ErrFenced) {
			t.Fatal(err)
		}
		again := accepting(standing(t, r, 0), size, "taken")
		if err := r.Commit(t.Context(), []processor.Batch{again}); !errors.Is(err, processor.ErrConflict) {
			t.Fatal(err)
		}
	}
	if after := pid(); after != before {
		t.Errorf("a refusal cost connection %d", before)
	}
}
