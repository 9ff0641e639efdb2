package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup is what a test may want otherwise.
type setup struct {
	memory  *memory
	claims  api.Claims // nil: the memory
	keys    api.Authenticator
	waiters int
	claimer api.ClaimerConfig
	server  api.Config
}

// world is one replica of the API over a memory.
type world struct {
	t       *testing.T
	memory  *memory
	waiter  *registrations.Waiter
	claimer *api.Claimer
	server  *api.Server
	metrics *prometheus.Registry
}

func newWorld(t *testing.T, change ...func(*setup)) *world {
	t.Helper()
	s := setup{keys: auth.None{}, memory: newMemory()}
	s.claimer = api.ClaimerConfig{Partitions: partitions, Policies: policies(), Sign: s.memory.ledger.Signing.Sign}
	for _, c := range change {
		c(&s)
	}
	if s.claimer.Now == nil {
		s.claimer.Now = s.memory.now
	}
	w := &world{t: t, memory: s.memory, metrics: prometheus.NewRegistry()}
	s.claimer.Registerer, s.server.Registerer = w.metrics, w.metrics
	w.waiter = registrations.NewWaiter(registrations.WaiterConfig{Max: s.waiters, Record: w.memory})
	w.memory.set(func(m *memory) { m.replicas = append(m.replicas, w.waiter.Deliver) })
	if s.claims == nil {
		s.claims = w.memory
	}
	var err error
	if w.claimer, err = api.NewClaimer(s.claimer, s.claims, w.memory, w.waiter); err != nil {
		t.Fatal(err)
	}
	if w.server, err = api.NewServer(s.server, w.claimer, s.keys); err != nil {
		t.Fatal(err)
	}
	run(t, w.waiter.Run)
	run(t, w.claimer.Run)
	return w
}

// run runs something until the test ends, and waits for it then.
func run(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// inTime runs a test in a bubble, in which waits cost nothing. The API is ready when it begins.
func inTime(t *testing.T, test func(t *testing.T, w *world), change ...func(*setup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change...)
		synctest.Wait()
		if err := w.claimer.Ready(); err != nil {
			t.Fatal(err)
		}
		test(t, w)
	})
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   map[string]any
	text   string
	took   time.Duration
}

// ask makes a request and checks the answer against the contract. headers are "Name: value".
func (w *world) ask(method, path, body string, headers ...string) *answer {
	w.t.Helper()
	return w.askCtx(context.Background(), method, path, body, headers...)
}

func (w *world) askCtx(ctx context.Context, method, path, body string, headers ...string) *answer {
	w.t.Helper()
	r := newRequest(w.t, method, path, body).WithContext(ctx)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Add(name, value)
		}
	}
	return w.do(r, body)
}

// newRequest makes a request as a server gets it. httptest would not take every path.
func newRequest(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	var err error
	if r.URL, err = url.ParseRequestURI(path); err != nil {
		t.Fatal(err)
	}
	r.RequestURI = path
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (w *world) do(r *http.Request, body string) *answer {
	w.t.Helper()
	rec := httptest.NewRecorder()
	start := time.Now()
	w.server.ServeHTTP(rec, r)
	a := &answer{t: w.t, status: rec.Code, header: rec.Result().Header, text: rec.Body.String(), took: time.Since(start)}
	if err := checkAnswer(r, []byte(body), a.status, a.header, rec.Body.Bytes()); err != nil {
		w.t.Errorf("%s %s: the answer is not as described: %v\n%s", r.Method, r.URL, err, a.text)
	}
	_ = json.Unmarshal(rec.Body.Bytes(), &a.body) // a page is none
	return a
}

// claim is POST /v1/claims.
func (w *world) claim(body string, headers ...string) *answer {
	w.t.Helper()
	return w.ask(http.MethodPost, "/v1/claims", body, headers...)
}

func (w *world) get(path string, headers ...string) *answer {
	w.t.Helper()
	return w.ask(http.MethodGet, path, "", headers...)
}

// is checks the status and, of a problem, the reason.
func (a *answer) is(status int, reason string) *answer {
	a.t.Helper()
	got, _ := a.body["reason"].(string)
	if a.status < 400 && a.body["state"] != "rejected" {
		got = ""
	}
	if a.status != status || got != reason {
		a.t.Fatalf("%d %s, want %d %s\n%s", a.status, got, status, reason, a.text)
	}
	return a
}

// has checks fields of the body: pairs of a name and a value.
func (a *answer) has(pairs ...any) *answer {
	a.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		got, want := a.body[pairs[i].(string)], pairs[i+1]
		if n, ok := want.(int); ok {
			want = float64(n)
		}
		if got != want {
			a.t.Errorf("%s is %v, want %v\n%s", pairs[i], got, want, a.text)
		}
	}
	return a
}

// names checks that the problem's errors name the fields, in their order.
func (a *answer) names(fields ...string) *answer {
	a.t.Helper()
	var got []string
	list, _ := a.body["errors"].([]any)
	for _, e := range list {
		got = append(got, e.(map[string]any)["field"].(string))
	}
	if strings.Join(got, " ") != strings.Join(fields, " ") {
		a.t.Errorf("errors name %q, want %q\n%s", got, fields, a.text)
	}
	return a
}

// heads checks headers: pairs of a name and a value, an empty one for no such header.
func (a *answer) heads(pairs ...string) *answer {
	a.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := a.header.Get(pairs[i]); got != pairs[i+1] {
			a.t.Errorf("header %s is %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
	return a
}

// published checks that the log is as long as it should be.
func (w *world) published(want int) {
	w.t.Helper()
	if got := len(w.memory.records()); got != want {
		w.t.Errorf("%d records are in the log, want %d", got, want)
	}
}

// over makes a real request to a server and checks the answer like ask.
func over(t *testing.T, client *http.Client, r *http.Request, body []byte) *answer {
	t.Helper()
	start := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read in full
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{t: t, status: resp.StatusCode, header: resp.Header, text: string(text), took: time.Since(start)}
	if err := checkAnswer(r, body, a.status, a.header, text); err != nil {
		t.Errorf("%s %s: the answer is not as described: %v\n%s", r.Method, r.URL, err, text)
	}
	_ = json.Unmarshal(bytes.TrimSpace(text), &a.body)
	return a
}
