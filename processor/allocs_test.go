//go:build !race

package processor_test

import (
	"testing"

	"github.com/dibs-hq/dibs/dibstest/allocs"
	"github.com/dibs-hq/dibs/processor"
)

// What a claim costs between fetch and publish, in batches of 2,000.
func TestAllocations(t *testing.T) {
	const records, runs = 2000, 10
	rules, known, messages := fifthTaken(records)
	received := make([]processor.Received, records)
	ledger := processor.Ledger{LogEpoch: 1, Rules: rules, Known: known}
	var decision processor.Decision
	allocs.Check(t,
		allocs.Case{Name: "receive", Claims: records, Runs: runs, Run: func() {
			for i := range messages {
				received[i] = processor.Receive(messages[i], rules)
			}
		}},
		allocs.Case{Name: "decide", Claims: records, Runs: runs, Run: func() { decision = processor.Decide(ledger, received) }},
		allocs.Case{Name: "outputs", Claims: records, Runs: runs, Run: func() {
			for i := range decision.Rows {
				decision.Rows[i].Outcome.Record()
			}
		}},
	)
}
