package recordtest

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

// inForce is what holds where so many versions of the space username were activated, and as many of another.
func inForce(version int) *processor.InForce {
	f := &processor.InForce{Policies: make(names.Policies), Rules: 1, Keys: []string{"k1", fmt.Sprint("k", version)}, SignedOnly: version%2 == 0}
	for _, space := range []names.Space{names.Username, "invoice-number"} {
		p := *names.Builtin()[names.Username]
		p.Space, p.Version, p.CoolDown, p.UniqueAmong = space, version, time.Duration(version)*time.Hour, names.AmongActive
		f.Policies[space] = &p
	}
	return f
}

// activating is a batch of one record that activates, and of so many others.
func activating(s processor.Standing, f *processor.InForce, others int) processor.Batch {
	policy := func(offset int64) processor.Row {
		return processor.Row{Offset: offset, Kind: processor.KindPolicy, RequestID: uuid.New(), Principal: "dibs"}
	}
	rows := []processor.Row{policy(s.NextOffset), policy(s.NextOffset + 1)}
	for i := range others {
		rows = append(rows, accepted(s, s.NextOffset+2+int64(i), fmt.Sprintf("name%d-%d-%d", s.Partition, s.NextOffset, i)))
	}
	b := batch(s, rows...)
	b.InForce = f
	for _, p := range f.Policies {
		b.Activated = append(b.Activated, p)
	}
	return b
}

// policies: what holds is a part of the row, moves with a batch, and stays when the next one does not say otherwise.
func policies(h *harness) {
	s, other := h.acquire(0), h.acquire(1)
	if s.InForce != nil {
		h.Fatalf("from the start, %s is in force", s.InForce.JSON())
	}
	first, there := activating(s, inForce(2), 0), activating(other, inForce(2), 1)
	h.commit(first, there) // both write the same policies
	s, other = after(s, first), after(other, there)
	h.sameRows(h.unpublished(s.Fence, 0), first.Rows)

	next := batch(s, accepted(s, s.NextOffset, "alice"))
	h.commit(next)
	if s = after(s, next); !sameStanding(h.standing(0), s) {
		h.Fatalf("behind a batch without an activation:\n%+v, want\n%+v", h.standing(0), s)
	}
	// One that is fenced changes nothing, of either partition.
	late := activating(s, inForce(3), 0)
	late.WriterEpoch--
	h.refused(processor.ErrFenced, activating(other, inForce(3), 0), late)

	// In a large batch, and the same policies again from elsewhere.
	large, again := activating(s, inForce(3), 600), activating(other, inForce(3), 0)
	h.commit(large)
	h.commit(again)
	s, other = after(s, large), after(other, again)
	for _, want := range []processor.Standing{s, other} {
		if now := h.standing(want.Partition); !sameStanding(now, want) {
			h.Fatalf("the row is\n%+v, want\n%+v", now, want)
		}
		taken, err := h.record.Acquire(h.Context(), want.Partition, want.WriterID)
		if want.WriterEpoch++; err != nil || !sameStanding(taken, want) {
			h.Fatalf("taken over at\n%+v, %v; want\n%+v", taken, err, want)
		}
	}
}
