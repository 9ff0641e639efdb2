package kafka

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/processor"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// away makes partitions of a topic refuse records.
func away(cluster *kfake.Cluster, topic string, partitions ...int32) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: partitions, Err: kerr.NotEnoughReplicas, Count: -1})
}

// However much waits for partitions whose leader is away, the others' outputs go out.
func TestOutputsOfOthersAreNotHeldUp(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 8)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{MaxQueuedRecords: 100})
	run(t, p)
	h := away(cluster, registrationsName, 1, 2, 3, 4, 5)
	ctx := within(t, 20*time.Second)
	var stuck sync.WaitGroup
	for partition := int32(1); partition <= 5; partition++ {
		stuck.Go(func() {
			out := make([]processor.Output, 150)
			for i := range out {
				out[i] = processor.Output{Partition: partition, Record: value("%d", i)}
			}
			if err := p.Publisher().Publish(ctx, out); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "they have what they may have", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forOutputs.records >= 80
	})
	for range 20 {
		if err := p.Publisher().Publish(within(t, 5*time.Second), outputs(50, 1)); err != nil {
			t.Fatal("outputs of a partition that is well:", err)
		}
	}
	h.Remove()
	stuck.Wait()
	for partition := int32(1); partition <= 5; partition++ {
		same(t, numbers(150), values(readAll(t, c, c.Registrations(), partition, 150)))
	}
}

// A partition whose leader does not take claims is known as such while somebody waits for it; when nobody does, the next
// claim finds out.
func TestStalled(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 2)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	claims := p.Claims()
	if _, err := claims.Publish(within(t, 5*time.Second), 1, value("well")); err != nil {
		t.Fatal(err)
	}
	h := away(cluster, claimsName, 1)
	w, err := claims.Start(1, value("waits"))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "it is known", 5*time.Second, func() bool { return claims.Stalled(1) > 300*time.Millisecond })
	if s := claims.Stalled(0); s != 0 {
		t.Errorf("the partition beside it has been stalled for %s", s)
	}
	if _, err := w.GiveUp(context.Canceled); !errors.Is(err, api.ErrNotPublished) && !errors.Is(err, api.ErrUnknown) {
		t.Errorf("given up: %v", err)
	}
	await(t, "nobody waits", 5*time.Second, func() bool { return claims.Stalled(1) == 0 })
	h.Remove()
	if _, err := claims.Publish(within(t, 5*time.Second), 1, value("again")); err != nil {
		t.Fatal(err)
	}
	if s := claims.Stalled(1); s != 0 {
		t.Errorf("it is well, and has been stalled for %s", s)
	}
}
