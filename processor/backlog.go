package processor

import (
	"context"
	"time"
)

const (
	// asideAfter is after how long without an acknowledgement a partition is set aside, where the lane waits for it.
	asideAfter = 2 * time.Second
	// mostUnpublished times Limits.Unpublished is how many rows a lane holds with those of partitions set aside.
	mostUnpublished = 4
)

// backlogged: so much is committed and not published that deciding waits.
func (l *lane) backlogged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	read, all := l.unpublished()
	return read >= l.limits.Unpublished || all >= mostUnpublished*l.limits.Unpublished
}

// unpublished counts the rows that are committed and not published: of partitions that are read, and of all. The caller
// holds mu.
func (l *lane) unpublished() (read, all int) {
	for _, t := range l.owned {
		all += t.queued
		if !t.aside && t.Halted == "" {
			read += t.queued
		}
	}
	return read, all
}

// setAside stops reading partitions whose outputs are not acknowledged, where the lane's others would have to wait for
// them, and goes on with those that are published. A topic that refuses an outcome may have to wait for an operator.
func (l *lane) setAside(ctx context.Context) {
	now := l.clock.Now()
	var aside []int32
	l.mu.Lock()
	read, _ := l.unpublished()
	for _, p := range l.ownedPartitions() {
		t := l.owned[p]
		since, busy := l.publishing[p]
		switch {
		case t.aside:
			t.aside = t.queued > 0
		case read >= l.limits.Unpublished && busy && t.Halted == "" && now.Sub(since) >= asideAfter:
			t.aside, t.mustVerify, t.probe = true, true, nil
			aside = append(aside, p)
		}
	}
	l.mu.Unlock()
	for _, p := range aside {
		l.source.Drop(p)
		l.log.WarnContext(ctx, "partition is set aside until what it has committed is published", "partition", p)
	}
}
