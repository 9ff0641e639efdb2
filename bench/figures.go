package bench

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Figures are what one run of one peer gave.
type Figures struct {
	Claims   int `json:"claims"`
	Accepted int `json:"accepted"`
	// Unanswered are those that were due, and were not answered when it was given up. Their latencies count as of then.
	Unanswered int     `json:"unanswered,omitempty"`
	PerSecond  float64 `json:"claims_per_second"`

	Mean time.Duration `json:"mean_ns,omitempty"`
	P50  time.Duration `json:"p50_ns,omitempty"`
	P90  time.Duration `json:"p90_ns,omitempty"`
	P99  time.Duration `json:"p99_ns,omitempty"`
	P999 time.Duration `json:"p99_9_ns,omitempty"`
	Max  time.Duration `json:"max_ns,omitempty"`

	// CPU and Bytes are for each claim, by who used them: see Usage.
	CPU   map[string]time.Duration `json:"cpu_per_claim_ns,omitempty"`
	Bytes map[string]float64       `json:"bytes_per_claim,omitempty"`

	// Of a backlog: how long it took, how long until the first claims were decided, and the most memory that a process
	// which decides had meanwhile. Arrivals are those of the claims that came while it was worked off, and the latencies are
	// theirs.
	Arrivals int           `json:"arrivals,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"`
	First    time.Duration `json:"first_decided_after_ns,omitempty"`
	PeakRSS  int64         `json:"peak_rss_bytes,omitempty"`
}

// Latencies are kept to three digits, from half a microsecond on; a longer one counts as the longest.
const (
	shortestLatency = time.Microsecond
	longestLatency  = 5 * time.Minute
	latencyDigits   = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortestLatency), int64(longestLatency), latencyDigits)
}

// lot is what some workers measured. A histogram has 160 KB: with one for each of thousands of workers the benchmark would
// measure its own memory.
type lot struct {
	mu         sync.Mutex
	latencies  *hdrhistogram.Histogram
	accepted   int
	unanswered int
	ended      int // within the run
	_          [64]byte
}

// maxLots is how many lots there are at most.
const maxLots = 64

func newLots(workers int) []*lot {
	lots := make([]*lot, min(workers, maxLots))
	for i := range lots {
		lots[i] = &lot{latencies: newHistogram()}
	}
	return lots
}

// answer is what became of one claim.
type answer struct {
	latency                     time.Duration
	accepted, unanswered, ended bool
	counts                      bool // its latency does
}

func (l *lot) add(a answer) {
	count := func(n *int, one bool) {
		if one {
			*n++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	count(&l.ended, a.ended)
	if !a.counts {
		return
	}
	_ = l.latencies.RecordValue(int64(min(max(a.latency, 0), longestLatency))) // it is within the bounds
	count(&l.accepted, a.accepted)
	count(&l.unanswered, a.unanswered)
}

func figures(lots []*lot, run time.Duration) Figures {
	all, f, ended := newHistogram(), Figures{}, 0
	for _, l := range lots {
		l.mu.Lock()
		all.Merge(l.latencies)
		f.Accepted += l.accepted
		f.Unanswered += l.unanswered
		ended += l.ended
		l.mu.Unlock()
	}
	f.Claims = int(all.TotalCount())
	f.PerSecond = math.Round(10*float64(ended)/run.Seconds()) / 10
	if f.Claims > 0 {
		at := all.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9})
		f.P50, f.P90, f.P99, f.P999 = time.Duration(at[0]), time.Duration(at[1]), time.Duration(at[2]), time.Duration(at[3])
		f.Mean, f.Max = time.Duration(all.Mean()), time.Duration(all.Max())
	}
	return f
}

// median is of each figure by itself, but for the highest latency and the most memory: these are of all runs.
func median(runs []Figures) Figures {
	m := Figures{
		Claims: int(of(runs, func(f Figures) float64 { return float64(f.Claims) }).Median), Accepted: int(of(runs, func(f Figures) float64 { return float64(f.Accepted) }).Median),
		Unanswered: int(of(runs, func(f Figures) float64 { return float64(f.Unanswered) }).Median),
		Arrivals:   int(of(runs, func(f Figures) float64 { return float64(f.Arrivals) }).Median),
		PerSecond:  of(runs, func(f Figures) float64 { return f.PerSecond }).Median,
	}
	duration := func(get func(Figures) time.Duration) time.Duration {
		return time.Duration(of(runs, func(f Figures) float64 { return float64(get(f)) }).Median)
	}
	m.Mean = duration(func(f Figures) time.Duration { return f.Mean })
	m.P50 = duration(func(f Figures) time.Duration { return f.P50 })
	m.P90 = duration(func(f Figures) time.Duration { return f.P90 })
	m.P99 = duration(func(f Figures) time.Duration { return f.P99 })
	m.P999 = duration(func(f Figures) time.Duration { return f.P999 })
	m.Took = duration(func(f Figures) time.Duration { return f.Took })
	m.First = duration(func(f Figures) time.Duration { return f.First })
	for _, f := range runs {
		m.Max, m.PeakRSS = max(m.Max, f.Max), max(m.PeakRSS, f.PeakRSS)
		for who := range f.CPU {
			if m.CPU == nil {
				m.CPU = make(map[string]time.Duration)
			}
			m.CPU[who] = duration(func(f Figures) time.Duration { return f.CPU[who] })
		}
		for what := range f.Bytes {
			if m.Bytes == nil {
				m.Bytes = make(map[string]float64)
			}
			m.Bytes[what] = of(runs, func(f Figures) float64 { return f.Bytes[what] }).Median
		}
	}
	return m
}

// Spread is the middle and the ends of what some runs gave.
type Spread struct {
	Median  float64 `json:"median"`
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
}

// of is the spread of one figure.
func of(runs []Figures, get func(Figures) float64) Spread {
	values := make([]float64, len(runs))
	for i, f := range runs {
		values[i] = get(f)
	}
	return spread(values)
}

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	slices.Sort(values)
	n := len(values)
	return Spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}
