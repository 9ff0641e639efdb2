//go:build !race

package postgres_test

import (
	"testing"

	"github.com/dibs-hq/dibs/dibstest/allocs"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
)

// What a claim costs on its way into a transaction, by a small batch and by a large one of 12 partitions.
func TestAllocations(t *testing.T) {
	record := new(postgres.Record)
	const small, large = 60, 2040
	batches := func(size int) []processor.Batch {
		standings := make([]processor.Standing, 12)
		for p := range standings {
			standings[p].Partition, standings[p].LogEpoch = int32(p), 1
		}
		load := newLoad()
		made, _, _ := load.batches(standings, size)
		load.decide(made, processor.Known{})
		return made
	}
	few, many := batches(small), batches(large)
	encode := func(by func([]processor.Batch) error, batches []processor.Batch) func() {
		return func() {
			if err := by(batches); err != nil {
				t.Fatal(err)
			}
		}
	}
	allocs.Check(t,
		allocs.Case{Name: "commit/in-one", Claims: small, Runs: 100, Run: encode(record.EncodeInOne, few)},
		allocs.Case{Name: "commit/by-copy", Claims: large, Runs: 10, Run: encode(record.EncodeByCopy, many)},
	)
}
