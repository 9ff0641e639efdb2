package kafka

import (
	"context"
	"errors"
	"fmt"
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

func value(format string, args ...any) cloudevents.Record {
	return cloudevents.Record{Key: []byte("username/a"), Value: fmt.Appendf(nil, format, args...)}
}

// outputs are n records for each partition of registrations, in turns.
func outputs(n, partitions int) []processor.Output {
	var out []processor.Output
	for i := range n {
		for p := range partitions {
			out = append(out, processor.Output{Partition: int32(p), Record: value("%d", i)})
		}
	}
	return out
}

// readAll reads a partition from its start, by itself, until it has seen want records.
func readAll(t testing.TB, c *Client, topic string, partition int32, want int) []processor.Message {
	t.Helper()
	r := NewReader(c, ReaderConfig{Topic: topic})
	stop := run(t, r)
	defer stop()
	r.Seek(partition, 0)
	var got []processor.Message
	ctx := within(t, 30*time.Second)
	for len(got) < want {
		fetched, err := r.Poll(ctx, processor.Beside{}, 1e6, time.Second)
		if err != nil {
			t.Fatalf("read %d of %d records of %s/%d: %v", len(got), want, topic, partition, err)
		}
		for _, f := range fetched {
			if f.Err != nil {
				t.Fatal(f.Err)
			}
			got = append(got, f.Messages...)
		}
	}
	return got
}

func values(messages []processor.Message) []string {
	out := make([]string, len(messages))
	for i, m := range messages {
		out[i] = string(m.Value)
	}
	return out
}

// firsts are the values in the order in which each came first.
func firsts(messages []processor.Message) []string {
	seen := map[string]bool{}
	var out []string
	for _, v := range values(messages) {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	return out
}

func TestPublishAndReadBack(t *testing.T) {
	dibstest.Kafka(t) // starts it, where it is ours
	noLeaks(t)
	c := broker(t, 3)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	ctx := within(t, 30*time.Second)
	before := time.Now().Add(-time.Millisecond)
	claims := p.Claims()
	for i := range 20 {
		offset, err := claims.Publish(ctx, int32(i%3), value("%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if offset != int64(i/3) {
			t.Errorf("offset is %d, want %d", offset, i/3)
		}
	}
	r := cloudevents.Record{
		Key: []byte("k"), Value: []byte("v"), Time: time.UnixMilli(before.UnixMilli()),
		Headers: []cloudevents.Header{{Name: "a", Value: []byte("1")}, {Name: "a", Value: nil}},
	}
	err := p.Publisher().Publish(ctx, append(outputs(500, 3),
		processor.Output{Topic: processor.ToClaims, Partition: 1, Record: r}, processor.Output{Topic: processor.ToDeadLetters, Partition: 2, Record: r}))
	if err != nil {
		t.Fatal(err)
	}
	for part := range int32(3) {
		same(t, numbers(500), values(readAll(t, c, c.Registrations(), part, 500)))
	}
	got := readAll(t, c, c.Claims(), 1, 8)
	same(t, []cloudevents.Record{r}, []cloudevents.Record{got[7].Record})
	if at := got[0].Time; at.Before(before.Add(-time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("a record without time has %v", at)
	}
	same(t, []cloudevents.Record{r}, []cloudevents.Record{readAll(t, c, c.DeadLetters(), 2, 1)[0].Record})
}

// What comes while a request is in flight is one request, over all partitions and topics.
func TestOneRequestInFlight(t *testing.T) {
	cluster := fake(t, 4)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	var requests, inFlight, most atomic.Int32
	release := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if acks := r.(*kmsg.ProduceRequest).Acks; acks != -1 { // K1
			t.Errorf("acks is %d", acks)
		}
		most.Store(max(most.Load(), inFlight.Add(1)))
		defer inFlight.Add(-1)
		if requests.Add(1) == 1 {
			cluster.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	ctx := within(t, 10*time.Second)
	var wg sync.WaitGroup
	publish := func(i int) {
		wg.Go(func() {
			if _, err := p.Claims().Publish(ctx, int32(i%4), value("%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	publish(0)
	await(t, "the first request", time.Second, func() bool { return requests.Load() == 1 })
	for i := range 200 {
		publish(i)
	}
	wg.Go(func() {
		if err := p.Publisher().Publish(ctx, outputs(10, 4)); err != nil {
			t.Error(err)
		}
	})
	queued := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forClaims.records + p.forOutputs.records
	}
	await(t, "all are queued", time.Second, func() bool { return queued() == 241 })
	close(release)
	wg.Wait()
	if requests.Load() != 2 || most.Load() != 1 {
		t.Errorf("%d requests, at most %d at once", requests.Load(), most.Load())
	}
}

// fault makes the next so many produce requests of the fake fail; what it returns tells how many did.
func fault(cluster *kfake.Cluster, count int, err *kerr.Error) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: err, Count: count})
}

// K2–K4: what fails is tried again, whatever the reason; order stays.
func TestRetries(t *testing.T) {
	for _, reason := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend,
		kerr.RequestTimedOut, kerr.UnknownTopicOrPartition, kerr.CorruptMessage, kerr.KafkaStorageError, kerr.UnknownServerError,
	} {
		t.Run(reason.Message, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, 2)
			c := connectFake(t, cluster)
			p := NewProducer(c, ProducerConfig{})
			run(t, p)
			ctx := within(t, 10*time.Second)
			fault(cluster, 3, reason)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := p.Publisher().Publish(ctx, outputs(100, 2)); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := p.Claims().Publish(ctx, 0, value("x")); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			for part := range int32(2) {
				same(t, numbers(100), firsts(readAll(t, c, c.Registrations(), part, 100)))
			}
		})
	}
}

// What comes in while a request is in flight stays behind it, whatever becomes of the request.
func TestRetriesKeepTheOrder(t *testing.T) {
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	ctx := within(t, 20*time.Second)
	release := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() { <-release })
		return refuseAll(r.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas), nil, true
	})
	var wg sync.WaitGroup
	for i := range 20 { // the first one is in flight when the others come
		wg.Go(func() {
			if err := p.Publisher().Publish(ctx, []processor.Output{{Record: value("%d", i)}}); err != nil {
				t.Error(err)
			}
		})
		await(t, "it is queued", 5*time.Second, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.forOutputs.records == i+1
		})
	}
	close(release)
	wg.Wait()
	same(t, numbers(20), values(readAll(t, c, c.Registrations(), 0, 20)))
}

// A partition is in one request at a time, also when its leader moves while the request is in flight.
func TestOrderOverAMove(t *testing.T) {
	cluster := fake(t, 1, kfake.NumBrokers(2))
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	ctx := within(t, 20*time.Second)
	if err := cluster.MoveTopicPartition(registrationsName, 0, 0); err != nil {
		t.Fatal(err)
	}
	release, began := make(chan struct{}), make(chan struct{})
	var requests atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if requests.Add(1) == 1 {
			cluster.SleepControl(func() { close(began); <-release })
		}
		return nil, nil, false
	})
	var wg sync.WaitGroup
	publish := func(i int) {
		wg.Go(func() {
			if err := p.Publisher().Publish(ctx, []processor.Output{{Record: value("%d", i)}}); err != nil {
				t.Error(err)
			}
		})
	}
	publish(0)
	<-began
	if err := cluster.MoveTopicPartition(registrationsName, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := c.metadata.newer(ctx, c.metadata.current().seq); err != nil {
		t.Fatal(err)
	}
	publish(1)
	pause(ctx, 200*time.Millisecond) // in which it could go out, if it might
	close(release)
	wg.Wait()
	same(t, numbers(2), values(readAll(t, c, c.Registrations(), 0, 2)))
}

// A record that is acknowledged while its caller gives up is not called lost.
func TestGivingUpTooLate(t *testing.T) {
	p := NewProducer(connectFake(t, fake(t, 1)), ProducerConfig{})
	w := &publication{producer: p}
	w.call = call{budget: &p.forClaims, records: w.record[:], left: 1}
	r := &w.record[0]
	r.call = &w.call
	p.mu.Lock()
	p.forClaims.take(0)
	p.enqueue(p.queue(claimsName, 0), r)
	r.offset = 7
	p.finish(r, nil)
	p.mu.Unlock()
	if offset, err := w.GiveUp(context.Canceled); offset != 7 || err != nil {
		t.Errorf("outcome is %d, %v", offset, err)
	}
}

// A connection that is cut leaves it open whether the record was written, and is tried again.
func TestConnectionCutAfterAppend(t *testing.T) {
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	cuts := 0
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if cuts++; cuts <= 3 {
			cluster.KeepControl()
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	if _, err := p.Claims().Publish(within(t, 5*time.Second), 0, value("x")); err != nil {
		t.Fatal(err)
	}
}

// What the caller is told when its time is up depends on whether a request may have got through.
func TestDeadline(t *testing.T) {
	t.Parallel()
	publish := func(t *testing.T, prepare func(*kfake.Cluster)) error {
		t.Helper()
		cluster := fake(t, 1)
		c := connectFake(t, cluster)
		p := NewProducer(c, ProducerConfig{})
		run(t, p)
		if _, err := p.Claims().Publish(within(t, 5*time.Second), 0, value("first")); err != nil {
			t.Fatal(err)
		}
		prepare(cluster)
		began := time.Now()
		_, err := p.Claims().Publish(within(t, 300*time.Millisecond), 0, value("second"))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		wantIs(t, err, context.DeadlineExceeded)
		await(t, "nothing is queued", 5*time.Second, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.forClaims.records == 0 && p.forClaims.bytes == 0
		})
		return err
	}
	t.Run("never written", func(t *testing.T) {
		err := publish(t, func(c *kfake.Cluster) { fault(c, -1, kerr.NotEnoughReplicas) })
		wantIs(t, err, api.ErrNotPublished)
	})
	t.Run("broker is gone", func(t *testing.T) {
		// The first attempt may go out on a connection that is not known to be dead yet.
		err := publish(t, func(c *kfake.Cluster) { c.Close() })
		if !errors.Is(err, api.ErrNotPublished) && !errors.Is(err, api.ErrUnknown) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("once cut", func(t *testing.T) {
		err := publish(t, func(c *kfake.Cluster) {
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
			fault(c, -1, kerr.NotEnoughReplicas)
		})
		wantIs(t, err, api.ErrUnknown)
	})
	t.Run("broker was gone before", func(t *testing.T) {
		cluster := fake(t, 1)
		c := connectFake(t, cluster)
		p := NewProducer(c, ProducerConfig{})
		run(t, p)
		if _, err := p.Claims().Publish(within(t, 5*time.Second), 0, value("first")); err != nil {
			t.Fatal(err)
		}
		cluster.Close()
		_, _ = p.Claims().Publish(within(t, 300*time.Millisecond), 0, value("second"))
		_, err := p.Claims().Publish(within(t, 300*time.Millisecond), 0, value("third"))
		wantIs(t, err, api.ErrNotPublished, context.DeadlineExceeded)
	})
	t.Run("no leader", func(t *testing.T) {
		err := publish(t, func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: claimsName, Err: kerr.LeaderNotAvailable, Count: -1})
			fault(c, 1, kerr.LeaderNotAvailable)
		})
		wantIs(t, err, api.ErrNotPublished)
	})
	for _, reason := range []*kerr.Error{kerr.RequestTimedOut, kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend} {
		t.Run("once "+reason.Message, func(t *testing.T) {
			// Later attempts that are known to have failed do not make up for it.
			err := publish(t, func(c *kfake.Cluster) {
				fault(c, 1, reason)
				fault(c, -1, kerr.NotEnoughReplicas)
			})
			wantIs(t, err, api.ErrUnknown)
		})
	}
	t.Run("in flight", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		err := publish(t, func(c *kfake.Cluster) {
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.SleepControl(func() { <-release })
				return nil, nil, false
			})
		})
		wantIs(t, err, api.ErrUnknown)
	})
}

// The API is told that the queue is full; the processor waits.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{MaxQueuedRecords: 20}) // of which one partition may have half
	ctx := within(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := p.Claims().Publish(ctx, 0, value("%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "all are queued", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forClaims.records == 10
	})
	_, err := p.Claims().Publish(ctx, 0, value("one too many"))
	wantIs(t, err, api.ErrBusy, api.ErrNotPublished)

	blocked, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	wantIs(t, p.Publisher().Publish(blocked, outputs(100, 1)), context.DeadlineExceeded)

	wg.Go(func() {
		if err := p.Publisher().Publish(ctx, outputs(1000, 1)); err != nil {
			t.Error(err)
		}
	})
	run(t, p)
	wg.Wait()
	same(t, numbers(1000), values(readAll(t, c, c.Registrations(), 0, 1000)))
}

// What is given up while the broker is away does not stay in memory, nor go out when it is back.
func TestGivenUpRecordsAreDropped(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	h := fault(cluster, -1, kerr.NotEnoughReplicas)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { _ = p.Publisher().Publish(ctx, outputs(100, 1)) })
	}
	records := func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, q := range p.queues {
			n += len(q.records) - q.head
		}
		return n
	}
	await(t, "the queue is full", 5*time.Second, func() bool { return records() > 4000 })
	cancel()
	wg.Wait()
	await(t, "the queue is empty", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forOutputs.records == 0 // what was in a request included
	})
	if n := records(); n > 200 {
		t.Errorf("%d dropped records are in memory", n)
	}
	h.Remove()
	if _, err := p.Claims().Publish(within(t, 5*time.Second), 0, value("x")); err != nil {
		t.Fatal(err)
	}
	if err := p.Publisher().Publish(within(t, 5*time.Second), []processor.Output{{Record: value("after")}}); err != nil {
		t.Fatal(err)
	}
	same(t, []string{"after"}, values(readAll(t, c, c.Registrations(), 0, 1)))
}

// K5: a leader that moves is followed at once.
func TestLeaderMoves(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 3, kfake.NumBrokers(3))
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	ctx := within(t, 20*time.Second)
	var slow []time.Duration
	for i := range 30 {
		if err := cluster.MoveTopicPartition(claimsName, 0, int32(i%3)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := p.Claims().Publish(ctx, 0, value("%d", i)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			slow = append(slow, took)
		}
	}
	if len(slow) > 3 { // a machine that is held up does not do that every time
		t.Errorf("took %v", slow)
	}
	same(t, numbers(30), firsts(readAll(t, c, c.Claims(), 0, 30)))
}

// A permission that is missing is the API's caller's problem at once; the processor waits for the operator.
func TestForbidden(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	h := fault(cluster, -1, kerr.TopicAuthorizationFailed)
	_, err := p.Claims().Publish(within(t, 5*time.Second), 0, value("x"))
	wantIs(t, err, api.ErrNotPublished)
	done := make(chan error, 1)
	go func() { done <- p.Publisher().Publish(within(t, 10*time.Second), outputs(3, 1)) }()
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	h.Remove()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStoppedProducer(t *testing.T) {
	noLeaks(t)
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	stop := run(t, p)
	fault(cluster, 1, kerr.RequestTimedOut)
	fault(cluster, -1, kerr.NotEnoughReplicas)
	unknown, never := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := p.Claims().Publish(t.Context(), 0, value("x"))
		unknown <- err
	}()
	await(t, "an unclear attempt", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, q := range p.queues {
			for _, r := range q.records[q.head:] {
				return r.unclear
			}
		}
		return false
	})
	go func() {
		_, err := p.Claims().Publish(t.Context(), 0, value("y"))
		never <- err
	}()
	await(t, "both are queued", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.forClaims.records == 2
	})
	stop()
	wantIs(t, <-unknown, api.ErrUnknown)
	wantIs(t, <-never, api.ErrNotPublished)
	_, err := p.Claims().Publish(t.Context(), 0, value("z"))
	wantIs(t, err, api.ErrNotPublished)
	if err := p.Publisher().Publish(t.Context(), outputs(1, 1)); err == nil {
		t.Error("a stopped producer publishes")
	}
}
