package processor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// publishQueued starts to publish each partition that has something and is not being published already. One goroutine
// works on a partition, so that the order of its rows is that of its outputs; a leader that is away holds up nobody
// else's.
func (l *lane) publishQueued(ctx context.Context, partitions *sync.WaitGroup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, t := range l.owned {
		if _, busy := l.publishing[p]; busy || len(t.queue) == 0 && len(t.questions) == 0 {
			continue
		}
		l.publishing[p] = l.clock.Now()
		partitions.Go(func() {
			for l.publishNext(ctx, p) {
			}
		})
	}
}

// lot is what is published of a partition at once.
type lot struct {
	tenure    *tenure
	entries   []pending
	rows      int
	questions []Output
}

// take says what of a partition is to be published next. Where there is nothing, nobody is publishing it from now on.
func (l *lane) take(p int32) (lot, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.owned[p]
	if t == nil || len(t.queue) == 0 && len(t.questions) == 0 {
		delete(l.publishing, p)
		return lot{}, false
	}
	next := lot{tenure: t, questions: t.questions}
	n := 0
	for _, q := range t.queue {
		if n > 0 && next.rows+len(q.rows) > l.limits.Batch {
			break
		}
		n++
		next.rows += len(q.rows)
	}
	next.entries = t.queue[:n:n]
	l.publishing[p] = l.clock.Now()
	return next, true
}

// publishNext publishes what is committed of a partition, in the order of its rows, and reports whether there was
// something and there may be more. Where it reports false, nobody is publishing the partition any more.
func (l *lane) publishNext(ctx context.Context, p int32) bool {
	next, ok := l.take(p)
	if !ok {
		return false
	}
	t := next.tenure
	outputs := make([]Output, 0, next.rows+len(next.questions))
	for _, q := range next.entries {
		outputs = l.outputs(outputs, q.at, q.rows)
	}
	if !l.publish(ctx, t, append(outputs, next.questions...)) {
		if ctx.Err() == nil {
			return true // the partition was lost; perhaps it is ours again
		}
		l.mu.Lock()
		delete(l.publishing, p)
		l.mu.Unlock()
		return false
	}
	l.mu.Lock()
	t.questions = t.questions[len(next.questions):] // those that were found meanwhile come behind
	if n := len(next.entries); n > 0 {
		t.queue = t.queue[n:]
		t.queued -= next.rows
		t.acked = next.entries[n-1].through
	}
	l.mu.Unlock()
	signal(l.published)
	return true
}

// publish reports whether all outputs are acknowledged; if not, ctx has ended, or the partition is not ours any more: its
// next owner publishes them again. Only what is not acknowledged is tried again, as far as the publisher tells.
func (l *lane) publish(ctx context.Context, t *tenure, outputs []Output) bool {
	pause := newBackoff(l.clock)
	for len(outputs) > 0 {
		rest, err := l.attempt(ctx, outputs)
		outputs = rest
		switch {
		case len(rest) == 0:
		case ctx.Err() != nil:
			return false
		case errors.Is(err, ErrRefused):
			return l.publishEach(ctx, t, rest)
		case !l.waitToPublish(ctx, t, pause, err):
			return false
		}
	}
	return true
}

// publishEach publishes one by one, so that what is refused is tried again alone. Dead letters that their topic refuses
// are given up: they are kept in Postgres. An outcome never is: somebody must mend the topic, and it is tried until then.
func (l *lane) publishEach(ctx context.Context, t *tenure, outputs []Output) bool {
	pause := newBackoff(l.clock)
	for len(outputs) > 0 {
		rest, err := l.attempt(ctx, outputs[:1])
		switch {
		case len(rest) == 0:
			pause = newBackoff(l.clock)
		case ctx.Err() != nil:
			return false
		case errors.Is(err, ErrRefused) && outputs[0].Topic == ToDeadLetters:
			l.metrics.refusedLetters.Inc()
			l.log.ErrorContext(ctx, "a dead letter is refused by its topic; it is kept in Postgres only", "partition", outputs[0].Partition, "err", err)
		case errors.Is(err, ErrRefused) && outputs[0].isQuestion():
			return true // it is too old, or our clock is off: as are those behind it, all questions too; they are asked again
		case !l.waitToPublish(ctx, t, pause, err):
			return false
		default:
			continue
		}
		outputs = outputs[1:]
	}
	return true
}

// attempt publishes once and returns what is not acknowledged, with the reason.
func (l *lane) attempt(ctx context.Context, outputs []Output) (rest []Output, err error) {
	began := l.clock.Now()
	err = l.publisher.Publish(ctx, outputs)
	rest = unacknowledged(outputs, err)
	l.metrics.publish(l.clock.Now().Sub(began), len(outputs)-len(rest))
	return rest, err
}

// unacknowledged picks what an error says is not acknowledged: everything, where it does not say.
func unacknowledged(outputs []Output, err error) []Output {
	if err == nil {
		return nil
	}
	var partial Partial
	if !errors.As(err, &partial) || len(partial.Unacknowledged()) == 0 {
		return outputs
	}
	left := partial.Unacknowledged()
	rest := make([]Output, 0, len(left))
	for _, i := range left {
		rest = append(rest, outputs[i])
	}
	return rest
}

// waitToPublish waits until the next attempt, and reports whether there is to be one.
func (l *lane) waitToPublish(ctx context.Context, t *tenure, pause *backoff, err error) bool {
	l.metrics.trouble("publisher", err)
	l.log.WarnContext(ctx, "outputs are not published yet", "partition", t.Partition, "err", err)
	l.clock.Sleep(ctx, pause.step())
	l.mu.Lock()
	defer l.mu.Unlock()
	return ctx.Err() == nil && l.owned[t.Partition] == t
}

// acked returns through which offset the partition's outputs are acknowledged.
func (l *lane) acked(t *tenure) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.acked
}

// saveCursors has written down what is published of partitions that commit nothing that would say so. That is a saving for the
// next owner, so a failure is of no consequence, and nothing waits for it: somebody may hold a row locked.
func (l *lane) saveCursors(ctx context.Context) {
	now, every := l.clock.Now(), saveEvery
	if l.unsaved.Load() {
		every = l.limits.LookEvery
	}
	if l.saving.Load() || now.Sub(l.savedAt) < every {
		return
	}
	l.savedAt = now
	save := l.cursors(false)
	if len(save) == 0 {
		return
	}
	l.saving.Store(true)
	l.beside(func() {
		defer l.saving.Store(false)
		l.unsaved.Store(!l.save(ctx, save))
	})
}

// saveEvery is how long a lane waits between two such writes.
const saveEvery = 100 * time.Millisecond

// saveLast does the same at the end, and waits for it.
func (l *lane) saveLast(ctx context.Context) {
	if save := l.cursors(true); len(save) > 0 {
		l.save(ctx, save)
	}
}

// cursors lists where what is written down may be moved to: of partitions that have nothing to be published, or at the end of
// all.
func (l *lane) cursors(last bool) map[*tenure]Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	save := make(map[*tenure]Cursor)
	for p, t := range l.owned {
		if !l.busy(p) && t.acked > t.saved && (last || t.queued == 0) {
			save[t] = Cursor{t.Fence, t.acked}
		}
	}
	return save
}

// save reports whether all of it was written down. What fails together is tried apart.
func (l *lane) save(ctx context.Context, save map[*tenure]Cursor) bool {
	tenures := slices.SortedFunc(maps.Keys(save), func(a, b *tenure) int { return int(a.Partition - b.Partition) })
	if l.saveOf(ctx, save, tenures) {
		return true
	}
	for i := range tenures {
		if ctx.Err() != nil || len(tenures) == 1 {
			break
		}
		l.saveOf(ctx, save, tenures[i:i+1])
	}
	return false
}

func (l *lane) saveOf(ctx context.Context, save map[*tenure]Cursor, tenures []*tenure) bool {
	cursors := make([]Cursor, len(tenures))
	for i, t := range tenures {
		cursors[i] = save[t]
	}
	if err := l.record.Published(ctx, cursors); err != nil {
		if ctx.Err() == nil {
			l.metrics.trouble("record", err)
		}
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, t := range tenures {
		t.saved = max(t.saved, cursors[i].Through)
	}
	return true
}
