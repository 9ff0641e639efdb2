package api

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// The calls of actors, about anybody's names: signed, and kept with who asked for them and why.

// AdminReleaseName is POST /v1/admin/names/{space}/{name}/release.
func (h *handlers) AdminReleaseName(ctx context.Context, r AdminReleaseNameRequestObject) (AdminReleaseNameResponseObject, error) {
	b := r.Body
	return h.asAdmin(ctx, r.Space, r.Name, ReleaseNameParams(r.Params), b.ExpectedVersion, func(about claims.About, version *int64) claims.Body {
		return &claims.ReleaseRequested{About: about, ExpectedVersion: version, Actor: b.Actor, Reason: b.Reason}
	})
}

// AdminTransferName is POST /v1/admin/names/{space}/{name}/transfer.
func (h *handlers) AdminTransferName(ctx context.Context, r AdminTransferNameRequestObject) (AdminTransferNameResponseObject, error) {
	b := r.Body
	return h.asAdmin(ctx, r.Space, r.Name, ReleaseNameParams(r.Params), b.ExpectedVersion, func(about claims.About, version *int64) claims.Body {
		return &claims.TransferRequested{About: about, NewOwner: b.NewOwner, ExpectedVersion: version, Actor: b.Actor, Reason: b.Reason}
	})
}

// BlockName is POST /v1/admin/names/{space}/{name}/block.
func (h *handlers) BlockName(ctx context.Context, r BlockNameRequestObject) (BlockNameResponseObject, error) {
	return h.asAdmin(ctx, r.Space, r.Name, unconditional(r.Params), nil, func(about claims.About, _ *int64) claims.Body {
		return &claims.BlockRequested{About: forEver(about), Actor: r.Body.Actor, Reason: r.Body.Reason}
	})
}

// UnblockName is POST /v1/admin/names/{space}/{name}/unblock.
func (h *handlers) UnblockName(ctx context.Context, r UnblockNameRequestObject) (UnblockNameResponseObject, error) {
	return h.asAdmin(ctx, r.Space, r.Name, unconditional(BlockNameParams(r.Params)), nil, func(about claims.About, _ *int64) claims.Body {
		return &claims.UnblockRequested{About: forEver(about), Actor: r.Body.Actor, Reason: r.Body.Reason}
	})
}

func unconditional(p BlockNameParams) ReleaseNameParams {
	return ReleaseNameParams{IdempotencyKey: p.IdempotencyKey, Prefer: p.Prefer, Traceparent: p.Traceparent, Tracestate: p.Tracestate}
}

// asAdmin asks for something about a name on an actor's behalf. Whose name it is only the log can tell: so the key must be
// limited to no owners.
func (h *handlers) asAdmin(ctx context.Context, space, name string, params ReleaseNameParams, expected *int64,
	body func(about claims.About, version *int64) claims.Body,
) (*reply, error) {
	if !principalOf(ctx).ForAnyOwner() {
		return nil, notAllowed("owner", "the key is limited to some owners: an admin acts on anybody's names")
	}
	version, err := expectedVersion(expected, params.IfMatch, nil)
	if err != nil {
		return nil, err
	}
	about := h.claimer.about(names.Space(space), name)
	reply, err := h.order(ctx, Order{Body: body(about, version), Admin: true}, params)
	if err != nil {
		return nil, inPath(err)
	}
	return reply, nil
}

// EraseOwner is POST /v1/admin/owners/{owner}/erase.
func (h *handlers) EraseOwner(ctx context.Context, r EraseOwnerRequestObject) (EraseOwnerResponseObject, error) {
	principal, err := mayErase(ctx)
	if err != nil {
		return nil, err
	}
	report, err := h.claimer.EraseOwner(ctx, principal.Name, r.Owner, r.Body.Actor, r.Body.Reason)
	if err != nil {
		return nil, err
	}
	return EraseOwner202JSONResponse{Body: report, Headers: EraseOwner202ResponseHeaders{Location: new("/v1/admin/erasures/" + report.ID)}}, nil
}

// erasurePattern is where the report of an erasure is read, which goes on with it.
const erasurePattern = "GET /v1/admin/erasures/{id}"

// GetErasure is GET /v1/admin/erasures/{id}.
func (h *handlers) GetErasure(ctx context.Context, r GetErasureRequestObject) (GetErasureResponseObject, error) {
	principal, err := mayErase(ctx)
	if err != nil {
		return nil, err
	}
	report, err := h.claimer.Erasure(ctx, principal.Name, r.ID)
	if err != nil {
		return nil, err
	}
	return GetErasure200JSONResponse(report), nil
}

// mayErase: an owner's names are in any space.
func mayErase(ctx context.Context) (*auth.Principal, error) {
	switch principal := principalOf(ctx); {
	case !principal.ForAnyOwner():
		return nil, notAllowed("owner", "the key is limited to some owners: an admin acts on anybody's names")
	case principal.Spaces() != nil:
		return nil, notAllowed("space", "the key is limited to some spaces: an owner is erased in all of them")
	default:
		return principal, nil
	}
}

// auditRefused notes what somebody was refused at the calls of actors, where that was not noted yet. Who has no key is
// nobody, and who calls too often is not noted each time. What is in the address is what somebody has typed: only a space
// that there is says nothing about anybody.
func (s *Server) auditRefused(r *http.Request, refused *Refused, pattern string, principal *auth.Principal) {
	if refused == nil || refused.audited || principal == nil || refused.Reason == OverRate || routes[pattern].scope != auth.ScopeAdmin {
		return
	}
	space := names.Space(inAddress(r, pattern, "{space}"))
	if s.policies()[space] == nil {
		space = ""
	}
	action := path.Base(pattern)
	if pattern == erasurePattern {
		action = "erase"
	}
	s.log.InfoContext(r.Context(), "admin request refused", "principal", principal.Name, "action", action,
		"space", string(space), "reason", string(refused.Reason))
}

// inAddress is a part of the address of a request that may not have come to its handler.
func inAddress(r *http.Request, pattern, part string) string {
	address := strings.Split(r.URL.EscapedPath(), "/")
	for i, p := range strings.Split(pattern, "/") {
		if p == part && i < len(address) {
			value, _ := url.PathUnescape(address[i]) // it was routed: it can be read
			return value
		}
	}
	return ""
}
