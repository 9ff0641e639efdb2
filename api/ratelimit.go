package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limits keeps a token bucket for each principal. There are no more of them than principals in the key file.
type limits struct {
	perSecond rate.Limit // 0: no limit
	burst     int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

func newLimits(perSecond float64, burst int) *limits {
	return &limits{perSecond: rate.Limit(perSecond), burst: max(burst, 1), buckets: make(map[string]*rate.Limiter)}
}

// take takes a token, or says how long to wait for one.
func (l *limits) take(principal string) time.Duration {
	if l.perSecond <= 0 {
		return 0
	}
	b := l.bucket(principal)
	r := b.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}

// takeMore takes tokens for what costs more than the one that was taken for the call, as many as a bucket can have; or says
// how long to wait until the whole call can be made: the first is lost.
func (l *limits) takeMore(principal string, more int) time.Duration {
	more = min(more, l.burst-1)
	if l.perSecond <= 0 || more < 1 {
		return 0
	}
	r := l.bucket(principal).ReserveN(time.Now(), more)
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
		wait += time.Duration(float64(time.Second) / float64(l.perSecond))
	}
	return wait
}

func (l *limits) bucket(principal string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[principal]
	if !ok {
		b = rate.NewLimiter(l.perSecond, l.burst)
		l.buckets[principal] = b
	}
	return b
}
