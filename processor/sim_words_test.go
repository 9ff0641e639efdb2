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
	if y.second && c.Replaces != nil && c.OnConflict == claims.OnConflictReturn {
		return false
	}
	if ttl := ttlOf(c, p); c.Mode == claims.ModeReserve && (ttl > p.LongestTTL || ttl < p.ShortestTTL) {
		return false
	}
	if c.Replaces == nil {
		return true
	}
	if (c.Replaces.Key != "") != (p.Private != nil) {
		return false
	}
	old, err := p.HeldKey(c.Replaces.Asked())
	return err == nil && (old != ref.Key || c.Mode != claims.ModeReserve || !p.Same(c.Replaces.Name, c.Spelling))
}

func ttlOf(c *claims.UsernameClaimed, p *names.Policy) time.Duration {
	if c.TTLSeconds == nil {
		return p.TTL
	}
	return time.Duration(*c.TTLSeconds) * time.Second
}
