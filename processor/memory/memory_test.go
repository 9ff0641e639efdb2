package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/processor/recordtest"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

func TestRecord(t *testing.T) {
	recordtest.Exercise(t, func(*testing.T) processor.Record { return memory.New() })
}

var alice = names.Ref{Space: names.Username, Key: "alice"}

// decide commits one row and one name under the standing's fence.
func decide(t *testing.T, r *memory.Record, s processor.Standing) processor.Standing {
	t.Helper()
	id := uuid.New()
	b := processor.Batch{
		Fence: s.Fence, Next: s.NextOffset + 1, LastOffset: s.NextOffset,
		Rows:    []processor.Row{{Offset: s.NextOffset, Kind: processor.KindOutcome, RequestID: id, Outcome: registrations.Outcome{RequestID: id}}},
		Changes: []processor.Change{{Ref: alice, Version: s.NextOffset, Holding: registrations.Holding{Version: s.NextOffset + 1, Partition: s.Partition}}},
	}
	if err := r.Commit(t.Context(), []processor.Batch{b}); err != nil {
		t.Fatal(err)
	}
	after, _ := r.Standing(s.Partition)
	return after
}

// TestLose: a fail-over takes rows, names, requests, offsets and take-overs back together.
func TestLose(t *testing.T) {
	r := memory.New()
	s, err := r.Acquire(t.Context(), 0, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	first := decide(t, r, s)
	second := decide(t, r, first)
	if _, err := r.Acquire(t.Context(), 0, uuid.New()); err != nil {
		t.Fatal(err)
	}
	if n := r.Lose(1); n != 1 {
		t.Fatalf("lost %d transactions, want 1", n)
	}
	if is, _ := r.Standing(0); is != second {
		t.Errorf("after the take-over is lost: %+v, want %+v", is, second)
	}
	r.Lose(1)
	if is, _ := r.Standing(0); is != first {
		t.Errorf("after a commit is lost: %+v, want %+v", is, first)
	}
	if rows := r.Rows(0); len(rows) != 1 {
		t.Errorf("%d rows are left, want 1", len(rows))
	}
	if h := r.Names()[alice]; h.Version != 1 {
		t.Errorf("the name is at version %d, want 1", h.Version)
	}
	decide(t, r, first) // the same again: nothing of the lost one is in its way
	if n := r.Lose(100); n != 3 {
		t.Errorf("lost %d transactions, want 3", n)
	}
	if all := r.All(); len(all) != 0 {
		t.Errorf("rows are left: %+v", all)
	}
}

// TestLoseLife: marks, reservations and what is due go back with the rest, and come again as if nothing had been.
func TestLoseLife(t *testing.T) {
	r := memory.New()
	s, err := r.Acquire(t.Context(), 0, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	claim, at := uuid.New(), time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	q := processor.Request{Partition: 0, ID: claim}
	// write commits a mark of an owner, and a holding over a version.
	write := func(owner string, read int64, h registrations.Holding) {
		t.Helper()
		h.Version, h.ClaimID, h.Partition = read+1, claim, 0
		b := processor.Batch{
			Fence: s.Fence, Next: s.NextOffset + 1, LastOffset: s.NextOffset,
			Rows:    []processor.Row{{Offset: s.NextOffset, Kind: processor.KindMark, RequestID: claim, Outcome: registrations.Outcome{Owner: owner}}},
			Changes: []processor.Change{{Ref: alice, Version: read, Holding: h}},
		}
		if err := r.Commit(t.Context(), []processor.Batch{b}); err != nil {
			t.Fatal(err)
		}
		s, _ = r.Standing(0)
	}
	// is checks who has marked the claim, and when the name is due.
	is := func(when string, due time.Time, owners ...string) {
		t.Helper()
		known, err := r.Look(t.Context(), []processor.Fence{s.Fence}, nil, []processor.Request{q})
		if err != nil || len(known.Marks) != len(owners) {
			t.Fatalf("%s: marks are %v, %v, want %v", when, known.Marks, err, owners)
		}
		for _, o := range owners {
			if _, ok := known.Marks[processor.Mark{Partition: 0, Claim: claim, Owner: o}]; !ok {
				t.Errorf("%s: the mark of %s is gone: %v", when, o, known.Marks)
			}
		}
		found, err := r.Due(t.Context(), []int32{0}, at.AddDate(1, 0, 0), 10)
		switch {
		case err != nil:
			t.Fatal(err)
		case due.IsZero() && len(found) > 0, !due.IsZero() && (len(found) != 1 || !found[0].ExpiresAt.Equal(due)):
			t.Errorf("%s: due are %+v, want %v", when, found, due)
		}
	}
	lose := func() {
		t.Helper()
		if n := r.Lose(1); n != 1 {
			t.Fatalf("lost %d transactions, want 1", n)
		}
		s, _ = r.Standing(0)
	}
	reserved := registrations.Holding{State: registrations.Reserved, ExpiresAt: at, Replaces: "old", ReplacesVersion: 3}
	extended := registrations.Holding{State: registrations.Reserved, ExpiresAt: at.Add(time.Hour)}
	for range 2 {
		is("before", time.Time{})
		write("u-1", 0, reserved)
		is("reserved", at, "u-1")
		write("u-2", 1, extended)
		is("extended", extended.ExpiresAt, "u-1", "u-2")
		write("u-3", 2, registrations.Holding{State: registrations.Registered, Settled: true})
		is("confirmed", time.Time{}, "u-1", "u-2", "u-3")
		lose()
		is("the confirmation is lost", extended.ExpiresAt, "u-1", "u-2")
		lose()
		is("the extension is lost", at, "u-1")
		if h := r.Names()[alice]; h.Replaces != "old" || h.ReplacesVersion != 3 {
			t.Errorf("what it replaces is lost: %+v", h)
		}
		write("u-2", 1, extended) // again, with another owner's mark not in its way
		is("extended again", extended.ExpiresAt, "u-1", "u-2")
		lose()
		lose()
	}
	is("everything is lost", time.Time{})
}

// TestResume: an operator may go on only where all that was decided is published.
func TestResume(t *testing.T) {
	r := memory.New()
	s, err := r.Acquire(t.Context(), 0, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	s = decide(t, r, s)
	if err := r.Resume(0); !errors.Is(err, memory.ErrNotResumable) {
		t.Errorf("resume what is not halted: %v", err)
	}
	if err := r.Halt(t.Context(), s.Fence, "for a reason"); err != nil {
		t.Fatal(err)
	}
	if err := r.AcceptGap(0, 7); !errors.Is(err, memory.ErrNotResumable) {
		t.Errorf("accept a gap before everything is published: %v", err)
	}
	if err := r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence, Through: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := r.AcceptGap(0, 7); err != nil {
		t.Fatal(err)
	}
	is, _ := r.Standing(0)
	want := s
	want.LogEpoch, want.NextOffset, want.PublishedThrough, want.LastOffset = 2, 7, 7, -1
	want.WriterEpoch++ // whoever had it is fenced
	if is != want {
		t.Errorf("is %+v, want %+v", is, want)
	}
}

// TestTamper: what somebody writes behind the log is a conflict, until it is put back.
func TestTamper(t *testing.T) {
	r := memory.New()
	s, err := r.Acquire(t.Context(), 0, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	back := r.Tamper(alice, registrations.Holding{Version: 8})
	b := processor.Batch{Fence: s.Fence, Next: 1, Changes: []processor.Change{{Ref: alice, Holding: registrations.Holding{Version: 1}}}}
	if err := r.Commit(t.Context(), []processor.Batch{b}); !errors.Is(err, processor.ErrConflict) {
		t.Errorf("commit over a changed name: %v", err)
	}
	back()
	if err := r.Commit(t.Context(), []processor.Batch{b}); err != nil {
		t.Errorf("commit after it was put back: %v", err)
	}
}

// TestRefuse: a row that cannot be stored takes its whole transaction along, and leaves nothing.
func TestRefuse(t *testing.T) {
	r := memory.New()
	r.Refuse = func(row processor.Row) error {
		if row.Offset == 1 {
			return errors.New("no")
		}
		return nil
	}
	s, err := r.Acquire(t.Context(), 0, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	b := processor.Batch{Fence: s.Fence, Next: 2, Rows: []processor.Row{{Offset: 0, Kind: processor.KindDead}, {Offset: 1, Kind: processor.KindDead}}}
	if err := r.Commit(t.Context(), []processor.Batch{b}); !errors.Is(err, processor.ErrData) {
		t.Errorf("commit: %v", err)
	}
	if is, _ := r.Standing(0); is != s || len(r.Rows(0)) != 0 {
		t.Errorf("something is left: %+v, %d rows", is, len(r.Rows(0)))
	}
}
