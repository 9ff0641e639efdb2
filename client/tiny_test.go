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
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// tiny is a dibs in memory behind the real API: it decides by the rule that a processor decides by.
type tiny struct {
	mu      sync.Mutex
	offset  int64
	known   processor.Known
	rules   processor.Rules
	signing claims.SigningKey
	waiter  *registrations.Waiter
	slow    chan struct{} // if set, nothing is decided before it is closed
}

// startTiny serves it; stop ends it.
func startTiny(slow chan struct{}) (url string, stop func()) {
	signing := claims.SigningKey{ID: "test", Secret: []byte("of a test")}
	t := &tiny{
		known: processor.Known{
			Holdings: make(map[names.Ref]registrations.Holding), Outcomes: make(map[processor.Request]registrations.Outcome),
			Marks: make(map[processor.Mark]struct{}),
		},
		rules:   processor.Rules{Partitions: 1, Policies: names.Builtin(), Keys: claims.Keys{signing.ID: signing.Secret}},
		signing: signing, waiter: registrations.NewWaiter(registrations.WaiterConfig{}), slow: slow,
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
	received := processor.Receive(processor.Message{Offset: offset, Record: r}, t.rules)
	d := processor.Decide(processor.Ledger{LogEpoch: 1, Rules: t.rules, Known: t.known}, []processor.Received{received})
	for _, c := range d.Changes {
		t.known.Holdings[c.Ref] = c.Holding
	}
	for _, row := range d.Rows {
		switch row.Kind {
		case processor.KindOutcome:
			t.known.Outcomes[processor.Request{ID: row.RequestID}] = row.Outcome
			t.waiter.Deliver(row.Outcome)
		case processor.KindDuplicate:
			t.waiter.Deliver(row.Outcome)
		case processor.KindMark:
			t.known.Marks[processor.Mark{Claim: row.RequestID, Owner: row.Outcome.Owner}] = struct{}{}
		}
		if f := row.FollowUp; f != nil {
			release := &claims.ReleaseRequested{
				About: claims.About{Space: f.Ref.Space, Spelling: string(f.Ref.Key)}, Owner: f.Owner, ExpectedVersion: &f.Version,
			}
			event := cloudevents.Event{ID: claims.ReleaseID(f.Claim, row.Outcome.Ref), Source: "test", Principal: claims.Principal}
			t.offset++
			t.decide(t.signing.Sign(claims.NewRecord(release, event, f.Ref)), t.offset-1)
		}
	}
}

func (t *tiny) Decided(_ context.Context, ids []uuid.UUID) (found []registrations.Outcome, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if o, ok := t.known.Outcomes[processor.Request{ID: id}]; ok {
			found = append(found, o)
		}
	}
	return found, nil
}

func (t *tiny) Name(_ context.Context, ref names.Ref) (registrations.Holding, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known.Holdings[ref], nil
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
