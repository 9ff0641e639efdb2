// Package memory is a processor.Record without a database, for tests: the simulation of the processor runs on it.
//
// It promises what the ports ask, each call as one transaction, and can do what a test needs besides: lose the last
// transactions, as a fail-over to a replica that lagged does, and do an operator's part. It keeps nothing anywhere else
// and does no I/O.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

var _ processor.Record = (*Record)(nil)

// Record is a record in memory. Build it with New. It is safe for concurrent use.
type Record struct {
	// Refuse, when set, is asked about every row that is to be written; what it says makes the commit ErrData, as a value
	// does that the database cannot store. Set it before the first call.
	Refuse func(processor.Row) error

	mu       sync.Mutex
	standing map[int32]processor.Standing
	holdings map[names.Ref]registrations.Holding
	rows     map[int32][]Row
	outcomes map[processor.Request]registrations.Outcome
	marks    map[processor.Request][]processor.Mark
	spaces   map[Policy]string // JSON of those that were ever active
	undo     []func()          // of each transaction that wrote something, oldest first
}

// New returns an empty record.
func New() *Record {
	return &Record{
		standing: make(map[int32]processor.Standing),
		holdings: make(map[names.Ref]registrations.Holding),
		rows:     make(map[int32][]Row),
		outcomes: make(map[processor.Request]registrations.Outcome),
		marks:    make(map[processor.Request][]processor.Mark),
		spaces:   make(map[Policy]string),
	}
}

// Row is a row of decisions and its place. A duplicate's Outcome is not stored: it is that of the request's own row.
type Row struct {
	Partition int32
	LogEpoch  int64
	processor.Row
}

// Policy names a policy.
type Policy struct {
	Space   names.Space
	Version int
}

// mostUndo is how many transactions a fail-over can lose.
const mostUndo = 64

// wrote notes how to undo a transaction.
func (r *Record) wrote(undo func()) {
	r.undo = append(r.undo, undo)
	if len(r.undo) > 2*mostUndo {
		r.undo = slices.Delete(r.undo, 0, mostUndo)
	}
}

// put writes a partition's row and returns how to undo it. The caller holds mu.
func (r *Record) put(s processor.Standing) (undo func()) {
	was, there := r.standing[s.Partition]
	r.standing[s.Partition] = s
	return func() {
		if there {
			r.standing[s.Partition] = was
		} else {
			delete(r.standing, s.Partition)
		}
	}
}

// Acquire implements processor.Record.
func (r *Record) Acquire(_ context.Context, partition int32, writer uuid.UUID) (processor.Standing, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.standing[partition]
	if !ok {
		s = processor.Standing{Fence: processor.Fence{Partition: partition, LogEpoch: 1}, LastOffset: -1}
	}
	s.WriterEpoch++
	s.WriterID = writer
	r.wrote(r.put(s))
	return s, nil
}

// Standings implements processor.Record.
func (r *Record) Standings(_ context.Context, partitions []int32) ([]processor.Standing, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []processor.Standing
	for _, p := range partitions {
		if s, ok := r.standing[p]; ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// Look implements processor.Record.
func (r *Record) Look(_ context.Context, fences []processor.Fence, refs []names.Ref, requests []processor.Request) (processor.Known, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range fences {
		if r.standing[f.Partition].Fence != f {
			return processor.Known{}, fmt.Errorf("partition %d: %w", f.Partition, processor.ErrFenced)
		}
	}
	known := processor.Known{
		Holdings: make(map[names.Ref]registrations.Holding, len(refs)),
		Outcomes: make(map[processor.Request]registrations.Outcome, len(requests)),
		Marks:    make(map[processor.Mark]struct{}),
	}
	for _, ref := range refs {
		if h, ok := r.holdings[ref]; ok {
			known.Holdings[ref] = h
		}
	}
	for _, q := range requests {
		if o, ok := r.outcomes[q]; ok {
			known.Outcomes[q] = o
		}
		for _, m := range r.marks[q] {
			known.Marks[m] = struct{}{}
		}
	}
	return known, nil
}

// Due implements processor.Record.
func (r *Record) Due(_ context.Context, partitions []int32, at time.Time, most int) ([]processor.Due, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []processor.Due
	for ref, h := range r.holdings {
		if !h.ExpiresAt.IsZero() && h.Asked(at) && slices.Contains(partitions, h.Partition) {
			due = append(due, processor.Due{Partition: h.Partition, Ref: ref, ClaimID: h.ClaimID, ExpiresAt: h.ExpiresAt})
		}
	}
	slices.SortFunc(due, func(a, b processor.Due) int {
		return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), strings.Compare(a.Ref.String(), b.Ref.String()))
	})
	return due[:max(0, min(most, len(due)))], nil
}

// Commit implements processor.Record.
func (r *Record) Commit(_ context.Context, batches []processor.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range batches {
		if err := r.refuses(&batches[i]); err != nil {
			return fmt.Errorf("partition %d: %w", batches[i].Partition, err)
		}
	}
	var undo []func()
	back := func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	for i := range batches {
		undos, err := r.write(&batches[i])
		undo = append(undo, undos...)
		if err != nil {
			back()
			return fmt.Errorf("partition %d: %w", batches[i].Partition, err)
		}
	}
	r.wrote(back)
	return nil
}

// refuses checks a batch's fence.
func (r *Record) refuses(b *processor.Batch) error {
	s := r.standing[b.Partition]
	if s.Fence != b.Fence || s.Halted != "" {
		return processor.ErrFenced
	}
	return nil
}

// write writes a batch, row by row, and returns how to undo what it wrote, also with an error.
func (r *Record) write(b *processor.Batch) (undo []func(), err error) {
	length := len(r.rows[b.Partition])
	undo = append(undo, func() { r.rows[b.Partition] = r.rows[b.Partition][:length] })
	for _, row := range b.Rows {
		if r.Refuse != nil {
			if err := r.Refuse(row); err != nil {
				return undo, fmt.Errorf("%w: %w", processor.ErrData, err)
			}
		}
		switch row.Kind {
		case processor.KindOutcome:
			q := processor.Request{Partition: b.Partition, ID: row.RequestID}
			if _, twice := r.outcomes[q]; twice {
				return undo, fmt.Errorf("%w: request %s is decided already", processor.ErrData, row.RequestID)
			}
			r.outcomes[q] = row.Outcome
			undo = append(undo, func() { delete(r.outcomes, q) })
		case processor.KindMark:
			q := processor.Request{Partition: b.Partition, ID: row.RequestID}
			had := r.marks[q]
			r.marks[q] = append(slices.Clip(had), processor.Mark{Partition: b.Partition, Claim: row.RequestID, Owner: row.Outcome.Owner})
			undo = append(undo, func() { r.marks[q] = had })
		case processor.KindDuplicate:
			row.Outcome = registrations.Outcome{}
		}
		r.rows[b.Partition] = append(r.rows[b.Partition], Row{b.Partition, b.LogEpoch, row})
	}
	for _, c := range b.Changes {
		was, there := r.holdings[c.Ref]
		if there != (c.Version > 0) || there && (was.Version != c.Version || was.Partition != b.Partition) {
			return undo, fmt.Errorf("%w: a name is at version %d, not %d", processor.ErrConflict, was.Version, c.Version)
		}
		r.holdings[c.Ref] = c.Holding
		undo = append(undo, func() {
			if there {
				r.holdings[c.Ref] = was
			} else {
				delete(r.holdings, c.Ref)
			}
		})
	}
	s := r.standing[b.Partition]
	s.NextOffset, s.LogTime, s.LastOffset, s.LastHash = b.Next, b.LogTime, b.LastOffset, b.LastHash
	s.PublishedThrough = max(s.PublishedThrough, min(b.PublishedThrough, b.Next))
	if b.InForce != nil {
		s.InForce = b.InForce
	}
	for _, p := range b.Activated {
		id := Policy{p.Space, p.Version}
		if _, known := r.spaces[id]; known {
			continue
		}
		r.spaces[id] = string(p.AppendJSON(nil))
		undo = append(undo, func() { delete(r.spaces, id) })
	}
	return append(undo, r.put(s)), nil
}

// Unpublished implements processor.Record.
func (r *Record) Unpublished(_ context.Context, at processor.Fence, from int64) ([]processor.Row, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.standing[at.Partition]
	if at.NextOffset = s.NextOffset; at != s.Fence {
		return nil, fmt.Errorf("partition %d: %w", at.Partition, processor.ErrFenced)
	}
	var rows []processor.Row
	for _, row := range r.rows[at.Partition] {
		if row.LogEpoch != at.LogEpoch || row.Offset < from {
			continue
		}
		if row.Kind == processor.KindDuplicate {
			row.Outcome = r.outcomes[processor.Request{Partition: at.Partition, ID: row.RequestID}]
		}
		rows = append(rows, row.Row)
	}
	return rows, nil
}

// Published implements processor.Record.
func (r *Record) Published(_ context.Context, cursors []processor.Cursor) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var undo []func()
	for _, c := range cursors {
		s, through := r.standing[c.Partition], c.Through
		if c.NextOffset = s.NextOffset; c.Fence != s.Fence {
			continue
		}
		if through = min(through, s.NextOffset); through > s.PublishedThrough {
			s.PublishedThrough = through
			undo = append(undo, r.put(s))
		}
	}
	if len(undo) > 0 {
		r.wrote(func() {
			for _, f := range slices.Backward(undo) {
				f()
			}
		})
	}
	return nil
}

// Wipe implements processor.Record. Nothing is kept here for longer than a test, and the judges of a simulation want to see all
// of it.
func (r *Record) Wipe(context.Context, []int32) (left int, err error) { return 0, nil }

// Forget implements processor.Record. There is never anything to wipe.
func (r *Record) Forget(_ context.Context, at processor.Fence, keep time.Duration, most int) (f processor.Forgotten, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.standing[at.Partition]
	if s.Fence != at {
		return f, fmt.Errorf("partition %d: %w", at.Partition, processor.ErrFenced)
	}
	rows := r.rows[at.Partition]
	published := func(row Row) bool { return row.LogEpoch < at.LogEpoch || row.Offset < s.PublishedThrough }
	repeated := make(map[uuid.UUID]bool)
	for _, row := range rows {
		if row.Kind == processor.KindDuplicate && !published(row) {
			repeated[row.RequestID] = true
		}
	}
	end, stopped := 0, false // rows before end go, but for policies
	for i, row := range rows {
		last := i+1 == len(rows) || rows[i+1].Offset != row.Offset || rows[i+1].LogEpoch != row.LogEpoch
		timed := row.Kind == processor.KindOutcome || row.Kind == processor.KindFact
		old := s.LogTime.Sub(row.Outcome.LogTime) > keep
		switch {
		case !published(row):
			stopped = true
		case timed && !old:
			f.Oldest, stopped = row.Outcome.LogTime, true
		case row.Kind == processor.KindOutcome && repeated[row.RequestID]:
			end, stopped = i, true
		case timed && last:
			if f.More = end >= most; !f.More {
				end = i + 1
			}
		}
		if stopped || f.More {
			break
		}
	}
	var kept []Row
	forgotten, marks := make(map[processor.Request]registrations.Outcome), make(map[processor.Request][]processor.Mark)
	for _, row := range rows[:end] {
		q := processor.Request{Partition: at.Partition, ID: row.RequestID}
		switch row.Kind {
		case processor.KindPolicy:
			kept = append(kept, row)
			continue
		case processor.KindOutcome:
			forgotten[q] = r.outcomes[q]
			delete(r.outcomes, q)
		case processor.KindMark:
			if had, there := r.marks[q]; there {
				marks[q] = had
				r.marks[q] = slices.DeleteFunc(slices.Clone(had), func(m processor.Mark) bool { return m.Owner == row.Outcome.Owner })
			}
		}
		f.Rows++
	}
	if f.Rows == 0 {
		return f, nil
	}
	r.rows[at.Partition] = append(kept, rows[end:]...)
	r.wrote(func() {
		r.rows[at.Partition] = rows
		maps.Copy(r.outcomes, forgotten)
		maps.Copy(r.marks, marks)
	})
	return f, nil
}

// Halt implements processor.Record.
func (r *Record) Halt(_ context.Context, at processor.Fence, reason string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.standing[at.Partition]
	if s.Fence != at {
		return fmt.Errorf("partition %d: %w", at.Partition, processor.ErrFenced)
	}
	s.Halted = reason
	r.wrote(r.put(s))
	return nil
}
