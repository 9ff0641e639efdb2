package recipes

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// Change is a row of your own, written before anything is asked.
type Change struct{ ID, Owner, From, To string }

// ChangeName reserves the new name, does what has to be done, and confirms: with that the old name is released.
func ChangeName(ctx context.Context, dibs *client.Client, c Change, ttl time.Duration, logic func(context.Context) error) (client.Result, error) {
	reserved, err := dibs.Reserve(ctx, client.Claim{
		Name: c.To, Owner: c.Owner, Replaces: &client.Replaces{Name: c.From}, IdempotencyKey: c.ID,
	}, ttl)
	if err != nil || reserved.State != client.Accepted {
		return reserved, err
	}
	if err := logic(ctx); err != nil {
		return reserved, err
	}
	return dibs.Confirm(ctx, reserved.ID, c.Owner, client.IdempotencyKey(c.ID))
}

// GiveUpChange undoes it where the logic has failed for good. The old name was never touched.
func GiveUpChange(ctx context.Context, dibs *client.Client, c Change, claim string) (client.Result, error) {
	return dibs.Withdraw(ctx, claim, c.Owner, client.IdempotencyKey(c.ID))
}
