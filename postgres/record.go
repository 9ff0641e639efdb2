package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/processor"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	_ processor.Record = (*Record)(nil)
	_ api.Lookup       = (*Record)(nil)
)

// ErrClosed is the answer of a record that was closed.
var ErrClosed = errors.New("the record is closed")

// Record is the record in Postgres. It is safe for concurrent use.
type Record struct {
	cfg  Config
	pool *pgxpool.Config
	log  *slog.Logger

	copyFrom int // rows from which a table is written by COPY

	opened  sync.Mutex // guards conns and closed
	conns   *pgxpool.Pool
	closed  bool
	matched atomic.Bool // the schema was seen to be ours
}

// New returns a record that connects when it is first used. Close it when it is no longer needed.
func New(cfg Config) (*Record, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	pool, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	return &Record{cfg: cfg, pool: pool, log: cfg.Logger, copyFrom: copyFromRows}, nil
}

// Close waits for calls that are under way and closes the connections. It waits no longer than a call does: to a server
// that does not answer a connection is closed behind our back.
func (r *Record) Close() {
	r.opened.Lock()
	conns := r.conns
	r.conns, r.closed = nil, true
	r.opened.Unlock()
	if conns == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		conns.Close()
		close(done)
	}()
	timeout := time.NewTimer(r.cfg.Timeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
	}
}

// Ping reports whether Postgres answers and has the schema that this version needs.
func (r *Record) Ping(ctx context.Context) error {
	return r.do(ctx, "ping", func(ctx context.Context, c *pgx.Conn) error { return c.Ping(ctx) })
}

// do runs f on a connection, within the timeout. f reports what it got from Postgres as it is. A connection that gave
// an error that is none of the sentinels is not used again: it may have a transaction open, belong to a server that has
// become a standby, or hold a plan that a migration has overtaken.
func (r *Record) do(ctx context.Context, what string, f func(ctx context.Context, c *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	conn, err := r.acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer conn.Release()
	if err := r.matchSchema(ctx, conn.Conn()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := classify(f(ctx, conn.Conn())); err != nil {
		if !certain(err) {
			_ = conn.Conn().Close(ctx) // the error at hand is the one that says what happened
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (r *Record) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	r.opened.Lock()
	if r.closed {
		r.opened.Unlock()
		return nil, ErrClosed
	}
	if r.conns == nil {
		conns, err := pgxpool.NewWithConfig(ctx, r.pool)
		if err != nil {
			r.opened.Unlock()
			return nil, err
		}
		r.conns = conns
	}
	conns := r.conns
	r.opened.Unlock()
	return conns.Acquire(ctx)
}
