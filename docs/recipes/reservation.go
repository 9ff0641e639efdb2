package recipes

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// held is an accepted reservation as it is now, for what may be done only while it holds: it is rejected where it is over,
// or confirmed already. Where it is new nobody is asked. Of one that was asked for before, the answer is that of then; it is
// extended, for only the log knows whether it still holds.
func held(ctx context.Context, dibs *client.Client, reserved client.Result, ttl time.Duration) (client.Result, error) {
	if !reserved.Replayed && time.Now().Before(reserved.ExpiresAt) {
		return reserved, nil
	}
	now, err := dibs.Extend(ctx, reserved.ID, reserved.Owner, max(ttl, time.Second))
	if err == nil && now.Reason == "limit_exceeded" { // it holds, for as long as it may
		return reserved, nil
	}
	return now, err
}

// between does something while a reservation holds, and confirms it. Where the confirmation is refused, what this call or
// an earlier one has done is undone: neither may mind whether that is much, or nothing, or was there already.
func between(ctx context.Context, dibs *client.Client, reserved client.Result, ttl time.Duration, key string, do, undo func(context.Context) error) (client.Result, error) {
	now, err := held(ctx, dibs, reserved, ttl)
	if err != nil {
		return now, err
	}
	if now.State == client.Accepted {
		if err := do(ctx); err != nil {
			return now, err
		}
	}
	confirmed, err := dibs.Confirm(ctx, reserved.ID, reserved.Owner, client.IdempotencyKey(key))
	if err == nil && confirmed.State == client.Rejected {
		err = undo(ctx)
	}
	return confirmed, err
}
