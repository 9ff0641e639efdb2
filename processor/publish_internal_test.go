package processor

import (
	"context"
	"log/slog"
	"sync"
	"testing"
)

// The last batch may be committed, and the decide stage over, while the publish stage looks elsewhere. Which of the two it
// then notices first is chance; what was committed is published either way.
func TestLastCommitIsPublished(t *testing.T) {
	for range 40 { // so that chance cannot hide it
		var saved lastCursors
		cfg := Config{Clock: machineClock{}, Limits: Limits{}.withDefaults(), Log: slog.New(slog.DiscardHandler)}
		l := newLane(cfg, nil, &saved, nil, newMetrics(nil))
		at := Fence{Partition: 1, NextOffset: 5}
		owned := &tenure{Standing: Standing{Fence: at}}
		l.owned[1] = owned
		decided := make(chan struct{})
		l.publishStage(&atSelect{Context: t.Context(), first: func() {
			l.mu.Lock()
			owned.queue = []pending{{at: at, through: 5}} // a run without an output: nothing is asked of a publisher
			l.mu.Unlock()
			signal(l.committed)
			close(decided)
		}}, decided)
		if len(saved.cursors) != 1 || saved.cursors[0] != (Cursor{at, 5}) {
			t.Fatalf("written down as published: %+v", saved.cursors)
		}
	}
}

// atSelect is a context whose holder does something at the moment when it is first waited for.
type atSelect struct {
	context.Context
	once  sync.Once
	first func()
}

func (c *atSelect) Done() <-chan struct{} {
	c.once.Do(c.first)
	return c.Context.Done()
}

// lastCursors is a Record that is only told what is published.
type lastCursors struct {
	Record
	cursors []Cursor
}

func (r *lastCursors) Published(_ context.Context, cursors []Cursor) error {
	r.cursors = append(r.cursors, cursors...)
	return nil
}
