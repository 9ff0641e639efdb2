package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// activating is a batch that activates a version of the space username, with n reserved words.
func activating(s processor.Standing, version, n int) processor.Batch {
	p := *names.Builtin()[names.Username]
	p.Version, p.Reserved = version, make(map[names.Key]struct{}, n)
	for i := range n {
		p.Reserved[names.Key(fmt.Sprintf("reserved%d", i))] = struct{}{}
	}
	return processor.Batch{
		Fence: s.Fence, Next: s.NextOffset + 1, LogTime: s.LogTime, LastOffset: s.NextOffset,
		Rows:    []processor.Row{{Offset: s.NextOffset, Kind: processor.KindPolicy, RequestID: uuid.New(), Principal: "dibs"}},
		InForce: &processor.InForce{Policies: names.Policies{p.Space: &p}, Rules: 1, Keys: []string{"k1"}}, Activated: []*names.Policy{&p},
	}
}

// TestPoliciesAreKept: each policy that was ever active has one row, whatever number of partitions activates it, and is
// not there where the transaction was not.
func TestPoliciesAreKept(t *testing.T) {
	cfg := configure(t)
	r := open(t, cfg)
	one, two := acquire(t, r, 1), acquire(t, r, 2)
	fenced := activating(one, 7, 1)
	fenced.WriterEpoch++
	if err := r.Commit(t.Context(), []processor.Batch{fenced}); err == nil {
		t.Fatal("a fenced batch was committed")
	}
	commit(t, r, activating(two, 2, 3), activating(one, 2, 3))
	commit(t, r, activating(standing(t, r, 1), 3, 500)) // out of line
	c := connect(t, cfg)
	var text string
	if err := c.QueryRow(t.Context(), `SELECT string_agg(space || ' ' || version || ' ' || jsonb_array_length(policy->'reserved'), ', ' ORDER BY version) FROM spaces`).Scan(&text); err != nil || text != "username 2 3, username 3 500" {
		t.Errorf("kept are %s, %v", text, err)
	}
	if err := c.QueryRow(t.Context(), `SELECT string_agg(kind::text, '' ORDER BY partition, "offset") FROM decisions`).Scan(&text); err != nil || text != "ppp" {
		t.Errorf("the rows' kinds are %s, %v", text, err)
	}
	for partition, want := range map[int32]int{1: 3, 2: 2} {
		if s := standing(t, r, partition); s.InForce.Policies.Version(names.Username) != want {
			t.Errorf("partition %d has %s in force, want version %d", partition, s.InForce.JSON(), want)
		}
	}
	all, err := r.Partitions(t.Context())
	if err != nil || len(all) != 2 || all[0].Policies.Version(names.Username) != 3 {
		t.Errorf("the API is told %+v, %v", all, err)
	}
}

// underPolicies is a record of 48 partitions in which something large holds, and the proxy that it is reached through.
func underPolicies(t testing.TB) (*postgres.Record, *proxy) {
	cfg := configure(t)
	writer := open(t, cfg)
	all := make([]processor.Batch, 48)
	for p := range all {
		all[p] = activating(acquire(t, writer, int32(p)), 2, 500)
	}
	commit(t, writer, all...)
	p, dsn := startProxy(t, cfg.DSN)
	cfg.DSN = dsn
	return open(t, cfg), p
}

// TestPoliciesAreReadOnce: what holds is large, and every replica looks each second. Only what has changed is read again,
// and in the row where it did.
func TestPoliciesAreReadOnce(t *testing.T) {
	r, p := underPolicies(t)
	look := func(changed int) int {
		t.Helper()
		all, err := r.All(t.Context())
		if err != nil || len(all) != 48 {
			t.Fatalf("%d rows, %v", len(all), err)
		}
		for i, s := range all {
			version, words := 2, 500
			if i == changed {
				version, words = 3, 400
			}
			if u := s.InForce.Policies[names.Username]; u == nil || u.Version != version || len(u.Reserved) != words {
				t.Fatalf("partition %d is under %s, want version %d", i, s.InForce.JSON(), version)
			}
		}
		return p.heard()
	}
	first, again := look(-1), look(-1)
	if first < 48*5_000 || again > 48*200 {
		t.Errorf("the first look takes %d bytes, the next one %d", first, again)
	}
	commit(t, r, activating(standing(t, r, 7), 3, 400))
	p.heard()
	if n, again := look(7), look(7); n < 4_000 || n > 48*200+10_000 || again > 48*200 {
		t.Errorf("after a change it takes %d bytes, then %d", n, again)
	}
	t.Logf("48 partitions under 500 reserved words: the first look takes %d bytes, the next one %d", first, again)
}

// BenchmarkPartitions is the look that every API takes each second.
func BenchmarkPartitions(b *testing.B) {
	r, p := underPolicies(b)
	for range 10 { // until the statement is prepared
		if _, err := r.Partitions(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	p.heard()
	for b.Loop() {
		if _, err := r.Partitions(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(p.heard())/float64(b.N), "bytes/op")
}

// TestUnreadablePolicies: a row whose policies nobody can read is its partition's trouble, and that of no other.
func TestUnreadablePolicies(t *testing.T) {
	cfg := configure(t)
	r := open(t, cfg)
	commit(t, r, activating(acquire(t, r, 1), 2, 3), activating(acquire(t, r, 2), 2, 3))
	if _, err := connect(t, cfg).Exec(t.Context(), `UPDATE partitions SET policies = jsonb_set(policies, '{spaces,username,policy,ttl_seconds}', '"odd"') WHERE partition = 1`); err != nil {
		t.Fatal(err)
	}
	r = open(t, cfg) // which has read nothing yet
	all, err := r.All(t.Context())
	if err != nil || len(all) != 2 || all[0].InForce.Unreadable == "" || all[1].InForce.Policies.Version(names.Username) != 2 {
		t.Errorf("all are %+v, %v", all, err)
	}
	if rows, err := r.Standings(t.Context(), []int32{1, 2}); err != nil || len(rows) != 2 {
		t.Errorf("standings are %+v, %v", rows, err)
	}
	if s := acquire(t, r, 1); !strings.Contains(s.InForce.Unreadable, "space username") {
		t.Errorf("taken over with %+v", s.InForce)
	}
	if s := acquire(t, r, 2); s.InForce.Unreadable != "" || s.WriterEpoch != 2 {
		t.Errorf("taken over with %+v", s)
	}
}

// TestUsedNames: every name of a space that is not free, over several pages, and nothing else.
func TestUsedNames(t *testing.T) {
	cfg := configure(t)
	r := open(t, cfg)
	s := acquire(t, r, 0)
	const n = 6_000
	b := accepting(s, n, "held")
	for i := range b.Changes[:100] { // let go again in their batch
		b.Changes[i].Holding = registrations.Holding{State: registrations.Free, Version: 2, PolicyVersion: 1, Since: b.LogTime}
	}
	b.Changes[200].Ref.Space = "other"
	b.Changes[300].Holding = registrations.Holding{State: registrations.StateBlocked, Version: 2, PolicyVersion: 1, Since: b.LogTime}
	commit(t, r, b)
	last, count, blocked := "", 0, 0
	err := r.UsedNames(t.Context(), names.Username, func(o api.Owned) error {
		if o.State == registrations.StateBlocked {
			blocked++
		}
		if string(o.Key) <= last || (o.Owner == "") != (o.State == registrations.StateBlocked) || o.Space != names.Username {
			t.Fatalf("%+v behind %s", o, last)
		}
		last = string(o.Key)
		count++
		return nil
	})
	if err != nil || count != n-101 || blocked != 1 {
		t.Errorf("%d names, %d of them blocked, %v; want %d and 1", count, blocked, err, n-101)
	}
}

// BenchmarkBatchUnderPolicies is a small batch, over and over, where nothing was activated and where something large was:
// what holds must cost a batch nothing that does not touch it.
func BenchmarkBatchUnderPolicies(b *testing.B) {
	for _, words := range []int{-1, 20, 500} {
		b.Run(fmt.Sprintf("reserved=%d", words), func(b *testing.B) {
			r := open(b, configure(b))
			s := acquire(b, r, 0)
			if words >= 0 {
				commit(b, r, activating(s, 2, words))
				s = standing(b, r, 0)
			}
			for i := 0; b.Loop(); i++ {
				batch := processor.Batch{
					Fence: s.Fence, Next: s.NextOffset + 1, LogTime: time.Now().UTC().Truncate(time.Millisecond), LastOffset: s.NextOffset,
					Rows: []processor.Row{{Offset: s.NextOffset, Kind: processor.KindMark, RequestID: uuid.New(), Outcome: registrations.Outcome{Owner: "u-1"}}},
				}
				commit(b, r, batch)
				s.NextOffset++
			}
		})
	}
}
