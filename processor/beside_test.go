package processor_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

// besideRig is a rig of two transactions, a further one from two records on. While the gate is shut, what has partition 0 in it
// is not committed.
func besideRig(t *testing.T, test func(*rig, *gate)) {
	var database gate
	withRig(t, func(r *rig) {
		r.limits.Transactions, r.limits.Beside = 2, 2
		r.record.commit = func(ctx context.Context, batches []processor.Batch) error {
			if slices.ContainsFunc(batches, func(b processor.Batch) bool { return b.Partition == 0 }) {
				return database.pass(ctx)
			}
			return nil
		}
	}, func(r *rig) {
		r.pass(time.Second)
		test(r, &database)
	})
}

// TestTransactionsBeside: beside a transaction that is under way another one decides partitions that are not in it, and
// publishes without waiting for it. What comes of those that are is decided behind it, in order.
func TestTransactionsBeside(t *testing.T) {
	besideRig(t, func(r *rig, database *gate) {
		database.close()
		r.logs.send(0, "A")
		r.pass(5 * time.Millisecond)
		r.logs.send(0, "B")
		r.logs.send(0, "C")
		alone := r.logs.send(1, "D")
		r.pass(20 * time.Millisecond)
		r.decided(1, 0) // one is not worth a transaction of its own
		second := r.logs.send(2, "E")
		r.pass(20 * time.Millisecond)
		r.decided(0, 0)
		r.decided(1, 1)
		r.decided(2, 1)
		for _, id := range []uuid.UUID{alone, second} {
			if n := r.publisher.copiesOf(id); n != 1 {
				t.Errorf("an outcome is published %d times before the other transaction has ended", n)
			}
		}
		r.pass(time.Second)
		for p, want := range []string{"deciding", "", ""} {
			if s := r.status(int32(p)); s.Doing != want || s.State != "running" {
				t.Errorf("partition %d says %+v, want %q", p, s, want)
			}
		}
		for i, label := range []string{"F", "G", "H"} {
			r.logs.send(2, label)
			r.pass(20 * time.Millisecond)
			r.decided(2, int64(2+i)) // alone, for the other one may be stuck
		}
		database.open()
		r.pass(50 * time.Millisecond)
		r.decided(0, 3)
		if s := r.status(0); s.Doing != "" {
			t.Errorf("it is idle, and says %+v", s)
		}
	})
}

// TestAllTransactionsUnderWay: there are no more than were asked for.
func TestAllTransactionsUnderWay(t *testing.T) {
	besideRig(t, func(r *rig, database *gate) {
		database.close()
		held := r.record.commit
		var under atomic.Int32
		r.record.commit = func(ctx context.Context, _ []processor.Batch) error {
			if n := under.Add(1); n > 2 {
				t.Errorf("%d at once", n)
			}
			defer under.Add(-1)
			return held(ctx, []processor.Batch{{}})
		}
		r.logs.send(0, "A")
		r.pass(5 * time.Millisecond)
		r.logs.send(1, "B")
		r.logs.send(1, "C")
		r.pass(5 * time.Millisecond)
		r.logs.send(2, "D")
		r.logs.send(2, "E")
		r.pass(20 * time.Second)
		for p := range int32(3) {
			if s := r.status(p); s.Doing != "deciding" || time.Since(s.Since) < 19*time.Second {
				t.Errorf("partition %d waits for the transactions under way, and says %+v", p, s)
			}
			r.decided(p, 0)
		}
		database.open()
		r.pass(50 * time.Millisecond)
		for p, next := range []int64{1, 2, 2} {
			r.decided(int32(p), next)
		}
	})
}

// TestStopBesideATransaction: a processor that is told to stop publishes what is committed meanwhile.
func TestStopBesideATransaction(t *testing.T) {
	besideRig(t, func(r *rig, database *gate) {
		database.close()
		id := r.logs.send(0, "A")
		r.pass(5 * time.Millisecond)
		go func() {
			time.Sleep(100 * time.Millisecond)
			database.open()
		}()
		r.stop()
		r.decided(0, 1)
		if n := r.publisher.copiesOf(id); n != 1 {
			t.Errorf("its outcome is published %d times", n)
		}
		r.written(0, 1)
	})
}

// TestForgetBesideATransaction: nothing is forgotten of a partition that is in a transaction: that may repeat it.
func TestForgetBesideATransaction(t *testing.T) {
	var forgotten [3]atomic.Int64 // how often something was, by partition
	var database gate
	withRig(t, func(r *rig) {
		r.limits.Transactions, r.limits.Beside, r.limits.Retention = 2, 1, 400*24*time.Hour
		r.record.commit = func(ctx context.Context, batches []processor.Batch) error {
			if batches[0].Partition == 0 {
				return database.pass(ctx)
			}
			return nil
		}
		r.record.forget = func(p int32) { forgotten[p].Add(1) }
	}, func(r *rig) {
		r.pass(time.Second)
		r.logs.send(0, "A")
		r.pass(time.Second)
		r.logs.send(1, "B")
		r.pass(2 * time.Minute)
		for p := range 2 {
			if forgotten[p].Load() == 0 {
				t.Fatalf("of partition %d nothing is forgotten", p)
			}
		}
		database.close()
		r.logs.send(0, "C")
		r.pass(time.Second)
		before := [2]int64{forgotten[0].Load(), forgotten[1].Load()}
		r.pass(5 * time.Minute)
		if n := forgotten[0].Load() - before[0]; n > 0 {
			t.Errorf("partition 0 is in a transaction, and %d times something of it was forgotten", n)
		}
		if forgotten[1].Load() == before[1] {
			t.Error("of partition 1 nothing is forgotten meanwhile")
		}
		database.open()
		r.pass(2 * time.Minute)
		if forgotten[0].Load() == before[0] {
			t.Error("of partition 0 nothing is forgotten behind it")
		}
	})
}

// TestLockedRowHoldsUpItsPartitionOnly: what the database refuses to commit together is tried apart, so that a row that
// somebody holds locked keeps its own partition waiting, and says so.
func TestLockedRowHoldsUpItsPartitionOnly(t *testing.T) {
	locked := errors.New("canceling statement due to lock timeout")
	var lock atomic.Bool
	withRig(t, func(r *rig) {
		r.limits.Transactions, r.limits.Beside = 2, 2
		r.record.commit = func(_ context.Context, batches []processor.Batch) error {
			if lock.Load() && slices.ContainsFunc(batches, func(b processor.Batch) bool { return b.Partition == 0 }) {
				time.Sleep(2 * time.Second)
				return locked
			}
			return nil
		}
	}, func(r *rig) {
		r.pass(time.Second)
		lock.Store(true)
		began := time.Now()
		ids := []uuid.UUID{r.logs.send(0, "A"), r.logs.send(1, "B"), r.logs.send(2, "C")} // in one transaction, most of all
		r.pass(3 * time.Second)
		for p := range int32(3) {
			r.decided(p, int64(min(p, 1)))
		}
		for i := range int64(20) {
			r.logs.send(1, fmt.Sprintf("M%d", i))
			r.pass(400 * time.Millisecond)
			r.decided(1, i+2)
		}
		s := r.status(0)
		if s.Doing != "deciding" || s.Since.Sub(began) > 3*time.Second || s.Trouble != locked.Error() {
			t.Errorf("partition 0 is locked since %v, and says %+v", began, s)
		}
		if s := r.status(1); s.Doing != "" || s.Trouble != "" {
			t.Errorf("partition 1 says %+v", s)
		}
		lock.Store(false)
		r.pass(10 * time.Second)
		r.decided(0, 1)
		for i, id := range ids {
			if n := r.publisher.copiesOf(id); n != 1 {
				t.Errorf("the outcome of partition %d is published %d times", i, n)
			}
		}
		if s := r.status(0); s.Doing != "" || s.Trouble != "" {
			t.Errorf("it is over, and partition 0 says %+v", s)
		}
	})
}

// TestTakeOverBeside: a partition whose row somebody holds locked is taken over later, and keeps no other one waiting.
func TestTakeOverBeside(t *testing.T) {
	var row gate
	withRig(t, func(r *rig) {
		r.limits.Transactions = 2
		row.close()
		r.record.unpublished = func(p int32) error {
			if p == 0 {
				return row.pass(context.Background())
			}
			return nil
		}
		r.logs.send(1, "A")
		r.logs.send(2, "B")
	}, func(r *rig) {
		r.pass(300 * time.Millisecond)
		r.decided(1, 1)
		r.decided(2, 1)
		for i := range int64(20) {
			r.logs.send(2, fmt.Sprintf("M%d", i))
			r.pass(200 * time.Millisecond)
			r.decided(2, i+2)
		}
		if s := r.status(0); s.State != "taking over" || s.Doing != "taking over" || time.Since(s.Since) < 4*time.Second {
			t.Errorf("partition 0 says %+v", s)
		}
		r.logs.send(0, "C")
		row.open()
		r.pass(300 * time.Millisecond)
		r.decided(0, 1)
	})
}

// TestLockedRowOfAnIdlePartition: what is published is written down beside everything else, so that nobody waits for the row
// of a partition that has nothing to decide. The others' is written down meanwhile, and its own when it is free.
func TestLockedRowOfAnIdlePartition(t *testing.T) {
	var lock atomic.Bool
	lock.Store(true)
	withRig(t, func(r *rig) {
		r.record.published = func(cursors []processor.Cursor) error {
			if lock.Load() && slices.ContainsFunc(cursors, func(c processor.Cursor) bool { return c.Partition == 0 }) {
				time.Sleep(2 * time.Second)
				return errors.New("canceling statement due to lock timeout")
			}
			return nil
		}
	}, func(r *rig) {
		r.pass(time.Second)
		r.logs.send(0, "A")
		r.logs.send(2, "B")
		for i := range int64(40) {
			r.pass(300 * time.Millisecond)
			r.logs.send(1, fmt.Sprintf("M%d", i))
			r.pass(20 * time.Millisecond)
			r.decided(1, i+1)
		}
		r.written(2, 1)
		lock.Store(false)
		r.pass(10 * time.Second)
		for p, want := range []int64{1, 40, 1} {
			r.written(int32(p), want)
		}
	})
}

// TestStopBeforeItIsTriedAgain: what was refused together waits to be tried apart while a halt is written down, and then the
// processor is told to stop. It writes down what of it is published, for the next owner.
func TestStopBeforeItIsTriedAgain(t *testing.T) {
	var first, second gate // what the one transaction waits for, and the other
	var writable atomic.Bool
	withRig(t, func(r *rig) {
		r.limits.Transactions, r.limits.Beside = 2, 1
		r.record.published = func([]processor.Cursor) error {
			if !writable.Load() {
				return errors.New("the database is starting up")
			}
			return nil
		}
		r.record.halt = func(ctx context.Context) { <-ctx.Done() }
		r.record.commit = func(ctx context.Context, batches []processor.Batch) error {
			if batches[0].Partition == 0 {
				return cmp.Or(first.pass(ctx), fmt.Errorf("a name was changed: %w", processor.ErrConflict))
			}
			err := second.pass(ctx)
			if err == nil && len(batches) > 1 {
				err = fmt.Errorf("one of them: %w", processor.ErrData)
			}
			return err
		}
	}, func(r *rig) {
		r.pass(time.Second)
		r.logs.send(1, "X")
		r.logs.send(2, "Y")
		r.pass(time.Second)
		first.close()
		second.close()
		r.logs.send(0, "A")
		r.pass(20 * time.Millisecond)
		r.logs.leave(1, true)
		r.logs.leave(2, true)
		r.logs.send(1, "B")
		r.logs.send(2, "C")
		r.logs.arrive(1, 2)
		r.pass(100 * time.Millisecond)
		first.open()
		r.pass(20 * time.Millisecond)
		second.open()
		r.pass(20 * time.Millisecond)
		writable.Store(true)
		r.stop()
		for p, next := range []int64{0, 1, 1} {
			r.decided(int32(p), next)
			r.written(int32(p), next)
		}
	})
}

// TestLackingBehindARefusedRecord: a partition is halted at the record that asks for what is lacking here, also where the
// database refuses one before it.
func TestLackingBehindARefusedRecord(t *testing.T) {
	withRig(t, func(r *rig) {
		r.record.look = func(requests []processor.Request) error {
			if slices.ContainsFunc(requests, func(q processor.Request) bool { return q.ID == idOf("A") }) {
				return fmt.Errorf("it is refused: %w", processor.ErrData)
			}
			return nil
		}
	}, func(r *rig) {
		r.pass(time.Second)
		r.logs.leave(0, true)
		r.logs.send(0, "A")
		r.logs.send(0, "B")
		p := *names.Builtin()[names.Username]
		p.Version = 9
		record, err := (&claims.PolicyActivated{Space: p.Space, Version: p.Version, Policy: &p, Rules: 99, Keys: []string{"k9"}}).Record("test", time.Now(), simSigning)
		if err != nil {
			t.Fatal(err)
		}
		r.logs.append(0, record)
		r.logs.leave(0, false)
		r.pass(10 * time.Second)
		if s := r.status(0); s.State != "halted" || s.NextOffset != 2 {
			t.Errorf("partition 0 says %+v", s)
		}
	})
}
