package processor

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Rules are what a decision depends on besides the log and the record. A process has those that hold at the start of every
// log; what a log says changes them from there on: see Under.
type Rules struct {
	// Partitions is the pinned count of the routing contract.
	Partitions int
	Policies   names.Policies
	// Keys are what privileged requests may be signed with: at the start, all that the process has.
	Keys claims.Keys
	// SignedOnly refuses every request that is not signed, not only the privileged ones.
	SignedOnly bool
	// Eraser has the secret that erased names and owners are kept under; nil for none.
	Eraser *names.Eraser
}

// Received is one record as the decision sees it: read, with the name it is about and the place where it belongs.
type Received struct {
	Message
	Request claims.Request
	// Ref is the name the record is about: computed from its content where that can be done, else its own key.
	Ref    names.Ref
	Policy *names.Policy // of the space; nil for an unknown one and for a record that cannot be read
	Hash   claims.Hash

	signed     bool  // checked where it matters only
	toSign     bool  // it counts only with a signature
	own        bool  // dibs asks it itself
	ofKey      bool  // and of the key, not of one of the names that look alike
	named      bool  // Ref was computed
	err        error // of reading: *claims.MalformedError or *claims.UnanswerableError
	nameErr    error // of the policy: why nobody could ask for the name
	activation *claims.PolicyActivated
}

// Receive reads a record. It is pure.
func Receive(m Message, rules Rules) Received {
	r := Received{Message: m}
	r.Request, r.err = claims.Read(m.Record)
	if unanswerable(r.err) {
		return r
	}
	r.own = claims.OwnID(r.Request.ID)
	if body := r.Request.Body; r.own || body != nil && (rules.SignedOnly || body.Privileged()) {
		r.toSign, r.signed = true, rules.Keys.Signed(m.Record)
	}
	if r.own && (!r.signed || r.Request.Principal != claims.Principal) {
		r.err = &claims.UnanswerableError{Detail: "ce_id is of version 8, which is for dibs' own requests, and is not signed as one"}
		return r
	}
	if a, ok := r.Request.Body.(*claims.PolicyActivated); ok {
		r.activation = a
		return r
	}
	if body := r.Request.Body; body != nil && !r.own && claims.KeyOf(body) != "" && namesOnly(body, rules.Policies) {
		r.Request.Body, r.err = nil, claims.ErrNoName
	}
	r.asOfSignup()
	if r.named = r.compute(rules.Policies); !r.named {
		if !usableKey(m.Key) {
			r.err = &claims.UnanswerableError{Detail: "the record's key is empty, too long, or not text, and no other can be computed"}
			return r
		}
		r.Ref = names.ParseRef(string(m.Key))
	}
	body := r.Request.Body
	if body == nil {
		r.Hash = claims.HashUnread(r.Request.Event, m.Record)
		return r
	}
	asked := r.Ref
	if !r.named {
		asked = r.unnamed()
	}
	r.Hash = claims.HashOf(body, asked, r.Request.Principal, rules.Policies)
	return r
}

// MustBeSigned reports whether a request counts only with a signature, where it lies. Any other may have one: the API signs
// all that it publishes.
func (r *Received) MustBeSigned() bool { return r.toSign }

// namesOnly reports whether only dibs itself may ask about a key in place of a name there.
func namesOnly(body claims.Body, policies names.Policies) bool {
	space, _ := body.Name()
	p := policies[space]
	return space == claims.Signup || p != nil && p.Private == nil
}

// unnamed stands for what is asked for where that has no key: it is the name as typed, under the record's own key. NUL
// keeps the two apart, and this hash from that of any name that has a key.
func (r *Received) unnamed() names.Ref {
	space, _ := r.Request.Body.Name()
	return names.Ref{Space: space, Key: names.Key(string(r.Key) + "\x00" + claims.Asked(r.Request.Body))}
}

// repeats reports whether the record asks for what was asked under a hash before. It may have been received under another
// policy then: the space was not known yet, or the length of the name not allowed, or is not any more.
func (r *Received) repeats(h claims.Hash, policies names.Policies) bool {
	if h == r.Hash {
		return true
	}
	body := r.Request.Body
	if body == nil {
		return false
	}
	space, _ := body.Name()
	p := policies[space]
	if p == nil {
		return false // it never was known
	}
	principal := r.Request.Principal
	key, err := p.HeldKey(claims.Asked(body))
	return err == nil && h == claims.HashOf(body, names.Ref{Space: space, Key: key}, principal, policies) ||
		h == claims.HashOf(body, r.unnamed(), principal, policies) || h == claims.HashOf(body, r.unnamed(), principal, nil)
}

// aboutClaim is the id of the claim that the request names; zero for none.
func (r *Received) aboutClaim() uuid.UUID {
	switch b := r.Request.Body.(type) {
	case *claims.ConfirmRequested:
		return b.ClaimID
	case *claims.ExtendRequested:
		return b.ClaimID
	case *claims.WithdrawRequested:
		return b.ClaimID
	}
	if r.Policy == signupPolicy {
		return claims.SignupID(r.Ref)
	}
	return uuid.Nil
}

// erases reports whether the record asks for an erasure.
func (r *Received) erases() bool {
	_, is := r.Request.Body.(*claims.ErasureRequested)
	return is
}

// compute finds the name that a readable record is about, and reports whether it has one. Where the policy would not
// allow it to be claimed, it may be held since an earlier one did: then all but a claim is about that.
func (r *Received) compute(policies names.Policies) bool {
	if r.err != nil {
		return false
	}
	space, name := r.Request.Body.Name()
	if space == claims.Signup && r.computeSignup() {
		return true
	}
	key := claims.KeyOf(r.Request.Body)
	if r.Policy = policies[space]; r.Policy == nil {
		if r.erases() && key != "" { // of what was asked about a space that there never was
			r.Ref = names.Ref{Space: space, Key: key}
			return true
		}
		return false
	}
	_, isClaim := r.Request.Body.(*claims.UsernameClaimed)
	switch {
	case key != "" && r.own && !isClaim:
		r.Ref = names.Ref{Space: space, Key: key}
		return true
	case r.Policy.Private == nil:
	case key == "": // what is private is there for all to read; its key only who has the pepper can tell
		r.nameErr = errNotPrivate
		return false
	default:
		name = string(key)
	}
	if key, r.nameErr = r.Policy.Key(name); r.nameErr != nil {
		if isClaim {
			return false
		}
		var err error
		if key, err = r.Policy.HeldKey(name); err != nil {
			return false
		}
	}
	r.Ref = names.Ref{Space: space, Key: key}
	return true
}

var errNotPrivate = &names.InvalidError{Detail: "is not to be on the topic: this space is private, and a request gives the key of POST /v1/lookups in place of it"}

func unanswerable(err error) bool {
	if err == nil {
		return false // of nearly every record; what follows allocates
	}
	var u *claims.UnanswerableError
	return errors.As(err, &u)
}

// usableKey reports whether an outcome can be published and stored under a record's own key.
func usableKey(key []byte) bool {
	if len(key) == 0 || len(key) > names.MaxKey || !utf8.Valid(key) {
		return false
	}
	for _, c := range key {
		if c == 0 {
			return false
		}
	}
	return true
}

// Ledger is what is known of a partition before a run of its records.
type Ledger struct {
	Partition int32
	LogEpoch  int64
	LogTime   time.Time
	// Rules are those that hold before the first record, and InForce is what the log has made of them. The records are
	// received under the same: see ReceiveAll.
	Rules   Rules
	InForce *InForce
	Known   Known
	// Refused holds the offsets of records that the database cannot store, with its words: they are dead.
	Refused map[int64]string
}

// Decision is what a run of records leaves.
type Decision struct {
	LogTime time.Time
	Rows    []Row
	Changes []Change
	// InForce is what holds from here on, and Activated the policies that led to it; nil where nothing has changed.
	InForce   *InForce
	Activated []*names.Policy
}

// Decide answers a run of records of one partition, in order. It is pure: no clock, no randomness, nothing but its
// arguments, so that a replay of the log gives the same rows, byte for byte.
func Decide(l Ledger, records []Received) Decision {
	d := deciding{
		Ledger:  l,
		rows:    make([]Row, 0, len(records)),
		decided: make(map[uuid.UUID]int, len(records)),
		changed: make(map[names.Ref]int, len(records)),
		marked:  make(map[Mark]struct{}),
	}
	for i := range records {
		d.record(&records[i])
	}
	decision := Decision{LogTime: d.LogTime, Rows: d.rows, Changes: d.changes, Activated: d.activated}
	if len(d.activated) > 0 {
		decision.InForce = d.InForce
	}
	return decision
}

// deciding is a decision under way: the ledger, and over it what the records so far have left.
type deciding struct {
	Ledger
	rows    []Row
	decided map[uuid.UUID]int // index in rows
	changes []Change
	changed map[names.Ref]int // index in changes
	marked  map[Mark]struct{}

	activated []*names.Policy
}

// latest is the last CreateTime that moves log time: a later one cannot be spelt (RFC 3339), and only a topic without
// its bound on producers' clocks has it. A record beyond it is decided at the log time there was.
var latest = time.Date(9999, 12, 31, 23, 59, 59, int(999*time.Millisecond), time.UTC)

// maxForwarded is how large a record may be, uncompressed, to be forwarded. A topic bounds what it takes after
// compression, so there can be records in it that it would refuse from us: one that could not be published would hold
// up all outputs behind it, for ever.
const maxForwarded = 512 << 10

// record answers one record. The checks come in the order of the design, so that two reasons never compete.
func (d *deciding) record(r *Received) {
	if t := r.Time; t.After(d.LogTime) && !t.After(latest) {
		d.LogTime = t
	}
	if why, ok := d.Refused[r.Offset]; ok {
		d.dead(r, "the database refuses it: "+why)
		return
	}
	if unanswerable(r.err) {
		d.dead(r, r.err.Error())
		return
	}
	if r.activation != nil {
		d.activate(r)
		return
	}
	if right := claims.Partition(r.Ref.RecordKey(), d.Rules.Partitions); right != d.Partition {
		switch {
		case r.Request.Rerouted:
			d.dead(r, fmt.Sprintf("belongs on partition %d and was forwarded once before", right))
		case r.Size() > maxForwarded:
			d.dead(r, fmt.Sprintf("belongs on partition %d and is too large to be forwarded", right))
		default:
			d.forward(r)
		}
		return
	}
	if before, ok := d.seen(r.Request.ID); ok {
		// What is unsigned is not what was signed: it is nobody's to have the answer repeated.
		if !r.repeats(before.RequestHash, d.Rules.Policies) || d.unsigned(r) && before.Reason != registrations.NotAllowed {
			d.dead(r, UsedBefore)
			return
		}
		d.rows = append(d.rows, Row{Offset: r.Offset, Kind: KindDuplicate, RequestID: r.Request.ID, Principal: r.Request.Principal, Outcome: before})
		return
	}
	if underWay, same := d.undecided(r); underWay {
		if !same {
			d.dead(r, UsedBefore)
			return
		}
		d.pending(r, 0)
		return
	}
	a := answering{deciding: d, received: r, o: d.outcome(r)}
	a.answer()
	if a.underWay {
		d.pending(r, a.seq)
		return
	}
	if c, ok := r.Request.Body.(*claims.UsernameClaimed); ok && c.Signup != uuid.Nil {
		a.vote(c)
	}
	a.o.Seq = a.seq
	if a.erase == nil && a.held.Hidden() && a.o.Owner == "" { // it says of an erased name that there is one
		a.erase = &Erase{Ref: r.Ref, Whole: true}
	}
	d.decided[a.o.RequestID] = len(d.rows)
	row := Row{Offset: r.Offset, Seq: a.seq, Kind: KindOutcome, RequestID: a.o.RequestID, Principal: r.Request.Principal, Outcome: a.o}
	row.FollowUp, row.Actor, row.Why, row.Erase = a.followUp, a.actor, a.why, a.erase
	d.rows = append(d.rows, row)
}

// activate makes a policy hold from here on, unless one of its version or a higher one does. It is decided where it lies,
// and there is nobody to answer.
func (d *deciding) activate(r *Received) {
	if a := r.activates(d.Rules.Policies); a != nil {
		d.InForce = d.InForce.with(a)
		d.activated = append(d.activated, a.Policy)
		d.Rules.Policies, d.Rules.SignedOnly = d.Rules.Policies.With(a.Policy), a.SignedOnly
	}
	d.rows = append(d.rows, Row{Offset: r.Offset, Kind: KindPolicy, RequestID: r.Request.ID, Principal: r.Request.Principal})
}

// unsigned reports whether a request should be signed, and is not.
func (d *deciding) unsigned(r *Received) bool {
	body := r.Request.Body
	return body != nil && !r.signed && (d.Rules.SignedOnly || body.Privileged())
}

// outcome starts the outcome of a record decided here.
func (d *deciding) outcome(r *Received) registrations.Outcome {
	o := registrations.Outcome{
		RequestID: r.Request.ID, Ref: r.Ref,
		LogTime: d.LogTime, RequestHash: r.Hash, Partition: d.Partition, LogEpoch: d.LogEpoch, Offset: r.Offset,
	}
	if r.Policy != nil {
		o.PolicyVersion = r.Policy.Version
	}
	return o
}

func (d *deciding) dead(r *Received, why string) {
	record := r.Record
	d.rows = append(d.rows, Row{Offset: r.Offset, Kind: KindDead, RequestID: r.Request.ID, Principal: r.Request.Principal, Raw: &record, Detail: why})
}

// pending leaves the row of a sign-up that has no outcome yet.
func (d *deciding) pending(r *Received, seq int) {
	d.rows = append(d.rows, Row{Offset: r.Offset, Seq: seq, Kind: KindPending, RequestID: r.Request.ID, Principal: r.Request.Principal})
}

func (d *deciding) forward(r *Received) {
	record := rerouted(r.Record, r.Ref)
	d.rows = append(d.rows, Row{Offset: r.Offset, Kind: KindForwarded, RequestID: r.Request.ID, Principal: r.Request.Principal, Raw: &record})
}

// seen returns the outcome of a request that this partition decided before.
func (d *deciding) seen(id uuid.UUID) (registrations.Outcome, bool) {
	if i, ok := d.decided[id]; ok {
		return d.rows[i].Outcome, true
	}
	o, ok := d.Known.Outcomes[Request{d.Partition, id}]
	return o, ok
}

// withdrawn reports whether a claim was withdrawn before it came.
func (d *deciding) withdrawn(m Mark) bool {
	if _, ok := d.marked[m]; ok {
		return true
	}
	if len(d.Known.Marks) == 0 {
		return false
	}
	_, ok := d.Known.Marks[m]
	if !ok && d.Rules.Eraser != nil {
		_, ok = d.Known.Marks[Mark{m.Partition, m.Claim, d.Rules.Eraser.Owner(m.Owner)}]
	}
	return ok
}

func (d *deciding) holding(ref names.Ref) registrations.Holding {
	if i, ok := d.changed[ref]; ok {
		return d.changes[i].Holding
	}
	return d.Known.Holdings[ref]
}

// change records a new holding over the version that was read: the first change of a name in this run keeps that.
func (d *deciding) change(ref names.Ref, read int64, next registrations.Holding) {
	if i, ok := d.changed[ref]; ok {
		d.changes[i].Holding = next
		return
	}
	d.changed[ref] = len(d.changes)
	d.changes = append(d.changes, Change{Ref: ref, Version: read, Holding: next})
}
