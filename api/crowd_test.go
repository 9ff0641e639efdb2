package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// crowd is how many wait at once.
const crowd = 512

// Half of many who wait go away, in process: nothing of them is left, and the others get their answers.
func TestHalfGoAway(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.set(func(m *memory) { m.held = true })
		before := runtime.NumGoroutine()
		gone, leave := context.WithCancel(t.Context())
		var accepted, left atomic.Int64
		var waiting sync.WaitGroup
		for i := range crowd {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = gone
			}
			waiting.Go(func() {
				r, err := w.claimer.Claim(ctx, "crowd", api.Request{Space: names.Username, Name: fmt.Sprint("crowd.", i), Owner: "u", Mode: claims.ModeRegister}, 10*time.Second)
				switch {
				case err == nil && r.Outcome != nil && i%2 == 1:
					accepted.Add(1)
				case err == nil && r.Outcome == nil && i%2 == 0:
					left.Add(1)
				default:
					t.Errorf("%d: %+v, %v", i, r.Outcome, err)
				}
			})
		}
		time.Sleep(time.Second)
		w.waits(crowd)
		leave()
		time.Sleep(time.Second)
		if n := left.Load(); n != crowd/2 {
			t.Errorf("%d have gone, want %d", n, crowd/2)
		}
		w.waits(crowd / 2)
		w.memory.release()
		waiting.Wait()
		if n := accepted.Load(); n != crowd/2 {
			t.Errorf("%d were answered, want %d", n, crowd/2)
		}
		w.waits(0)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before+crowd/100 { // the runtime and the test framework have a few of their own
			t.Errorf("%d goroutines, %d before", n, before)
		}
		w.published(crowd) // who goes away withdraws nothing
	})
}

// waits checks how many do.
func (w *world) waits(want int64) {
	w.t.Helper()
	if n := w.waiter.Counts().Waiting; n != want {
		w.t.Errorf("%d wait, want %d", n, want)
	}
}

// The same over connections.
func TestHalfHangUp(t *testing.T) {
	w := newWorld(t)
	soon(t, func() error { return w.claimer.Ready() })
	w.memory.set(func(m *memory) { m.held = true })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return w.server.Serve(ctx, ln) })
	before := runtime.NumGoroutine() + 2 // the server may be about to start its own
	transport := &http.Transport{MaxIdleConnsPerHost: crowd}
	gone, leave := context.WithCancel(t.Context())
	var accepted, left atomic.Int64
	var waiting sync.WaitGroup
	for i := range crowd {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = gone
		}
		waiting.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ln.Addr().String()+"/v1/claims", bytes.NewReader(fmt.Appendf(nil, `{"name":"crowd.%d","owner":"u"}`, i)))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header = http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=30"}}
			resp, err := transport.RoundTrip(r)
			if err != nil {
				if left.Add(1); ctx.Err() == nil {
					t.Errorf("%d: %v", i, err)
				}
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is kept
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusCreated {
				accepted.Add(1)
			}
		})
	}
	count := func(want int64) {
		t.Helper()
		soon(t, func() error {
			if n := w.waiter.Counts().Waiting; n != want {
				return fmt.Errorf("%d wait, want %d", n, want)
			}
			return nil
		})
	}
	count(crowd)
	leave()
	count(crowd / 2)
	w.memory.release()
	waiting.Wait()
	if accepted.Load() != crowd/2 || left.Load() != crowd/2 {
		t.Errorf("%d were answered and %d have gone, want %d of each", accepted.Load(), left.Load(), crowd/2)
	}
	count(0)
	transport.CloseIdleConnections()
	soon(t, func() error {
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d goroutines, %d before", n, before)
		}
		return nil
	})
}

// soon waits until f is content.
func soon(t *testing.T, f func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// While as many wait as may, claims are refused before they are read, with when to come back; nothing of them is
// published. When somebody is done the next one is taken.
func TestFull(t *testing.T) {
	const many = 64
	inTime(t, func(t *testing.T, w *world) {
		w.memory.set(func(m *memory) { m.held = true })
		var waiting sync.WaitGroup
		for i := range many {
			waiting.Go(func() { w.claim(fmt.Sprintf(`{"name":"crowd.%d","owner":"u"}`, i), "Prefer: wait=10").is(201, "") })
		}
		time.Sleep(time.Second)
		for range 50 {
			w.claim(alice).is(503, "too_busy").heads("Retry-After", "1")
		}
		w.claim(`no JSON`).is(503, "too_busy")
		w.claim(alice, "Prefer: respond-async").is(503, "too_busy")
		w.claim(alice, "Idempotency-Key: k").is(503, "too_busy")
		w.ask(http.MethodPost, "/v1/claims?wait=5", alice).is(400, "bad_request") // costs nothing either
		w.get("/v1/claims/"+uuid.NewString()).is(404, "unknown_claim")            // nobody waits for that
		w.published(many)
		w.waits(many)
		w.memory.release()
		waiting.Wait()
		w.claim(alice).is(201, "")
		w.published(many + 1)
		w.waits(0)
	}, func(s *setup) { s.waiters = many })
}

// Who is refused before its body is read keeps its connection: the next claim on it is not what was left unread.
func TestFullKeepsConnections(t *testing.T) {
	w := newWorld(t, func(s *setup) { s.waiters = 1 })
	soon(t, w.claimer.Ready)
	ticket, err := w.waiter.Expect(uuid.New(), 0)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.server)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for i, want := range []int{503, 503, 201} {
		if want == 201 {
			ticket.Release()
		}
		body := fmt.Sprintf(`{"name":"name-%d","owner":"u"%s}`, i, strings.Repeat(" ", 3000))
		if _, err := fmt.Fprintf(conn, "POST /v1/claims HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want || resp.Close {
			t.Errorf("claim %d: %d, closed %t; want %d", i, resp.StatusCode, resp.Close, want)
		}
	}
}
