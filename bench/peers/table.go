package peers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connections is how many the peers have to Postgres. All peers have the same ones: only one peer is measured at a time, and
// a server takes 100 unless it is told otherwise.
const connections = 64

// postgres connects, once for all peers.
func (o *opening) postgres(ctx context.Context) (*pgxpool.Pool, error) {
	if err := o.needsPostgres(); err != nil || o.set.pool != nil {
		return o.set.pool, err
	}
	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	cfg.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	o.onClose(func(context.Context) error {
		pool.Close()
		return nil
	})
	o.set.pool = pool
	return pool, nil
}

// table is one peer's table of names, in a schema of its own.
type table struct {
	pool *pgxpool.Pool
	name string // quoted
}

// columns are those that every peer has.
const columns = `key text COLLATE "C" PRIMARY KEY, name text NOT NULL, owner text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()`

func openTable(ctx context.Context, o *opening, columns string) (*table, error) {
	pool, err := o.postgres(ctx)
	if err != nil {
		return nil, err
	}
	schema := pgx.Identifier{o.id + "-" + word(o.name)}.Sanitize()
	o.onClose(func(ctx context.Context) error {
		_, err := pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		return err
	})
	t := &table{pool: pool, name: schema + ".users"}
	for _, sql := range []string{"CREATE SCHEMA " + schema, "CREATE TABLE " + t.name + " (" + columns + ")"} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("make the table of names: %w", err)
		}
	}
	return t, nil
}

// empty takes out what is left of an earlier backlog: dibs begins each with tables of its own.
func (t *table) empty(ctx context.Context) error {
	if _, err := t.pool.Exec(ctx, "TRUNCATE "+t.name); err != nil {
		return fmt.Errorf("empty the table of names: %w", err)
	}
	return nil
}
