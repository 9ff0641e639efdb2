package peers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// wires are one peer's way into Kafka and back: a topic of requests and one of answers, dibs' own producer, and whoever
// waits for an answer. They are the same for all peers that go through Kafka, so that the peers differ in what decides,
// not in who asks.
type wires struct {
	client     *kafka.Client
	producer   *kafka.Producer
	requests   *kafka.Claims
	waiter     *registrations.Waiter
	partitions int
	backlog    atomic.Pointer[backlog] // nil where there is none

	running context.Context // until close, or something has failed: its cause
	fail    context.CancelCauseFunc
	parts   sync.WaitGroup
}

// maxWaiting is more than anybody measures with.
const maxWaiting = 1 << 20

var errClosed = errors.New("the peer is closed")

// openWires makes the topics and starts the producer.
func openWires(ctx context.Context, o *opening) (*wires, error) {
	if err := o.needsKafka(); err != nil {
		return nil, err
	}
	client, err := kafka.New(kafka.Config{Brokers: o.Brokers, TopicPrefix: o.id + "." + word(o.name) + "."}, o.Log, nil)
	if err != nil {
		return nil, err
	}
	w := &wires{client: client, partitions: o.Partitions, waiter: registrations.NewWaiter(registrations.WaiterConfig{Max: maxWaiting})}
	w.producer = kafka.NewProducer(client, kafka.ProducerConfig{})
	w.requests = w.producer.Claims()
	w.running, w.fail = context.WithCancelCause(context.WithoutCancel(ctx))
	o.onClose(w.close)
	if _, err := client.CreateTopics(ctx, kafka.TopicsConfig{Partitions: o.Partitions}); err != nil {
		return nil, err
	}
	w.run(w.producer.Run)
	return w, nil
}

// word makes a name fit for a topic, a schema and a folder.
func word(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name), "-")
}

// run runs a part until the wires are closed. Its failure is everybody's.
func (w *wires) run(part func(context.Context) error) {
	w.parts.Go(func() {
		if err := part(w.running); err != nil && w.running.Err() == nil {
			w.fail(err)
		}
	})
}

// tail hands answers to whoever waits for them, from now on. It returns when no answer can be missed any more.
func (w *wires) tail(ctx context.Context, read func(value []byte) registrations.Type) error {
	tail := kafka.NewTail(w.client, func(_ context.Context, partition int32, r cloudevents.Record) {
		w.deliver(partition, r.Value, read)
	})
	w.run(tail.Run)
	select {
	case <-tail.Ready():
		return nil
	case <-w.running.Done():
		return context.Cause(w.running)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *wires) deliver(partition int32, value []byte, read func([]byte) registrations.Type) {
	id, ok := registrations.PeekRequestID(value)
	if !ok {
		return
	}
	if b := w.backlog.Load(); b != nil {
		b.answered(id)
	}
	if w.waiter.Waiting(id) {
		w.waiter.Deliver(registrations.Outcome{RequestID: id, Partition: partition, Type: read(value)})
	}
}

// ask publishes a request and waits for its answer. As in dibs, the answer is waited for, not Kafka's acknowledgement.
func (w *wires) ask(ctx context.Context, id uuid.UUID, r cloudevents.Record) (registrations.Type, error) {
	partition := claims.Partition(string(r.Key), w.partitions)
	ticket, err := w.waiter.Expect(id, partition)
	if err != nil {
		return "", err
	}
	defer ticket.Release()
	published, err := w.requests.Start(partition, r)
	if err != nil {
		return "", err
	}
	select {
	case <-ticket.Done():
		return ticket.Outcome().Type, nil
	case <-published.Failed():
		_, err := published.Result()
		return "", err
	case <-w.running.Done():
		err = context.Cause(w.running)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = published.GiveUp(err) // what matters is why
	return "", err
}

// fill publishes n requests and returns when Kafka has them.
func (w *wires) fill(ctx context.Context, n int, request func(i int) cloudevents.Record) error {
	const lot = 10_000
	outputs := make([]processor.Output, 0, min(n, lot))
	for i := range n {
		r := request(i)
		outputs = append(outputs, processor.Output{Topic: processor.ToClaims, Partition: claims.Partition(string(r.Key), w.partitions), Record: r})
		if len(outputs) == lot || i == n-1 {
			if err := w.producer.Publisher().Publish(ctx, outputs); err != nil {
				return fmt.Errorf("publish the backlog: %w", err)
			}
			outputs = outputs[:0]
		}
	}
	return nil
}

// close ends everything that runs on the wires, and deletes the topics.
func (w *wires) close(ctx context.Context) error {
	w.fail(errClosed)
	w.parts.Wait()
	defer w.client.Close()
	return w.client.DeleteTopics(ctx)
}
