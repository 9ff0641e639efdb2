//go:build !race

package kafka

import (
	"testing"

	"github.com/dibs-hq/dibs/dibstest/allocs"
)

// What a record costs to send and to fetch, in batches of 1,000.
func TestAllocations(t *testing.T) {
	const records = 1000
	pending := asPending(benchRecords(records))
	batch := appendBatch(nil, pending, now)
	room := make([]byte, 0, 2*len(batch))
	allocs.Check(t,
		allocs.Case{Name: "encode", Claims: records, Runs: 20, Run: func() { room = appendBatch(room[:0], pending, now) }},
		allocs.Case{Name: "decode", Claims: records, Runs: 20, Run: func() {
			in := recordReader{}
			if err := in.read(batch); err != nil || len(in.messages) != records {
				t.Fatal(err)
			}
		}},
	)
}
