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
	l.mu.Lock()
	b, ok := l.buckets[principal]
	if !ok {
		b = rate.NewLimiter(l.perSecond, l.burst)
		l.buckets[principal] = b
	}
	l.mu.Unlock()
	r := b.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}
