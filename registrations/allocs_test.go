//go:build !race

package registrations_test

import (
	"testing"

	"github.com/dibs-hq/dibs/dibstest/allocs"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// What an outcome costs to write, to pass over, to read, and to wait for.
func TestAllocations(t *testing.T) {
	yes, no := accepted(), rejected(registrations.Taken)
	record := yes.Record()
	w, id := registrations.NewWaiter(registrations.WaiterConfig{}), uuid.New()
	allocs.Check(t,
		allocs.Case{Name: "record/accepted", Run: func() { yes.Record() }},
		allocs.Case{Name: "record/taken", Run: func() { no.Record() }},
		allocs.Case{Name: "peek", Run: func() { registrations.PeekRequestID(record.Value) }},
		allocs.Case{Name: "decode", Run: func() {
			if _, err := registrations.Decode(record); err != nil {
				t.Fatal(err)
			}
		}},
		allocs.Case{Name: "wait", Run: func() {
			ticket, err := w.Expect(id, 1)
			if err != nil {
				t.Fatal(err)
			}
			w.Deliver(registrations.Outcome{RequestID: id, Partition: 1})
			<-ticket.Done()
			ticket.Release()
		}},
	)
}
