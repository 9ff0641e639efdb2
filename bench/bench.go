package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Peer claims names in one way.
type Peer interface {
	// Name is how the report calls it.
	Name() string
	// Claim asks for a name and reports whether the owner got it. It is called concurrently.
	Claim(ctx context.Context, name, owner string) (bool, error)
}

// Config says what to measure.
type Config struct {
	Waiting int           // claims that wait at once
	Runs    int           // interleaved runs of each peer, behind one of each that does not count
	Warmup  time.Duration // before each run, not measured
	Run     time.Duration // measured
	Taken   float64       // part of the claims whose name is taken, 0 to 1
	// Progress is told when a run begins and ends; nil for nobody.
	Progress func(peer string, run int, done *Figures)
}

// Figures are what one run of one peer gave.
type Figures struct {
	Claims    int           `json:"claims"`
	Accepted  int           `json:"accepted"`
	PerSecond float64       `json:"claims_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P90       time.Duration `json:"p90_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// Result is one peer's runs, and their median.
type Result struct {
	Peer   string    `json:"peer"`
	Median Figures   `json:"median"`
	Runs   []Figures `json:"runs"`
	Lowest float64   `json:"lowest_claims_per_second"`
	Most   float64   `json:"highest_claims_per_second"`
}

// Measure runs all peers in turn, as often as asked.
func Measure(ctx context.Context, cfg Config, peers ...Peer) ([]Result, error) {
	results := make([]Result, len(peers))
	for i, p := range peers {
		results[i].Peer = p.Name()
	}
	// The first run of each does not count: a broker that has just started has not compiled its code yet.
	for run := range cfg.Runs + 1 {
		for i, p := range peers {
			if cfg.Progress != nil {
				cfg.Progress(p.Name(), run, nil)
			}
			f, err := one(ctx, cfg, p, run)
			if err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", p.Name(), run, err)
			}
			if run > 0 {
				results[i].Runs = append(results[i].Runs, f)
			}
			if cfg.Progress != nil {
				cfg.Progress(p.Name(), run, &f)
			}
		}
	}
	for i := range results {
		results[i].summarize()
	}
	return results, nil
}

// one is one run of one peer: a warm-up, then the measured part, without a pause between them.
func one(ctx context.Context, cfg Config, p Peer, run int) (Figures, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	from, to := began.Add(cfg.Warmup), began.Add(cfg.Warmup+cfg.Run)

	names := newNames(run, cfg.Taken)
	lots := make([]lot, cfg.Waiting)
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for w := range lots {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(run), uint64(w)))
			for i := 0; ; i++ {
				at := time.Now()
				if !at.Before(to) || ctx.Err() != nil {
					return
				}
				got, err := p.Claim(ctx, names.next(random), fmt.Sprintf("o-%d-%d-%d", run, w, i))
				if err != nil {
					if ctx.Err() == nil || errors.Is(err, context.DeadlineExceeded) {
						failed.CompareAndSwap(nil, &err)
					}
					cancel()
					return
				}
				// A claim counts where it ends: a slow one is not lost between warm-up and run.
				if end := time.Now(); end.After(from) && end.Before(to) {
					lots[w].add(end.Sub(at), got)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return Figures{}, *err
	}
	if ctx.Err() != nil {
		return Figures{}, context.Cause(ctx)
	}
	return figures(lots, cfg.Run), nil
}

// lot is what one worker measured.
type lot struct {
	latencies []time.Duration
	accepted  int
}

func (l *lot) add(d time.Duration, accepted bool) {
	l.latencies = append(l.latencies, d)
	if accepted {
		l.accepted++
	}
}

func figures(lots []lot, run time.Duration) Figures {
	var all []time.Duration
	f := Figures{}
	for _, l := range lots {
		all = append(all, l.latencies...)
		f.Accepted += l.accepted
	}
	slices.Sort(all)
	f.Claims = len(all)
	f.PerSecond = math.Round(float64(len(all)) / run.Seconds())
	if len(all) > 0 {
		at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))] }
		f.P50, f.P90, f.P99 = at(.5), at(.9), at(.99)
	}
	return f
}

func (r *Result) summarize() {
	sorted := slices.Clone(r.Runs)
	slices.SortFunc(sorted, func(a, b Figures) int { return int(a.PerSecond - b.PerSecond) })
	r.Median, r.Lowest, r.Most = sorted[len(sorted)/2], sorted[0].PerSecond, sorted[len(sorted)-1].PerSecond
}

// names deals out names: new ones, and now and then one that was dealt before.
type names struct {
	run   int
	taken float64
	dealt atomic.Int64
}

func newNames(run int, taken float64) *names { return &names{run: run, taken: taken} }

func (n *names) next(r *rand.Rand) string {
	if r.Float64() < n.taken {
		if dealt := n.dealt.Load(); dealt > 0 {
			return n.name(r.Int64N(dealt))
		}
	}
	return n.name(n.dealt.Add(1) - 1)
}

// name spreads consecutive numbers over the key space, as real names are.
func (n *names) name(i int64) string {
	return fmt.Sprintf("r%d.%011x", n.run, uint64(i)*0x9E3779B97F4A7C15>>20)
}
