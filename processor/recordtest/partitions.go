package recordtest

import (
	"slices"
	"sync"

	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

func acquire(h *harness) {
	writer := uuid.New()
	first, err := h.record.Acquire(h.Context(), 7, writer)
	if err != nil {
		h.Fatal(err)
	}
	want := processor.Standing{Fence: processor.Fence{Partition: 7, LogEpoch: 1, WriterEpoch: 1, WriterID: writer}, LastOffset: -1}
	if first != want {
		h.Fatalf("a new partition stands at\n%+v, want\n%+v", first, want)
	}
	b := batch(first, accepted(first, 0, "alice"), accepted(first, 1, "bob"))
	b.PublishedThrough = 1
	h.commit(b)

	want = after(first, b)
	want.WriterEpoch, want.WriterID = 2, uuid.New()
	second, err := h.record.Acquire(h.Context(), 7, want.WriterID)
	if err != nil {
		h.Fatal(err)
	}
	if !sameStanding(second, want) {
		h.Fatalf("taken over at\n%+v, want\n%+v", second, want)
	}
	if now := h.standing(7); !sameStanding(now, second) {
		h.Fatalf("the row is\n%+v, and was answered as\n%+v", now, second)
	}
	// The same writer may take over again: it did not hear of its success.
	third, err := h.record.Acquire(h.Context(), 7, want.WriterID)
	if err != nil || third.WriterEpoch != 3 {
		h.Fatalf("taken over again at %+v, %v", third, err)
	}
}

func sameStanding(a, b processor.Standing) bool {
	same := a.LogTime.Equal(b.LogTime)
	same = same && a.InForce.Equal(b.InForce)
	a.LogTime, b.LogTime = at, at
	a.InForce, b.InForce = nil, nil
	return same && a == b
}

// acquireAtOnce: everybody gets an epoch of his own, and one of them has the partition.
func acquireAtOnce(h *harness) {
	const writers = 16
	got := make([]processor.Standing, writers)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = h.acquire(3) })
	}
	wg.Wait()
	slices.SortFunc(got, func(a, b processor.Standing) int { return int(a.WriterEpoch - b.WriterEpoch) })
	for i, s := range got {
		if s.WriterEpoch != int64(i)+1 {
			h.Fatalf("epoch %d was given out as number %d", s.WriterEpoch, i+1)
		}
		b := batch(s, accepted(s, 0, "alice"))
		if i < writers-1 {
			h.refused(processor.ErrFenced, b)
		} else {
			h.commit(b)
		}
	}
}

func standings(h *harness) {
	if all, err := h.record.Standings(h.Context(), []int32{1, 2}); err != nil || len(all) != 0 {
		h.Fatalf("standings of partitions that nobody took: %v, %v", all, err)
	}
	if all, err := h.record.Standings(h.Context(), nil); err != nil || len(all) != 0 {
		h.Fatalf("standings of no partition: %v, %v", all, err)
	}
	one, two := h.acquire(1), h.acquire(2)
	all, err := h.record.Standings(h.Context(), []int32{2, 1, 9})
	if err != nil || len(all) != 2 || !slices.Contains(all, one) || !slices.Contains(all, two) {
		h.Fatalf("standings are %+v, %v", all, err)
	}
	h.commit(batch(one, accepted(one, 0, "alice"))) // nothing was taken over
}

func fence(h *harness) {
	s := h.acquire(0)
	first := batch(s, accepted(s, 0, "alice"), accepted(s, 1, "bob"))
	h.commit(first)
	s = after(s, first)
	other := h.acquire(1)
	for _, f := range broken(s.Fence) {
		b := batch(s, accepted(s, 2, "carol"))
		b.Fence = f.fence
		// The row repeats where it is: a batch that contradicts itself is another matter.
		b.Rows[0].Outcome.Partition, b.Rows[0].Outcome.LogEpoch = f.fence.Partition, f.fence.LogEpoch
		h.refused(processor.ErrFenced, b)

		_, err := h.record.Look(h.Context(), []processor.Fence{f.fence}, nil, nil)
		h.want("look with "+f.why, err, processor.ErrFenced)
		_, err = h.record.Look(h.Context(), []processor.Fence{other.Fence, f.fence}, nil, nil)
		h.want("look with "+f.why+" beside one that stands", err, processor.ErrFenced)
		h.want("halt with "+f.why, h.record.Halt(h.Context(), f.fence, "why"), processor.ErrFenced)
	}
	if now := h.standing(0); !sameStanding(now, s) {
		h.Fatalf("the row is\n%+v, want\n%+v", now, s)
	}
	h.look([]processor.Fence{s.Fence, other.Fence}, nil, nil)
	h.commit(batch(s, accepted(s, 2, "carol")))
}

// formerWriter: from a take-over on, the former writer changes nothing.
func formerWriter(h *harness) {
	zombie := h.acquire(0)
	first := batch(zombie, accepted(zombie, 0, "alice"))
	h.commit(first)
	zombie = after(zombie, first)
	inHand := with(batch(zombie, accepted(zombie, 1, "bob")), registered(accepted(zombie, 1, "bob"), 0))

	owner := h.acquire(0)
	h.refused(processor.ErrFenced, inHand)
	if _, err := h.record.Look(h.Context(), []processor.Fence{zombie.Fence}, nil, nil); true {
		h.want("a zombie's look", err, processor.ErrFenced)
	}
	_, err := h.record.Unpublished(h.Context(), zombie.Fence, 0)
	h.want("what a zombie has to publish", err, processor.ErrFenced)
	h.want("a zombie's halt", h.record.Halt(h.Context(), zombie.Fence, "why"), processor.ErrFenced)
	if err := h.record.Published(h.Context(), []processor.Cursor{{Fence: zombie.Fence, Through: 1}}); err != nil {
		h.Errorf("a zombie's cursor: %v", err)
	}
	if now := h.standing(0); !sameStanding(now, owner) {
		h.Fatalf("the zombie left\n%+v, want\n%+v", now, owner)
	}
	// The same record, decided by the new owner at the same place.
	h.commit(with(batch(owner, accepted(owner, 1, "bob")), registered(accepted(owner, 1, "bob"), 0)))
	h.refused(processor.ErrFenced, inHand)
}

func published(h *harness) {
	a, b := h.acquire(0), h.acquire(1)
	batchA := batch(a, accepted(a, 0, "alice"), accepted(a, 4, "bob")) // through 5
	batchB := batch(b, accepted(b, 9, "carol"))                        // through 10
	h.commit(batchA, batchB)
	old := b
	b = h.acquire(1)

	move := func(cursors ...processor.Cursor) {
		h.Helper()
		if err := h.record.Published(h.Context(), cursors); err != nil {
			h.Fatalf("published: %v", err)
		}
	}
	through := func(partition int32, want int64) {
		h.Helper()
		if s := h.standing(partition); s.PublishedThrough != want {
			h.Fatalf("partition %d is published through %d, want %d", partition, s.PublishedThrough, want)
		}
	}
	move()
	move(processor.Cursor{Fence: old.Fence, Through: 7}, processor.Cursor{Fence: a.Fence, Through: 3}) // a's next offset has moved since
	through(0, 3)
	through(1, 0)
	move(processor.Cursor{Fence: b.Fence, Through: 10}, processor.Cursor{Fence: a.Fence, Through: 2}) // a lower one changes nothing
	through(0, 3)
	through(1, 10)
	move(processor.Cursor{Fence: a.Fence, Through: 99}) // what is not decided is not published
	through(0, 5)
	for _, f := range broken(a.Fence) {
		if f.fence.NextOffset == a.NextOffset {
			h.commit(batch(h.standing(0))) // one offset more to move over
			move(processor.Cursor{Fence: f.fence, Through: 6})
			through(0, 5)
			break
		}
	}
	// With a batch: a lower value leaves the row's.
	s := h.standing(0)
	low := batch(s, accepted(s, s.NextOffset, "dave"))
	low.PublishedThrough = 1
	h.commit(low)
	through(0, 5)
}

// halt: nobody goes on, but what is decided is still published, and the partition is still taken over.
func halt(h *harness) {
	s := h.acquire(0)
	first := batch(s, accepted(s, 0, "alice"))
	h.commit(first)
	s = after(s, first)
	if err := h.record.Halt(h.Context(), s.Fence, "the log is another one"); err != nil {
		h.Fatal(err)
	}
	if err := h.record.Halt(h.Context(), s.Fence, "the log is another one"); err != nil {
		h.Fatalf("again: %v", err)
	}
	if now := h.standing(0); now.Halted != "the log is another one" {
		h.Fatalf("halted: %q", now.Halted)
	}
	h.refused(processor.ErrFenced, batch(s, accepted(s, 1, "bob")))
	if rows := h.unpublished(s.Fence, 0); len(rows) != 1 {
		h.Fatalf("%d rows to publish, want 1", len(rows))
	}
	if err := h.record.Published(h.Context(), []processor.Cursor{{Fence: s.Fence, Through: 1}}); err != nil {
		h.Fatal(err)
	}
	taken := h.acquire(0)
	if taken.Halted != "the log is another one" || taken.PublishedThrough != 1 || taken.WriterEpoch != s.WriterEpoch+1 {
		h.Fatalf("taken over at %+v", taken)
	}
	h.refused(processor.ErrFenced, batch(taken, accepted(taken, 1, "bob")))
	other := h.acquire(1)
	h.commit(batch(other, accepted(other, 0, "carol"))) // the others go on
}
