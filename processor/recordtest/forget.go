package recordtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

const keep = time.Hour

func (h *harness) forget(s processor.Standing, most int) processor.Forgotten {
	h.Helper()
	f, err := h.record.Forget(h.Context(), s.Fence, keep, most)
	if err != nil {
		h.Fatalf("forget: %v", err)
	}
	return f
}

// publish moves PublishedThrough.
func (h *harness) publish(s processor.Standing, through int64) {
	h.Helper()
	if err := h.record.Published(h.Context(), []processor.Cursor{{Fence: s.Fence, Through: through}}); err != nil {
		h.Fatal(err)
	}
}

// old makes a row older than decisions are kept.
func old(row processor.Row, by time.Duration) processor.Row {
	row.Outcome.LogTime = at.Add(-keep - by)
	return row
}

// forget: what is too old goes, as soon as nothing needs it; all that is younger stays, and so do names.
func forget(h *harness) {
	s := h.acquire(0)
	if f := h.forget(s, 100); f != (processor.Forgotten{}) {
		h.Errorf("of nothing, %+v was forgotten", f)
	}
	alice, bob := old(accepted(s, 0, "alice"), time.Minute), old(accepted(s, 5, "bob"), time.Millisecond)
	mark := processor.Row{Offset: 1, Kind: processor.KindMark, RequestID: uuid.New()}
	mark.Outcome.Owner = "u-1"
	policy := processor.Row{Offset: 3, Kind: processor.KindPolicy, RequestID: uuid.New()}
	b := with(batch(s, alice, mark,
		processor.Row{Offset: 2, Kind: processor.KindDead, RequestID: uuid.New(), Raw: raw("k", "v"), Detail: "unreadable"}, policy,
		processor.Row{Offset: 4, Kind: processor.KindForwarded, RequestID: uuid.New(), Raw: raw("k", "v")}, bob,
	), registered(alice, 0), registered(bob, 0))
	b.LogTime = bob.Outcome.LogTime
	h.commit(b)
	s = after(s, b)
	just := accepted(s, 6, "carol")
	just.Outcome.LogTime = at.Add(-keep)
	next := batch(s, just, duplicate(7, bob), accepted(s, 8, "dave"))
	h.commit(next)
	s = after(s, next)
	rows := append(slices.Clone(b.Rows), next.Rows...)
	stays := func(what string, want ...processor.Row) {
		h.Helper()
		h.sameRows(h.unpublished(s.Fence, 0), want)
		if h.Failed() {
			h.Fatal(what)
		}
	}

	for _, f := range broken(s.Fence) {
		_, err := h.record.Forget(h.Context(), f.fence, keep, 100)
		h.want(f.why, err, processor.ErrFenced)
	}
	stays("a fence that does not stand", rows...)
	if f := h.forget(s, 100); f.Rows != 0 {
		h.Errorf("of what is not published, %+v was forgotten", f)
	}
	stays("nothing is published", rows...)
	h.publish(s, 3)
	if f := h.forget(s, 100); f.Rows != 1 {
		h.Errorf("of one row that says its time and is published, and two that may be younger, %+v was forgotten", f)
	}
	stays("published up to the policy", rows[1:]...)

	h.publish(s, 7) // but for the duplicate, which publishes what bob got
	if f := h.forget(s, 100); f.Rows != 3 || f.More {
		h.Errorf("up to what is repeated, %+v was forgotten", f)
	}
	stays("what is repeated is not published", policy, bob, rows[6], rows[7], rows[8])
	if f := h.forget(s, 100); f.Rows != 0 {
		h.Errorf("while it is not, %+v was forgotten", f)
	}
	h.publish(s, 9)
	if f := h.forget(s, 100); f.Rows != 1 || f.More || !f.Oldest.Equal(just.Outcome.LogTime) {
		h.Errorf("when it is, %+v was forgotten", f)
	}
	h.sameRows(h.unpublished(s.Fence, 8), rows[8:])

	known := h.look([]processor.Fence{s.Fence}, []names.Ref{ref("alice"), ref("bob")}, []processor.Request{
		{Partition: 0, ID: alice.RequestID}, {Partition: 0, ID: bob.RequestID}, {Partition: 0, ID: mark.RequestID}, {Partition: 0, ID: just.RequestID},
	})
	if _, there := known.Outcomes[processor.Request{Partition: 0, ID: just.RequestID}]; len(known.Outcomes) != 1 || !there || len(known.Marks) != 0 {
		h.Errorf("known is %+v", known)
	}
	if len(known.Holdings) != 2 || known.Holdings[ref("alice")].Owner != "u-alice" {
		h.Errorf("names are %+v", known.Holdings)
	}
	// Who comes again after so long a time is decided again.
	again := accepted(s, 9, "erin")
	again.RequestID, again.Outcome.RequestID, again.Outcome.ClaimID = alice.RequestID, alice.RequestID, alice.RequestID
	h.commit(batch(s, again))
}

// forgetSome: about as much as is asked for at a time, until nothing is left; rows that do not say when they were written go with
// the next that does.
func forgetSome(h *harness) {
	s := h.acquire(0)
	var rows []processor.Row
	for i := range 25 {
		rows = append(rows, old(accepted(s, int64(i), fmt.Sprintf("name-%d", i)), time.Hour))
	}
	for i := range 40 {
		row := processor.Row{Offset: int64(25 + i), Kind: processor.KindMark, RequestID: uuid.New()}
		row.Outcome.Owner = "u-1"
		rows = append(rows, row)
	}
	rows = append(rows, old(accepted(s, 65, "last"), time.Minute), accepted(s, 66, "young"))
	b := batch(s, rows...)
	b.PublishedThrough = b.Next
	h.commit(b)
	s = after(s, b)
	sum := 0
	for i, more := 0, true; more; i++ {
		f := h.forget(s, 10)
		if f.Rows < 1 || i < 2 && f.Rows != 10 || i > 10 {
			h.Fatalf("time %d: %+v was forgotten", i, f)
		}
		sum, more = sum+f.Rows, f.More
	}
	if f := h.forget(s, 10); sum != 66 || f.Rows != 0 {
		h.Errorf("%d rows were forgotten, then %+v", sum, f)
	}
	h.sameRows(h.unpublished(s.Fence, 0), rows[66:])
}
