package api

import (
	"context"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// handlers answers the calls of the document: from wire types to a Claimer and back. Every error becomes a problem in
// errors.go.
type handlers struct {
	claimer              *Claimer
	waitDefault, waitMax time.Duration
	limits               *limits
}

var _ StrictServerInterface = (*handlers)(nil)

// pollAfter is what a pending claim's Retry-After says.
const pollAfter = time.Second

// CreateClaim is POST /v1/claims, as the generated code would ask for it: see create.go.
func (h *handlers) CreateClaim(ctx context.Context, r CreateClaimRequestObject) (CreateClaimResponseObject, error) {
	request, err := requestOf(r.Body, &r.Params)
	if err != nil {
		return nil, err
	}
	reply, err := h.claim(ctx, principalOf(ctx), request, r.Params.Prefer)
	switch {
	case err != nil:
		return nil, err
	case reply.later != nil:
		return CreateClaim202JSONResponse{*reply.later}, nil
	}
	return CreateClaim201JSONResponse{Body: reply.done.Body, Headers: CreateClaim201ResponseHeaders(reply.done.Headers)}, nil
}

// claim asks for a name.
func (h *handlers) claim(ctx context.Context, principal *auth.Principal, request Request, preferred *string) (*reply, error) {
	prefer, err := parsePrefer(preferred, h.waitDefault, h.waitMax)
	if err != nil {
		return nil, err
	}
	if err := allowed(principal, string(request.Space), request.Owner); err != nil {
		return nil, err
	}
	result, err := h.claimer.Claim(ctx, principal.Name, request, prefer.wait)
	if err != nil {
		return nil, err
	}
	return replyOf(&result, prefer.applied)
}

// position reads where a request is in the log; nil where that is not said.
func (h *handlers) position(at *string) (*Position, error) {
	if at == nil {
		return nil, nil
	}
	p, ok := parsePosition(*at, h.claimer.cfg.Partitions)
	if !ok {
		return nil, badRequest("at", "is not a <partition>-<log epoch>-<offset> of this log")
	}
	return &p, nil
}

// GetClaim is GET /v1/claims/{id}.
func (h *handlers) GetClaim(ctx context.Context, r GetClaimRequestObject) (GetClaimResponseObject, error) {
	id, err := idInPath(r.ID)
	if err != nil {
		return nil, err
	}
	at, err := h.position(r.Params.At)
	if err != nil {
		return nil, err
	}
	withdrawn := r.Params.OnTimeout != nil
	if withdrawn && (at == nil || !r.Params.OnTimeout.Valid()) {
		return nil, badRequest("on_timeout", `must be "withdraw", together with at`)
	}
	prefer, err := parsePrefer(r.Params.Prefer, 0, h.waitMax)
	if err != nil {
		return nil, err
	}
	result, err := h.claimer.Find(ctx, id, at, withdrawn, prefer.wait)
	if err != nil {
		return nil, err
	}
	if result.Outcome != nil || result.Withdrawal != nil {
		if err := allowed(principalOf(ctx), string(result.Ref.Space), result.Owner); err != nil {
			return nil, err
		}
	}
	claim := claimOf(&result)
	headers := GetClaim200ResponseHeaders{PreferenceApplied: optional(prefer.applied)}
	if claim.State == ClaimStatePending || claim.State == ClaimStateWithdrawing {
		headers.RetryAfter = new(retryAfter(pollAfter))
	}
	if claim.Version != nil {
		headers.ETag = new(etag(*claim.Version))
	}
	return GetClaim200JSONResponse{Body: claim, Headers: headers}, nil
}

// GetName is GET /v1/names/{space}/{name}.
func (h *handlers) GetName(ctx context.Context, r GetNameRequestObject) (GetNameResponseObject, error) {
	principal := principalOf(ctx)
	if !principal.InSpace(r.Space) {
		return nil, notAllowed("space", "the key is limited to other spaces")
	}
	look, err := h.claimer.Look(ctx, names.Space(r.Space), r.Name)
	if err != nil {
		return nil, inPath(err)
	}
	return GetName200JSONResponse{Body: nameOf(&look, principal), Headers: GetName200ResponseHeaders{ETag: etag(look.Version)}}, nil
}

// nameOf is how a name reads. Who holds it is left out where the key does not cover that owner.
func nameOf(look *Look, principal *auth.Principal) Name {
	name := Name{
		Space: string(look.Ref.Space), Key: string(look.Ref.Key), Name: optional(look.Name),
		Available: look.Reason == "", Reason: optional(RejectionReason(look.Reason)),
		State: NameState(look.State), Version: look.Version,
	}
	if !look.ExpiresAt.IsZero() {
		name.ExpiresAt = new(look.ExpiresAt.UTC())
	}
	if look.Held() {
		if principal.ForOwner(look.Owner) {
			name.Owner, name.ClaimID = &look.Owner, new(look.ClaimID.String())
		}
	}
	return name
}

// requestOf reads the wire form of a claim. What is left out gets its default here; what is empty is not left out.
func requestOf(b *ClaimRequest, params *CreateClaimParams) (Request, error) {
	request := Request{
		Space: names.Username, Owner: b.Owner, Mode: claims.ModeRegister, Metadata: b.Metadata,
		Trace: traceHeaders(params.Traceparent, params.Tracestate),
	}
	value := valueOf(b.Name, b.Fields)
	request.Name, request.Fields = value.Name, value.Fields
	var err error
	if request.IdempotencyKey, err = idempotencyKey(params.IdempotencyKey); err != nil {
		return Request{}, err
	}
	if request.ExpectedVersion, err = expectedVersion(b.ExpectedVersion, params.IfMatch, params.IfNoneMatch); err != nil {
		return Request{}, err
	}
	if b.Space != nil {
		request.Space = names.Space(*b.Space)
	}
	if b.Mode != nil {
		request.Mode = claims.Mode(*b.Mode)
	}
	request.TTLSeconds = b.TTLSeconds
	if b.Replaces != nil {
		request.Replaces = &Replaced{Name: b.Replaces.Name, Version: b.Replaces.Version}
	}
	if b.OnTimeout != nil {
		if request.Withdraw = b.OnTimeout.Valid(); !request.Withdraw {
			return Request{}, invalidRequest("on_timeout", `must be "withdraw" or left out`)
		}
	}
	if b.OnConflict != nil {
		if !b.OnConflict.Valid() {
			return Request{}, invalidRequest("on_conflict", `must be "return_existing" or left out`)
		}
		request.OnConflict = claims.OnConflict(*b.OnConflict)
	}
	if b.ClaimID != nil {
		if request.ClaimID, err = parseUUID(*b.ClaimID); err != nil || request.ClaimID == uuid.Nil {
			return Request{}, invalidRequest("claim_id", "must be a UUID of version 4 or 7")
		}
	}
	return request, nil
}

func invalidRequest(field, detail string) *Refused {
	return &Refused{Reason: InvalidRequest, Errors: []FieldError{{Field: field, Detail: detail}}}
}

func notAllowed(field, detail string) *Refused {
	return &Refused{Reason: NotAllowed, Detail: detail, Errors: []FieldError{{Field: field, Detail: detail}}}
}

// allowed checks what a key is limited to.
func allowed(p *auth.Principal, space, owner string) error {
	if !p.InSpace(space) {
		return notAllowed("space", "the key is limited to other spaces")
	}
	if !p.ForOwner(owner) {
		return notAllowed("owner", "the key is limited to other owners")
	}
	return nil
}

// idInPath reads the id of a claim.
func idInPath(s string) (uuid.UUID, error) {
	id, err := parseUUID(s)
	if err != nil {
		return uuid.Nil, badRequest("id", "is not a UUID")
	}
	return id, nil
}

// parseUUID takes the one spelling of 36 characters.
func parseUUID(s string) (uuid.UUID, error) {
	if len(s) != 36 {
		return uuid.Nil, strconv.ErrSyntax
	}
	return uuid.Parse(s)
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// optional is nil for a zero value, which the answer then leaves out.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// unlessZero is nil for a zero value, as optional, and needs no memory of its own.
func unlessZero[T comparable](v *T) *T {
	var zero T
	if *v == zero {
		return nil
	}
	return v
}
