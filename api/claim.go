package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// decideWithin is how late a request may be decided, beside a claim that is waited for, before it is of no use to
// whoever made it.
const decideWithin = 60 * time.Second

// deadline is that of a request made now which shall be decided that long at most. Who compares it has another clock.
func (c *Claimer) deadline(within time.Duration) time.Time {
	return c.cfg.Now().Add(within + c.cfg.ClockBound)
}

// shortestTTL is how long a reservation must be able to hold: a producer's clock may end it early by the bound.
func (c *Claimer) shortestTTL() time.Duration { return 2 * c.cfg.ClockBound }

// Claim publishes a claim and waits for its outcome, at most that long; with 0 it returns when Kafka has the claim. See
// ask for what it returns.
func (c *Claimer) Claim(ctx context.Context, principal string, r Request, wait time.Duration) (Result, error) {
	policies := c.Policies()
	if err := c.conceal(policies, &r); err != nil {
		return Result{}, err
	}
	r.once = c.replacesOnce(ctx, policies, &r)
	claim, ref, refusal := r.check(policies, c.shortestTTL(), wait)
	if refusal != nil && (claim == nil || !r.repeatable()) {
		return Result{}, refusal
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	a := asking{principal: principal, body: claim, ref: ref, repeatable: r.repeatable(), trace: r.Trace}
	switch {
	case r.ClaimID != uuid.Nil:
		a.id = r.ClaimID
	case r.IdempotencyKey != "":
		a.id = derivedID(principal, r.operation(), "", meant(policies, ref, r.Name), r.IdempotencyKey)
	default:
		a.id = c.cfg.NewID()
	}
	if r.Withdraw {
		claim.Deadline = c.deadline(wait)
	}
	until := time.Now().Add(wait)
	var result Result
	var err error
	switch {
	case refusal != nil:
		result, err = c.repeated(ctx, &a, refusal)
	case claim.Replaces != nil:
		var before *Result
		if before, err = c.replacing(ctx, &a, claim); before != nil {
			result = *before
		}
		err = r.fields(err)
	}
	if err == nil && result.Outcome == nil {
		result, err = c.ask(ctx, &a, wait)
	}
	if err != nil {
		return Result{}, err
	}
	switch o := result.Outcome; {
	case o == nil || o.Type != registrations.Accepted:
	case result.Replayed:
		if err := c.readSequel(ctx, &r, &result, until); err != nil {
			return Result{}, err
		}
	case claim.Replaces != nil:
		result.FollowUp = c.givenUp(claim, o)
	}
	if result.Outcome == nil && r.Withdraw && ctx.Err() == nil {
		return c.withdraw(ctx, &a, result)
	}
	return result, nil
}

// replacing looks up the name that a claim replaces, and fills in its version where the caller has not said. It is
// advice: what cannot go well is refused before anything is published. Of a claim that was decided before it returns the
// outcome: the name that it replaced is somebody else's by now.
func (c *Claimer) replacing(ctx context.Context, a *asking, claim *claims.UsernameClaimed) (*Result, error) {
	look, err := c.Look(ctx, claim.Space, claim.Replaces.Asked())
	if err != nil {
		return nil, err
	}
	asked := claim.Replaces.Version
	if asked == 0 {
		a.filled, claim.Replaces.Version = true, look.Version
	}
	if a.repeatable {
		if before, err := c.before(ctx, a); err != nil || before != nil {
			return before, err
		}
	}
	refuse := func(reason Reason, field, detail string) error {
		return &Refused{Reason: reason, Detail: detail, Errors: []FieldError{{Field: field, Detail: detail}}}
	}
	switch {
	case look.Owner != claim.Owner || !look.Held():
		return nil, refuse(NotOwner, "replaces.name", "is not held by this owner")
	case look.State == registrations.Inactive:
		return nil, refuse(WrongState, "replaces.name", "is inactive")
	case asked != 0 && asked != look.Version:
		return nil, &Refused{Reason: AnotherVersion, CurrentVersion: &look.Version,
			Errors: []FieldError{{Field: "replaces.version", Detail: fmt.Sprintf("the name is at version %d", look.Version)}}}
	case look.Ref == a.ref && look.State != registrations.Registered:
		return nil, refuse(WrongState, "replaces.name", "is not registered yet: its spelling cannot be changed")
	case look.Ref == a.ref && look.Holding.Name == claim.Spelling:
		return nil, refuse(InvalidRequest, "name", "is how the name is spelt already")
	}
	return nil, nil
}

// before looks up the outcome of an earlier request with the same id; nil for none.
func (c *Claimer) before(ctx context.Context, a *asking) (*Result, error) {
	outcomes, err := c.look(ctx, a.id)
	if err != nil {
		return nil, err
	}
	partition := claims.Partition(a.ref.String(), c.cfg.Partitions)
	for i := range outcomes {
		o := &outcomes[i]
		if o.Partition != partition {
			continue
		}
		if !c.same(a, o.RequestHash) {
			return nil, &Refused{Reason: IdempotencyMismatch, ClaimID: a.id}
		}
		c.metrics.replays.Inc()
		result := a.result()
		result.Outcome, result.Replayed = o, true
		return &result, nil
	}
	return nil, nil
}

// withdrawalID is the id of the withdrawal that follows a claim whose wait has run out. It is derived from the claim's
// alone: whoever knows that finds it.
func withdrawalID(claim uuid.UUID) uuid.UUID {
	return derivedID("", operationWithdraw, claim.String(), names.Ref{}, "")
}

// withdraw undoes a claim whose wait has run out. Where that cannot be published, the claim is pending still.
func (c *Claimer) withdraw(ctx context.Context, claim *asking, pending Result) (Result, error) {
	subject := claims.About{Space: claim.ref.Space, Spelling: pending.Name, Key: claims.KeyOf(claim.body), Deadline: c.deadline(decideWithin)}
	body := &claims.WithdrawRequested{
		About: subject, ClaimID: claim.id, Owner: pending.Owner,
	}
	w, err := c.ask(ctx, &asking{
		principal: claim.principal, body: body, ref: claim.ref, id: withdrawalID(claim.id), repeatable: true, trace: claim.trace,
	}, 0)
	var refused *Refused
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Reason == OutcomeUnknown:
		refused.ClaimID = claim.id
		return Result{}, refused
	default:
		c.cfg.Log.WarnContext(ctx, "a claim whose wait ran out is not withdrawn", "claim_id", claim.id, "err", err)
		return pending, nil
	}
	pending.Withdrawing = true
	if pending.Position = w.Position; w.Outcome != nil {
		pending.Position = positionOf(w.Outcome)
	}
	return pending, nil
}
