package processor

import (
	"context"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

const (
	// maxDue is how many reservations one look finds. Where it finds as many, the next look is as soon as they are asked about.
	maxDue = 2_000
	// sweptFor is how long a reservation is not asked about again: by then the question has been decided, or was lost.
	sweptFor = 5 * time.Second
	// sweepBurst is what part of a second's questions a lane asks at once. Behind that it keeps to its rate, in lots of
	// sweepLot: claims are not to wait behind thousands of questions.
	sweepBurst = 0.03
	sweepLot   = 20
	// sweepTick is how long a lane with more to ask waits for records.
	sweepTick = 10 * time.Millisecond
	// maxQuestions is how many questions of a partition wait to be published.
	maxQuestions = 1_000
)

// Due is a reservation or a cool-down whose time is over.
type Due struct {
	Partition int32
	Ref       names.Ref
	ClaimID   uuid.UUID
	ExpiresAt time.Time
}

// sweeper is what a lane knows of what has expired. The decide stage owns it.
type sweeper struct {
	lookAt time.Time // when to look again
	more   bool      // the last look found as much as it may
	// looking: a look is under way beside the decide stage, or what it found is not taken yet.
	looking bool
	found   chan found // holds one
	due     []Due      // found, and still to be asked about
	asked   map[uuid.UUID]time.Time
	// quota is how many questions may be asked, as of quotaAt.
	quota   float64
	quotaAt time.Time
}

// found is what a look found, or why it found nothing.
type found struct {
	due []Due
	err error
}

func newSweeper() sweeper {
	return sweeper{found: make(chan found, 1), asked: make(map[uuid.UUID]time.Time)}
}

// sweep asks, through the log, to look at what has expired. Who claims such a name gets it without that; this is for the
// ones that nobody claims. Nothing is decided here: the question carries the clock reading that found it due, and if that
// is wrong the answer is that there is nothing to do.
func (l *lane) sweep(ctx context.Context) {
	now := l.clock.Now()
	s := &l.sweeper
	if len(s.due) == 0 {
		l.lookForDue(ctx, now)
		l.takeDue(ctx, now)
	}
	rate := float64(l.limits.SweepRate)
	s.quota = min(max(1, sweepBurst*rate), s.quota+max(0, now.Sub(s.quotaAt).Seconds()*rate))
	s.quotaAt = now
	if n := min(int(s.quota), len(s.due)); n == len(s.due) || n >= min(sweepLot, int(sweepBurst*rate)) {
		l.ask(s.due[:n], now)
		s.due = s.due[n:]
		s.quota -= float64(n)
	}
}

// lookForDue looks for what has expired, when it is time to: beside the decide stage, for claims wait for that one. What is
// found is old by then, which does no harm: see ask.
func (l *lane) lookForDue(ctx context.Context, now time.Time) {
	s := &l.sweeper
	if s.looking {
		return
	}
	partitions, all := l.quiet()
	early := now.Before(s.lookAt) && (!s.more || !all)
	if early || len(partitions) == 0 {
		return
	}
	s.lookAt, s.more, s.looking = now.Add(l.limits.SweepEvery), false, true
	l.beside(func() {
		due, err := l.record.Due(ctx, partitions, now.Truncate(time.Millisecond), maxDue)
		s.found <- found{due, err}
	})
}

// takeDue takes what a look has found, but for what is asked already.
func (l *lane) takeDue(ctx context.Context, now time.Time) {
	s := &l.sweeper
	var f found
	select {
	case f = <-s.found:
		s.looking = false
	default:
		return
	}
	if f.err != nil {
		if ctx.Err() == nil {
			l.metrics.trouble("record", f.err)
		}
		return
	}
	for id, at := range s.asked {
		if now.Sub(at) >= sweptFor {
			delete(s.asked, id)
		}
	}
	s.due = slices.DeleteFunc(f.due, func(d Due) bool {
		_, asked := s.asked[claims.ExpiryID(d.ClaimID, d.ExpiresAt)]
		return asked
	})
	s.more = len(f.due) == maxDue && len(s.due) > 0
}

// ask has questions published, of the partitions that are still ours and get theirs published. Of the others they are found
// again, by us or by the next owner; as is what is not over by this reading of the clock, which may have been set back since
// the look: the answer that there is nothing to do is final.
func (l *lane) ask(due []Due, now time.Time) {
	if len(due) == 0 {
		return
	}
	reading := now.Truncate(time.Millisecond) // as records have it
	questions := make(map[int32][]Output)
	for i := range due {
		d := &due[i]
		if t := l.owned[d.Partition]; t == nil || t.Halted != "" || d.ExpiresAt.After(reading) {
			continue
		}
		body := &claims.ExpiryDue{About: claims.AboutKey(d.Ref), ClaimID: d.ClaimID, ExpiresAt: d.ExpiresAt}
		id := claims.ExpiryID(d.ClaimID, d.ExpiresAt)
		questions[d.Partition] = append(questions[d.Partition], l.own(body, id, d.Ref, reading))
		l.sweeper.asked[id] = now
	}
	l.mu.Lock()
	for p, qs := range questions {
		if t := l.owned[p]; len(t.questions) < maxQuestions {
			t.questions = append(t.questions, qs...)
		}
	}
	l.mu.Unlock()
	signal(l.committed)
}

// quiet lists the partitions that are owned and not halted, and whose questions are published, and reports whether those
// of all that are not halted are.
func (l *lane) quiet() (partitions []int32, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all = true
	for _, p := range l.ownedPartitions() {
		switch t := l.owned[p]; {
		case t.Halted != "":
		case len(t.questions) > 0:
			all = false
		default:
			partitions = append(partitions, p)
		}
	}
	return partitions, all
}
