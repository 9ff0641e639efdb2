package bench

import (
	"context"
	"sync"
	"time"
)

// maxArrivals is how many of the claims that go on coming wait at once, at most: more are due, and wait for their turn.
const maxArrivals = 100_000

// arrive claims at the rate, until stop is called, which returns what the claims waited when all are answered. They are
// those behind the backlog. One that fails ends the run.
func (cfg *Config) arrive(ctx context.Context, p Peer, deal *dealt, fail context.CancelCauseFunc) (stop func() Figures) {
	l := &loading{Config: cfg, peer: p, deal: deal, lots: newLots(maxLots), began: time.Now()}
	turns := make(chan struct{}, maxArrivals)
	var all sync.WaitGroup
	coming, end := context.WithCancel(ctx)
	all.Go(func() {
		for i := 0; l.sleep(coming, l.due(i)); i++ {
			select {
			case turns <- struct{}{}:
			case <-coming.Done():
				return
			}
			all.Go(func() {
				defer func() { <-turns }()
				n := cfg.Backlog + i
				got, err := p.Claim(ctx, deal.name(n), deal.owner(n))
				if err != nil {
					fail(err)
					return
				}
				l.lots[i%len(l.lots)].add(answer{latency: time.Since(l.due(i)), accepted: got, counts: true})
			})
		}
	})
	return func() Figures {
		end()
		all.Wait()
		return figures(l.lots, time.Second) // a rate is none of it
	}
}
