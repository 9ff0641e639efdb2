package processor

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// answering is the answer to one request that is decided here, under way.
type answering struct {
	*deciding
	received *Received
	o        registrations.Outcome
	seq      int // rows that this record has left so far

	held     registrations.Holding // of the name, as of now
	read     int64                 // the version before this record
	expired  registrations.Holding // the reservation or cool-down that was found to be over
	followUp *FollowUp
	erase    *Erase
	underWay bool // it is a sign-up, from here on
	actor    string
	why      string
}

// answer decides. The checks come in the order of the design, so that two reasons never compete.
func (a *answering) answer() {
	r := a.received
	body := r.Request.Body
	if body == nil {
		a.o.ClaimID = r.Request.ID
		a.reject(registrations.Malformed, r.err.Error())
		return
	}
	a.repeat(body)
	switch until := body.Until(); {
	case a.unsigned(r):
		a.reject(registrations.NotAllowed, "")
		return
	case r.Policy == nil && (!r.named || !r.erases()):
		a.reject(registrations.UnknownSpace, "")
		return
	case !until.IsZero() && a.LogTime.After(until):
		a.reject(registrations.DeadlinePassed, "")
		return
	}
	claim, isClaim := body.(*claims.UsernameClaimed)
	if isClaim && a.withdrawn(Mark{a.Partition, r.Request.ID, claim.Owner}) {
		a.reject(registrations.ClaimWithdrawn, "")
		return
	}
	a.held = a.holding(r.Ref)
	if r.Policy == signupPolicy {
		a.signup(body)
		return
	}
	if r.nameErr != nil && (!r.named || a.held.Version == 0 || a.onlyAlike() || a.spells(body)) { // else it was a name once, and may be somebody's
		a.reject(registrations.InvalidName, "the name "+r.nameErr.Error())
		return
	}
	a.read = a.held.Version
	a.expire(body)
	if err := body.Validate(); err != nil {
		a.reject(registrations.InvalidRequest, err.Error())
		return
	}
	if isClaim {
		a.claim(claim)
		return
	}
	if a.onlyAlike() {
		a.spare(body)
		return
	}
	a.decide(body)
}

// repeat copies into the outcome what the request says of its subject.
func (a *answering) repeat(body claims.Body) {
	a.o.Request = claims.ShortType(body.Type())
	if p := a.received.Policy; p == nil || p.Private == nil { // else it is a mistake of its producer, and not repeated
		_, a.o.Name = body.Name()
	}
	owner := ""
	switch b := body.(type) {
	case *claims.UsernameClaimed:
		a.o.ClaimID, owner = a.received.Request.ID, b.Owner
	case *claims.ConfirmRequested:
		a.o.ClaimID, owner = b.ClaimID, b.Owner
	case *claims.ExtendRequested:
		a.o.ClaimID, owner = b.ClaimID, b.Owner
	case *claims.WithdrawRequested:
		a.o.ClaimID, owner = b.ClaimID, b.Owner
	case *claims.ReleaseRequested:
		owner = b.Owner
		a.by(b, b.Actor, b.Reason)
	case *claims.DeactivateRequested:
		owner = b.Owner
	case *claims.ReactivateRequested:
		owner = b.Owner
	case *claims.TransferRequested:
		owner = b.Owner
		a.by(b, b.Actor, b.Reason)
	case *claims.BlockRequested:
		a.by(b, b.Actor, b.Reason)
	case *claims.UnblockRequested:
		a.by(b, b.Actor, b.Reason)
	case *claims.ErasureRequested: // whom it is about is not repeated
		a.o.Name = ""
		a.by(b, b.Actor, b.Reason)
	case *claims.ExpiryDue:
		a.o.ClaimID = b.ClaimID
	case *claims.SignupRequested:
		a.o.ClaimID, owner = a.received.Request.ID, b.Owner
	case *claims.SignupVoted:
		a.o.ClaimID, owner = b.ClaimID, b.Owner
	}
	if claims.ValidOwner(owner) == nil { // else it is not repeated: it may be anything, of any length
		a.o.Owner = owner
	}
}

// by notes who asks, where that is known to be true and fit to be kept.
func (a *answering) by(body claims.Body, actor, why string) {
	if a.received.signed && body.Validate() == nil {
		a.actor, a.why = actor, why
	}
}

// decide is what each request beside a claim does to a name that is as it should be by now.
func (a *answering) decide(body claims.Body) {
	if a.blocked(body) {
		return
	}
	switch b := body.(type) {
	case *claims.ConfirmRequested:
		a.confirm(b)
	case *claims.ExtendRequested:
		a.extend(b)
	case *claims.WithdrawRequested:
		a.withdraw(b)
	case *claims.ReleaseRequested:
		if a.mayChange(b.Type(), b.Owner, b.Actor != "", b.ExpectedVersion) {
			a.leave(registrations.Released, a.given(a.held, a.received.Policy))
		}
	case *claims.DeactivateRequested:
		if a.mayChange(b.Type(), b.Owner, byOwner, b.ExpectedVersion) {
			a.deactivate()
		}
	case *claims.ReactivateRequested:
		a.reactivate(b)
	case *claims.TransferRequested:
		a.transfer(b)
	case *claims.BlockRequested:
		if !a.promised() {
			a.block()
		}
	case *claims.UnblockRequested:
		if a.mayChange(b.Type(), "", byActor, nil) {
			a.o.Name = ""
			a.leave(registrations.Unblocked, freed(a.held))
		}
	case *claims.ErasureRequested:
		if a.held.Owner != b.Owner || !a.promised() { // it is asked for again until nothing is left
			a.wipe(b)
		}
	case *claims.ExpiryDue:
		a.o.Name = ""
		if a.voteAgain(b) {
			return
		}
		if a.expired.ClaimID != b.ClaimID {
			a.o.Type = registrations.Unchanged
			return
		}
		a.o.Name, a.o.Owner = a.expired.Name, lastOwner(&a.expired)
		a.o.Type, a.o.State, a.o.Version = registrations.Expired, a.held.State, a.held.Version
	}
}

// blocked refuses what nobody may ask of a blocked name. A withdrawal of a claim that has not come leaves its mark all the
// same, and a processor's own question finds nothing to do.
func (a *answering) blocked(body claims.Body) bool {
	if a.held.State != registrations.StateBlocked {
		return false
	}
	switch b := body.(type) {
	case *claims.BlockRequested, *claims.UnblockRequested, *claims.ErasureRequested, *claims.ExpiryDue:
		return false
	case *claims.WithdrawRequested:
		if _, came := a.seen(b.ClaimID); !came {
			return false
		}
	}
	a.reject(registrations.NameBlocked, "")
	return true
}

// expire frees a name whose reservation or cool-down is over, as a fact beside the answer; where that is what was asked
// for, as the answer.
func (a *answering) expire(body claims.Body) {
	if !a.held.Due(a.LogTime) {
		return
	}
	was := a.held
	a.expired = was
	next := freed(was)
	next.Erased = was.Erased
	a.write(next)
	if due, ok := body.(*claims.ExpiryDue); ok && due.ClaimID == was.ClaimID {
		return
	}
	a.fact(registrations.Expired, was, lastOwner(&was))
}

// lastOwner is who has a name, or had it last.
func lastOwner(h *registrations.Holding) string {
	if h.State == registrations.Cooling {
		return h.Previous
	}
	return h.Owner
}

// after is the end of a while that begins now. A time that cannot be spelt is no end.
func (a *answering) after(d time.Duration) time.Time {
	if t := a.LogTime.Add(d); t.Before(latest) {
		return t
	}
	return latest
}

// fact adds a row for what became true of a former holding.
func (a *answering) fact(what registrations.Type, was registrations.Holding, owner string) {
	f := a.outcome(a.received)
	f.Type, f.Fact, f.Seq = what, true, a.seq
	f.ClaimID, f.Name, f.Owner = was.ClaimID, was.Name, owner
	f.State, f.Version, f.ExpiresAt = a.held.State, a.held.Version, a.held.ExpiresAt
	a.rows = append(a.rows, Row{Offset: a.received.Offset, Seq: a.seq, Kind: KindFact, RequestID: f.RequestID, Principal: a.received.Request.Principal, Outcome: f})
	a.seq++
}

func (a *answering) reject(why registrations.Reason, detail string) {
	a.o.Type, a.o.Reason, a.o.Detail = registrations.Rejected, why, detail
}

// write makes a holding the name's.
func (a *answering) write(next registrations.Holding) {
	next.Since, next.Partition = a.LogTime, a.Partition
	a.held = next
	a.change(a.received.Ref, a.read, next)
}

// keep changes the name to a holding that somebody has, and answers with it.
func (a *answering) keep(what registrations.Type, next registrations.Holding) {
	next.PolicyVersion = a.received.Policy.Version
	a.write(next)
	a.tell(what)
}

// tell answers with the holding that stands.
func (a *answering) tell(what registrations.Type) {
	h := &a.held
	a.o.Type, a.o.State, a.o.Version, a.o.ClaimID, a.o.Name, a.o.ExpiresAt = what, h.State, h.Version, h.ClaimID, h.Name, h.ExpiresAt
}

// leave changes the name to one that nobody has, and answers with what ended.
func (a *answering) leave(what registrations.Type, next registrations.Holding) {
	was := a.held
	next.PolicyVersion = a.received.Policy.Version
	a.write(next)
	if was.Held() {
		a.o.Name, a.o.ClaimID, a.o.Owner = was.Name, was.ClaimID, was.Owner
	}
	a.o.Type, a.o.State, a.o.Version, a.o.ExpiresAt = what, a.held.State, a.held.Version, a.held.ExpiresAt
}

// mayChange makes the checks of a request about a name that an owner holds, or that an actor asks for.
func (a *answering) mayChange(request, owner string, actor bool, expected *int64) bool {
	mine := a.held.Owner == owner || a.held.State == registrations.Cooling && a.held.Previous == owner
	if !actor && !mine {
		a.reject(registrations.NotOwner, "")
		return false
	}
	if !a.expects(expected) {
		return false
	}
	if a.promised() {
		return false
	}
	if !may(request, a.held.State, actor) {
		a.wrongState()
		return false
	}
	return true
}

func (a *answering) wrongState() {
	state := a.held.State
	if state == "" {
		state = registrations.Free
	}
	a.reject(registrations.WrongState, fmt.Sprintf("the name is %s", state))
}

// expects compares versions: none is any, 0 is a name that nobody holds.
func (a *answering) expects(want *int64) bool {
	if want == nil || *want == a.held.Version || *want == 0 && !a.held.Held() {
		return true
	}
	a.o.CurrentVersion = a.held.Version
	a.reject(registrations.VersionConflict, fmt.Sprintf("the name is at version %d", a.held.Version))
	return false
}

// noClaim answers a request about a claim that does not hold the name: it did once, or never.
func (a *answering) noClaim(claim uuid.UUID) {
	before, ok := a.seen(claim)
	if a.expired.State == registrations.Reserved && a.expired.ClaimID == claim || ok && before.Type == registrations.Accepted && before.State == registrations.Reserved &&
		a.isAbout(&before) && !a.LogTime.Before(before.ExpiresAt) {
		a.reject(registrations.ReservationExpired, "")
		return
	}
	a.reject(registrations.UnknownClaim, "")
}

// isAbout reports whether an outcome is about the name that is asked about.
func (a *answering) isAbout(o *registrations.Outcome) bool {
	if o.Erased && a.Rules.Eraser != nil {
		return o.Ref == a.Rules.Eraser.Ref(a.received.Ref)
	}
	return o.Ref == a.received.Ref
}

// claim decides UsernameClaimed.
func (a *answering) claim(c *claims.UsernameClaimed) {
	r := a.received
	if err := c.ValidUnder(a.InForce.rules()); err != nil {
		a.reject(registrations.InvalidRequest, err.Error())
		return
	}
	ttl, replaces, err := terms(c, r.Policy)
	if err != nil {
		a.reject(registrations.InvalidRequest, err.Error())
		return
	}
	if c.Signup != uuid.Nil && string(r.Key) != r.Ref.RecordKey() {
		a.reject(registrations.InvalidName, "the name has another key here than where its sign-up was begun")
		return
	}
	sameKey := replaces == r.Ref.Key
	respelt := sameKey && a.same(c.Replaces.Name)
	if respelt && c.Mode == claims.ModeReserve {
		a.reject(registrations.InvalidRequest, `replaces.name is the name itself: that does not go with mode "reserve"`)
		return
	}
	if r.Policy.IsReserved(r.Ref.Key) {
		a.reject(registrations.ReservedWord, "")
		return
	}
	if a.blocked(c) || !a.expects(c.ExpectedVersion) {
		return
	}
	h := &a.held
	alike := a.onlyAlike()
	mine := h.State == registrations.Registered && h.Owner == c.Owner && !alike
	mayReturn := r.Policy.PreviousMayReturn && h.Previous == c.Owner
	switch {
	case respelt && mine:
		a.respell(c)
	case mine && c.OnConflict == claims.OnConflictReturn:
		a.tell(registrations.Accepted)
	case h.State == registrations.Cooling && !mayReturn:
		a.reject(registrations.CoolingDown, "")
	case alike:
		a.reject(registrations.Confusable, "")
	case h.Held():
		a.reject(registrations.Taken, "")
	default:
		next := registrations.Holding{State: registrations.Registered, Name: c.Spelling, Owner: c.Owner, ClaimID: a.o.RequestID, Version: h.Version + 1}
		if sameKey {
			replaces = ""
		}
		if c.Signup != uuid.Nil {
			next.Signup, ttl = c.Signup, pledged(r.Policy)
		}
		if c.Mode == claims.ModeReserve {
			next.State, next.ExpiresAt = registrations.Reserved, a.after(ttl)
			if replaces != "" {
				next.Replaces, next.ReplacesVersion = replaces, c.Replaces.Version
			}
		} else {
			next.Settled = a.follow(replaces, c.Replaces, c.Owner)
		}
		a.keep(registrations.Accepted, next)
	}
}

// terms reads what a claim says beside the name by the space's policy.
func terms(c *claims.UsernameClaimed, p *names.Policy) (ttl time.Duration, replaces names.Key, err error) {
	if c.Mode == claims.ModeReserve {
		if ttl = p.TTL; c.TTLSeconds != nil {
			ttl = time.Duration(*c.TTLSeconds) * time.Second
		}
		if ttl < p.ShortestTTL {
			return 0, "", tooShort(p)
		}
		if ttl > p.LongestTTL {
			return 0, "", &claims.InvalidError{Field: "ttl_seconds", Detail: fmt.Sprintf("must be at most %d in this space", int64(p.LongestTTL/time.Second))}
		}
	}
	if c.Replaces != nil {
		switch private := p.Private != nil; {
		case private && c.Replaces.Key == "":
			return 0, "", &claims.InvalidError{Field: "replaces.key", Detail: "is missing"}
		case !private && c.Replaces.Key != "":
			return 0, "", &claims.InvalidError{Field: "replaces.name", Detail: "is missing"}
		}
		// It may be held since an earlier policy that allowed it.
		if replaces, err = p.HeldKey(c.Replaces.Asked()); err != nil {
			_, err = p.Key(c.Replaces.Asked())
			return 0, "", &claims.InvalidError{Field: "replaces.name", Detail: err.Error()}
		}
	}
	return ttl, replaces, nil
}

func tooShort(p *names.Policy) error {
	return &claims.InvalidError{Field: "ttl_seconds", Detail: fmt.Sprintf("must be at least %d in this space", int64(p.ShortestTTL/time.Second))}
}

// respell changes how a name is written: a rename to itself.
func (a *answering) respell(c *claims.UsernameClaimed) {
	if !a.expects(&c.Replaces.Version) {
		return
	}
	next := a.held
	next.Name, next.Version, next.Settled = c.Spelling, next.Version+1, true
	a.keep(registrations.Accepted, next)
}

// follow notes the name that is given up for this one, and reports whether there is one. A claim that gave up a name
// cannot be withdrawn: its owner would be left with neither.
func (a *answering) follow(key names.Key, replaces *claims.Replaces, owner string) bool {
	if key == "" {
		return false
	}
	a.followUp = &FollowUp{Claim: a.o.ClaimID, Ref: names.Ref{Space: a.received.Ref.Space, Key: key}, Owner: owner, Version: replaces.Version}
	return true
}

func (a *answering) confirm(b *claims.ConfirmRequested) {
	switch h := a.held; {
	case h.ClaimID != b.ClaimID || !h.Held():
		a.noClaim(b.ClaimID)
	case h.Owner != b.Owner:
		a.reject(registrations.NotOwner, "")
	case h.State == registrations.Registered:
		a.tell(registrations.Confirmed)
	case !a.received.own && a.promised():
	case !may(b.Type(), h.State, byOwner):
		a.wrongState()
	default:
		next := registrations.Holding{State: registrations.Registered, Name: h.Name, Owner: h.Owner, ClaimID: h.ClaimID, Version: h.Version + 1}
		next.Settled = a.follow(h.Replaces, &claims.Replaces{Version: h.ReplacesVersion}, h.Owner) || h.Signup != uuid.Nil
		a.keep(registrations.Confirmed, next)
	}
}

func (a *answering) extend(b *claims.ExtendRequested) {
	h, policy := a.held, a.received.Policy
	switch {
	case h.ClaimID != b.ClaimID || !h.Held():
		a.noClaim(b.ClaimID)
		return
	case h.Owner != b.Owner:
		a.reject(registrations.NotOwner, "")
		return
	case a.promised():
		return
	case !may(b.Type(), h.State, byOwner):
		a.wrongState()
		return
	}
	since := h.Since
	if claim, ok := a.seen(b.ClaimID); ok {
		since = claim.LogTime
	}
	next := h
	next.Version++
	until := a.after(time.Duration(b.TTLSeconds) * time.Second)
	if longest := since.Add(policy.LongestTTL); until.After(longest) {
		if until = longest; !longest.After(h.ExpiresAt) {
			a.reject(registrations.LimitExceeded, fmt.Sprintf("a reservation holds for at most %d seconds in this space", int64(policy.LongestTTL/time.Second)))
			return
		}
	}
	if until.After(h.ExpiresAt) { // else it holds as long as that already
		next.ExpiresAt = until
	}
	a.keep(registrations.Extended, next)
}

// withdraw undoes a claim. One that has not come yet is marked: whenever it comes, it is refused.
func (a *answering) withdraw(b *claims.WithdrawRequested) {
	h := a.held
	if h.Held() && h.ClaimID == b.ClaimID {
		switch {
		case h.Owner != b.Owner:
			a.reject(registrations.NotOwner, "")
		case !a.received.own && a.promised():
		case h.State == registrations.Registered && h.Settled, !may(b.Type(), h.State, byOwner):
			a.reject(registrations.WrongState, "the name has changed since the claim registered it, or the claim gave up another for it")
		default:
			a.leave(registrations.Withdrawn, freed(h))
		}
		return
	}
	if _, came := a.seen(b.ClaimID); came {
		a.noClaim(b.ClaimID)
		return
	}
	mark := Mark{a.Partition, b.ClaimID, b.Owner}
	if !a.deciding.withdrawn(mark) {
		a.marked[mark] = struct{}{}
		a.rows = append(a.rows, Row{
			Offset: a.received.Offset, Seq: a.seq, Kind: KindMark, RequestID: b.ClaimID, Principal: a.received.Request.Principal,
			Outcome: registrations.Outcome{Owner: b.Owner},
		})
		a.seq++
	}
	a.o.Type = registrations.Withdrawn // at version 0: the name has not changed
}

// deactivate keeps the name for its owner or frees it, by the policy.
func (a *answering) deactivate() {
	if a.received.Policy.UniqueAmong == names.AmongActive {
		next := freed(a.held)
		next.Previous = a.held.Owner
		a.leave(registrations.Deactivated, next)
		return
	}
	next := a.held
	next.State, next.Version = registrations.Inactive, next.Version+1
	a.keep(registrations.Deactivated, next)
}

func (a *answering) reactivate(b *claims.ReactivateRequested) {
	h := a.held
	name := h.Name
	switch {
	case h.State == registrations.Free && h.Previous == b.Owner:
		if !a.expects(b.ExpectedVersion) {
			return
		}
		name = a.o.Name // as it is typed now
	case h.Held() && h.Owner != b.Owner && a.received.Policy.UniqueAmong == names.AmongActive:
		if a.expects(b.ExpectedVersion) {
			a.reject(registrations.Taken, "")
		}
		return
	case !a.mayChange(b.Type(), b.Owner, byOwner, b.ExpectedVersion):
		return
	}
	a.keep(registrations.Reactivated, registrations.Holding{State: registrations.Registered, Name: name, Owner: b.Owner, ClaimID: a.o.RequestID, Settled: true, Version: h.Version + 1})
}

func (a *answering) transfer(b *claims.TransferRequested) {
	if !a.mayChange(b.Type(), b.Owner, b.Actor != "", b.ExpectedVersion) {
		return
	}
	h := a.held
	if h.Owner == b.NewOwner {
		a.reject(registrations.WrongState, "the name is held by new_owner already")
		return
	}
	a.o.Owner = b.NewOwner
	a.keep(registrations.Transferred, registrations.Holding{State: registrations.Registered, Name: h.Name, Owner: b.NewOwner, ClaimID: a.o.RequestID, Settled: true, Version: h.Version + 1})
}

// block takes the name from whoever has it.
func (a *answering) block() {
	if was := a.held; was.Held() {
		a.write(freed(was))
		a.fact(registrations.Released, was, was.Owner)
	}
	next := freed(a.held)
	next.State = registrations.StateBlocked
	a.o.Name = ""
	a.leave(registrations.Blocked, next)
}
