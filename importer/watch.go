package importer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSilent says that rows were waiting and no outcome came, of any, for as long as the importer has patience: Kafka,
// Postgres or the processor is away. What was claimed stands; the same import goes on where it was.
var ErrSilent = errors.New("no outcome comes")

// HaltedError says that rows wait on a partition that is halted: they are not decided before an operator lets it go on.
type HaltedError struct {
	Partition int32
	Reason    string
}

func (e *HaltedError) Error() string {
	return fmt.Sprintf("partition %d is halted: %s", e.Partition, e.Reason)
}

const (
	// lookEvery is how often the partitions are read, lookTimeout how long that may take.
	lookEvery   = 2 * time.Second
	lookTimeout = 5 * time.Second
)

// watch looks whether an import still gets anywhere.
type watch struct {
	patience   time.Duration
	partitions Partitions
	// By partition: rows on their way, and outcomes that came.
	waiting, decided []atomic.Int64

	mu      sync.Mutex // guards the fields below
	last    time.Time  // when the last outcome came, or waiting began
	trouble error      // of the last attempt or look that failed since
}

func newWatch(cfg Config, p Partitions) *watch {
	return &watch{
		patience: cfg.Patience, partitions: p, last: time.Now(),
		waiting: make([]atomic.Int64, cfg.Partitions), decided: make([]atomic.Int64, cfg.Partitions),
	}
}

// begins and ends say that a row is on its way, and no more.
func (w *watch) begins(partition int32) { w.waiting[partition].Add(1) }
func (w *watch) ends(partition int32)   { w.waiting[partition].Add(-1) }

// heard says that an outcome came.
func (w *watch) heard(partition int32) {
	w.decided[partition].Add(1)
	w.rest()
}

// rest begins the silence anew.
func (w *watch) rest() {
	w.mu.Lock()
	w.last, w.trouble = time.Now(), nil
	w.mu.Unlock()
}

// fails says why an attempt got no outcome.
func (w *watch) fails(err error) {
	w.mu.Lock()
	w.trouble = err
	w.mu.Unlock()
}

// run returns why the import should end: nil when ctx has ended.
func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(min(lookEvery, w.patience))
	defer tick.Stop()
	halted := make(map[int32]int64)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w.idle() {
			w.rest() // nobody waits for an outcome: none is missing
			continue
		}
		var err error
		if halted, err = w.look(ctx, halted); err != nil || ctx.Err() != nil {
			return err
		}
		if err := w.silent(); err != nil {
			return err
		}
	}
}

func (w *watch) idle() bool {
	for p := range w.waiting {
		if w.waiting[p].Load() > 0 {
			return false
		}
	}
	return true
}

// look reads the partitions, and returns how many outcomes came of each that is halted and has rows waiting. If none came
// since the look before, it is an error: what was decided before the halt, and was on its way, has arrived.
func (w *watch) look(ctx context.Context, before map[int32]int64) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	all, err := w.partitions.Partitions(ctx)
	if err != nil {
		w.fails(fmt.Errorf("read partitions: %w", err))
		return before, nil
	}
	halted := make(map[int32]int64)
	for _, p := range all {
		if p.Halted == "" || int(p.Partition) >= len(w.waiting) || w.waiting[p.Partition].Load() == 0 {
			continue
		}
		n := w.decided[p.Partition].Load()
		if was, ok := before[p.Partition]; ok && was == n {
			return nil, &HaltedError{p.Partition, p.Halted}
		}
		halted[p.Partition] = n
	}
	return halted, nil
}

// silent returns ErrSilent, and why as far as is known, when patience is over.
func (w *watch) silent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.last) < w.patience {
		return nil
	}
	err := fmt.Errorf("%w: none for %s", ErrSilent, w.patience)
	if w.trouble != nil {
		err = fmt.Errorf("%w; last: %w", err, w.trouble)
	}
	return err
}
