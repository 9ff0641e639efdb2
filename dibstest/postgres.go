package dibstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database is a Postgres for one test.
type Database struct {
	// DSN connects to the server, whose database is shared with other tests.
	DSN string
	// Schema belongs to this test alone: it is there and empty, and dropped after the test. If a private value is in
	// it, the test fails.
	Schema string
	// Kind is where the server comes from.
	Kind Kind

	server *postgresServer
	own    bool
}

// Postgres gives the test a schema in a server that it shares with others.
func Postgres(t testing.TB) *Database {
	t.Helper()
	server := current.sharedPostgres(t)
	d := &Database{DSN: server.dsn, Schema: "dibs_test_" + prefix(t, "_") + "s", Kind: server.kind, server: server}
	if err := d.exec(t.Context(), "CREATE SCHEMA "+pgx.Identifier{d.Schema}.Sanitize()); err != nil {
		t.Fatalf("a schema for this test: %v", err)
	}
	t.Cleanup(func() {
		d.sweep(t)
		if err := d.exec(context.Background(), "DROP SCHEMA "+pgx.Identifier{d.Schema}.Sanitize()+" CASCADE"); err != nil {
			t.Logf("schema %s is left: %v", d.Schema, err)
		}
	})
	return d
}

// OwnPostgres gives the test a server of its own, which it may stop, kill and restart: an installed one, else the
// embedded one.
func OwnPostgres(t testing.TB) *Database {
	t.Helper()
	current.mustHaveBegun(t)
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	server, err := chooseOwnPostgres(ctx)
	if err != nil {
		t.Fatalf("a postgres of its own: %v", err)
	}
	d := &Database{DSN: server.dsn, Schema: "dibs_test_" + prefix(t, "_") + "s", Kind: server.kind, server: server, own: true}
	t.Cleanup(func() {
		if server.running() {
			d.sweep(t)
		}
		SweepFiles(t, server.config.DataDir)
		if err := server.close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("Postgres of its own: %s", server.about)
	if err := d.exec(t.Context(), "CREATE SCHEMA "+pgx.Identifier{d.Schema}.Sanitize()); err != nil {
		t.Fatalf("a schema for this test: %v", err)
	}
	return d
}

// sweep looks for private values in the test's tables, before they are dropped.
func (d *Database) sweep(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), sweepWithin)
	defer cancel()
	s := newSweep()
	s.report(t, s.tables(ctx, d.DSN, d.Schema))
}

// Stop ends the server cleanly. Start brings it back.
func (d *Database) Stop() error {
	if !d.own {
		return errNotOurs
	}
	return d.server.own.Stop()
}

// StopImmediate ends the server as `pg_ctl stop -m immediate` does: Start recovers it from its log.
func (d *Database) StopImmediate() error {
	if !d.own {
		return errNotOurs
	}
	return d.server.own.StopImmediate()
}

// Kill ends the server with SIGKILL. Start recovers it from its log.
func (d *Database) Kill() error {
	if !d.own {
		return errNotOurs
	}
	return d.server.own.Kill()
}

// Start starts the server again, on the same address and data.
func (d *Database) Start(ctx context.Context) error {
	if !d.own {
		return errNotOurs
	}
	return d.server.start(ctx)
}

// Restart is Stop and Start.
func (d *Database) Restart(ctx context.Context) error {
	if err := d.Stop(); err != nil {
		return err
	}
	return d.Start(ctx)
}

func (d *Database) exec(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// sharedPostgres starts this binary's server when the first test asks. Every kind is a real Postgres, so that
// DIBS_TEST_REQUIRE=postgres asks for nothing more than that one is there.
func (s *session) sharedPostgres(t testing.TB) *postgresServer {
	t.Helper()
	s.mustHaveBegun(t)
	requires(t, "postgres") // to refuse a misspelt word here too
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil && s.pgErr == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		defer cancel()
		s.pg, s.pgErr = choosePostgres(ctx)
		if s.pgErr == nil {
			s.say("Postgres: " + s.pg.about)
		}
	}
	if s.pgErr != nil {
		t.Fatalf("no postgres for this test: %v", s.pgErr)
	}
	return s.pg
}
