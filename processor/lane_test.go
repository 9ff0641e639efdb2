package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestStuckCommit: a lane whose database does not answer says so, and its gauges go on.
func TestStuckCommit(t *testing.T) {
	var database gate
	withRig(t, func(r *rig) {
		r.record.commit = func(ctx context.Context, _ []processor.Batch) error { return database.pass(ctx) }
	}, func(r *rig) {
		r.pass(time.Second)
		if s := r.status(0); s.State != "running" || s.Doing != "" || !s.Since.IsZero() {
			t.Errorf("it is idle, and says %+v", s)
		}
		database.close()
		sent := time.Now()
		r.logs.send(0, "A")
		r.logs.send(0, "B")
		r.pass(20 * time.Second)
		for p := range int32(3) { // they are all in one lane
			if s := r.status(p); s.Doing != "deciding" || s.Since.Sub(sent) > 500*time.Millisecond {
				t.Errorf("stuck since %v, it says %+v", sent, s)
			}
		}
		if age, lag := r.metric("dibs_oldest_undecided_seconds", 0), r.metric("dibs_consumer_lag_records", 0); age < 20 || lag != 2 {
			t.Errorf("20 s later the oldest of 2 records is %v s old, %v are undecided", age, lag)
		}
		r.pass(10 * time.Second)
		if age, stuck := r.metric("dibs_oldest_undecided_seconds", 0), r.metric("dibs_partition_stuck_seconds", 0); age < 30 || stuck < 29 {
			t.Errorf("30 s later it is %v s old, and the partition stuck for %v s", age, stuck)
		}
		database.open()
		r.pass(time.Second)
		r.decided(0, 2)
		if s := r.status(0); s.Doing != "" {
			t.Errorf("it is idle again, and says %+v", s)
		}
		for _, name := range []string{"dibs_oldest_undecided_seconds", "dibs_consumer_lag_records", "dibs_partition_stuck_seconds"} {
			if v := r.metric(name, 0); v != 0 {
				t.Errorf("nothing is left to do, and %s is %v", name, v)
			}
		}
	})
}

// TestFailingCommitIsStuck: the same where the database answers each attempt with an error.
func TestFailingCommitIsStuck(t *testing.T) {
	withRig(t, func(r *rig) {
		r.record.commit = func(context.Context, []processor.Batch) error { return errLost }
	}, func(r *rig) {
		r.pass(time.Second)
		sent := time.Now()
		r.logs.send(0, "A")
		r.pass(20 * time.Second)
		if s := r.status(0); s.Doing != "deciding" || s.Since.Sub(sent) > 500*time.Millisecond {
			t.Errorf("stuck since %v, it says %+v", sent, s)
		}
	})
}

// TestTroubleOfTheDatabase: what the database answers again and again is told of the partitions that are in
// the transaction, with the time of the first such answer; of a take-over, for its partition alone. It is forgotten when it is over.
func TestTroubleOfTheDatabase(t *testing.T) {
	t.Parallel()
	var why, away atomic.Pointer[error]
	now := func(p *atomic.Pointer[error]) error {
		if err := p.Load(); err != nil {
			return *err
		}
		return nil
	}
	withRig(t, func(r *rig) {
		r.record.commit = func(context.Context, []processor.Batch) error { return now(&why) }
		r.record.unpublished = func(p int32) error {
			if p == 1 {
				return now(&away)
			}
			return nil
		}
		away.Store(new(errors.New("no such table")))
	}, func(r *rig) {
		began := time.Now()
		r.pass(20 * time.Second)
		if s := r.status(1); s.State != "taking over" || s.Trouble != "no such table" || s.Since.Sub(began) > time.Second {
			t.Errorf("it cannot be taken over, and says %+v", s)
		}
		if s := r.status(0); s.Trouble != "" || !s.Since.IsZero() {
			t.Errorf("another is in no trouble, and says %+v", s)
		}
		if stuck := r.metric("dibs_partition_stuck_seconds", 1); stuck < 19 || stuck > 20 {
			t.Errorf("it is stuck for %v s", stuck)
		}
		away.Store(nil)
		r.pass(10 * time.Second)
		if s := r.status(1); s.State != "running" || s.Trouble != "" || !s.Since.IsZero() {
			t.Errorf("it is taken over, and says %+v", s)
		}

		sent := time.Now()
		why.Store(new(errors.New("no such function")))
		r.logs.send(0, "A")
		r.pass(time.Second)
		why.Store(new(errors.New("no such column")))
		r.pass(19 * time.Second)
		if s := r.status(0); s.Trouble != "no such column" || s.Since.Sub(sent) > 500*time.Millisecond {
			t.Errorf("in trouble since %v, it says %+v", sent, s)
		}
		if s := r.status(1); s.Trouble != "" || !s.Since.IsZero() {
			t.Errorf("another has nothing to decide, and says %+v", s)
		}
		if stuck := r.metric("dibs_partition_stuck_seconds", 0); stuck < 19 {
			t.Errorf("20 s later it is stuck for %v s", stuck)
		}
		why.Store(nil)
		r.pass(10 * time.Second)
		r.decided(0, 1)
		if s := r.status(0); s.Trouble != "" || !s.Since.IsZero() {
			t.Errorf("it is over, and it says %+v", s)
		}
	})
}

// TestStuckPublish: a leader of registrations that is away holds up its partition only, which says so. The others'
// outcomes count as published.
func TestStuckPublish(t *testing.T) {
	var leader gate
	withRig(t, func(r *rig) {
		leader.close()
		r.publisher.refuse = func(ctx context.Context, o *processor.Output) error {
			if o.Partition == 1 {
				return leader.pass(ctx)
			}
			return nil
		}
	}, func(r *rig) {
		for round := range 3 {
			for p := range int32(3) {
				r.logs.send(p, fmt.Sprintf("R%dp%d", round, p))
			}
			r.pass(10 * time.Second)
			for p := range int32(3) {
				want := int64(round + 1)
				r.decided(p, want)
				if p == 1 {
					want = 0
				}
				r.written(p, want)
			}
		}
		if s := r.status(1); s.Doing != "publishing" || time.Since(s.Since) < 29*time.Second {
			t.Errorf("partition 1 says %+v", s)
		}
		if s := r.status(0); s.Doing != "" {
			t.Errorf("partition 0 says %+v", s)
		}
		leader.open()
		r.pass(10 * time.Second)
		r.written(1, 3)
		if s := r.status(1); s.Doing != "" {
			t.Errorf("partition 1 says %+v", s)
		}
	})
}

// TestPublishedBacklog: a partition whose outputs are not acknowledged is set aside before it holds up the lane's others.
// It goes on when they are.
func TestPublishedBacklog(t *testing.T) {
	var leader gate
	withRig(t, func(r *rig) {
		leader.close()
		r.publisher.refuse = func(ctx context.Context, o *processor.Output) error {
			if o.Partition == 1 {
				return leader.pass(ctx)
			}
			return nil
		}
	}, func(r *rig) {
		for i := range 100 {
			r.logs.send(1, fmt.Sprintf("M%d", i))
		}
		r.pass(time.Second)
		if s := r.status(0); s.Doing != "waiting for outputs to be published" {
			t.Errorf("partition 0 says %+v", s)
		}
		r.pass(5 * time.Second)
		if s := r.status(1); s.State != "waiting" || s.Doing != "publishing" || s.NextOffset < 32 || s.NextOffset > 40 {
			t.Errorf("partition 1 says %+v", s)
		}
		for i := range int64(40) {
			r.logs.send(0, fmt.Sprintf("N%d", i))
			r.pass(200 * time.Millisecond)
			r.decided(0, i+1)
		}
		leader.open()
		r.pass(5 * time.Second)
		r.decided(1, 100)
		if s := r.status(1); s.State != "running" || s.Doing != "" {
			t.Errorf("partition 1 says %+v", s)
		}
	})
}

// TestLeaderAway: a leader of claims that is away costs the lane's other partitions nothing.
func TestLeaderAway(t *testing.T) {
	withRig(t, func(r *rig) {
		r.logs.leave(0, true)
		r.logs.leave(1, true)
		r.logs.send(2, "First")
	}, func(r *rig) {
		r.pass(200 * time.Millisecond)
		r.decided(2, 1)
		for i := range int64(40) {
			r.logs.send(2, fmt.Sprintf("N%d", i))
			r.pass(250 * time.Millisecond)
			r.decided(2, i+2)
		}
		if s := r.status(0); s.State != "checking" {
			t.Errorf("partition 0, whose leader is away, says %+v", s)
		}
		r.logs.send(1, "Waits")
		r.logs.leave(1, false)
		r.pass(9 * time.Second) // a pause and a check that has begun before
		r.decided(1, 1)
	})
}

// TestTakeOverIsQuick: asking the leader first does not make a take-over wait for a poll without an answer.
func TestTakeOverIsQuick(t *testing.T) {
	withRig(t, func(r *rig) {
		for p := range int32(3) {
			r.logs.send(p, fmt.Sprintf("P%d", p))
		}
	}, func(r *rig) {
		r.pass(75 * time.Millisecond) // 50 of them until the assignment is looked at
		for p := range int32(3) {
			r.decided(p, 1)
		}
	})
}

// TestRefusedOutcome: what a topic refuses is tried again alone, until the topic is mended.
func TestRefusedOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		partial bool
		copies  int // at most, of everything else
	}{"told which": {true, 1}, "not told which": {false, 2}} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			refused := idOf("Refused")
			var topic gate
			topic.close()
			withRig(t, func(r *rig) {
				r.publisher.partial = c.partial
				r.publisher.refuse = func(_ context.Context, o *processor.Output) error {
					topic.mu.Lock()
					defer topic.mu.Unlock()
					if topic.shut != nil && requestIDOf(o.Value) == refused.String() {
						return processor.ErrRefused
					}
					return nil
				}
			}, func(r *rig) {
				before := r.logs.send(1, "Before")
				r.logs.send(1, "Refused")
				behind := r.logs.send(1, "Behind")
				other := r.logs.send(2, "Other")
				r.pass(10 * time.Minute)
				r.written(2, 1)
				topic.open()
				r.pass(time.Minute)
				for _, id := range []uuid.UUID{before, refused, behind, other} {
					if n := r.publisher.copiesOf(id); n < 1 || n > c.copies {
						t.Errorf("%d copies of %s", n, id)
					}
				}
				r.written(1, 3)
			})
		})
	}
}

// TestUnacknowledgedOnly: after any other trouble as well only what is not acknowledged is published again.
func TestUnacknowledgedOnly(t *testing.T) {
	failures := 3
	withRig(t, func(r *rig) {
		r.publisher.partial = true
		r.publisher.refuse = func(_ context.Context, o *processor.Output) error {
			if requestIDOf(o.Value) == idOf("Second").String() && failures > 0 {
				failures--
				return errBroker
			}
			return nil
		}
	}, func(r *rig) {
		ids := []uuid.UUID{r.logs.send(1, "First"), r.logs.send(1, "Second"), r.logs.send(1, "Third")}
		r.pass(time.Minute)
		for _, id := range ids {
			if n := r.publisher.copiesOf(id); n != 1 {
				t.Errorf("%d copies of %s", n, id)
			}
		}
		r.written(1, 3)
	})
}

// TestStopDrains: a processor that is told to stop while an output is on its way waits for the acknowledgement, and writes
// it down: who takes over finds nothing left to do.
func TestStopDrains(t *testing.T) {
	const slow = 300 * time.Millisecond
	withRig(t, func(r *rig) {
		r.publisher.refuse = func(ctx context.Context, _ *processor.Output) error {
			select {
			case <-time.After(slow):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, func(r *rig) {
		r.pass(time.Second)
		id := r.logs.send(1, "A")
		deadline := time.Now().Add(time.Second)
		for s, _ := r.record.Standing(1); s.NextOffset < 1; s, _ = r.record.Standing(1) {
			if time.Now().After(deadline) {
				r.Fatal("not committed")
			}
			r.pass(time.Millisecond)
		}
		if n := r.publisher.copiesOf(id); n != 0 {
			t.Fatalf("%d copies are acknowledged before it is told to stop", n)
		}
		told := time.Now()
		r.stop()
		if took := time.Since(told); took > slow {
			t.Errorf("it took %v", took)
		}
		if n := r.publisher.copiesOf(id); n != 1 {
			t.Errorf("%d copies are acknowledged", n)
		}
		if s, _ := r.record.Standing(1); s.NextOffset != 1 || s.PublishedThrough != 1 {
			t.Errorf("decided through %d, published through %d", s.NextOffset, s.PublishedThrough)
		}
	})
}

// TestStopDoesNotDrainForEver: what no broker takes is left to the next owner, after Limits.Drain.
func TestStopDoesNotDrainForEver(t *testing.T) {
	var leader gate
	withRig(t, func(r *rig) {
		leader.close()
		r.publisher.partial = true
		r.publisher.refuse = func(ctx context.Context, o *processor.Output) error {
			if o.Partition == 1 {
				return leader.pass(ctx)
			}
			return nil
		}
	}, func(r *rig) {
		r.pass(time.Second)
		r.logs.send(1, "A")
		r.logs.send(2, "B")
		r.pass(time.Second)
		told := time.Now()
		r.stop()
		if took := time.Since(told); took != time.Second {
			t.Errorf("it took %v", took)
		}
		for p, want := range map[int32]int64{1: 0, 2: 1} {
			if s, _ := r.record.Standing(p); s.NextOffset != 1 || s.PublishedThrough != want {
				t.Errorf("partition %d is decided through %d, published through %d", p, s.NextOffset, s.PublishedThrough)
			}
		}
	})
}

// TestLookRefusesARecord: a record that cannot even be looked up is dead; its neighbours are decided.
func TestLookRefusesARecord(t *testing.T) {
	withRig(t, func(r *rig) {
		r.record.look = func(requests []processor.Request) error {
			if slices.ContainsFunc(requests, func(q processor.Request) bool { return q.ID == idOf("Odd") }) {
				return fmt.Errorf("a value: %w", processor.ErrData)
			}
			return nil
		}
		for _, label := range []string{"A", "B", "Odd", "C"} {
			r.logs.send(0, label)
		}
	}, func(r *rig) {
		r.pass(time.Second)
		r.decided(0, 4)
		if s := r.status(0); s.State != "running" {
			t.Errorf("it says %+v", s)
		}
		for i, row := range r.record.Rows(0) {
			if dead := row.Kind == processor.KindDead; dead != (i == 2) {
				t.Errorf("row %d is %s", i, row.Kind)
			}
		}
	})
}

// TestRetiredKeyOfAFollowUp: a release that comes behind the retirement of the key that it is signed with is dead, and
// counted as a follow-up that was none: the process has that key still.
func TestRetiredKeyOfAFollowUp(t *testing.T) {
	withRig(t, func(r *rig) {
		p := *simRules.Policies[names.Username]
		p.Version++
		retires, err := (&claims.PolicyActivated{Space: p.Space, Version: p.Version, Policy: &p, Rules: 1, Keys: []string{"k2"}}).Record("test", time.Now(), simSigning)
		if err != nil {
			t.Fatal(err)
		}
		ref := names.Ref{Space: names.Username, Key: "alice"}
		release := simSigning.Sign(claims.NewRecord(&claims.ReleaseRequested{
			About: claims.About{Space: ref.Space, Spelling: "alice"}, Owner: "u-1", ExpectedVersion: new(int64(1)),
		}, cloudevents.Event{ID: claims.ReleaseID(idOf("A"), names.Ref{Space: ref.Space, Key: "bobby"}), Source: "dibs", Principal: claims.Principal}, ref))
		for i, record := range []cloudevents.Record{retires, release} {
			record.Time = time.Now()
			at := claims.Partition(ref.RecordKey(), pinned)
			r.logs.records[at] = append(r.logs.records[at], processor.Message{Offset: int64(i), Record: record})
		}
	}, func(r *rig) {
		r.pass(time.Second)
		r.decided(claims.Partition("username/alice", pinned), 2)
		if err := testutil.GatherAndCompare(r.registry, strings.NewReader(`
			# HELP dibs_follow_ups_total Releases of names that were given up for another one; where one is rejected, or a dead letter, its owner has both.
			# TYPE dibs_follow_ups_total counter
			dibs_follow_ups_total{outcome="dead"} 1
			dibs_follow_ups_total{outcome="rejected"} 0
			dibs_follow_ups_total{outcome="released"} 0
			`), "dibs_follow_ups_total"); err != nil {
			t.Error(err)
		}
	})
}

// TestCommitArrivesLate: a commit of unknown fate that arrives after the row was read, while names are looked up again, is
// ours: the partition is not lost.
func TestCommitArrivesLate(t *testing.T) {
	var late []processor.Batch
	withRig(t, func(r *rig) {
		r.record.commit = func(_ context.Context, batches []processor.Batch) error {
			if late == nil {
				late = batches
				return errLost
			}
			return nil
		}
		r.record.look = func([]processor.Request) error {
			if len(late) == 0 {
				return nil
			}
			err := r.record.Record.Commit(t.Context(), late)
			late = late[:0]
			return err
		}
		r.logs.send(0, "A")
	}, func(r *rig) {
		r.pass(5 * time.Second)
		r.decided(0, 1)
		if s, _ := r.record.Standing(0); s.WriterEpoch != 1 || s.PublishedThrough != 1 {
			t.Errorf("taken over %d times, published through %d", s.WriterEpoch, s.PublishedThrough)
		}
		if n := r.metric("dibs_fenced_total", 0); n != 0 {
			t.Errorf("lost %v partitions", n)
		}
	})
}

// TestUnreadableUnpublished: rows that contradict each other halt their partition, and no other.
func TestUnreadableUnpublished(t *testing.T) {
	withRig(t, func(r *rig) {
		r.record.unpublished = func(p int32) error {
			if p == 1 {
				return fmt.Errorf("a row without an outcome: %w", processor.ErrConflict)
			}
			return nil
		}
		r.logs.send(0, "A")
		r.logs.send(1, "B")
	}, func(r *rig) {
		r.pass(time.Second)
		r.decided(0, 1)
		r.decided(1, 0)
		if s := r.status(1); s.State != "halted" || !strings.Contains(s.Reason, "a row without an outcome") {
			t.Errorf("it says %+v", s)
		}
		if s, _ := r.record.Standing(1); s.Halted == "" || s.WriterEpoch != 1 {
			t.Errorf("the row is %+v", s)
		}
		r.record.unpublished = nil
		if err := r.record.Resume(1); err != nil {
			t.Fatal(err)
		}
		r.pass(5 * time.Second)
		r.decided(1, 1)
	})
}

// TestHaltedAndTakenOver: a halted partition that somebody else has taken over is left alone for a while, like any other
// that is lost.
func TestHaltedAndTakenOver(t *testing.T) {
	withRig(t, func(r *rig) {
		r.record.commit = func(_ context.Context, batches []processor.Batch) error {
			if batches[0].Partition == 1 {
				return fmt.Errorf("a name: %w", processor.ErrConflict)
			}
			return nil
		}
		r.logs.send(1, "A")
	}, func(r *rig) {
		r.pass(time.Second)
		if s := r.status(1); s.State != "halted" {
			t.Fatalf("it says %+v", s)
		}
		other := idOf("another writer")
		if _, err := r.record.Acquire(t.Context(), 1, other); err != nil {
			t.Fatal(err)
		}
		r.pass(6 * time.Second)
		if s, _ := r.record.Standing(1); s.WriterID != other {
			t.Error("taken back at once")
		}
		r.pass(10 * time.Second)
		if s, _ := r.record.Standing(1); s.WriterID == other {
			t.Error("not taken back, although it is still assigned")
		}
	})
}
