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
)

var (
	_ processor.Record = (*Record)(nil)
	_ api.Lookup       = (*Record)(nil)
)

// ErrClosed is the answer of a record that was closed.
var ErrClosed = errors.New("the record is closed")

// Record is the record in Postgres. It is safe for concurrent use.
type Record struct {
	cfg Config
	log *slog.Logger

	// deciding has the connections for what decides and for what claims wait for to be taken: batches, take-overs, the
	// standing of the partitions. reading has those for what callers and waiters look up, however many they are and
	// however slowly they are answered: it never keeps deciding waiting. They are one where there is one connection.
	deciding, reading *pool

	copyFrom int         // rows from which a table is written by COPY
	matched  atomic.Bool // the schema was seen to be ours
	inForce  inForceCache
	erasedIn sync.Map // partitions of ours in which something was erased: int32 to struct{}
	untimed  sync.Map // partitions up to where rows say no log time, and what the one there says, if one does: int32 to cutting
}

// New returns a record that connects when it is first used. Close it when it is no longer needed.
func New(cfg Config) (*Record, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	deciding := Deciding(cfg.MaxConns)
	reading := cfg.MaxConns - deciding
	r := &Record{cfg: cfg, log: cfg.Logger, copyFrom: copyFromRows}
	var err error
	if r.deciding, err = cfg.pool(deciding); err != nil {
		return nil, err
	}
	r.reading = r.deciding
	if reading > 0 {
		r.reading, err = cfg.pool(reading)
	}
	return r, err
}

// Close waits for calls that are under way and closes the connections; calls from now on get ErrClosed. It waits no longer than a call does: to a server
// that does not answer a connection is closed behind our back.
func (r *Record) Close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var both sync.WaitGroup
		both.Go(r.deciding.close)
		both.Go(r.reading.close)
		both.Wait()
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

// do runs f on a connection for deciding, within the timeout. f reports what it got from Postgres as it is. A connection
// that gave an error that is none of the sentinels is not used again: it may have a transaction open, belong to a server
// that has become a standby, or hold a plan that a migration has overtaken.
func (r *Record) do(ctx context.Context, what string, f func(ctx context.Context, c *pgx.Conn) error) error {
	return r.on(ctx, r.deciding, what, f)
}

// read is do on a connection for reading.
func (r *Record) read(ctx context.Context, what string, f func(ctx context.Context, c *pgx.Conn) error) error {
	return r.on(ctx, r.reading, what, f)
}

func (r *Record) on(ctx context.Context, p *pool, what string, f func(ctx context.Context, c *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	conn, err := p.acquire(ctx)
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
