package api

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// connections are those that callers have open, as many as may be. Those that come then wait, unread, one of them here and the
// others in the kernel's backlog, until one is closed: idle ones are at once, and others behind their answers.
type connections struct {
	places chan struct{}
	full   prometheus.Counter

	mu       sync.Mutex
	waiting  bool       // one does, and those behind it
	waited   time.Time  // when one did last
	making   bool       // room: connections are not kept open
	keepOpen func(bool) // http.Server.SetKeepAlivesEnabled
}

// defaultConnections are half as many again as may wait for outcomes (api.max_waiting): who is refused needs one as well.
const defaultConnections = 15_000

func newConnections(most int, reg prometheus.Registerer) *connections {
	if most <= 0 {
		most = defaultConnections
	}
	f := promauto.With(reg)
	c := &connections{
		places: make(chan struct{}, most),
		full: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_http_connections_delayed_total",
			Help: "Connections that had to wait, with those behind them, because as many were open as may be.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dibs_http_connections",
		Help: "Connections to the API that are open.",
	}, func() float64 { return float64(len(c.places)) })
	return c
}

// bound bounds the connections that a server takes from a listener.
func (c *connections) bound(server *http.Server, ln net.Listener) net.Listener {
	c.keepOpen, server.ConnState = server.SetKeepAlivesEnabled, c.changed
	return &bounded{Listener: ln, connections: c, closed: make(chan struct{})}
}

// wait says that one waits, or does not any more. While one does, connections that are idle are closed, and others behind
// their answers.
func (c *connections) wait(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting, c.waited = yes, time.Now(); yes && !c.making {
		c.making = true
		c.keepOpen(false)
	}
}

// roomAgain is for how long nobody has had to wait when connections are kept open again, though there is little room.
const roomAgain = time.Second

// keepAgain keeps connections open again where nobody waits and there is room.
func (c *connections) keepAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.making || c.waiting {
		return
	}
	if len(c.places) <= cap(c.places)*9/10 || time.Since(c.waited) > roomAgain {
		c.making = false
		c.keepOpen(true)
	}
}

// changed frees the place of a connection that is closed.
func (c *connections) changed(_ net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	<-c.places
	c.keepAgain()
}

// bounded is a listener whose connections have places.
type bounded struct {
	net.Listener
	connections *connections

	close  sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	conn, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := b.connections
	select {
	case c.places <- struct{}{}:
		return conn, nil
	default:
	}
	c.full.Inc()
	c.wait(true)
	defer c.wait(false)
	select {
	case c.places <- struct{}{}:
		return conn, nil
	case <-b.closed:
		_ = conn.Close() // nothing was read
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *bounded) Close() error {
	b.close.Do(func() { close(b.closed) })
	return b.Listener.Close()
}
