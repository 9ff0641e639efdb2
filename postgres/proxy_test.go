package postgres_test

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// proxy stands between a record and its server. It can stop passing anything on, as a server that is frozen does, and
// cut a connection at a chosen place of the conversation.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	thaw    *sync.Cond
	frozen  bool
	cutAt   int // the server's n-th next message packet is lost, and its connection with it; 0 for never
	cutIn   int // so many bytes of the clients go on, and then none and their connection is lost; 0 for never
	conns   map[net.Conn]struct{}
	closing bool
	said    int // bytes of the server
}

// startProxy returns a proxy of the server of a DSN, and the DSN through it.
func startProxy(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), conns: make(map[net.Conn]struct{})}
	p.thaw = sync.NewCond(&p.mu)
	var wg sync.WaitGroup
	wg.Go(func() { p.serve(&wg) })
	t.Cleanup(func() {
		p.mu.Lock()
		p.closing, p.frozen = true, false
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.thaw.Broadcast()
		_ = l.Close()
		wg.Wait()
	})
	addr := l.Addr().(*net.TCPAddr)
	return p, fmt.Sprintf("host=127.0.0.1 port=%d user='%s' password='%s' dbname='%s' sslmode=disable", addr.Port, cfg.User, cfg.Password, cfg.Database)
}

func (p *proxy) serve(wg *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		wg.Go(func() { p.pass(server, client, false) })
		wg.Go(func() { p.pass(client, server, true) })
	}
}

// pass passes on what one side says, until it has nothing more to say.
func (p *proxy) pass(to, from net.Conn, fromServer bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !p.let(fromServer, n) {
			return
		}
		if !fromServer {
			var cut bool
			if n, cut = p.short(n); cut {
				_, _ = to.Write(b[:n])
				return
			}
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// let waits while the proxy is frozen, and reports whether this packet of n bytes goes on.
func (p *proxy) let(fromServer bool, n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closing {
		p.thaw.Wait()
	}
	if fromServer {
		p.said += n
	}
	if fromServer && p.cutAt > 0 {
		p.cutAt--
		return p.cutAt > 0
	}
	return !p.closing
}

// short is how many of n bytes of a client go on, and whether its connection is lost behind them.
func (p *proxy) short(n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cutIn == 0 {
		return n, false
	}
	if n < p.cutIn {
		p.cutIn -= n
		return n, false
	}
	n, p.cutIn = p.cutIn, 0
	return n, true
}

// cutSaying loses what the clients say from the n-th byte from now on, and the connection.
func (p *proxy) cutSaying(n int) {
	p.mu.Lock()
	p.cutIn = n
	p.mu.Unlock()
}

// unsaidYet is how many bytes the cut is still away, and calls it off.
func (p *proxy) unsaidYet() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.cutIn
	p.cutIn = 0
	return n
}

// freeze stops everything until melt.
func (p *proxy) freeze() {
	p.mu.Lock()
	p.frozen = true
	p.mu.Unlock()
}

func (p *proxy) melt() {
	p.mu.Lock()
	p.frozen = false
	p.mu.Unlock()
	p.thaw.Broadcast()
}

// cut loses the n-th packet that the server sends from now on, and its connection.
func (p *proxy) cut(n int) {
	p.mu.Lock()
	p.cutAt = n
	p.mu.Unlock()
}

// heard returns how many bytes the server has said since the last time.
func (p *proxy) heard() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.said
	p.said = 0
	return n
}

// uncut reports whether the cut is still to come, and calls it off.
func (p *proxy) uncut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.cutAt > 0
	p.cutAt = 0
	return was
}
