package checker

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// The requests of a sign-up: of several names at once, all or none.
const (
	typeSignup = "SignupRequested"
	typeVote   = "SignupVoted"
)

// spaceSignup is where sign-ups are decided, each under its id. It has no policy.
const spaceSignup = "signup"

var lawOfSignups = Policy{Space: spaceSignup, Version: 1}

// wanted is one of the names of a sign-up, as asked for: by name, or by key.
type wanted struct{ space, name, key string }

// ballot is a sign-up under way, or decided.
type ballot struct {
	id, owner, principal, hash string
	open                       bool
	names                      []wanted // with keys
	votes                      []string // "yes", a reason, or nothing yet
}

// Sent is a request that a decision leads to, to be published under the row's RequestID.
type Sent struct {
	Request    string // empty for a claim
	Space, Key string // of the name that it is about
	Name       string
	Owner      string
	ClaimID    string
	Signup     string
	Reason     string
}

// silent reports whether nobody is told such an outcome.
func silent(outcome string) bool {
	return outcome == unpublished || outcome == "Begun" || outcome == "Voted" || outcome == "Abandoned"
}

// later fields came with the sign-ups: to all other requests they are unknown.
func later(field string) bool {
	return field == "names" || field == "of" || field == "detail" || field == "signup"
}

// laterField reads one of them.
func (q *request) laterField(name string, v value) bool {
	switch {
	case q.kind == typeSignup && name == "names":
		q.names = []wanted{}
		for _, e := range v.elements {
			var w wanted
			for _, m := range e.members {
				if m.value.kind == 'n' {
					continue
				}
				for field, into := range map[string]*string{"space": &w.space, "name": &w.name, "key": &w.key} {
					if m.name == field {
						ok := false
						if *into, ok = m.value.str(); !ok {
							return false
						}
					}
				}
			}
			if e.kind != '{' || w.space == "" || (w.name == "") == (w.key == "") {
				return false
			}
			q.names = append(q.names, w)
		}
		return v.kind == '['
	case q.kind == typeVote && name == "of":
		for _, m := range v.members {
			ok := true
			switch m.name {
			case "space":
				q.of[0], ok = m.value.str()
			case "key":
				q.of[1], ok = m.value.str()
			}
			if !ok && m.value.kind != 'n' {
				return false
			}
		}
		return v.kind == '{' && q.of[0] != "" && q.of[1] != ""
	case q.kind == typeVote && name == "detail":
		ok := false
		q.detail, ok = v.str()
		return ok
	case q.kind == typeClaim && name == "signup":
		if id, ok := uuidOf(v.text); ok && v.kind == '"' {
			q.signup = id
		}
	}
	return true
}

// ofSignup reports whether a request is about a sign-up.
func (q *request) ofSignup() bool {
	if q.kind == typeErase {
		id, ok := uuidOf(q.subject())
		return q.space == spaceSignup && ok && id == q.subject()
	}
	return q.space == spaceSignup && (q.kind == typeSignup || q.kind == typeVote || q.kind == typeExpiry)
}

// signupFits reports whether a record may say what it says of sign-ups.
func (q *request) signupFits() bool {
	if q.id[14] != '8' {
		q.signup = ""
	}
	return q.kind != typeVote && q.kind != typeSignup || q.space == spaceSignup && (q.kind == typeVote || q.name == q.id)
}

func (q *request) hashSignup(asked map[string]string) {
	object := func(w wanted) string {
		m := map[string]string{"space": quoted(w.space)}
		if w.key != "" {
			m["key"] = quoted(w.key)
		} else {
			m["name"] = quoted(w.name)
		}
		return string(canonicalObject(nil, m))
	}
	if q.names != nil {
		var all []string
		for _, w := range q.names {
			all = append(all, object(w))
		}
		asked["names"] = "[" + strings.Join(all, ",") + "]"
	}
	if q.of[1] != "" {
		asked["of"] = object(wanted{space: q.of[0], key: q.of[1]})
	}
	if q.detail != "" {
		asked["detail"] = quoted(q.detail)
	}
	if q.signup != "" {
		asked["signup"] = quoted(q.signup)
	}
}

// The ids of what a sign-up leads to.
func signupClaimID(signup string, w wanted) string {
	return derived("signup-claim", signup, []byte(w.space+"/"+w.key))
}
func signupConfirmID(claim string) string  { return derived("signup-confirm", claim, nil) }
func signupWithdrawID(claim string) string { return derived("signup-withdraw", claim, nil) }

func signupVoteID(claim string, until time.Time) string {
	if until.IsZero() {
		return derived("signup-vote", claim, nil)
	}
	return derived("signup-vote", claim, binary.BigEndian.AppendUint64(nil, uint64(until.UnixMilli())))
}

// send adds a row that leads to a request.
func (d *decision) send(id string, s Sent) {
	d.rows = append(d.rows, Decision{Kind: KindSent, RequestID: id, Sent: &s})
}

// promised reports whether a sign-up has the name, whose decision nobody may forestall.
func (d *decision) promised() bool { return d.h.signup != "" }

// promiseFor is how long a sign-up has a name before it is asked again.
func (d *decision) promiseFor() time.Duration { return min(d.p.TTL, time.Minute) }

// vote puts what becomes of a sign-up's claim before its outcome.
func (d *decision) vote() {
	if d.q.kind != typeClaim || d.q.signup == "" || len(d.rows) == 0 {
		return
	}
	last := d.rows[len(d.rows)-1]
	d.rows = d.rows[:len(d.rows)-1]
	d.send(signupVoteID(d.q.id, time.Time{}), Sent{
		Request: typeVote, Space: d.ref[0], Key: d.ref[1], Owner: d.q.owner, ClaimID: d.q.id, Signup: d.q.signup, Reason: last.Outcome.Reason,
	})
	d.rows = append(d.rows, last)
}

// ask has the partition of a promised name vote again.
func (d *decision) ask() bool {
	if !d.promised() || d.h.claimID != d.q.claimID || d.logTime.Before(d.h.expires) {
		return false
	}
	d.send(signupVoteID(d.h.claimID, d.h.expires), Sent{
		Request: typeVote, Space: d.ref[0], Key: d.ref[1], Owner: d.h.owner, ClaimID: d.h.claimID, Signup: d.h.signup,
	})
	d.h.expires = d.logTime.Add(d.promiseFor())
	d.change(KindOutcome, "Extended", "reserved")
	return true
}

// nothing is the outcome of what changes nothing about a sign-up, or of what is told elsewhere.
func (d *decision) nothing() { d.row(KindOutcome, unpublished).ClaimID = d.q.claimID }

// signup decides what is asked of one.
func (d *decision) signup() {
	q := d.q
	b := d.ballots[d.ref[1]]
	switch {
	case q.kind != typeExpiry && !printable(q.owner), q.kind == typeSignup && (len(q.names) < 1 || len(q.names) > 8),
		q.kind == typeSignup && q.ttl != nil && (*q.ttl < 1 || *q.ttl > 3600):
		d.reject("invalid_request")
	case b != nil && b.open && !d.logTime.Before(d.h.expires):
		if d.giveUp(b, "deadline_passed"); q.kind == typeErase {
			d.eraseSignup()
			return
		}
		d.nothing()
	case q.kind == typeErase:
		d.eraseSignup()
	case q.kind == typeSignup:
		d.begin()
	case q.kind == typeVote:
		d.count(b)
	default:
		d.nothing()
	}
}

// eraseSignup forgets who asked for what; while it is not decided, it does not.
func (d *decision) eraseSignup() {
	if d.h.state == "reserved" && d.h.owner == d.q.owner {
		d.reject("wrong_state")
		return
	}
	if d.erase(); d.h.erased {
		delete(d.ballots, d.ref[1])
	}
}

func (d *decision) begin() {
	q := d.q
	if d.h.version > 0 {
		if d.h.ballot == "" {
			d.reject("withdrawn")
		} else {
			d.reject("wrong_state")
		}
		return
	}
	b := &ballot{id: q.id, owner: q.owner, principal: q.principal, hash: q.hash, open: true}
	for _, w := range q.names {
		p, known := d.laws.policies[w.space]
		form, valid := d.laws.canonical(w.space, w.name+w.key)
		var why string
		switch {
		case !known:
			why = "unknown_space"
		case !p.Private() && w.key != "":
			why = "invalid_request"
		case !valid, p.Private() && w.key == "":
			why = "invalid_name"
		case p.isReserved(&d.laws, form.Key):
			why = "reserved_word"
		}
		w.key = form.Key
		if why == "" && slices.ContainsFunc(b.names, func(o wanted) bool { return o.space == w.space && o.key == w.key }) {
			why = "invalid_request"
		}
		if why != "" {
			d.reject(why)
			return
		}
		b.names, b.votes = append(b.names, w), append(b.votes, "")
	}
	d.ballots[d.ref[1]] = b
	ttl := time.Minute
	if q.ttl != nil {
		ttl = time.Duration(*q.ttl) * time.Second
	}
	d.hold(q.owner, q.name)
	d.h.expires, d.h.ballot = d.logTime.Add(ttl), b.text()
	d.change(KindFact, "Begun", "reserved")
	for _, w := range b.names {
		id := signupClaimID(b.id, w)
		d.send(id, Sent{Space: w.space, Key: w.key, Name: w.name, Owner: b.owner, ClaimID: id, Signup: b.id})
	}
	d.rows = append(d.rows, Decision{Kind: KindPending, RequestID: q.id})
}

func (d *decision) carry(b *ballot, w wanted, owner, claim string) {
	s := Sent{Request: typeWithdraw, Space: w.space, Key: w.key, Owner: owner, ClaimID: claim, Signup: d.ref[1]}
	id := signupWithdrawID(claim)
	if b != nil && d.h.state == "registered" {
		s.Request, id = typeConfirm, signupConfirmID(claim)
	}
	d.send(id, s)
}

func (d *decision) count(b *ballot) {
	q := d.q
	i := -1
	if b != nil {
		i = slices.IndexFunc(b.names, func(w wanted) bool { return signupClaimID(b.id, w) == q.claimID })
	}
	yes, of := q.reason == "", wanted{space: q.of[0], key: q.of[1]}
	switch {
	case b == nil && d.h.version == 0 && yes: // what asked for the name is lost: it must not come any more
		d.change(KindOutcome, "Abandoned", "free")
		last := d.rows[len(d.rows)-1]
		d.rows = d.rows[:len(d.rows)-1]
		d.carry(nil, of, q.owner, q.claimID)
		d.rows = append(d.rows, last)
		return
	case b == nil || !b.open || i < 0:
		if known := b; yes {
			if i < 0 {
				known = nil
			}
			d.carry(known, of, q.owner, q.claimID)
		}
	case !yes:
		b.votes[i] = q.reason
		d.giveUp(b, q.reason)
	case b.votes[i] == "":
		b.votes[i] = "yes"
		d.h.ballot = b.text()
		if slices.ContainsFunc(b.votes, func(v string) bool { return v != "yes" }) {
			d.change(KindOutcome, "Voted", "reserved")
			return
		}
		d.h.version++
		d.h.state, d.h.since, d.h.expires = "registered", d.logTime, time.Time{}
		for _, w := range b.names {
			d.carry(b, w, b.owner, signupClaimID(b.id, w))
		}
		o := d.verdict(b, "Accepted")
		o.State, o.Version = "registered", d.h.version
	}
	d.nothing()
}

func (d *decision) giveUp(b *ballot, why string) {
	d.free(KindFact, "Abandoned")
	d.h.ballot = b.text()
	for i, w := range b.names {
		if v := b.votes[i]; v == "" || v == "yes" {
			d.carry(nil, w, b.owner, signupClaimID(b.id, w))
		}
	}
	d.verdict(b, "Rejected").Reason = why
}

// verdict is the outcome of the request that began the sign-up: or a fact, where its id has another one.
func (d *decision) verdict(b *ballot, outcome string) *Outcome {
	kind := KindOutcome
	if _, used := d.seen[b.id]; used {
		kind = KindFact
	}
	o := d.row(kind, outcome)
	row := &d.rows[len(d.rows)-1]
	row.RequestID, row.Principal, row.Actor, row.Why = b.id, b.principal, "", ""
	o.RequestID, o.ClaimID, o.Request, o.RequestHash, o.Name, o.Owner = b.id, b.id, typeSignup, b.hash, b.id, b.owner
	if b.open = false; kind == KindOutcome {
		d.seen[b.id] = seen{b.hash, o}
	}
	return o
}

// text is how a ballot is kept.
func (b *ballot) text() string {
	type name struct {
		Space string `json:"space"`
		Key   string `json:"key"`
		Name  string `json:"name"`
		Vote  string `json:"vote,omitempty"`
	}
	kept := struct {
		Hash      string `json:"hash"`
		Principal string `json:"principal,omitempty"`
		Names     []name `json:"names"`
	}{Hash: b.hash, Principal: b.principal}
	for i, w := range b.names {
		kept.Names = append(kept.Names, name{w.space, w.key, w.name, b.votes[i]})
	}
	text, _ := json.Marshal(kept) // of strings
	return string(text)
}

// signups: what a sign-up leads to is asked for on claims, by dibs, and nothing else is asked so; and where no log was lost, it
// gets all of its names or none, in the end.
func (j *judge) signups() {
	owed := make(map[string][]*Decision)
	confirmed := make(map[string]bool)
	asks := make(map[string][]*Sent) // by sign-up
	verdict := make(map[string]string)
	for i := range j.Decisions {
		d := &j.Decisions[i]
		if d.Kind == KindSent && d.Sent != nil {
			if owed[d.RequestID] = append(owed[d.RequestID], d); d.Sent.Request == "" {
				asks[d.Sent.Signup] = append(asks[d.Sent.Signup], d.Sent)
			}
		}
		if d.Kind == KindOutcome && d.Outcome != nil && d.Outcome.Type == "Confirmed" {
			confirmed[d.Outcome.ClaimID] = true
		}
		if o := d.Outcome; o != nil && o.Request == typeSignup && o.Space == spaceSignup && (o.Type == "Accepted" || o.State == "" && o.Type == "Rejected") {
			if verdict[o.Key] != "Accepted" { // what is asked again about one that is decided is rejected
				verdict[o.Key] = o.Type
			}
		}
	}
	there := make(map[string]bool)
	for i := range j.Claims {
		j.ofSignup(&j.Claims[i], owed, there)
	}
	if j.Running {
		return
	}
	cut := j.cut()
	for p := range j.progress {
		cut = cut || !j.whole(p)
	}
	if cut {
		return
	}
	for id, rows := range owed {
		if !there[id] {
			j.broken(4, "the %s of %s/%s that the decision at %s leads to was never published", rows[0].Sent.Request, rows[0].Sent.Space, rows[0].Sent.Key, rows[0].place())
		}
	}
	holds := make(map[string]bool)
	for i := range j.Names {
		n := &j.Names[i]
		if n.State != "free" && n.State != "cooling" {
			holds[n.ClaimID] = true
		}
		if n.Signup != "" {
			j.broken(1, "%s/%s is left promised to the sign-up %s", n.Space, n.Key, n.Signup)
		}
	}
	for i := range j.Names {
		if n := &j.Names[i]; n.Space == spaceSignup && n.State == "reserved" {
			j.broken(1, "the sign-up %s is not decided", n.Key)
		}
	}
	for id, names := range asks {
		all := verdict[id] == "Accepted"
		for _, name := range names {
			if claim := name.ClaimID; all && !confirmed[claim] || !all && (confirmed[claim] || holds[claim]) {
				j.broken(1, "the sign-up %s is %s, and the claim of %s/%s is confirmed: %t, holds it: %t", id, verdict[id], name.Space, name.Key, confirmed[claim], holds[claim])
			}
		}
	}
}

// ofSignup checks a record of claims that may be what a sign-up leads to.
func (j *judge) ofSignup(r *Record, owed map[string][]*Decision, there map[string]bool) {
	text, _ := r.header("ce_id")
	kind, _ := r.header("ce_type")
	principal, _ := r.header("ce_dibsprincipal")
	kind, _ = strings.CutPrefix(strings.TrimSuffix(kind, ".v1"), "dibs.")
	id, ok := uuidOf(text)
	if !ok || id[14] != '8' || principal != ownPrincipal || !signed(r, j.Secrets) || !slices.Contains([]string{typeClaim, typeConfirm, typeWithdraw, typeVote}, kind) {
		return
	}
	at := place{r.Partition, r.epoch(), r.Offset}
	if len(owed[id]) == 0 {
		if !j.Running && !j.cut() {
			j.broken(4, "dibs asks at %s for a %s of %s, which no decision leads to (inv 7)", at, kind, r.Key)
		}
		return
	}
	there[id] = true
	s := owed[id][0].Sent
	q := request{kind: kind}
	q.id = id
	fits := q.value(r.Value)
	key := s.Space + "/" + s.Key
	switch s.Request {
	case typeVote:
		fits = fits && q.of == [2]string{s.Space, s.Key} && q.claimID == s.ClaimID && q.reason == s.Reason
		key = spaceSignup + "/" + s.Signup
	case "":
		given := q.name == s.Name
		if s.Name == "" { // in a private space
			given = q.byKey && q.key == s.Key
		}
		fits = fits && given && q.mode == "reserve" && q.signup == s.Signup
		kind = ""
	default:
		fits = fits && q.claimID == s.ClaimID
	}
	if !fits || kind != s.Request || q.owner != s.Owner || string(r.Key) != key || r.Partition != partitionOf(key, j.Partitions) {
		j.broken(4, "the request at %s is %q of %q, the decision at %s leads to %+v", at, r.Value, r.Key, owed[id][0].place(), *s)
	}
}
