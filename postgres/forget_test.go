package postgres_test

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

const day = 24 * time.Hour

// acceptAt commits a batch that accepts n names at a log time, and has it published.
func acceptAt(t *testing.T, r *postgres.Record, partition int32, at time.Time, n int, prefix string) processor.Batch {
	t.Helper()
	b := accepting(standing(t, r, partition), n, prefix)
	b.LogTime = at
	for i := range b.Rows {
		b.Rows[i].Outcome.LogTime = at
		b.Changes[i].Since = at
	}
	commit(t, r, b)
	publishAll(t, r, partition)
	return b
}

func publishAll(t *testing.T, r *postgres.Record, partition int32) {
	t.Helper()
	s := standing(t, r, partition)
	if err := r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence, Through: s.NextOffset}}); err != nil {
		t.Fatal(err)
	}
}

func forgets(t *testing.T, r *postgres.Record, partition int32, rows int) processor.Forgotten {
	t.Helper()
	f, err := r.Forget(t.Context(), standing(t, r, partition).Fence, 400*day, 1000)
	if err != nil || f.Rows != rows {
		t.Fatalf("forgotten are %+v, %v; want %d rows", f, err, rows)
	}
	return f
}

// TestForget: what the contract does not show. Dead letters go with their rows, what is to be erased stays until it is, the history
// and the sequel of a name go on without what is gone, and a new log does not bring back the old one's positions.
func TestForget(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	cfg.Eraser = eraser
	r, c := open(t, cfg), connect(t, cfg)
	count := func(table string) (n int) {
		t.Helper()
		if err := c.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	acquire(t, r, 0)
	acquire(t, r, 1)
	first := acceptAt(t, r, 0, logTime.Add(-500*day), 3, "old-")
	b := processor.Batch{Fence: standing(t, r, 0).Fence, Next: 4, LogTime: logTime.Add(-450 * day), LastOffset: 3, LastHash: 1, Rows: []processor.Row{{
		Offset: 3, Kind: processor.KindDead, Detail: "unreadable", Raw: &cloudevents.Record{Key: []byte("k"), Value: []byte("v"), Time: logTime},
	}}}
	commit(t, r, b)
	other := acceptAt(t, r, 1, logTime.Add(-500*day), 1, "other-")
	second := acceptAt(t, r, 0, logTime.Add(-399*day), 1, "younger-")
	forgets(t, r, 0, 0) // by log time, and that is not further than this by now

	// A name changes again: its history begins with that.
	s := standing(t, r, 0)
	held := first.Changes[0].Holding
	release := registrations.Outcome{
		Type: registrations.Released, Request: claims.ShortType(claims.TypeReleaseRequested), RequestID: uuid.New(), ClaimID: held.ClaimID, Ref: first.Changes[0].Ref, Name: held.Name,
		Owner: held.Owner, State: registrations.Free, Version: 2, PolicyVersion: 1, LogTime: logTime, Partition: 0, LogEpoch: s.LogEpoch, Offset: s.NextOffset,
	}
	free := registrations.Holding{State: registrations.Free, Version: 2, PolicyVersion: 1, Since: logTime, Partition: 0}
	b = processor.Batch{Fence: s.Fence, Next: s.NextOffset + 1, LogTime: logTime, LastOffset: s.NextOffset, LastHash: 1,
		Rows:    []processor.Row{{Offset: s.NextOffset, Kind: processor.KindOutcome, RequestID: release.RequestID, Outcome: release}},
		Changes: []processor.Change{{Ref: release.Ref, Version: 1, Holding: free}}}
	commit(t, r, b)
	publishAll(t, r, 0)
	if h, err := r.History(t.Context(), release.Ref, 1, 10); err != nil || len(h) != 2 {
		t.Fatalf("the history is %+v, %v", h, err)
	}

	exec(t, c, `INSERT INTO erasures (partition, log_epoch, "offset", at, whole, request_id, space, key, owner) VALUES (0, 1, 2, now(), true, gen_random_uuid(), 'username', 'nobody', 'u-0')`)
	if f := forgets(t, r, 0, 0); !f.Oldest.Equal(first.LogTime) || f.More {
		t.Errorf("while something is to be erased, %+v: how old it gets is to be seen", f)
	}
	if left, err := r.Wipe(t.Context(), []int32{0}); err != nil || left != 0 {
		t.Fatalf("%d erasures are left, %v", left, err)
	}
	if n := count("dead_letters"); n != 1 {
		t.Fatalf("%d dead letters", n)
	}
	forgets(t, r, 0, 3) // the dead one may be younger
	if f := forgets(t, r, 0, 0); !f.Oldest.Equal(second.LogTime) || f.More {
		t.Errorf("left is %+v", f)
	}
	if h, err := r.History(t.Context(), release.Ref, 1, 10); err != nil || len(h) != 1 || h[0].Version != 2 {
		t.Errorf("the history is %+v, %v", h, err)
	}
	if n := count("dead_letters"); n != 1 {
		t.Errorf("%d dead letters", n)
	}
	later := acceptAt(t, r, 0, logTime.Add(2*day), 1, "later-")
	forgets(t, r, 0, 2)
	if n := count("dead_letters"); n != 0 {
		t.Errorf("%d dead letters are left behind their rows", n)
	}
	var through time.Time
	var rows int
	if err := c.QueryRow(t.Context(), `SELECT log_time, rows FROM forgotten WHERE partition = 0`).Scan(&through, &rows); err != nil || !through.Equal(second.LogTime) || rows != 5 {
		t.Errorf("%d rows are forgotten through %v, %v", rows, through, err)
	}
	if outcomes, err := r.Decided(t.Context(), []uuid.UUID{first.Rows[1].RequestID, second.Rows[0].RequestID, release.RequestID, other.Rows[0].RequestID}); err != nil || len(outcomes) != 2 {
		t.Errorf("decided are %+v, %v", outcomes, err)
	}
	// Names are for ever, and what one led to is looked for without its first row.
	if h, err := r.Name(t.Context(), first.Changes[1].Ref); err != nil || h.Owner != "u-1" {
		t.Errorf("the name is %+v, %v", h, err)
	}
	if _, err := r.Sequel(t.Context(), first.Rows[0].Outcome); err != nil {
		t.Error(err)
	}

	// Another log begins again at 0, and is younger than all before it.
	s = standing(t, r, 0)
	if err := r.Halt(t.Context(), s.Fence, "another log"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.AcceptGap(t.Context(), 0, 0, "ops", "lost"); err != nil {
		t.Fatal(err)
	}
	acquire(t, r, 0)
	acceptAt(t, r, 0, later.LogTime.Add(401*day), 2, "anew-")
	forgets(t, r, 0, 2) // of the log that is gone: the release and what came behind it
	if f := forgets(t, r, 0, 0); !f.Oldest.Equal(later.LogTime.Add(401 * day)) {
		t.Errorf("left is %+v", f)
	}
	if n := count("decisions"); n != 3 { // two, and that of the other partition
		t.Errorf("%d decisions are left", n)
	}
}

// TestForgetUntimed: of rows that say no log time, as of a file that was imported twice, no more go at once than of others, however
// many there are; and nothing goes before it is known to be too old.
func TestForgetUntimed(t *testing.T) {
	t.Parallel()
	const rows, most = 11_000, 400
	cfg := configure(t)
	r, c := open(t, cfg), connect(t, cfg)
	s := acquire(t, r, 0)
	exec(t, c, `INSERT INTO decisions (partition, log_epoch, "offset", seq, kind, request_id)
		SELECT 0, $1::bigint, i, 0, 'd', gen_random_uuid() FROM generate_series(0, $2::int - 1) i`, s.LogEpoch, rows)
	commit(t, r, processor.Batch{Fence: s.Fence, Next: rows, LogTime: logTime.Add(-500 * day), LastOffset: rows - 1, LastHash: 1})
	publishAll(t, r, 0)
	all := func() (sum int) {
		t.Helper()
		for more, calls := true, 0; more; calls++ {
			f, err := r.Forget(t.Context(), standing(t, r, 0).Fence, 400*day, most)
			if err != nil || f.Rows > most || calls > 2*rows/most {
				t.Fatalf("call %d: forgotten are %+v, %v", calls, f, err)
			}
			sum, more = sum+f.Rows, f.More
		}
		return sum
	}
	if n := all(); n != 0 {
		t.Fatalf("%d rows were forgotten of which nobody knows how old they are", n)
	}
	acceptAt(t, r, 0, logTime.Add(-450*day), 3*most, "behind-")
	if n := all(); n != 0 {
		t.Fatalf("by log time they are young, and %d were forgotten", n)
	}
	acceptAt(t, r, 0, logTime, 1, "young-")
	if n := all(); n != rows+3*most {
		t.Fatalf("%d rows were forgotten", n)
	}
}
