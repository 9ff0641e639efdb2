package memory_test

import (
	"errors"
	"testing"

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
