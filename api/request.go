package api

import (
	"errors"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Request is a claim as a caller asks for it.
type Request struct {
	Space           names.Space
	Name            string            // as typed; in a private space the value or its key
	Fields          map[string]string // of a private space, in place of a name
	Owner           string
	Mode            claims.Mode
	TTLSeconds      *int64
	Replaces        *Replaced
	ExpectedVersion *int64
	OnConflict      claims.OnConflict
	Metadata        map[string]string

	// ClaimID is the caller's own id for the claim, of version 4 or 7; IdempotencyKey is what one is derived from. At
	// most one of them is set. Without either the claim gets a random id, and cannot be repeated.
	ClaimID        uuid.UUID
	IdempotencyKey string

	// Withdraw undoes the claim if its wait runs out.
	Withdraw bool
	// Rename: it was asked as one, of the name that it replaces.
	Rename bool

	// Trace is passed through as headers of the record.
	Trace []cloudevents.Header

	// once: what it replaces could not be claimed now, and was held under an earlier policy.
	once bool
	// unfit: nothing can be asked for by what it says in place of a name.
	unfit *Refused
}

// Replaced is the name that a claim replaces. Without a version it is the one that it has now.
type Replaced struct {
	Name    string
	Version *int64
}

// repeatable reports whether another request may have the same id.
func (r *Request) repeatable() bool { return r.ClaimID != uuid.Nil || r.IdempotencyKey != "" }

func (r *Request) operation() string {
	if r.Rename {
		return operationRename
	}
	return operationClaim
}

// check says what is wrong with the request as far as that can be known without the log, all of it at once. The error is
// a *Refused. With a claim beside it, the request may have been right under an earlier policy.
func (r *Request) check(policies names.Policies, shortest, wait time.Duration) (*claims.UsernameClaimed, names.Ref, error) {
	found := newFindings()
	ref, policy := names.Ref{Space: r.Space}, policies[r.Space]
	if r.unfit != nil {
		found.reason, found.errors, found.lasting = r.unfit.Reason, r.unfit.Errors, true
	} else {
		ref, policy = found.name(policies, r.Space, r.Name)
	}
	if len(found.errors) == 0 && policy.IsReserved(ref.Key) {
		found.reason = ReservedWord
		found.add("name", "is reserved")
	}
	asked := about(policies, r.Space, r.Name)
	claim := &claims.UsernameClaimed{
		Space: r.Space, Spelling: asked.Spelling, Key: asked.Key, Owner: r.Owner, Mode: r.Mode, TTLSeconds: r.TTLSeconds,
		ExpectedVersion: r.ExpectedVersion, OnConflict: r.OnConflict, Metadata: r.Metadata,
	}
	r.checkFields(claim, policy, shortest, found)
	if r.Replaces != nil {
		claim.Replaces = r.checkReplaces(ref, policy, found)
	}
	if err := claim.ValidUnder(claims.Rules); err != nil { // an earlier dibs took it: repeated, it has its outcome
		var invalid *claims.InvalidError
		if errors.As(err, &invalid) {
			found.byPolicy(invalid.Field, invalid.Detail)
		}
	}
	if r.Withdraw && wait <= 0 {
		found.field("on_timeout", "needs a wait: it does not go with respond-async or wait=0")
	}
	if found.lasting {
		claim = nil
	}
	return claim, ref, r.fields(found.refused())
}

// fields calls what is wrong by the names that its caller knows.
func (r *Request) fields(err error) error {
	if err == nil || !r.Rename {
		return err
	}
	var refused *Refused
	if !errors.As(err, &refused) {
		return err
	}
	for i := range refused.Errors {
		switch f := &refused.Errors[i].Field; *f {
		case "name":
			*f = "to"
		case "replaces.name":
			*f = "name"
		case "replaces.version":
			*f = "expected_version"
		}
	}
	return refused
}

// checkReplaces checks what is given up. A version that is left out is 0 until it is looked up.
func (r *Request) checkReplaces(ref names.Ref, policy *names.Policy, found *findings) *claims.Replaces {
	replaces := &claims.Replaces{Name: r.Replaces.Name}
	if policy != nil && policy.Private != nil {
		replaces = &claims.Replaces{Key: names.Key(r.Replaces.Name)}
	}
	if v := r.Replaces.Version; v != nil {
		if replaces.Version = *v; *v < 1 {
			found.field("replaces.version", "must be 1 or more")
		}
	}
	if policy == nil {
		return replaces
	}
	name := policy.Key
	if r.once {
		name = policy.HeldKey
	}
	key, err := name(replaces.Asked())
	_, never := policy.HeldKey(replaces.Asked())
	alone := len(found.errors) == 0
	switch {
	case never != nil:
		found.field("replaces.name", err.Error())
	case err != nil:
		found.byPolicy("replaces.name", err.Error())
	case key == ref.Key && r.Mode == claims.ModeReserve && !onlyAlike(policy, replaces.Asked(), r.Name):
		found.field("replaces.name", `is the name itself: that does not go with mode "reserve"`)
	}
	if alone && err != nil && r.Rename { // it is the name of the address
		found.reason = InvalidName
	}
	return replaces
}

// checkFields checks everything but space, name, and what is given up.
func (r *Request) checkFields(claim *claims.UsernameClaimed, policy *names.Policy, shortest time.Duration, found *findings) {
	rest := *claim
	if rest.Mode != claims.ModeRegister && rest.Mode != claims.ModeReserve {
		found.field("mode", `must be "register" or "reserve"`)
		rest.Mode = claims.ModeReserve
	}
	for k, v := range r.Metadata {
		if !text(k) || !text(v) {
			found.field("metadata", "must be UTF-8 without NUL")
			rest.Metadata = nil
			break
		}
	}
	if rest.TTLSeconds != nil && rest.Mode == claims.ModeReserve {
		if policy != nil {
			shortest = max(shortest, policy.ShortestTTL)
		}
		found.ttl(policy, *rest.TTLSeconds, shortest)
		rest.TTLSeconds = nil
	}
	// Validate names one field at a time: what it names is reported, put right and asked again.
	for {
		err := rest.Validate()
		if err == nil {
			break
		}
		var invalid *claims.InvalidError
		if !errors.As(err, &invalid) {
			break
		}
		found.field(invalid.Field, invalid.Detail)
		switch invalid.Field {
		case "owner":
			rest.Owner = "-"
		case "ttl_seconds":
			rest.TTLSeconds = nil
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
		found.field("claim_id", "must be a UUID of version 4 or 7")
	}
	if r.ClaimID != uuid.Nil && r.IdempotencyKey != "" {
		found.field("claim_id", "cannot be combined with an Idempotency-Key: each of them is the identity of the claim")
	}
}
