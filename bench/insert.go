package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Insert is what people would do with one Postgres: INSERT … ON CONFLICT DO NOTHING on a table with a unique name.
type Insert struct {
	pool  *pgxpool.Pool
	table string
}

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
	in := &Insert{pool: pool, table: pgx.Identifier{schema, "users"}.Sanitize()}
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

// Close drops schemas, such as its own, and disconnects.
func (in *Insert) Close(ctx context.Context, schemas ...string) error {
	defer in.pool.Close()
	for _, schema := range schemas {
		if _, err := in.pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
			return fmt.Errorf("drop schema %s: %w", schema, err)
		}
	}
	return nil
}
