package recipes

import (
	"context"
	"errors"
	"net/http"
	"time"

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
// into it only where something is wrong. The user's id is that of the sign-up. undo deletes the user that insert has made.
func SignUpByClaim(ctx context.Context, dibs *client.Client, s SignUp, ttl time.Duration, insert, undo func(context.Context) error) (client.Result, error) {
	reserved, err := dibs.Reserve(ctx, client.Claim{Name: s.Name, Owner: s.ID, IdempotencyKey: s.ID}, ttl)
	if err != nil || reserved.State != client.Accepted {
		return reserved, err
	}
	return between(ctx, dibs, reserved, ttl, s.ID, insert, undo)
}
