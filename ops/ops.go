// Package ops is the address that operators and machines ask: is it alive, is it ready, what are its numbers.
//
// It promises that asking costs little and never blocks for long, and that an answer says which part is not ready and
// why. It knows none of those parts: each is a check with a name. It is for a port of its own, which the public does not
// reach; profiles are served only where they are asked for.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that must hold for the process to be ready.
type Check struct {
	Name string
	// Ready returns why it is not. It must return when ctx ends, after two seconds. It is called by several goroutines
	// at once.
	Ready func(ctx context.Context) error
	// Advisory: it is shown, and does not make the process unready. One halted partition is no reason to take away a
	// process that serves the others.
	Advisory bool
}

// Config says what a Server serves. The zero value works.
type Config struct {
	// Addr is where to listen. Defaults to 127.0.0.1:8081.
	Addr string
	// Checks must all hold, but for advisory ones, for /readyz to say 200.
	Checks []Check
	// Views are served as JSON, each at its name: what a check has to say in more than a line.
	Views map[string]func() any
	// Metrics are served at /metrics. Nil: there are none.
	Metrics prometheus.Gatherer
	// Pprof serves profiles at /debug/pprof/.
	Pprof bool
	// Log gets what goes wrong. Nil discards.
	Log *slog.Logger
}

const (
	checkTimeout    = 2 * time.Second
	shutdownTimeout = 2 * time.Second
)

// Server serves what operators ask.
type Server struct {
	cfg Config
	mux *http.ServeMux
}

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:8081"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /livez", s.livez)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	for name, view := range cfg.Views {
		s.mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) { s.view(w, view()) })
	}
	if cfg.Metrics != nil {
		s.mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		}))
	}
	if cfg.Pprof {
		s.mux.HandleFunc("/debug/pprof/", pprof.Index)
		s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.mux.ServeHTTP(w, r)
}

// livez says that the process answers. Nothing that another process could be at fault for belongs here: whoever kills on
// it would kill for nothing.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { s.write(w, http.StatusOK, "ok\n") }

// readyz says whether all checks hold, with ?verbose each by its name.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	faults := s.Faults(r.Context())
	status, verdict := http.StatusOK, "ready\n"
	var b strings.Builder
	for i, c := range s.cfg.Checks {
		mark, err := "+", faults[i]
		switch {
		case err != nil && c.Advisory:
			mark = "!"
		case err != nil:
			mark, status, verdict = "-", http.StatusServiceUnavailable, "not ready\n"
		}
		fmt.Fprintf(&b, "[%s] %s", mark, c.Name)
		if err != nil {
			b.WriteString(": " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		b.WriteByte('\n')
	}
	if r.URL.Query().Has("verbose") {
		verdict = b.String() + verdict
	}
	s.write(w, status, verdict)
}

var errSlow = errors.New("no answer in time")

// Faults asks all checks at once and returns what each says, in their order. A check that does not answer in time, or
// panics, does not hold.
func (s *Server) Faults(ctx context.Context) []error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errSlow)
	defer cancel()
	faults := make([]error, len(s.cfg.Checks))
	var asked sync.WaitGroup
	for i, c := range s.cfg.Checks {
		asked.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					faults[i] = fmt.Errorf("check panicked: %v", p)
				}
			}()
			if faults[i] = c.Ready(ctx); faults[i] != nil && ctx.Err() != nil {
				faults[i] = context.Cause(ctx)
			}
		})
	}
	asked.Wait()
	return faults
}

func (s *Server) view(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.cfg.Log.Debug("answer not sent", "err", err)
	}
}

func (s *Server) write(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write([]byte(text)); err != nil {
		s.cfg.Log.Debug("answer not sent", "err", err)
	}
}

// Run listens and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("ops: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve serves on a listener, which it closes, until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      2 * time.Minute, // a profile takes its time
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    4 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.cfg.Log.InfoContext(ctx, "ops listens", "addr", ln.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("ops: serve: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		_ = server.Close() // a profile that is still being taken
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("ops: serve: %w", err)
	}
	return nil
}
