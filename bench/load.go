package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// maxRate is where claims would be due faster than a clock tells them apart.
const maxRate = 10e6

// loading is one run of one peer: a warm-up, then the measured part, without a pause between them.
type loading struct {
	*Config
	peer            Peer
	deal            *dealt
	began, from, to time.Time
	lots            []*lot

	cancel  context.CancelCauseFunc
	next    atomic.Int64 // number of the next claim, in a closed loop
	settled atomic.Int64 // claims, for progress
	late    atomic.Bool  // what is not answered by now, is not
}

func (cfg *Config) load(ctx context.Context, p Peer, deal *dealt, status Status) (Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &loading{Config: cfg, peer: p, deal: deal, lots: newLots(status.Waiting), cancel: cancel, began: time.Now()}
	l.from = l.began.Add(cfg.Warmup)
	l.to = l.from.Add(cfg.Run)

	var workers sync.WaitGroup
	if cfg.Rate > 0 {
		defer l.giveUp(ctx).Stop()
		due := make(chan int)
		workers.Go(func() { l.dispatch(ctx, due) })
		for w := range status.Waiting {
			workers.Go(func() { l.open(ctx, l.lots[w%len(l.lots)], due) })
		}
	} else {
		for w := range status.Waiting {
			workers.Go(func() { l.closed(ctx, l.lots[w%len(l.lots)]) })
		}
	}
	var progress sync.WaitGroup
	ended := make(chan struct{})
	if cfg.Progress != nil {
		progress.Go(func() { l.report(ended, status) })
	}
	if struck, ok := p.(FaultInjected); ok {
		workers.Go(func() {
			if wait(ctx, l.from.Add(cfg.Run/2)) {
				if err := struck.InjectFault(); err != nil {
					cancel(err)
				}
			}
		})
	}
	used := l.meter(ctx)
	workers.Wait()
	close(ended)
	progress.Wait()
	if err := context.Cause(ctx); err != nil && !l.late.Load() {
		return Figures{}, err
	}
	f := figures(l.lots, cfg.Run)
	f.CPU, f.Bytes = used.each(f.PerSecond * cfg.Run.Seconds())
	return f, nil
}

// closed claims as soon as the claim before it is answered. A claim counts where it ends: a slow one is not lost between
// warm-up and run.
func (l *loading) closed(ctx context.Context, lot *lot) {
	for ctx.Err() == nil {
		at := time.Now()
		if !at.Before(l.to) {
			return
		}
		i := int(l.next.Add(1) - 1)
		got, err := l.peer.Claim(ctx, l.deal.name(i), l.deal.owner(i))
		if err != nil {
			l.cancel(err) // in vain where that is why
			return
		}
		l.settled.Add(1)
		if end := time.Now(); end.After(l.from) && !end.After(l.to) {
			lot.add(answer{latency: end.Sub(at), accepted: got, ended: true, counts: true})
		}
	}
}

// due is when the i-th claim is.
func (l *loading) due(i int) time.Time {
	return l.began.Add(time.Duration(float64(i) / l.Rate * float64(time.Second)))
}

// dispatch hands each claim to a worker when it is due, or as soon as there is one: the schedule does not shift.
func (l *loading) dispatch(ctx context.Context, due chan<- int) {
	defer close(due)
	for i := 0; l.due(i).Before(l.to); i++ {
		handed := false
		if l.sleep(ctx, l.due(i)) {
			select {
			case due <- i:
				handed = true
			case <-ctx.Done():
			}
		}
		if !handed {
			if l.late.Load() {
				l.miss(i)
			}
			return
		}
	}
}

// giveUp ends the wait for what was due, some time behind the run.
func (l *loading) giveUp(ctx context.Context) *time.Timer {
	grace := l.Grace
	if grace <= 0 {
		grace = l.Run
	}
	return time.AfterFunc(time.Until(l.to)+grace, func() {
		if ctx.Err() == nil {
			l.late.Store(true)
			l.cancel(context.DeadlineExceeded)
		}
	})
}

// miss counts the claims that were due and not even made, from the i-th on.
func (l *loading) miss(i int) {
	for now := time.Now(); l.due(i).Before(l.to); i++ {
		l.lots[i%len(l.lots)].add(answer{latency: now.Sub(l.due(i)), unanswered: true, counts: !l.due(i).Before(l.from)})
	}
}

// open claims what is due. A claim counts where it was due, from when it was due.
func (l *loading) open(ctx context.Context, lot *lot, due <-chan int) {
	for i := range due {
		at := l.due(i)
		got, err := l.peer.Claim(ctx, l.deal.name(i), l.deal.owner(i))
		end := time.Now()
		if err != nil && !l.late.Load() {
			l.cancel(err)
			return
		}
		l.settled.Add(1)
		lot.add(answer{
			latency: end.Sub(at), accepted: got && err == nil, unanswered: err != nil, counts: !at.Before(l.from),
			ended: err == nil && end.After(l.from) && !end.After(l.to),
		})
	}
}

// sleep reports whether it is the time; it is not where ctx ended before.
func (l *loading) sleep(ctx context.Context, until time.Time) bool {
	pause := l.pause
	if pause == nil {
		pause = precisely
	}
	for ctx.Err() == nil {
		left := time.Until(until)
		if left <= 0 {
			return true
		}
		pause(min(left, 20*time.Millisecond)) // a ctx that ends is seen soon
	}
	return false
}

// meter reads what was used during the run.
func (l *loading) meter(ctx context.Context) Usage {
	if l.Meter == nil || !wait(ctx, l.from) {
		return Usage{}
	}
	before := l.Meter.Read(ctx)
	if !wait(ctx, l.to) {
		return Usage{}
	}
	return l.Meter.Read(ctx).since(before)
}

func wait(ctx context.Context, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// report tells how it goes until it has ended.
func (l *loading) report(ended <-chan struct{}, status Status) {
	ticker := time.NewTicker(tell)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ended:
			return
		case now := <-ticker.C:
			claims := int(l.settled.Load())
			status.PerSecond = float64(claims-status.Claims) / now.Sub(last).Seconds()
			status.Claims, last = claims, now
			l.tell(status)
		}
	}
}
