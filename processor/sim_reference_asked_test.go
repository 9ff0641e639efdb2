package processor_test

import (
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

func asksToErase(body claims.Body) bool {
	_, is := body.(*claims.ErasureRequested)
	return is
}

// erased is what an erasure makes of a name: "changed" to next, the "same" as it was erased before, or nothing at all, for it is
// not the owner's.
func (y *reference) erased(n *life, owner string, mine bool, p *names.Policy) (next life, what string) {
	free, cooling := n.state == "" && n.version > 0, n.state == "cooling"
	left := n.previous == owner
	switch {
	case mine && n.state != "reserved" && p.CoolDown > 0:
		return life{state: "cooling", claim: n.claim, until: y.now.Add(p.CoolDown), erased: true}, "changed"
	case cooling && left:
		return life{state: "cooling", claim: n.claim, until: n.until, erased: true}, "changed"
	case mine, free && left, free && n.previous == "" && !n.erased:
		return life{until: time.Time{}, erased: true}, "changed"
	case free && n.previous == "":
		return life{}, "same"
	}
	return life{}, ""
}

// needsSignature lists the requests that not everybody who may write may make.
func needsSignature(body claims.Body) bool {
	switch b := body.(type) {
	case *claims.BlockRequested, *claims.UnblockRequested, *claims.ExpiryDue, *claims.ErasureRequested, *claims.SignupVoted:
		return true
	case *claims.ReleaseRequested:
		return b.Actor != ""
	case *claims.TransferRequested:
		return b.Actor != ""
	}
	return false
}

// ownerOf is whom a request speaks for.
func ownerOf(body claims.Body) string {
	owner, _ := field(body, "Owner").(string)
	return owner
}
