package processor

import (
	"context"
	"slices"
	"time"
)

// wipeEvery is how long a lane waits between two looks for what is to be erased.
const wipeEvery = 200 * time.Millisecond

func erases(rows []Row) bool {
	for i := range rows {
		if rows[i].Erase != nil {
			return true
		}
	}
	return false
}

// wipe has erased what may be, beside the decide stage: it reads more than a batch does, and nothing waits for it. What is to be
// done is in the record, so that a next owner goes on with it.
func (l *lane) wipe(ctx context.Context) {
	if l.wiping.Load() || l.clock.Now().Sub(l.wipedAt) < wipeEvery {
		return
	}
	var seen map[*tenure]int // nil for nearly always
	var partitions []int32
	l.mu.Lock()
	for p, t := range l.owned {
		if t.erasures > t.wiped {
			if seen == nil {
				seen = make(map[*tenure]int)
			}
			seen[t] = t.erasures
			partitions = append(partitions, p)
		}
	}
	l.mu.Unlock()
	if len(partitions) == 0 {
		return
	}
	slices.Sort(partitions)
	l.wipedAt = l.clock.Now()
	l.wiping.Store(true)
	l.beside(func() {
		defer l.wiping.Store(false)
		left, err := l.record.Wipe(ctx, partitions)
		if err != nil && ctx.Err() == nil {
			l.metrics.trouble("record", err)
			l.log.WarnContext(ctx, "what is to be erased is not wiped yet", "err", err)
		}
		if err != nil || left > 0 {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for t, n := range seen {
			t.wiped = n
		}
	})
}
