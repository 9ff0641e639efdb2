package api

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Reason says why there is a problem. It is the last part of the problem's type.
type Reason string

// The reasons for which the API refuses a request by itself. The first are those of the log as well, found beforehand.
const (
	InvalidName    = Reason(registrations.InvalidName)
	InvalidRequest = Reason(registrations.InvalidRequest)
	ReservedWord   = Reason(registrations.ReservedWord)
	UnknownSpace   = Reason(registrations.UnknownSpace)
	UnknownClaim   = Reason(registrations.UnknownClaim)
	NotAllowed     = Reason(registrations.NotAllowed)

	NotOwner       = Reason(registrations.NotOwner)
	AnotherVersion = Reason(registrations.VersionConflict)
	WrongState     = Reason(registrations.WrongState)

	AmbiguousID         Reason = "ambiguous_id"
	BadRequest400       Reason = "bad_request"
	IdempotencyMismatch Reason = "idempotency_mismatch"
	InternalFault       Reason = "internal"
	MethodNotAllowed    Reason = "method_not_allowed"
	NotConfigured       Reason = "not_configured"
	NoSuchPage          Reason = "not_found"
	OutcomeUnknown      Reason = "outcome_unknown"
	PartitionHalted     Reason = "partition_halted"
	PositionGone        Reason = "position_gone"
	OverRate            Reason = "rate_limited"
	TooBusy             Reason = "too_busy"
	BodyTooLarge        Reason = "too_large"
	NoKey               Reason = "unauthenticated"
	NotAvailable        Reason = "unavailable"
	WrongMediaType      Reason = "unsupported_media_type"
)

// Refused is why a request gets no outcome from us. Unless the reason is OutcomeUnknown or IdempotencyMismatch, nothing
// was published.
type Refused struct {
	Reason Reason
	// Status is that of the answer, where it is not the reason's usual one.
	Status int
	// Detail is for the caller; empty for the reason's usual text.
	Detail string
	// Errors name what was wrong.
	Errors []FieldError
	// ClaimID is the request that may be, or is, in the log.
	ClaimID uuid.UUID
	// Signup: that request is a sign-up, and is read as one.
	Signup bool
	// CurrentVersion is what the name has, of AnotherVersion.
	CurrentVersion *int64
	// RetryAfter is when it may go better; zero where it will not.
	RetryAfter time.Duration
	// Err is the cause, for the operator. It is never shown to the caller.
	Err error

	// audited: it was noted that an actor was refused this.
	audited bool
}

func (e *Refused) Error() string {
	s := "refused: " + string(e.Reason)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	for _, f := range e.Errors {
		s += fmt.Sprintf("; %s %s", f.Field, f.Detail)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Refused) Unwrap() error { return e.Err }

// unavailable is the refusal while something that we need is away.
func unavailable(err error) *Refused {
	return &Refused{Reason: NotAvailable, RetryAfter: time.Second, Err: err}
}
