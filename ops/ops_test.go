package ops_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/ops"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(s *ops.Server, path string) (int, string) {
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

func TestReadyz(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away error
		s := ops.New(ops.Config{Checks: []ops.Check{
			{Name: "kafka", Ready: func(context.Context) error { return away }},
			{Name: "postgres", Ready: func(context.Context) error { return nil }},
			{Name: "tail", Ready: func(ctx context.Context) error {
				if away == nil {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}},
			{Name: "routing", Ready: func(context.Context) error {
				if away != nil {
					panic("nil map")
				}
				return nil
			}},
		}})
		if code, text := get(s, "/readyz"); code != 200 || text != "ready\n" {
			t.Errorf("%d %q", code, text)
		}
		if code, text := get(s, "/readyz?verbose"); code != 200 || text != "[+] kafka\n[+] postgres\n[+] tail\n[+] routing\nready\n" {
			t.Errorf("%d %q", code, text)
		}
		away = errors.Join(errors.New("broker 1 is away"), errors.New("broker 2 is away"))
		start := time.Now()
		if code, text := get(s, "/readyz"); code != 503 || text != "not ready\n" {
			t.Errorf("%d %q", code, text)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("a check that hangs held the answer up for %s", took)
		}
		const want = "[-] kafka: broker 1 is away; broker 2 is away\n[+] postgres\n[-] tail: no answer in time\n[-] routing: check panicked: nil map\nnot ready\n"
		if code, text := get(s, "/readyz?verbose"); code != 503 || text != want {
			t.Errorf("%d %q", code, text)
		}
		if code, text := get(s, "/livez"); code != 200 || text != "ok\n" {
			t.Errorf("%d %q", code, text)
		}
	})
}

// TestAdvisoryChecks: what is wrong is shown, and the process stays ready.
func TestAdvisoryChecks(t *testing.T) {
	s := ops.New(ops.Config{Checks: []ops.Check{
		{Name: "kafka", Ready: func(context.Context) error { return nil }},
		{Name: "partitions", Advisory: true, Ready: func(context.Context) error { return errors.New("partition 7 is halted") }},
	}})
	const want = "[+] kafka\n[!] partitions: partition 7 is halted\nready\n"
	if code, text := get(s, "/readyz?verbose"); code != 200 || text != want {
		t.Errorf("%d %q", code, text)
	}
}

func TestMetricsAndProfiles(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "dibs_tests_total", Help: "Tests."})
	reg.MustRegister(counter)
	counter.Inc()
	if code, text := get(ops.New(ops.Config{Metrics: reg}), "/metrics"); code != 200 || !strings.Contains(text, "dibs_tests_total 1") {
		t.Errorf("%d %s", code, text)
	}
	views := map[string]func() any{"parts": func() any { return []string{"a"} }}
	if code, text := get(ops.New(ops.Config{Views: views}), "/parts"); code != 200 || text != "[\"a\"]\n" {
		t.Errorf("a view: %d %s", code, text)
	}
	if code, _ := get(ops.New(ops.Config{}), "/metrics"); code != 404 {
		t.Errorf("metrics that nobody gave: %d", code)
	}
	if code, _ := get(ops.New(ops.Config{}), "/debug/pprof/"); code != 404 {
		t.Errorf("profiles that nobody asked for: %d", code)
	}
	if code, text := get(ops.New(ops.Config{Pprof: true}), "/debug/pprof/"); code != 200 || !strings.Contains(text, "goroutine") {
		t.Errorf("profiles: %d", code)
	}
}

func TestServe(t *testing.T) {
	var asked atomic.Int32
	s := ops.New(ops.Config{Checks: []ops.Check{{Name: "once", Ready: func(context.Context) error { asked.Add(1); return nil }}}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Get("http://" + ln.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	if resp.StatusCode != 200 || asked.Load() != 1 {
		t.Errorf("%d, asked %d times", resp.StatusCode, asked.Load())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("still listens")
	}
}

func TestRunCannotListen(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // at the end of a test
	if err := ops.New(ops.Config{Addr: ln.Addr().String()}).Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "ops: ") {
		t.Errorf("%v", err)
	}
}
