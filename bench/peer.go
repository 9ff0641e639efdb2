package bench

import (
	"context"
	"errors"
)

// Peer claims names in one way.
type Peer interface {
	// Name is how the report calls it.
	Name() string
	// Claim asks for a name and reports whether the owner got it. It is called concurrently.
	Claim(ctx context.Context, name, owner string) (bool, error)
}

// Drainer is a peer that can be given a backlog and works it off.
type Drainer interface {
	Peer
	// Fill puts n claims where the peer will find them (not measured), while it is stopped. claim(i) names the i-th; it may
	// be called from several goroutines.
	Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error
	// Drain decides them all (measured); progress is told how many are decided, now and then.
	Drain(ctx context.Context, progress func(decided int)) error
}

// Recoverer is a Drainer that can be asked from when it has its backlog: claims go on coming while it drains. Then Drain is
// over when it has caught up: of what had come when it looked last but one, nothing is left.
type Recoverer interface {
	Drainer
	// Recovers does nothing.
	Recovers()
}

// Apart is a peer that decides in processes of its own: their memory is reported, and not this one's.
type Apart interface {
	Peer
	// PIDs are those that run; none where it decides in this process.
	PIDs() []int
}

// FaultInjected is a peer that a fault is injected into in the middle of each run.
type FaultInjected interface {
	Peer
	// InjectFault does that, and returns at once.
	InjectFault() error
}

// Hosted is a peer that runs only while it is measured, for what it costs while it is idle would be charged to the others.
type Hosted interface {
	Peer
	// Host starts what the peer needs, calls f, and stops it again. Neither start nor stop is measured.
	Host(ctx context.Context, f func(context.Context) error) error
}

// Starter is a peer that can be stopped for the same reason: it is a process, or threads that poll. Claim starts it where that
// has not happened. A backlog is made while it is stopped, and draining starts it.
type Starter interface {
	Peer
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// host calls f where p can be measured: it runs already, unless it is to be given a backlog.
func host(ctx context.Context, p Peer, backlog bool, f func(context.Context) error) (err error) {
	if h, ok := p.(Hosted); ok {
		return h.Host(ctx, f)
	}
	if s, ok := p.(Starter); ok {
		defer func() { err = errors.Join(err, s.Stop(context.WithoutCancel(ctx))) }()
		if !backlog {
			if err := s.Start(ctx); err != nil {
				return err
			}
		}
	}
	return f(ctx)
}
