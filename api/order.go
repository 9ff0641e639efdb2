package api

import (
	"context"
	"errors"
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
	// Admin: it is asked by an actor.
	Admin bool
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
	claims.TypeBlockRequested:      "block",
	claims.TypeUnblockRequested:    "unblock",
}

// operation is what an Idempotency-Key of this is for. What an actor asks for is not what the owner asks for.
func (o *Order) operation() string {
	if o.Admin {
		return "admin/" + operations[o.Body.Type()]
	}
	return operations[o.Body.Type()]
}

// Order publishes a request and waits for its outcome, as Claim does.
func (c *Claimer) Order(ctx context.Context, principal string, o Order, wait time.Duration) (Result, error) {
	o.Admin = o.Admin || o.Body.Privileged() // nothing is signed that is not audited
	if o.Admin && c.cfg.Sign == nil {
		return Result{}, &Refused{Reason: NotConfigured, Detail: "security.request_keys_file is not set on this server: " +
			"without a key of that file what an admin asks for cannot be signed, and nothing was published"}
	}
	ref, found, err := c.check(ctx, &o)
	if err != nil {
		return Result{}, err
	}
	refusal := found.refused()
	if refusal != nil && (found.lasting || o.IdempotencyKey == "") {
		return Result{}, refusal
	}
	a := asking{principal: principal, body: o.Body, ref: ref, trace: o.Trace}
	if o.IdempotencyKey == "" {
		a.id = c.cfg.NewID()
	} else {
		claim, _ := subject(o.Body)
		a.id = derivedID(principal, o.operation(), claimPart(claim), meant(c.Policies(), ref, claims.Asked(o.Body)), o.IdempotencyKey)
		a.repeatable = true
	}
	var result Result
	if refusal == nil {
		result, err = c.ask(ctx, &a, wait)
	} else if result, err = c.repeated(ctx, &a, refusal); err != nil {
		return Result{}, err
	}
	if o.Admin {
		c.audit(ctx, &a, &o, &result, err)
	}
	if done := result.Outcome; err == nil && done != nil && done.Type == registrations.Confirmed {
		if err := c.sequel(ctx, &result); err != nil { // it is confirmed all the same
			c.cfg.Log.DebugContext(ctx, "what follows a confirmation cannot be read", "request_id", a.id, "err", err)
		}
	}
	return result, err
}

// audit notes what an actor has asked for. Which name that was the history says, and GET /v1/claims/{request_id}.
func (c *Claimer) audit(ctx context.Context, a *asking, o *Order, result *Result, err error) {
	outcome := string(ClaimStatePending)
	var refused *Refused
	switch {
	case errors.As(err, &refused):
		outcome, refused.audited = "refused: "+string(refused.Reason), true
	case err != nil:
		outcome = "refused"
	case result.Outcome != nil && result.Outcome.Type == registrations.Rejected:
		outcome = "rejected: " + string(result.Outcome.Reason)
	case result.Outcome != nil:
		outcome = string(result.Outcome.Type)
	}
	c.cfg.Log.InfoContext(ctx, "admin request", "principal", a.principal, "actor", actorOf(o.Body), "action", operations[o.Body.Type()],
		"space", string(a.ref.Space), "request_id", a.id, "outcome", outcome, "replayed", result.Replayed)
}

// actorOf is who asks, where that is an actor.
func actorOf(body claims.Body) string {
	switch b := body.(type) {
	case *claims.ReleaseRequested:
		return b.Actor
	case *claims.TransferRequested:
		return b.Actor
	case *claims.BlockRequested:
		return b.Actor
	case *claims.UnblockRequested:
		return b.Actor
	}
	return ""
}

// check finds the name that an order is about, and what is wrong with the order as far as that can be known without the
// log, all of it at once. A name that nobody could claim now is right where it was held once, and for a withdrawal: the
// claim that it undoes may be undecided still. The error says that this cannot be looked up.
func (c *Claimer) check(ctx context.Context, o *Order) (names.Ref, *findings, error) {
	policies := c.Policies()
	space, _ := o.Body.Name()
	spelling := claims.Asked(o.Body)
	found := newFindings()
	ref, policy := found.name(policies, space, spelling)
	if refusal := found.refused(); refusal != nil && !found.lasting {
		var err error
		if o.Body.Type() != claims.TypeWithdrawRequested {
			_, err = c.once(ctx, policies, space, spelling, refusal)
		}
		switch {
		case err == nil:
			found = newFindings()
		case !errors.Is(err, refusal):
			return ref, found, err
		}
	}
	o.check(policy, found)
	return ref, found, nil
}

// check adds what is wrong with everything but the name.
func (o *Order) check(policy *names.Policy, found *findings) {
	switch b := o.Body.(type) {
	case *claims.ConfirmRequested:
		found.owner("owner", b.Owner)
	case *claims.ExtendRequested:
		found.owner("owner", b.Owner)
		found.ttl(policy, b.TTLSeconds, 0)
	case *claims.WithdrawRequested:
		found.owner("owner", b.Owner)
	case *claims.ReleaseRequested:
		found.by(o.Admin, b.Owner, b.Actor, b.Reason)
		found.version(b.ExpectedVersion)
	case *claims.DeactivateRequested:
		found.owner("owner", b.Owner)
		found.version(b.ExpectedVersion)
	case *claims.ReactivateRequested:
		found.owner("owner", b.Owner)
		found.version(b.ExpectedVersion)
	case *claims.BlockRequested:
		found.actor(b.Actor, b.Reason)
	case *claims.UnblockRequested:
		found.actor(b.Actor, b.Reason)
	case *claims.TransferRequested:
		found.by(o.Admin, b.Owner, b.Actor, b.Reason)
		found.owner("new_owner", b.NewOwner)
		found.version(b.ExpectedVersion)
	}
	if len(found.errors) == 0 {
		found.invalid(o.Body.Validate()) // what no field says alone
	}
}

// subject is whom a request is about: the claim it names, and the owner.
func subject(body claims.Body) (claim uuid.UUID, owner string) {
	switch b := body.(type) {
	case *claims.UsernameClaimed:
		return uuid.Nil, b.Owner
	case *claims.SignupRequested:
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
// yet is taken to be about that: also one that nobody could claim now, which it may have been claimed before. The error is a
// *Refused; also then the space is that of the claim, where there is one.
func (c *Claimer) Claimed(ctx context.Context, id uuid.UUID, space names.Space, name string) (claims.About, error) {
	about := c.about(space, name)
	var want names.Ref
	if name != "" {
		var err error
		if name, err = c.concealed(c.Policies(), space, names.Value{Name: name}); err != nil {
			return about, err
		}
		about = c.about(space, name)
		found := newFindings()
		if want, _ = found.name(c.Policies(), space, name); found.lasting {
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
		case name != "" && (o.Ref != want || onlyAlike(c.Policies()[space], o.Name, name)):
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
	}
	about.Space, about.Spelling, about.Key = claim.Ref.Space, claim.Name, ""
	if claim.Request != "" {
		return about, &Refused{Reason: UnknownClaim, Detail: "the id is that of another request, not of a claim"}
	}
	if p := c.Policies()[about.Space]; p != nil {
		asked := about.Spelling
		if p.Private != nil {
			about.Spelling, about.Key = "", claim.Ref.Key
			asked = string(about.Key)
		}
		if key, err := p.HeldKey(asked); err == nil && key == claim.Ref.Key {
			return about, nil
		}
	}
	return about, &Refused{Reason: UnknownClaim, Detail: "the claim was rejected: what it asked for is no name"}
}
