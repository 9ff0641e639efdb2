package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// connect gives a connection of the test's own, in the record's schema.
func connect(t testing.TB, cfg postgres.Config) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["search_path"] = pgx.Identifier{cfg.Schema}.Sanitize()
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func exec(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func acquire(t testing.TB, r *postgres.Record, partition int32) processor.Standing {
	t.Helper()
	s, err := r.Acquire(t.Context(), partition, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func standing(t testing.TB, r *postgres.Record, partition int32) processor.Standing {
	t.Helper()
	all, err := r.Standings(t.Context(), []int32{partition})
	if err != nil || len(all) != 1 {
		t.Fatalf("standing of partition %d: %v, %v", partition, all, err)
	}
	return all[0]
}

var logTime = time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)

func ref(key string) names.Ref { return names.Ref{Space: names.Username, Key: names.Key(key)} }

// accepting makes a batch that accepts n new names, whose keys begin with prefix.
func accepting(s processor.Standing, n int, prefix string) processor.Batch {
	b := processor.Batch{
		Fence: s.Fence, Next: s.NextOffset + int64(n), LogTime: logTime, LastOffset: s.NextOffset + int64(n) - 1, LastHash: 1, PublishedThrough: s.PublishedThrough,
	}
	for i := range n {
		o := registrations.Outcome{
			Type: registrations.Accepted, RequestID: uuid.New(), Ref: ref(fmt.Sprintf("%s%d", prefix, i)), Owner: "u-1",
			State: registrations.Registered, Version: 1, PolicyVersion: 1, LogTime: logTime,
			Partition: s.Partition, LogEpoch: s.LogEpoch, Offset: s.NextOffset + int64(i),
		}
		o.ClaimID, o.Name = o.RequestID, string(o.Ref.Key)
		b.Rows = append(b.Rows, processor.Row{Offset: o.Offset, Kind: processor.KindOutcome, RequestID: o.RequestID, Outcome: o})
		b.Changes = append(b.Changes, processor.Change{Ref: o.Ref, Holding: registrations.Holding{
			State: registrations.Registered, Name: o.Name, Owner: o.Owner, ClaimID: o.ClaimID, Version: 1, PolicyVersion: 1, Since: logTime, Partition: s.Partition,
		}})
	}
	return b
}

func commit(t testing.TB, r *postgres.Record, batches ...processor.Batch) {
	t.Helper()
	if err := r.Commit(t.Context(), batches); err != nil {
		t.Fatal(err)
	}
}

// unsaid reports whether an error leaves open what happened.
func unsaid(err error) bool {
	return err != nil && !errors.Is(err, processor.ErrFenced) && !errors.Is(err, processor.ErrConflict) && !errors.Is(err, processor.ErrData)
}
