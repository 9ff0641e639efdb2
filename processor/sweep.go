package processor

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// maxDue is how many reservations one look finds; where it finds as many, and new ones among them, the next look is at
// once.
const maxDue = 2_000

// sweptFor is how long a reservation is not asked about again: by then the question has been decided, or was lost.
const sweptFor = 5 * time.Second

// Due is a reservation or a cool-down whose time is over.
type Due struct {
	Partition int32
	Ref       names.Ref
	ClaimID   uuid.UUID
	ExpiresAt time.Time
}

// sweep asks, through the log, to look at what has expired. Who claims such a name gets it without that; this is for the
// ones that nobody claims. Nothing is decided here: the question carries the clock reading that found it due, and if that
// is wrong the answer is that there is nothing to do.
func (l *lane) sweep(ctx context.Context) {
	now := l.clock.Now().Truncate(time.Millisecond)
	if now.Before(l.sweepAt) {
		return
	}
	partitions := l.quiet()
	if len(partitions) == 0 {
		return
	}
	l.sweepAt = now.Add(l.limits.SweepEvery)
	due, err := l.record.Due(ctx, partitions, now, maxDue)
	if err != nil {
		if ctx.Err() == nil {
			l.metrics.trouble("record", err)
		}
		return
	}
	for id, at := range l.swept {
		if now.Sub(at) >= sweptFor {
			delete(l.swept, id)
		}
	}
	questions := make(map[int32][]Output)
	for i := range due {
		d := &due[i]
		id := claims.ExpiryID(d.ClaimID, d.ExpiresAt)
		if _, asked := l.swept[id]; asked {
			continue
		}
		l.swept[id] = now
		body := &claims.ExpiryDue{
			About: claims.About{Space: d.Ref.Space, Spelling: string(d.Ref.Key)}, ClaimID: d.ClaimID, ExpiresAt: d.ExpiresAt,
		}
		questions[d.Partition] = append(questions[d.Partition], l.own(body, id, d.Ref, now))
	}
	if len(questions) == 0 {
		return
	}
	if len(due) == maxDue {
		l.sweepAt = now
	}
	l.mu.Lock()
	for p, qs := range questions {
		l.owned[p].questions = qs
	}
	l.mu.Unlock()
	signal(l.committed)
}

// quiet lists the partitions that are owned and not halted, and whose questions of the last look are published.
func (l *lane) quiet() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ps []int32
	for _, p := range l.ownedPartitions() {
		if t := l.owned[p]; t.Halted == "" && len(t.questions) == 0 {
			ps = append(ps, p)
		}
	}
	return ps
}
