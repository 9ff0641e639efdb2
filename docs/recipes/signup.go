package recipes

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// SignUp is a row of your own, written before anything is asked: whoever picks it up after a crash goes on with it.
type SignUp struct{ ID, Name, Address string }

// Mail sends the link, which carries the id of the claim.
type Mail func(ctx context.Context, address, claim string) error

// StartSignUp reserves the name and mails the link.
func StartSignUp(ctx context.Context, dibs *client.Client, s SignUp, ttl time.Duration, mail Mail) (client.Result, error) {
	reserved, err := dibs.Reserve(ctx, client.Claim{Name: s.Name, Owner: s.ID, IdempotencyKey: s.ID}, ttl)
	if err != nil || reserved.State != client.Accepted {
		return reserved, err
	}
	now, err := held(ctx, dibs, reserved, ttl)
	if err != nil || now.State != client.Accepted {
		return now, err
	}
	return now, mail(ctx, s.Address, now.ID)
}

// MailAgain lets the reservation hold for ttl from now, and mails the same link.
func MailAgain(ctx context.Context, dibs *client.Client, s SignUp, claim string, ttl time.Duration, mail Mail) (client.Result, error) {
	extended, err := dibs.Extend(ctx, claim, s.ID, ttl)
	if err != nil || extended.State != client.Accepted {
		return extended, err
	}
	return extended, mail(ctx, s.Address, claim)
}

// FinishSignUp is called by the link, as often as it is clicked.
func FinishSignUp(ctx context.Context, dibs *client.Client, s SignUp, claim string) (client.Result, error) {
	return dibs.Confirm(ctx, claim, s.ID)
}
