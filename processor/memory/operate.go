package memory

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// ErrNotResumable says that the partition is not halted, or a gap is to be accepted and not everything decided is published.
var ErrNotResumable = errors.New("partition cannot be resumed")

// Lose undoes the last n transactions, take-overs included, and returns how many there were to be undone.
func (r *Record) Lose(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(n, len(r.undo))
	for range n {
		r.undo[len(r.undo)-1]()
		r.undo = r.undo[:len(r.undo)-1]
	}
	return n
}

// Resume is an operator's word that a halted partition may go on as it is.
func (r *Record) Resume(partition int32) error {
	return r.resume(partition, func(*processor.Standing) error { return nil })
}

// AcceptGap is an operator's word that a halted partition goes on in a new log, from its start.
func (r *Record) AcceptGap(partition int32, start int64) error {
	return r.resume(partition, func(s *processor.Standing) error {
		if s.PublishedThrough != s.NextOffset {
			return ErrNotResumable
		}
		s.LogEpoch++
		s.NextOffset, s.PublishedThrough = start, start
		s.LastOffset, s.LastHash = -1, 0
		return nil
	})
}

// resume takes the halt off a partition and fences its writer, who takes it over again.
func (r *Record) resume(partition int32, change func(*processor.Standing) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.standing[partition]
	if s.Halted == "" {
		return ErrNotResumable
	}
	if err := change(&s); err != nil {
		return err
	}
	s.Halted = ""
	s.WriterEpoch++
	r.wrote(r.put(s))
	return nil
}

// Tamper replaces a name's row, as somebody does who writes behind the log, and returns how to put it back. It is no
// transaction: a fail-over does not undo it.
func (r *Record) Tamper(ref names.Ref, h registrations.Holding) (back func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, there := r.holdings[ref]
	r.holdings[ref] = h
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if there {
			r.holdings[ref] = was
		} else {
			delete(r.holdings, ref)
		}
	}
}

// All lists the rows of all partitions, by partition.
func (r *Record) All() []processor.Standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.standing), func(a, b processor.Standing) int { return cmp.Compare(a.Partition, b.Partition) })
}

// Standing returns a partition's row, and whether there is one.
func (r *Record) Standing(partition int32) (processor.Standing, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.standing[partition]
	return s, ok
}

// Rows lists what a partition's records have left, as written.
func (r *Record) Rows(partition int32) []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rows[partition])
}

// Policies returns all policies that were ever active, as JSON.
func (r *Record) Policies() map[Policy]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.spaces)
}

// Names returns all names that have a row.
func (r *Record) Names() map[names.Ref]registrations.Holding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.holdings)
}

// Decided returns the outcome of a request, and whether it is decided.
func (r *Record) Decided(q processor.Request) (registrations.Outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.outcomes[q]
	return o, ok
}
