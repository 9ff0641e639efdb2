package processor

import (
	"context"
	"errors"
	"time"
)

// acquisition is what a take-over asks of the database, beside the decide stage: a row that somebody holds locked keeps no
// other partition waiting.
type acquisition struct {
	partition int32
	began     time.Time
	standing  Standing
	rows      []Row // not published
	broken    error // these cannot be read, by no further attempt: an operator must see to them
	doing     string
	err       error
}

// mostAcquisitions is how many are under way at once. They share the connections with the transactions.
const mostAcquisitions = 2

// takeOver makes the partition ours: from the moment the epoch is bumped the former writer changes nothing.
func (l *lane) takeOver(ctx context.Context, p int32) {
	if _, under := l.acquiring[p]; under || len(l.acquiring) == mostAcquisitions {
		return
	}
	if len(l.owned)+len(l.acquiring) == 0 { // nobody has looked at the rows for a while
		if _, err := l.rows(ctx); err != nil {
			l.notTakenOver(ctx, p, "read what holds", err)
			return
		}
	}
	a := &acquisition{partition: p, began: l.clock.Now()}
	writer := l.clock.NewID()
	l.mu.Lock()
	l.acquiring[p] = a.began
	l.mu.Unlock()
	l.beside(func() {
		defer signal(l.wake)
		defer func() { l.acquired <- a }()
		a.doing = "take over"
		if a.standing, a.err = l.record.Acquire(ctx, p, writer); a.err != nil {
			return
		}
		a.doing = "read what is unpublished"
		if a.rows, a.err = l.record.Unpublished(ctx, a.standing.Fence, a.standing.PublishedThrough); errors.Is(a.err, ErrConflict) {
			a.broken, a.err = a.err, nil
		}
	})
}

// takenOver begins to own what was acquired.
func (l *lane) takenOver(ctx context.Context) {
	for len(l.acquired) > 0 {
		a := <-l.acquired
		l.mu.Lock()
		delete(l.acquiring, a.partition)
		l.mu.Unlock()
		if a.err != nil {
			l.notTakenOver(ctx, a.partition, a.doing, a.err)
			continue
		}
		l.occupy(ctx, a)
	}
}

// occupy adds a partition to those that are read, unless something speaks against that.
func (l *lane) occupy(ctx context.Context, a *acquisition) {
	st, p := a.standing, a.partition
	regime, lacking := NewRegime(l.rules, st.InForce)
	t := &tenure{Standing: st, regime: regime, mustVerify: true, acked: st.PublishedThrough, saved: st.PublishedThrough, erasures: 1}
	t.pause = newBackoff(l.clock)
	t.haltSaved = st.Halted != ""
	// The former writer may have died between commit and publishing: all of it again, before anything new.
	if a.broken == nil && st.PublishedThrough < st.NextOffset {
		t.queue, t.queued = l.lots(st, a.rows), len(a.rows)
	}
	delete(l.retry, p)
	l.mu.Lock()
	l.owned[p] = t
	delete(l.troubles, p)
	l.mu.Unlock()
	signal(l.committed)
	l.metrics.tookOver(l.clock.Now().Sub(a.began), len(a.rows))
	l.log.InfoContext(ctx, "took over partition", "partition", p, "epoch", st.WriterEpoch, "offset", st.NextOffset, "unpublished", len(a.rows))
	switch {
	case st.Halted != "":
		l.log.ErrorContext(ctx, "partition is halted", "partition", p, "reason", st.Halted)
	case a.broken != nil:
		l.halt(ctx, t, "what is not published cannot be read: "+a.broken.Error())
	case lacking != nil:
		l.halt(ctx, t, lacking.Error())
	default:
		l.verify(ctx, t)
	}
}

// notTakenOver schedules another attempt to take a partition over.
func (l *lane) notTakenOver(ctx context.Context, p int32, what string, err error) {
	b := l.retry[p]
	if b == nil {
		b = newBackoff(l.clock)
		l.retry[p] = b
	}
	b.failed()
	if ctx.Err() == nil {
		l.fails(p, err)
		l.metrics.trouble("record", err)
		l.log.WarnContext(ctx, "partition waits", "partition", p, "doing", what, "err", err)
	}
}

// lots cuts what a former writer has left unpublished into runs of about a batch. The rows of one record stay together.
func (l *lane) lots(st Standing, rows []Row) []pending {
	var lots []pending
	for len(rows) > l.limits.Batch {
		n := l.limits.Batch
		for n < len(rows) && rows[n].Offset == rows[n-1].Offset {
			n++
		}
		if n == len(rows) {
			break
		}
		lots = append(lots, pending{st.Fence, rows[:n:n], rows[n].Offset})
		rows = rows[n:]
	}
	return append(lots, pending{st.Fence, rows, st.NextOffset})
}
