package processor

import (
	"context"
	"math"
	"slices"
	"time"
)

// besideAnyway is after how long nobody waits any more for a transaction who need not: it may be stuck.
const besideAnyway = 50 * time.Millisecond

// transaction is what is decided and committed at once, beside the decide stage: runs of partitions that are in no other one.
// What comes of it that is that stage's alone to do is noted here for it.
type transaction struct {
	runs []run
	ends []ending
	// again are to be tried in transactions of their own, when they are due.
	again [][]run
	// inPieces: it has one run, of which a part may be committed. It is not tried again, but seen to its end.
	inPieces bool
}

// ending is of a partition that is lost, or to be halted for a reason.
type ending struct {
	tenure *tenure
	halted string
}

func (tx *transaction) lose(t *tenure)                { tx.ends = append(tx.ends, ending{tenure: t}) }
func (tx *transaction) halt(t *tenure, reason string) { tx.ends = append(tx.ends, ending{t, reason}) }

// due is when a run may be tried again.
func (r *run) due() time.Time {
	if r.pause == nil {
		return time.Time{}
	}
	return r.pause.at
}

// nextAgain is how long it is until runs may be tried again; where there are none, or no place for them, for ever.
func (l *lane) nextAgain() time.Duration {
	next := time.Duration(math.MaxInt64)
	if l.running == l.limits.Transactions {
		return next
	}
	for _, runs := range l.again {
		next = min(next, max(0, runs[0].due().Sub(l.clock.Now())))
	}
	return next
}

// tryAgain has runs tried again: each alone where what failed may be the fault of one, and would hold up the others.
func (tx *transaction) tryAgain(runs []run, alone bool) {
	if !alone && len(runs) > 0 {
		tx.again = append(tx.again, runs)
		return
	}
	for i := range runs {
		tx.again = append(tx.again, runs[i:i+1:i+1])
	}
}

// poll takes what has arrived of the partitions that are in no transaction. Beside one that is under way it takes as much as
// is worth another one, or nothing: what comes meanwhile then shares a look-up and a commit with what was there before.
func (l *lane) poll(ctx context.Context) ([]Fetched, error) {
	least, wait := l.limits.Beside, min(l.pollWait(), l.nextAgain())
	switch left := besideAnyway - l.clock.Now().Sub(l.lastBegun()); {
	case l.running == l.limits.Transactions:
		least = math.MaxInt
	case l.running == 0 || left <= 0:
		least = 1
	default:
		wait = min(wait, left)
	}
	return l.source.Poll(ctx, Beside{Busy: l.busy, Least: least, Until: l.wake}, l.limits.Batch, wait)
}

// busy reports whether a partition is in a transaction that is not concluded, or is to be in one again. Until then the stage
// changes nothing of it that the transaction may look at, and reads of it only what others may. For the decide stage, and for
// who holds mu.
func (l *lane) busy(p int32) bool {
	_, ok := l.deciding[p]
	return ok
}

// lastBegun is when the last of the transactions under way was begun. One that is stuck is older, and those that are not are
// waited for all the same. For the decide stage.
func (l *lane) lastBegun() time.Time {
	var last time.Time
	for _, at := range l.deciding {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// divide deals runs out to at most so many transactions, none of them with less than least records where there are several:
// below that, one costs less than two, for each has its look-up and its commit.
func divide(runs []run, most, least int) [][]run {
	left := 0
	for i := range runs {
		left += len(runs[i].records)
	}
	var parts [][]run
	for len(runs) > 0 {
		n := max(1, min(most-len(parts), left/least)) // that are to come, with this one
		i, records := 0, 0
		for ; i < len(runs) && (n == 1 || i == 0 || records < left/n); i++ {
			records += len(runs[i].records)
		}
		if left-records < least {
			i = len(runs)
		}
		parts = append(parts, runs[:i:i])
		runs, left = runs[i:], left-records
	}
	return parts
}

// begin decides runs beside the decide stage, which goes on with other partitions.
func (l *lane) begin(ctx context.Context, runs []run) {
	l.inHand(runs)
	l.running++
	now := l.clock.Now()
	l.mu.Lock()
	for i := range runs {
		if p := runs[i].tenure.Partition; !l.busy(p) { // or else it is tried again
			l.deciding[p] = now
		}
	}
	if l.running == l.limits.Transactions {
		l.fullAt = now
	}
	l.mu.Unlock()
	tx := &transaction{runs: runs}
	l.beside(func() {
		l.decide(ctx, tx, runs)
		l.over <- tx
		signal(l.wake)
	})
}

// conclude sees to what has ended beside the decide stage. The partitions of a transaction are free for the next one; what is
// to be tried again comes before that.
func (l *lane) conclude(ctx context.Context) {
	for len(l.over) > 0 {
		tx := <-l.over
		l.running--
		l.mu.Lock()
		l.fullAt = time.Time{}
		l.mu.Unlock()
		l.free(tx.runs, tx.again)
		for _, e := range tx.ends {
			if e.halted != "" {
				l.halt(ctx, e.tenure, e.halted)
			} else {
				l.lose(ctx, e.tenure.Partition)
			}
		}
		l.again = append(l.again, tx.again...)
	}
	for i := 0; i < len(l.again) && l.running < l.limits.Transactions && ctx.Err() == nil; {
		if runs := l.again[i]; !l.clock.Now().Before(runs[0].due()) {
			l.again = slices.Delete(l.again, i, i+1)
			l.begin(ctx, runs)
		} else {
			i++
		}
	}
	l.takenOver(ctx)
}

// free notes that partitions are in no transaction any more, but for those that are to be tried again.
func (l *lane) free(runs []run, again [][]run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range runs {
		p := runs[i].tenure.Partition
		if !slices.ContainsFunc(again, func(of []run) bool {
			return slices.ContainsFunc(of, func(r run) bool { return r.tenure.Partition == p })
		}) {
			delete(l.deciding, p)
			delete(l.troubles, p)
		}
	}
}

// concludeAll waits for the transactions that are under way, when nothing new is begun. What was to be tried again, the next
// owner reads again.
func (l *lane) concludeAll(ctx context.Context) {
	for l.conclude(ctx); l.running > 0; l.conclude(ctx) {
		<-l.wake
	}
	for _, runs := range l.again {
		l.free(runs, nil)
	}
}
