package processor

import (
	"context"
	"errors"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Message is one record of a partition of claims.
type Message struct {
	Offset int64
	cloudevents.Record
}

// Fetched is what was read of one partition: the records of [From, Next), in order. Offsets may be missing in between and
// at the end (transaction markers); Next is where to go on. With an error there are no records.
type Fetched struct {
	Partition  int32
	From, Next int64
	Messages   []Message
	// HighWatermark is the log's end as of this answer; for the lag only.
	HighWatermark int64
	// Err says why reading this partition has stopped: ErrInterrupted or ErrOutOfLog, wrapped. Nothing more comes of
	// the partition until the next Seek.
	Err error
}

// Why reading a partition stops.
var (
	// ErrInterrupted: the connection was lost, the leader moved, did not answer or was not asked for a while. What lies behind the next offset may
	// not be the log we knew: its identity is checked before reading goes on.
	ErrInterrupted = errors.New("reading was interrupted")
	// ErrOutOfLog: the broker has no such offset, or no such topic or partition.
	ErrOutOfLog = errors.New("offset is not in the log")
)

// Beside says what is worth polling beside partitions that are being decided. The zero value is for where none is.
type Beside struct {
	// Busy partitions are passed over: what has arrived of them stays where it is. Nil: none is.
	Busy func(partition int32) bool
	// Least is how many records of the others are worth it: with less it is as if nothing had arrived, not even that reading has
	// stopped, unless the source has no room for more. With 1 or 0 everything is worth it, with math.MaxInt nothing.
	Least int
	// Until ends the wait when there is something to receive, which may be taken.
	Until <-chan struct{}
}

// Passes reports whether a partition is passed over.
func (b *Beside) Passes(partition int32) bool { return b.Busy != nil && b.Busy(partition) }

// Source reads the partitions of a processor. Its methods are called by one goroutine, but for Bounds and At: these are called
// by others as well, at the same time.
//
// It reads ahead: within bounds, from the sought offset on, without being asked again. It reads uncommitted: every data
// record is a request.
type Source interface {
	// Seek starts reading a partition at an offset, or moves it there. What was read ahead of it before is dropped.
	Seek(partition int32, offset int64)
	// Drop ends the reading of a partition.
	Drop(partition int32)
	// Poll returns what has arrived, at most once per partition and at most max records over all. It waits until there is
	// something, beside what is busy, the wait is over (an empty answer), or ctx ends (its error).
	Poll(ctx context.Context, b Beside, max int, wait time.Duration) ([]Fetched, error)
	// Bounds asks the partition's leader for the first offset of the log and the one behind the last.
	Bounds(ctx context.Context, partition int32) (start, end int64, err error)
	// At reads the record at exactly this offset, and reports whether the log holds a data record there.
	At(ctx context.Context, partition int32, offset int64) (cloudevents.Record, bool, error)
}

// Topic is one of the topics that a processor writes, whatever its full name is.
type Topic int

// The topics that outputs go to.
const (
	ToRegistrations Topic = iota
	ToClaims
	ToDeadLetters
)

// Output is a record to be published.
type Output struct {
	Topic     Topic
	Partition int32
	cloudevents.Record
}

// Publisher appends outputs to their topics. It is safe for concurrent use.
type Publisher interface {
	// Publish returns nil when every output is acknowledged by all in-sync replicas, those of one partition in the given
	// order. It tries again for as long as ctx lets it: an output may be on its topic more than once. The error is that
	// of ctx, or ErrRefused for an output that the broker will never take. Where some outputs are acknowledged, it is a
	// Partial around that: without it all of them are published again.
	Publish(ctx context.Context, outputs []Output) error
}

// ErrRefused says that the broker will never take this record, such as one that is too large for its topic.
var ErrRefused = errors.New("record is refused by the broker")

// Partial is an error of Publish that says which of its outputs are not acknowledged, or not known to be: their indexes, in
// order. Only those are published again. That may put one behind later ones of its partition, which is allowed: who
// reads registrations goes by the version.
type Partial interface {
	error
	Unacknowledged() []int
}

// Assignment is what a generation of the consumer group gives to this process.
type Assignment struct {
	Generation int32
	Partitions []int32
	// Live is done when the generation is over: somebody else may already own the partitions. They are kept until the
	// next assignment (the fence guards them), but not taken over again.
	Live <-chan struct{}
}

// Group says which partitions this process should own.
type Group interface {
	// Next waits for the next generation. An error other than that of ctx is temporary.
	Next(ctx context.Context) (Assignment, error)
	// Commit reports offsets for dashboards that show a group's lag. They are never read back, and an error is of no
	// consequence.
	Commit(offsets map[int32]int64) error
}

// Fence is what a partition's row must still say for a batch of its writer to be committed.
type Fence struct {
	Partition   int32
	LogEpoch    int64
	NextOffset  int64
	WriterEpoch int64
	WriterID    uuid.UUID
}

// Standing is how far a partition is: its row.
type Standing struct {
	Fence
	// LogTime is the highest CreateTime of the records before NextOffset; zero before the first.
	LogTime time.Time
	// LastOffset and LastHash are of the last data record before NextOffset; LastOffset is -1 before the first.
	LastOffset int64
	LastHash   uint32
	// PublishedThrough: all outputs of rows below this offset are acknowledged.
	PublishedThrough int64
	// Halted says why nobody may go on, empty where one may.
	Halted string
	// InForce is what holds before NextOffset by what the log has said; nil for nothing but what holds from the start.
	InForce *InForce
}

// Change is one name's new holding. Version is what was read before: 0 for a name without a row.
type Change struct {
	Ref     names.Ref
	Version int64
	registrations.Holding
}

// Kind says what a row of decisions stands for.
type Kind string

// The kinds of rows. Every consumed record leaves one that is not a fact.
const (
	KindOutcome   Kind = "outcome"
	KindFact      Kind = "fact"
	KindDuplicate Kind = "duplicate" // a request decided before: its stored outcome is published again
	KindForwarded Kind = "forwarded"
	KindDead      Kind = "dead"
	KindMark      Kind = "mark"    // a claim that was withdrawn before it came: RequestID is the claim's, Outcome.Owner the owner
	KindPolicy    Kind = "policy"  // a PolicyActivated, whether it made a difference or not
	KindSent      Kind = "sent"    // a request of dibs' own that the decision leads to, beside its other rows
	KindPending   Kind = "pending" // a sign-up that is under way: its outcome comes with a later record
)

// Row is what one record left: decision, outbox and idempotency entry in one. (Offset, Seq) is unique within partition
// and log epoch.
type Row struct {
	Offset int64
	Seq    int
	Kind   Kind
	// RequestID is zero where the record had none that could be read.
	RequestID uuid.UUID
	Principal string
	// Outcome is what is published, of an outcome, a fact or a duplicate. A duplicate's is that of the earlier row with
	// its request id: it is not stored a second time.
	Outcome registrations.Outcome
	// FollowUp is what the outcome leads to elsewhere; nil for nothing.
	FollowUp *FollowUp
	// Sent is what a sent row publishes to claims, under the row's RequestID.
	Sent *Sent
	// Actor did this, and Why; empty where it was the owner or nobody.
	Actor, Why string
	// Erase is what is to be wiped of the rows up to this one, once their outputs are acknowledged; nil for nothing.
	Erase *Erase
	// Raw is the record as read, of a forwarded or dead row.
	Raw *cloudevents.Record
	// Detail says why a record is dead.
	Detail string
}

// FollowUp is the name that a rename gives up: its owner's release of it is published to claims, from this row, under an id
// that is derived from the claim.
type FollowUp struct {
	Claim   uuid.UUID
	Ref     names.Ref
	Owner   string
	Version int64
}

// Erase is what an erasure has wiped: what the rows of a name say of an owner.
type Erase struct {
	Ref names.Ref
	// Owner is whose rows; empty for those alone that name none.
	Owner string
	// Whole: the name is nobody else's. Then so are the rows that name no owner, and no row keeps its key.
	Whole bool
}

// Forgotten is what Forget has done.
type Forgotten struct {
	Rows int
	// Oldest is the log time of the oldest row that is left and says it; zero where none does.
	Oldest time.Time
	// More: there is more to forget.
	More bool
}

// Mark says that a claim of an owner was withdrawn before it came to the partition.
type Mark struct {
	Partition int32
	Claim     uuid.UUID
	Owner     string
}

// Batch is what a run of records of one partition leaves, to be committed under its fence.
type Batch struct {
	Fence
	// Next replaces the fence's NextOffset; LogTime, LastOffset and LastHash the row's. PublishedThrough is what is
	// acknowledged by now; a lower value than the row's leaves the row's.
	Next             int64
	LogTime          time.Time
	LastOffset       int64
	LastHash         uint32
	PublishedThrough int64
	Rows             []Row
	Changes          []Change
	// InForce replaces the row's; nil leaves it. Activated are the policies that led to it, which are kept with all that
	// were ever active.
	InForce   *InForce
	Activated []*names.Policy
}

// Cursor says through which offset the outputs of a partition are acknowledged.
type Cursor struct {
	Fence
	Through int64
}

// Request names a request within a partition.
type Request struct {
	Partition int32
	ID        uuid.UUID
}

// Known is what Look found, all in one snapshot.
type Known struct {
	// Holdings has the names that have a row.
	Holdings map[names.Ref]registrations.Holding
	// Outcomes has the requests that were decided, of the asked partition only.
	Outcomes map[Request]registrations.Outcome
	// Marks has the marks of the asked requests, of the asked partition only.
	Marks map[Mark]struct{}
}

// What a Record answers besides success. Anything else means: unknown whether it was done.
var (
	// ErrFenced: a row did not say what the fence does; nothing was written.
	ErrFenced = errors.New("fenced: another writer has the partition")
	// ErrConflict: a name is not as it was read, or a position is written already, although the fence stands: somebody
	// wrote behind the log, or routing is broken. Nothing was written; the partition must halt.
	ErrConflict = errors.New("a name was changed behind the log")
	// ErrData: the database refuses a value of this batch (class 22, 23, 54), or a request that is decided already in its
	// partition. Nothing was written; the batch is bisected. Look may answer so too.
	ErrData = errors.New("the database refuses the data")
)

// Record is the database: who holds which name, what was decided, how far each partition is.
//
// Each call is one transaction. It is safe for concurrent use. An error that is none of the sentinels leaves open whether
// the transaction was committed: read the standing to know.
type Record interface {
	// Acquire takes a partition over: it writes a new writer id and the next epoch into the row, creating it where there
	// is none, and returns the row as it is then. From then on the former writer's fence fails.
	Acquire(ctx context.Context, partition int32, writer uuid.UUID) (Standing, error)
	// Standings reads rows without taking anything over; partitions without a row are left out.
	Standings(ctx context.Context, partitions []int32) ([]Standing, error)
	// Look reads the names and requests that a batch touches, in one snapshot with the partitions' rows. Where a row is
	// not as its fence says the error is ErrFenced: what was read could be another writer's future.
	Look(ctx context.Context, fences []Fence, refs []names.Ref, requests []Request) (Known, error)
	// Due reads names of these partitions whose reservation or cool-down is over at a time, the longest over first.
	Due(ctx context.Context, partitions []int32, at time.Time, most int) ([]Due, error)
	// Commit writes batches of several partitions in one transaction, all or none. A halted partition is fenced.
	Commit(ctx context.Context, batches []Batch) error
	// Unpublished reads the rows of a partition from an offset on, in order, with what they publish. NextOffset is no part
	// of this fence; where the rest of it does not stand the error is ErrFenced.
	Unpublished(ctx context.Context, at Fence, from int64) ([]Row, error)
	// Published moves PublishedThrough of the fenced partitions. A fence that does not stand is passed over: the next
	// owner publishes again. NextOffset is no part of this fence.
	Published(ctx context.Context, cursors []Cursor) error
	// Wipe does what is to be erased of rows of these partitions, as far as their outputs are acknowledged (see Row.Erase), and
	// returns how many erasures are left. It may take long, and may be done by anybody and more than once.
	Wipe(ctx context.Context, partitions []int32) (left int, err error)
	// Forget deletes, of the fenced partition, about so many rows at most whose log time lies further before the partition's than keep,
	// oldest first, and what is kept of their records. It keeps what is not acknowledged, what a duplicate that is not
	// acknowledged repeats, everything while there is something to wipe, and policies. What was forgotten nobody was asked before. No batch of the partition may
	// be between Look and Commit meanwhile: it could repeat what is gone.
	Forget(ctx context.Context, at Fence, keep time.Duration, most int) (Forgotten, error)
	// Halt marks the fenced partition as halted.
	Halt(ctx context.Context, at Fence, reason string) error
}
