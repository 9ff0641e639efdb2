package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowRows is a record whose look at the partitions takes its time, and tells which look it was.
type slowRows struct {
	Lookup
	takes func(look int64) (time.Duration, error)

	mu        sync.Mutex
	looks     int64
	now, most int
}

func (s *slowRows) Partitions(ctx context.Context) ([]Partition, error) {
	s.mu.Lock()
	s.looks++
	look := s.looks
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	takes, err := s.takes(look)
	select {
	case <-time.After(takes):
		return []Partition{{LogEpoch: 1, NextOffset: look}}, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func slow(t *testing.T, takes func(look int64) (time.Duration, error), test func(t *testing.T, s *standings, rows *slowRows)) {
	synctest.Test(t, func(t *testing.T) {
		rows := &slowRows{takes: takes}
		test(t, &standings{lookup: rows, log: slog.New(slog.DiscardHandler), pinned: 1}, rows)
	})
}

// One looks at a time, and what is known never goes back.
func TestStandingsAreReadOnceAtATime(t *testing.T) {
	slow(t, func(look int64) (time.Duration, error) {
		return max(time.Second/10, time.Second/time.Duration(look)), nil
	},
		func(t *testing.T, s *standings, rows *slowRows) {
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * time.Second / 50)
					if err := s.read(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if rows.most != 1 || rows.looks > 2 || s.of(0).NextOffset != rows.looks {
				t.Errorf("%d looks, %d at once; what is known is of look %d", rows.looks, rows.most, s.of(0).NextOffset)
			}
		})
}

// An error is that of all who wait, but for that of one who went away.
func TestStandingsErrors(t *testing.T) {
	errRows := errors.New("no rows")
	slow(t, func(int64) (time.Duration, error) { return time.Second, errRows }, func(t *testing.T, s *standings, rows *slowRows) {
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := s.read(t.Context()); !errors.Is(err, errRows) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if rows.looks != 1 {
			t.Errorf("%d looks", rows.looks)
		}
	})
	slow(t, func(int64) (time.Duration, error) { return time.Second, nil }, func(t *testing.T, s *standings, rows *slowRows) {
		leaves, leave := context.WithTimeout(t.Context(), time.Second/2)
		defer leave()
		var all sync.WaitGroup
		all.Go(func() {
			if err := s.read(leaves); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 5 {
			all.Go(func() {
				if err := s.read(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		impatient, giveUp := context.WithTimeout(t.Context(), time.Second/4)
		defer giveUp()
		start := time.Now()
		if err := s.read(impatient); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second/4 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		all.Wait()
		if rows.looks != 1 { // it went on without whoever began it
			t.Errorf("%d looks", rows.looks)
		}
	})
}

// What began before the call is not what was asked for.
func TestStandingsAreReadAnew(t *testing.T) {
	slow(t, func(int64) (time.Duration, error) { return time.Second, nil }, func(t *testing.T, s *standings, rows *slowRows) {
		var all sync.WaitGroup
		all.Go(func() { _ = s.read(t.Context()) })
		synctest.Wait()
		for range 5 {
			all.Go(func() {
				if err := s.readAnew(t.Context()); err != nil || s.of(0).NextOffset != 2 {
					t.Errorf("what is known is of look %d: %v", s.of(0).NextOffset, err)
				}
			})
		}
		all.Wait()
		if err := s.readAnew(t.Context()); err != nil || rows.looks != 3 || rows.most != 1 {
			t.Errorf("%d looks, %d at once: %v", rows.looks, rows.most, err)
		}
		if err := s.readOlder(t.Context(), time.Minute); err != nil || rows.looks != 3 {
			t.Errorf("%d looks: %v", rows.looks, err)
		}
	})
}
