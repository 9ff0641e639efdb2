package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// echo accepts everything at once: what is left is what the API itself costs.
type echo struct {
	*memory
	waiter *registrations.Waiter
}

func (e echo) Start(partition int32, r cloudevents.Record) (api.Publication, error) {
	id, _ := r.Header(cloudevents.ID)
	e.waiter.Deliver(registrations.Outcome{
		Type: registrations.Accepted, RequestID: uuid.Must(uuid.ParseBytes(id)), Partition: partition, LogEpoch: 1, Version: 1,
		State: registrations.Registered, Ref: names.ParseRef(string(r.Key)), Name: "Alice", Owner: "u-17",
	})
	return acknowledged, nil
}

// acknowledged is every record of an echo.
var acknowledged = func() *publication {
	p := &publication{settled: make(chan struct{})}
	close(p.settled)
	return p
}()

func benchClaimer(b testing.TB) *api.Claimer {
	b.Helper()
	waiter := registrations.NewWaiter(registrations.WaiterConfig{})
	e := echo{newMemory(), waiter}
	c, err := api.NewClaimer(api.ClaimerConfig{Partitions: 12, Policies: names.Builtin()}, e, e, waiter)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	for c.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	return c
}

// BenchmarkClaim is what a claim costs in process.
func BenchmarkClaim(b *testing.B) {
	c := benchClaimer(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := c.Claim(context.Background(), "bench", api.Request{Space: names.Username, Name: "Alice", Owner: "u-17", Mode: claims.ModeRegister}, time.Second)
			if err != nil || r.Outcome == nil {
				b.Fatal(r, err)
			}
		}
	})
}

// BenchmarkHTTP is what a claim costs with HTTP's part, without a network.
func BenchmarkHTTP(b *testing.B) {
	s, err := api.NewServer(api.Config{}, benchClaimer(b), auth.None{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "/v1/claims", strings.NewReader(alice))
			r.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			if s.ServeHTTP(rec, r); rec.Code != http.StatusCreated {
				b.Fatal(rec.Body.String())
			}
		}
	})
}
