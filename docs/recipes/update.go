package recipes

import (
	"context"

	"github.com/dibs-hq/dibs/client"
)

// HandOver transfers a name to another owner, if may says so of what the name is now. It is asked anew each time the name
// has changed before the transfer came.
func HandOver(ctx context.Context, dibs *client.Client, name, to string, may func(client.Name) bool) (client.Result, error) {
	return dibs.Update(ctx, "username", name, func(ctx context.Context, n client.Name) (client.Result, error) {
		if n.State != "registered" || n.Owner == to || !may(n) {
			return client.Result{}, nil // nothing to do
		}
		return dibs.Transfer(ctx, n.Space, n.Key, n.Owner, to, client.IfVersion(n.Version))
	})
}
