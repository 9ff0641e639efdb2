package postgres_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestAgreesWithMemory does the same things, right and wrong ones, to the record in Postgres and to the one in memory
// that the simulation of the processor runs on: what holds for the processor there must hold here.
func TestAgreesWithMemory(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := open(t, configure(t))
			r.SetCopyFrom(4) // both ways to write
			p := &pair{
				T: t, rand: rand.New(rand.NewPCG(seed, 42)), postgres: r, memory: memory.New(),
				standing: make(map[int32][]processor.Standing),
			}
			for range 400 {
				p.step()
			}
			t.Logf("%v", p.done)
		})
	}
}

// pair is two records that are done the same to.
type pair struct {
	*testing.T
	rand     *rand.Rand
	postgres *postgres.Record
	memory   *memory.Record

	standing map[int32][]processor.Standing // what was answered and written, the newest last
	requests []processor.Row                // outcomes that were decided, or tried to be
	ids      uint64
	done     [8]int // steps by what came of them, to see that all of it happens
}

const pairPartitions = 3

var pairKeys = []string{"alice", "bob", "carol", "dave", "erin"}

func (p *pair) step() {
	partition := int32(p.rand.IntN(pairPartitions))
	switch x := p.rand.IntN(100); {
	case x < 8:
		writer := p.id()
		a, errA := p.postgres.Acquire(p.Context(), partition, writer)
		b, errB := p.memory.Acquire(p.Context(), partition, writer)
		p.same("acquire", a, b, errA, errB)
		p.standing[partition] = append(p.standing[partition], a)
	case x < 55:
		p.commit()
	case x < 75:
		p.look()
	case x < 85:
		s, ok := p.any(partition)
		if !ok {
			return
		}
		cursor := []processor.Cursor{{Fence: s.Fence, Through: s.NextOffset - 2 + int64(p.rand.IntN(4))}}
		p.same("published", nil, nil, p.postgres.Published(p.Context(), cursor), p.memory.Published(p.Context(), cursor))
	case x < 86:
		p.due()
	case x < 88:
		s, ok := p.any(partition)
		if !ok {
			return
		}
		p.same("halt", nil, nil, p.postgres.Halt(p.Context(), s.Fence, "why"), p.memory.Halt(p.Context(), s.Fence, "why"))
	case x < 92:
		p.resume(partition)
	default:
		a, errA := p.postgres.Standings(p.Context(), []int32{0, 1, 2})
		b, errB := p.memory.Standings(p.Context(), []int32{0, 1, 2})
		p.same("standings", a, b, errA, errB)
		if s, ok := p.any(partition); ok {
			a = append(a, s)
		}
		for _, s := range a {
			rowsA, errA := p.postgres.Unpublished(p.Context(), s.Fence, s.PublishedThrough)
			rowsB, errB := p.memory.Unpublished(p.Context(), s.Fence, s.PublishedThrough)
			p.same("unpublished", rowsA, rowsB, errA, errB)
		}
	}
}

// resume lets a partition go on, with or without a gap. Why it is not resumed is said in other words.
func (p *pair) resume(partition int32) {
	var a processor.Standing
	var errA, errB error
	if start := int64(p.rand.IntN(50)); p.rand.IntN(3) == 0 {
		a, errA = p.postgres.AcceptGap(p.Context(), partition, start, "ops", "why")
		errB = p.memory.AcceptGap(partition, start)
	} else {
		a, errA = p.postgres.Resume(p.Context(), partition, "ops", "why")
		errB = p.memory.Resume(partition)
	}
	b, _ := p.memory.Standing(partition)
	if errA != nil {
		b = a
	}
	p.same("resume", a, b, errA, errB)
	if errA == nil {
		p.standing[partition] = append(p.standing[partition], a)
	}
}

// any returns a standing of a partition: mostly the newest, sometimes one that is no more.
func (p *pair) any(partition int32) (processor.Standing, bool) {
	all := p.standing[partition]
	if len(all) == 0 {
		return processor.Standing{}, false
	}
	if p.rand.IntN(25) == 0 {
		return all[p.rand.IntN(len(all))], true
	}
	return all[len(all)-1], true
}

func (p *pair) commit() {
	var batches []processor.Batch
	for partition := range int32(pairPartitions) {
		if s, ok := p.any(partition); ok && p.rand.IntN(3) > 0 {
			batches = append(batches, p.batch(s))
		}
	}
	p.rand.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
	errA, errB := p.postgres.Commit(p.Context(), batches), p.memory.Commit(p.Context(), batches)
	p.same("commit", nil, nil, errA, errB)
	if errA == nil {
		for _, b := range batches {
			all := p.standing[b.Partition]
			s := all[len(all)-1]
			s.NextOffset, s.LogTime, s.LastOffset, s.LastHash = b.Next, b.LogTime, b.LastOffset, b.LastHash
			p.standing[b.Partition] = append(all, s)
		}
	}
}

func (p *pair) batch(s processor.Standing) processor.Batch {
	n := p.rand.IntN(6)
	b := processor.Batch{
		Fence: s.Fence, Next: s.NextOffset + int64(n) + int64(p.rand.IntN(2)), LogTime: logTime.Add(time.Duration(p.ids) * time.Millisecond),
		LastOffset: s.LastOffset, LastHash: p.rand.Uint32(), PublishedThrough: s.NextOffset - int64(p.rand.IntN(3)),
	}
	b.PublishedThrough = max(b.PublishedThrough, 0)
	changed := make(map[names.Ref]bool)
	for i := range n {
		row := processor.Row{Offset: s.NextOffset + int64(i), RequestID: p.id(), Principal: "p"}
		b.LastOffset = row.Offset
		switch x := p.rand.IntN(20); {
		case x < 2:
			row.Kind, row.Detail, row.Raw = processor.KindDead, "why", &cloudevents.Record{Value: []byte("v"), Time: logTime}
		case x == 2 && len(p.requests) > 0:
			row.Kind, row.RequestID = processor.KindMark, p.requests[p.rand.IntN(len(p.requests))].RequestID
			row.Outcome = registrations.Outcome{Owner: fmt.Sprint("u-", p.rand.IntN(3))}
		case x == 19:
			row.Kind, row.Sent = processor.KindSent, &processor.Sent{Request: "ConfirmRequested", Ref: ref("k"), Owner: "u", Claim: p.id(), Signup: p.id()}
		case x < 4:
			row.Kind, row.Raw = processor.KindForwarded, &cloudevents.Record{Key: []byte("k"), Time: logTime}
		default:
			key := p.key(s.Partition)
			row.Kind = processor.KindOutcome
			if x == 4 && len(p.requests) > 0 && p.rand.IntN(3) == 0 { // a request that may be decided already
				row.RequestID = p.requests[p.rand.IntN(len(p.requests))].RequestID
			}
			row.Outcome = registrations.Outcome{
				Type: registrations.Accepted, RequestID: row.RequestID, ClaimID: row.RequestID, Ref: ref(key), Name: key, Owner: "u", State: registrations.Registered,
				Version: 1, PolicyVersion: 1, LogTime: b.LogTime, Partition: s.Partition, LogEpoch: s.LogEpoch, Offset: row.Offset,
			}
			if p.rand.IntN(3) == 0 {
				o := &row.Outcome
				o.Type, o.State = pairTypes[p.rand.IntN(len(pairTypes))], pairStates[p.rand.IntN(len(pairStates))]
				o.ExpiresAt, o.Version, row.Actor, row.Why = p.expiry(), int64(p.rand.IntN(4)), "ops", "because"
				row.FollowUp = &processor.FollowUp{Claim: o.ClaimID, Ref: ref("old"), Owner: o.Owner, Version: int64(p.rand.IntN(2))}
			}
			p.requests = append(p.requests, row)
			if r := row.Outcome.Ref; !changed[r] && p.rand.IntN(2) == 0 {
				changed[r] = true
				b.Changes = append(b.Changes, p.change(s.Partition, r, row))
			}
		}
		b.Rows = append(b.Rows, row)
	}
	return b
}

// key is a name of the partition, or now and then of another one.
func (p *pair) key(partition int32) string {
	if p.rand.IntN(60) == 0 {
		partition = int32(p.rand.IntN(pairPartitions))
	}
	return fmt.Sprint(pairKeys[p.rand.IntN(len(pairKeys))], partition)
}

// change moves a name on from what it is, or now and then from what it is not.
func (p *pair) change(partition int32, r names.Ref, row processor.Row) processor.Change {
	read := p.memory.Names()[r].Version
	if p.rand.IntN(30) == 0 {
		read += int64(p.rand.IntN(3)) - 1
		read = max(read, 0)
	}
	var h registrations.Holding
	if p.rand.IntN(2) == 0 {
		h = registrations.Holding{ExpiresAt: p.expiry(), Settled: p.rand.IntN(2) == 0, Previous: "u-0", Replaces: "old", ReplacesVersion: int64(p.rand.IntN(2))}
		if p.rand.IntN(3) == 0 {
			h.Signup, h.Ballot = p.id(), "{}"
		}
	}
	return processor.Change{Ref: r, Version: read, Holding: registrations.Holding{
		ExpiresAt: h.ExpiresAt, Settled: h.Settled, Previous: h.Previous, Replaces: h.Replaces, ReplacesVersion: h.ReplacesVersion, Signup: h.Signup, Ballot: h.Ballot,
		State: pairStates[p.rand.IntN(len(pairStates))], Name: string(r.Key), Owner: fmt.Sprint("u-", p.ids), ClaimID: row.RequestID, Version: read + 1, PolicyVersion: 1,
		Since: row.Outcome.LogTime, Partition: partition,
	}}
}

func (p *pair) look() {
	var fences []processor.Fence
	var refs []names.Ref
	var requests []processor.Request
	for partition := range int32(pairPartitions) {
		if s, ok := p.any(partition); ok {
			fences = append(fences, s.Fence)
		}
		for range min(3, len(p.requests)) {
			requests = append(requests, processor.Request{Partition: partition, ID: p.requests[p.rand.IntN(len(p.requests))].RequestID})
		}
	}
	for range 12 {
		refs = append(refs, ref(p.key(int32(p.rand.IntN(pairPartitions)))))
	}
	a, errA := p.postgres.Look(p.Context(), fences, refs, requests)
	b, errB := p.memory.Look(p.Context(), fences, refs, requests)
	p.same("look", a, b, errA, errB)
}

// pairTypes and pairStates are those of what happens to names.
var (
	pairTypes  = []registrations.Type{registrations.Confirmed, registrations.Extended, registrations.Released, registrations.Expired, registrations.Unchanged}
	pairStates = []registrations.State{
		registrations.Free, registrations.Reserved, registrations.Registered, registrations.Inactive, registrations.Cooling, registrations.StateBlocked,
	}
)

// expiry is one of few, so that times meet.
func (p *pair) expiry() time.Time {
	return logTime.Add(time.Duration(1+p.rand.IntN(20)) * time.Millisecond)
}

// due asks for all that is over, and for the first few: which of those that are over at the same time is nobody's promise.
func (p *pair) due() {
	partitions := []int32{int32(p.rand.IntN(pairPartitions)), int32(p.rand.IntN(pairPartitions))}
	at := p.expiry()
	both := func(most int) (a, b []processor.Due) {
		a, errA := p.postgres.Due(p.Context(), partitions, at, most)
		b, errB := p.memory.Due(p.Context(), partitions, at, most)
		if errA != nil || errB != nil || len(a) != len(b) {
			p.Fatalf("due: %v, %v in postgres, %v, %v in memory", a, errA, b, errB)
		}
		return a, b
	}
	a, b := both(1000)
	for _, d := range [][]processor.Due{a, b} {
		slices.SortFunc(d, func(a, b processor.Due) int {
			return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), cmp.Compare(a.Ref.String(), b.Ref.String()))
		})
	}
	p.same("due", a, b, nil, nil)
	a, b = both(1 + p.rand.IntN(3))
	for i := range a {
		if !a[i].ExpiresAt.Equal(b[i].ExpiresAt) {
			p.Fatalf("due: %v in postgres, %v in memory", a, b)
		}
	}
}

func (p *pair) id() uuid.UUID {
	p.ids++
	return uuid.UUID{0: byte(p.ids >> 8), 1: byte(p.ids), 6: 0x40, 8: 0x80}
}

// same checks that both have answered the same.
func (p *pair) same(what string, a, b any, errA, errB error) {
	p.Helper()
	outcome, twoFaults := 0, false
	for i, sentinel := range []error{processor.ErrFenced, processor.ErrConflict, processor.ErrData} {
		if errors.Is(errA, sentinel) {
			outcome = i + 1
		}
		// Of a batch with a name and a request that are not in order, either may be said.
		twoFaults = i > 0 && errors.Is(errA, sentinel) != errors.Is(errB, sentinel) || twoFaults
		if i == 0 && errors.Is(errA, sentinel) != errors.Is(errB, sentinel) {
			p.Fatalf("%s: %v in postgres, %v in memory", what, errA, errB)
		}
	}
	if (errA == nil) != (errB == nil) || twoFaults && (unsaid(errA) || unsaid(errB)) {
		p.Fatalf("%s: %v in postgres, %v in memory", what, errA, errB)
	}
	if what == "commit" {
		outcome += 4
	}
	p.done[outcome]++
	if errA == nil && !reflect.DeepEqual(a, b) && fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
		p.Fatalf("%s:\n%+v in postgres,\n%+v in memory", what, a, b)
	}
}
