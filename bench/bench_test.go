package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a peer with known delays. Its clock is that of synctest.
type fake struct {
	name  string
	delay func(n int) time.Duration
	fails func(n int) error

	mu    sync.Mutex
	asked []string
	taken map[string]bool
	said  []string
}

func (p *fake) Name() string { return p.name }

func (p *fake) Claim(ctx context.Context, name, _ string) (bool, error) {
	p.mu.Lock()
	n := len(p.asked)
	p.asked = append(p.asked, name)
	if p.taken == nil {
		p.taken = make(map[string]bool)
	}
	got := !p.taken[name]
	p.taken[name] = true
	p.mu.Unlock()
	if p.fails != nil {
		if err := p.fails(n); err != nil {
			return false, err
		}
	}
	select {
	case <-time.After(p.delay(n)):
		return got, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func near(t *testing.T, what string, got, want, within time.Duration) {
	t.Helper()
	if got < want-within || got > want+within {
		t.Errorf("%s is %s, want %s within %s", what, got, want, within)
	}
}

// measure is Measure with the clock of synctest.
func measure(t *testing.T, cfg Config, peers ...Peer) []Table {
	t.Helper()
	cfg.pause = time.Sleep
	tables, err := Measure(t.Context(), cfg, peers...)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Of 50 claims one takes 200 ms, the others 10 ms: 690 ms for 50.
		p := &fake{name: "a", delay: func(n int) time.Duration {
			if n%50 == 49 {
				return 200 * time.Millisecond
			}
			return 10 * time.Millisecond
		}}
		r := measure(t, Config{Waiting: []int{1}, Runs: 1, Warmup: 6900 * time.Millisecond, Run: 69 * time.Second, Names: Names{Taken: .2}}, p)[0].Results[0]
		f := r.Median
		if f.Claims != 5000 || f.PerSecond != 72.5 || f.Unanswered != 0 {
			t.Errorf("%d claims, %v a second, %d unanswered", f.Claims, f.PerSecond, f.Unanswered)
		}
		if f.Accepted < 3999 || f.Accepted > 4001 {
			t.Errorf("%d accepted of 5000 of which one in five is taken", f.Accepted)
		}
		near(t, "p50", f.P50, 10*time.Millisecond, 20*time.Microsecond)
		near(t, "p90", f.P90, 10*time.Millisecond, 20*time.Microsecond)
		near(t, "p99", f.P99, 200*time.Millisecond, 400*time.Microsecond)
		near(t, "max", f.Max, 200*time.Millisecond, 400*time.Microsecond)
		near(t, "mean", f.Mean, 13800*time.Microsecond, 30*time.Microsecond)
	})
}

// TestManyWorkersShareALot: each claim is counted once, whatever histogram it is in.
func TestManyWorkersShareALot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := measure(t, Config{Waiting: []int{1000}, Runs: 1, Run: time.Second}, &fake{name: "a", delay: always(100 * time.Millisecond)})[0].Results[0].Median
		if f.Claims != 10_000 || f.Accepted != 10_000 || f.PerSecond != 10_000 {
			t.Errorf("got %+v", f)
		}
	})
}

// TestOpenLoopCountsAStall: for all claims that were due while it lasted, not for the one that met it.
func TestOpenLoopCountsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fake{name: "a", delay: func(n int) time.Duration {
			if n%1000 == 500 {
				return time.Second
			}
			return time.Millisecond
		}}
		f := measure(t, Config{Waiting: []int{1}, Rate: 100, Runs: 1, Run: 10 * time.Second}, p)[0].Results[0].Median
		if f.Claims != 1000 || f.PerSecond != 100 || f.Unanswered != 0 {
			t.Errorf("%d claims, %v a second, %d unanswered", f.Claims, f.PerSecond, f.Unanswered)
		}
		// The k-th claim behind it was due 10 ms later than the one before, and took 1 ms: it waits for 1 s - k * 9 ms.
		near(t, "p50", f.P50, time.Millisecond, 5*time.Microsecond)
		near(t, "p90", f.P90, 100*time.Millisecond, 10*time.Millisecond)
		near(t, "p99", f.P99, 910*time.Millisecond, 10*time.Millisecond)
		near(t, "max", f.Max, time.Second, 2*time.Millisecond)
	})
}

// TestOpenLoopBeyondCapacity: what is due and never answered is counted, as are claims that nobody had the time to make.
func TestOpenLoopBeyondCapacity(t *testing.T) {
	for _, c := range []struct {
		delay      time.Duration
		unanswered int
		rate       float64
	}{
		{20 * time.Millisecond, 50, 50},
		{time.Hour, 200, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := measure(t, Config{Waiting: []int{1}, Rate: 100, Runs: 1, Run: 2 * time.Second, Grace: time.Second}, &fake{name: "a", delay: always(c.delay)})[0].Results[0].Median
			if f.Claims != 200 || f.Unanswered < c.unanswered || f.Unanswered > c.unanswered+1 || f.PerSecond != c.rate {
				t.Errorf("each takes %s: %d claims, %d unanswered, %v a second", c.delay, f.Claims, f.Unanswered, f.PerSecond)
			}
			near(t, "max", f.Max, 3*time.Second-time.Duration(200-f.Unanswered)*10*time.Millisecond, 1100*time.Millisecond)
		})
	}
}

// TestOpenLoopLeavesOutTheWarmUp, also where it is behind because of it.
func TestOpenLoopLeavesOutTheWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fake{name: "a", delay: func(n int) time.Duration {
			if n%300 == 0 {
				return 500 * time.Millisecond
			}
			return time.Millisecond
		}}
		f := measure(t, Config{Waiting: []int{1}, Rate: 100, Runs: 1, Warmup: time.Second, Run: 2 * time.Second}, p)[0].Results[0].Median
		if f.Claims != 200 || f.Max > 2*time.Millisecond {
			t.Errorf("%d claims, the longest %s", f.Claims, f.Max)
		}
	})
}

// TestRunsAreInterleaved, and all get the same names in the same order, but for what tells the runs apart.
func TestRunsAreInterleaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{name: "a", delay: always(10 * time.Millisecond)}, &fake{name: "b", delay: always(10 * time.Millisecond)}
		var order []string
		cfg := Config{Waiting: []int{1, 2}, Runs: 2, Run: time.Second, Names: Names{Taken: .3}}
		cfg.Progress = func(s Status) {
			if s.Done != nil {
				order = append(order, fmt.Sprintf("%s%d/%d", s.Peer, s.Run, s.Waiting))
			}
		}
		tables := measure(t, cfg, a, b)
		if got, want := strings.Join(order, " "), "a0/1 b0/1 a1/1 b1/1 a2/1 b2/1 a0/2 b0/2 a1/2 b1/2 a2/2 b2/2"; got != want {
			t.Errorf("the order was %s, want %s", got, want)
		}
		if len(tables) != 2 || len(tables[1].Results) != 2 || len(tables[1].Results[0].Runs) != 2 {
			t.Fatalf("got %+v", tables)
		}
		bare := func(names []string) (cut []string, prefixes map[string]bool) {
			prefixes = make(map[string]bool)
			for _, name := range names {
				prefix, rest, _ := strings.Cut(name, ".")
				cut, prefixes[prefix] = append(cut, rest), true
			}
			return cut, prefixes
		}
		namesA, runsA := bare(a.asked)
		namesB, runsB := bare(b.asked)
		const alone = 3 * 100 // claims of the runs in which one waits; of two, either may ask first
		if len(namesA) < 2*alone || !slices.Equal(namesA[:alone], namesB[:alone]) {
			t.Error("they did not get the same names in the same order")
		}
		slices.Sort(namesA)
		slices.Sort(namesB)
		if !slices.Equal(namesA, namesB) {
			t.Error("they did not get the same names")
		}
		for run := range runsA {
			if runsB[run] {
				t.Errorf("both got the names of run %s", run)
			}
		}
		if len(runsA) != 6 {
			t.Errorf("the names of %d runs, not 6", len(runsA))
		}
	})
}

func TestRatiosAreRoundByRound(t *testing.T) {
	// The machine is half as fast in the second round, for both.
	runs := func(rates ...float64) []Figures {
		var all []Figures
		for _, r := range rates {
			all = append(all, Figures{PerSecond: r, P50: time.Duration(1e9 / r), P99: time.Duration(2e9 / r)})
		}
		return all
	}
	table := summarize(1, []Result{{Peer: "a", Runs: runs(2000, 1000, 2200)}, {Peer: "none"}, {Peer: "base", Runs: runs(1000, 500, 1000, 700)}}, 2)
	if len(table.Results) != 2 {
		t.Fatalf("got %+v", table.Results)
	}
	a := table.Results[0]
	if want := (Spread{2, 2, 2.2}); a.Ratios.PerSecond != want {
		t.Errorf("ratio %v, want %v", a.Ratios.PerSecond, want)
	}
	if a.Ratios.P50.Median != .5 || a.Median.PerSecond != 2000 || a.Lowest != 1000 || a.Highest != 2200 {
		t.Errorf("got %+v", a)
	}
	if base := table.Results[1].Median.PerSecond; base != 850 {
		t.Errorf("the median of 500, 700, 1000, 1000 is %v", base)
	}
}

func TestErrorsEndTheRunAndAreNamed(t *testing.T) {
	for _, rate := range []float64{0, 300} {
		synctest.Test(t, func(t *testing.T) {
			broken := errors.New("broken")
			a := &fake{name: "a", delay: always(10 * time.Millisecond)}
			b := &fake{name: "b", delay: always(10 * time.Millisecond), fails: func(n int) error {
				if n == 450 {
					return broken
				}
				return nil
			}}
			tables, err := Measure(t.Context(), Config{Waiting: []int{4}, Rate: rate, Runs: 3, Run: time.Second, Base: "a", pause: time.Sleep}, a, b)
			if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "b, run ") {
				t.Errorf("rate %v: got %v", rate, err)
			}
			if len(tables) != 1 || len(tables[0].Results) == 0 || tables[0].Results[0].Peer != "a" {
				t.Fatalf("rate %v: what had ended is not reported: %+v", rate, tables)
			}
		})
	}
}

// TestCtrlC: what had ended is reported, and who was running has been stopped.
func TestCtrlC(t *testing.T) {
	for _, rate := range []float64{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
			defer cancel()
			p := &started{fake: fake{name: "a", delay: always(10 * time.Millisecond)}}
			tables, err := Measure(ctx, Config{Waiting: []int{4}, Rate: rate, Runs: 9, Run: time.Second, pause: time.Sleep}, p)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if len(tables) != 1 || len(tables[0].Results[0].Runs) != 4 {
				t.Errorf("got %+v", tables)
			}
			if n := len(p.said); n != 12 || p.said[n-1] != "stop" {
				t.Errorf("it did %v", p.said)
			}
		})
	}
}

// started is a peer that can be started and stopped.
type started struct{ fake }

func (p *started) Start(context.Context) error { p.said = append(p.said, "start"); return nil }
func (p *started) Stop(context.Context) error  { p.said = append(p.said, "stop"); return nil }

// hosted is one that runs around its measurement.
type hosted struct {
	fake
	fault error
}

func (p *hosted) Host(ctx context.Context, f func(context.Context) error) error {
	p.said = append(p.said, "start")
	defer func() { p.said = append(p.said, "stop") }()
	return errors.Join(f(ctx), p.fault)
}

func TestWhoIsNotMeasuredIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &started{fake{name: "a", delay: always(time.Millisecond)}}
		b := &hosted{fake: fake{name: "b", delay: always(time.Millisecond)}}
		var seen []string
		cfg := Config{Waiting: []int{1}, Runs: 1, Run: time.Second, Progress: func(s Status) {
			if s.Done != nil {
				seen = append(seen, strings.Join(a.said, " ")+"|"+strings.Join(b.said, " "))
			}
		}}
		measure(t, cfg, a, b)
		want := []string{"start stop|", "start stop|start stop", "start stop start stop|start stop", "start stop start stop|start stop start stop"}
		if !slices.Equal(seen, want) {
			t.Errorf("got %q, want %q", seen, want)
		}
		b.fault = errors.New("it does not stop")
		if _, err := Measure(t.Context(), Config{Waiting: []int{1}, Runs: 1, Run: time.Second}, b); !errors.Is(err, b.fault) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatCannotBeMeasured(t *testing.T) {
	good := func() Config { return Config{Waiting: []int{1}, Runs: 1, Run: time.Second} }
	p := &fake{name: "a", delay: always(0)}
	for want, change := range map[string]func(*Config){
		"at least 1":      func(c *Config) { c.Waiting = []int{4, 0} },
		"0 runs":          func(c *Config) { c.Runs = 0 },
		"runs of 0s":      func(c *Config) { c.Run = 0 },
		"due per second":  func(c *Config) { c.Rate = -1 },
		"0 to 1":          func(c *Config) { c.Names.Taken = 1.5 },
		"more than 1":     func(c *Config) { c.Names.Universe, c.Names.Exponent = 9, 1 },
		"one of these":    func(c *Config) { c.Names = Names{Universe: 9, Exponent: 2, List: []string{"a"}} },
		`called "b"`:      func(c *Config) { c.Base = "b" },
		"given a backlog": func(c *Config) { c.Backlog = 1 },
	} {
		cfg := good()
		change(&cfg)
		if _, err := Measure(t.Context(), cfg, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if len(p.asked) > 0 {
		t.Error("it was asked all the same")
	}
}

// drainer takes a second to start, and decides 1,000 in a second from then on.
type drainer struct {
	started
	start  time.Duration
	silent bool
	names  []string
}

func (p *drainer) Fill(_ context.Context, n int, claim func(i int) (name, owner string)) error {
	p.said = append(p.said, "fill")
	p.names = nil
	for i := range n {
		name, _ := claim(i)
		p.names = append(p.names, name)
	}
	return nil
}

func (p *drainer) Drain(ctx context.Context, progress func(int)) error {
	p.said = append(p.said, "drain")
	time.Sleep(p.start)
	for decided := 0; decided < len(p.names); {
		time.Sleep(100 * time.Millisecond)
		if decided += 100; !p.silent || decided >= len(p.names) {
			progress(decided)
		}
	}
	return ctx.Err()
}

func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &drainer{start: 5 * time.Second}, &drainer{start: 5 * time.Second, silent: true}
		a.name, b.name = "a", "b"
		running := false
		cfg := Config{Backlog: 10_000, Runs: 2, Names: Names{Taken: .5}, Meter: clockMeter{time.Now()}, Progress: func(s Status) {
			running = running || s.Done == nil && s.PerSecond == 1000 && s.Claims > 0
		}}
		results := measure(t, cfg, a, b)[0].Results
		f := results[0].Median
		if f.PerSecond != 1000 || f.Claims != 10_000 {
			t.Errorf("got %+v", f)
		}
		near(t, "first", f.First, 5100*time.Millisecond, time.Millisecond)
		near(t, "all", f.Took, 15*time.Second, time.Millisecond)
		if f.CPU["fake"] != time.Duration(15*3e8/10_000) {
			t.Errorf("CPU %v", f.CPU)
		}
		if f := results[1].Median; f.PerSecond != 667 { // its start counts, for nobody knows when it began
			t.Errorf("who tells nothing gets %v", f.PerSecond)
		}
		if got, want := strings.Join(a.said, " "), "fill drain stop fill drain stop fill drain stop"; got != want {
			t.Errorf("it did %s, want %s", got, want)
		}
		if !running {
			t.Error("no progress was told of")
		}
		distinct := make(map[string]bool)
		for _, name := range a.names {
			distinct[name] = true
		}
		if len(distinct) != 5000 {
			t.Errorf("%d different names of 10,000 of which half are taken", len(distinct))
		}
	})
}

// clockMeter uses 30 % of a core, and writes 1,000 bytes in a second.
type clockMeter struct{ began time.Time }

func (m clockMeter) Read(context.Context) Usage {
	used := time.Since(m.began)
	return Usage{CPU: map[string]time.Duration{"fake": used * 3 / 10}, Bytes: map[string]int64{"fake": used.Milliseconds()}}
}
