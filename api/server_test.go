package api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// served is a world behind a real listener.
type served struct {
	*world
	url    string
	addr   string
	client *http.Client
	stop   context.CancelFunc
	ended  chan error
}

func serve(t *testing.T, change ...func(*setup)) *served {
	t.Helper()
	s := &served{world: newWorld(t, change...), client: &http.Client{Transport: &http.Transport{}}, ended: make(chan error, 1)}
	for s.claimer.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.url = "http://" + s.addr
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() { s.ended <- s.server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.stop()
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
		s.ended <- nil
	})
	return s
}

// post claims a name over the network.
func (s *served) post(body string, headers ...string) *answer {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.url+"/v1/claims", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return over(s.t, s.client, r, []byte(body))
}

func TestServed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.post(alice).is(201, "")
	s.post(alice).is(409, "taken")
	for _, path := range []string{"/v1/names/username/alice", "/problems/taken", "/openapi.yaml"} {
		r, err := http.NewRequest(http.MethodGet, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		over(t, s.client, r, nil).is(200, "")
	}
}

// A wait that is longer than the time to read a request is not cut.
func TestLongWaitIsNotCut(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.memory.set(func(m *memory) { m.held = true })
	time.AfterFunc(6*time.Second, s.memory.release)
	if a := s.post(alice, "Prefer: wait=20").is(201, ""); a.took < 6*time.Second {
		t.Errorf("took %s", a.took)
	}
}

// A thousand connections that dribble do not keep anybody waiting, and are cut.
func TestSlowConnections(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			_ = c.Close()
		}
	}()
	for i := range 1000 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		head := "POST /v1/claims HTTP/1.1\r\nHost: x\r\nX-Slow: "
		if i%2 == 1 { // the head is there, the body is not
			head = "POST /v1/claims HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"name\""
		}
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if a := s.post(fmt.Sprintf(`{"name":"name%d","owner":"u"}`, i)).is(201, ""); a.took > 3*time.Second {
			t.Errorf("a claim took %s", a.took)
		}
	}
	var cut sync.WaitGroup
	for _, c := range slow {
		cut.Go(func() {
			if err := c.SetReadDeadline(time.Now().Add(9 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				t.Error("a slow connection was not cut")
			}
		})
	}
	cut.Wait()
	s.published(20)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// A large body is refused before it is sent, where its length is said, and after 4 KiB where it is not.
func TestLargeBodyIsCutEarly(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, head := range map[string]string{
		"said":    "Content-Length: 1048576\r\n",
		"expect":  "Content-Length: 1048576\r\nExpect: 100-continue\r\n",
		"chunked": "Transfer-Encoding: chunked\r\n",
	} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		request := "POST /v1/claims HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + "\r\n"
		if name == "chunked" {
			request += "2000\r\n" + strings.Repeat("x", 0x2000) // and no more
		}
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(body, []byte(`"too_large"`)) || !resp.Close {
			t.Errorf("%s: %d, closes %t\n%s", name, resp.StatusCode, resp.Close, body)
		}
		_ = c.Close()
	}
	s.post(strings.Repeat(" ", 1<<20)).is(413, "too_large")
	s.published(0)
}

func TestLargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for size, want := range map[int]int{6 << 10: 201, 10 << 10: 431} {
		r, err := http.NewRequest(http.MethodPost, s.url+"/v1/claims", strings.NewReader(fmt.Sprintf(`{"name":"name%d","owner":"u"}`, size)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Large", strings.Repeat("x", size))
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a header of %d bytes: %d", size, resp.StatusCode)
		}
	}
}

// A stop takes nothing more, and lets who waits have the outcome.
func TestStopLetsWaitersFinish(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.memory.set(func(m *memory) { m.held = true })
	done := make(chan *answer)
	go func() { done <- s.post(alice, "Prefer: wait=20") }()
	waitFor(t, func() bool { return len(s.memory.records()) == 1 })
	s.stop()
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	s.memory.release()
	(<-done).is(201, "")
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.ended <- nil
}

// Who still waits after the drain time-out hears that the claim is pending: its connection is not cut.
func TestStopTellsThatClaimsArePending(t *testing.T) {
	t.Parallel()
	s := serve(t, func(s *setup) { s.server.DrainTimeout = 200 * time.Millisecond })
	s.memory.set(func(m *memory) { m.held = true })
	done := make(chan *answer)
	go func() { done <- s.post(alice, "Prefer: wait=20") }()
	waitFor(t, func() bool { return len(s.memory.records()) == 1 })
	s.stop()
	a := (<-done).is(202, "").has("state", "pending")
	if a.took > 5*time.Second {
		t.Errorf("took %s", a.took)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.ended <- nil
	if n := s.waiter.Counts().Waiting; n != 0 {
		t.Errorf("%d tickets are still out", n)
	}
}

// What is being published when the time-out is over is given up, and said to be unknown.
func TestStopGivesUpPublishing(t *testing.T) {
	t.Parallel()
	h := hanging{started: make(chan struct{}, 1)}
	s := serve(t, func(s *setup) { s.server.DrainTimeout, s.claims = 200*time.Millisecond, h })
	done := make(chan *answer)
	go func() { done <- s.post(alice, "Prefer: wait=20") }()
	<-h.started
	s.stop()
	if a := (<-done).is(503, "outcome_unknown"); a.took > 5*time.Second {
		t.Errorf("took %s", a.took)
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
	}
}
