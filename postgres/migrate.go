package postgres

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations are numbered files with an up and a down part. One that was released is never edited.
//
//go:embed migrations/*.sql
var files embed.FS

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	// AppliedAt is zero for one that is not applied.
	AppliedAt time.Time
}

// ErrSchema says that the schema is not the one that this version of dibs works with.
var ErrSchema = errors.New("the schema does not fit this version of dibs")

// Migrate brings the schema up to this version, creating it where there is none, and returns what it applied. Several
// may do so at once: one applies, the others wait and find nothing to do.
func Migrate(ctx context.Context, cfg Config) ([]Migration, error) {
	return migrate(ctx, cfg, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) })
}

// MigrateDown takes the schema back to a version; 0 leaves none of our tables. What they held is gone. It stops at a version
// whose sign-ups or erasures the one before it cannot keep, with an error that says so.
func MigrateDown(ctx context.Context, cfg Config, version int64) ([]Migration, error) {
	return migrate(ctx, cfg, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.DownTo(ctx, version) })
}

func migrate(ctx context.Context, cfg Config, run func(*goose.Provider) ([]*goose.MigrationResult, error)) ([]Migration, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	pool, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	// An index on a large table takes its time, and waits for nobody.
	setting(pool.ConnConfig, "statement_timeout", "0")
	setting(pool.ConnConfig, "lock_timeout", "10000")
	if err := createSchema(ctx, pool.ConnConfig, cfg.Schema); err != nil {
		return nil, fmt.Errorf("create schema %s: %w", cfg.Schema, err)
	}
	// One lock for each schema, asked for every second: for ten minutes, since a migration may take that long.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID(cfg.Schema)), lock.WithLockTimeout(1, 600))
	if err != nil {
		return nil, err
	}
	dir, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*pool.ConnConfig)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, dir,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithSlog(cfg.Logger))
	if err != nil {
		return nil, err
	}
	results, err := run(provider)
	var applied []Migration
	for _, res := range results {
		if res.Error == nil {
			applied = append(applied, Migration{Version: res.Source.Version, Name: migrationName(res.Source.Path)})
		}
	}
	if err != nil {
		return applied, fmt.Errorf("migrate schema %s: %w", cfg.Schema, err)
	}
	return applied, nil
}

// createSchema needs no right to create one where there is one.
func createSchema(ctx context.Context, cfg *pgx.ConnConfig, schema string) error {
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	var exists bool
	if err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = c.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
	if hasState(err, uniqueViolation, "42P06") { // somebody else did, at the same moment
		return nil
	}
	return err
}

func lockID(schema string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("dibs migrations of " + schema))
	return int64(h.Sum64())
}

// Migrations lists the steps that this version knows, and when each was applied.
func Migrations(ctx context.Context, cfg Config) ([]Migration, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	pool, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, pool.ConnConfig)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(ctx) }()
	applied, err := appliedVersions(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("read the version of schema %s: %w", cfg.Schema, err)
	}
	all := embedded()
	for i := range all {
		all[i].AppliedAt = applied[all[i].Version]
		delete(applied, all[i].Version)
	}
	for version, at := range applied {
		all = append(all, Migration{version, "(of a newer dibs)", at})
	}
	slices.SortFunc(all, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
	return all, nil
}

// MigrationSQL returns the steps above a version as SQL, for those who apply it themselves: it creates and enters the
// schema, and keeps the same account of what is applied as Migrate does.
func MigrationSQL(cfg Config, above int64) (string, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return "", err
	}
	var b strings.Builder
	schema := pgx.Identifier{cfg.Schema}.Sanitize()
	fmt.Fprintf(&b, `BEGIN;
CREATE SCHEMA IF NOT EXISTS %s;
SET LOCAL search_path TO %[1]s;
CREATE TABLE IF NOT EXISTS goose_db_version (
    id         integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp     timestamp NOT NULL DEFAULT now()
);
INSERT INTO goose_db_version (version_id, is_applied) SELECT 0, true WHERE NOT EXISTS (SELECT FROM goose_db_version);
`, schema)
	for _, m := range embedded() {
		if m.Version <= above {
			continue
		}
		text, err := files.ReadFile("migrations/" + m.Name + ".sql")
		if err != nil {
			return "", err
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		fmt.Fprintf(&b, "\n-- %s\n", m.Name)
		for line := range strings.Lines(up) {
			if !strings.HasPrefix(line, "-- +goose") {
				b.WriteString(line)
			}
		}
		fmt.Fprintf(&b, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, true);\n", m.Version)
	}
	b.WriteString("COMMIT;\n")
	return b.String(), nil
}

// embedded lists the steps that this version brings along, in order.
func embedded() []Migration {
	entries, err := files.ReadDir("migrations")
	if err != nil {
		panic("postgres: migrations are not embedded: " + err.Error()) // the compiler sees to it that they are
	}
	all := make([]Migration, 0, len(entries))
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic("postgres: a migration has no number: " + e.Name())
		}
		all = append(all, Migration{Version: version, Name: migrationName(e.Name())})
	}
	return all
}

func migrationName(file string) string { return strings.TrimSuffix(path.Base(file), ".sql") }

// appliedVersions reads what was applied, and when. There may be no such schema or table.
func appliedVersions(ctx context.Context, c *pgx.Conn) (map[int64]time.Time, error) {
	rows, _ := c.Query(ctx, `SELECT version_id, tstamp FROM goose_db_version WHERE is_applied AND version_id > 0 ORDER BY id`)
	applied := make(map[int64]time.Time)
	var version int64
	var at time.Time
	_, err := pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		applied[version] = at
		return nil
	})
	if hasState(err, "42P01", "3F000") { // no such table, no such schema
		return nil, nil
	}
	return applied, err
}

// matchSchema makes sure, once, that the record works on the schema it was written for: a query that fails for lack of
// a column would be tried again for ever, and an older dibs does not know what a newer schema asks of its rows.
func (r *Record) matchSchema(ctx context.Context, c *pgx.Conn) error {
	if r.matched.Load() {
		return nil
	}
	applied, err := appliedVersions(ctx, c)
	if err != nil {
		return fmt.Errorf("read the version of schema %s: %w", r.cfg.Schema, err)
	}
	all := embedded()
	for _, m := range all {
		if _, ok := applied[m.Version]; !ok {
			return fmt.Errorf("%w: schema %q lacks migration %s: run `dibs migrate up`", ErrSchema, r.cfg.Schema, m.Name)
		}
	}
	last := all[len(all)-1].Version
	for version := range applied {
		if version > last {
			return fmt.Errorf("%w: schema %q is at version %d, this dibs knows %d: run a newer dibs (its `dibs migrate up` was here before)",
				ErrSchema, r.cfg.Schema, version, last)
		}
	}
	r.matched.Store(true)
	return nil
}
