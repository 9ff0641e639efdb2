package client

import (
	"context"
	"net/http"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// What an actor can do with anybody's names: it takes a key with the scope admin. Each call waits for the outcome, and tries
// again, as those of an owner do.

// By is who does it, and why: the history of the name keeps both.
type By struct{ Actor, Reason string }

// AdminRelease takes a name from whoever holds it. It is free then, or nobody's for the cool-down of its space.
func (c *Client) AdminRelease(ctx context.Context, space, name string, by By, options ...RequestOption) (Result, error) {
	return c.order(ctx, "admin release", Result{Space: space, Name: name}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.AdminReleaseName(ctx, space, name, (*wire.AdminReleaseNameParams)(p.ofName(o)), wire.AdminReleaseRequest{Actor: by.Actor, Reason: by.Reason})
	})
}

// AdminTransfer hands a name to another owner, whoever holds it.
func (c *Client) AdminTransfer(ctx context.Context, space, name, newOwner string, by By, options ...RequestOption) (Result, error) {
	return c.order(ctx, "admin transfer", Result{Space: space, Name: name, Owner: newOwner}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		body := wire.AdminTransferRequest{Actor: by.Actor, Reason: by.Reason, NewOwner: newOwner}
		return c.wire.AdminTransferName(ctx, space, name, (*wire.AdminTransferNameParams)(p.ofName(o)), body)
	})
}

// AdminBlock takes a name from everybody. IfVersion is refused: it is done whatever version the name has.
func (c *Client) AdminBlock(ctx context.Context, space, name string, by By, options ...RequestOption) (Result, error) {
	return c.order(ctx, "block", Result{Space: space, Name: name}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.BlockName(ctx, space, name, (*wire.BlockNameParams)(p.ofClaim()), wire.AdminRequest{Actor: by.Actor, Reason: by.Reason}, p.precondition(o))
	})
}

// AdminUnblock frees a name that is blocked. IfVersion is refused.
func (c *Client) AdminUnblock(ctx context.Context, space, name string, by By, options ...RequestOption) (Result, error) {
	return c.order(ctx, "unblock", Result{Space: space, Name: name}, options, func(ctx context.Context, o *order, p params) (*http.Response, error) {
		return c.wire.UnblockName(ctx, space, name, (*wire.UnblockNameParams)(p.ofClaim()), wire.AdminRequest{Actor: by.Actor, Reason: by.Reason}, p.precondition(o))
	})
}

// precondition sends IfVersion where there is no parameter for it, so that the API refuses it rather than we pass it over.
func (p params) precondition(o *order) wire.RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		if match := p.ofName(o).IfMatch; match != nil {
			r.Header.Set("If-Match", *match)
		}
		return nil
	}
}
