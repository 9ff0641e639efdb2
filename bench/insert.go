package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Insert is what people would do with one Postgres: INSERT … ON CONFLICT DO NOTHING on a table with a unique name.
type Insert struct {
	pool        *pgxpool.Pool
	table       string
	connections int
	backlog     int
	claim       func(i int) (name, owner string)
}

var _ Drainer = (*Insert)(nil)

// NewInsert connects a pool of that many connections and makes a table of its own, in a schema of its own.
func NewInsert(ctx context.Context, dsn, schema string, connections int32) (*Insert, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	cfg.MaxConns, cfg.MinConns = connections, connections
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	in := &Insert{pool: pool, table: pgx.Identifier{schema, "users"}.Sanitize(), connections: int(connections)}
	for _, sql := range []string{
		"CREATE SCHEMA IF NOT EXISTS " + pgx.Identifier{schema}.Sanitize(),
		"CREATE TABLE IF NOT EXISTS " + in.table + ` (key text COLLATE "C" PRIMARY KEY, name text NOT NULL, owner text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`,
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			pool.Close()
			return nil, fmt.Errorf("make the table to insert into: %w", err)
		}
	}
	return in, nil
}

// Name implements Peer.
func (in *Insert) Name() string { return "direct INSERT" }

// Claim implements Peer.
func (in *Insert) Claim(ctx context.Context, name, owner string) (bool, error) {
	tag, err := in.pool.Exec(ctx, "INSERT INTO "+in.table+" (key, name, owner) VALUES (lower($1), $1, $2) ON CONFLICT DO NOTHING", name, owner)
	return tag.RowsAffected() == 1, err
}

// Fill implements Drainer. There is nowhere to put a backlog: it stays here.
func (in *Insert) Fill(_ context.Context, n int, claim func(i int) (name, owner string)) error {
	in.backlog, in.claim = n, claim
	return nil
}

// Drain implements Drainer, on all connections at once.
func (in *Insert) Drain(ctx context.Context, progress func(decided int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, decided atomic.Int64
	var wg sync.WaitGroup
	for range in.connections {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= in.backlog {
					return
				}
				name, owner := in.claim(i)
				if _, err := in.Claim(ctx, name, owner); err != nil {
					cancel(err)
					return
				}
				if n := decided.Add(1); n%1000 == 0 {
					progress(int(n))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Close drops schemas, such as its own, and disconnects.
func (in *Insert) Close(ctx context.Context, schemas ...string) error {
	defer in.pool.Close()
	var errs []error
	for _, schema := range schemas {
		if err := in.Drop(ctx, schema); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Drop drops a schema, and all that is in it.
func (in *Insert) Drop(ctx context.Context, schema string) error {
	if _, err := in.pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
		return fmt.Errorf("drop schema %s: %w", schema, err)
	}
	return nil
}
