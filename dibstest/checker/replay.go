package checker

import (
	"slices"
	"time"
)

// expected is what a record should have left.
type expected struct {
	kind string
	// rows are those of a request that is decided here: facts, a mark, the outcome. A duplicate has the earlier outcome.
	rows    []Decision
	request request
	to      int32 // of a forwarded record
	why     string
}

func (x *expected) outcome() *Outcome { return x.rows[len(x.rows)-1].Outcome }

// holding is what there is to know about a name.
type holding struct {
	state         string // empty: never held
	name, owner   string
	claimID       string
	version       int64
	policyVersion int
	since         time.Time
	// expires is when a reservation or a cool-down is over; claimed, when the reservation was made.
	expires, claimed time.Time
	// settled: it is not any more what claimID registered.
	settled bool
	// erased: who had it last was.
	erased bool
	// previous released a name that is cooling, or deactivated one last that is free.
	previous        string
	replaces        string // key
	replacesVersion int64
	// signup has the reservation; ballot is what a sign-up keeps.
	signup, ballot string
}

func (h *holding) held() bool {
	return h.state == "reserved" || h.state == "registered" || h.state == "inactive"
}

// replay decides a partition again, from its log alone.
type replay struct {
	history   *History
	laws      laws
	partition int32
	logTime   time.Time
	seen      map[string]seen
	marks     map[[2]string]bool    // by claim and owner
	held      map[[2]string]holding // by space and key
	ballots   map[string]*ballot    // of sign-ups
	erasures  map[[2]string][]erasure
	owners    map[string][]erasure
}

type seen struct {
	print   string
	outcome *Outcome
}

func newReplay(h *History, partition int32) *replay {
	return &replay{
		history: h, laws: h.laws(), partition: partition, seen: make(map[string]seen), marks: make(map[[2]string]bool),
		held: make(map[[2]string]holding), ballots: make(map[string]*ballot),
		erasures: make(map[[2]string][]erasure), owners: make(map[string][]erasure),
	}
}

// maxForwarded is how large a record may be to be forwarded: what a topic takes compressed it may not take from us.
const maxForwarded = 512 << 10

// next says what the next record of the log leaves. The checks come in the order of the design, section 2.
func (y *replay) next(r *Record) expected {
	if r.Time.After(y.logTime) && r.Time.Year() <= 9999 { // a later one cannot be spelt, and moves nothing
		y.logTime = r.Time
	}
	q := read(r, &y.laws)
	x := expected{request: q}
	switch {
	case y.history.Unstorable != nil && y.history.Unstorable(*r) && y.storesAnOutcome(&q):
		x.kind, x.why = KindDead, "the database refuses it"
		return x
	case q.dead != "":
		x.kind, x.why = KindDead, q.dead
		return x
	case q.kind == typePolicy:
		x.kind = KindPolicy
		y.laws.apply(q.activation, y.history.Secrets)
		return x
	}
	if x.to = partitionOf(q.recordKey(), y.history.Partitions); x.to != y.partition {
		x.kind = KindForwarded
		switch {
		case q.rerouted:
			x.kind, x.why = KindDead, "forwarded twice"
		case r.size() > maxForwarded:
			x.kind, x.why = KindDead, "too large to be forwarded"
		}
		return x
	}
	if before, ok := y.seen[q.id]; ok {
		x.kind, x.rows = KindDuplicate, []Decision{{Outcome: before.outcome}}
		switch {
		case before.print != q.print && !slices.Contains(q.also, before.print):
			x.kind, x.why, x.rows = KindDead, "other content under a used id", nil
		case y.unsigned(&q) && before.outcome.Reason != "not_allowed":
			x.kind, x.why, x.rows = KindDead, "unsigned, under the id of a signed one", nil
		}
		return x
	}
	if b := y.ballots[q.id]; b != nil && b.open && q.recordKey() == spaceSignup+"/"+q.id {
		if x.kind = KindPending; b.hash != q.hash || y.unsigned(&q) {
			x.kind, x.why = KindDead, "other content under a used id"
		}
		return x
	}
	d := y.decide(&q)
	x.kind, x.rows = KindOutcome, d.rows
	if last := d.rows[len(d.rows)-1]; last.Kind == KindPending {
		x.kind = KindPending
		return x
	}
	y.seen[q.id] = seen{q.print, x.outcome()}
	return x
}

// unsigned reports whether a request lacks a signature that it needs.
func (y *replay) unsigned(q *request) bool {
	return !q.malformed && !q.signed && (q.privileged() || y.laws.all)
}

// storesAnOutcome reports whether the record would leave an outcome or a policy: the rows of all others hold bytes as they
// were.
func (y *replay) storesAnOutcome(q *request) bool {
	_, before := y.seen[q.id]
	return q.dead == "" && q.kind == typePolicy || q.dead == "" && !before && partitionOf(q.recordKey(), y.history.Partitions) == y.partition
}

// decision is that of one request under way.
type decision struct {
	*replay
	q    *request
	ref  [2]string // space and key
	p    Policy
	h    holding // what there is, and then what there will be
	rows []Decision
	// whole: what is erased is nobody else's.
	whole bool
	// looked: what is decided depends on the name.
	looked bool
}

// decide decides a request that belongs here and was not seen before.
func (y *replay) decide(q *request) *decision {
	d := &decision{replay: y, q: q}
	d.ref[0], d.ref[1] = split(q.recordKey())
	if q.nameOK {
		d.h = y.held[d.ref]
	}
	d.judge()
	d.vote()
	for i := range d.rows {
		row := &d.rows[i]
		if row.Seq = i; row.Kind != KindSent && row.RequestID == q.id {
			row.Principal = q.principal
		}
		if o := row.Outcome; o != nil {
			o.Seq = i
		}
	}
	if d.h.version > 0 {
		y.held[d.ref] = d.h
	}
	d.wipes()
	return d
}

// row is a new one about the request's name.
func (d *decision) row(kind, outcome string) *Outcome {
	q := d.q
	o := &Outcome{
		Type: outcome, RequestID: q.id, Space: d.ref[0], Key: d.ref[1], LogTime: d.logTime, PolicyVersion: d.p.Version,
		RequestHash: q.hash, Partition: d.partition, LogEpoch: q.record.epoch(), Offset: q.record.Offset,
	}
	row := Decision{Kind: kind, RequestID: q.id, Outcome: o}
	if kind == KindOutcome {
		o.Request = q.short()
		if q.signed && !q.malformed && q.kind != typeVote && !q.invalid(&d.laws) { // else nobody knows who it was
			row.Actor, row.Why = q.actor, q.reason
		}
	}
	d.rows = append(d.rows, row)
	return o
}

// reject is an outcome that says no, and nothing about the holder.
func (d *decision) reject(reason string) *Outcome {
	o := d.row(KindOutcome, "Rejected")
	o.Reason = reason
	switch {
	case d.q.kind == typeClaim || d.q.kind == typeSignup || d.q.malformed:
		o.ClaimID = d.q.id
	default:
		o.ClaimID = d.q.claimID
	}
	if reason != "malformed" && d.q.kind != typeErase {
		o.Name, o.Owner = d.q.told(), d.q.owner
	}
	if reason == "version_conflict" {
		o.CurrentVersion = d.h.version
	}
	return o
}

// change is an outcome or a fact that raises the version and says what the name is in then.
func (d *decision) change(kind, outcome, state string) *Outcome {
	o := d.row(kind, outcome)
	d.h.version++
	d.h.state, d.h.since, d.h.policyVersion = state, d.logTime, d.p.Version
	o.ClaimID, o.Name, o.Owner = d.h.claimID, d.h.name, d.h.owner
	o.State, o.Version = state, d.h.version
	if state == "reserved" || state == "cooling" {
		o.ExpiresAt = d.h.expires
	}
	return o
}

// free is a change after which nobody has the name any more.
func (d *decision) free(kind, outcome string) {
	d.change(kind, outcome, "free")
	d.leave()
}

// leave wipes what only a holder has.
func (d *decision) leave() {
	d.h.name, d.h.owner, d.h.settled, d.h.replaces, d.h.replacesVersion = "", "", false, "", 0
	d.h.signup, d.h.ballot = "", ""
	if d.h.state != "cooling" {
		d.h.claimID, d.h.expires = "", time.Time{}
	}
}

// hold makes the request's subject the holder, by the request itself.
func (d *decision) hold(owner, name string) {
	d.h = holding{
		name: name, owner: owner, claimID: d.q.id, version: d.h.version, state: d.h.state,
		policyVersion: d.h.policyVersion, since: d.h.since, claimed: d.logTime,
	}
}
