package processor

import (
	"context"

	"github.com/dibs-hq/dibs/claims"
)

// Lane is the lane of a processor, for the simulation: it drives the stages step by step instead of letting Run do it.
// (The simulation is an external test, because the record it runs on imports this package.)
type Lane = lane

// NewLane builds a processor and returns its lane.
func NewLane(cfg Config, record Record, publisher Publisher, source Source) (*Lane, error) {
	p, err := New(cfg, nil, record, publisher, source)
	if err != nil {
		return nil, err
	}
	return p.lane, nil
}

func (l *lane) Assign(partitions []int32, live <-chan struct{}) { l.assign(partitions, live) }
func (l *lane) Reconcile(ctx context.Context)                   { l.reconcile(ctx) }
func (l *lane) Backlogged() bool                                { return l.backlogged() }
func (l *lane) DecideNext(ctx context.Context)                  { l.decideNext(ctx) }
func (l *lane) PublishNext(ctx context.Context, p int32) bool   { return l.publishNext(ctx, p) }
func (l *lane) SaveLast(ctx context.Context)                    { l.saveLast(ctx) }
func (l *lane) Published() <-chan struct{}                      { return l.published }

// Beside makes the lane run what it does beside the decide stage in another way than on goroutines.
func (l *lane) Beside(run func(func())) { l.beside = run }

func (l *lane) Conclude(ctx context.Context) { l.conclude(ctx) }
func (l *lane) Busy(p int32) bool            { return l.busy(p) }
func (l *lane) Running() int                 { return l.running }
func (l *lane) Wake() <-chan struct{}        { return l.wake }

// Queued reports whether something of a partition is to be published.
func (l *lane) Queued(p int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.owned[p]
	return t != nil && (len(t.queue) > 0 || len(t.questions) > 0)
}

// Owns lists the partitions that the lane takes for its own.
func (l *lane) Owns() []int32 { return l.ownedPartitions() }

// Idle reports whether everything the lane has committed is published and saved.
func (l *lane) Idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.owned {
		if t.queued > 0 || len(t.questions) > 0 || t.acked > t.saved {
			return false
		}
	}
	return true
}

// OutputsOf is what rows publish.
func OutputsOf(topic string, rules Rules, signing claims.SigningKey, at Fence, rows []Row) []Output {
	l := lane{topic: topic, rules: rules}
	l.signer.Store(&signing)
	return l.outputs(nil, at, rows)
}
