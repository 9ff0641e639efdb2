package processor

import (
	"context"
	"time"
)

// probe finds out whether a partition's leader answers, beside the decide stage. That stage compares the log itself only
// with a leader that has just done so: one that is away costs the lane's other partitions nothing. What a probe found
// out besides does not count, because reading had not begun by then (verify).
type probe struct {
	over chan struct{}
	// Once over is closed:
	err   error
	ended time.Time
}

const (
	// mostProbes is how many probes a lane has under way at once.
	mostProbes = 64
	// probedFor is how long an answer counts: the leader of many partitions may have gone away while the first of them
	// were compared.
	probedFor = time.Second
	// probedWait is how long to wait for records while a probe is under way, so that its answer does not lie about.
	probedWait = 10 * time.Millisecond
)

// startProbe asks what a verification would.
func (l *lane) startProbe(ctx context.Context, at Standing) *probe {
	p := &probe{over: make(chan struct{})}
	l.probing.Add(1)
	l.beside(func() {
		defer close(p.over)
		defer l.probing.Add(-1)
		_, _, p.err = l.compare(ctx, at)
		p.ended = l.clock.Now()
	})
	return p
}

// probed reports whether a partition that is due to be verified can be: its leader has answered just now.
func (l *lane) probed(ctx context.Context, t *tenure) bool {
	switch {
	case t.probe == nil:
		if t.pause.due(l.clock) && l.probing.Load() < mostProbes {
			t.probe = l.startProbe(ctx, t.Standing)
		}
		return false
	case !isDone(t.probe.over):
		return false
	}
	last := t.probe
	t.probe = nil
	if last.err != nil {
		l.unverified(ctx, t, last.err)
	}
	return last.err == nil && l.clock.Now().Sub(last.ended) < probedFor
}

func (l *lane) pollWait() time.Duration {
	wait := l.limits.PollWait
	if l.probing.Load() > 0 {
		wait = min(wait, probedWait)
	}
	if len(l.sweeper.due) > 0 || l.sweeper.looking {
		wait = min(wait, sweepTick)
	}
	return wait
}
