package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
	"github.com/google/uuid"
)

// What can be asked about a claim, or about a name that is held. Each call waits for the outcome as Claim does, and tries
// again what fails on the way, as the same request. A rejection is a result.

// RequestOption says more about a request.
type RequestOption func(*order)

type order struct {
	key, space, name string
	version          *int64
}

// IdempotencyKey is the identity of the request: asking again with it asks for the same. Without it the call makes one up,
// for its own tries.
func IdempotencyKey(key string) RequestOption { return func(o *order) { o.key = key } }

// IfVersion asks for it only if the name has that version: else it is rejected as version_conflict. See Update. It is for
// requests about a name, not about a claim.
func IfVersion(version int64) RequestOption { return func(o *order) { o.version = &version } }

// Undecided says what a claim is about that may not be decided yet. It is for Withdraw.
func Undecided(space, name string) RequestOption {
	return func(o *order) { o.space, o.name = space, name }
}

// Confirm makes a registration of a reservation, by the id of its claim.
func (c *Client) Confirm(ctx context.Context, id, owner string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "confirm", Result{ID: id, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.ConfirmClaim(ctx, id, p.ofClaim(), wire.ConfirmRequest{Owner: owner})
	})
}

// Extend lets a reservation hold for ttl from now, if that is longer than it does.
func (c *Client) Extend(ctx context.Context, id, owner string, ttl time.Duration, options ...RequestOption) (Result, error) {
	return c.order(ctx, "extend", Result{ID: id, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.ExtendClaim(ctx, id, (*wire.ExtendClaimParams)(p.ofClaim()), wire.ExtendRequest{Owner: owner, TTLSeconds: int64(ttl / time.Second)})
	})
}

// Withdraw undoes a claim. One that is not decided yet is not known by its id alone: say what it is about (Undecided).
func (c *Client) Withdraw(ctx context.Context, id, owner string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "withdraw", Result{ID: id, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		body := wire.WithdrawRequest{Owner: owner, Space: optional(o.space), Name: optional(o.name)}
		return c.wire.WithdrawClaim(ctx, id, (*wire.WithdrawClaimParams)(p.ofClaim()), body)
	})
}

// Release gives a name up.
func (c *Client) Release(ctx context.Context, space, name, owner string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "release", Result{Space: space, Name: name, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.ReleaseName(ctx, space, name, (*wire.ReleaseNameParams)(p.ofName(o)), wire.HolderRequest{Owner: owner})
	})
}

// Rename claims another name in place of one. The result is that of the claim; the old name is released behind it.
func (c *Client) Rename(ctx context.Context, space, name, owner, to string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "rename", Result{Space: space, Name: to, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.RenameName(ctx, space, name, p.ofName(o), wire.RenameRequest{Owner: owner, To: to})
	})
}

// Transfer hands a name to another owner, without ever freeing it.
func (c *Client) Transfer(ctx context.Context, space, name, owner, newOwner string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "transfer", Result{Space: space, Name: name, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.TransferName(ctx, space, name, (*wire.TransferNameParams)(p.ofName(o)), wire.TransferRequest{Owner: owner, NewOwner: newOwner})
	})
}

// Deactivate says that the owner is not active any more. Whether the name is free then is for the space's policy.
func (c *Client) Deactivate(ctx context.Context, space, name, owner string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "deactivate", Result{Space: space, Name: name, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.DeactivateName(ctx, space, name, (*wire.DeactivateNameParams)(p.ofName(o)), wire.HolderRequest{Owner: owner})
	})
}

// Reactivate takes that back, if nobody has the name meanwhile.
func (c *Client) Reactivate(ctx context.Context, space, name, owner string, options ...RequestOption) (Result, error) {
	return c.order(ctx, "reactivate", Result{Space: space, Name: name, Owner: owner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.ReactivateName(ctx, space, name, (*wire.ReactivateNameParams)(p.ofName(o)), wire.HolderRequest{Owner: owner})
	})
}

// params are the headers of one try.
type params struct{ key, prefer string }

func (p params) ofClaim() *wire.ConfirmClaimParams {
	return &wire.ConfirmClaimParams{IdempotencyKey: &p.key, Prefer: &p.prefer}
}

func (p params) ofName(o *order) *wire.RenameNameParams {
	ps := &wire.RenameNameParams{IdempotencyKey: &p.key, Prefer: &p.prefer}
	if o.version != nil {
		ps.IfMatch = new(strconv.Quote(strconv.FormatInt(*o.version, 10)))
	}
	return ps
}

// order asks and waits for the outcome. about is what is known of it beforehand.
func (c *Client) order(ctx context.Context, what string, about Result, options []RequestOption,
	do func(ctx context.Context, o *order, p params) (*http.Response, error),
) (Result, error) {
	var o order
	for _, option := range options {
		option(&o)
	}
	if o.key == "" {
		o.key = uuid.NewString()
	}
	ctx, cancel := c.limited(ctx)
	defer cancel()
	result, err := c.ask(ctx, true, about, func(ctx context.Context, prefer string) (*http.Response, error) {
		return do(ctx, &o, params{o.key, prefer})
	})
	if err != nil {
		return result, fmt.Errorf("%s: %w", what, err)
	}
	if result.State.decided() {
		return result, nil
	}
	return c.await(ctx, result)
}
