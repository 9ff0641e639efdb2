package bench

import (
	"context"
	"math"
	"runtime/debug"
	"sync"
	"time"
)

// drain is one run of one peer that works off a backlog.
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
	if err := p.Drain(ctx, d.progress); err != nil {
		return Figures{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return Figures{}, err
	}
	d.progress(n) // unless it was said
	f := d.figures(n)
	if cfg.Meter != nil {
		f.CPU, f.Bytes = cfg.Meter.Read(ctx).since(before).each(float64(n))
	}
	f.PeakRSS = peak()
	return f, nil
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

func (d *draining) figures(n int) Figures {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := Figures{Claims: n, Took: d.endedAt.Sub(d.began), First: d.firstAt.Sub(d.began)}
	counted, in := n-d.first, d.endedAt.Sub(d.firstAt)
	if d.first > n/2 || in <= 0 {
		counted, in = n, f.Took
	}
	f.PerSecond = math.Round(float64(counted) / max(in.Seconds(), 1e-9))
	return f
}
