package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/processor"
)

// outcomes collects what a tail hands on.
type outcomes struct {
	mu  sync.Mutex
	got []string
}

func (o *outcomes) handle(_ context.Context, partition int32, r cloudevents.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, fmt.Sprintf("%d/%s", partition, r.Value))
}

func (o *outcomes) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.got)
}

// announce publishes a numbered outcome on a partition of registrations.
func announce(t testing.TB, p *Producer, partition int32, i int) {
	t.Helper()
	if err := p.Publisher().Publish(within(t, 10*time.Second), []processor.Output{{Partition: partition, Record: value("%d", i)}}); err != nil {
		t.Fatal(err)
	}
}

// A tail sees everything from the moment it is ready, and nothing from before.
func TestTail(t *testing.T) {
	dibstest.Kafka(t) // starts it, where it is ours
	noLeaks(t)
	c := broker(t, 3)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	for i := range 10 {
		announce(t, p, int32(i%3), -1)
	}
	var seen outcomes
	tail := NewTail(c, seen.handle)
	run(t, tail)
	<-tail.Ready()
	var want []string
	for i := range 30 {
		announce(t, p, int32(i%3), i)
		want = append(want, fmt.Sprintf("%d/%d", i%3, i))
		await(t, "the outcome comes", 2*time.Second, func() bool { return seen.count() == i+1 })
	}
	same(t, want, seen.got)
	if n := tail.Behind(); n != 0 {
		t.Errorf("behind by %d", n)
	}
	if age := tail.Age(0); age > time.Second {
		t.Errorf("age is %v", age)
	}
}

// A tail that cannot read says how long ago it could.
func TestTailRidesOutFaults(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 2, kfake.NumBrokers(2))
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	var seen outcomes
	tail := NewTail(c, seen.handle)
	run(t, tail)
	<-tail.Ready()
	n := 0
	comes := func(what string) {
		t.Helper()
		announce(t, p, int32(n%2), n)
		n++
		await(t, what, 5*time.Second, func() bool { return seen.count() == n })
	}
	comes("at first")
	for i := range 6 {
		if err := cluster.MoveTopicPartition(registrationsName, int32(i%2), int32(i/2%2)); err != nil {
			t.Fatal(err)
		}
		comes("after a move")
		comes("after a move")
		cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
		comes("after a cut")
		comes("after a cut")
	}
	h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: registrationsName, Partitions: []int32{1}, Err: kerr.KafkaStorageError, Count: -1})
	await(t, "age grows", 5*time.Second, func() bool { return tail.Age(1) > 1500*time.Millisecond })
	if age := tail.Age(0); age > time.Second {
		t.Errorf("the partition beside it was last read %s ago", age)
	}
	if hits := h.Hits(); hits > 60 {
		t.Errorf("a partition that fails was tried %d times", hits)
	}
	h.Remove()
	await(t, "age falls", 5*time.Second, func() bool { return tail.Age(1) < time.Second })
	comes("after a fault")
	comes("after a fault")
}

// Where a tail's place in the log is gone, it goes on at the end.
func TestTailJumps(t *testing.T) {
	t.Parallel()
	c := broker(t, 1)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	for i := range 10 {
		announce(t, p, 0, i)
	}
	var seen outcomes
	tail := NewTail(c, seen.handle)
	run(t, tail)
	<-tail.Ready()
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the topics are created again", 20*time.Second, func() bool {
		r, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 1})
		return err == nil && !r.Topics[1].Existed
	})
	announce(t, p, 0, 100)
	await(t, "the tail has jumped", 20*time.Second, func() bool { return counter(t, c.metrics.tailJumps) > 0 && tail.Age(0) < time.Second })
	announce(t, p, 0, 101)
	await(t, "an outcome comes", 10*time.Second, func() bool { return seen.count() > 0 })
}

// Partitions that are added while the tail runs are read from their start.
func TestTailGrows(t *testing.T) {
	before := growthCheck
	growthCheck = 200 * time.Millisecond
	t.Cleanup(func() { growthCheck = before })
	c := broker(t, 1)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	var seen outcomes
	tail := NewTail(c, seen.handle)
	run(t, tail)
	<-tail.Ready()
	r, err := kadm.NewClient(other(t, c)).UpdatePartitions(t.Context(), 3, c.Registrations())
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	announce(t, p, 2, 1)
	announce(t, p, 0, 2)
	await(t, "both come", 10*time.Second, func() bool { return seen.count() == 2 })
}
