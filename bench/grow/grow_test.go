package grow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/bench/grow"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

func query(t *testing.T, c *pgx.Conn, sql string) (answer string) {
	t.Helper()
	if err := c.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// TestFill: what is filled is what claims leave, for whoever reads it, and has the indexes that it had before.
func TestFill(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema}
	if _, err := postgres.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	before := query(t, c, `SELECT string_agg(indexdef, E'\n' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = '`+db.Schema+`'`)
	fill := grow.Config{DSN: db.DSN, Schema: db.Schema, Names: 1000, Partitions: 3}
	if err := grow.Fill(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	if after := query(t, c, `SELECT string_agg(indexdef, E'\n' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = '`+db.Schema+`'`); after != before {
		t.Errorf("the indexes are\n%s\nwant\n%s", after, before)
	}
	if err := grow.Fill(t.Context(), fill); !errors.Is(err, grow.ErrFilled) {
		t.Errorf("filled twice: %v", err)
	}
	for range 2 {
		if err := grow.Begin(t.Context(), db.DSN, db.Schema); err != nil {
			t.Fatal(err)
		}
		r, err := postgres.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Acquire(t.Context(), 0, uuid.New())
		if err != nil || s.NextOffset != 0 {
			t.Fatalf("the standing is %+v, %v", s, err)
		}
		var ref names.Ref
		ref.Space = names.Username
		ref.Key = names.Key(query(t, c, `SELECT key FROM `+db.Schema+`.names WHERE partition = 1 ORDER BY key LIMIT 1`))
		h, err := r.Name(t.Context(), ref)
		if err != nil || h.Version != 1 || h.Owner == "" {
			t.Fatalf("%s is %+v, %v", ref, h, err)
		}
		entries, err := r.History(t.Context(), ref, 1, 5)
		if err != nil || len(entries) != 1 || entries[0].RequestID != h.ClaimID || entries[0].Owner != h.Owner {
			t.Errorf("the history of %s is %+v, %v", ref, entries, err)
		}
		if n := query(t, c, `SELECT count(*)::text FROM `+db.Schema+`.names`); n != "1000" {
			t.Fatalf("there are %s names, want the 1000 that were filled", n)
		}
		// What is claimed lies among and behind what is filled, and is gone with the next Begin.
		name, owner := grow.Among("alice", "u-1")
		ref.Key = names.Key(name)
		o := registrations.Outcome{Type: registrations.Accepted, RequestID: uuid.New(), Ref: ref, Name: name, Owner: owner, State: registrations.Registered, Version: 1, LogTime: h.Since, PolicyVersion: 1, LogEpoch: s.LogEpoch}
		o.ClaimID = o.RequestID
		b := processor.Batch{
			Fence: s.Fence, Next: 1, LogTime: h.Since, LastHash: 1, Rows: []processor.Row{{Kind: processor.KindOutcome, RequestID: o.RequestID, Outcome: o}},
			Changes: []processor.Change{{Ref: ref, Holding: registrations.Holding{
				State: o.State, Name: name, Owner: owner, ClaimID: o.ClaimID, Version: 1, PolicyVersion: 1, Since: h.Since,
			}}},
		}
		if err := r.Commit(t.Context(), []processor.Batch{b}); err != nil {
			t.Error(err)
		}
		r.Close()
	}
}

// TestAmong: what is claimed lies all over what is filled, the same for the same.
func TestAmong(t *testing.T) {
	t.Parallel()
	var places [2][16]int
	for i := range 1600 {
		name, owner := grow.Among(fmt.Sprintf("r1.%d", i), fmt.Sprintf("o-%d", i))
		if again, _ := grow.Among(fmt.Sprintf("r1.%d", i), "u"); again != name {
			t.Fatalf("%s and %s", name, again)
		}
		for part, text := range [2]string{strings.TrimPrefix(name, "grown."), strings.TrimPrefix(owner, "u-")} {
			digit, err := strconv.ParseUint(text[:1], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			places[part][digit]++
		}
	}
	for part := range places {
		if slices.Min(places[part][:]) < 50 {
			t.Errorf("places by their first digit: %v", places[part])
		}
	}
}

// TestNotOurs: a schema with names that were not filled is left as it is, and one that was not filled to its end.
func TestNotOurs(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	if err := grow.Check(t.Context(), db.DSN, db.Schema); err != nil {
		t.Errorf("a schema that is not there yet: %v", err)
	}
	if _, err := postgres.Migrate(t.Context(), postgres.Config{DSN: db.DSN, Schema: db.Schema}); err != nil {
		t.Fatal(err)
	}
	if err := grow.Begin(t.Context(), db.DSN, db.Schema); !errors.Is(err, grow.ErrNotFilled) {
		t.Errorf("an empty schema: %v", err)
	}
	fill := grow.Config{DSN: db.DSN, Schema: db.Schema, Names: 10, Partitions: 3}
	if err := grow.Fill(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	if err := grow.Check(t.Context(), db.DSN, db.Schema); err != nil {
		t.Errorf("filled: %v", err)
	}
	c, err := pgx.Connect(t.Context(), db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	if _, err := c.Exec(t.Context(), `COMMENT ON TABLE `+db.Schema+`.names IS NULL; UPDATE `+db.Schema+`.names SET key = 'x' || key, name = 'x' || name`); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Check": grow.Check(t.Context(), db.DSN, db.Schema), "Fill": grow.Fill(t.Context(), fill), "Begin": grow.Begin(t.Context(), db.DSN, db.Schema),
	} {
		if !errors.Is(err, grow.ErrNotFilled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := query(t, c, `SELECT count(*)::text FROM `+db.Schema+`.names`); n != "10" {
		t.Errorf("%s of 10 names are left", n)
	}
}
