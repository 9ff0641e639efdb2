package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// copyFromRows is how many rows of one table are written by COPY, in a transaction of two round trips. Below it, a
// batch is one round trip.
const copyFromRows = 128

var advance = &statement{"advance", `SELECT advance($1::text, $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::uuid[],
	$7::bigint[], $8::timestamptz[], $9::bigint[], $10::bigint[], $11::bigint[])`}

// Rows are written with the rare columns where one of them has something there.
var (
	usualDecisions = newTable("insert_decisions", "decisions", decisionColumns)
	anyDecisions   = newTable("insert_any_decisions", "decisions", decisionColumns, rareDecisionColumns)
	usualNames     = newTable("insert_names", "names", nameColumns)
	anyNames       = newTable("insert_any_names", "names", nameColumns, rareNameColumns, firstClaimColumn, erasedColumn)
	deadLetters    = newTable("insert_dead_letters", "dead_letters", deadLetterColumns)

	changeNames = calling("change_names", changeColumns)
)

var batchColumns = []column[*processor.Batch]{
	{"partition", oidInt4, "integer[]", func(b []byte, p **processor.Batch) []byte { return appendInt4(b, (*p).Partition) }},
	{"log_epoch", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, (*p).LogEpoch) }},
	{"offset", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, (*p).NextOffset) }},
	{"writer_epoch", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, (*p).WriterEpoch) }},
	{"writer_id", oidUUID, "uuid[]", func(b []byte, p **processor.Batch) []byte { return appendUUID(b, (*p).WriterID) }},
	{"next", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, (*p).Next) }},
	{"log_time", oidTimestamptz, "timestamptz[]", func(b []byte, p **processor.Batch) []byte { return appendTime(b, (*p).LogTime) }},
	{"last_offset", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, (*p).LastOffset) }},
	{"last_hash", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, int64((*p).LastHash)) }},
	{"through", oidInt8, "bigint[]", func(b []byte, p **processor.Batch) []byte { return appendInt8(b, (*p).PublishedThrough) }},
}

// writing is what one transaction writes.
type writing struct {
	batches   []*processor.Batch // by partition
	decisions []decision
	dead      []deadLetter
	added     []change // names without a row
	changed   []change
	moved     []change  // those in partitions in which something was erased
	guarded   []change  // of added, those
	erasures  []erasure // to be done
	// Of batches with activations.
	inForce  []inForce
	policies []policy

	toDecisions *table[decision]
	toNames     *table[change]
}

func (r *Record) newWriting(batches []processor.Batch) (*writing, error) {
	w := &writing{batches: make([]*processor.Batch, len(batches)), toDecisions: usualDecisions, toNames: usualNames}
	rows := 0
	for i := range batches {
		w.batches[i] = &batches[i]
		rows += len(batches[i].Rows)
	}
	// Every transaction locks partitions in this order.
	slices.SortStableFunc(w.batches, func(a, b *processor.Batch) int { return cmp.Compare(a.Partition, b.Partition) })
	w.decisions = make([]decision, 0, rows)
	for _, b := range w.batches {
		w.activate(b)
		for i := range b.Rows {
			row := &b.Rows[i]
			d, err := newDecision(b.Fence, row)
			if err != nil {
				return nil, err
			}
			if !d.usual() {
				w.toDecisions = anyDecisions
			}
			w.decisions = append(w.decisions, d)
			if row.Erase != nil {
				w.erasures = append(w.erasures, newErasure(b, row, r.cfg.Eraser))
			}
			if row.Kind == processor.KindDead {
				w.dead = append(w.dead, deadLetter{d.partition, d.logEpoch, d.offset, storable(row.Detail), row.Raw})
			}
		}
		eraser := r.eraserOf(b)
		for i := range b.Changes {
			c, err := newChange(b.Partition, &b.Changes[i], eraser)
			if err != nil {
				return nil, err
			}
			if c.Change.Version == 0 {
				if c.first = firstClaim(b, c.Change); !c.usual() {
					w.toNames = anyNames
				}
				w.added = append(w.added, c)
				if eraser != nil {
					w.guarded = append(w.guarded, c)
				}
			} else if eraser != nil {
				w.moved = append(w.moved, c)
			} else {
				w.changed = append(w.changed, c)
			}
		}
	}
	return w, nil
}

// firstClaim finds, for a new name that has changed again within its batch, the claim that made its first version: it
// may be none that the name is left with. There are few of them, so the rows are searched for each.
func firstClaim(b *processor.Batch, c *processor.Change) uuid.UUID {
	if c.Holding.Version == 1 {
		return uuid.Nil
	}
	for i := range b.Rows {
		o := &b.Rows[i].Outcome
		if o.Version == 1 && o.Type == registrations.Accepted && o.Ref == c.Ref && b.Rows[i].Kind == processor.KindOutcome {
			if o.RequestID == c.ClaimID {
				return uuid.Nil
			}
			return o.RequestID
		}
	}
	return uuid.Nil
}

// Commit implements processor.Record.
func (r *Record) Commit(ctx context.Context, batches []processor.Batch) error {
	if len(batches) == 0 {
		return nil
	}
	w, err := r.newWriting(batches)
	if err != nil {
		return fmt.Errorf("commit a batch: %w", err)
	}
	write := r.commitInOne
	if len(w.decisions) >= r.copyFrom {
		write = r.commitByCopy
	}
	return r.do(ctx, "commit a batch", func(ctx context.Context, c *pgx.Conn) error { return write(ctx, c, w) })
}

func (r *Record) advance(w *writing) step {
	return step{advance, append([][]byte{[]byte(r.cfg.Topic)}, arrays(batchColumns, w.batches)...), nil}
}

// commitInOne sends everything in one write, and the server commits behind the last statement: a client that is paused
// has as good as always sent either nothing of it or all.
func (r *Record) commitInOne(ctx context.Context, c *pgx.Conn, w *writing) error {
	steps := []step{r.advance(w)}
	if len(w.decisions) > 0 {
		steps = append(steps, w.toDecisions.inserting(w.decisions))
	}
	return pipeline(ctx, c, w.activated(w.erase(w.rest(steps, len(w.added) > 0), r.cfg.Eraser), r.cfg.Topic)...)
}

// rest appends what comes behind the decisions.
func (w *writing) rest(steps []step, insertNew bool) []step {
	if len(w.dead) > 0 {
		steps = append(steps, deadLetters.inserting(w.dead))
	}
	if insertNew {
		steps = append(steps, w.toNames.inserting(w.added))
	}
	if len(w.changed) > 0 {
		steps = append(steps, step{changeNames, arrays(changeColumns, w.changed), nil})
	}
	return steps
}

// rollback ends a transaction that has failed for a reason that says so, to keep its connection. After any other error
// the connection is closed, which ends it too.
func rollback(ctx context.Context, c *pgx.Conn, err error) error {
	if certain(classify(err)) {
		_, _ = c.PgConn().Exec(ctx, "rollback").ReadAll()
	}
	return err
}
