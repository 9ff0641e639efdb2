package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// caller is one connection, as its owner sees it.
type caller struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (s *served) dial() *caller {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return &caller{c, s.t, bufio.NewReader(c)}
}

// claim asks for a name, and waits for no answer.
func (c *caller) claim(name string) {
	c.t.Helper()
	body := fmt.Sprintf(`{"name":%q,"owner":"u"}`, name)
	_, err := fmt.Fprintf(c, "POST /v1/claims HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err != nil {
		c.t.Fatal(err)
	}
}

// answered reads an answer, and returns whether the connection is kept.
func (c *caller) answered(status int) (kept bool) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != status {
		c.t.Fatalf("%d, %v; want %d", resp.StatusCode, err, status)
	}
	return !resp.Close
}

// silent checks that there is no answer, and that the connection is not closed either.
func (c *caller) silent(within time.Duration) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		c.t.Fatal(err)
	}
	if b, err := c.in.Peek(1); !isTimeout(err) {
		c.t.Fatalf("%q, %v; want nothing", b, err)
	}
}

// opened waits until so many connections are open, and so many had to wait.
func (s *served) opened(open, delayed int) {
	s.t.Helper()
	soon(s.t, func() error {
		return testutil.GatherAndCompare(s.metrics, strings.NewReader(fmt.Sprintf(`
# HELP dibs_http_connections Connections to the API that are open.
# TYPE dibs_http_connections gauge
dibs_http_connections %d
# HELP dibs_http_connections_delayed_total Connections that had to wait, with those behind them, because as many were open as may be.
# TYPE dibs_http_connections_delayed_total counter
dibs_http_connections_delayed_total %d
`, open, delayed)), "dibs_http_connections", "dibs_http_connections_delayed_total")
	})
}

func atMost(connections int) func(*setup) {
	return func(s *setup) { s.server.MaxConnections = connections }
}

// Who comes when as many connections are open as may be is not turned away: it waits until others have their answers.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, atMost(2))
	s.memory.set(func(m *memory) { m.held = true })
	first, second := s.dial(), s.dial()
	first.claim("first")
	second.claim("second")
	waitFor(t, func() bool { return len(s.memory.records()) == 2 })
	third := s.dial()
	third.claim("third")
	third.silent(200 * time.Millisecond)
	s.opened(2, 1)
	s.published(2)

	s.memory.release()
	for _, c := range []*caller{first, second} {
		c.answered(201)
	}
	third.answered(201)
	s.published(3)
}

// What is idle goes first, and there is room again then: connections are kept as before.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	s := serve(t, atMost(2))
	var idle []*caller
	for _, name := range []string{"first", "second"} {
		c := s.dial()
		c.claim(name)
		c.answered(201)
		idle = append(idle, c)
	}
	third := s.dial()
	third.claim("third")
	third.answered(201)
	for _, c := range idle {
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if b, err := c.in.Peek(1); err != io.EOF {
			t.Errorf("%q, %v; want that it is closed", b, err)
		}
	}
	_ = third.Close()
	s.opened(0, 1)
	fourth := s.dial()
	for i := range 3 {
		fourth.claim(fmt.Sprintf("fourth.%d", i))
		if !fourth.answered(201) {
			t.Error("the connection is not kept, and there is room")
		}
	}
	s.opened(1, 1)
}

// A stop waits for those who have a place, and closes who waits for one.
func TestStopWhileConnectionsAreFull(t *testing.T) {
	t.Parallel()
	s := serve(t, atMost(1))
	s.memory.set(func(m *memory) { m.held = true })
	first := s.dial()
	first.claim("first")
	waitFor(t, func() bool { return len(s.memory.records()) == 1 })
	second := s.dial()
	second.claim("second")
	s.opened(1, 1)
	s.stop()
	if err := second.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := second.in.Peek(1); err == nil || isTimeout(err) {
		t.Errorf("%q, %v; want that it is closed", b, err)
	}
	first.silent(100 * time.Millisecond)
	s.memory.release()
	first.answered(201)
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.ended <- nil
	s.published(1)
}
