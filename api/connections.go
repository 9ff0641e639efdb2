package api

import (
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// connections are those that callers have open, as many as may be. Those that come then wait, unread, and most of them with
// the system, until one is closed: idle ones are at once, and others behind their answers.
type connections struct {
	places chan struct{}
	full   prometheus.Counter

	mu       sync.Mutex
	making   bool       // room: since there was none
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

// makeRoom closes the connections that are idle, and others behind their answers; or keeps them open again.
func (c *connections) makeRoom(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.making != yes {
		c.making = yes
		c.keepOpen(!yes)
	}
}

// changed frees the place of a connection that is closed.
func (c *connections) changed(_ net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	<-c.places
	if len(c.places) <= cap(c.places)*9/10 {
		c.makeRoom(false)
	}
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
	c.makeRoom(true)
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
