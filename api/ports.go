package api

import (
	"context"
	"errors"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// What a Claims answers besides an offset.
var (
	// ErrNotPublished: the record is certainly not on the topic, and will not be. (503)
	ErrNotPublished = errors.New("not published")
	// ErrBusy: too many records wait to be written; nothing was published. It wraps ErrNotPublished. (503, Retry-After)
	ErrBusy = errors.New("too many records are waiting to be written")
	// ErrUnknown: the record may or may not be on the topic, now or later. (the waiter stays; then 503 outcome_unknown)
	ErrUnknown = errors.New("whether it was published is unknown")
)

// Claims writes requests to the topic claims. It is safe for concurrent use.
type Claims interface {
	// Start sends the record on its way to the partition and returns at once. Whatever may succeed later is tried again
	// until it does, or the publication is given up: a copy is absorbed by the request id.
	Start(partition int32, r cloudevents.Record) (Publication, error)
}

// Publication is a record on its way. Who waits for the record's outcome need not wait for its acknowledgement: the
// outcome says that it was written.
type Publication interface {
	// Failed is closed when it is over without an acknowledgement, but for one that was given up.
	Failed() <-chan struct{}
	// Settled is closed when it is over: all in-sync replicas have the record, or it failed.
	Settled() <-chan struct{}
	// Result is the record's offset, or why there is none (yet).
	Result() (offset int64, err error)
	// GiveUp ends it, and returns the result as of then: a record that was not sent yet never will be. Neither channel is
	// closed afterwards.
	GiveUp(why error) (offset int64, err error)
}

// Partition is how far a partition of claims is decided.
type Partition struct {
	Partition  int32
	LogEpoch   int64
	NextOffset int64
	Halted     string // why it is halted; empty where it is not
	// Policies were activated in it, beside or in place of those that hold from the start. They are never changed.
	Policies names.Policies
	// Keys are the ids of the keys that signatures may be made with; nil for all that there are.
	Keys []string
	// Rules are those that requests are decided by; 0 for the first, which nobody has activated.
	Rules int
}

// Lookup reads what is recorded. It is safe for concurrent use.
type Lookup interface {
	// Decided returns the outcomes of those request ids that are decided, of whatever partition: an id that was used for
	// two names has two.
	Decided(ctx context.Context, ids []uuid.UUID) ([]registrations.Outcome, error)
	// Name returns what is recorded of a name; the zero Holding for one never held.
	Name(ctx context.Context, ref names.Ref) (registrations.Holding, error)
	// History returns what changed a name, from a version on, in order: at most limit entries, one for each version. What is
	// older than decisions are kept is missing.
	History(ctx context.Context, ref names.Ref, from int64, limit int) ([]Entry, error)
	// ByOwner returns what an owner holds within some spaces, nil for all, by space and key, behind a name: at most limit of
	// it. The zero Ref is before all. A reservation may be over by now.
	ByOwner(ctx context.Context, owner string, within []string, limit int, after names.Ref) ([]Owned, error)
	// Sequel returns what an outcome led to: of an accepted claim, or of the confirmation of one.
	Sequel(ctx context.Context, of registrations.Outcome) (Sequel, error)
	// Partitions returns the rows of all partitions that were ever owned.
	Partitions(ctx context.Context) ([]Partition, error)
}

// Entry is a decision that changed a name: an outcome or a fact, and who asked for it.
type Entry struct {
	registrations.Outcome
	Principal string
	// Actor did it, and Why; empty where it was the owner or nobody.
	Actor, Why string
}

// Owned is a name that an owner holds.
type Owned struct {
	names.Ref
	registrations.Holding
}

// Sequel is what came of a claim behind its acceptance.
type Sequel struct {
	// Withdrawal undid the claim; nil for nothing.
	Withdrawal *registrations.Outcome
	// FollowUp is what it gave up for its name; nil for nothing.
	FollowUp *GivenUp
}

// GivenUp is the name that was given up for another one: its release is a request of dibs' own.
type GivenUp struct {
	Ref     names.Ref
	Version int64
	// Request is the id of the release, Outcome its answer; nil while it is not decided.
	Request uuid.UUID
	Outcome *registrations.Outcome
}
