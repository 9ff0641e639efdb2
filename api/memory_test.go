package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

const partitions = 4

// memory is a log, a processor that decides it by the simplest rule, and the record, for the API to talk to.
type memory struct {
	mu       sync.Mutex
	logs     [partitions][]cloudevents.Record
	rows     [partitions]api.Partition
	holdings map[names.Ref]registrations.Holding
	outcomes map[request]registrations.Outcome
	force    map[names.Key]registrations.Reason // names that are always rejected
	replicas []func(registrations.Outcome)      // tails of registrations

	held    bool  // nothing is decided until release
	mute    bool  // nothing is delivered
	away    error // what the record answers
	publish func(ctx context.Context, add func() int64) (int64, error)
}

type request struct {
	partition int32
	id        uuid.UUID
}

var (
	_ api.Claims            = (*memory)(nil)
	_ api.Lookup            = (*memory)(nil)
	_ registrations.Decided = (*memory)(nil)
)

func newMemory() *memory {
	m := &memory{
		holdings: make(map[names.Ref]registrations.Holding),
		outcomes: make(map[request]registrations.Outcome),
		force:    make(map[names.Key]registrations.Reason),
	}
	for p := range m.rows {
		m.rows[p] = api.Partition{Partition: int32(p), LogEpoch: 3}
	}
	return m
}

// set changes how the memory behaves.
func (m *memory) set(change func(m *memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// Start appends the record, and decides it before it acknowledges it.
func (m *memory) Start(partition int32, r cloudevents.Record) (api.Publication, error) {
	return inBackground(func(ctx context.Context) (int64, error) { return m.write(ctx, partition, r) }), nil
}

func (m *memory) write(ctx context.Context, partition int32, r cloudevents.Record) (int64, error) {
	add := func() int64 {
		m.mu.Lock()
		m.logs[partition] = append(m.logs[partition], r)
		offset := int64(len(m.logs[partition]) - 1)
		held := m.held
		m.mu.Unlock()
		if !held {
			m.decide()
		}
		return offset
	}
	m.mu.Lock()
	publish := m.publish
	m.mu.Unlock()
	if publish != nil {
		return publish(ctx, add)
	}
	return add(), ctx.Err()
}

// publication is one that a function carries out until its ctx ends.
type publication struct {
	end             context.CancelCauseFunc
	failed, settled chan struct{}
	offset          int64
	err             error
}

func inBackground(publish func(context.Context) (int64, error)) *publication {
	ctx, end := context.WithCancelCause(context.Background())
	p := &publication{end: end, failed: make(chan struct{}), settled: make(chan struct{})}
	go func() {
		if p.offset, p.err = publish(ctx); p.err != nil {
			close(p.failed)
		}
		close(p.settled)
	}()
	return p
}

func (p *publication) Failed() <-chan struct{}  { return p.failed }
func (p *publication) Settled() <-chan struct{} { return p.settled }

func (p *publication) Result() (int64, error) {
	select {
	case <-p.settled:
		return p.offset, p.err
	default:
		return 0, fmt.Errorf("%w: not settled yet", api.ErrUnknown)
	}
}

func (p *publication) GiveUp(why error) (int64, error) {
	p.end(why)
	<-p.settled
	return p.offset, p.err
}

// release decides what was held back, and everything from now on.
func (m *memory) release() {
	m.set(func(m *memory) { m.held = false })
	m.decide()
}

// decide goes through what is in the log.
func (m *memory) decide() {
	m.mu.Lock()
	var published []registrations.Outcome
	for p := range m.rows {
		for row := &m.rows[p]; row.NextOffset < int64(len(m.logs[p])); row.NextOffset++ {
			if o, ok := m.decideOne(row, m.logs[p][row.NextOffset]); ok {
				published = append(published, o)
			}
		}
	}
	replicas := slices.Clone(m.replicas)
	if m.mute {
		replicas = nil
	}
	m.mu.Unlock()
	for _, o := range published {
		for _, deliver := range replicas {
			deliver(o)
		}
	}
}

func (m *memory) decideOne(at *api.Partition, r cloudevents.Record) (registrations.Outcome, bool) {
	req, err := claims.Read(r)
	if err != nil {
		panic(fmt.Sprintf("the API has published what cannot be read: %v", err))
	}
	c := req.Body.(*claims.UsernameClaimed)
	ref := names.ParseRef(string(r.Key))
	hash := c.Hash(ref, req.Principal, names.Builtin())
	if before, ok := m.outcomes[request{at.Partition, req.ID}]; ok {
		return before, before.RequestHash == hash // else a dead letter
	}
	h := m.holdings[ref]
	o := registrations.Outcome{
		Type: registrations.Rejected, RequestID: req.ID, ClaimID: req.ID, Ref: ref, Name: c.Spelling, Owner: c.Owner,
		LogTime: time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC), PolicyVersion: 1, RequestHash: hash,
		Partition: at.Partition, LogEpoch: at.LogEpoch, Offset: at.NextOffset,
	}
	switch {
	case m.force[ref.Key] != "":
		o.Reason = m.force[ref.Key]
	case c.ExpectedVersion != nil && *c.ExpectedVersion != h.Version:
		o.Reason, o.CurrentVersion = registrations.VersionConflict, h.Version
	case h.Held() && c.OnConflict == claims.OnConflictReturn && h.Owner == c.Owner:
		o.Type, o.State, o.Version, o.ClaimID = registrations.Accepted, h.State, h.Version, h.ClaimID
	case h.Held():
		o.Reason = registrations.Taken
	default:
		o.Type, o.State, o.Version = registrations.Accepted, registrations.Registered, h.Version+1
		m.holdings[ref] = registrations.Holding{
			State: o.State, Name: c.Spelling, Owner: c.Owner, ClaimID: req.ID, Version: o.Version, Partition: at.Partition,
		}
	}
	m.outcomes[request{at.Partition, req.ID}] = o
	return o, true
}

func (m *memory) Decided(_ context.Context, ids []uuid.UUID) ([]registrations.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []registrations.Outcome
	for at, o := range m.outcomes {
		if slices.Contains(ids, at.id) {
			found = append(found, o)
		}
	}
	return found, m.away
}

func (m *memory) Name(_ context.Context, ref names.Ref) (registrations.Holding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holdings[ref], m.away
}

func (m *memory) Partitions(context.Context) ([]api.Partition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rows[:]), m.away
}

// records returns everything that is in the log.
func (m *memory) records() []cloudevents.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.logs[:]...)
}

var errAway = errors.New("connection refused to db-7.internal")
