package bench

import (
	"cmp"
	"context"
	"math"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// drain is one run of one peer that works off a backlog, with a rate while claims go on coming.
//
// Claims per second are those from the first on that was told of: what it takes a peer to start is told beside it, and
// is nothing that grows with the backlog. A peer that tells too late is charged for its start.
func (cfg *Config) drain(ctx context.Context, p Drainer, deal *dealt, status Status) (Figures, error) {
	n := cfg.Backlog
	if err := p.Fill(ctx, n, func(i int) (name, owner string) { return deal.name(i), deal.owner(i) }); err != nil {
		return Figures{}, err
	}
	debug.FreeOSMemory() // what was needed to fill it
	forgetPeak()
	var before Usage
	if cfg.Meter != nil {
		before = cfg.Meter.Read(ctx)
	}
	d := draining{cfg: cfg, status: status, began: time.Now()}
	waits, err := cfg.catchUp(ctx, p, deal, d.progress)
	if err != nil {
		return Figures{}, err
	}
	f := d.figures()
	f.Arrivals = waits.Claims
	f.Mean, f.P50, f.P90, f.P99, f.P999, f.Max = waits.Mean, waits.P50, waits.P90, waits.P99, waits.P999, waits.Max
	if cfg.Meter != nil {
		f.CPU, f.Bytes = cfg.Meter.Read(ctx).since(before).each(float64(n + waits.Claims))
	}
	f.PeakRSS = peakRSS(p)
	return f, nil
}

// catchUp lets a peer work off its backlog, and returns what those claims waited that came meanwhile.
func (cfg *Config) catchUp(ctx context.Context, p Drainer, deal *dealt, progress func(decided int)) (waits Figures, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := func() Figures { return Figures{} }
	if cfg.Rate > 0 {
		stop = cfg.arrive(ctx, p, deal, cancel)
	}
	if err = p.Drain(ctx, progress); err != nil {
		cancel(err)
	}
	progress(cfg.Backlog) // unless it was said
	waits = stop()
	return waits, cmp.Or(context.Cause(ctx), err)
}

// peakRSS is the most memory that who decides has had since it was forgotten.
func peakRSS(p Peer) (most int64) {
	apart, ok := p.(Apart)
	if !ok || len(apart.PIDs()) == 0 {
		return peak("self")
	}
	for _, pid := range apart.PIDs() {
		most = max(most, peak(strconv.Itoa(pid)))
	}
	return most
}

// draining is what was told of a backlog.
type draining struct {
	cfg    *Config
	status Status
	began  time.Time

	mu               sync.Mutex // guards what follows, and status
	decided, first   int
	firstAt, endedAt time.Time
	toldAt           time.Time
	told             int
}

func (d *draining) progress(decided int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if decided <= d.decided {
		return
	}
	now := time.Now()
	d.decided = decided
	if d.first == 0 {
		d.first, d.firstAt = decided, now
		d.toldAt = d.began
	}
	d.endedAt = now
	if since := now.Sub(d.toldAt); since >= tell {
		d.status.Claims, d.status.PerSecond = decided, float64(decided-d.told)/since.Seconds()
		d.told, d.toldAt = decided, now
		d.cfg.tell(d.status)
	}
}

func (d *draining) figures() Figures {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.decided
	f := Figures{Claims: n, Took: d.endedAt.Sub(d.began), First: d.firstAt.Sub(d.began)}
	counted, in := n-d.first, d.endedAt.Sub(d.firstAt)
	if d.first > n/2 || in <= 0 {
		counted, in = n, f.Took
	}
	f.PerSecond = math.Round(float64(counted) / max(in.Seconds(), 1e-9))
	return f
}
