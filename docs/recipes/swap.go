package recipes

import (
	"context"

	"github.com/dibs-hq/dibs/client"
)

// Swap gives two owners each other's name. Neither name is free for a moment; in between b's owner has both.
func Swap(ctx context.Context, dibs *client.Client, id string, a, b client.Name) (client.Result, error) {
	there, err := dibs.Transfer(ctx, a.Space, a.Key, a.Owner, b.Owner, client.IfVersion(a.Version), client.IdempotencyKey(id))
	if err != nil || there.State != client.Accepted {
		return there, err
	}
	back, err := dibs.Transfer(ctx, b.Space, b.Key, b.Owner, a.Owner, client.IfVersion(b.Version), client.IdempotencyKey(id))
	if err != nil || back.State == client.Accepted {
		return back, err
	}
	// b has changed in the meantime, so there is nothing to swap for: a goes back to its owner.
	_, err = dibs.Transfer(ctx, a.Space, a.Key, b.Owner, a.Owner, client.IfVersion(there.Version), client.IdempotencyKey(id+"/back"))
	return back, err
}
