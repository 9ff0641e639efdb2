package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dibs-hq/dibs/processor"
)

// ErrKeys says that requests are signed, and that there is no key to check a signature with: what was decided by it cannot
// be replayed.
var ErrKeys = errors.New("a request is signed, and there is no key to check signatures with")

// Config says what is verified.
type Config struct {
	// Rules are those that hold from the start of the log.
	Rules processor.Rules
	// Partitions are the ones to verify; none for all.
	Partitions []int32
	// Workers is how many partitions are verified at once. Defaults to the number of cores, at most 4.
	Workers int
	// MaxDifferences is how many differences are listed; further ones are counted. Defaults to 20.
	MaxDifferences int
}

// Verifier is one run over a deployment. Build it with New.
type Verifier struct {
	cfg           Config
	record        Record
	claims        Log
	registrations Log
	found         collector

	total, done  atomic.Int64 // records of both topics
	records      atomic.Int64 // of claims
	begun, ended atomic.Int64 // partitions
}

// New prepares a run. It does no I/O.
func New(cfg Config, record Record, claims, registrations Log) *Verifier {
	if cfg.Workers <= 0 {
		cfg.Workers = min(4, runtime.GOMAXPROCS(0))
	}
	if cfg.MaxDifferences <= 0 {
		cfg.MaxDifferences = 20
	}
	return &Verifier{cfg: cfg, record: record, claims: claims, registrations: registrations, found: collector{most: cfg.MaxDifferences}}
}

// Progress is how far a run is.
type Progress struct {
	// Done of Total records of both topics are read; Replayed are those of claims. Total is an estimate.
	Done, Total, Replayed int64
	// Ended of Partitions are done.
	Ended, Partitions int64
}

// Progress may be called while Run runs.
func (v *Verifier) Progress() Progress {
	return Progress{Done: v.done.Load(), Total: v.total.Load(), Replayed: v.records.Load(), Ended: v.ended.Load(), Partitions: v.begun.Load()}
}

// Run verifies, partition by partition, until all are done, ctx ends or something fails. The report is of what was seen
// until then.
func (v *Verifier) Run(ctx context.Context) (Report, error) {
	partitions, err := v.partitions(ctx)
	if err != nil {
		return v.found.end(), err
	}
	v.found.report.Of = len(partitions)
	v.begun.Store(int64(len(partitions)))
	if err := v.estimate(ctx, partitions); err != nil {
		return v.found.end(), err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	next := make(chan int32)
	for range min(v.cfg.Workers, len(partitions)) {
		workers.Go(func() {
			for p := range next {
				if err := v.partition(ctx, p); err != nil {
					cancel(fmt.Errorf("partition %d: %w", p, err))
				}
				v.ended.Add(1)
			}
		})
	}
	for _, p := range partitions {
		select {
		case next <- p:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
	return v.found.end(), context.Cause(ctx)
}

// partitions lists what is to be verified: the pinned ones, and whatever else there is something of.
func (v *Verifier) partitions(ctx context.Context) ([]int32, error) {
	all, err := v.record.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	for p := range v.cfg.Rules.Partitions {
		all = append(all, int32(p))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(v.cfg.Partitions) == 0 {
		return all, nil
	}
	wanted := slices.Compact(slices.Sorted(slices.Values(v.cfg.Partitions)))
	for _, p := range wanted {
		if !slices.Contains(all, p) {
			return nil, fmt.Errorf("%w: %d; there are %d", ErrPartition, p, len(all))
		}
	}
	return wanted, nil
}

// ErrSecret says that something was erased, and that there is no secret to tell what.
var ErrSecret = errors.New("names were erased, and there is no secret of security.erasure_secret_file")

// ErrPartition says that there is no such partition.
var ErrPartition = errors.New("no such partition")

// estimate counts the records that will be read.
func (v *Verifier) estimate(ctx context.Context, partitions []int32) error {
	for _, p := range partitions {
		for _, log := range []Log{v.claims, v.registrations} {
			start, end, err := bounds(ctx, log, p)
			if err != nil {
				return err
			}
			v.total.Add(end - start)
		}
	}
	return nil
}

// bounds are those of a partition, or of nothing where there is no such partition.
func bounds(ctx context.Context, log Log, partition int32) (start, end int64, err error) {
	start, end, err = log.Bounds(ctx, partition)
	if errors.Is(err, processor.ErrOutOfLog) {
		return 0, 0, nil
	}
	return start, end, err
}

// partition verifies one partition.
func (v *Verifier) partition(ctx context.Context, partition int32) error {
	c := checking{Verifier: v, partition: partition, state: newState(partition, v.cfg.Rules)}
	err := c.run(ctx)
	if c.snapshot != nil {
		c.snapshot.Close()
	}
	v.found.done(c.counts, err == nil)
	return err
}
