package api

import (
	"context"
	"errors"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// once finds a name that nobody could claim now and that was held under an earlier policy: its holder can still do with
// it what any other can. For any other name it returns what it is refused with.
func (c *Claimer) once(ctx context.Context, policies names.Policies, space names.Space, name string, refusal error) (names.Ref, error) {
	var refused *Refused
	if !errors.As(refusal, &refused) || refused.Reason != InvalidName {
		return names.Ref{}, refusal
	}
	key, err := policies[space].HeldKey(name)
	if err != nil {
		return names.Ref{}, refusal
	}
	ref := names.Ref{Space: space, Key: key}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	holding, err := c.lookup.Name(ctx, ref)
	switch {
	case err != nil:
		return names.Ref{}, unavailable(err)
	case holding.Version == 0, holding.Held() && onlyAlike(policies[space], holding.Name, name):
		return names.Ref{}, refusal
	}
	return ref, nil
}

// repeated answers a request that is refused now with its outcome, if it was made before: it may have been right under the
// policy of then, and whoever repeats it has not heard the answer. Nothing is published: else it stays refused.
func (c *Claimer) repeated(ctx context.Context, a *asking, refusal error) (Result, error) {
	if claim, ok := a.body.(*claims.UsernameClaimed); ok && claim.Replaces != nil && claim.Replaces.Version == 0 {
		reading, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		key, _ := c.Policies()[a.ref.Space].HeldKey(claim.Replaces.Asked()) // it was checked
		replaced, err := c.lookup.Name(reading, names.Ref{Space: a.ref.Space, Key: key})
		if err != nil {
			return Result{}, unavailable(err)
		}
		a.filled, claim.Replaces.Version = true, replaced.Version
	}
	switch before, err := c.before(ctx, a); {
	case err != nil:
		return Result{}, err
	case before == nil:
		return Result{}, refusal
	default:
		return *before, nil
	}
}

// replacesOnce reports whether a claim gives up such a name. Where that cannot be looked up, it may: the claim looks it up
// again.
func (c *Claimer) replacesOnce(ctx context.Context, policies names.Policies, r *Request) bool {
	p := policies[r.Space]
	if r.Replaces == nil || p == nil {
		return false
	}
	if _, err := p.Key(r.Replaces.Name); err == nil {
		return false
	}
	notHeld := &Refused{Reason: InvalidName}
	_, err := c.once(ctx, policies, r.Space, r.Replaces.Name, notHeld)
	return !errors.Is(err, notHeld)
}
