package api

import (
	"slices"

	"github.com/dibs-hq/dibs/names"
)

// Holding is what holds in all partitions, as of a look at their rows. It is advice: the log says what holds where a
// request comes to lie. It is never changed.
type Holding struct {
	Policies names.Policies
	// Keys are the ids of the keys that a signature may be made with in every partition; nil for any.
	Keys []string
	// Rules are the oldest that were activated in some partition; 0 where none were.
	Rules int
}

// Hold works out what holds: of each space the newest policy that all partitions have come to, beside or in place of
// those from the start. A partition that is halted may stay behind for long, and takes no requests meanwhile: its policies
// do not count. Nor does anything of one beyond the pinned count: no request is meant for it.
func Hold(start names.Policies, pinned int, rows []Partition) Holding {
	h := Holding{Policies: start}
	counted := 0
	oldest := make(map[names.Space]*names.Policy)
	known := make(map[names.Space]int) // in how many partitions
	for _, p := range rows {
		if int(p.Partition) >= pinned {
			continue
		}
		if p.Keys != nil {
			if h.Keys == nil {
				h.Keys = p.Keys
			}
			h.Keys = slices.DeleteFunc(slices.Clone(h.Keys), func(id string) bool { return !slices.Contains(p.Keys, id) })
		}
		if p.Halted != "" {
			continue
		}
		if counted++; p.Rules > 0 && (h.Rules == 0 || p.Rules < h.Rules) {
			h.Rules = p.Rules
		}
		for space, policy := range p.Policies {
			known[space]++
			if other := oldest[space]; other == nil || policy.Version < other.Version {
				oldest[space] = policy
			}
		}
	}
	for space, policy := range oldest {
		if known[space] == counted {
			h.Policies = h.Policies.With(policy)
		}
	}
	return h
}
