package api

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Find reads what became of a request, and waits for it at most that long. at is where the request was written, if the
// caller knows: then one that is not decided yet is pending, else it is refused as UnknownClaim like one that never was.
// So is one whose position is in a log that was given up. The error is a *Refused.
func (c *Claimer) Find(ctx context.Context, id uuid.UUID, at *Position, wait time.Duration) (Result, error) {
	var ticket *registrations.Ticket
	if wait > 0 { // the ticket first: what is decided behind the look-up's back is delivered
		var err error
		if ticket, err = c.waiter.Expect(id, registrations.AnyPartition); err != nil {
			return Result{}, &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: err}
		}
		defer ticket.Release()
	}
	result, err := c.decided(ctx, id)
	if err != nil || result.Outcome != nil {
		return result, err
	}
	if ticket != nil && (at == nil || !c.standings.passed(*at)) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		select {
		case <-ticket.Done():
		case <-ctx.Done():
		}
		cancel()
		if o, ok := ticket.Outcome(); ok {
			return resultOf(&o), nil
		}
	}
	switch {
	case at == nil:
		return Result{}, &Refused{Reason: UnknownClaim, RetryAfter: time.Second,
			Detail: "there is no such claim, or it is not decided yet: the Location of the 202 says where it is (?at=…) and can tell"}
	case c.standings.passed(*at), c.standings.replaced(*at):
		return c.lost(ctx, id, *at)
	}
	return Result{RequestID: id, Position: *at}, nil
}

// lost looks once more for a request whose position is decided, or is of a log that was given up: it may have been decided
// after we looked and before we learnt of it, and what we have learnt may be of a database that has gone back since.
//
// A caller who was told a position and finds nothing there claimed on a log that was replaced, by one that we had not
// heard of yet or have heard of since. What became of the record is not known then: it was lost with the old log, or it
// is in the new one and will be decided under another position. To call it pending could be to call it so for ever, and
// who asks again and again would never learn that nothing comes. So it is unknown_claim, and the detail says what is
// always right: to send it again as the same claim, which is decided once however often it is in the log.
func (c *Claimer) lost(ctx context.Context, id uuid.UUID, at Position) (Result, error) {
	if err := c.standings.read(ctx); err != nil {
		return Result{}, unavailable(err)
	}
	result, err := c.decided(ctx, id)
	if err != nil || result.Outcome != nil {
		return result, err
	}
	switch {
	case c.standings.passed(at):
		return Result{}, &Refused{Reason: UnknownClaim,
			Detail: "all that was written up to that position is decided, and this claim was not there: the id or the position is wrong, or the log was replaced. " + sendAgain}
	case c.standings.replaced(at):
		return Result{}, &Refused{Reason: UnknownClaim, RetryAfter: time.Second,
			Detail: "the log that the position is in was replaced by another one, and this claim is not decided: it was lost with that log, or is in the new one and not decided yet. " + sendAgain}
	}
	return Result{RequestID: id, Position: at}, nil
}

const sendAgain = "Claim the name again with the same Idempotency-Key or claim_id: if the claim was, or will be, decided after all, that is the answer"

// decided looks the outcome up; a Result without one says that there is none.
func (c *Claimer) decided(ctx context.Context, id uuid.UUID) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	outcomes, err := c.lookup.Decided(ctx, []uuid.UUID{id})
	switch {
	case err != nil:
		return Result{}, unavailable(err)
	case len(outcomes) == 0:
		return Result{RequestID: id}, nil
	case len(outcomes) > 1:
		return Result{}, &Refused{Reason: AmbiguousID, ClaimID: id}
	}
	return resultOf(&outcomes[0]), nil
}

func resultOf(o *registrations.Outcome) Result {
	return Result{RequestID: o.RequestID, Ref: o.Ref, Name: o.Name, Owner: o.Owner, Outcome: o}
}

// Look is what is known of a name. Why it cannot be had is empty where it can.
type Look struct {
	Ref    names.Ref
	Name   string // as its holder typed it, or as asked
	Reason registrations.Reason
	registrations.Holding
}

// Look reads who holds a name: advice, as of now. The error is a *Refused.
func (c *Claimer) Look(ctx context.Context, space names.Space, name string) (Look, error) {
	policy := c.cfg.Policies[space]
	if policy == nil {
		return Look{}, &Refused{Reason: UnknownSpace, Errors: []FieldError{{Field: "space", Detail: "there is no such space"}}}
	}
	key, err := policy.Canonical(name)
	if err != nil {
		return Look{}, &Refused{Reason: InvalidName, Errors: []FieldError{{Field: "name", Detail: err.Error()}}}
	}
	look := Look{Ref: names.Ref{Space: space, Key: key}, Name: name}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if look.Holding, err = c.lookup.Name(ctx, look.Ref); err != nil {
		return Look{}, unavailable(err)
	}
	switch {
	case look.Held():
		look.Name, look.Reason = look.Holding.Name, registrations.Taken
	case policy.IsReserved(key):
		look.Reason = registrations.ReservedWord
	}
	return look, nil
}
