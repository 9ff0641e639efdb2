package api

import (
	"context"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// Look is what is known of a name. Why it cannot be had is empty where it can.
type Look struct {
	Ref    names.Ref
	Name   string // as its holder typed it, or as asked
	Reason registrations.Reason
	registrations.Holding
}

// Look reads who holds a name: advice, as of now. The error is a *Refused.
func (c *Claimer) Look(ctx context.Context, space names.Space, name string) (Look, error) {
	found, policies := newFindings(), c.Policies()
	ref, policy := found.name(policies, space, name)
	if err := found.refused(); err != nil {
		if ref, err = c.once(ctx, policies, space, name, err); err != nil {
			return Look{}, err
		}
	}
	look := Look{Ref: ref, Name: name}
	if policy != nil && policy.Private != nil {
		look.Name = "" // it was the key
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var err error
	if look.Holding, err = c.lookup.Name(ctx, look.Ref); err != nil {
		return Look{}, unavailable(err)
	}
	if look.Due(c.cfg.Now()) { // whoever asks for it next gets it
		look.Holding = registrations.Holding{State: registrations.Free, Version: look.Version}
	}
	alike := look.hide(policy)
	if look.judge(policy); alike && look.Reason == "" {
		look.Reason = registrations.Confusable
	}
	return look, nil
}

// hide forgets a holding that is not of the name that was asked, but of one that looks like it, and reports whether it was.
func (look *Look) hide(policy *names.Policy) bool {
	if policy == nil || !look.Held() || !onlyAlike(policy, look.Holding.Name, look.Name) {
		return false
	}
	look.Holding = registrations.Holding{State: registrations.Free, Version: look.Version}
	return true
}

// onlyAlike reports whether a name that was asked with the key of another one is not that. A name that is not known any
// more is taken to be the same.
func onlyAlike(p *names.Policy, held, asked string) bool {
	return p.KeepsLookalikesApart() && held != "" && !p.Same(held, asked)
}

// judge says why the name cannot be had. Of a space that there is no more there is no policy.
func (look *Look) judge(policy *names.Policy) {
	if look.State == "" {
		look.State = registrations.Free
	}
	if look.Held() {
		look.Name = look.Holding.Name
	}
	claimable := true
	if policy != nil {
		spelling := look.Name
		if spelling == "" { // it is not known any more
			spelling = string(look.Ref.Key)
		}
		_, err := policy.Key(spelling)
		claimable = err == nil
	}
	switch { // in the order of the decision
	case !claimable:
		look.Reason = registrations.InvalidName
	case policy != nil && policy.IsReserved(look.Ref.Key):
		look.Reason = registrations.ReservedWord
	case look.State == registrations.StateBlocked:
		look.Reason = registrations.NameBlocked
	case look.State == registrations.Cooling:
		look.Reason = registrations.CoolingDown
	case look.Held():
		look.Reason = registrations.Taken
	}
}

// Owned reads what an owner holds within some spaces, nil for all, by space and key, behind a name: at most limit of it.
// more says that there may be more, behind that name: it is one of those spaces as well. The error is a *Refused.
func (c *Claimer) Owned(ctx context.Context, owner string, within []string, limit int, after names.Ref) (held []Look, more *names.Ref, err error) {
	found := newFindings()
	found.owner("owner", owner)
	if err := found.refused(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all, err := c.lookup.ByOwner(ctx, owner, within, limit+1, after)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	if len(all) > limit {
		all = all[:limit]
		more = &all[limit-1].Ref
	}
	now, policies := c.cfg.Now(), c.Policies()
	for i := range all {
		if o := &all[i]; !o.Due(now) { // it is over, and free
			look := Look{Ref: o.Ref, Holding: o.Holding}
			look.judge(policies[o.Space])
			held = append(held, look)
		}
	}
	return held, more, nil
}

// History reads what changed a name, from a version on: at most limit entries, and the version at which there is more; 0
// for no more. The error is a *Refused.
func (c *Claimer) History(ctx context.Context, space names.Space, name string, from int64, limit int) (ref names.Ref, entries []Entry, next int64, err error) {
	found, policies := newFindings(), c.Policies()
	ref, _ = found.name(policies, space, name)
	if err := found.refused(); err != nil {
		if ref, err = c.once(ctx, policies, space, name, err); err != nil {
			return ref, nil, 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if entries, err = c.lookup.History(ctx, ref, from, limit+1); err != nil {
		return ref, nil, 0, unavailable(err)
	}
	if len(entries) > limit {
		next, entries = entries[limit].Version, entries[:limit]
	}
	return ref, entries, next, nil
}
