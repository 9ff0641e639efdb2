package api

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// hasSequel reports whether something may have come of what was accepted: of a claim that got its name, not one that was
// answered with what stood, or of a confirmation.
func hasSequel(o *registrations.Outcome) bool {
	return o.Type == registrations.Confirmed || o.Type == registrations.Accepted && o.ClaimID == o.RequestID
}

// sequel reads what came of what was accepted. A withdrawal undoes the claim, not its confirmation, which stays what it was.
func (c *Claimer) sequel(ctx context.Context, result *Result) error {
	o := result.Outcome
	if o == nil || !hasSequel(o) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	found, err := c.lookup.Sequel(ctx, *o)
	if err != nil {
		return unavailable(err)
	}
	if result.FollowUp = found.FollowUp; o.Type == registrations.Accepted {
		result.Withdrawal = found.Withdrawal
	}
	return nil
}

// givenUp is what follows a claim that was accepted just now.
func (c *Claimer) givenUp(claim *claims.UsernameClaimed, o *registrations.Outcome) *GivenUp {
	old := names.Ref{Space: o.Ref.Space}
	if policy := c.Policies()[old.Space]; policy != nil {
		old.Key, _ = policy.HeldKey(claim.Replaces.Asked()) // it was checked
	}
	if old.Key == "" || old == o.Ref || o.State != registrations.Registered || !hasSequel(o) {
		return nil // nothing is released, or not before it is confirmed
	}
	return &GivenUp{Ref: old, Version: claim.Replaces.Version, Request: claims.ReleaseID(o.ClaimID, o.Ref)}
}

// readSequel finds out what came of a claim that was accepted before. A repeated claim that would be withdrawn waits,
// within its time, until it is decided itself: a withdrawal before it in the log is decided by then.
func (c *Claimer) readSequel(ctx context.Context, r *Request, result *Result, until time.Time) error {
	if at := result.Position; r.Withdraw && at != (Position{}) {
		for !c.standings.passed(at) {
			timer := time.NewTimer(min(standingsPause, time.Until(until)))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
			if ctx.Err() != nil || !time.Now().Before(until) {
				result.Outcome, result.Replayed = nil, false
				return nil
			}
			if err := c.standings.readOlder(ctx, standingsPause); err != nil {
				break // what is known will do
			}
		}
	}
	if err := c.sequel(ctx, result); err != nil {
		return &Refused{Reason: OutcomeUnknown, ClaimID: result.RequestID, RetryAfter: time.Second, Err: err}
	}
	return nil
}

// standingsPause is how long what is known of the partitions is good enough for those who wait for it to change.
const standingsPause = 250 * time.Millisecond
