package recipes

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// Application is a row of your own. Claim is empty until the claim is in the log; store it with Position.
type Application struct {
	ID, Name, Owner string
	Claim           client.Result
}

// Apply puts the reservation into the log, and does not wait for its outcome.
func Apply(ctx context.Context, dibs *client.Client, a *Application, ttl time.Duration) (err error) {
	a.Claim, err = dibs.SubmitReserve(ctx, client.Claim{Name: a.Name, Owner: a.Owner, IdempotencyKey: a.ID}, ttl)
	return err
}

// Settle is called when the external check has answered: minutes or days later, by another process perhaps.
func Settle(ctx context.Context, dibs *client.Client, a *Application, passed bool) (client.Result, error) {
	if !passed {
		return dibs.Withdraw(ctx, a.Claim.ID, a.Owner, client.Undecided("username", a.Name), client.IdempotencyKey(a.ID))
	}
	decided, err := dibs.Await(ctx, a.Claim)
	if err != nil || decided.State != client.Accepted {
		return decided, err
	}
	return dibs.Confirm(ctx, a.Claim.ID, a.Owner, client.IdempotencyKey(a.ID))
}
