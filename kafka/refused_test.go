package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/processor"
)

// K7: a record that is too large, or has a time that is out of range, fails alone.
func TestRefusedRecordFailsAlone(t *testing.T) {
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{MaxBatchBytes: 4 << 20})
	ctx := within(t, 20*time.Second)
	large := cloudevents.Record{Value: make([]byte, 2<<20)}
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			if i == 20 {
				_, err := p.Claims().Publish(ctx, 0, large)
				wantIs(t, err, api.ErrNotPublished)
				failed.Add(1)
				return
			}
			if _, err := p.Claims().Publish(ctx, 0, value("%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		err := p.Publisher().Publish(ctx, append(outputs(30, 1), processor.Output{Record: large}))
		wantIs(t, err, processor.ErrRefused)
		same(t, numbers(30), values(readAll(t, c, c.Registrations(), 0, 30)))
	})
	await(t, "all are queued", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forClaims.records == 50
	})
	run(t, p) // only now, so that they are one batch
	wg.Wait()
	if failed.Load() != 1 {
		t.Error("the large record was not refused")
	}
}

// A batch that the broker refuses without saying for which record is halved until the record is alone.
func TestRefusedRecordIsSearchedFor(t *testing.T) {
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	var requests int
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		in := recordReader{}
		if err := in.read(req.Topics[0].Partitions[0].Records); err != nil {
			t.Error(err)
		}
		requests++
		for _, m := range in.messages {
			if v := string(m.Value); v == "13" || v == "77" {
				return refuseAll(req, kerr.InvalidRecord), nil, true
			}
		}
		return nil, nil, false
	})
	var out []processor.Output
	for i := range 1000 {
		out = append(out, processor.Output{Record: value("%d", i)})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		wantIs(t, p.Publisher().Publish(within(t, 10*time.Second), out), processor.ErrRefused)
	})
	run(t, p)
	wg.Wait()
	want := numbers(1000)
	want = append(append(append([]string{}, want[:13]...), want[14:77]...), want[78:]...)
	same(t, want, values(readAll(t, c, c.Registrations(), 0, 998)))
	if requests > 80 {
		t.Errorf("it took %d requests", requests)
	}
}

// The error of a publication says what is left of it: not one of the outputs that are acknowledged.
func TestPublishTellsWhatIsLeft(t *testing.T) {
	cluster := fake(t, 3)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	large := cloudevents.Record{Value: make([]byte, 2<<20)}
	left := func(err error) []int {
		t.Helper()
		e, ok := errors.AsType[processor.Partial](err)
		if !ok {
			t.Fatalf("the error is %v", err)
		}
		return e.Unacknowledged()
	}

	out := outputs(10, 3) // of partition 0, 1, 2, 0, 1, 2, ...
	out[7].Record, out[12].Record, out[14].Record = large, large, large
	err := p.Publisher().Publish(within(t, 20*time.Second), out)
	wantIs(t, err, processor.ErrRefused)
	same(t, []int{7, 12, 14}, left(err))
	for partition, want := range []int{9, 9, 9} {
		if n := len(readAll(t, c, c.Registrations(), int32(partition), want)); n != want {
			t.Errorf("there are %d records of partition %d", n, partition)
		}
	}

	// A leader that takes nothing, beside two that do; then the caller goes.
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: registrationsName, Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: -1})
	ctx, cancel := context.WithCancel(within(t, 20*time.Second))
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- p.Publisher().Publish(ctx, outputs(2, 3)) }()
	await(t, "the others are acknowledged", 10*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forOutputs.records == 2
	})
	cancel()
	err = <-result
	wantIs(t, err, context.Canceled)
	same(t, []int{1, 4}, left(err))
	fault.Remove()

	// One that cannot be queued: what is behind it has not been, either.
	out = outputs(1, 3)
	out[1].Topic = 99
	err = p.Publisher().Publish(within(t, 20*time.Second), out)
	wantIs(t, err, processor.ErrRefused)
	if got := left(err); !slices.Contains(got, 1) || !slices.Contains(got, 2) {
		t.Errorf("left are %v", got)
	}
}

func refuseAll(req *kmsg.ProduceRequest, code *kerr.Error) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = topic.Topic
		for _, partition := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = partition.Partition, code.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// The real broker says which records of a batch it refuses; the others go through at the next attempt.
func TestClockIsTheBrokers(t *testing.T) {
	dibstest.NeedRealKafka(t)
	c := broker(t, 1)
	p := NewProducer(c, ProducerConfig{})
	ctx := within(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			r := value("%d", i)
			switch i {
			case 5:
				r.Time = time.Now().Add(time.Minute)
			case 6:
				r.Time = time.Now().Add(-time.Hour)
			}
			_, err := p.Claims().Publish(ctx, 0, r)
			if i == 5 || i == 6 {
				wantIs(t, err, ErrClock, api.ErrNotPublished)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "all are queued", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forClaims.records == 20
	})
	run(t, p)
	wg.Wait()
	if n := sampleCount(t, c.metrics.requests.WithLabelValues("produce")); n > 3 {
		t.Errorf("it took %d requests", n)
	}
}
