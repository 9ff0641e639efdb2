package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/names"
	"golang.org/x/sync/singleflight"
)

const (
	readEvery   = time.Second
	readTimeout = 2 * time.Second
	// staleAfter is how old what we know may be before claims are refused: the database is away. Two reads in a row may
	// run into their timeout, and the third still comes in time.
	staleAfter = 6 * time.Second
)

// standings knows how far each partition is, as of about a second ago. A claim does not wait for it.
type standings struct {
	lookup  Lookup
	log     *slog.Logger
	start   names.Policies // those that hold from the start of every log
	pinned  int            // the count of partitions that claims are routed to
	peppers names.Peppers
	last    atomic.Pointer[standing]
	looks   singleflight.Group
}

type standing struct {
	at      time.Time
	rows    map[int32]Partition
	holding Holding
}

var errNotRead = errors.New("the partitions have not been read yet")

// run reads the partitions again and again until ctx ends.
func (s *standings) run(ctx context.Context) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	failing := false
	for {
		err := s.read(ctx)
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				s.log.WarnContext(ctx, "the partitions cannot be read", "err", err)
			} else {
				s.log.InfoContext(ctx, "the partitions can be read again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// read reads the partitions, or waits for whoever is at it: there is one look at a time, so that no older one comes to
// replace a newer one.
func (s *standings) read(ctx context.Context) error {
	_, err := s.share(ctx)
	return err
}

// readAnew is read where a look that began before the call will not do.
func (s *standings) readAnew(ctx context.Context) error {
	joined, err := s.share(ctx)
	if joined && err == nil { // the next one begins after the call, whoever makes it
		_, err = s.share(ctx)
	}
	return err
}

// readOlder is read where the last look is that old, and nothing where it is not.
func (s *standings) readOlder(ctx context.Context, age time.Duration) error {
	if last := s.last.Load(); last != nil && time.Since(last.at) < age {
		return nil
	}
	return s.read(ctx)
}

// share is read, and says whether it was somebody else's look. A look goes on when whoever began it goes away: others may
// wait for it, and it has an end of its own.
func (s *standings) share(ctx context.Context) (joined bool, err error) {
	led := false
	looked := s.looks.DoChan("", func() (any, error) {
		led = true
		return nil, s.look(context.WithoutCancel(ctx))
	})
	select {
	case r := <-looked:
		return !led, r.Err
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// look reads the rows.
func (s *standings) look(ctx context.Context) error {
	at := time.Now()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := s.lookup.Partitions(ctx)
	if err != nil {
		return fmt.Errorf("read partitions: %w", err)
	}
	now := &standing{at: at, rows: make(map[int32]Partition, len(rows)), holding: Hold(s.start, s.pinned, rows)}
	for _, p := range rows {
		now.rows[p.Partition] = p
	}
	before := s.holding()
	if len(rows) > 0 && !slices.ContainsFunc(rows, func(p Partition) bool { return int(p.Partition) < s.pinned && p.Halted == "" }) {
		now.holding = before // nothing is known to have changed
	}
	for space, policy := range now.holding.Policies {
		if policy.Version != before.Policies.Version(space) {
			s.log.InfoContext(ctx, "a policy holds in every partition", "space", space, "version", policy.Version)
			if policy.Private == nil {
				continue
			}
			if _, err := s.peppers.Of(policy); err != nil {
				s.log.ErrorContext(ctx, "private values are refused here: put the pepper of the space into security.peppers_file and restart", "err", err)
			}
		}
	}
	s.last.Store(now)
	return nil
}

// holding is what holds, as far as is known.
func (s *standings) holding() Holding {
	if last := s.last.Load(); last != nil {
		return last.holding
	}
	return Holding{Policies: s.start}
}

// fresh returns nil if what is known is recent.
func (s *standings) fresh() error {
	last := s.last.Load()
	if last == nil {
		return errNotRead
	}
	if age := time.Since(last.at); age > staleAfter {
		return fmt.Errorf("the partitions were last read %s ago", age.Round(time.Second))
	}
	return nil
}

// of returns what is known of a partition. One that nobody has owned yet is at the start of its first log.
func (s *standings) of(partition int32) Partition {
	if last := s.last.Load(); last != nil {
		if p, ok := last.rows[partition]; ok {
			return p
		}
	}
	return Partition{Partition: partition, LogEpoch: 1}
}

// passed reports whether everything up to a position is decided, as far as is known. While a partition is halted its
// log may be another one than that which was read, and an offset that was acknowledged may be of either: nothing has
// passed. The same holds behind a log that was given up: see replaced.
func (s *standings) passed(at Position) bool {
	p := s.of(at.Partition)
	return p.Halted == "" && p.LogEpoch == at.LogEpoch && p.NextOffset > at.Offset
}

// replaced reports whether a position is in a log that was given up: an operator has accepted another one.
func (s *standings) replaced(at Position) bool {
	p := s.of(at.Partition)
	return p.Halted == "" && p.LogEpoch > at.LogEpoch
}
