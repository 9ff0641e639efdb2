package api_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// written is a log that can be read while it is written.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Reset()
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func logTo(w *written) func(*setup) {
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return func(s *setup) { s.claimer.Log, s.server.Log = log, log }
}

// Names and owners are personal: no log and no label has them.
func TestMetricsAndLogs(t *testing.T) {
	var logged written
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice, "Idempotency-Key: k-secret").is(201, "")
		w.claim(alice, "Idempotency-Key: k-secret").is(201, "")
		w.claim(`{"name":"Alice","owner":"u-18"}`).is(409, "taken")
		w.claim(`{"name":"Alice!","owner":"u-17"}`).is(422, "invalid_name")
		w.get("/v1/names/username/alice").is(200, "")
		w.get("/v1/names/alice/alice").is(404, "unknown_space")
		w.get("/v1/alice").is(404, "not_found")
		w.ask("PUT", "/v1/names/username/alice", "").is(405, "method_not_allowed")
		w.memory.held = true
		w.claim(`{"name":"Bob","owner":"u-17"}`).is(202, "")
		w.memory.publish = func(context.Context, func() int64) (int64, error) { return 0, api.ErrUnknown }
		w.claim(alice).is(503, "outcome_unknown")

		families, err := w.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, f := range families {
			text.WriteString(f.String())
		}
		for _, secret := range []string{"lice", "u-17", "u-18", "k-secret"} {
			if strings.Contains(text.String(), secret) {
				t.Errorf("the metrics have %q", secret)
			}
			if strings.Contains(logged.String(), secret) {
				t.Errorf("the log has %q:\n%s", secret, logged.String())
			}
		}
		for _, line := range []string{
			`msg=request method=POST route=/v1/claims code=201 took=0s principal=anonymous`,
			`msg=request method=GET route=/v1/names/{space}/{name} code=200`,
			`msg=request method=other route=other code=404`,
			`level=WARN msg="request is refused" reason=outcome_unknown`,
		} {
			if !strings.Contains(logged.String(), line) {
				t.Errorf("the log has no line %s:\n%s", line, logged.String())
			}
		}
		want := `
# HELP dibs_claims_received_total Claims that came in.
# TYPE dibs_claims_received_total counter
dibs_claims_received_total{source="http"} 5
# HELP dibs_claims_replayed_total Claims that were answered with the outcome of an earlier request with the same id.
# TYPE dibs_claims_replayed_total counter
dibs_claims_replayed_total 1
# HELP dibs_http_refusals_total Requests that the API refused by itself, by the reason of the problem.
# TYPE dibs_http_refusals_total counter
dibs_http_refusals_total{reason="invalid_name"} 1
dibs_http_refusals_total{reason="method_not_allowed"} 1
dibs_http_refusals_total{reason="not_found"} 1
dibs_http_refusals_total{reason="outcome_unknown"} 1
dibs_http_refusals_total{reason="unknown_space"} 1
# HELP dibs_http_waiters Tickets that wait for an outcome.
# TYPE dibs_http_waiters gauge
dibs_http_waiters 0
# HELP dibs_wait_timeouts_total Waits of claims for an outcome that ran out.
# TYPE dibs_wait_timeouts_total counter
dibs_wait_timeouts_total 2
`
		if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(want), "dibs_claims_received_total", "dibs_claims_replayed_total",
			"dibs_http_refusals_total", "dibs_http_waiters", "dibs_wait_timeouts_total"); err != nil {
			t.Error(err)
		}
		if n := testutil.CollectAndCount(w.metrics, "dibs_http_request_duration_seconds"); n != 9 {
			t.Errorf("%d series of durations", n)
		}
	}, logTo(&logged))
}

// A gauge of those who wait goes up and down.
func TestWaitersGauge(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		var all sync.WaitGroup
		all.Go(func() { w.claim(alice).is(202, "") })
		time.Sleep(time.Second)
		gauge := "# HELP dibs_http_waiters Tickets that wait for an outcome.\n# TYPE dibs_http_waiters gauge\ndibs_http_waiters 1\n"
		if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(gauge), "dibs_http_waiters"); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
}

// panicking is a Claims with a fault.
type panicking struct{}

func (panicking) Start(int32, cloudevents.Record) (api.Publication, error) { panic("kaputt") }

func TestPanicIsAProblem(t *testing.T) {
	var logged written
	inTime(t, func(t *testing.T, w *world) {
		if a := w.claim(alice).is(500, "internal"); strings.Contains(a.text, "kaputt") {
			t.Errorf("the answer tells what is inside: %s", a.text)
		}
		if n := w.waiter.Counts().Waiting; n != 0 {
			t.Errorf("%d tickets are still out", n)
		}
		if !strings.Contains(logged.String(), "kaputt") {
			t.Error("it was not logged")
		}
	}, logTo(&logged), func(s *setup) { s.claims = panicking{} })
}

// What is away is said once, not once a second.
func TestAwayIsLoggedOnce(t *testing.T) {
	var logged written
	inTime(t, func(t *testing.T, w *world) {
		w.memory.set(func(m *memory) { m.away = errAway })
		time.Sleep(20 * time.Second)
		w.memory.set(func(m *memory) { m.away = nil })
		time.Sleep(2 * time.Second)
		if n := strings.Count(logged.String(), "cannot be read"); n != 1 {
			t.Errorf("said %d times:\n%s", n, logged.String())
		}
		if !strings.Contains(logged.String(), "can be read again") {
			t.Error("that it is back was not said")
		}
	}, logTo(&logged))
}
