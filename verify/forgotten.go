package verify

import (
	"context"
	"math"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Where old decisions are forgotten, names are what is left of them. A name that has not changed since is as its row says. Of one
// that has, nobody knows what it was before: what is decided about it is taken on trust, up to the first row that says all of what
// the name is from there on.

// begin finds out what is known of names before the first row that is kept.
func (c *checking) begin(ctx context.Context) error {
	at, logTime, is := c.snapshot.Forgotten()
	if !is {
		return nil
	}
	c.forgotten, c.trusted = &at, make(map[int64]struct{})
	c.state.logTime = logTime
	if at.LogEpoch == c.standing.LogEpoch {
		c.from = min(max(c.from, at.Offset), c.standing.NextOffset)
	}
	firsts := make(map[uuid.UUID][]names.Ref) // of names that have changed since
	older := make(map[names.Ref]struct{})
	err := c.snapshot.Names(ctx, func(stored StoredName) error {
		h, err := c.snapshot.Holding(stored)
		if err != nil {
			return nil // it will differ
		}
		switch {
		case h.Since.Before(logTime):
			c.state.holdings[stored.Ref] = h
			c.state.first[stored.Ref] = stored.First
			if stored.First == uuid.Nil {
				delete(c.state.first, stored.Ref)
			}
			c.state.formsFolded = c.state.formsFolded || stored.Ref.Key.Erased()
		case h.Version == 1 && h.Since.After(logTime):
		default:
			first := stored.First
			if first == uuid.Nil {
				first = stored.ClaimID
			}
			older[stored.Ref] = struct{}{}
			firsts[first] = append(firsts[first], stored.Ref)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Some of those are younger than what is forgotten: the claim that made their first version is there.
	err = c.each(ctx, firsts, func(o *registrations.Outcome) {
		if o.Version == 1 && o.Type == registrations.Accepted {
			for _, ref := range firsts[o.RequestID] {
				delete(older, ref)
			}
		}
	})
	c.state.older = older
	c.found.note("partition %d: decisions before offset %d of log %d are forgotten (the last of them of %s): names are taken as they are, and %d that have changed since up to where a row says all of them",
		c.partition, at.Offset, at.LogEpoch, spell(logTime), len(older))
	return err
}

// each looks up those outcomes of requests that are kept, wherever they lie.
func (c *checking) each(ctx context.Context, requests map[uuid.UUID][]names.Ref, f func(*registrations.Outcome)) error {
	var ids []uuid.UUID
	look := func() error {
		outcomes, err := c.snapshot.Decided(ctx, ids, Position{math.MaxInt32, math.MaxInt64})
		for i := range outcomes {
			f(&outcomes[i])
		}
		ids = ids[:0]
		return err
	}
	for id := range requests {
		if ids = append(ids, id); len(ids) == page {
			if err := look(); err != nil {
				return err
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return look()
}

// decide decides records again, but for those that rest on what is forgotten: their rows are taken over, and are not among those
// that are left to be compared.
func (c *checking) decide(ctx context.Context, received []processor.Received, stored []Stored, refused map[int64]string) (rows []processor.Row, left []Stored, err error) {
	start := 0
	flush := func(end int) error {
		if start == end {
			return nil
		}
		outcomes, err := c.decided(ctx, received[start:end], stored)
		if err == nil {
			rows = append(rows, c.state.decide(received[start:end], outcomes, refused)...)
		}
		return err
	}
	if c.forgotten == nil {
		err := flush(len(received))
		return rows, stored, err
	}
	untold, err := c.untold(ctx, received, stored)
	if err != nil {
		return nil, nil, err
	}
	k := 0
	for i := range received {
		r := &received[i]
		n := k
		for n < len(stored) && stored[n].Offset < r.Offset {
			n++
		}
		left, k = append(left, stored[k:n]...), n
		if _, is := untold[r.Offset]; !is && !c.state.isOlder(r.Ref) {
			continue
		}
		if err := flush(i); err != nil {
			return nil, nil, err
		}
		start = i + 1
		for ; k < len(stored) && stored[k].Offset == r.Offset; k++ {
			c.counts.Trusted++
			row, err := c.snapshot.Row(stored[k])
			if err != nil {
				c.differ(stored[k].Position, stored[k].Seq, stored[k].RequestID, inDecisions, Field{"row", "one that can be read", err.Error()})
				continue
			}
			c.state.fold(&row)
		}
		c.trusted[r.Offset] = struct{}{}
		c.state.pass(r)
	}
	return rows, append(left, stored[k:]...), flush(len(received))
}

// untold finds the records whose answer rests on the outcome of another one that is forgotten: those that repeat a request or
// its id, what was refused to do with a claim, for nobody knows whether that was
// ever made; and the claims that were withdrawn before they came.
func (c *checking) untold(ctx context.Context, received []processor.Received, stored []Stored) (map[int64]struct{}, error) {
	rests, offsets := make(map[uuid.UUID][]int64), make(map[int64]struct{})
	k := 0
	for i := range received {
		r := &received[i]
		for ; k < len(stored) && stored[k].Offset <= r.Offset; k++ {
			if stored[k].Offset < r.Offset {
				continue
			}
			switch stored[k].Kind {
			case processor.KindDuplicate:
				rests[stored[k].RequestID] = append(rests[stored[k].RequestID], r.Offset)
			case processor.KindDead:
				row, err := c.snapshot.Row(stored[k])
				if id := row.RequestID; err == nil && id != uuid.Nil && (row.Detail == processor.UsedBefore || stored[k].Erased) {
					rests[id] = append(rests[id], r.Offset)
				}
			case processor.KindOutcome:
				claim, isClaim := r.Request.Body.(*claims.UsernameClaimed)
				id := r.AboutClaim()
				if id == uuid.Nil && !isClaim {
					continue
				}
				row, err := c.snapshot.Row(stored[k])
				switch {
				case err != nil || row.Outcome.Type != registrations.Rejected:
				case id != uuid.Nil:
					rests[id] = append(rests[id], r.Offset)
				case row.Outcome.Reason == registrations.ClaimWithdrawn && !c.marked(claim, r, stored[:k]):
					offsets[r.Offset] = struct{}{}
				}
			}
		}
	}
	if len(rests) == 0 {
		return offsets, nil
	}
	ids := make(map[uuid.UUID][]names.Ref, len(rests))
	for id := range rests {
		ids[id] = nil
	}
	err := c.each(ctx, ids, func(o *registrations.Outcome) { delete(rests, o.RequestID) })
	for _, at := range rests {
		for _, offset := range at {
			offsets[offset] = struct{}{}
		}
	}
	return offsets, err
}

// marked reports whether the mark of a withdrawn claim is known, or among the rows of the batch before it.
func (c *checking) marked(claim *claims.UsernameClaimed, r *processor.Received, before []Stored) bool {
	for _, owner := range c.state.owners(claim.Owner) {
		if _, is := c.state.marks[processor.Mark{Partition: c.partition, Claim: r.Request.ID, Owner: owner}]; is {
			return true
		}
	}
	for i := range before {
		if before[i].Kind == processor.KindMark && before[i].RequestID == r.Request.ID {
			return true
		}
	}
	return false
}

// owners are the forms under which a mark may name an owner.
func (s *state) owners(owner string) []string {
	if s.base.Eraser == nil {
		return []string{owner}
	}
	return []string{owner, s.base.Eraser.Owner(owner)}
}

// isOlder reports whether a name was there before what is kept, and has changed since: nobody knows what it is by now.
func (s *state) isOlder(ref names.Ref) bool {
	if len(s.older) == 0 {
		return false
	}
	_, is := s.older[ref]
	if !is && s.base.Eraser != nil && !ref.Key.Erased() {
		_, is = s.older[s.base.Eraser.Ref(ref)]
	}
	return is
}

// says reports whether a row of an older name says all of what the name is from there on, and takes it off those.
func (s *state) says(ref names.Ref, row *processor.Row) bool {
	o := &row.Outcome
	switch o.Type {
	case registrations.Accepted: // another claim's is what stood before, and a reservation does not say what it replaces
		if o.ClaimID != o.RequestID || o.State == registrations.Reserved {
			return false
		}
	case registrations.Deactivated:
		if o.State != registrations.Free {
			return false
		}
	case registrations.Released, registrations.Withdrawn, registrations.Transferred, registrations.Reactivated, registrations.Blocked, registrations.Unblocked, registrations.Erased:
	default:
		return false
	}
	if o.State == "" || ref.Space == claims.Signup {
		return false
	}
	delete(s.older, ref)
	if s.base.Eraser != nil && !ref.Key.Erased() {
		delete(s.older, s.base.Eraser.Ref(ref))
	}
	s.first[ref] = uuid.Nil // whoever it was
	return true
}

// pass moves behind a record that is not decided again.
func (s *state) pass(r *processor.Received) {
	if r.Record.Time.After(s.logTime) {
		s.logTime = r.Record.Time
	}
	s.lastOffset, s.lastHash = r.Offset, r.Record.Hash()
}
