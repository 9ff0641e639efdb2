package processor

import "time"

// backoff says when to try again: after 50 ms at first, twice as long each time, 5 s at most, each with jitter.
type backoff struct {
	clock Clock
	next  time.Duration
	at    time.Time
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

func newBackoff(c Clock) *backoff { return &backoff{clock: c, next: firstPause} }

// failed moves the next attempt into the future.
func (b *backoff) failed() { b.wait(b.step()) }

// step returns how long to wait this time.
func (b *backoff) step() time.Duration {
	d := b.next/2 + b.clock.Jitter(b.next/2)
	b.next = min(2*b.next, lastPause)
	return d
}

// wait moves the next attempt to d from now.
func (b *backoff) wait(d time.Duration) { b.at = b.clock.Now().Add(d) }

func (b *backoff) due(c Clock) bool { return !c.Now().Before(b.at) }
