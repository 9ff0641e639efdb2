package recipes

import (
	"context"
	"errors"
	"net/http"

	"github.com/dibs-hq/dibs/client"
)

// Shadow claims a name that the table has given to a user already, behind the commit. Nobody waits for it, and whatever
// comes of it changes nothing: what dibs would not have given is reported.
func Shadow(ctx context.Context, dibs *client.Client, user, name string, report func(client.Result)) error {
	result, err := dibs.Claim(ctx, client.Claim{Name: name, Owner: user, ReturnExisting: true, IdempotencyKey: user})
	if p := (*client.Problem)(nil); errors.As(err, &p) && p.Status == http.StatusUnprocessableEntity { // it is no name
		result, err = client.Result{State: client.Rejected, Name: name, Owner: user, Reason: p.Reason, Detail: p.Detail}, nil
	}
	if err == nil && result.State == client.Rejected {
		report(result)
	}
	return err
}

// SignUpByClaim is the sign-up behind the switch: the claim decides, and insert, whose unique index is still there, runs
// into it only where something is wrong.
func SignUpByClaim(ctx context.Context, dibs *client.Client, user, name string, insert func(context.Context) error) (client.Result, error) {
	reserved, err := dibs.Reserve(ctx, client.Claim{Name: name, Owner: user, IdempotencyKey: user}, 0)
	if err != nil || reserved.State != client.Accepted {
		return reserved, err
	}
	if err := insert(ctx); err != nil {
		return reserved, err
	}
	return dibs.Confirm(ctx, reserved.ID, user, client.IdempotencyKey(user))
}
