package client_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor/ledgertest"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// tiny is a dibs in memory behind the real API: it decides by the rule that a processor decides by.
type tiny struct {
	mu     sync.Mutex
	offset int64
	ledger *ledgertest.Ledger
	waiter *registrations.Waiter
	slow   chan struct{} // if set, nothing is decided before it is closed
}

// startTiny serves it; stop ends it.
func startTiny(slow chan struct{}) (url string, stop func()) {
	t := &tiny{
		ledger: ledgertest.New(1, names.Builtin()), waiter: registrations.NewWaiter(registrations.WaiterConfig{}), slow: slow,
	}
	claimer, err := api.NewClaimer(api.ClaimerConfig{Partitions: 1, Policies: names.Builtin(), Sign: t.ledger.Signing.Sign}, t, t, t.waiter)
	if err != nil {
		panic(err)
	}
	server, err := api.NewServer(api.Config{}, claimer, auth.None{})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- claimer.Run(ctx) }()
	for claimer.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	s := httptest.NewServer(server)
	return s.URL, func() {
		s.Close()
		cancel()
		if err := <-ended; err != nil {
			panic(err)
		}
	}
}

// written is the publication of a record that is in the log already, by its offset.
type written int64

func (w written) Failed() <-chan struct{}     { return nil }
func (w written) Settled() <-chan struct{}    { return closed }
func (w written) Result() (int64, error)      { return int64(w), nil }
func (w written) GiveUp(error) (int64, error) { return int64(w), nil }

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (t *tiny) Start(_ int32, r cloudevents.Record) (api.Publication, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset := t.offset
	t.offset++
	if t.slow == nil {
		t.decide(r, offset)
		return written(offset), nil
	}
	go func() {
		<-t.slow
		t.mu.Lock()
		defer t.mu.Unlock()
		t.decide(r, offset)
	}()
	return written(offset), nil
}

func (t *tiny) decide(r cloudevents.Record, offset int64) {
	r.Time = time.Now().Truncate(time.Millisecond)
	outcomes, follows := t.ledger.Decide(0, 1, offset, r)
	for _, o := range outcomes {
		t.waiter.Deliver(o)
	}
	for _, f := range follows {
		t.offset++
		t.decide(f.Record, t.offset-1)
	}
}

func (t *tiny) Decided(_ context.Context, ids []uuid.UUID) ([]registrations.Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ledger.Decided(ids), nil
}

func (t *tiny) Name(_ context.Context, ref names.Ref) (registrations.Holding, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ledger.Holdings[ref], nil
}

func (t *tiny) History(_ context.Context, ref names.Ref, from int64, limit int) (entries []api.Entry, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, row := range t.ledger.History(ref, from) {
		if len(entries) < limit {
			entries = append(entries, api.Entry{Outcome: row.Outcome, Actor: row.Actor, Why: row.Why})
		}
	}
	return entries, nil
}

func (t *tiny) ByOwner(_ context.Context, owner string, within []string, limit int, after names.Ref) (owned []api.Owned, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ref := range t.ledger.ByOwner(owner) {
		if len(owned) < limit && ledgertest.Compare(ref, after) > 0 && (within == nil || slices.Contains(within, string(ref.Space))) {
			owned = append(owned, api.Owned{Ref: ref, Holding: t.ledger.Holdings[ref]})
		}
	}
	return owned, nil
}

func (t *tiny) Sequel(_ context.Context, of registrations.Outcome) (s api.Sequel, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	withdrawal, f := t.ledger.Sequel(of)
	if s.Withdrawal = withdrawal; f != nil {
		s.FollowUp = &api.GivenUp{Ref: f.Ref, Version: f.Version, Request: claims.ReleaseID(of.ClaimID, of.Ref)}
		for _, o := range t.ledger.Decided([]uuid.UUID{s.FollowUp.Request}) {
			s.FollowUp.Outcome = &o
		}
	}
	return s, nil
}

func (t *tiny) Partitions(context.Context) ([]api.Partition, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []api.Partition{{LogEpoch: 1, NextOffset: t.offset}}, nil
}

// must is for examples.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint("unexpected: ", err))
	}
	return v
}
