package processor

import (
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/registrations"
)

// wipe frees a name that is the owner's, or was last, and forgets whose it was; of one that is somebody else's nothing is
// changed. Either way what is kept of the owner is wiped: see Erase. The answer repeats neither name nor owner, and is the
// same however often it is asked for.
func (a *answering) wipe(b *claims.ErasureRequested) {
	h := a.held
	next := freed(h)
	switch {
	case h.Held() && h.Owner == b.Owner:
		next = a.given(h, a.received.Policy)
	case h.State == registrations.Cooling && h.Previous == b.Owner: // for as long as it was to
		next.State, next.ClaimID, next.ExpiresAt = h.State, h.ClaimID, h.ExpiresAt
	case h.State == registrations.Free && (h.Previous == "" || h.Previous == b.Owner):
	default: // never held, or not the owner's any more
		a.o.Type = registrations.Erased
		a.erase = &Erase{Ref: a.received.Ref, Owner: b.Owner, Whole: h.Version == 0 || h.State == registrations.Cooling && h.Erased}
		return
	}
	a.erase = &Erase{Ref: a.received.Ref, Owner: b.Owner, Whole: true}
	if h.Hidden() {
		a.o.Type, a.o.State, a.o.Version = registrations.Erased, h.State, h.Version
		return
	}
	next.Previous, next.Erased = "", true
	if p := a.received.Policy; p != nil {
		next.PolicyVersion = p.Version
	}
	a.write(next)
	a.o.Type, a.o.State, a.o.Version, a.o.ExpiresAt = registrations.Erased, a.held.State, a.held.Version, a.held.ExpiresAt
	a.o.ClaimID = h.ClaimID
}
