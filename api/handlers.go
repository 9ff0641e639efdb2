package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// handlers answers the calls of the document: from wire types to a Claimer and back. Every error becomes a problem in
// errors.go.
type handlers struct {
	claimer              *Claimer
	waitDefault, waitMax time.Duration
}

var _ StrictServerInterface = (*handlers)(nil)

// pollAfter is what a pending claim's Retry-After says.
const pollAfter = time.Second

// CreateClaim is POST /v1/claims.
func (h *handlers) CreateClaim(ctx context.Context, r CreateClaimRequestObject) (CreateClaimResponseObject, error) {
	request, err := requestOf(&r)
	if err != nil {
		return nil, err
	}
	prefer, err := parsePrefer(r.Params.Prefer, h.waitDefault, h.waitMax)
	if err != nil {
		return nil, err
	}
	principal := principalOf(ctx)
	if err := allowed(principal, string(request.Space), request.Owner); err != nil {
		return nil, err
	}
	result, err := h.claimer.Claim(ctx, principal.Name, request, prefer.wait)
	switch {
	case err != nil:
		return nil, err
	case result.Outcome == nil:
		return CreateClaim202JSONResponse{
			Body: claimOf(&result),
			Headers: CreateClaim202ResponseHeaders{
				Location:          claimPath(result.RequestID, &result.Position),
				RetryAfter:        retryAfter(pollAfter),
				PreferenceApplied: optional(prefer.applied),
			},
		}, nil
	case result.Outcome.Type == registrations.Rejected:
		return nil, &rejectedError{Result: result, applied: prefer.applied}
	}
	return CreateClaim201JSONResponse{
		Body: claimOf(&result),
		Headers: CreateClaim201ResponseHeaders{
			Location:           claimPath(result.RequestID, nil),
			ETag:               etag(result.Outcome.Version),
			IdempotentReplayed: optional(result.Replayed),
			PreferenceApplied:  optional(prefer.applied),
		},
	}, nil
}

// GetClaim is GET /v1/claims/{id}.
func (h *handlers) GetClaim(ctx context.Context, r GetClaimRequestObject) (GetClaimResponseObject, error) {
	id, err := parseUUID(r.ID)
	if err != nil {
		return nil, badRequest("id", "is not a UUID")
	}
	var at *Position
	if r.Params.At != nil {
		p, ok := parsePosition(*r.Params.At, h.claimer.cfg.Partitions)
		if !ok {
			return nil, badRequest("at", "is not a <partition>-<log epoch>-<offset> of this log")
		}
		at = &p
	}
	prefer, err := parsePrefer(r.Params.Prefer, 0, h.waitMax)
	if err != nil {
		return nil, err
	}
	result, err := h.claimer.Find(ctx, id, at, prefer.wait)
	if err != nil {
		return nil, err
	}
	headers := GetClaim200ResponseHeaders{PreferenceApplied: optional(prefer.applied)}
	if o := result.Outcome; o == nil {
		headers.RetryAfter = new(retryAfter(pollAfter))
	} else {
		if err := allowed(principalOf(ctx), string(o.Ref.Space), o.Owner); err != nil {
			return nil, err
		}
		if o.Type != registrations.Rejected {
			headers.ETag = new(etag(o.Version))
		}
	}
	return GetClaim200JSONResponse{Body: claimOf(&result), Headers: headers}, nil
}

// GetName is GET /v1/names/{space}/{name}.
func (h *handlers) GetName(ctx context.Context, r GetNameRequestObject) (GetNameResponseObject, error) {
	principal := principalOf(ctx)
	if !principal.InSpace(r.Space) {
		return nil, notAllowed("space", "the key is limited to other spaces")
	}
	look, err := h.claimer.Look(ctx, names.Space(r.Space), r.Name)
	if err != nil {
		var refused *Refused
		if errors.As(err, &refused) && refused.Reason == UnknownSpace {
			refused.Status = http.StatusNotFound // here the space is part of the address
		}
		return nil, err
	}
	name := Name{
		Space: string(look.Ref.Space), Key: string(look.Ref.Key), Name: look.Name,
		Available: look.Reason == "", Reason: optional(RejectionReason(look.Reason)),
		State: Free, Version: look.Version,
	}
	if look.Held() {
		name.State = NameState(look.State)
		if principal.ForOwner(look.Owner) {
			name.Owner, name.ClaimID = &look.Owner, new(look.ClaimID.String())
		}
	}
	return GetName200JSONResponse{Body: name, Headers: GetName200ResponseHeaders{ETag: etag(look.Version)}}, nil
}

// requestOf reads the wire form of a claim. What is left out gets its default here; what is empty is not left out.
func requestOf(r *CreateClaimRequestObject) (Request, error) {
	b := r.Body
	request := Request{
		Space: names.Username, Name: b.Name, Owner: b.Owner, Mode: claims.ModeRegister, Metadata: b.Metadata,
		Trace: traceHeaders(r.Params.Traceparent, r.Params.Tracestate),
	}
	var err error
	if request.IdempotencyKey, err = idempotencyKey(r.Params.IdempotencyKey); err != nil {
		return Request{}, err
	}
	if request.ExpectedVersion, err = expectedVersion(b.ExpectedVersion, r.Params.IfMatch, r.Params.IfNoneMatch); err != nil {
		return Request{}, err
	}
	if b.Space != nil {
		request.Space = names.Space(*b.Space)
	}
	if b.Mode != nil {
		request.Mode = claims.Mode(*b.Mode)
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

// parseUUID takes the one spelling of 36 characters.
func parseUUID(s string) (uuid.UUID, error) {
	if len(s) != 36 {
		return uuid.Nil, strconv.ErrSyntax
	}
	return uuid.Parse(s)
}

// claimOf is how a claim reads. Of a pending one that was found by its position there is nothing more to say.
func claimOf(r *Result) Claim {
	o := r.Outcome
	if o == nil {
		return Claim{
			ClaimID: r.RequestID.String(), Type: UsernameClaimed, State: ClaimStatePending,
			Space: optional(string(r.Ref.Space)), Key: optional(string(r.Ref.Key)),
			Name: optional(r.Name), Owner: optional(r.Owner),
			Partition: r.Position.Partition, LogEpoch: r.Position.LogEpoch, Offset: r.Position.Offset,
		}
	}
	c := Claim{
		ClaimID: o.RequestID.String(), Type: UsernameClaimed, State: ClaimStateAccepted,
		Space: optional(string(o.Ref.Space)), Key: optional(string(o.Ref.Key)),
		Name: optional(o.Name), Owner: optional(o.Owner),
		DecidedAt: new(o.LogTime.UTC()), Partition: o.Partition, LogEpoch: o.LogEpoch, Offset: o.Offset,
	}
	if o.Type == registrations.Rejected {
		c.State, c.Reason, c.Detail = ClaimStateRejected, new(RejectionReason(o.Reason)), optional(o.FullDetail())
		if o.Reason == registrations.VersionConflict {
			c.CurrentVersion = &o.CurrentVersion
		}
		return c
	}
	c.Version = &o.Version
	if o.ClaimID != uuid.Nil {
		c.ClaimID = o.ClaimID.String()
	}
	return c
}

// claimPath is where a claim can be read; at makes it readable while it is pending.
func claimPath(id uuid.UUID, at *Position) string {
	path := "/v1/claims/" + id.String()
	if at != nil {
		path += "?at=" + at.String()
	}
	return path
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
