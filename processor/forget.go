package processor

import (
	"context"
	"errors"
	"time"
)

const (
	// mostForgotten is how many rows a lane forgets at once, between two batches: claims are not to wait for long.
	mostForgotten = 250
	// forgetShare is what part of its time a lane spends on that while there is more, one in so many.
	forgetShare = 10
	// forgetEvery is how often a partition is looked at of which there was no more to forget.
	forgetEvery = time.Minute
)

// forget deletes what is older than decisions are kept, a little of one partition at a time. It is done here and not beside,
// for then it is known which partitions have no batch that was looked up and is not committed.
func (l *lane) forget(ctx context.Context) {
	now := l.clock.Now()
	if l.limits.Retention <= 0 || now.Before(l.forgetAt) {
		return
	}
	var t *tenure // the one that has waited longest
	for _, p := range l.ownedPartitions() {
		o := l.owned[p]
		if o.Halted != "" || l.busy(p) || o.aside || o.mustVerify || o.LogTime.IsZero() || now.Before(o.forgetAt) {
			continue
		}
		if t == nil || o.forgetAt.Before(t.forgetAt) {
			t = o
		}
	}
	if t == nil {
		return
	}
	defer l.at("forgetting old decisions")()
	// A record that was stamped years ahead, where a broker does not hold producers to the clock, makes nothing old: what is deleted
	// does not come back.
	ahead := max(0, t.LogTime.Sub(now))
	f, err := l.record.Forget(ctx, t.Fence, l.limits.Retention+ahead, mostForgotten)
	took := max(0, l.clock.Now().Sub(now))
	l.forgetAt = now.Add(forgetShare * took)
	if err != nil {
		t.forgetAt = now.Add(forgetEvery)
		if ctx.Err() == nil && !errors.Is(err, ErrFenced) { // which a batch, or the next look at the rows, finds out as well
			l.metrics.trouble("record", err)
		}
		return
	}
	l.metrics.forgotten.Add(float64(f.Rows))
	l.mu.Lock()
	t.oldestKept = f.Oldest
	l.mu.Unlock()
	if t.forgetAt = now; !f.More {
		t.forgetAt = now.Add(forgetEvery)
	}
}
