package postgres_test

import (
	"testing"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/recordtest"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

// configure gives the test a schema of its own, with our tables.
func configure(t testing.TB) postgres.Config {
	t.Helper()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema}
	if _, err := postgres.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// open opens a record and closes it at the end of the test.
func open(t testing.TB, cfg postgres.Config) *postgres.Record {
	t.Helper()
	r, err := postgres.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestRecord(t *testing.T) {
	recordtest.Exercise(t, func(t *testing.T) processor.Record { return open(t, configure(t)) })
}
