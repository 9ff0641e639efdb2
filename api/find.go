package api

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Find reads what became of a request, and waits for it at most that long. at is where the request was written, if the
// caller knows: then one that is not decided yet is pending, else it is refused as UnknownClaim like one that never was.
// So is one whose position is in a log that was given up. withdrawn says that at is where a claim's withdrawal was written,
// because its wait had run out. The error is a *Refused.
func (c *Claimer) Find(ctx context.Context, id uuid.UUID, at *Position, withdrawn bool, wait time.Duration) (Result, error) {
	awaited := id
	if withdrawn {
		awaited = withdrawalID(id)
	}
	ticket, err := c.expect(awaited, wait) // first: what is decided behind the look-up's back is delivered
	if err != nil {
		return Result{}, err
	}
	if ticket != nil {
		defer ticket.Release()
	}
	result, err := c.decided(ctx, id)
	if err != nil || result.settled(withdrawn) {
		return result, err
	}
	if ticket != nil && (at == nil || !c.standings.passed(*at)) {
		await(ctx, ticket, wait)
		if o := ticket.Outcome(); o != nil && !withdrawn {
			result = resultOf(o)
			return result, c.sequel(ctx, &result)
		} else if o != nil { // what became of the claim itself is decided as well
			if result, err = c.decided(ctx, id); err != nil || result.settled(withdrawn) {
				return result, err
			}
		}
	}
	switch {
	case at == nil:
		return Result{}, &Refused{Reason: UnknownClaim, RetryAfter: time.Second,
			Detail: "there is no such claim, or it is not decided yet: the Location of the 202 says where it is (?at=…) and can tell"}
	case c.standings.passed(*at), c.standings.replaced(*at):
		return c.lost(ctx, id, *at, withdrawn)
	}
	result.Position, result.Withdrawing = *at, withdrawn
	return result, nil
}

// expect takes a ticket for a request whose outcome somebody waits for, wherever it is; nil where there is no wait. The error
// is a *Refused.
func (c *Claimer) expect(id uuid.UUID, wait time.Duration) (*registrations.Ticket, error) {
	if wait <= 0 {
		return nil, nil
	}
	ticket, err := c.waiter.Expect(id, registrations.AnyPartition)
	if err != nil {
		return nil, &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: err}
	}
	return ticket, nil
}

// await waits for the outcome, at most that long.
func await(ctx context.Context, ticket *registrations.Ticket, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case <-ticket.Done():
	case <-ctx.Done():
	}
}

// settled reports whether there is nothing more to come. A claim that may be being withdrawn is settled by that, or by its
// rejection.
func (r *Result) settled(withdrawn bool) bool {
	o := r.Outcome
	return r.Withdrawal != nil || r.notWithdrawn || o != nil && (!withdrawn || o.Type == registrations.Rejected)
}

// lost looks once more for a request whose position is decided, or is of a log that was given up: it may have been decided
// after we looked and before we learnt of it, and what we have learnt may be of a database that has gone back since.
//
// A caller who was told a position and finds nothing there claimed on a log that was replaced, by one that we had not
// heard of yet or have heard of since. What became of the record is not known then: it was lost with the old log, or it
// is in the new one and will be decided under another position. To call it pending could be to call it so for ever, and
// who asks again and again would never learn that nothing comes. So it is unknown_claim, and the detail says what is
// always right: to send it again as the same claim, which is decided once however often it is in the log.
func (c *Claimer) lost(ctx context.Context, id uuid.UUID, at Position, withdrawn bool) (Result, error) {
	if err := c.standings.readAnew(ctx); err != nil {
		return Result{}, unavailable(err)
	}
	result, err := c.decided(ctx, id)
	if err != nil || result.settled(withdrawn) {
		return result, err
	}
	over := c.standings.passed(at)
	switch {
	case (over || c.standings.replaced(at)) && result.Outcome != nil: // its withdrawal was lost
		return result, nil
	case over:
		return Result{}, &Refused{Reason: UnknownClaim,
			Detail: "all that was written up to that position is decided, and this claim was not there: the id or the position is wrong, or the log was replaced. " + sendAgain}
	case c.standings.replaced(at):
		return Result{}, &Refused{Reason: UnknownClaim, RetryAfter: time.Second,
			Detail: "the log that the position is in was replaced by another one, and this claim is not decided: it was lost with that log, or is in the new one and not decided yet. " + sendAgain}
	}
	result.Position, result.Withdrawing = at, withdrawn
	return result, nil
}

const sendAgain = "Claim the name again with the same Idempotency-Key or claim_id: if the claim was, or will be, decided after all, that is the answer"

// decided looks up the outcome of a request and what came of it and, of a claim that is not decided, the withdrawal that
// followed it when its wait ran out. A Result without an outcome says that there is none.
func (c *Claimer) decided(ctx context.Context, id uuid.UUID) (Result, error) {
	outcomes, err := c.look(ctx, id, withdrawalID(id))
	if err != nil {
		return Result{}, err
	}
	result := Result{RequestID: id}
	var withdrawal *registrations.Outcome
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case o.RequestID != id:
			withdrawal = o
		case result.Outcome != nil:
			return Result{}, &Refused{Reason: AmbiguousID, ClaimID: id}
		default:
			result = resultOf(o)
		}
	}
	if w := withdrawal; w != nil && w.ClaimID == id {
		o := result.Outcome
		switch {
		case w.Type != registrations.Withdrawn:
			result.notWithdrawn = o != nil
		case o == nil:
			result = resultOf(w)
			result.RequestID, result.Type, result.Outcome, result.Withdrawal = id, claims.TypeUsernameClaimed, nil, w
		}
	}
	return result, c.sequel(ctx, &result)
}

// look reads outcomes.
func (c *Claimer) look(ctx context.Context, ids ...uuid.UUID) ([]registrations.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	outcomes, err := c.lookup.Decided(ctx, ids)
	if err != nil {
		return nil, unavailable(err)
	}
	return outcomes, nil
}

func resultOf(o *registrations.Outcome) Result {
	r := Result{RequestID: o.RequestID, Type: typeOf(o), ClaimID: o.ClaimID, Ref: o.Ref, Name: o.Name, Owner: o.Owner, Outcome: o}
	r.Position = positionOf(o)
	return r
}

// typeOf is the ce_type of the request that an outcome answers.
func typeOf(o *registrations.Outcome) string {
	if o.Request == "" {
		return claims.TypeUsernameClaimed
	}
	return "dibs." + o.Request + ".v1"
}
