package postgres_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

var eraser = names.NewEraser([]byte("a secret"))

// eraseOf is a batch that erases the names of another one, which accepted them.
func eraseOf(s processor.Standing, accepted processor.Batch) processor.Batch {
	n := len(accepted.Rows)
	b := processor.Batch{
		Fence: s.Fence, Next: s.NextOffset + int64(n), LogTime: logTime, LastOffset: s.NextOffset + int64(n) - 1, LastHash: 1, PublishedThrough: s.PublishedThrough,
	}
	for i := range n {
		was := &accepted.Rows[i].Outcome
		o := registrations.Outcome{
			Type: registrations.Erased, Request: "ErasureRequested", RequestID: uuid.New(), ClaimID: was.ClaimID, Ref: was.Ref,
			State: registrations.Free, Version: was.Version + 1, PolicyVersion: 1, LogTime: logTime,
			Partition: s.Partition, LogEpoch: s.LogEpoch, Offset: s.NextOffset + int64(i),
		}
		b.Rows = append(b.Rows, processor.Row{
			Offset: o.Offset, Kind: processor.KindOutcome, RequestID: o.RequestID, Outcome: o, Actor: "ada", Why: "asked for",
			Erase: &processor.Erase{Ref: o.Ref, Owner: was.Owner, Whole: true},
		})
		b.Changes = append(b.Changes, processor.Change{Ref: o.Ref, Version: was.Version, Holding: registrations.Holding{
			State: registrations.Free, Erased: true, Version: o.Version, PolicyVersion: 1, Since: logTime, Partition: s.Partition,
		}})
	}
	return b
}

// takingBack claims the erased names for another owner.
func takingBack(s processor.Standing, erased processor.Batch) processor.Batch {
	b := accepting(s, len(erased.Rows), "")
	for i := range b.Rows {
		o := &b.Rows[i].Outcome
		o.Ref, o.Name, o.Owner, o.Version = erased.Rows[i].Outcome.Ref, string(erased.Rows[i].Outcome.Ref.Key), "u-2", 3
		c := &b.Changes[i]
		c.Ref, c.Version, c.Name, c.Owner, c.Holding.Version = o.Ref, 2, o.Name, o.Owner, 3
	}
	return b
}

// TestErasedNames: a name whose holder was erased is kept under another form of its key, and is found, changed and taken again as
// if it were not, in batches of any size. Nobody can make a second row of it.
func TestErasedNames(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{1, 200} {
		cfg := configure(t)
		cfg.Eraser = eraser
		r := open(t, cfg)
		c := connect(t, cfg)
		accepted := accepting(acquire(t, r, 0), rows, "name")
		commit(t, r, accepted)
		erased := eraseOf(standing(t, r, 0), accepted)
		commit(t, r, erased)
		var plain, hidden int
		if err := c.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE key LIKE 'name%'), count(*) FILTER (WHERE key LIKE 'erased %') FROM names`).Scan(&plain, &hidden); err != nil || plain != 0 || hidden != rows {
			t.Fatalf("%d names are kept under their keys, %d under another form, %v", plain, hidden, err)
		}

		var refs []names.Ref
		for i := range erased.Changes {
			refs = append(refs, erased.Changes[i].Ref)
		}
		for what, record := range map[string]*postgres.Record{"who erased": r, "the next owner": open(t, cfg)} {
			s := standing(t, r, 0)
			if record != r {
				s = acquire(t, record, 0)
			}
			known, err := record.Look(t.Context(), []processor.Fence{s.Fence}, refs, nil)
			if err != nil || len(known.Holdings) != rows {
				t.Fatalf("%s finds %d names, %v", what, len(known.Holdings), err)
			}
			for _, ref := range refs {
				if h := known.Holdings[ref]; h.Version != 2 || !h.Hidden() || h.Owner != "" {
					t.Errorf("%s finds %+v", what, h)
				}
			}
		}
		if h, err := r.Name(t.Context(), refs[0]); err != nil || h.Version != 2 {
			t.Errorf("who reads finds %+v, %v", h, err)
		}
		if entries, err := r.History(t.Context(), refs[0], 1, 10); err != nil || len(entries) != 2 || entries[1].Type != registrations.Erased {
			t.Errorf("the history is %+v, %v", entries, err)
		}

		// Whoever takes the name for a new one is refused, as a second row is.
		s := acquire(t, r, 0)
		second := accepting(s, 1, "")
		second.Rows[0].Outcome.Ref, second.Changes[0].Ref = refs[0], refs[0]
		if err := r.Commit(t.Context(), []processor.Batch{second}); !errors.Is(err, processor.ErrConflict) {
			t.Errorf("a second row: %v, want %v", err, processor.ErrConflict)
		}
		stale := takingBack(s, erased)
		stale.Changes[0].Version = 1
		if err := r.Commit(t.Context(), []processor.Batch{stale}); !errors.Is(err, processor.ErrConflict) {
			t.Errorf("a name at another version: %v, want %v", err, processor.ErrConflict)
		}
		commit(t, r, takingBack(s, erased))
		if h, err := r.Name(t.Context(), refs[0]); err != nil || h.Version != 3 || h.Owner != "u-2" || h.Erased {
			t.Errorf("taken again it is %+v, %v", h, err)
		}
		if owned, err := r.ByOwner(t.Context(), "u-2", nil, 500, names.Ref{}); err != nil || len(owned) != rows || owned[0].Key.Erased() {
			t.Errorf("the next owner has %d names, %v", len(owned), err)
		}
		if entries, err := r.History(t.Context(), refs[0], 1, 10); err != nil || len(entries) != 3 {
			t.Errorf("the history is %+v, %v", entries, err)
		}
	}
}

// TestWipe: rows are wiped below published_through and not before, by whoever comes; what they answer stays.
func TestWipe(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	cfg.Eraser = eraser
	r := open(t, cfg)
	c := connect(t, cfg)
	s := acquire(t, r, 0)
	accepted := accepting(s, 1, "name")
	claim := &accepted.Rows[0]
	claim.Outcome.Detail, claim.Principal, claim.Why, claim.Actor = "", "gateway", "", ""
	claim.FollowUp = &processor.FollowUp{Claim: claim.RequestID, Ref: ref("given-up"), Owner: "u-1", Version: 1}
	id := uuid.New()
	record := cloudevents.Record{Key: []byte("username/other"), Value: []byte(`{"space":"username","name":"other","owner":"u-1"}`)}
	others := cloudevents.Record{Key: []byte("username/other"), Value: []byte(`{"space":"username","name":"other","owner":"u-10"}`)}
	unread := cloudevents.Record{Key: []byte("username/name0"), Value: []byte(`{"owner":"u-`)}
	dead := func(offset int64, raw *cloudevents.Record, why string) processor.Row {
		return processor.Row{Offset: offset, Kind: processor.KindDead, Raw: raw, Detail: why}
	}
	accepted.Rows = append(accepted.Rows,
		processor.Row{Offset: 1, Kind: processor.KindMark, RequestID: id, Outcome: registrations.Outcome{Owner: "u-1"}},
		dead(2, &record, "other content"), dead(3, &others, "other content"), dead(4, &unread, processor.Refusal("its words")),
		processor.Row{Offset: 5, Kind: processor.KindForwarded, Raw: &record, Principal: "gateway"})
	accepted.Next, accepted.LastOffset = 6, 5
	commit(t, r, accepted)
	s = standing(t, r, 0)
	first := accepted
	first.Rows = accepted.Rows[:1]
	commit(t, r, eraseOf(s, first))

	const left = `SELECT count(*) FROM decisions WHERE owner = 'u-1'`
	count := func(sql string) (n int) {
		t.Helper()
		if err := c.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	wipe := func(want int) {
		t.Helper()
		if n, err := r.Wipe(t.Context(), []int32{0, 1}); err != nil || n != want {
			t.Fatalf("%d erasures are left, %v, want %d", n, err, want)
		}
	}
	s = standing(t, r, 0)
	wipe(1)
	for through := range s.NextOffset { // up to the erasure itself
		if err := r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence, Through: through}}); err != nil {
			t.Fatal(err)
		}
		wipe(1)
		if n := count(left); n != 2 {
			t.Fatalf("published through %d: %d rows name the owner, want 2", through, n)
		}
	}
	before, err := r.Decided(t.Context(), []uuid.UUID{claim.RequestID})
	if err != nil || before[0].Owner != "u-1" {
		t.Fatal(before, err)
	}
	// Another partition that has a dead letter of the owner is not published yet: all waits for it.
	other := acquire(t, r, 1)
	commit(t, r, processor.Batch{Fence: other.Fence, Next: 1, LogTime: logTime, LastOffset: 0, Rows: []processor.Row{dead(0, &record, "elsewhere")}})
	if err := r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence, Through: s.NextOffset}}); err != nil {
		t.Fatal(err)
	}
	wipe(1)
	other = standing(t, r, 1)
	if err := r.Published(t.Context(), []processor.Cursor{{Fence: other.Fence, Through: 1}}); err != nil {
		t.Fatal(err)
	}
	// Somebody else is at it, and fails.
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, c, `SELECT FROM erasures FOR UPDATE`)
	wipe(1)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wipe(0)
	wipe(0)
	if n := count(left); n != 0 {
		t.Errorf("%d rows name the owner", n)
	}
	if n := count(`SELECT count(*) FROM decisions WHERE key = 'name0' OR follow_key = 'given-up' OR kind = 'w' AND raw IS NOT NULL`); n != 0 {
		t.Errorf("%d rows name the name, or what was given up for it", n)
	}
	reasons := collect(t, c, `SELECT partition || ' ' || "offset" || ' ' || reason || ' ' || (raw IS NULL) FROM dead_letters ORDER BY 1`)
	if want := []string{"0 2 erased true", "0 3 other content false", "0 4 the database refuses it: erased true", "1 0 erased true"}; !slices.Equal(reasons, want) {
		t.Errorf("dead letters are %q, want %q", reasons, want)
	}
	after, err := r.Decided(t.Context(), []uuid.UUID{claim.RequestID})
	if err != nil || len(after) != 1 {
		t.Fatal(after, err)
	}
	want := before[0]
	want.Erased, want.Name, want.Owner, want.Ref = true, "", "", eraser.Ref(want.Ref)
	if after[0] != want {
		t.Errorf("wiped, it is\n%+v, want\n%+v", after[0], want)
	}
	// The mark is found by whose form of the owner it has.
	s = standing(t, r, 0)
	known, err := r.Look(t.Context(), []processor.Fence{s.Fence}, nil, []processor.Request{{Partition: 0, ID: id}})
	if _, there := known.Marks[processor.Mark{Partition: 0, Claim: id, Owner: eraser.Owner("u-1")}]; err != nil || !there {
		t.Errorf("marks are %v, %v", known.Marks, err)
	}
	if e, err := r.Erased(t.Context(), "u-1"); err != nil || e.Done != 1 || e.Pending != 0 || e.Decisions != 3 || e.DeadLetters != 4 || !e.Last.Equal(logTime) {
		t.Errorf("what was erased is %+v, %v", e, err)
	}
	if n := count(`SELECT count(*) FROM erasures WHERE owner IS NOT NULL OR key IS NOT NULL OR space IS NOT NULL`); n != 0 {
		t.Error("what is done names somebody")
	}
	if actor := collect(t, c, `SELECT actor || ' ' || why FROM decisions WHERE outcome = 'Z'`); !slices.Equal(actor, []string{"ada asked for"}) {
		t.Errorf("who erased is %q", actor)
	}
}

// TestErasureSecret: with another secret than the first, or none, nobody takes a partition over.
func TestErasureSecret(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	without, cfg2 := open(t, cfg), cfg
	cfg.Eraser, cfg2.Eraser = eraser, names.NewEraser([]byte("another secret"))
	r, another := open(t, cfg), open(t, cfg2)
	accepted := accepting(acquire(t, another, 1), 1, "one") // before anything is erased
	commit(t, another, accepted)
	acquire(t, without, 2)
	for what, record := range map[string]*postgres.Record{"no secret": without, "another secret": another} {
		if err := record.FitsErasures(t.Context()); err != nil {
			t.Errorf("%s, before anything is erased: %v", what, err)
		}
	}

	mine := accepting(acquire(t, r, 0), 1, "name")
	commit(t, r, mine)
	commit(t, r, eraseOf(standing(t, r, 0), mine))
	for what, record := range map[string]*postgres.Record{"no secret": without, "another secret": another} {
		if _, err := record.Acquire(t.Context(), 0, uuid.New()); !errors.Is(err, postgres.ErrSecret) {
			t.Errorf("%s takes over: %v", what, err)
		}
		if err := record.FitsErasures(t.Context()); !errors.Is(err, postgres.ErrSecret) {
			t.Errorf("%s fits: %v", what, err)
		}
	}
	if err := r.FitsErasures(t.Context()); err != nil {
		t.Error(err)
	}
	if err := another.Commit(t.Context(), []processor.Batch{eraseOf(standing(t, another, 1), accepted)}); err == nil {
		t.Error("another secret erases beside the first")
	}
	if h, err := another.Name(t.Context(), ref("one0")); err != nil || h.Version != 1 {
		t.Errorf("what it tried to erase is %+v, %v", h, err)
	}
	acquire(t, r, 0)
}

// collect reads one column of text.
func collect(t *testing.T, c *pgx.Conn, sql string) []string {
	t.Helper()
	rows, _ := c.Query(t.Context(), sql)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}
