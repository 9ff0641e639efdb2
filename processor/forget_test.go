package processor_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/google/uuid"
)

// forgettingRecord says what is asked of Forget, and answers in its place.
type forgettingRecord struct {
	*memory.Record
	asked []processor.Fence
	keeps []time.Duration
	at    []time.Time
	say   func(at processor.Fence) (processor.Forgotten, error)
	clock func() time.Time
	takes func()
}

func (r *forgettingRecord) Forget(_ context.Context, at processor.Fence, keep time.Duration, most int) (processor.Forgotten, error) {
	if keep < 400*24*time.Hour || most < 1 {
		return processor.Forgotten{}, errors.New("asked for something else than was set")
	}
	r.asked, r.keeps, r.at = append(r.asked, at), append(r.keeps, keep), append(r.at, r.clock())
	r.takes()
	return r.say(at)
}

// TestLaneForgets: a lane forgets a little of one partition after the other, at most a tenth of its time, and looks again after a
// minute where there was no more; never where decisions are kept for ever.
func TestLaneForgets(t *testing.T) {
	for _, keep := range []time.Duration{0, 400 * 24 * time.Hour} {
		s := newSweptLane(t, 0, 1)
		record := &forgettingRecord{Record: s.record.Record, clock: func() time.Time { return s.now }, takes: func() { s.now = s.now.Add(10 * time.Millisecond) }}
		left := map[int32]int{0: 3, 1: 2}
		record.say = func(at processor.Fence) (processor.Forgotten, error) {
			left[at.Partition]--
			return processor.Forgotten{Rows: 7, More: left[at.Partition] > 0}, nil
		}
		lane, err := processor.NewLane(processor.Config{
			Rules: processor.Rules{Partitions: len(s.logs), Policies: simPolicies(), Keys: simKeys}, Signing: simSigning, Topic: "claims", Clock: (*handClock)(s),
			Limits: processor.Limits{Retention: keep},
		}, record, (*sweptPublisher)(s), (*listSource)(s))
		if err != nil {
			t.Fatal(err)
		}
		s.lane = lane
		lane.Beside(func(f func()) { f() })
		lane.Assign([]int32{0, 1}, make(chan struct{}))
		s.step()
		if len(record.asked) != 0 {
			t.Fatal("of partitions that decided nothing something is to be forgotten")
		}
		for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} { // of both partitions
			s.reserve(name, 3600)
		}
		for range 200 {
			s.step()
			s.now = s.now.Add(20 * time.Millisecond)
		}
		if keep == 0 {
			if len(record.asked) != 0 {
				t.Fatal("what is kept for ever was forgotten")
			}
			continue
		}
		if len(record.asked) != 5 || left[0] != 0 || left[1] != 0 {
			t.Fatalf("forgotten %d times, left are %v", len(record.asked), left)
		}
		for i := range record.at[1:] {
			if d := record.at[i+1].Sub(record.at[i]); d < 100*time.Millisecond {
				t.Errorf("a call of 10 ms is followed by the next after %s", d)
			}
		}
		for _, asked := range record.keeps {
			if asked != keep {
				t.Errorf("what is older than %s was forgotten, not than %s", asked, keep)
			}
		}
		if record.asked[0].Partition == record.asked[1].Partition {
			t.Error("the same partition twice, while another waits")
		}
		s.now = s.now.Add(time.Minute)
		s.step()
		if len(record.asked) != 6 {
			t.Errorf("asked %d times a minute later", len(record.asked))
		}
		// A record from years ahead, which no broker has refused, takes the partition's log time along, and makes nothing old.
		const years = 3 * 365 * 24 * time.Hour
		c := &claims.UsernameClaimed{Space: names.Username, Spelling: "frank", Owner: "u-1", Mode: claims.ModeRegister}
		ahead := claims.NewRecord(c, cloudevents.Event{ID: uuid.New(), Source: "test"}, names.Ref{Space: names.Username, Key: "frank"})
		ahead.Time = s.now.Add(years).Truncate(time.Millisecond)
		s.write(ahead)
		for range 4 {
			s.step()
			s.now = s.now.Add(time.Minute)
		}
		if longest := slices.Max(record.keeps); longest < keep+years-time.Hour {
			t.Errorf("behind a record from years ahead what is older than %s by it was forgotten", longest)
		}
		record.say = func(processor.Fence) (processor.Forgotten, error) { return processor.Forgotten{}, processor.ErrFenced }
		s.now = s.now.Add(time.Minute)
		s.step()
		s.step() // and goes on
	}
}
