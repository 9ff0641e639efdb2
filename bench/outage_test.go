package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recovering is a peer that was out: it takes a second to start, and decides a claim in a millisecond from then on, in order.
type recovering struct {
	drainer
	pids  []int
	fault error // of the claims that come

	mu      sync.Mutex
	came    int
	started time.Time
}

func (*recovering) Recovers()     {}
func (p *recovering) PIDs() []int { return p.pids }
func (p *recovering) at(n int) time.Time {
	return p.started.Add(time.Second + time.Duration(n)*time.Millisecond)
}

func (p *recovering) Fill(ctx context.Context, n int, claim func(int) (name, owner string)) error {
	p.came = n
	return p.drainer.Fill(ctx, n, claim)
}

func (p *recovering) Claim(ctx context.Context, name, _ string) (bool, error) {
	if p.fault != nil {
		return false, p.fault
	}
	p.mu.Lock()
	p.came++
	p.names = append(p.names, name)
	decided := p.at(p.came)
	p.mu.Unlock()
	select {
	case <-time.After(time.Until(decided)):
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (p *recovering) Drain(ctx context.Context, progress func(int)) error {
	p.mu.Lock()
	p.started = time.Now()
	come := p.came
	p.mu.Unlock()
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		decided := int(time.Since(p.started)/time.Millisecond) - 1000
		progress(min(max(decided, 0), come))
		if decided >= come {
			return nil
		}
		p.mu.Lock()
		come = p.came
		p.mu.Unlock()
	}
	return ctx.Err()
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &recovering{}
		p.name, p.started = "a", time.Now()
		cfg := Config{Backlog: 4000, Rate: 500, Runs: 1, Names: Names{Taken: .5}, Meter: clockMeter{time.Now()}}
		f := measure(t, cfg, p)[0].Results[0].Median
		// It decides 1,000 a second and 500 come: 1 s + 4,000 ms + t / 2 = t at 10 s.
		near(t, "all", f.Took, 10*time.Second, 300*time.Millisecond)
		near(t, "first", f.First, 1100*time.Millisecond, time.Millisecond)
		if f.Arrivals < 4900 || f.Arrivals > 5200 {
			t.Errorf("%d came in 10 s", f.Arrivals)
		}
		if f.PerSecond < 970 || f.PerSecond > 1030 {
			t.Errorf("%v decided in a second", f.PerSecond)
		}
		// The first that comes waits for all of the backlog, the last for nobody.
		near(t, "max", f.Max, 5*time.Second, 10*time.Millisecond)
		near(t, "p50", f.P50, 2500*time.Millisecond, 100*time.Millisecond)
		near(t, "p99", f.P99, 4950*time.Millisecond, 50*time.Millisecond)
		if want := 10 * 3e8 / 9000; float64(f.CPU["fake"]) < .95*want || float64(f.CPU["fake"]) > 1.05*want {
			t.Errorf("CPU per claim %v, not of the backlog and of those that came", f.CPU)
		}
		distinct := make(map[string]bool)
		for _, name := range p.names {
			distinct[name] = true
		}
		if n := len(p.names); len(distinct) < n/2 || len(distinct) > n/2+1 {
			t.Errorf("%d different names of %d of which half are taken", len(distinct), n)
		}
		if got := strings.Join(p.said, " "); got != "fill stop fill stop" {
			t.Errorf("it did %s", got)
		}

		var text bytes.Buffer
		r := &Report{Config: cfg, Tables: []Table{summarize(0, []Result{{Peer: "a", Runs: []Figures{f}}}, 0)}}
		if err := r.Write(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"a backlog of 4000 claims while 500 a second go on coming", "arrivals", "their p50", "first after"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("nothing of %q in\n%s", want, &text)
			}
		}

		p.fault = errors.New("refused")
		if _, err := Measure(t.Context(), Config{Backlog: 4000, Rate: 500, Runs: 1, pause: time.Sleep}, p); !errors.Is(err, p.fault) {
			t.Errorf("a claim that failed: %v", err)
		}
		if _, err := Measure(t.Context(), cfg, &drainer{}); err == nil || !strings.Contains(err.Error(), "cannot be asked while") {
			t.Errorf("got %v", err)
		}
	})
}

// struck is a peer that notes when it is struck, and decides nothing for two seconds from then on.
type struck struct {
	fake
	mu     sync.Mutex
	at     []time.Time
	broken error
}

func (p *struck) InjectFault() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = append(p.at, time.Now())
	return p.broken
}

func TestStruckInTheMiddleOfEachRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &struck{}
		p.name, p.delay = "a", func(int) time.Duration {
			p.mu.Lock()
			defer p.mu.Unlock()
			if n := len(p.at); n > 0 && time.Since(p.at[n-1]) < 2*time.Second {
				return 2*time.Second - time.Since(p.at[n-1])
			}
			return time.Millisecond
		}
		began := time.Now()
		cfg := Config{Waiting: []int{1}, Rate: 100, Runs: 1, Warmup: time.Second, Run: 10 * time.Second}
		f := measure(t, cfg, p)[0].Results[0].Median
		if len(p.at) != 2 {
			t.Fatalf("struck %d times in two runs", len(p.at))
		}
		near(t, "the first strike", p.at[0].Sub(began), 6*time.Second, time.Millisecond)
		near(t, "max", f.Max, 2*time.Second, 20*time.Millisecond)
		p.broken = errors.New("nobody to strike")
		cfg.pause = time.Sleep
		if _, err := Measure(t.Context(), cfg, p); !errors.Is(err, p.broken) {
			t.Errorf("got %v", err)
		}
	})
}

// TestPeakOfThoseWhoDecide is theirs, where they are processes of their own, and of the one that had most.
func TestPeakOfThoseWhoDecide(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is seen of processes")
	}
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	inside, both, apart := peakRSS(&recovering{}), peakRSS(&recovering{pids: []int{other.Process.Pid, os.Getpid()}}), peakRSS(&recovering{pids: []int{other.Process.Pid}})
	if apart <= 0 || apart >= inside || both < inside {
		t.Errorf("%d bytes of a process apart, %d of this one, %d of both", apart, inside, both)
	}
}
