package recipes

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// Change is a row of your own, written before anything is asked.
type Change struct{ ID, Owner, From, To string }

// ChangeName reserves the new name, does what has to be done, and confirms: with that the old name is released. Where it is
// too late for that, undo takes back what the logic has done.
func ChangeName(ctx context.Context, dibs *client.Client, c Change, ttl time.Duration, logic, undo func(context.Context) error) (client.Result, error) {
	reserved, err := dibs.Reserve(ctx, client.Claim{
		Name: c.To, Owner: c.Owner, Replaces: &client.Replaces{Name: c.From}, IdempotencyKey: c.ID,
	}, ttl)
	if err != nil || reserved.State != client.Accepted {
		return reserved, err
	}
	return between(ctx, dibs, reserved, ttl, c.ID, logic, undo)
}

// GiveUpChange ends it where the logic has failed for good, and what it did is undone. The old name was never touched.
func GiveUpChange(ctx context.Context, dibs *client.Client, c Change, claim string) (client.Result, error) {
	return dibs.Withdraw(ctx, claim, c.Owner, client.IdempotencyKey(c.ID))
}
