package registrations

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// ErrFull says that as many tickets are out as the Waiter may have. Nothing has been published for this caller yet, so it
// can be told to come back. (503, Retry-After)
var ErrFull = errors.New("too many are waiting for an outcome")

// AnyPartition is the partition of a ticket that takes an outcome from wherever it comes.
const AnyPartition int32 = -1

// Decided reads outcomes from the record: the Waiter asks it when an outcome does not come.
type Decided interface {
	// Decided returns the outcomes of those request ids that are decided, of whatever partition.
	Decided(ctx context.Context, ids []uuid.UUID) ([]Outcome, error)
}

// WaiterConfig says how a Waiter waits. The zero value works, without looking anything up.
type WaiterConfig struct {
	// Max is how many tickets may be out at once. Defaults to 10,000.
	Max int
	// Record is asked for outcomes that do not come: the tail lags, or there will be none, because the id was decided
	// before with other content. Nil: nobody is asked.
	Record Decided
	// Log gets the look-ups that fail. Nil discards.
	Log *slog.Logger
}

// How the fall-back looks: each ticket at these ages after the ticket before; the last one repeats.
var lookAfter = [...]time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second}

const (
	defaultMaxTickets = 10_000
	lookEvery         = 100 * time.Millisecond
	lookTimeout       = 3 * time.Second
	maxLookUp         = 2_000 // ids in one look-up
)

// Waiter hands each outcome to whoever holds a ticket for its request.
//
// A ticket is taken before the request is published: an outcome cannot slip past. What is delivered before a ticket was
// taken is gone; the look-ups of Run find it. It is safe for concurrent use.
type Waiter struct {
	max    int64
	record Decided
	log    *slog.Logger

	waiting atomic.Int64
	counts  struct{ delivered, lookUps, found, failed atomic.Int64 }
	shards  [64]shard
}

// shard is a part of the tickets. Every replica reads every outcome, most of which are waited for elsewhere: the question
// "is anybody waiting?" must not wait for those who take tickets.
type shard struct {
	mu      sync.RWMutex
	tickets map[uuid.UUID]*Ticket // the first of a list
	_       [32]byte              // a cache line each
}

// Ticket waits for the outcome of one request. It must be released.
type Ticket struct {
	waiter    *Waiter
	id        uuid.UUID
	partition int32

	done    chan struct{} // closed once outcome is set
	outcome *Outcome      // written before done is closed, then never; of all tickets with the same outcome

	// The rest belongs to the shard's mutex.
	prev, next *Ticket // with the same id
	gone       bool    // delivered or released: no longer in the list
	looks      int     // look-ups made so far
	lookAt     time.Time
}

// NewWaiter makes a Waiter.
func NewWaiter(cfg WaiterConfig) *Waiter {
	if cfg.Max <= 0 {
		cfg.Max = defaultMaxTickets
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Waiter{max: int64(cfg.Max), record: cfg.Record, log: cfg.Log}
	for i := range w.shards {
		w.shards[i].tickets = make(map[uuid.UUID]*Ticket)
	}
	return w
}

// Expect takes a ticket for the outcome of a request on one partition, or on AnyPartition. The partition is what tells
// two requests with one id apart: within a partition an id has one outcome, whatever name it was about, and the second
// of two requests that differ gets none. Any number of tickets may be out for one id. The error is ErrFull.
func (w *Waiter) Expect(id uuid.UUID, partition int32) (*Ticket, error) {
	if w.waiting.Add(1) > w.max {
		w.waiting.Add(-1)
		return nil, ErrFull
	}
	t := &Ticket{waiter: w, id: id, partition: partition, done: make(chan struct{}), lookAt: time.Now().Add(lookAfter[0])}
	s := w.shard(id)
	s.mu.Lock()
	s.add(t)
	s.mu.Unlock()
	return t, nil
}

// Full reports whether Expect would say ErrFull now: whoever has not begun anything need not begin.
func (w *Waiter) Full() bool { return w.waiting.Load() >= w.max }

// Waiting reports whether anybody waits for an outcome of the request: the tail decodes only what this says yes to.
func (w *Waiter) Waiting(id uuid.UUID) bool {
	if w.waiting.Load() == 0 {
		return false
	}
	s := w.shard(id)
	s.mu.RLock()
	_, ok := s.tickets[id]
	s.mu.RUnlock()
	return ok
}

// Deliver hands an outcome to all tickets it is for. Facts are nobody's answer.
func (w *Waiter) Deliver(o Outcome) {
	if o.Fact {
		return
	}
	w.counts.delivered.Add(int64(w.deliver(&o)))
}

func (w *Waiter) deliver(o *Outcome) int {
	s := w.shard(o.RequestID)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for t := s.tickets[o.RequestID]; t != nil; t = t.next {
		if t.partition == AnyPartition || t.partition == o.Partition {
			s.remove(t)
			t.outcome = o
			close(t.done)
			n++
		}
	}
	w.waiting.Add(int64(-n))
	return n
}

// Counts says what a Waiter has done so far, and how many wait now.
type Counts struct {
	Waiting   int64
	Delivered int64 // outcomes handed to tickets as they came
	LookUps   int64 // questions to the record
	Found     int64 // outcomes handed to tickets because the record had them
	Failed    int64 // questions to the record that got no answer
}

// Counts returns the counts.
func (w *Waiter) Counts() Counts {
	return Counts{
		Waiting: w.waiting.Load(), Delivered: w.counts.delivered.Load(),
		LookUps: w.counts.lookUps.Load(), Found: w.counts.found.Load(), Failed: w.counts.failed.Load(),
	}
}

// Run looks up what does not come, until ctx ends. It asks for all overdue tickets at once, one question at a time.
func (w *Waiter) Run(ctx context.Context) error {
	if w.record == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			err := w.lookUp(ctx, now)
			if failed := err != nil && ctx.Err() == nil; failed != failing {
				failing = failed
				if failed {
					w.log.WarnContext(ctx, "outcomes that do not come cannot be looked up", "err", err)
				} else {
					w.log.InfoContext(ctx, "outcomes can be looked up again")
				}
			}
		}
	}
}

// lookUp asks the record for what is overdue at now. A ticket that was asked for counts as looked at also when there was
// no answer: a record in trouble is not asked more often for it.
func (w *Waiter) lookUp(ctx context.Context, now time.Time) error {
	ids := w.overdue(now)
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	w.counts.lookUps.Add(1)
	outcomes, err := w.record.Decided(ctx, ids)
	if err != nil {
		w.counts.failed.Add(1)
		return err
	}
	for i := range outcomes {
		o := outcomes[i] // whoever keeps one keeps no others
		w.counts.found.Add(int64(w.deliver(&o)))
	}
	return nil
}

// overdue returns the ids whose tickets are due to be looked up, once each, and says when they will be due again.
func (w *Waiter) overdue(now time.Time) []uuid.UUID {
	if w.waiting.Load() == 0 {
		return nil
	}
	var ids []uuid.UUID
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for id, t := range s.tickets {
			if len(ids) == maxLookUp {
				break
			}
			due := false
			for ; t != nil; t = t.next {
				if !t.lookAt.After(now) {
					due = true
					t.looks++
					t.lookAt = now.Add(lookAfter[min(t.looks, len(lookAfter)-1)])
				}
			}
			if due {
				ids = append(ids, id)
			}
		}
		s.mu.Unlock()
	}
	return ids
}

// shard picks by the last bytes: those of a version 7 id, and of a hash, are the ones that differ.
func (w *Waiter) shard(id uuid.UUID) *shard {
	return &w.shards[(id[15]^id[14])%byte(len(w.shards))]
}

// add puts a ticket on its list. The caller holds the mutex.
func (s *shard) add(t *Ticket) {
	if t.next = s.tickets[t.id]; t.next != nil {
		t.next.prev = t
	}
	s.tickets[t.id] = t
}

// remove takes a ticket off its list. The caller holds the mutex, and may go on to t.next.
func (s *shard) remove(t *Ticket) {
	t.gone = true
	if t.next != nil {
		t.next.prev = t.prev
	}
	switch {
	case t.prev != nil:
		t.prev.next = t.next
	case t.next != nil:
		s.tickets[t.id] = t.next
	default:
		delete(s.tickets, t.id)
	}
}

// Done is closed when the outcome is there.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// Outcome returns the outcome, nil while it is not there. It is that of others, too, and must not be changed.
func (t *Ticket) Outcome() *Outcome {
	select {
	case <-t.done:
		return t.outcome
	default:
		return nil
	}
}

// Release gives the ticket back. It may be called at any time and more than once; an outcome that is there stays.
func (t *Ticket) Release() {
	s := t.waiter.shard(t.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.gone {
		s.remove(t)
		t.waiter.waiting.Add(-1)
	}
}
