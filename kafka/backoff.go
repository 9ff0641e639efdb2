package kafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the time between attempts: it doubles from min to max, with jitter, so that clients that lost the same
// broker do not come back all at once.
type backoff struct {
	min, max time.Duration
	attempt  int
}

// next is how long to wait before the next attempt.
func (b *backoff) next() time.Duration {
	d := b.max
	if b.attempt < 20 {
		d = min(b.max, b.min<<b.attempt)
	}
	b.attempt++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.attempt = 0 }

// sleep waits before the next attempt, and says whether ctx lets there be one.
func (b *backoff) sleep(ctx context.Context) bool { return pause(ctx, b.next()) }

// pause waits, and says whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
