package recordtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

func look(h *harness) {
	a, b := h.acquire(0), h.acquire(1)
	if known := h.look(nil, nil, nil); len(known.Holdings) != 0 || len(known.Outcomes) != 0 || len(known.Marks) != 0 {
		h.Fatalf("an empty record knows %+v", known)
	}
	alice, bob := accepted(a, 0, "alice"), accepted(b, 0, "bob")
	fact := alice.Outcome
	fact.RequestID, fact.Fact, fact.Seq = uuid.New(), true, 0
	fact.ClaimID = uuid.Nil
	factRow := outcome(a, 1, fact)
	h.commit(with(batch(a, alice, factRow), registered(alice, 0)), with(batch(b, bob), registered(bob, 0)))
	a, b = h.standing(0), h.standing(1)

	known := h.look([]processor.Fence{b.Fence, a.Fence},
		[]names.Ref{ref("alice"), ref("carol"), ref("bob"), ref("alice"), {Space: "email", Key: "alice"}, {Key: "alice"}, ref("ALICE")},
		[]processor.Request{
			{Partition: 0, ID: alice.RequestID}, {Partition: 1, ID: bob.RequestID},
			{Partition: 0, ID: bob.RequestID}, {Partition: 1, ID: alice.RequestID}, // decided, but elsewhere
			{Partition: 0, ID: factRow.RequestID}, // a fact answers nobody
			{Partition: 0, ID: uuid.New()}, {Partition: 0}, {Partition: 0, ID: alice.RequestID},
		})
	if len(known.Holdings) != 2 || len(known.Outcomes) != 2 {
		h.Fatalf("known are %+v", known)
	}
	if got, want := known.Holdings[ref("alice")], registered(alice, 0).Holding; !sameHolding(got, want) {
		h.Errorf("alice is held as\n%+v, want\n%+v", got, want)
	}
	if got, want := known.Holdings[ref("bob")], registered(bob, 0).Holding; !sameHolding(got, want) {
		h.Errorf("bob is held as\n%+v, want\n%+v", got, want)
	}
	h.sameOutcome(known.Outcomes[processor.Request{Partition: 0, ID: alice.RequestID}], alice.Outcome)
	h.sameOutcome(known.Outcomes[processor.Request{Partition: 1, ID: bob.RequestID}], bob.Outcome)

	// Keys are bytes: neither case nor normal form nor a trailing blank makes two one.
	odd := []string{"Alice", "alice ", "ali\u0301ce", "al\u00edce", "", "a", "ß", "ss"}
	var rows []processor.Row
	var changes []processor.Change
	var refs []names.Ref
	for i, key := range odd {
		rows = append(rows, accepted(a, a.NextOffset+int64(i), key))
		changes = append(changes, registered(rows[i], 0))
		refs = append(refs, ref(key))
	}
	h.commit(with(batch(a, rows...), changes...))
	a = h.standing(0)
	if known := h.look([]processor.Fence{a.Fence}, refs, nil); len(known.Holdings) != len(odd) {
		h.Errorf("%d of %d odd keys are held", len(known.Holdings), len(odd))
	}
}

func sameHolding(a, b registrations.Holding) bool {
	same := a.Since.Equal(b.Since) && a.ExpiresAt.Equal(b.ExpiresAt)
	a.Since, b.Since, a.ExpiresAt, b.ExpiresAt = at, at, at, at
	return same && a == b
}

func commit(h *harness) {
	s := h.acquire(5)
	b := with(batch(s, accepted(s, 0, "alice"), accepted(s, 3, "bob")))
	b.Changes = append(b.Changes, registered(b.Rows[0], 0), registered(b.Rows[1], 0))
	b.Next = 9 // gaps are covered, in between and at the end
	b.LogTime = at.AddDate(0, 0, 1)
	b.LastHash = 1<<32 - 1
	b.PublishedThrough = 0
	h.commit(b)
	now := h.standing(5)
	if want := after(s, b); !sameStanding(now, want) {
		h.Fatalf("the row is\n%+v, want\n%+v", now, want)
	}
	h.sameRows(h.unpublished(now.Fence, 0), b.Rows)
	for _, c := range b.Changes {
		if got, ok := h.holding(now, c.Ref); !ok || !sameHolding(got, c.Holding) {
			h.Errorf("%s is held as\n%+v, want\n%+v", c.Ref, got, c.Holding)
		}
	}
	// Log time, offset and hash are what the batch says, whatever they were.
	b = batch(now)
	b.LogTime, b.LastOffset, b.LastHash, b.Next = at, 2, 0, 10
	h.commit(b)
	if now, want := h.standing(5), after(now, b); !sameStanding(now, want) {
		h.Fatalf("the row is\n%+v, want\n%+v", now, want)
	}
}

func commitNothing(h *harness) {
	h.commit()
	s := h.acquire(0)
	b := batch(s) // markers only: the offset moves, and no row is left
	b.Next, b.LogTime = 17, s.LogTime
	h.commit(b)
	if now, want := h.standing(0), after(s, b); !sameStanding(now, want) {
		h.Fatalf("the row is\n%+v, want\n%+v", now, want)
	}
}

// commitAgain: a batch whose answer was lost is refused, and the row says that it was committed.
func commitAgain(h *harness) {
	for _, n := range []int{1, 300} {
		s := h.acquire(int32(n))
		var b processor.Batch
		for i := range n {
			row := accepted(s, int64(i), fmt.Sprintf("again-%d-%d", n, i))
			b.Rows = append(b.Rows, row)
			b.Changes = append(b.Changes, registered(row, 0))
		}
		b = with(batch(s, b.Rows...), b.Changes...)
		h.commit(b)
		h.refused(processor.ErrFenced, b)
		if now, want := h.standing(s.Partition), after(s, b); !sameStanding(now, want) {
			h.Fatalf("the row is\n%+v, want\n%+v", now, want)
		}
		h.sameRows(h.unpublished(s.Fence, 0), b.Rows)
	}
}

func commitAllOrNone(h *harness) {
	for _, n := range []int64{1, 200} { // rows per partition
		base := int32(n) * 10
		a, b, c := h.acquire(base), h.acquire(base+1), h.acquire(base+2)
		three := func() []processor.Batch {
			var batches []processor.Batch
			for _, s := range []processor.Standing{c, a, b} { // in any order
				var rows []processor.Row
				var changes []processor.Change
				for i := range n {
					rows = append(rows, accepted(s, i, fmt.Sprintf("p%d-%d", s.Partition, i)))
					changes = append(changes, registered(rows[i], 0))
				}
				batches = append(batches, with(batch(s, rows...), changes...))
			}
			return batches
		}
		for spoilt := range 3 {
			batches := three()
			batches[spoilt].WriterID = uuid.New()
			h.refused(processor.ErrFenced, batches...)

			batches = three()
			batches[spoilt].Changes[n-1].Version = 1
			h.refused(processor.ErrConflict, batches...)
		}
		batches := three()
		h.commit(batches...)
		for _, b := range batches {
			now := h.standing(b.Partition)
			if now.NextOffset != n {
				h.Errorf("partition %d stands at %d, want %d", b.Partition, now.NextOffset, n)
			}
			h.sameRows(h.unpublished(now.Fence, 0), b.Rows)
		}
	}
}

// commitAtOnce: writers of different partitions do not disturb each other.
func commitAtOnce(h *harness) {
	var wg sync.WaitGroup
	for w := range int32(4) {
		a, b := h.acquire(2*w), h.acquire(2*w+1)
		wg.Go(func() {
			for i := range int64(10) {
				batchA, batchB := batch(a, accepted(a, i, fmt.Sprintf("w%d-a%d", w, i))), batch(b, accepted(b, i, fmt.Sprintf("w%d-b%d", w, i)))
				if err := h.record.Commit(h.Context(), []processor.Batch{batchB, batchA}); err != nil {
					h.Errorf("commit: %v", err)
					return
				}
				if err := h.record.Published(h.Context(), []processor.Cursor{{Fence: b.Fence, Through: i}, {Fence: a.Fence, Through: i}}); err != nil {
					h.Errorf("published: %v", err)
				}
				a, b = after(a, batchA), after(b, batchB)
			}
		})
	}
	wg.Wait()
	for p := range int32(8) {
		if s := h.standing(p); s.NextOffset != 10 || s.PublishedThrough != 9 {
			h.Errorf("partition %d stands at %+v", p, s)
		}
	}
}

// commitSameAtOnce: of transactions under the same fences, one is committed and the others are refused, in whatever
// order they name their partitions.
func commitSameAtOnce(h *harness) {
	a, b := h.acquire(0), h.acquire(1)
	for i := range int64(20) {
		errs := make([]error, 3)
		var wg sync.WaitGroup
		for w := range errs {
			batches := []processor.Batch{batch(a, accepted(a, i, fmt.Sprintf("a%d-%d", i, w))), batch(b, accepted(b, i, fmt.Sprintf("b%d-%d", i, w)))}
			if w%2 == 1 {
				slices.Reverse(batches)
			}
			wg.Go(func() { errs[w] = h.record.Commit(h.Context(), batches) })
		}
		wg.Wait()
		committed := 0
		for _, err := range errs {
			if err == nil {
				committed++
			} else if !errors.Is(err, processor.ErrFenced) {
				h.Fatalf("commit: %v, want %v", err, processor.ErrFenced)
			}
		}
		if committed != 1 {
			h.Fatalf("%d of %d were committed", committed, len(errs))
		}
		a, b = h.standing(0), h.standing(1)
	}
}

func conflict(h *harness) {
	s, other := h.acquire(0), h.acquire(1)
	alice, bob := accepted(s, 0, "alice"), accepted(other, 0, "bob")
	h.commit(with(batch(s, alice), registered(alice, 0)), with(batch(other, bob), registered(bob, 0)))
	s, other = h.standing(0), h.standing(1)

	row := accepted(s, 1, "alice")
	fresh := accepted(s, 2, "carol")
	elsewhere := accepted(other, 1, "dave")
	for why, c := range map[string]processor.Change{
		"a name that has a row by now":    registered(row, 0),
		"a name at a later version":       registered(row, 2),
		"a name without a row":            registered(accepted(s, 1, "erin"), 1),
		"a name of another partition":     registered(accepted(s, 1, "bob"), 1),
		"a new name of another partition": registered(accepted(s, 1, "bob"), 0),
	} {
		h.Log(why)
		h.refused(processor.ErrConflict,
			with(batch(s, row, fresh), registered(fresh, 0), c), with(batch(other, elsewhere), registered(elsewhere, 0)))
	}
	// Two partitions claim one new name in one transaction: routing is broken.
	twin := accepted(other, 1, "carol")
	h.refused(processor.ErrConflict, with(batch(s, row, fresh), registered(fresh, 0)), with(batch(other, twin), registered(twin, 0)))

	next := registered(row, 1)
	h.commit(with(batch(s, row, fresh), next, registered(fresh, 0)), with(batch(other, elsewhere), registered(elsewhere, 0)))
	s = h.standing(0)
	if got, _ := h.holding(s, ref("alice")); !sameHolding(got, next.Holding) {
		h.Errorf("alice is held as\n%+v, want\n%+v", got, next.Holding)
	}
}

// conflictAtOnce: of writers that claim one name in different partitions, at the same moment, one gets it.
func conflictAtOnce(h *harness) {
	const writers = 8
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range errs {
		s := h.acquire(int32(w))
		wg.Go(func() {
			row := accepted(s, 0, "alice")
			errs[w] = h.record.Commit(h.Context(), []processor.Batch{with(batch(s, row), registered(row, 0))})
		})
	}
	wg.Wait()
	won := 0
	for w, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, processor.ErrConflict):
			h.Errorf("writer %d: %v, want %v", w, err, processor.ErrConflict)
		}
	}
	if won != 1 {
		h.Errorf("%d writers got the name", won)
	}
}

// freedName: a name that is free keeps its row, so that its version goes on.
func freedName(h *harness) {
	s := h.acquire(0)
	first := accepted(s, 0, "alice")
	b := with(batch(s, first), registered(first, 0))
	h.commit(b)
	s = after(s, b)
	free := registrations.Holding{State: registrations.Free, Version: 2, PolicyVersion: 3, Since: at, Partition: 0}
	b = with(batch(s, accepted(s, 1, "bob")), processor.Change{Ref: ref("alice"), Version: 1, Holding: free})
	h.commit(b)
	s = after(s, b)
	got, ok := h.holding(s, ref("alice"))
	if !ok || !sameHolding(got, free) || got.Held() {
		h.Fatalf("a freed name is held as %+v, %t", got, ok)
	}
	again := accepted(s, 2, "alice")
	h.refused(processor.ErrConflict, with(batch(s, again), registered(again, 0)))
	b = with(batch(s, again), registered(again, 2))
	h.commit(b)
	s = after(s, b)
	if got, _ := h.holding(s, ref("alice")); got.Version != 3 || got.State != registrations.Registered {
		h.Errorf("a name claimed again is held as %+v", got)
	}
}

// decidedTwice: a request has one outcome in its partition.
func decidedTwice(h *harness) {
	s, other := h.acquire(0), h.acquire(1)
	first := accepted(s, 0, "alice")
	b := batch(s, first)
	h.commit(b)
	s = after(s, b)
	twice := first
	twice.Offset, twice.Outcome.Offset = 2, 2
	h.refused(processor.ErrData, batch(s, accepted(s, 1, "bob"), twice), batch(other, accepted(other, 0, "carol")))
	bob := accepted(s, 1, "bob")
	bobTwice := bob
	bobTwice.Offset, bobTwice.Outcome.Offset = 2, 2
	h.refused(processor.ErrData, batch(s, bob, bobTwice))
	// In another partition it is another request: an id that was used for two names.
	elsewhere := outcome(other, 0, first.Outcome)
	h.commit(batch(other, elsewhere))
	now := h.standing(1)
	known := h.look([]processor.Fence{s.Fence, now.Fence}, nil, []processor.Request{{Partition: 0, ID: first.RequestID}, {Partition: 1, ID: first.RequestID}})
	h.sameOutcome(known.Outcomes[processor.Request{Partition: 0, ID: first.RequestID}], first.Outcome)
	h.sameOutcome(known.Outcomes[processor.Request{Partition: 1, ID: first.RequestID}], elsewhere.Outcome)
	if rows := h.unpublished(s.Fence, 0); len(rows) != 1 || slices.ContainsFunc(rows, func(r processor.Row) bool { return r.Offset > 0 }) {
		h.Errorf("rows are %+v", rows)
	}
}
