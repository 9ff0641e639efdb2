// Package registrations is topic two: the outcomes of requests and the facts beside them, as they are published, and the
// Waiter that hands an outcome to whoever waits for it.
//
// It promises that an outcome encodes to the same bytes whenever and by whomever it is published again. It does no I/O
// and imports no Kafka client.
package registrations

import (
	"crypto/sha1" // UUID version 5 asks for it; it guards nothing
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Type says what an outcome or a fact is.
type Type string

// The outcomes of requests, and Expired, which is a fact more often.
const (
	Accepted    Type = "Accepted"
	Rejected    Type = "Rejected"
	Confirmed   Type = "Confirmed"
	Extended    Type = "Extended"
	Released    Type = "Released"
	Withdrawn   Type = "Withdrawn"
	Deactivated Type = "Deactivated"
	Reactivated Type = "Reactivated"
	Transferred Type = "Transferred"
	Blocked     Type = "Blocked"
	Unblocked   Type = "Unblocked"
	Erased      Type = "Erased"
	Expired     Type = "Expired"
	// Unchanged is what a processor's own request finds where there is nothing to do. It is recorded, not published.
	Unchanged Type = "Unchanged"
	// Begun, Voted and Abandoned are what becomes of a sign-up on its way to its outcome. They are recorded, not published.
	Begun     Type = "Begun"
	Voted     Type = "Voted"
	Abandoned Type = "Abandoned"
)

// Published reports whether such an outcome or fact is one that others are told.
func (t Type) Published() bool { return t != Unchanged && t != Begun && t != Voted && t != Abandoned }

// EventType is the ce_type of the outcome's record.
func (t Type) EventType() string { return "dibs." + string(t) + ".v1" }

// State is what a name is in after an outcome.
type State string

// The states of a name.
const (
	Free         State = "free"
	Reserved     State = "reserved" // until it expires, unless it is confirmed
	Registered   State = "registered"
	Inactive     State = "inactive" // held by an owner who is not active
	Cooling      State = "cooling"  // nobody's, and for a while nobody else's
	StateBlocked State = "blocked"  // nobody's until an actor says so
)

// Reason says why a request was rejected. The list is closed.
type Reason string

// The reasons of a rejection, in the order in which they are checked.
const (
	Malformed          Reason = "malformed"
	NotAllowed         Reason = "not_allowed"
	UnknownSpace       Reason = "unknown_space"
	DeadlinePassed     Reason = "deadline_passed"
	ClaimWithdrawn     Reason = "withdrawn"
	InvalidName        Reason = "invalid_name"
	InvalidRequest     Reason = "invalid_request"
	ReservedWord       Reason = "reserved_word"
	NameBlocked        Reason = "blocked"
	UnknownClaim       Reason = "unknown_claim"
	ReservationExpired Reason = "reservation_expired"
	NotOwner           Reason = "not_owner"
	VersionConflict    Reason = "version_conflict"
	WrongState         Reason = "wrong_state"
	CoolingDown        Reason = "cooling_down"
	Confusable         Reason = "confusable"
	Taken              Reason = "taken"
	LimitExceeded      Reason = "limit_exceeded"
)

// defaultDetail is what a rejection says where there is nothing more particular to say.
var defaultDetail = map[Reason]string{
	Taken:          "the name is taken",
	ReservedWord:   "the name is reserved",
	UnknownSpace:   "there is no such space",
	DeadlinePassed: "the request came after its deadline; use a new id or Idempotency-Key",

	NotAllowed:         "the request must be signed, and has no signature that holds",
	ClaimWithdrawn:     "the claim was withdrawn; use a new id or Idempotency-Key",
	NameBlocked:        "the name is blocked",
	UnknownClaim:       "the claim holds nothing here",
	ReservationExpired: "the reservation has expired",
	NotOwner:           "the name is not held by this owner",
	CoolingDown:        "the name was released a short while ago",
	Confusable:         "the name looks like one that is taken",
}

// Outcome is the one answer to a request, or a fact that a decision made true beside it.
type Outcome struct {
	Type Type
	// RequestID is the request that was answered, or that caused the fact.
	RequestID uuid.UUID
	// Request is what was asked, as claims.ShortType has it; empty for a claim, and where it could not be read.
	Request string
	// Seq numbers the outputs of one decision: facts in their order, then the outcome.
	Seq int
	// Fact is set on a fact, which no waiter takes for its answer.
	Fact bool
	// Erased: what it said of name and owner is wiped. Its Ref is of the form that an Eraser gives, and neither is in it.
	Erased bool

	ClaimID uuid.UUID // the claim that the outcome is about; zero where there is none
	Ref     names.Ref
	Name    string // as typed
	Owner   string // of the request's subject, never of another holder

	// What an accepted request left.
	State   State
	Version int64
	// ExpiresAt is when a reservation or a cool-down is over; zero in other states.
	ExpiresAt time.Time

	// Why a request was rejected. Detail is empty for the reason's usual text.
	Reason Reason
	Detail string
	// CurrentVersion is what a version_conflict found; 0 where the name was never held.
	CurrentVersion int64

	// Where and when it was decided.
	LogTime       time.Time
	PolicyVersion int
	RequestHash   claims.Hash
	Partition     int32
	LogEpoch      int64
	Offset        int64
}

// FullDetail is the text of a rejection.
func (o *Outcome) FullDetail() string {
	if o.Detail != "" {
		return o.Detail
	}
	return defaultDetail[o.Reason]
}

// ID is the event id: derived, so that a copy has the same.
func (o *Outcome) ID() uuid.UUID {
	b := append(make([]byte, 0, 64), o.RequestID[:]...)
	b = append(append(b, o.Type.EventType()...), '/')
	sum := sha1.Sum(strconv.AppendInt(b, int64(o.Seq), 10)) // as UUID version 5 has it
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Source is the ce_source of everything that dibs publishes on the topic.
const Source = "dibs"

// Record encodes the outcome. The same outcome gives the same bytes: key, value, headers and time.
func (o *Outcome) Record() cloudevents.Record {
	key := o.Ref.RecordKey()
	e := cloudevents.Event{ID: o.ID(), Type: o.Type.EventType(), Source: Source, Subject: key, Time: o.LogTime}
	return cloudevents.Record{
		Key:     []byte(key),
		Value:   o.AppendJSON(make([]byte, 0, 512)),
		Headers: e.Headers(0),
		Time:    o.LogTime,
	}
}
