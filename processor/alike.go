package processor

import (
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Where a space keeps look-alikes apart, one key stands for all names that look alike, and one of them at most is held.
// Whoever asks about another one must not get that.

// onlyAlike reports whether somebody holds the key, under a name that only looks like the one that is asked about. What
// dibs asks itself is about the key.
func (a *answering) onlyAlike() bool {
	return a.held.Held() && !a.received.ofKey && !a.same(a.held.Name)
}

// same reports whether a name with the key is the one that is asked about.
func (a *answering) same(name string) bool {
	r := a.received
	if name == "" || !r.Policy.KeepsLookalikesApart() {
		return true
	}
	_, asked := r.Request.Body.Name()
	return r.Policy.Same(name, asked)
}

// spells reports whether a request says how a name is written from then on that nobody holds: one that comes back. Which of
// the names that look alike it was, nobody knows any more; so it has to be one that could be claimed.
func (a *answering) spells(body claims.Body) bool {
	_, back := body.(*claims.ReactivateRequested)
	return back && !a.held.Held() && a.received.Policy.KeepsLookalikesApart()
}

// spare answers what is asked of a name that nobody holds and that looks like one that somebody does. To its owner and its
// claims that is another name.
func (a *answering) spare(body claims.Body) {
	switch b := body.(type) {
	case *claims.ConfirmRequested:
		a.strange(b.ClaimID)
	case *claims.ExtendRequested:
		a.strange(b.ClaimID)
	case *claims.WithdrawRequested:
		if b.ClaimID == a.held.ClaimID {
			a.strange(b.ClaimID)
			return
		}
		a.withdraw(b) // of a claim that may be on its way
	case *claims.ExpiryDue:
		a.decide(b)
	default:
		if body.Privileged() {
			a.reject(registrations.Confusable, "")
			return
		}
		a.reject(registrations.NotOwner, "")
	}
}

// strange answers what is asked about a claim that does not hold the name.
func (a *answering) strange(claim uuid.UUID) {
	if claim == a.held.ClaimID { // it holds the other one
		a.reject(registrations.UnknownClaim, "")
		return
	}
	a.noClaim(claim)
}
