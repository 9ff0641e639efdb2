package processor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

// leave is what a former writer of a partition left: so many claims decided, none published.
func (r *rig) leave(p int32, n int) {
	r.Helper()
	s, err := r.record.Acquire(r.Context(), p, uuid.New())
	if err != nil {
		r.Fatal(err)
	}
	var records []processor.Received
	for i := range n {
		r.logs.send(p, fmt.Sprintf("Left%d", i))
		records = append(records, processor.Receive(r.logs.records[p][i], simRules))
	}
	d := processor.Decide(processor.Ledger{Partition: p, LogEpoch: 1, Rules: simRules}, records)
	last := records[n-1]
	err = r.record.Commit(r.Context(), []processor.Batch{{
		Fence: s.Fence, Next: int64(n), LogTime: d.LogTime, LastOffset: last.Offset, LastHash: last.Message.Record.Hash(),
		Rows: d.Rows, Changes: d.Changes,
	}})
	if err != nil {
		r.Fatal(err)
	}
}

// TestHaltedBacklog: what a halted partition has not published holds up nobody.
func TestHaltedBacklog(t *testing.T) {
	var leader gate
	withRig(t, func(r *rig) {
		leader.close()
		r.publisher.refuse = func(ctx context.Context, o *processor.Output) error {
			if o.Partition == 1 {
				return leader.pass(ctx)
			}
			return nil
		}
		r.leave(1, 40) // more than the lane may have unpublished
		s, _ := r.record.Standing(1)
		if err := r.record.Halt(r.Context(), s.Fence, "an operator's test"); err != nil {
			r.Fatal(err)
		}
	}, func(r *rig) {
		for i := range int64(10) {
			r.logs.send(0, fmt.Sprintf("N%d", i))
			r.pass(time.Second)
			r.decided(0, i+1)
		}
		leader.open()
		r.pass(5 * time.Second)
		if s := r.status(1); s.State != "halted" || s.Doing != "" {
			t.Errorf("partition 1 says %+v", s)
		}
	})
}

// TestTakeOverPublishesInLots: however much a former writer left, it is published about a batch at a time, in order.
func TestTakeOverPublishesInLots(t *testing.T) {
	var published []string // request ids
	withRig(t, func(r *rig) {
		r.leave(1, 43)
		r.publisher.refuse = func(_ context.Context, o *processor.Output) error {
			published = append(published, requestIDOf(o.Value))
			return nil
		}
	}, func(r *rig) {
		r.pass(5 * time.Second)
		if r.publisher.calls != 6 {
			t.Errorf("published in %d lots, where a batch is 8", r.publisher.calls)
		}
		if len(published) != 43 {
			t.Errorf("%d outputs of 43 rows", len(published))
		}
		for i, id := range published {
			if want := idOf(fmt.Sprintf("Left%d", i)).String(); id != want {
				t.Errorf("output %d is of %s, want %s", i, id, want)
			}
		}
		r.logs.send(1, "Next")
		r.pass(5 * time.Second)
		r.stop()
		if s, _ := r.record.Standing(1); s.NextOffset != 44 || s.PublishedThrough != 44 {
			t.Errorf("partition 1 is at %d, published through %d", s.NextOffset, s.PublishedThrough)
		}
	})
}
