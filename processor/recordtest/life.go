package recordtest

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

var everyType = []registrations.Type{
	registrations.Accepted, registrations.Confirmed, registrations.Extended, registrations.Released, registrations.Withdrawn,
	registrations.Deactivated, registrations.Reactivated, registrations.Transferred, registrations.Blocked, registrations.Unblocked,
	registrations.Expired, registrations.Unchanged, registrations.Begun, registrations.Voted, registrations.Abandoned,
}

var everyStateThereIs = []registrations.State{
	registrations.Free, registrations.Reserved, registrations.Registered, registrations.Inactive, registrations.Cooling, registrations.StateBlocked,
}

// everyFollowUp: what a row leads to, and who did it and why, is read back as it was written, also of a batch in which
// few rows or all of them have it.
func everyFollowUp(h *harness) {
	for partition, size := range []int{1, 300} {
		s := h.acquire(int32(partition))
		var rows []processor.Row
		for i := range size {
			row := accepted(s, int64(len(rows)), fmt.Sprintf("name-%d", i))
			switch i % 3 {
			case 0:
				row.FollowUp = follow(row, "old", int64(i))
			case 1:
				row.Actor, row.Why = "ops ☎", strings.Repeat("w", 500)
			}
			rows = append(rows, row)
		}
		for _, f := range []struct {
			key     string
			version int64
		}{{"old", 1}, {"never held", 0}, {strings.Repeat("ß", names.MaxKey/2), math.MaxInt64}, {"name-0", 2}} {
			row := accepted(s, int64(len(rows)), "new")
			row.FollowUp = follow(row, f.key, f.version)
			row.Actor, row.Why = strings.Repeat("a", claims.MaxOwner), "both"
			rows = append(rows, row)
		}
		confirmed := accepted(s, int64(len(rows)), "new")
		confirmed.Outcome.Type, confirmed.Outcome.ClaimID = registrations.Confirmed, uuid.New()
		confirmed.FollowUp = follow(confirmed, "old", 9)
		rows = append(rows, confirmed)
		onlyActor, onlyWhy := accepted(s, int64(len(rows)), "a"), accepted(s, int64(len(rows)+1), "b")
		onlyActor.Actor, onlyWhy.Why = "ops", "because"
		rows = append(rows, onlyActor, onlyWhy)
		private := accepted(s, int64(len(rows)), "h1:00ff")
		private.Outcome.Ref.Space = "email"
		private.FollowUp = follow(private, "h1:ff00", 3)
		rows = append(rows, private)
		// A record that repeats the request publishes its outcome again, and leads to nothing itself.
		rows = append(rows, duplicate(int64(len(rows)), confirmed))
		b := batch(s, rows...)
		h.commit(b)
		h.sameRows(h.unpublished(s.Fence, 0), rows)
	}
	// Each alone in its batch.
	s := h.acquire(2)
	for _, spell := range []func(*processor.Row){
		func(r *processor.Row) { r.FollowUp = follow(*r, "old", 1) },
		func(r *processor.Row) { r.Actor = "ops" },
		func(r *processor.Row) { r.Why = "because" },
		func(r *processor.Row) { r.Outcome.ExpiresAt = at },
		func(r *processor.Row) { r.Outcome.Request = "ConfirmRequested" },
	} {
		row := accepted(s, s.NextOffset, "alone")
		spell(&row)
		b := batch(s, row)
		h.commit(b)
		h.sameRows(h.unpublished(s.Fence, s.NextOffset), []processor.Row{row})
		s = after(s, b)
	}
}

// follow is what a row leads to: the release of another name of its space.
func follow(row processor.Row, key string, version int64) *processor.FollowUp {
	o := &row.Outcome
	return &processor.FollowUp{Claim: o.ClaimID, Ref: names.Ref{Space: o.Ref.Space, Key: names.Key(key)}, Owner: o.Owner, Version: version}
}

// everyHolding: whatever is recorded of a name is read back, for a name that is new and for one that had something else,
// so that nothing of what it was before is left.
func everyHolding(h *harness) {
	base := registrations.Holding{Name: "Name", PolicyVersion: 1, Since: at}
	var holdings []registrations.Holding
	add := func(change func(*registrations.Holding)) {
		next := base
		next.State = registrations.Registered
		change(&next)
		holdings = append(holdings, next)
	}
	for _, state := range everyStateThereIs {
		add(func(n *registrations.Holding) { n.State = state })
		add(func(n *registrations.Holding) {
			*n = registrations.Holding{
				State: state, Name: "Ålice", Owner: "u-17", ClaimID: uuid.New(), PolicyVersion: math.MaxInt32, Since: at.Add(time.Hour),
				Settled: true, ExpiresAt: at.Add(time.Millisecond), Previous: "u-16", Replaces: "old", ReplacesVersion: math.MaxInt64,
			}
		})
	}
	add(func(n *registrations.Holding) { n.Settled = true })
	add(func(n *registrations.Holding) { n.Previous = strings.Repeat("p", claims.MaxOwner) })
	add(func(n *registrations.Holding) { n.Replaces = names.Key(strings.Repeat("ß", names.MaxKey/2)) })
	add(func(n *registrations.Holding) { n.Replaces, n.ReplacesVersion = "old", 1 })
	add(func(n *registrations.Holding) { n.ReplacesVersion = 1 })
	add(func(n *registrations.Holding) { n.Signup = uuid.New() })
	add(func(n *registrations.Holding) { n.Ballot = `{"names":[{"name":"Ålice \"x\""}]}` })
	add(func(n *registrations.Holding) {
		n.State, n.Signup, n.ExpiresAt = registrations.Reserved, uuid.New(), at
	})
	for _, ms := range []int64{0, 1, -1, 999, 253_402_300_799_999, 253_402_905_599_999} {
		add(func(n *registrations.Holding) {
			n.State, n.ExpiresAt = registrations.Reserved, time.UnixMilli(ms)
		})
	}
	add(func(n *registrations.Holding) { n.ExpiresAt = at.In(time.FixedZone("east", 5*3600)) })

	alone := h.acquire(2)
	for i, next := range holdings {
		next.Version, next.Partition = 1, alone.Partition
		c := processor.Change{Ref: ref(fmt.Sprint("alone-", i)), Holding: next}
		b := with(batch(alone, accepted(alone, alone.NextOffset, "x")), c)
		h.commit(b)
		alone = after(alone, b)
		if got, ok := h.holding(alone, c.Ref); !ok || !sameHolding(got, next) {
			h.Fatalf("alone: held as\n%+v, want\n%+v", got, next)
		}
	}

	for partition, copies := range []int{1, 20} { // a small batch and a large one
		s := h.acquire(int32(partition))
		// Round by round each name gets the next holding: a full one gives way to an empty one, and the other way round.
		for round := range 3 {
			var rows []processor.Row
			var changes []processor.Change
			var refs []names.Ref
			for i := range len(holdings) * copies {
				key := fmt.Sprintf("p%d-%d", partition, i)
				next := holdings[(i+round)%len(holdings)]
				next.Version, next.Partition = int64(round)+1, s.Partition
				rows = append(rows, accepted(s, s.NextOffset+int64(i), key))
				changes = append(changes, processor.Change{Ref: ref(key), Version: int64(round), Holding: next})
				refs = append(refs, ref(key))
			}
			b := with(batch(s, rows...), changes...)
			h.commit(b)
			s = after(s, b)
			known := h.look([]processor.Fence{s.Fence}, refs, nil)
			for _, c := range changes {
				if got := known.Holdings[c.Ref]; !sameHolding(got, c.Holding) {
					h.Fatalf("round %d: %s is held as\n%+v, want\n%+v", round, c.Ref, got, c.Holding)
				}
			}
		}
	}
}

// everyState: in each state a name is as it was read, or the commit is refused.
func everyState(h *harness) {
	s, other := h.acquire(0), h.acquire(1)
	for _, from := range everyStateThereIs {
		for _, to := range everyStateThereIs {
			key := fmt.Sprintf("%s to %s", from, to)
			row := accepted(s, s.NextOffset, key)
			first := registrations.Holding{
				State: from, Name: key, Owner: "u-1", ClaimID: row.RequestID, Version: 1, PolicyVersion: 1, Since: at, Partition: 0,
				ExpiresAt: at.Add(time.Minute), Previous: "u-0",
			}
			b := with(batch(s, row), processor.Change{Ref: ref(key), Holding: first})
			h.commit(b)
			s = after(s, b)
			next := registrations.Holding{State: to, Name: key, Version: 2, PolicyVersion: 1, Since: at, Partition: 0}
			for why, read := range map[string]int64{"as a new name": 0, "at a later version": 2} {
				h.Log(key, why)
				h.refused(processor.ErrConflict, with(batch(s, accepted(s, s.NextOffset, key)), processor.Change{Ref: ref(key), Version: read, Holding: next}))
			}
			elsewhere := next
			elsewhere.Partition = 1
			h.refused(processor.ErrConflict, with(batch(other, accepted(other, other.NextOffset, key)), processor.Change{Ref: ref(key), Version: 1, Holding: elsewhere}))
			b = with(batch(s, accepted(s, s.NextOffset, key)), processor.Change{Ref: ref(key), Version: 1, Holding: next})
			h.commit(b)
			s = after(s, b)
			if got, ok := h.holding(s, ref(key)); !ok || !sameHolding(got, next) {
				h.Fatalf("%s: held as\n%+v, want\n%+v", key, got, next)
			}
		}
	}
}

// mark is the row of a claim that was withdrawn before it came.
func mark(offset int64, claim uuid.UUID, owner string) processor.Row {
	return processor.Row{Offset: offset, Kind: processor.KindMark, RequestID: claim, Principal: "gateway", Outcome: registrations.Outcome{Owner: owner}}
}

// marks: a claim that was withdrawn before it came is known to be, by owner, in its partition only, whatever becomes of it.
func marks(h *harness) {
	s, other := h.acquire(0), h.acquire(1)
	claim, another, unmarked := uuid.New(), uuid.New(), uuid.New()
	withdrawn := func(offset int64, claim uuid.UUID) processor.Row {
		return outcome(s, offset, registrations.Outcome{
			Type: registrations.Withdrawn, RequestID: uuid.New(), ClaimID: claim, Ref: ref("alice"), Name: "alice", Owner: "u-1", Seq: 1,
		})
	}
	rows := []processor.Row{
		mark(0, claim, "u-1"), withdrawn(0, claim),
		mark(1, claim, "u-2 ☎"), withdrawn(1, claim), // of somebody who guessed the id
		mark(2, another, strings.Repeat("o", claims.MaxOwner)), withdrawn(2, another),
	}
	elsewhere := mark(0, claim, "u-3")
	b := batch(s, rows...)
	bad := batch(other, elsewhere)
	bad.WriterID = uuid.New()
	h.refused(processor.ErrFenced, b, bad)
	h.commit(b, batch(other, elsewhere))
	s, other = after(s, b), h.standing(1)
	h.sameRows(h.unpublished(s.Fence, 0), rows)
	h.sameRows(h.unpublished(other.Fence, 0), []processor.Row{elsewhere})

	asked := func(want map[processor.Mark]struct{}, requests ...processor.Request) {
		h.Helper()
		known := h.look([]processor.Fence{s.Fence, other.Fence}, nil, requests)
		if !reflect.DeepEqual(known.Marks, want) {
			h.Fatalf("marks are %+v, want %+v", known.Marks, want)
		}
	}
	type set = map[processor.Mark]struct{}
	ofClaim := set{{Partition: 0, Claim: claim, Owner: "u-1"}: {}, {Partition: 0, Claim: claim, Owner: "u-2 ☎"}: {}}
	asked(set{})
	asked(ofClaim, processor.Request{Partition: 0, ID: claim})
	asked(ofClaim, processor.Request{Partition: 0, ID: claim}, processor.Request{Partition: 0, ID: unmarked}, processor.Request{Partition: 0, ID: claim}, processor.Request{Partition: 0})
	asked(set{{Partition: 0, Claim: another, Owner: strings.Repeat("o", claims.MaxOwner)}: {}, {Partition: 1, Claim: claim, Owner: "u-3"}: {}},
		processor.Request{Partition: 1, ID: claim}, processor.Request{Partition: 1, ID: another}, processor.Request{Partition: 0, ID: another})
	asked(set{}, processor.Request{Partition: 2, ID: claim}, processor.Request{Partition: 1, ID: unmarked})

	// A mark is no answer: the claim is still to be decided, once, and the mark stays.
	q := processor.Request{Partition: 0, ID: claim}
	if known := h.look([]processor.Fence{s.Fence}, nil, []processor.Request{q}); len(known.Outcomes) != 0 {
		h.Fatalf("a mark answers as %+v", known.Outcomes)
	}
	rejected := outcome(s, 3, registrations.Outcome{
		Type: registrations.Rejected, RequestID: claim, ClaimID: claim, Ref: ref("alice"), Name: "alice", Owner: "u-1", Reason: registrations.ClaimWithdrawn,
	})
	b = batch(s, rejected, duplicate(4, rejected))
	h.commit(b)
	s = after(s, b)
	h.sameRows(h.unpublished(s.Fence, 3), b.Rows)
	asked(ofClaim, q)
	h.sameOutcome(h.look([]processor.Fence{s.Fence}, nil, []processor.Request{q}).Outcomes[q], rejected.Outcome)

	// Many in one batch, in whatever way it is written.
	var many []processor.Row
	var requests []processor.Request
	want := set{}
	for i := range int64(300) {
		id := uuid.New()
		many = append(many, mark(s.NextOffset+i, id, fmt.Sprint("u-", i)))
		requests = append(requests, processor.Request{Partition: 0, ID: id})
		want[processor.Mark{Partition: 0, Claim: id, Owner: fmt.Sprint("u-", i)}] = struct{}{}
	}
	b = batch(s, many...)
	h.commit(b)
	s = after(s, b)
	asked(want, requests...)
}

// holding is the change to a name that is held for a while, or not.
func holding(s processor.Standing, key string, state registrations.State, expires time.Time) processor.Change {
	return processor.Change{Ref: ref(key), Holding: registrations.Holding{
		State: state, Name: key, ClaimID: uuid.New(), Version: 1, PolicyVersion: 1, Since: at, Partition: s.Partition, ExpiresAt: expires,
	}}
}

func (h *harness) due(partitions []int32, at time.Time, most int) []processor.Due {
	h.Helper()
	all, err := h.record.Due(h.Context(), partitions, at, most)
	if err != nil {
		h.Fatalf("due: %v", err)
	}
	return all
}

// isDue checks what is due, in any order.
func (h *harness) isDue(why string, got []processor.Due, want ...processor.Change) {
	h.Helper()
	if len(got) != len(want) {
		h.Fatalf("%s: due are %+v, want %d", why, got, len(want))
	}
	for _, c := range want {
		if !slices.ContainsFunc(got, func(d processor.Due) bool {
			return d.Ref == c.Ref && d.ClaimID == c.ClaimID && d.Partition == c.Partition && d.ExpiresAt.Equal(c.ExpiresAt)
		}) {
			h.Fatalf("%s: %s is not among %+v", why, c.Ref, got)
		}
	}
}

// due: a reservation or a cool-down is due from the very instant on at which it is over, in an asked partition, and no
// longer when something else has become of the name.
func due(h *harness) {
	a, b := h.acquire(0), h.acquire(1)
	h.isDue("an empty record", h.due([]int32{0, 1}, at.AddDate(1, 0, 0), 10))
	var changes []processor.Change
	for _, state := range everyStateThereIs { // with a time also where there should be none
		changes = append(changes, holding(a, string(state), state, at))
	}
	changes = append(changes, holding(a, "registered for ever", registrations.Registered, time.Time{}), holding(a, "reserved for ever", registrations.Reserved, time.Time{}))
	reserved, cooling := changes[1], changes[4]
	elsewhere := holding(b, "elsewhere", registrations.Reserved, at)
	elsewhere.Ref.Space = "email"
	first := with(batch(a, accepted(a, 0, "x")), changes...)
	h.commit(first, with(batch(b, accepted(b, 0, "y")), elsewhere))
	a = h.standing(0)

	h.isDue("a millisecond early", h.due([]int32{0, 1}, at.Add(-time.Millisecond), 10))
	h.isDue("a nanosecond early", h.due([]int32{0, 1}, at.Add(-1), 10))
	h.isDue("in the instant", h.due([]int32{0, 1}, at, 10), reserved, cooling, elsewhere)
	h.isDue("in the instant, elsewhere on earth", h.due([]int32{0, 1}, at.In(time.FixedZone("west", -3600)), 10), reserved, cooling, elsewhere)
	h.isDue("late", h.due([]int32{1, 0}, at.AddDate(100, 0, 0), 10), reserved, cooling, elsewhere)
	h.isDue("of one partition", h.due([]int32{0}, at, 10), reserved, cooling)
	h.isDue("of the other, and one that is not there", h.due([]int32{1, 7}, at, 10), elsewhere)
	h.isDue("asked twice", h.due([]int32{1, 1}, at, 10), elsewhere)
	h.isDue("of none", h.due(nil, at, 10))
	h.isDue("at most none", h.due([]int32{0, 1}, at, 0))
	h.isDue("at no time", h.due([]int32{0, 1}, time.Time{}, 10))

	// Extended, confirmed, reserved anew, freed: what counts is what the name is.
	moved := reserved
	moved.Version, moved.Holding.Version, moved.ExpiresAt = 1, 2, at.Add(time.Second)
	gone := cooling
	gone.Version, gone.Holding.Version, gone.State, gone.ExpiresAt = 1, 2, registrations.Free, time.Time{}
	again := processor.Change{Ref: ref(string(registrations.Registered)), Version: 1, Holding: holding(a, "", registrations.Cooling, at.Add(time.Minute)).Holding}
	again.Holding.Version = 2
	h.refused(processor.ErrConflict, with(batch(a, accepted(a, 1, "x")), moved, holding(a, "elsewhere", registrations.Reserved, at), gone, processor.Change{Ref: elsewhere.Ref, Version: 1, Holding: moved.Holding}))
	h.isDue("after a refused commit", h.due([]int32{0, 1}, at, 10), reserved, cooling, elsewhere)
	h.commit(with(batch(a, accepted(a, 1, "x")), moved, gone, again))
	h.isDue("after it was extended", h.due([]int32{0, 1}, moved.ExpiresAt.Add(-time.Millisecond), 10), elsewhere)
	h.isDue("when that is over too", h.due([]int32{0, 1}, moved.ExpiresAt, 10), elsewhere, moved)
	h.isDue("and what was reserved anew", h.due([]int32{0, 1}, again.ExpiresAt, 10), elsewhere, moved, again)
}

// dueInOrder: the longest over comes first, over all partitions, and no more than was asked for.
func dueInOrder(h *harness) {
	const partitions, each = 3, 150
	var batches []processor.Batch
	for p := range int32(partitions) {
		s := h.acquire(p)
		b := with(batch(s, accepted(s, 0, fmt.Sprint("x", p))))
		for i := range each {
			place := (i*7%each)*partitions + int(p) // in no order
			b.Changes = append(b.Changes, holding(s, fmt.Sprintf("n%04d", place), []registrations.State{registrations.Reserved, registrations.Cooling}[i%2], at.Add(time.Duration(place)*time.Second)))
		}
		batches = append(batches, b)
	}
	h.commit(batches...)
	check := func(got []processor.Due, places ...int) {
		h.Helper()
		if len(got) != len(places) {
			h.Fatalf("%d are due, want %d", len(got), len(places))
		}
		for i, place := range places {
			if want := fmt.Sprintf("n%04d", place); string(got[i].Ref.Key) != want {
				h.Fatalf("number %d is %s, want %s", i, got[i].Ref, want)
			}
		}
	}
	all := make([]int, partitions*each)
	for i := range all {
		all[i] = i
	}
	check(h.due([]int32{2, 0, 1}, at.AddDate(1, 0, 0), 1000), all...)
	check(h.due([]int32{0, 1, 2}, at.AddDate(1, 0, 0), len(all)), all...)
	check(h.due([]int32{0, 1, 2}, at.AddDate(1, 0, 0), 7), all[:7]...)
	check(h.due([]int32{0, 1, 2}, at.Add(4*time.Second), 1000), all[:5]...)
	check(h.due([]int32{0, 1, 2}, at.Add(4*time.Second), 3), all[:3]...)
	check(h.due([]int32{2, 1}, at.Add(8*time.Second), 1000), 1, 2, 4, 5, 7, 8)
	check(h.due([]int32{2}, at.AddDate(1, 0, 0), 2), 2, 5)

	// Many in one instant: as many as asked for, each once.
	s := h.acquire(9)
	b := with(batch(s, accepted(s, 0, "x9")))
	for i := range 500 {
		b.Changes = append(b.Changes, holding(s, fmt.Sprint("same-", i), registrations.Reserved, at))
	}
	h.commit(b)
	h.isDue("all of one instant", h.due([]int32{9}, at, 1000), b.Changes...)
	seen := make(map[names.Ref]bool)
	for _, d := range h.due([]int32{9}, at, 200) {
		seen[d.Ref] = true
	}
	if len(seen) != 200 {
		h.Fatalf("%d different ones are due, want 200", len(seen))
	}
}
