package verify

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// state is everything that the decision of a partition's next record depends on, but for the outcomes of earlier
// requests: those are looked up. It is advanced record by record.
type state struct {
	partition int32
	logEpoch  int64
	// base is what holds from the start of every log, regime what holds as of the next record.
	base    processor.Rules
	regime  processor.Regime
	logTime time.Time
	// lastOffset and lastHash are of the last data record; -1 before the first.
	lastOffset int64
	lastHash   uint32

	holdings map[names.Ref]registrations.Holding
	marks    map[processor.Mark]struct{}
	// first is the claim that held a name first, of the names that have another one by now; zero for a name that no claim
	// held first. Of all others it is the holding's.
	first map[names.Ref]uuid.UUID
	// unsure are reservations that are folded, by their claim: what they replace is in no row of decisions.
	unsure map[names.Ref]uuid.UUID
	// promised has the sign-ups that claims have voted for, of folded rows.
	promised map[uuid.UUID]uuid.UUID
	// timeUnsure: log time is at least logTime. Records that were forwarded or dead moved it too, and do not say so.
	timeUnsure bool
	// plain has the names that forms stand for, as far as they are known. formsFolded: there are rows of which only the form is.
	plain       map[names.Ref]names.Ref
	formsFolded bool
	// older are names of which nobody knows what they are by now: they were there before what is kept, and have changed since.
	older map[names.Ref]struct{}
}

func newState(partition int32, base processor.Rules) state {
	regime, _ := processor.NewRegime(base, nil) // nothing can be lacking
	return state{
		partition: partition, base: base, regime: regime, lastOffset: -1,
		holdings: make(map[names.Ref]registrations.Holding), marks: make(map[processor.Mark]struct{}),
		first: make(map[names.Ref]uuid.UUID), unsure: make(map[names.Ref]uuid.UUID),
		promised: make(map[uuid.UUID]uuid.UUID),
	}
}

// receive reads records, each by what holds where it lies; what the database could not store makes nothing hold. The error
// is a *processor.LackingError, or that of signed.
func (s *state) receive(messages []processor.Message, refused map[int64]string, signed func(*processor.Received) error) ([]processor.Received, error) {
	received := make([]processor.Received, len(messages))
	regime := s.regime
	for i := range messages {
		r := &received[i]
		*r = processor.Receive(messages[i], regime.Rules)
		if err := signed(r); err != nil {
			return nil, err
		}
		if _, is := refused[r.Offset]; is {
			continue
		}
		var err error
		if regime, err = regime.Behind(r); err != nil {
			return nil, fmt.Errorf("offset %d: %w", r.Offset, err)
		}
	}
	return received, nil
}

// decide decides the records that were received, and moves behind them. outcomes are those of the requests that they touch, as
// of the first of them; refused are the records that the database could not store.
func (s *state) decide(received []processor.Received, outcomes map[processor.Request]registrations.Outcome, refused map[int64]string) []processor.Row {
	s.reveal(received)
	d := processor.Decide(processor.Ledger{
		Partition: s.partition, LogEpoch: s.logEpoch, LogTime: s.logTime, Rules: s.regime.Rules, InForce: s.regime.InForce,
		Known: processor.Known{Holdings: s.holdings, Outcomes: outcomes, Marks: s.marks}, Refused: refused,
	}, received)
	s.logTime = d.LogTime
	if d.InForce != nil {
		s.regime, _ = processor.NewRegime(s.base, d.InForce) // nothing is lacking: they were received under it
	}
	var firsts map[names.Ref]uuid.UUID // made where it is needed: nearly every new name stays as its first claim made it
	for i := range d.Changes {
		c := &d.Changes[i]
		if c.Version == 0 && c.Holding.Version > 1 && firsts == nil {
			firsts = firstClaims(d.Rows)
		}
		s.put(c.Ref, c.Holding, firsts[c.Ref])
	}
	for i := range d.Rows {
		if row := &d.Rows[i]; row.Kind == processor.KindMark {
			s.marks[processor.Mark{Partition: s.partition, Claim: row.RequestID, Owner: row.Outcome.Owner}] = struct{}{}
		}
	}
	if n := len(received); n > 0 {
		last := &received[n-1]
		s.lastOffset, s.lastHash = last.Offset, last.Record.Hash()
	}
	return d.Rows
}

// firstClaims finds the claims that made the first version of a name. Another one that was answered with it, because it asked
// to have what exists returned, comes behind.
func firstClaims(rows []processor.Row) map[names.Ref]uuid.UUID {
	firsts := make(map[names.Ref]uuid.UUID)
	for i := range rows {
		o := &rows[i].Outcome
		if rows[i].Kind != processor.KindOutcome || o.Version != 1 || o.Type != registrations.Accepted {
			continue
		}
		if _, made := firsts[o.Ref]; !made {
			firsts[o.Ref] = o.RequestID
		}
	}
	return firsts
}

// put makes a holding the name's. Of one that is new, made is the claim of its first version, where it may be another one.
func (s *state) put(ref names.Ref, next registrations.Holding, made uuid.UUID) {
	was, there := s.holdings[ref]
	first, other := s.first[ref]
	switch {
	case other:
	case there:
		first = was.ClaimID
	case next.Version == 1:
		first = next.ClaimID
	default:
		first = made
	}
	if first == uuid.Nil || first != next.ClaimID {
		s.first[ref] = first
	}
	s.holdings[ref] = next
}

// fold takes a stored row over without replaying it.
func (s *state) fold(row *processor.Row) {
	o := &row.Outcome
	if o.LogTime.After(s.logTime) {
		s.logTime = o.LogTime
	}
	switch row.Kind {
	case processor.KindSent:
		if row.Sent.Yes() { // it comes before the outcome of the claim
			s.promised[row.Sent.Claim] = row.Sent.Signup
		}
		return
	case processor.KindMark:
		s.marks[processor.Mark{Partition: s.partition, Claim: row.RequestID, Owner: o.Owner}] = struct{}{}
		return
	case processor.KindOutcome, processor.KindFact:
	default:
		return
	}
	ref := o.Ref
	if s.base.Eraser != nil { // of one name some rows may be wiped, and others not
		form := s.base.Eraser.Ref(ref)
		if s.formsFolded = s.formsFolded || o.Erased; form != ref {
			s.known(form, ref)
		}
		if plain, known := s.plain[form]; known {
			ref = plain
		}
	}
	if s.isOlder(ref) && !s.says(ref, row) {
		return
	}
	was := s.holdings[ref]
	if o.State == "" || o.Version <= was.Version {
		return // a rejection, or an answer with what stands
	}
	next := folded(was, row)
	if next.Partition = s.partition; next.State == registrations.Reserved {
		next.Signup = s.promised[next.ClaimID]
	}
	if ref.Space == claims.Signup {
		next.Ballot = ballotOf(was.Ballot, o)
	}
	s.put(ref, next, uuid.Nil)
	switch {
	case next.State != registrations.Reserved:
		delete(s.unsure, ref)
	case o.Type == registrations.Accepted:
		s.unsure[ref] = next.ClaimID
	}
}

// known takes note of the name that a form stands for: what is folded of the form is the name's.
func (s *state) known(form, plain names.Ref) {
	if s.plain == nil {
		s.plain = make(map[names.Ref]names.Ref)
	}
	if _, known := s.plain[form]; known {
		return
	}
	s.plain[form] = plain
	if h, there := s.holdings[form]; there {
		delete(s.holdings, form)
		s.holdings[plain] = h
	}
	if first, there := s.first[form]; there {
		delete(s.first, form)
		s.first[plain] = first
	}
	if claim, there := s.unsure[form]; there {
		delete(s.unsure, form)
		s.unsure[plain] = claim
	}
}

// reveal finds what was folded of the names that records are about under the form that an Eraser gives.
func (s *state) reveal(received []processor.Received) {
	if s.base.Eraser == nil || !s.formsFolded {
		return
	}
	for i := range received {
		if ref := received[i].Ref; ref.Space != "" && !ref.Key.Erased() {
			s.known(s.base.Eraser.Ref(ref), ref)
		}
	}
}

// ballotOf is what a row makes of a sign-up's ballot. The rows on the way have it whole; the last vote of an accepted one is
// in no row.
func ballotOf(was string, o *registrations.Outcome) string {
	if o.Type != registrations.Accepted {
		return o.Detail
	}
	b, err := registrations.ReadBallot(was)
	if err != nil {
		return was // it will differ
	}
	for i := range b.Names {
		b.Names[i].Vote = registrations.VoteYes
	}
	return b.Text()
}

// folded is what a row makes of a holding: all but what a reservation replaces, which the row does not say.
func folded(was registrations.Holding, row *processor.Row) registrations.Holding {
	o := &row.Outcome
	next := registrations.Holding{
		State: o.State, Version: o.Version, PolicyVersion: o.PolicyVersion, Since: o.LogTime, ExpiresAt: o.ExpiresAt,
	}
	switch o.State {
	case registrations.Registered, registrations.Reserved, registrations.Inactive:
		next.Name, next.Owner, next.ClaimID = o.Name, o.Owner, o.ClaimID
	case registrations.Cooling:
		next.ClaimID, next.Previous = o.ClaimID, o.Owner
	}
	switch o.Type {
	case registrations.Accepted:
		// A claim that spells its owner's name anew is answered with the claim that has it.
		next.Settled = row.FollowUp != nil || o.ClaimID != o.RequestID
	case registrations.Confirmed:
		next.Settled = row.FollowUp != nil || was.Signup != uuid.Nil
	case registrations.Transferred, registrations.Reactivated:
		next.Settled = true
	case registrations.Extended:
		next.Settled = was.Settled
	case registrations.Deactivated:
		if o.State == registrations.Free {
			next.Previous = o.Owner
		} else {
			next.Settled = was.Settled
		}
	case registrations.Expired:
		next.PolicyVersion = was.PolicyVersion // nobody asked for it
		next.Erased = was.Erased
	case registrations.Erased:
		next.Erased = true
	}
	return next
}
