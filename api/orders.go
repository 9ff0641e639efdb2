package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// The calls about what is claimed, or held, already. Each makes a request of the call; order and ordered do the rest.

// ConfirmClaim is POST /v1/claims/{id}/confirm.
func (h *handlers) ConfirmClaim(ctx context.Context, r ConfirmClaimRequestObject) (ConfirmClaimResponseObject, error) {
	return h.ofClaim(ctx, r.ID, r.Params, r.Body.Owner, nil, nil, func(about claims.About, id uuid.UUID) claims.Body {
		return &claims.ConfirmRequested{About: about, ClaimID: id, Owner: r.Body.Owner}
	})
}

// ExtendClaim is POST /v1/claims/{id}/extend.
func (h *handlers) ExtendClaim(ctx context.Context, r ExtendClaimRequestObject) (ExtendClaimResponseObject, error) {
	return h.ofClaim(ctx, r.ID, ConfirmClaimParams(r.Params), r.Body.Owner, nil, nil, func(about claims.About, id uuid.UUID) claims.Body {
		return &claims.ExtendRequested{About: about, ClaimID: id, Owner: r.Body.Owner, TTLSeconds: r.Body.TTLSeconds}
	})
}

// WithdrawClaim is POST /v1/claims/{id}/withdraw.
func (h *handlers) WithdrawClaim(ctx context.Context, r WithdrawClaimRequestObject) (WithdrawClaimResponseObject, error) {
	return h.ofClaim(ctx, r.ID, ConfirmClaimParams(r.Params), r.Body.Owner, r.Body.Space, r.Body.Name, func(about claims.About, id uuid.UUID) claims.Body {
		return &claims.WithdrawRequested{About: about, ClaimID: id, Owner: r.Body.Owner}
	})
}

// ReleaseName is POST /v1/names/{space}/{name}/release.
func (h *handlers) ReleaseName(ctx context.Context, r ReleaseNameRequestObject) (ReleaseNameResponseObject, error) {
	return h.ofName(ctx, r.Space, r.Name, r.Params, r.Body.ExpectedVersion, func(about claims.About, version *int64) claims.Body {
		return &claims.ReleaseRequested{About: about, Owner: r.Body.Owner, ExpectedVersion: version}
	})
}

// TransferName is POST /v1/names/{space}/{name}/transfer.
func (h *handlers) TransferName(ctx context.Context, r TransferNameRequestObject) (TransferNameResponseObject, error) {
	if !principalOf(ctx).ForOwner(r.Body.NewOwner) {
		return nil, notAllowed("new_owner", "the key is limited to other owners")
	}
	return h.ofName(ctx, r.Space, r.Name, ReleaseNameParams(r.Params), r.Body.ExpectedVersion, func(about claims.About, version *int64) claims.Body {
		return &claims.TransferRequested{About: about, Owner: r.Body.Owner, NewOwner: r.Body.NewOwner, ExpectedVersion: version}
	})
}

// DeactivateName is POST /v1/names/{space}/{name}/deactivate.
func (h *handlers) DeactivateName(ctx context.Context, r DeactivateNameRequestObject) (DeactivateNameResponseObject, error) {
	return h.ofName(ctx, r.Space, r.Name, ReleaseNameParams(r.Params), r.Body.ExpectedVersion, func(about claims.About, version *int64) claims.Body {
		return &claims.DeactivateRequested{About: forEver(about), Owner: r.Body.Owner, ExpectedVersion: version}
	})
}

// ReactivateName is POST /v1/names/{space}/{name}/reactivate.
func (h *handlers) ReactivateName(ctx context.Context, r ReactivateNameRequestObject) (ReactivateNameResponseObject, error) {
	return h.ofName(ctx, r.Space, r.Name, ReleaseNameParams(r.Params), r.Body.ExpectedVersion, func(about claims.About, version *int64) claims.Body {
		return &claims.ReactivateRequested{About: forEver(about), Owner: r.Body.Owner, ExpectedVersion: version}
	})
}

// RenameName is POST /v1/names/{space}/{name}/rename: a claim of the new name that replaces the old one.
func (h *handlers) RenameName(ctx context.Context, r RenameNameRequestObject) (RenameNameResponseObject, error) {
	version, err := expectedVersion(r.Body.ExpectedVersion, r.Params.IfMatch, nil)
	if err != nil {
		return nil, err
	}
	key, err := idempotencyKey(r.Params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	reply, err := h.claim(ctx, principalOf(ctx), Request{
		Space: names.Space(r.Space), Name: r.Body.To, Owner: r.Body.Owner, Mode: claims.ModeRegister, Rename: true,
		Replaces: &Replaced{Name: r.Name, Version: version}, IdempotencyKey: key, Trace: traceHeaders(r.Params.Traceparent, r.Params.Tracestate),
	}, r.Params.Prefer)
	if err != nil {
		return nil, inPath(err)
	}
	return reply, nil
}

// forEver is a request that is decided however late.
func forEver(about claims.About) claims.About {
	about.Deadline = time.Time{}
	return about
}

// ofClaim asks for something about a claim. What that is about is looked up, unless the caller says and it is not decided
// yet.
func (h *handlers) ofClaim(ctx context.Context, path string, params ConfirmClaimParams, owner string, space, name *string,
	body func(about claims.About, id uuid.UUID) claims.Body,
) (*reply, error) {
	id, err := idInPath(path)
	if err != nil {
		return nil, err
	}
	in, as := names.Username, ""
	if space != nil {
		in = names.Space(*space)
		if name == nil {
			return nil, invalidRequest("name", "is needed with space")
		}
	}
	if name != nil {
		if as = *name; as == "" {
			return nil, &Refused{Reason: InvalidName, Errors: []FieldError{{Field: "name", Detail: "is empty"}}}
		}
	}
	principal := principalOf(ctx)
	if !principal.ForOwner(owner) {
		return nil, notAllowed("owner", "the key is limited to other owners")
	}
	otherSpace := notAllowed("space", "the key is limited to other spaces")
	if as != "" && !principal.InSpace(string(in)) {
		return nil, otherSpace
	}
	about, err := h.claimer.Claimed(ctx, id, in, as)
	var refused *Refused
	switch {
	case errors.As(err, &refused) && refused.Reason == UnknownClaim && about.Spelling+string(about.Key) != "" && !principal.InSpace(string(about.Space)):
		return nil, otherSpace // what there is in it is not for this key to hear
	case err != nil:
		return nil, err
	}
	return h.order(ctx, Order{Body: body(about, id)}, ReleaseNameParams{
		IdempotencyKey: params.IdempotencyKey, Prefer: params.Prefer, Traceparent: params.Traceparent, Tracestate: params.Tracestate,
	})
}

// ofName asks for something about a name.
func (h *handlers) ofName(ctx context.Context, space, name string, params ReleaseNameParams, expected *int64,
	body func(about claims.About, version *int64) claims.Body,
) (*reply, error) {
	version, err := expectedVersion(expected, params.IfMatch, nil)
	if err != nil {
		return nil, err
	}
	about := h.claimer.about(names.Space(space), name)
	reply, err := h.order(ctx, Order{Body: body(about, version)}, params)
	if err != nil {
		return nil, inPath(err)
	}
	return reply, nil
}

// inPath makes an unknown space one of the address.
func inPath(err error) error {
	var refused *Refused
	if errors.As(err, &refused) && refused.Reason == UnknownSpace {
		refused.Status = http.StatusNotFound
	}
	return err
}

// order asks for it, and answers.
func (h *handlers) order(ctx context.Context, order Order, params ReleaseNameParams) (_ *reply, err error) {
	if order.IdempotencyKey, err = idempotencyKey(params.IdempotencyKey); err != nil {
		return nil, err
	}
	prefer, err := parsePrefer(params.Prefer, h.waitDefault, h.waitMax)
	if err != nil {
		return nil, err
	}
	principal := principalOf(ctx)
	space, _ := order.Body.Name()
	_, owner := subject(order.Body)
	if err := allowed(principal, string(space), owner); err != nil {
		return nil, err
	}
	order.Trace = traceHeaders(params.Traceparent, params.Tracestate)
	result, err := h.claimer.Order(ctx, principal.Name, order, prefer.wait)
	if err != nil {
		return nil, err
	}
	return replyOf(&result, prefer.applied)
}
