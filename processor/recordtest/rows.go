package recordtest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// unpublished: the rows of a partition, in order, with what they publish.
func unpublished(h *harness) {
	s, other := h.acquire(0), h.acquire(1)
	alice := accepted(s, 0, "alice")
	first := []processor.Row{alice, {Offset: 1, Kind: processor.KindDead, Principal: "p", Detail: "it has no id", Raw: raw("", "?")}}
	b := batch(s, first...)
	h.commit(b)
	s = after(s, b)

	bob := accepted(s, 7, "bob")
	fact, second := bob.Outcome, bob.Outcome
	fact.Fact, fact.ClaimID, fact.Seq = true, uuid.Nil, 0
	second.Seq = 1
	bobFact, bobOutcome := outcome(s, 7, fact), outcome(s, 7, second)
	rows := []processor.Row{
		duplicate(3, alice), // of an earlier batch
		{Offset: 4, Kind: processor.KindForwarded, RequestID: uuid.New(), Principal: "gateway", Raw: raw("username/zoe", "{}", cloudevents.Header{Name: claims.Rerouted, Value: []byte("1")})},
		bobFact, bobOutcome,
		duplicate(8, bobOutcome), // of the same batch
		{Offset: 9, Kind: processor.KindDead, RequestID: alice.RequestID, Detail: "ce_id was used before for a request with other content", Raw: raw("username/alice", "other")},
		duplicate(10, alice),
	}
	b2 := batch(s, rows...)
	sameID := accepted(other, 0, "carol") // an id that was used for two names
	sameID.RequestID, sameID.Outcome.RequestID = alice.RequestID, alice.RequestID
	elsewhere := batch(other, sameID, duplicate(1, sameID))
	h.commit(b2, elsewhere)
	s = after(s, b2)

	h.sameRows(h.unpublished(s.Fence, 0), append(append([]processor.Row{}, first...), rows...))
	h.sameRows(h.unpublished(s.Fence, 2), rows)
	h.sameRows(h.unpublished(s.Fence, 8), rows[4:])
	h.sameRows(h.unpublished(s.Fence, 11), nil)
	h.sameRows(h.unpublished(other.Fence, 0), elsewhere.Rows)
	h.sameRows(h.unpublished(h.acquire(2).Fence, 0), nil)
	// The next offset is no part of this fence: the rows are read while their writer goes on.
	early := s.Fence
	early.NextOffset = 0
	h.sameRows(h.unpublished(early, 8), rows[4:])
	another := s.Fence
	another.WriterEpoch++
	_, err := h.record.Unpublished(h.Context(), another, 0)
	h.want("unpublished rows of another writer", err, processor.ErrFenced)
}

// everyOutcome: whatever an outcome says is stored, and is published again in the same bytes.
func everyOutcome(h *harness) {
	s := h.acquire(11)
	id := uuid.New
	var outcomes []registrations.Outcome
	add := func(o registrations.Outcome) {
		if o.RequestID == uuid.Nil {
			o.RequestID = id()
		}
		outcomes = append(outcomes, o)
	}
	acceptedWith := func(change func(*registrations.Outcome)) {
		o := registrations.Outcome{Type: registrations.Accepted, RequestID: id(), Ref: ref("alice"), Name: "Alice", Owner: "u-17", State: registrations.Registered, Version: 1, PolicyVersion: 1}
		o.ClaimID = o.RequestID
		change(&o)
		add(o)
	}
	acceptedWith(func(o *registrations.Outcome) {})
	acceptedWith(func(o *registrations.Outcome) { o.ClaimID = id() })
	acceptedWith(func(o *registrations.Outcome) { o.ClaimID = uuid.Nil })
	acceptedWith(func(o *registrations.Outcome) { o.Name = "alice" })
	acceptedWith(func(o *registrations.Outcome) { o.Name = "" })
	acceptedWith(func(o *registrations.Outcome) { o.Name = "Ålice \u2028 \"\\\u0001 名前 😀" })
	acceptedWith(func(o *registrations.Outcome) { o.Owner = strings.Repeat("o", claims.MaxOwner) })
	acceptedWith(func(o *registrations.Outcome) { o.State, o.Version, o.Owner = registrations.Free, math.MaxInt64, "" })
	acceptedWith(func(o *registrations.Outcome) { o.PolicyVersion = math.MaxInt32 })
	acceptedWith(func(o *registrations.Outcome) { o.Ref.Key = names.Key(strings.Repeat("ß", names.MaxKey/2)) })
	for _, ms := range []int64{0, 1, -1, 999, 1000, 1_795_255_200_120, 253_402_300_799_999} {
		acceptedWith(func(o *registrations.Outcome) { o.LogTime = time.UnixMilli(ms) })
	}
	acceptedWith(func(o *registrations.Outcome) { o.LogTime = at.In(time.FixedZone("east", 5*3600)) })
	for _, what := range everyType {
		for _, state := range append([]registrations.State{""}, everyStateThereIs...) {
			acceptedWith(func(o *registrations.Outcome) { o.Type, o.State, o.Version, o.ClaimID = what, state, 7, id() })
		}
	}
	for _, ms := range []int64{1, -1, 1_795_255_200_120, 253_402_300_799_999, 253_402_905_599_999} {
		acceptedWith(func(o *registrations.Outcome) {
			o.State, o.ExpiresAt = registrations.Reserved, time.UnixMilli(ms)
		})
		acceptedWith(func(o *registrations.Outcome) {
			o.Type, o.State, o.ExpiresAt = registrations.Released, registrations.Cooling, time.UnixMilli(ms).UTC()
		})
	}
	for i, reason := range []registrations.Reason{
		registrations.Malformed, registrations.NotAllowed, registrations.UnknownSpace, registrations.DeadlinePassed, registrations.ClaimWithdrawn,
		registrations.InvalidName, registrations.InvalidRequest, registrations.ReservedWord, registrations.NameBlocked, registrations.UnknownClaim,
		registrations.ReservationExpired, registrations.NotOwner, registrations.VersionConflict, registrations.WrongState,
		registrations.CoolingDown, registrations.Confusable, registrations.Taken, registrations.LimitExceeded,
	} {
		o := registrations.Outcome{Type: registrations.Rejected, RequestID: id(), Ref: ref("bob"), Name: "Bob", Owner: "u-18", Reason: reason, PolicyVersion: 1}
		o.ClaimID = o.RequestID
		add(o)
		o.RequestID, o.Detail, o.CurrentVersion = id(), fmt.Sprintf("detail %d of <%s>", i, reason), int64(i)
		add(o)
	}
	// What cannot be read is answered under the key it came with.
	add(registrations.Outcome{Type: registrations.Rejected, Ref: names.Ref{Key: "what/ever key"}, Reason: registrations.Malformed, Detail: "the value is not JSON"})
	add(registrations.Outcome{Type: registrations.Rejected, Ref: names.Ref{Key: names.Key(strings.Repeat("k", 4000))}, Reason: registrations.Malformed})
	add(registrations.Outcome{Type: registrations.Rejected, Ref: names.Ref{Space: "email", Key: "h1:00ff"}, Reason: registrations.UnknownSpace, RequestHash: claims.Hash{31: 0xff}})

	var rows []processor.Row
	for i, o := range outcomes {
		rows = append(rows, outcome(s, int64(i), o))
	}
	fact := outcomes[0]
	fact.Fact = true
	var facts []processor.Row
	for seq := range 3 {
		fact.Seq, fact.Type = seq, []registrations.Type{registrations.Accepted, registrations.Expired, registrations.Released}[seq]
		facts = append(facts, outcome(s, int64(len(outcomes)), fact))
	}
	rows = append(rows, facts...)
	b := batch(s, rows...)
	h.commit(b)
	h.sameRows(h.unpublished(s.Fence, 0), rows)

	now := h.standing(11)
	var requests []processor.Request
	for _, o := range outcomes {
		requests = append(requests, processor.Request{Partition: 11, ID: o.RequestID})
	}
	known := h.look([]processor.Fence{now.Fence}, nil, requests)
	if len(known.Outcomes) != len(outcomes) {
		h.Fatalf("%d of %d requests are decided", len(known.Outcomes), len(outcomes))
	}
	for i := range outcomes {
		h.sameOutcome(known.Outcomes[requests[i]], rows[i].Outcome)
	}
}

// everyRawRecord: a record that is passed on, or buried, is kept byte by byte.
func everyRawRecord(h *harness) {
	s := h.acquire(0)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	var rows []processor.Row
	for _, r := range []cloudevents.Record{
		{},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("k")},
		{Value: []byte("v"), Time: time.UnixMilli(0).UTC()},
		{Key: every, Value: every, Time: time.UnixMilli(-1).UTC()},
		{Headers: []cloudevents.Header{{}, {Name: "", Value: []byte{}}, {Name: "twice"}, {Name: "twice", Value: every}, {Name: string(every), Value: []byte("x")}}, Time: at},
		{Key: []byte("large"), Value: make([]byte, 1<<20), Time: time.UnixMilli(253_402_300_799_999).UTC()},
	} {
		for _, kind := range []processor.Kind{processor.KindForwarded, processor.KindDead} {
			row := processor.Row{Offset: int64(len(rows)), Kind: kind, Raw: &r}
			if kind == processor.KindDead {
				row.Detail = "why it is dead"
			}
			rows = append(rows, row)
		}
	}
	b := batch(s, rows...)
	h.commit(b)
	h.sameRows(h.unpublished(s.Fence, 0), rows)
}

// sizes: a batch is what it is, however it is written.
func sizes(h *harness) {
	for _, size := range []int{1, 2, 64, 127, 128, 129, 255, 256, 257, 1000, 8000} {
		s := h.acquire(int32(size))
		var rows []processor.Row
		var changes []processor.Change
		for i := range size {
			switch i % 10 {
			case 7:
				rows = append(rows, processor.Row{Offset: int64(i), Kind: processor.KindDead, Detail: "dead", Raw: raw("k", "v")})
			case 8:
				rows = append(rows, duplicate(int64(i), rows[i-8]))
			case 9:
				rows = append(rows, processor.Row{Offset: int64(i), Kind: processor.KindForwarded, RequestID: uuid.New(), Raw: raw("k", "v")})
			default:
				row := accepted(s, int64(i), fmt.Sprintf("size-%d-%d", size, i))
				rows = append(rows, row)
				changes = append(changes, registered(row, 0))
			}
		}
		b := with(batch(s, rows...), changes...)
		h.commit(b)
		s = after(s, b)
		if now := h.standing(s.Partition); !sameStanding(now, s) {
			h.Fatalf("size %d: the row is\n%+v, want\n%+v", size, now, s)
		}
		h.sameRows(h.unpublished(s.Fence, 0), rows)

		// All of them again: every name has a row now.
		var refs []names.Ref
		var requests []processor.Request
		next := with(batch(s))
		for i, c := range changes {
			c.Version, c.Holding.Version, c.Owner = 1, 2, "another"
			row := accepted(s, s.NextOffset+int64(i), string(c.Ref.Key))
			next.Rows, next.Changes = append(next.Rows, row), append(next.Changes, c)
			refs, requests = append(refs, c.Ref), append(requests, processor.Request{Partition: s.Partition, ID: row.RequestID})
		}
		next = with(batch(s, next.Rows...), next.Changes...)
		last := len(next.Changes) - 1
		next.Changes[last].Version = 2
		h.refused(processor.ErrConflict, next)
		next.Changes[last].Version = 1
		h.commit(next)
		s = after(s, next)
		known := h.look([]processor.Fence{s.Fence}, refs, requests)
		if len(known.Holdings) != len(refs) || len(known.Outcomes) != len(requests) {
			h.Fatalf("size %d: %d of %d names and %d of %d requests are known", size, len(known.Holdings), len(refs), len(known.Outcomes), len(requests))
		}
		for _, c := range next.Changes {
			if got := known.Holdings[c.Ref]; !sameHolding(got, c.Holding) {
				h.Fatalf("size %d: %s is held as\n%+v, want\n%+v", size, c.Ref, got, c.Holding)
			}
		}
	}
}
