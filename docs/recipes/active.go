package recipes

import (
	"context"

	"github.com/dibs-hq/dibs/client"
)

// Leave is called when an account is closed, once for the closing with that id.
func Leave(ctx context.Context, dibs *client.Client, space, name, owner, closing string) (client.Result, error) {
	return dibs.Deactivate(ctx, space, name, owner, client.IdempotencyKey(closing))
}

// ComeBack is called when it is opened again. Where somebody else has the name by now it returns false: let the owner
// choose another one.
func ComeBack(ctx context.Context, dibs *client.Client, space, name, owner, opening string) (bool, error) {
	result, err := dibs.Reactivate(ctx, space, name, owner, client.IdempotencyKey(opening))
	return result.State == client.Accepted, err
}
