package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says what to measure.
type Config struct {
	// Waiting is how many claims wait at once: a table for each.
	Waiting []int `json:"waiting,omitempty"`
	// Rate, if set, is how many claims are due in a second. Then Waiting is how many may wait at once.
	Rate float64 `json:"rate,omitempty"`
	// Backlog, if set, is how many claims are worked off, in place of all that. With a Rate, claims go on coming meanwhile.
	Backlog int `json:"backlog,omitempty"`
	// Runs is how often each peer is measured, behind one run of each that does not count.
	Runs int `json:"runs"`
	// Warmup comes before each run and is not measured; Run is how long it is measured.
	Warmup time.Duration `json:"warmup_ns,omitempty"`
	Run    time.Duration `json:"run_ns,omitempty"`
	// Grace is how long behind a run those claims are waited for that were due in it, in an open loop. Defaults to Run.
	Grace time.Duration `json:"grace_ns,omitempty"`
	Names Names         `json:"names"`
	// Base is the peer that the others are compared with. Defaults to the last.
	Base string `json:"base"`
	// Meter tells what processes have used; nil for nobody.
	Meter Meter `json:"-"`
	// Progress is told when a run begins, how it goes, and when it has ended, by one goroutine at a time; nil for nobody.
	Progress func(Status) `json:"-"`

	// pause sleeps, perhaps for less than it is asked to. Nil: the most precise way there is.
	pause func(time.Duration)
}

// tell is how often progress is told of.
const tell = 250 * time.Millisecond

// Status is how a run goes.
type Status struct {
	Peer    string
	Waiting int // 0 in a backlog
	Run, Of int // run 0 does not count
	// Claims were decided so far, warm-up included, PerSecond of them in the last moment.
	Claims    int
	PerSecond float64
	// Done is set at the end.
	Done *Figures
}

// Result is one peer's runs, and their median.
type Result struct {
	Peer   string    `json:"peer"`
	Median Figures   `json:"median"`
	Runs   []Figures `json:"runs"`
	// Lowest and Highest are of the claims per second.
	Lowest  float64 `json:"lowest_claims_per_second"`
	Highest float64 `json:"highest_claims_per_second"`
	// Ratios are to the base, round by round; nil where there is nothing to compare with.
	Ratios *Ratios `json:"ratios,omitempty"`
}

// Ratios are a peer's figures divided by those of the base, in the same round.
type Ratios struct {
	PerSecond Spread `json:"claims_per_second"`
	P50       Spread `json:"p50"`
	P99       Spread `json:"p99"`
}

// Table is what all peers gave under one load.
type Table struct {
	Waiting int      `json:"waiting,omitempty"`
	Results []Result `json:"results"`
}

// Measure runs all peers in turn, as often as asked. Where it ends with an error, the tables are of the runs that had
// ended by then.
func Measure(ctx context.Context, cfg Config, peers ...Peer) ([]Table, error) {
	base, err := cfg.check(peers)
	if err != nil {
		return nil, err
	}
	loads := cfg.Waiting
	if cfg.Backlog > 0 {
		loads = []int{0}
	}
	var tables []Table
	for i, waiting := range loads {
		results := make([]Result, len(peers))
		err := cfg.rounds(ctx, peers, waiting, i*(cfg.Runs+1), results)
		if t := summarize(waiting, results, base); len(t.Results) > 0 {
			tables = append(tables, t)
		}
		if err != nil {
			return tables, err
		}
	}
	return tables, nil
}

// check refuses what cannot be measured, and finds the base.
func (cfg *Config) check(peers []Peer) (base int, err error) {
	switch {
	case len(peers) == 0:
		return 0, errors.New("nobody to measure")
	case cfg.Runs < 1:
		return 0, fmt.Errorf("%d runs: at least 1", cfg.Runs)
	case cfg.Backlog < 0:
		return 0, fmt.Errorf("a backlog of %d", cfg.Backlog)
	case cfg.Backlog == 0 && (len(cfg.Waiting) == 0 || slices.Min(cfg.Waiting) < 1):
		return 0, fmt.Errorf("%v waiting: at least 1", cfg.Waiting)
	case cfg.Backlog == 0 && (cfg.Run <= 0 || cfg.Warmup < 0):
		return 0, fmt.Errorf("runs of %s behind %s of warm-up", cfg.Run, cfg.Warmup)
	case !(cfg.Rate >= 0 && cfg.Rate <= maxRate):
		return 0, fmt.Errorf("%v claims due per second: at most %.0f", cfg.Rate, maxRate)
	}
	if err := cfg.Names.validate(); err != nil {
		return 0, err
	}
	base = len(peers) - 1
	if cfg.Base != "" {
		if base = slices.IndexFunc(peers, func(p Peer) bool { return p.Name() == cfg.Base }); base < 0 {
			return 0, fmt.Errorf("nobody is called %q: there are %s", cfg.Base, strings.Join(namesOf(peers), ", "))
		}
	}
	for _, p := range peers {
		if _, can := p.(Drainer); cfg.Backlog > 0 && !can {
			return 0, fmt.Errorf("%s cannot be given a backlog", p.Name())
		}
		if _, can := p.(Recoverer); cfg.Backlog > 0 && cfg.Rate > 0 && !can {
			return 0, fmt.Errorf("%s cannot be asked while it works off a backlog", p.Name())
		}
	}
	return base, nil
}

func namesOf(peers []Peer) []string {
	all := make([]string, len(peers))
	for i, p := range peers {
		all[i] = p.Name()
	}
	return all
}

// rounds measures all peers under one load. round is the number of the first.
func (cfg *Config) rounds(ctx context.Context, peers []Peer, waiting, round int, results []Result) error {
	for i, p := range peers {
		results[i].Peer = p.Name()
	}
	// The first run of each does not count: a broker that has just started has not compiled its code yet.
	for run := range cfg.Runs + 1 {
		for i, p := range peers {
			status := Status{Peer: p.Name(), Waiting: waiting, Run: run, Of: cfg.Runs}
			cfg.tell(status)
			deal := cfg.Names.deal((round+run)*len(peers)+i, round+run)
			var f Figures
			err := host(ctx, p, cfg.Backlog > 0, func(ctx context.Context) (err error) {
				if cfg.Backlog > 0 {
					f, err = cfg.drain(ctx, p.(Drainer), deal, status) // check has seen that it is one
				} else {
					f, err = cfg.load(ctx, p, deal, status)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", p.Name(), run, err)
			}
			if run > 0 {
				results[i].Runs = append(results[i].Runs, f)
			}
			status.Claims, status.PerSecond, status.Done = f.Claims, f.PerSecond, &f
			cfg.tell(status)
		}
	}
	return nil
}

func (cfg *Config) tell(s Status) {
	if cfg.Progress != nil {
		cfg.Progress(s)
	}
}

// summarize leaves out those who have not ended a run.
func summarize(waiting int, results []Result, base int) Table {
	t := Table{Waiting: waiting}
	for _, r := range results {
		if len(r.Runs) == 0 {
			continue
		}
		r.Median = median(r.Runs)
		rate := of(r.Runs, func(f Figures) float64 { return f.PerSecond })
		r.Lowest, r.Highest = rate.Lowest, rate.Highest
		r.Ratios = ratios(r.Runs, results[base].Runs)
		t.Results = append(t.Results, r)
	}
	return t
}

// ratios compares round by round: what was going on in one was the same for both.
func ratios(runs, base []Figures) *Ratios {
	rounds := min(len(runs), len(base))
	if rounds == 0 {
		return nil
	}
	compare := func(get func(Figures) float64) Spread {
		var values []float64
		for i := range rounds {
			if to := get(base[i]); to > 0 {
				values = append(values, get(runs[i])/to)
			}
		}
		return spread(values)
	}
	return &Ratios{
		PerSecond: compare(func(f Figures) float64 { return f.PerSecond }),
		P50:       compare(func(f Figures) float64 { return float64(f.P50) }),
		P99:       compare(func(f Figures) float64 { return float64(f.P99) }),
	}
}
