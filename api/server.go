package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/names"
	"github.com/prometheus/client_golang/prometheus"
)

// Authenticator says who calls, by the header Authorization. It is safe for concurrent use. auth.Keys and auth.None are
// ones.
type Authenticator interface {
	Authenticate(header string) (*auth.Principal, error)
}

// Config says how a Server serves. The zero value works.
type Config struct {
	// Addr is where to listen. Defaults to 127.0.0.1:8080.
	Addr string
	// WaitDefault is how long a claim waits for its outcome where the caller does not say. Defaults to 5 s.
	WaitDefault time.Duration
	// WaitMax is the longest that anybody may wait. Defaults to 30 s.
	WaitMax time.Duration
	// DrainTimeout is how long those who wait may go on waiting when the server stops; then they are told that their
	// claims are pending. Defaults to 10 s.
	DrainTimeout time.Duration
	// Rate is how many requests a principal may make in a second, Burst how many at once. 0: as many as it likes.
	Rate  float64
	Burst int
	// LookupRate is how many keys a principal may have computed in a second, beside that; as many at once as it may in ten.
	// Defaults to 10.
	LookupRate float64
	// Streams reads registrations for those who watch them, at most MaxStreams at once. Nil: nobody can. MaxStreams
	// defaults to 64.
	Streams    Streams
	MaxStreams int
	// MaxConnections is how many connections may be open at once; further ones wait until one is closed, which idle ones are
	// then. Defaults to 15,000.
	MaxConnections int
	// Registerer gets the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
	// Log gets requests at level debug, without names. Nil discards.
	Log *slog.Logger
}

// Limits of a connection: one that is slow is cut, and costs nobody else anything.
const (
	readHeaderTimeout = 2 * time.Second
	requestTimeout    = 5 * time.Second // to read it in full
	idleTimeout       = 60 * time.Second
	writeReserve      = 10 * time.Second // on top of the longest wait
	cutTimeout        = 2 * time.Second  // for the answers after a drain
	// maxHeader is what net/http is told; it adds 4 KiB to that.
	maxHeader = 8<<10 - 4<<10
)

// Server serves a Claimer over HTTP.
type Server struct {
	cfg         Config
	keys        Authenticator
	log         *slog.Logger
	limits      *limits
	lookups     *limits
	metrics     *serverMetrics
	handlers    *handlers
	mux         *http.ServeMux
	streams     *streams
	connections *connections
	policies    func() names.Policies
	full        func() bool // whether as many wait as may
	// answerWithin is the write deadline: later than any answer.
	answerWithin time.Duration
}

var _ http.Handler = (*Server)(nil)

// NewServer makes a Server. Without keys (auth.None) it must listen on loopback.
func NewServer(cfg Config, claimer *Claimer, keys Authenticator) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:8080"
	}
	if cfg.WaitMax <= 0 {
		cfg.WaitMax = 30 * time.Second
	}
	if cfg.WaitDefault <= 0 {
		cfg.WaitDefault = 5 * time.Second
	}
	if cfg.WaitDefault > cfg.WaitMax {
		return nil, fmt.Errorf("api: the default wait %s is longer than the longest %s", cfg.WaitDefault, cfg.WaitMax)
	}
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	if cfg.LookupRate <= 0 {
		cfg.LookupRate = 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkAddr(keys, cfg.Addr); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, keys: keys, log: cfg.Log, limits: newLimits(cfg.Rate, cfg.Burst), lookups: newLimits(cfg.LookupRate, int(10*cfg.LookupRate)), metrics: newServerMetrics(cfg.Registerer),
		streams: newStreams(cfg.Streams, cfg.MaxStreams, cfg.Registerer), connections: newConnections(cfg.MaxConnections, cfg.Registerer), policies: claimer.Policies, full: claimer.waiter.Full,
		answerWithin: requestTimeout + max(cfg.WaitMax, claimer.cfg.PublishTimeout) + writeReserve,
	}
	s.handlers = &handlers{claimer: claimer, waitDefault: cfg.WaitDefault, waitMax: cfg.WaitMax, limits: s.limits}
	s.mux = s.newMux(s.handlers)
	return s, nil
}

// checkAddr asks authenticators that are good for some addresses only.
func checkAddr(keys Authenticator, addr string) error {
	if a, ok := keys.(interface{ CheckAddr(addr string) error }); ok {
		return a.CheckAddr(addr)
	}
	return nil
}

// Run listens and serves until ctx ends. See Serve.
func (s *Server) Run(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve serves on a listener, which it closes, until ctx ends. Then it takes nothing more and lets those who wait get
// their outcomes: whoever delivers them must go on until Serve returns. Who still waits after the drain time-out is told
// that the claim is pending. It returns nil, with no request left.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if err := checkAddr(s.keys, ln.Addr().String()); err != nil {
		return errors.Join(err, ln.Close())
	}
	waits, endWaits := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endWaits(nil)
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      s.answerWithin,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return waits },
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ln = s.connections.bound(server, ln)
	s.log.InfoContext(ctx, "api listens", "addr", ln.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("api: serve: %w", err)
	case <-ctx.Done():
	}
	s.streams.stop() // they would wait for ever
	err := shutdown(server, s.cfg.DrainTimeout)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.InfoContext(ctx, "requests that still wait are answered as pending")
		endWaits(errStopping)
		err = shutdown(server, cutTimeout)
	}
	if err != nil {
		s.log.WarnContext(ctx, "connections are cut", "err", err)
		_ = server.Close() // it closes what there is; nobody is left to tell
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api: serve: %w", err)
	}
	return nil
}

func shutdown(server *http.Server, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return server.Shutdown(ctx)
}
