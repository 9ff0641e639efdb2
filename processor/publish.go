package processor

import (
	"context"
	"errors"
)

// publishNext publishes what is committed, of all partitions together, and reports whether there was something. The
// order within a partition is that of its rows.
func (l *lane) publishNext(ctx context.Context) bool {
	type part struct {
		tenure  *tenure
		n       int // entries of the queue
		through int64
	}
	var parts []part
	var entries []pending
	rows := 0
	l.mu.Lock()
	for _, p := range l.ownedPartitions() {
		t := l.owned[p]
		taken := part{tenure: t}
		for _, q := range t.queue {
			if rows > 0 && rows+len(q.rows) > l.limits.Batch {
				break
			}
			entries = append(entries, q)
			rows += len(q.rows)
			taken.n++
			taken.through = q.through
		}
		if taken.n > 0 {
			parts = append(parts, taken)
		}
	}
	l.mu.Unlock()
	if len(entries) == 0 {
		return false
	}
	outputs := make([]Output, 0, rows)
	for _, q := range entries {
		outputs = l.outputs(outputs, q.at, q.rows)
	}
	if !l.publish(ctx, outputs) {
		return false
	}
	l.mu.Lock()
	for _, part := range parts {
		t := part.tenure
		for _, q := range t.queue[:part.n] {
			t.queued -= len(q.rows)
		}
		t.queue = t.queue[part.n:]
		t.acked = part.through
	}
	l.mu.Unlock()
	signal(l.published)
	return true
}

// publish reports whether all outputs are acknowledged; if not, ctx has ended.
func (l *lane) publish(ctx context.Context, outputs []Output) bool {
	if len(outputs) == 0 {
		return true
	}
	pause := newBackoff(l.clock)
	for {
		began := l.clock.Now()
		err := l.publisher.Publish(ctx, outputs)
		l.metrics.publish(l.clock.Now().Sub(began), outputs, err)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case errors.Is(err, ErrRefused):
			if outputs = l.withoutRefused(ctx, outputs); len(outputs) == 0 {
				return true
			}
		default:
			l.metrics.trouble("publisher", err)
		}
		l.log.WarnContext(ctx, "outputs are not published yet", "err", err)
		l.clock.Sleep(ctx, pause.step())
		if ctx.Err() != nil {
			return false
		}
	}
}

// withoutRefused publishes one by one and gives up on dead letters that their topic refuses: they are kept in Postgres.
// An outcome is never given up: somebody must mend the topic, and it is tried until then.
func (l *lane) withoutRefused(ctx context.Context, outputs []Output) []Output {
	for len(outputs) > 0 {
		err := l.publisher.Publish(ctx, outputs[:1])
		switch {
		case err == nil:
		case errors.Is(err, ErrRefused) && outputs[0].Topic == ToDeadLetters:
			l.metrics.refusedLetters.Inc()
			l.log.ErrorContext(ctx, "a dead letter is refused by its topic; it is kept in Postgres only", "partition", outputs[0].Partition, "err", err)
		default:
			return outputs
		}
		outputs = outputs[1:]
	}
	return nil
}

// acked returns through which offset the partition's outputs are acknowledged.
func (l *lane) acked(t *tenure) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.acked
}

// saveCursors writes down what is published since the last commit said so: when there is nothing to commit, or at the
// end. It is a saving for the next owner, so a failure is of no consequence.
func (l *lane) saveCursors(ctx context.Context, last bool) {
	var cursors []Cursor
	var behind []*tenure
	l.mu.Lock()
	for _, p := range l.ownedPartitions() {
		if t := l.owned[p]; t.acked > t.saved && (last || t.queued == 0) {
			cursors = append(cursors, Cursor{t.Fence, t.acked})
			behind = append(behind, t)
		}
	}
	l.mu.Unlock()
	if len(cursors) == 0 {
		return
	}
	if err := l.record.Published(ctx, cursors); err != nil {
		l.metrics.trouble("record", err)
		return
	}
	l.mu.Lock()
	for i, t := range behind {
		t.saved = max(t.saved, cursors[i].Through)
	}
	l.mu.Unlock()
}
