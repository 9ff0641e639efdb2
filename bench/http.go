package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// HTTPClient posts JSON over as many kept connections as are used at once. It is for peers behind HTTP: on cores that load
// and server share, the usual client, with its two goroutines for each connection, would be much of what is measured.
//
// It follows no redirects, and tries nothing twice. It is safe for concurrent use. Close it.
type HTTPClient struct {
	addr string

	mu     sync.Mutex
	free   []*httpConn // the last one was used last
	closed bool
}

type httpConn struct {
	net.Conn
	in   *bufio.Reader
	out  []byte
	used time.Time
}

// idle is how long a connection is kept: for less than servers keep it.
const idle = 30 * time.Second

// NewHTTPClient makes a client of the server at an address, host:port.
func NewHTTPClient(addr string) *HTTPClient { return &HTTPClient{addr: addr} }

// Post posts a body, with further lines of the header, each ended by \r\n.
func (c *HTTPClient) Post(ctx context.Context, path, header string, body []byte) (status int, answer []byte, err error) {
	conn, err := c.take(ctx)
	if err != nil {
		return 0, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	status, answer, keep, err := conn.post(c.addr, path, header, body)
	if stopped := stop(); err != nil || !keep || !stopped {
		_ = conn.Close() // it is given up
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	} else {
		c.give(conn)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("POST http://%s%s: %w", c.addr, path, err)
	}
	return status, answer, nil
}

// take takes a free connection, or makes one.
func (c *HTTPClient) take(ctx context.Context) (*httpConn, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errors.New("the client is closed")
	}
	var conn *httpConn
	if n := len(c.free); n > 0 {
		conn, c.free = c.free[n-1], c.free[:n-1]
		if time.Since(conn.used) > idle { // and so are all others
			c.closeFree()
			_ = conn.Close()
			conn = nil
		}
	}
	c.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &httpConn{Conn: raw, in: bufio.NewReaderSize(raw, 2<<10)}, nil
}

func (c *HTTPClient) give(conn *httpConn) {
	conn.used = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return
	}
	c.free = append(c.free, conn)
}

// Close closes what is free, and the rest when it becomes so.
func (c *HTTPClient) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closeFree()
}

func (c *HTTPClient) closeFree() {
	for _, conn := range c.free {
		_ = conn.Close() // nothing is under way on it
	}
	c.free = nil
}

func (c *httpConn) post(host, path, header string, body []byte) (status int, answer []byte, keep bool, err error) {
	b := append(append(append(c.out[:0], "POST "...), path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, host...), "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = append(append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...), header...)
	c.out = append(append(b, "\r\n"...), body...)
	if _, err := c.Write(c.out); err != nil {
		return 0, nil, false, err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, nil, false, err
	}
	answer, err = io.ReadAll(r.Body)
	return r.StatusCode, answer, !r.Close, errors.Join(err, r.Body.Close())
}
