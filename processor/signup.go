package processor

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// A sign-up takes several names, or none. It is decided once, on the partition of its own key (signup/<id>), by what the
// partitions of the names say: each reserves its name for the sign-up and votes. From then on the name is pledged: nothing but
// the sign-up's decision ends it, no clock and nobody else. So a decision, once taken, can be carried out wherever and
// whenever its requests arrive. (docs/adr/0007.)

// pledgedFor is how long a pledged name waits before its partition votes again, to be told the decision once more. It is not
// needed unless a log was lost.
const pledgedFor = time.Minute

// signupPolicy is that of the space of sign-ups, which is none of names.
var signupPolicy = &names.Policy{Space: claims.Signup, Version: 1}

// Sent is a request of dibs' own that a row leads to. Its id is the row's.
type Sent struct {
	// Request is what is asked, as claims.ShortType has it.
	Request string
	Ref     names.Ref // the name that it is about
	Name    string    // as typed, where it is claimed; in a private space there is none
	Owner   string
	Claim   uuid.UUID // of the name
	Signup  uuid.UUID
	// Reason and Detail are of a vote against.
	Reason registrations.Reason
	Detail string
}

// The requests that a sign-up leads to, as claims.ShortType has them.
var (
	sentClaim    = claims.ShortType(claims.TypeUsernameClaimed)
	sentConfirm  = claims.ShortType(claims.TypeConfirmRequested)
	sentWithdraw = claims.ShortType(claims.TypeWithdrawRequested)
	sentVote     = claims.ShortType(claims.TypeSignupVoted)
)

// Yes reports whether it is a vote for its sign-up.
func (s *Sent) Yes() bool { return s.Request == sentVote && s.Reason == "" }

// Body is the request, and the name that its record is about.
func (s *Sent) Body() (claims.Body, names.Ref) {
	switch s.Request {
	case sentConfirm:
		return &claims.ConfirmRequested{About: claims.AboutKey(s.Ref), ClaimID: s.Claim, Owner: s.Owner}, s.Ref
	case sentWithdraw:
		return &claims.WithdrawRequested{About: claims.AboutKey(s.Ref), ClaimID: s.Claim, Owner: s.Owner}, s.Ref
	case sentVote:
		to := claims.SignupRef(s.Signup)
		return &claims.SignupVoted{
			About: claims.AboutKey(to), ClaimID: s.Claim, Owner: s.Owner, Of: s.Ref, Reason: string(s.Reason), Detail: s.Detail,
		}, to
	}
	c := &claims.UsernameClaimed{Space: s.Ref.Space, Spelling: s.Name, Owner: s.Owner, Mode: claims.ModeReserve, Signup: s.Signup}
	if s.Name == "" { // in a private space
		c.Key = s.Ref.Key
	}
	return c, s.Ref
}

// undecided reports whether a record repeats a sign-up that is under way, and whether it asks for the same. There is no
// answer to it yet.
func (d *deciding) undecided(r *Received) (underWay, same bool) {
	if r.Ref.Space != claims.Signup || r.Ref != claims.SignupRef(r.Request.ID) {
		return false, false
	}
	h := d.holding(r.Ref)
	if h.State != registrations.Reserved {
		return false, false
	}
	b, err := registrations.ReadBallot(h.Ballot)
	return true, err == nil && b.Hash == r.Hash && !d.unsigned(r)
}

// send adds a row that leads to a request of dibs' own.
func (a *answering) send(id uuid.UUID, s Sent) {
	a.rows = append(a.rows, Row{Offset: a.received.Offset, Seq: a.seq, Kind: KindSent, RequestID: id, Sent: &s})
	a.seq++
}

// vote tells a sign-up what became of its claim.
func (a *answering) vote(c *claims.UsernameClaimed) {
	s := Sent{Request: sentVote, Ref: a.o.Ref, Owner: c.Owner, Claim: a.o.RequestID, Signup: c.Signup}
	if a.o.Type == registrations.Rejected {
		s.Reason, s.Detail = a.o.Reason, a.o.FullDetail()
	}
	a.send(claims.SignupVoteID(s.Claim, time.Time{}), s)
}

// pledged is how long a claim of a sign-up holds its name before the partition votes again.
func pledged(p *names.Policy) time.Duration { return min(p.TTL, pledgedFor) }

// promised reports whether a sign-up has the name, and refuses what would come in the way of its decision.
func (a *answering) promised() bool {
	if a.held.Signup == uuid.Nil {
		return false
	}
	a.reject(registrations.WrongState, "the name is promised to a sign-up that is not decided yet")
	return true
}

// voteAgain asks a sign-up for its decision on a name that it has had for long.
func (a *answering) voteAgain(due *claims.ExpiryDue) bool {
	h := a.held
	if h.Signup == uuid.Nil || h.ClaimID != due.ClaimID || a.LogTime.Before(h.ExpiresAt) {
		return false
	}
	a.send(claims.SignupVoteID(h.ClaimID, h.ExpiresAt), Sent{Request: sentVote, Ref: a.o.Ref, Owner: h.Owner, Claim: h.ClaimID, Signup: h.Signup})
	next := h
	next.Version, next.ExpiresAt = h.Version+1, a.after(pledged(a.received.Policy))
	a.o.Owner = h.Owner
	a.keep(registrations.Extended, next)
	return true
}

// signup answers what is asked of a sign-up. One whose time is over is given up first.
func (a *answering) signup(body claims.Body) {
	a.read = a.held.Version
	if err := body.Validate(); err != nil {
		a.reject(registrations.InvalidRequest, err.Error())
		return
	}
	var b registrations.Ballot
	if a.held.Ballot != "" {
		var err error
		if b, err = registrations.ReadBallot(a.held.Ballot); err != nil {
			a.reject(registrations.WrongState, err.Error())
			return
		}
	}
	if a.held.Due(a.LogTime) {
		a.abandon(&b, registrations.DeadlinePassed, "not all of the names have answered in time")
		if !a.received.erases() {
			a.o.Name, a.o.Owner, a.o.Type = "", "", registrations.Unchanged // of a vote too: it is answered by that
			return
		}
	}
	switch q := body.(type) {
	case *claims.SignupRequested:
		a.begin(q)
	case *claims.SignupVoted:
		a.count(q, &b)
	case *claims.ErasureRequested:
		if a.held.State == registrations.Reserved && a.held.Owner == q.Owner {
			a.reject(registrations.WrongState, "the sign-up is not decided yet") // it is asked for again until nothing is left
			return
		}
		a.wipe(q)
	default:
		a.o.Name, a.o.Owner, a.o.Type = "", "", registrations.Unchanged
	}
}

// begin asks for each of the names.
func (a *answering) begin(q *claims.SignupRequested) {
	switch {
	case a.held.Version == 0:
	case a.held.Ballot == "":
		a.reject(registrations.ClaimWithdrawn, "the sign-up was given up before it came; use a new id or Idempotency-Key")
		return
	default:
		a.reject(registrations.WrongState, "the sign-up is decided already")
		return
	}
	b := registrations.Ballot{Hash: a.o.RequestHash, Principal: a.received.Request.Principal}
	for i := range q.Names {
		n, p := &q.Names[i], a.Rules.Policies[q.Names[i].Space]
		refuse := func(why registrations.Reason, detail string) { a.reject(why, fmt.Sprintf("names[%d]: %s", i, detail)) }
		if p == nil {
			refuse(registrations.UnknownSpace, "there is no such space")
			return
		}
		asked, private := n.Spelling, p.Private != nil
		if private {
			asked = string(n.Key)
		}
		key, err := p.Key(asked)
		switch {
		case private && n.Key == "":
			refuse(registrations.InvalidName, "the name "+errNotPrivate.Error())
			return
		case !private && n.Key != "":
			refuse(registrations.InvalidRequest, "this space's names are not given by their keys")
			return
		case err != nil:
			refuse(registrations.InvalidName, "the name "+err.Error())
			return
		case p.IsReserved(key):
			refuse(registrations.ReservedWord, "the name is reserved")
			return
		}
		c := registrations.Candidate{Ref: names.Ref{Space: n.Space, Key: key}, Name: n.Spelling}
		for k := range b.Names {
			if b.Names[k].Ref == c.Ref {
				refuse(registrations.InvalidRequest, fmt.Sprintf("is the same as names[%d]", k))
				return
			}
		}
		b.Names = append(b.Names, c)
	}
	id := a.o.RequestID
	a.write(registrations.Holding{
		State: registrations.Reserved, Name: a.o.Name, Owner: q.Owner, ClaimID: id, Version: 1, PolicyVersion: a.received.Policy.Version,
		ExpiresAt: a.after(q.TTL()), Ballot: b.Text(),
	})
	a.note(registrations.Begun, a.held)
	for i := range b.Names {
		c := &b.Names[i]
		claim := claims.SignupClaimID(id, c.Ref)
		a.send(claim, Sent{Request: sentClaim, Ref: c.Ref, Name: c.Name, Owner: q.Owner, Claim: claim, Signup: id})
	}
	a.underWay = true
}

// note adds the fact of what became of a sign-up on its way. It keeps the ballot: from the rows alone one can tell how it
// went.
func (a *answering) note(what registrations.Type, was registrations.Holding) {
	a.fact(what, was, was.Owner)
	a.rows[len(a.rows)-1].Outcome.Detail = a.held.Ballot
}

// count takes a vote in. It decides the sign-up where it is against it, or the last one for it. A vote for one that is
// decided already is answered with the decision: whoever votes holds a name for it.
func (a *answering) count(v *claims.SignupVoted, b *registrations.Ballot) {
	yes := v.Reason == ""
	id := claims.SignupID(a.received.Ref)
	i := b.Find(id, v.ClaimID)
	a.o.Name, a.o.Owner, a.o.Type = "", "", registrations.Unchanged
	switch {
	case a.held.Version == 0:
		if yes { // what asked for the name was lost with its log: it must not come any more
			a.write(registrations.Holding{State: registrations.Free, Version: 1, PolicyVersion: a.received.Policy.Version})
			a.tell(registrations.Abandoned)
			a.carry(sentWithdraw, id, v.Of, v.Owner, v.ClaimID)
		}
	case a.held.State == registrations.Registered && i >= 0 && yes:
		a.carry(sentConfirm, id, v.Of, v.Owner, v.ClaimID)
	case a.held.State != registrations.Reserved || i < 0:
		if yes {
			a.carry(sentWithdraw, id, v.Of, v.Owner, v.ClaimID)
		}
	case !yes:
		b.Names[i].Vote = v.Reason
		a.abandon(b, registrations.Reason(v.Reason), b.Names[i].Ref.String()+": "+v.Detail)
	case b.Names[i].Vote == "":
		b.Names[i].Vote = registrations.VoteYes
		if b.Complete() {
			a.register(b)
			return
		}
		next := a.held
		next.Version, next.Ballot = next.Version+1, b.Text()
		a.o.Owner = next.Owner
		a.keep(registrations.Voted, next)
		a.o.Detail = next.Ballot
	}
}

// carry sends a decision to the partition of a name.
func (a *answering) carry(what string, signup uuid.UUID, of names.Ref, owner string, claim uuid.UUID) {
	id := claims.SignupWithdrawID(claim)
	if what == sentConfirm {
		id = claims.SignupConfirmID(claim)
	}
	a.send(id, Sent{Request: what, Ref: of, Owner: owner, Claim: claim, Signup: signup})
}

// register decides that the sign-up gets its names: all of them are pledged to it.
func (a *answering) register(b *registrations.Ballot) {
	was := a.held
	next := was
	next.State, next.Version, next.ExpiresAt, next.Ballot = registrations.Registered, was.Version+1, time.Time{}, b.Text()
	a.write(next)
	for i := range b.Names {
		of := b.Names[i].Ref
		a.carry(sentConfirm, was.ClaimID, of, was.Owner, claims.SignupClaimID(was.ClaimID, of))
	}
	o := a.verdict(&was, b)
	o.Type, o.State, o.Version = registrations.Accepted, next.State, next.Version
	a.pronounce(o, b)
}

// abandon decides that it gets none. A name that voted against it has nothing to give up; one that has not voted yet may be
// on its way to be claimed.
func (a *answering) abandon(b *registrations.Ballot, why registrations.Reason, detail string) {
	was := a.held
	next := freed(was)
	next.Ballot = b.Text()
	a.write(next)
	a.note(registrations.Abandoned, was)
	for i := range b.Names {
		if c := &b.Names[i]; c.Vote == "" || c.Vote == registrations.VoteYes {
			a.carry(sentWithdraw, was.ClaimID, c.Ref, was.Owner, claims.SignupClaimID(was.ClaimID, c.Ref))
		}
	}
	o := a.verdict(&was, b)
	o.Type, o.Reason, o.Detail = registrations.Rejected, why, detail
	a.pronounce(o, b)
}

// verdict starts the outcome of a sign-up: it is of the request that began it, and of the record that decided it.
func (a *answering) verdict(was *registrations.Holding, b *registrations.Ballot) registrations.Outcome {
	o := a.outcome(a.received)
	o.RequestID, o.ClaimID, o.RequestHash = was.ClaimID, was.ClaimID, b.Hash
	o.Request, o.Name, o.Owner = claims.ShortType(claims.TypeSignupRequested), was.Name, was.Owner
	return o
}

// pronounce adds the row of a sign-up's outcome. Where its id was used for another request in this partition meanwhile, that
// one has the id's outcome, and this is a fact.
func (a *answering) pronounce(o registrations.Outcome, b *registrations.Ballot) {
	o.Seq = a.seq
	row := Row{Offset: a.received.Offset, Seq: a.seq, Kind: KindOutcome, RequestID: o.RequestID, Principal: b.Principal}
	if _, used := a.seen(o.RequestID); used {
		row.Kind, o.Fact = KindFact, true
	} else {
		a.decided[o.RequestID] = len(a.rows)
	}
	row.Outcome = o
	a.rows = append(a.rows, row)
	a.seq++
}

// asOfSignup makes of a record what it can be: only dibs claims for sign-ups, and a sign-up is named by its request's id.
func (r *Received) asOfSignup() {
	wrong := func(name bool) {
		if name {
			r.Request.Body, r.err = nil, &claims.MalformedError{Field: "name", Detail: "must be the ce_id, in the space " + string(claims.Signup)}
		}
	}
	r.ofKey = r.own
	switch b := r.Request.Body.(type) {
	case *claims.UsernameClaimed:
		r.ofKey = false
		if !r.own {
			b.Signup = uuid.Nil
		}
	case *claims.SignupRequested:
		wrong(b.Space != claims.Signup || b.Spelling != r.Request.ID.String())
	case *claims.SignupVoted:
		wrong(b.Space != claims.Signup)
	}
}

// computeSignup finds the sign-up that a readable record is about, and reports whether it is about one.
func (r *Received) computeSignup() bool {
	switch r.Request.Body.(type) {
	case *claims.SignupRequested, *claims.SignupVoted, *claims.ExpiryDue, *claims.ErasureRequested:
	default:
		return false
	}
	key := claims.KeyOf(r.Request.Body)
	if key == "" {
		_, name := r.Request.Body.Name()
		key = names.Key(name)
	}
	ref := names.Ref{Space: claims.Signup, Key: key}
	if claims.SignupID(ref) == uuid.Nil {
		return false
	}
	r.Ref, r.Policy = ref, signupPolicy
	return true
}
