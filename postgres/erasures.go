package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrSecret says that what was erased here cannot be found again with the secret that there is, or without one.
var ErrSecret = errors.New("names were erased here")

var (
	errNoSecret      = fmt.Errorf("%w, and security.erasure_secret_file is not set: set it to the file that all processes have", ErrSecret)
	errAnotherSecret = fmt.Errorf("%w with another secret than that of security.erasure_secret_file: it cannot be changed", ErrSecret)
)

// learnErasures finds out whether something was erased in a partition that we take over, and makes sure that we can tell
// what. Where nothing was, nothing is looked up in two forms: a partition's writer knows, for nobody else erases there.
func (r *Record) learnErasures(ctx context.Context, c *pgx.Conn, partition int32) error {
	var some bool
	var check []byte
	err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM erasures WHERE partition = $1), (SELECT "check" FROM erasure_secret)`, partition).Scan(&some, &check)
	if err == nil {
		err = r.fits(check)
	}
	if err == nil && some {
		r.erasedIn.Store(partition, struct{}{})
	}
	return err
}

// FitsErasures makes sure that what was erased, if anything was, can be recognised with the secret that there is. The error
// is ErrSecret.
func (r *Record) FitsErasures(ctx context.Context) error {
	var check []byte
	err := r.do(ctx, "read what was erased with", func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT (SELECT "check" FROM erasure_secret)`).Scan(&check)
	})
	if err != nil {
		return err
	}
	return r.fits(check)
}

// fits compares our secret with what is known of the one that was erased with, nil where nothing was.
func (r *Record) fits(check []byte) error {
	switch {
	case check == nil:
		return nil
	case r.cfg.Eraser == nil:
		return errNoSecret
	case !bytes.Equal(check, r.cfg.Eraser.Check()):
		return errAnotherSecret
	}
	return nil
}

// erased reports whether something was erased in one of these partitions.
func (r *Record) erased(fences []processor.Fence) bool {
	for i := range fences {
		if _, is := r.erasedIn.Load(fences[i].Partition); is {
			return true
		}
	}
	return false
}

// eraserOf returns what a batch's names are stored with; nil where nothing was erased in its partition so far, nor is in the
// batch.
func (r *Record) eraserOf(b *processor.Batch) *names.Eraser {
	if _, is := r.erasedIn.Load(b.Partition); is {
		return r.cfg.Eraser
	}
	for i := range b.Rows {
		if b.Rows[i].Erase != nil { // whether it is committed or not: to look twice does no harm
			r.erasedIn.Store(b.Partition, struct{}{})
			return r.cfg.Eraser
		}
	}
	return nil
}

// lookEither finds a name by its key, or where that is not there by the other form of it.
var lookEither = &statement{"look_either", `
	SELECT k.i, ` + holdingFields + `
	FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (space, key, other, i)
	CROSS JOIN LATERAL (
		(SELECT * FROM names n WHERE n.space = k.space AND n.key = k.key)
		UNION ALL
		(SELECT * FROM names n WHERE n.space = k.space AND n.key = k.other)
		LIMIT 1
	) n`}

var keyColumn = column[names.Ref]{"key", oidText, "text[]", func(b []byte, r *names.Ref) []byte { return appendText(b, r.Key) }}

// lookingUp is the step that looks up names, by either form of their keys where that is asked for.
func (r *Record) lookingUp(refs []names.Ref, either bool, row func(fields) error) step {
	if !either {
		return step{lookNames, arrays(refColumns, refs), row}
	}
	others := make([]names.Ref, len(refs))
	for i := range refs {
		others[i] = r.cfg.Eraser.Ref(refs[i])
	}
	return step{lookEither, append(arrays(refColumns, refs), appendArray(nil, &keyColumn, others)), row}
}

// erasure is what is to be wiped, on its way into the table erasures.
type erasure struct {
	partition int32
	logEpoch  int32
	offset    int64
	at        time.Time
	request   uuid.UUID
	subject   string
	*processor.Erase
}

func newErasure(b *processor.Batch, row *processor.Row, eraser *names.Eraser) erasure {
	e := erasure{
		partition: b.Partition, logEpoch: int32(b.LogEpoch), offset: row.Offset, at: row.Outcome.LogTime, request: row.RequestID, Erase: row.Erase,
	}
	if e.Owner != "" && eraser != nil {
		e.subject = eraser.Owner(e.Owner)
	}
	return e
}

var erasureColumns = []column[erasure]{
	{"offset", oidInt8, "bigint[]", func(b []byte, e *erasure) []byte { return appendInt8(b, e.offset) }},
	{"at", oidTimestamptz, "timestamptz[]", func(b []byte, e *erasure) []byte { return appendTime(b, e.at) }},
	{"partition", oidInt4, "integer[]", func(b []byte, e *erasure) []byte { return appendInt4(b, e.partition) }},
	{"log_epoch", oidInt4, "integer[]", func(b []byte, e *erasure) []byte { return appendInt4(b, e.logEpoch) }},
	{"whole", oidBool, "boolean[]", func(b []byte, e *erasure) []byte {
		if e.Whole {
			return append(b, 0, 0, 0, 1, 1)
		}
		return append(b, 0, 0, 0, 1, 0)
	}},
	{"request_id", oidUUID, "uuid[]", func(b []byte, e *erasure) []byte { return appendUUID(b, e.request) }},
	{"subject", oidText, "text[]", func(b []byte, e *erasure) []byte { return appendTextOrNull(b, e.subject) }},
	{"space", oidText, "text[]", func(b []byte, e *erasure) []byte { return appendText(b, e.Ref.Space) }},
	{"key", oidText, "text[]", func(b []byte, e *erasure) []byte { return appendText(b, e.Ref.Key) }},
	{"owner", oidText, "text[]", func(b []byte, e *erasure) []byte { return appendTextOrNull(b, e.Owner) }},
}

var (
	toErasures  = newTable("insert_erasures", "erasures", erasureColumns)
	moveNames   = calling("move_names", moveColumns)
	absentNames = calling("absent_names", otherColumns)
	keepSecret  = &statement{"keep_erasure_secret", `SELECT keep_erasure_secret($1::bytea)`}
)

// erase appends what a transaction writes in partitions in which something was erased, or is by it. Whatever is stored in
// another form than its key comes with the secret's check.
func (w *writing) erase(steps []step, eraser *names.Eraser) []step {
	if len(w.erasures) > 0 && eraser != nil {
		steps = append(steps, step{keepSecret, [][]byte{eraser.Check()}, nil}, toErasures.inserting(w.erasures))
	}
	if len(w.guarded) > 0 {
		steps = append(steps, step{absentNames, arrays(otherColumns, w.guarded), nil})
	}
	if len(w.moved) > 0 {
		steps = append(steps, step{moveNames, arrays(moveColumns, w.moved), nil})
	}
	return steps
}
