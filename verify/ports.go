package verify

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Log reads one topic. It is safe for concurrent use.
type Log interface {
	// Bounds returns the first offset of a partition's log and the one behind the last.
	Bounds(ctx context.Context, partition int32) (start, end int64, err error)
	// At reads the record at exactly this offset, and reports whether the log holds a data record there.
	At(ctx context.Context, partition int32, offset int64) (cloudevents.Record, bool, error)
	// Read hands out the records of [from, to), in order and in runs. next is behind the run: offsets may be missing. It
	// waits for a broker that is away for a while only. Where the log has lost from meanwhile the error wraps
	// processor.ErrOutOfLog.
	Read(ctx context.Context, partition int32, from, to int64, run func(records []processor.Message, next int64) error) error
}

// Record is the database.
type Record interface {
	// Partitions lists those that something is stored of.
	Partitions(ctx context.Context) ([]int32, error)
	// Snapshot fixes what is stored of a partition. Close it.
	Snapshot(ctx context.Context, partition int32) (Snapshot, error)
}

// Snapshot is what the database has of one partition, all of one moment. It is for one goroutine.
//
// Rows of decisions and of names come as they are stored: as bytes that are the same where all columns are. Only what is
// needed is read from them.
type Snapshot interface {
	// Standing is the partition's row; false where there is none.
	Standing() (processor.Standing, bool)
	// Began is where the partition's present log epoch began in its log: 0, or what an operator has accepted.
	Began() int64
	// Forgotten is the position before which rows of decisions were deleted for their age, but for those of policies, and the log
	// time of the last of them; false where none was.
	Forgotten() (before Position, logTime time.Time, is bool)

	// Rows returns the next rows of decisions, by position and seq, in runs of at most so many; none at the end.
	Rows(ctx context.Context, most int) ([]Stored, error)
	// LastPolicy is where the last row of kind policy lies. It is asked only where there is one.
	LastPolicy(ctx context.Context) (Position, error)
	// Row reads a stored row. A duplicate has no outcome.
	Row(Stored) (processor.Row, error)
	// AppendRow appends what would be stored of a row, or is once it is wiped.
	AppendRow(b []byte, logEpoch int64, row *processor.Row, erased bool) ([]byte, error)
	// RowDiff says in which columns two stored rows differ.
	RowDiff(expected, found []byte) []Field

	// Decided looks up the outcomes of requests that were decided before a position, in this partition. One that cannot be
	// read is left out: it was compared where it lies.
	Decided(ctx context.Context, requests []uuid.UUID, before Position) ([]registrations.Outcome, error)
	// Outcomes looks up the outcomes and facts at these positions, in order of position and seq. One that cannot be read
	// is left out.
	Outcomes(ctx context.Context, at []Position) ([]registrations.Outcome, error)

	// Names hands out the names whose row says that they are this partition's, in no order.
	Names(ctx context.Context, each func(StoredName) error) error
	// Holding reads a stored name.
	Holding(StoredName) (registrations.Holding, error)
	// AppendName appends what would be stored of a name whose first claim, if another one than it has now, is first.
	AppendName(b []byte, ref names.Ref, h registrations.Holding, first uuid.UUID) ([]byte, error)
	// NameDiff says in which columns two stored names differ.
	NameDiff(expected, found []byte) []Field

	Close()
}

// Position is where a record lies in the logs that a partition has had.
type Position struct {
	LogEpoch, Offset int64
}

// Stored is a row of decisions.
type Stored struct {
	Position
	Seq       int
	Kind      processor.Kind // empty for one that this version does not know
	RequestID uuid.UUID
	Erased    bool // wiped
	Bytes     []byte
}

// StoredName is a row of names. Bytes are valid until the next one.
type StoredName struct {
	Ref             names.Ref
	ClaimID         uuid.UUID
	First           uuid.UUID // the first claim that held it, where that is another one; zero for none
	Replaces        names.Key
	ReplacesVersion int64
	Bytes           []byte
}

// Field is a column, or a part of a record, that is not as it should be.
type Field struct {
	Name, Expected, Found string
}
