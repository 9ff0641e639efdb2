package processor_test

import (
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

func (n *life) stateName() string {
	if n.state == "" {
		return "free"
	}
	return n.state
}

// sensible checks what a claim says by its space's policy.
func (y *reference) sensible(c *claims.UsernameClaimed, p *names.Policy, ref names.Ref) bool {
	if ttl := ttlOf(c, p); c.Mode == claims.ModeReserve && (ttl > p.LongestTTL || ttl < p.ShortestTTL) {
		return false
	}
	if c.Replaces == nil {
		return true
	}
	old, err := p.HeldKey(c.Replaces.Name)
	return err == nil && (old != ref.Key || c.Mode != claims.ModeReserve || !p.Same(c.Replaces.Name, c.Spelling))
}

func ttlOf(c *claims.UsernameClaimed, p *names.Policy) time.Duration {
	if c.TTLSeconds == nil {
		return p.TTL
	}
	return time.Duration(*c.TTLSeconds) * time.Second
}

// needsSignature lists the requests that not everybody who may write may make.
func needsSignature(body claims.Body) bool {
	switch b := body.(type) {
	case *claims.BlockRequested, *claims.UnblockRequested, *claims.ExpiryDue, *claims.SignupVoted:
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
