package api

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Request is a claim as a caller asks for it.
type Request struct {
	Space           names.Space
	Name            string // as typed
	Owner           string
	Mode            claims.Mode
	ExpectedVersion *int64
	OnConflict      claims.OnConflict
	Metadata        map[string]string

	// ClaimID is the caller's own id for the claim, of version 4 or 7; IdempotencyKey is what one is derived from. At
	// most one of them is set. Without either the claim gets a random id, and cannot be repeated.
	ClaimID        uuid.UUID
	IdempotencyKey string

	// Trace is passed through as headers of the record.
	Trace []cloudevents.Header
}

// repeatable reports whether another request may have the same id.
func (r *Request) repeatable() bool { return r.ClaimID != uuid.Nil || r.IdempotencyKey != "" }

// check says what is wrong with the request as far as that can be known without the log, all of it at once. The error is
// a *Refused.
func (r *Request) check(policies names.Policies) (*claims.UsernameClaimed, names.Ref, error) {
	refused := &Refused{Reason: InvalidRequest}
	add := func(field, detail string) {
		refused.Errors = append(refused.Errors, FieldError{Field: field, Detail: detail})
	}
	ref := names.Ref{Space: r.Space}
	if policy := policies[r.Space]; policy == nil {
		refused.Reason = UnknownSpace
		add("space", "there is no such space")
	} else {
		var err error
		if ref.Key, err = policy.Canonical(r.Name); err != nil {
			refused.Reason = InvalidName
			add("name", err.Error())
		} else if policy.IsReserved(ref.Key) {
			refused.Reason = ReservedWord
			add("name", "is reserved")
		}
	}
	claim := &claims.UsernameClaimed{
		Space: r.Space, Spelling: r.Name, Owner: r.Owner, Mode: r.Mode,
		ExpectedVersion: r.ExpectedVersion, OnConflict: r.OnConflict, Metadata: r.Metadata,
	}
	before := len(refused.Errors)
	r.checkFields(claim, add)
	if len(refused.Errors) > before {
		refused.Reason = InvalidRequest // a field is wrong whatever the name is
	}
	if len(refused.Errors) > 0 {
		return nil, names.Ref{}, refused
	}
	return claim, ref, nil
}

// checkFields checks everything but space and name.
func (r *Request) checkFields(claim *claims.UsernameClaimed, add func(field, detail string)) {
	rest := *claim
	if rest.Mode != claims.ModeRegister {
		add("mode", `must be "register"`)
		rest.Mode = claims.ModeRegister
	}
	for k, v := range r.Metadata {
		if !text(k) || !text(v) {
			add("metadata", "must be UTF-8 without NUL")
			rest.Metadata = nil
			break
		}
	}
	// Validate names one field at a time: what it names is reported, put right and asked again.
	var invalid *claims.InvalidError
	for errors.As(rest.Validate(), &invalid) {
		add(invalid.Field, invalid.Detail)
		switch invalid.Field {
		case "owner":
			rest.Owner = "-"
		case "on_conflict":
			rest.OnConflict = claims.OnConflictReject
		case "expected_version":
			rest.ExpectedVersion = nil
		case "metadata":
			rest.Metadata = nil
		default: // a field that this switch does not know must not keep us here
			return
		}
	}
	if id := r.ClaimID; id != uuid.Nil && (id.Variant() != uuid.RFC4122 || id.Version() != 4 && id.Version() != 7) {
		add("claim_id", "must be a UUID of version 4 or 7")
	}
	if r.ClaimID != uuid.Nil && r.IdempotencyKey != "" {
		add("claim_id", "cannot be combined with an Idempotency-Key: each of them is the identity of the claim")
	}
}

// text reports whether s can be in a record.
func text(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
