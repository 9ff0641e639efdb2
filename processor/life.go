package processor

import (
	"slices"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// Move is one row of the life of a name: what a request makes of a name in a state. What is in no row is refused as
// wrong_state, or for what comes before that: see answering.answer.
type Move struct {
	Request string // the ce_type
	From    []registrations.State
	To      []registrations.State // by the space's policy, where there are two
	Outcome registrations.Type
	Actor   bool   // only an actor's
	By      string // who may, and when
}

// Life is every move. A name that was never held is free.
var Life = []Move{
	{claims.TypeUsernameClaimed, in(registrations.Free), in(registrations.Registered, registrations.Reserved), registrations.Accepted, false, "anybody; by mode"},
	{claims.TypeUsernameClaimed, in(registrations.Cooling), in(registrations.Registered, registrations.Reserved), registrations.Accepted, false, "the previous owner, if the policy lets it; anybody once the cool-down is over"},
	{claims.TypeUsernameClaimed, in(registrations.Registered), in(registrations.Registered), registrations.Accepted, false, "its owner: to spell it anew (replaces), or with return_existing, which changes nothing"},
	{claims.TypeConfirmRequested, in(registrations.Reserved), in(registrations.Registered), registrations.Confirmed, false, "its claim_id and owner"},
	{claims.TypeConfirmRequested, in(registrations.Registered), in(registrations.Registered), registrations.Confirmed, false, "its claim_id and owner, again; changes nothing"},
	{claims.TypeExtendRequested, in(registrations.Reserved), in(registrations.Reserved), registrations.Extended, false, "its claim_id and owner"},
	{claims.TypeWithdrawRequested, in(registrations.Reserved, registrations.Registered), in(registrations.Free), registrations.Withdrawn, false, "its claim_id and owner, while nothing has changed since it was registered"},
	{claims.TypeReleaseRequested, in(registrations.Reserved), in(registrations.Free), registrations.Released, false, "its owner"},
	{claims.TypeReleaseRequested, in(registrations.Registered), in(registrations.Free, registrations.Cooling), registrations.Released, false, "its owner"},
	{claims.TypeReleaseRequested, in(registrations.Registered, registrations.Reserved, registrations.Inactive), in(registrations.Free, registrations.Cooling), registrations.Released, true, "an actor"},
	{claims.TypeDeactivateRequested, in(registrations.Registered), in(registrations.Inactive, registrations.Free), registrations.Deactivated, false, "its owner"},
	{claims.TypeReactivateRequested, in(registrations.Inactive), in(registrations.Registered), registrations.Reactivated, false, "its owner"},
	{claims.TypeReactivateRequested, in(registrations.Free), in(registrations.Registered), registrations.Reactivated, false, "who deactivated it last, if nobody has held it since"},
	{claims.TypeTransferRequested, in(registrations.Registered), in(registrations.Registered), registrations.Transferred, false, "its owner"},
	{claims.TypeTransferRequested, in(registrations.Registered, registrations.Reserved, registrations.Inactive), in(registrations.Registered), registrations.Transferred, true, "an actor"},
	{claims.TypeBlockRequested, in(registrations.Free, registrations.Reserved, registrations.Registered, registrations.Inactive, registrations.Cooling, registrations.StateBlocked), in(registrations.StateBlocked), registrations.Blocked, true, "an actor; a holder loses it"},
	{claims.TypeUnblockRequested, in(registrations.StateBlocked), in(registrations.Free), registrations.Unblocked, true, "an actor"},
	{claims.TypeErasureRequested, in(registrations.Free, registrations.Reserved, registrations.Registered, registrations.Inactive, registrations.Cooling), in(registrations.Free, registrations.Cooling), registrations.Erased, true, "an actor, of the owner who has it or had it last; of any other name nothing but what is kept of that owner is wiped"},
	{claims.TypeExpiryDue, in(registrations.Reserved, registrations.Cooling), in(registrations.Free), registrations.Expired, false, "a processor, once it is over"},
}

func in(states ...registrations.State) []registrations.State { return states }

// byActor and byOwner tell the two kinds of a request apart that Life has rows for both of.
const byActor, byOwner = true, false

// may reports whether a name in a state can take a request, of an actor or of an owner.
func may(request string, from registrations.State, actor bool) bool {
	if from == "" {
		from = registrations.Free
	}
	for i := range Life {
		m := &Life[i]
		if m.Request == request && slices.Contains(m.From, from) && (actor || !m.Actor) {
			return true
		}
	}
	return false
}

// freed is what becomes of a holding that is given up for good.
func freed(h registrations.Holding) registrations.Holding {
	return registrations.Holding{State: registrations.Free, Version: h.Version + 1, PolicyVersion: h.PolicyVersion}
}

// given is what becomes of a holding that is released: free, or cooling where the policy says so. A reservation was never
// anybody's name: it leaves nothing to cool.
func (a *answering) given(h registrations.Holding, p *names.Policy) registrations.Holding {
	next := freed(h)
	if h.State != registrations.Reserved && p.CoolDown > 0 {
		next.State, next.Previous, next.ClaimID, next.ExpiresAt = registrations.Cooling, h.Owner, h.ClaimID, a.after(p.CoolDown)
	}
	return next
}
