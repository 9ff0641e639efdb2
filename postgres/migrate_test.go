package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/jackc/pgx/v5"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema}
	all, err := postgres.Migrations(t.Context(), cfg)
	if err != nil || len(all) == 0 {
		t.Fatalf("migrations are %v, %v", all, err)
	}
	for _, m := range all {
		if !m.AppliedAt.IsZero() {
			t.Errorf("%s is applied to an empty schema", m.Name)
		}
	}
	applied, err := postgres.Migrate(t.Context(), cfg)
	if err != nil || len(applied) != len(all) {
		t.Fatalf("applied %v, %v", applied, err)
	}
	if again, err := postgres.Migrate(t.Context(), cfg); err != nil || len(again) != 0 {
		t.Fatalf("applied again: %v, %v", again, err)
	}
	all, err = postgres.Migrations(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.AppliedAt.IsZero() {
			t.Errorf("%s is not applied", m.Name)
		}
	}
	acquire(t, open(t, cfg), 0)

	// Down leaves nothing but the account of it, and up brings everything back.
	if _, err := postgres.MigrateDown(t.Context(), cfg, 0); err != nil {
		t.Fatal(err)
	}
	var left []string
	rows, _ := connect(t, cfg).Query(t.Context(), `
		SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' UNION ALL
		SELECT proname::text FROM pg_proc WHERE pronamespace = $1::regnamespace`, pgx.Identifier{cfg.Schema}.Sanitize())
	if left, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(left) != 1 || left[0] != "goose_db_version" {
		t.Fatalf("down has left %v, %v", left, err)
	}
	if applied, err := postgres.Migrate(t.Context(), cfg); err != nil || len(applied) != len(all) {
		t.Fatalf("applied %v, %v", applied, err)
	}
	acquire(t, open(t, cfg), 0)
}

// TestMigrateAtOnce: one applies, the others wait and find nothing to do. The schema's name is one that must be quoted,
// and it is not there yet.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: `At "once", ` + db.Schema[len(db.Schema)-20:]}
	var wg sync.WaitGroup
	applied := make([][]postgres.Migration, 4)
	for i := range applied {
		wg.Go(func() {
			var err error
			if applied[i], err = postgres.Migrate(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	defer exec(t, connect(t, cfg), "DROP SCHEMA "+pgx.Identifier{cfg.Schema}.Sanitize()+" CASCADE")
	appliers := 0
	for _, a := range applied {
		if len(a) > 0 {
			appliers++
		}
	}
	if appliers != 1 {
		t.Errorf("%d of %d have applied: %v", appliers, len(applied), applied)
	}
	r := open(t, cfg)
	commit(t, r, accepting(acquire(t, r, 0), 1, "alice"))
	r.Close()
}

// TestMigrationSQL: applied by hand it is the same schema, and Migrate sees that it is there.
func TestMigrationSQL(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema}
	sql, err := postgres.MigrationSQL(cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, cfg)
	if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
	r := open(t, cfg)
	commit(t, r, accepting(acquire(t, r, 0), 300, "alice"))
	if applied, err := postgres.Migrate(t.Context(), cfg); err != nil || len(applied) != 0 {
		t.Errorf("applied %v, %v", applied, err)
	}
	all, err := postgres.Migrations(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := postgres.MigrationSQL(cfg, all[len(all)-1].Version); err != nil || strings.Contains(rest, "CREATE FUNCTION") {
		t.Errorf("above the last version there is %q, %v", rest, err)
	}
}

// TestSchemaMustFit: the record does not run on a schema that is behind or ahead, and says what to do.
func TestSchemaMustFit(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema}
	refused := func(when, saying string) {
		t.Helper()
		err := open(t, cfg).Ping(t.Context())
		if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), saying) {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("before the first migration", "dibs migrate up")
	missing := cfg
	missing.Schema += "_missing"
	if err := open(t, missing).Ping(t.Context()); !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), "dibs migrate up") {
		t.Errorf("without a schema: %v", err)
	}
	if _, err := postgres.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r := open(t, cfg)
	s := acquire(t, r, 0)
	c := connect(t, cfg)
	exec(t, c, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	refused("after a newer dibs", "version 99")
	commit(t, r, accepting(s, 1, "alice")) // one that runs already goes on: that is how an upgrade is rolled out
	if all, err := postgres.Migrations(t.Context(), cfg); err != nil || all[len(all)-1].Version != 99 {
		t.Errorf("migrations are %v, %v", all, err)
	}
	exec(t, c, `DELETE FROM goose_db_version WHERE version_id IN (1, 99)`)
	refused("behind", "dibs migrate up")
}
