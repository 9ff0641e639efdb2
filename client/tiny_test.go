package client_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// tiny is a dibs in memory behind the real API: the first claim of a name gets it.
type tiny struct {
	mu       sync.Mutex
	offset   int64
	holdings map[names.Ref]registrations.Holding
	outcomes map[uuid.UUID]registrations.Outcome
	waiter   *registrations.Waiter
	slow     chan struct{} // if set, nothing is decided before it is closed
}

// startTiny serves it; stop ends it.
func startTiny(slow chan struct{}) (url string, stop func()) {
	t := &tiny{
		holdings: make(map[names.Ref]registrations.Holding), outcomes: make(map[uuid.UUID]registrations.Outcome),
		waiter: registrations.NewWaiter(registrations.WaiterConfig{}), slow: slow,
	}
	claimer, err := api.NewClaimer(api.ClaimerConfig{Partitions: 1, Policies: names.Builtin()}, t, t, t.waiter)
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

func (t *tiny) Start(partition int32, r cloudevents.Record) (api.Publication, error) {
	req, err := claims.Read(r)
	if err != nil {
		panic(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	offset := t.offset
	t.offset++
	if t.slow == nil {
		t.decide(req, names.ParseRef(string(r.Key)), partition, offset)
		return written(offset), nil
	}
	go func() {
		<-t.slow
		t.mu.Lock()
		defer t.mu.Unlock()
		t.decide(req, names.ParseRef(string(r.Key)), partition, offset)
	}()
	return written(offset), nil
}

func (t *tiny) decide(req claims.Request, ref names.Ref, partition int32, offset int64) {
	c := req.Body.(*claims.UsernameClaimed)
	o, again := t.outcomes[req.ID]
	if !again {
		h := t.holdings[ref]
		o = registrations.Outcome{
			Type: registrations.Rejected, Reason: registrations.Taken, RequestID: req.ID, ClaimID: req.ID, Ref: ref, Name: c.Spelling, Owner: c.Owner,
			LogTime: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), RequestHash: c.Hash(ref, req.Principal, names.Builtin()),
			Partition: partition, LogEpoch: 1, Offset: offset,
		}
		switch {
		case c.ExpectedVersion != nil && *c.ExpectedVersion != h.Version:
			o.Reason, o.CurrentVersion = registrations.VersionConflict, h.Version
		case !h.Held():
			o.Type, o.Reason, o.State, o.Version = registrations.Accepted, "", registrations.Registered, h.Version+1
			t.holdings[ref] = registrations.Holding{State: o.State, Name: o.Name, Owner: o.Owner, ClaimID: req.ID, Version: o.Version}
		}
		t.outcomes[req.ID] = o
	}
	t.waiter.Deliver(o)
}

func (t *tiny) Decided(_ context.Context, ids []uuid.UUID) (found []registrations.Outcome, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if o, ok := t.outcomes[id]; ok {
			found = append(found, o)
		}
	}
	return found, nil
}

func (t *tiny) Name(_ context.Context, ref names.Ref) (registrations.Holding, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holdings[ref], nil
}

func (t *tiny) Partitions(context.Context) ([]api.Partition, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []api.Partition{{LogEpoch: 1, NextOffset: int64(len(t.outcomes))}}, nil
}

// must is for examples.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint("unexpected: ", err))
	}
	return v
}
