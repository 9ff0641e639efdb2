package api

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Order is a request about a name that is held, or claimed already.
type Order struct {
	// Body is what is asked: anything but a claim, by an owner.
	Body claims.Body
	// IdempotencyKey is what the id is derived from. Without it the request cannot be repeated.
	IdempotencyKey string
	// Trace is passed through as headers of the record.
	Trace []cloudevents.Header
}

// operations are what an Idempotency-Key may be for, by type.
var operations = map[string]string{
	claims.TypeConfirmRequested:    "confirm",
	claims.TypeExtendRequested:     "extend",
	claims.TypeWithdrawRequested:   operationWithdraw,
	claims.TypeReleaseRequested:    "release",
	claims.TypeTransferRequested:   "transfer",
	claims.TypeDeactivateRequested: "deactivate",
	claims.TypeReactivateRequested: "reactivate",
}

// Order publishes a request and waits for its outcome, as Claim does.
func (c *Claimer) Order(ctx context.Context, principal string, o Order, wait time.Duration) (Result, error) {
	ref, err := o.check(c.cfg.Policies)
	if err != nil {
		return Result{}, err
	}
	a := asking{principal: principal, body: o.Body, ref: ref, trace: o.Trace}
	if o.IdempotencyKey == "" {
		a.id = c.cfg.NewID()
	} else {
		claim, _ := subject(o.Body)
		a.id = derivedID(principal, operations[o.Body.Type()], claimPart(claim), ref, o.IdempotencyKey)
		a.repeatable = true
	}
	return c.ask(ctx, &a, wait)
}

// check says what is wrong with the request as far as that can be known without the log, all of it at once. The error is
// a *Refused.
func (o *Order) check(policies names.Policies) (names.Ref, error) {
	space, spelling := o.Body.Name()
	found := newFindings()
	ref, policy := found.name(policies, space, spelling)
	switch b := o.Body.(type) {
	case *claims.ConfirmRequested:
		found.owner("owner", b.Owner)
	case *claims.ExtendRequested:
		found.owner("owner", b.Owner)
		found.ttl(policy, b.TTLSeconds, 0)
	case *claims.WithdrawRequested:
		found.owner("owner", b.Owner)
	case *claims.ReleaseRequested:
		found.owner("owner", b.Owner)
		found.version(b.ExpectedVersion)
	case *claims.DeactivateRequested:
		found.owner("owner", b.Owner)
		found.version(b.ExpectedVersion)
	case *claims.ReactivateRequested:
		found.owner("owner", b.Owner)
		found.version(b.ExpectedVersion)
	case *claims.TransferRequested:
		found.owner("owner", b.Owner)
		found.owner("new_owner", b.NewOwner)
		found.version(b.ExpectedVersion)
	}
	if len(found.errors) == 0 {
		found.invalid(o.Body.Validate()) // what no field says alone
	}
	return ref, found.refused()
}

// subject is whom a request is about: the claim it names, and the owner.
func subject(body claims.Body) (claim uuid.UUID, owner string) {
	switch b := body.(type) {
	case *claims.UsernameClaimed:
		return uuid.Nil, b.Owner
	case *claims.ConfirmRequested:
		return b.ClaimID, b.Owner
	case *claims.ExtendRequested:
		return b.ClaimID, b.Owner
	case *claims.WithdrawRequested:
		return b.ClaimID, b.Owner
	case *claims.ReleaseRequested:
		return uuid.Nil, b.Owner
	case *claims.DeactivateRequested:
		return uuid.Nil, b.Owner
	case *claims.ReactivateRequested:
		return uuid.Nil, b.Owner
	case *claims.TransferRequested:
		return uuid.Nil, b.Owner
	}
	return uuid.Nil, ""
}

// claimPart is the claim of the path as a part of an id.
func claimPart(claim uuid.UUID) string {
	if claim == uuid.Nil {
		return ""
	}
	return claim.String()
}

// Claimed looks up what a claim is about, so that more can be asked of it. Where name is given, a claim that is not decided
// yet is taken to be about that. The error is a *Refused.
func (c *Claimer) Claimed(ctx context.Context, id uuid.UUID, space names.Space, name string) (claims.About, error) {
	about := claims.About{Space: space, Spelling: name, Deadline: c.deadline(decideWithin)}
	var want names.Ref
	if name != "" {
		found := newFindings()
		if want, _ = found.name(c.cfg.Policies, space, name); len(found.errors) > 0 {
			return about, found.refused()
		}
	}
	outcomes, err := c.look(ctx, id)
	if err != nil {
		return about, err
	}
	var claim *registrations.Outcome
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case name != "" && o.Ref != want:
		case claim != nil:
			return about, &Refused{Reason: AmbiguousID, ClaimID: id}
		default:
			claim = o
		}
	}
	switch {
	case claim == nil && name != "":
		return about, nil
	case claim == nil:
		return about, &Refused{Reason: UnknownClaim, RetryAfter: time.Second, Detail: "there is no such claim, or it is not decided yet"}
	case claim.Request != "":
		return about, &Refused{Reason: UnknownClaim, Detail: "the id is that of another request, not of a claim"}
	}
	about.Space, about.Spelling = claim.Ref.Space, claim.Name
	if p := c.cfg.Policies[about.Space]; p != nil {
		if key, err := p.Canonical(about.Spelling); err == nil && key == claim.Ref.Key {
			return about, nil
		}
	}
	return about, &Refused{Reason: UnknownClaim, Detail: "the claim was rejected: what it asked for is no name"}
}
