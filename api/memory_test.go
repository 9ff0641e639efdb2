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
	"github.com/dibs-hq/dibs/processor/ledgertest"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

const partitions = 4

// memory is a log, what it comes to by the rule of the processor, and the record, for the API to talk to.
type memory struct {
	mu       sync.Mutex
	logs     [partitions][]cloudevents.Record
	rows     [partitions]api.Partition
	ledger   *ledgertest.Ledger
	start    time.Time
	replicas []func(registrations.Outcome) // tails of registrations

	looks  int             // at the partitions
	frozen []api.Partition // what they read; nil for how it is

	held    bool  // nothing is decided until release
	mute    bool  // nothing is delivered
	away    error // what the record answers
	publish func(ctx context.Context, add func() int64) (int64, error)
}

var (
	_ api.Claims            = (*memory)(nil)
	_ api.Lookup            = (*memory)(nil)
	_ registrations.Decided = (*memory)(nil)
)

func newMemory() *memory {
	m := &memory{ledger: ledgertest.New(partitions, policies()), start: time.Now()}
	for p := range m.rows {
		m.rows[p] = api.Partition{Partition: int32(p), LogEpoch: 3}
	}
	return m
}

// policies are those of all tests: username, and two spaces that are like it but for what they are here for.
func policies() names.Policies {
	all := names.Builtin()
	like := func(space names.Space, change func(p *names.Policy)) {
		p := *all[names.Username]
		p.Space, p.Reserved = space, nil
		change(&p)
		all[space] = &p
	}
	like("handle", func(p *names.Policy) { p.CoolDown = time.Hour })
	like("staff", func(p *names.Policy) { p.UniqueAmong = names.AmongActive })
	return all
}

// now is the clock of the log and of the API.
func (m *memory) now() time.Time {
	return time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC).Add(time.Since(m.start)).Truncate(time.Millisecond)
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
		r.Time = m.now()
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
	for again := true; again; {
		again = false
		for p := range m.rows {
			for row := &m.rows[p]; row.NextOffset < int64(len(m.logs[p])); row.NextOffset++ {
				outcomes, follows := m.ledger.Decide(row.Partition, row.LogEpoch, row.NextOffset, m.logs[p][row.NextOffset])
				published = append(published, outcomes...)
				for _, f := range follows {
					f.Record.Time = m.now()
					m.logs[f.Partition] = append(m.logs[f.Partition], f.Record)
					again = true
				}
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

// privileged writes a request that comes from no caller of the API.
func (m *memory) privileged(body claims.Body) {
	m.set(func(m *memory) {
		w := m.ledger.Sign(body, uuid.New(), "operator")
		w.Record.Time = m.now()
		m.logs[w.Partition] = append(m.logs[w.Partition], w.Record)
	})
	m.decide()
}

func (m *memory) Decided(_ context.Context, ids []uuid.UUID) ([]registrations.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Decided(ids), m.away
}

func (m *memory) Name(_ context.Context, ref names.Ref) (registrations.Holding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Holdings[ref], m.away
}

func (m *memory) History(_ context.Context, ref names.Ref, from int64, limit int) (entries []api.Entry, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range m.ledger.History(ref, from) {
		if len(entries) < limit {
			entries = append(entries, api.Entry{Outcome: row.Outcome, Principal: row.Principal, Actor: row.Actor, Why: row.Why})
		}
	}
	return entries, m.away
}

func (m *memory) ByOwner(_ context.Context, owner string, within []string, limit int, after names.Ref) (owned []api.Owned, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range m.ledger.ByOwner(owner) {
		if len(owned) < limit && ledgertest.Compare(ref, after) > 0 && (within == nil || slices.Contains(within, string(ref.Space))) {
			owned = append(owned, api.Owned{Ref: ref, Holding: m.ledger.Holdings[ref]})
		}
	}
	return owned, m.away
}

func (m *memory) Sequel(_ context.Context, of registrations.Outcome) (s api.Sequel, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	withdrawal, f := m.ledger.Sequel(of)
	if s.Withdrawal = withdrawal; f != nil {
		s.FollowUp = &api.GivenUp{Ref: f.Ref, Version: f.Version, Request: claims.ReleaseID(of.ClaimID, of.Ref)}
		for _, o := range m.ledger.Decided([]uuid.UUID{s.FollowUp.Request}) {
			s.FollowUp.Outcome = &o
		}
	}
	return s, m.away
}

func (m *memory) Partitions(context.Context) ([]api.Partition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	if m.frozen != nil {
		return slices.Clone(m.frozen), m.away
	}
	return slices.Clone(m.rows[:]), m.away
}

// records returns everything that is in the log.
func (m *memory) records() []cloudevents.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.logs[:]...)
}

var errAway = errors.New("connection refused to db-7.internal")
