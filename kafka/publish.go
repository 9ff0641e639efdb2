package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

var (
	_ api.Claims          = (*Claims)(nil)
	_ api.Publication     = (*publication)(nil)
	_ processor.Publisher = (*Publisher)(nil)
	_ processor.Partial   = (*partial)(nil)
)

// Claims writes requests to the topic claims, for the API. It is safe for concurrent use.
type Claims struct {
	producer *Producer
	topic    string
}

// Claims returns the API's way to publish.
func (p *Producer) Claims() *Claims { return &Claims{p, p.client.Claims()} }

// Start implements api.Claims. A record that the broker will never take is api.ErrNotPublished; where that is because of
// its time, also ErrClock.
func (c *Claims) Start(partition int32, r cloudevents.Record) (api.Publication, error) {
	p := c.producer
	w := &publication{producer: p, topic: c.topic, partition: partition}
	w.call = call{budget: &p.forClaims, left: 1, records: w.record[:]}
	rec := &w.record[0]
	rec.record, rec.size, rec.call = r, r.Size(), &w.call

	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue(c.topic, partition)
	switch {
	case p.stopped:
		return nil, fmt.Errorf("publish to %s/%d: %w: %w", c.topic, partition, api.ErrNotPublished, errStopped)
	case !p.forClaims.share(q), !p.forClaims.take(rec.size):
		return nil, fmt.Errorf("publish to %s/%d: %w: %w", c.topic, partition, api.ErrBusy, api.ErrNotPublished)
	}
	p.enqueue(q, rec)
	return w, nil
}

// Publish appends a record and waits until it is acknowledged, or ctx ends: then what has not been sent never will be.
func (c *Claims) Publish(ctx context.Context, partition int32, r cloudevents.Record) (offset int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("publish to %s/%d: %w: %w", c.topic, partition, api.ErrNotPublished, err)
	}
	w, err := c.Start(partition, r)
	if err != nil {
		return 0, err
	}
	select {
	case <-w.Settled():
		return w.Result()
	case <-ctx.Done():
		return w.GiveUp(ctx.Err())
	}
}

// Stalled is for how long claims on a partition have been tried without success; 0 where nobody waits for one: the next
// claim finds out.
func (c *Claims) Stalled(partition int32) time.Duration {
	c.producer.mu.Lock()
	defer c.producer.mu.Unlock()
	q := c.producer.queues[topicPartition{c.topic, partition}]
	if q == nil || q.lastErr == nil || q.waiting() == 0 {
		return 0
	}
	return time.Since(q.failing)
}

// publication is one record on its way, with all it needs in one allocation.
type publication struct {
	call
	record    [1]pending
	producer  *Producer
	topic     string
	partition int32
}

// Failed implements api.Publication.
func (w *publication) Failed() <-chan struct{} {
	w.producer.mu.Lock()
	defer w.producer.mu.Unlock()
	if w.failed == nil {
		w.failed = make(chan struct{})
		if w.left == 0 && !w.gone && w.record[0].err != nil {
			close(w.failed)
		}
	}
	return w.failed
}

// Settled implements api.Publication.
func (w *publication) Settled() <-chan struct{} {
	w.producer.mu.Lock()
	defer w.producer.mu.Unlock()
	if w.done == nil {
		w.done = make(chan struct{})
		if w.left == 0 {
			close(w.done)
		}
	}
	return w.done
}

// Result implements api.Publication.
func (w *publication) Result() (int64, error) { return w.result(nil) }

// GiveUp implements api.Publication.
func (w *publication) GiveUp(why error) (int64, error) {
	w.producer.giveUp(&w.call)
	return w.result(why)
}

func (w *publication) result(why error) (int64, error) {
	p := w.producer
	p.mu.Lock()
	offset, err := p.outcome(&w.record[0], why)
	p.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("publish to %s/%d: %w", w.topic, w.partition, err)
	}
	return offset, err
}

// errPending: the record is still on its way.
var errPending = errors.New("not acknowledged yet")

// outcome says what is known of a record now; why is why nobody waits for more. The caller holds mu.
func (p *Producer) outcome(r *pending, why error) (int64, error) {
	cause, known := r.err, r.call.left == 0
	if known && cause == nil {
		return r.offset, nil
	}
	if !known {
		if cause = why; cause == nil {
			cause = errPending
		}
		if r.queue.lastErr != nil {
			cause = fmt.Errorf("%w, after %w", cause, r.queue.lastErr)
		}
	}
	if r.unclear || r.state != pendingDone { // not done: it is in a queue or a request
		return 0, fmt.Errorf("%w: %w", api.ErrUnknown, cause)
	}
	if isClock(cause) {
		cause = fmt.Errorf("%w: %w", ErrClock, cause)
	}
	return 0, fmt.Errorf("%w: %w", api.ErrNotPublished, cause)
}

// Publisher appends a processor's outputs. It is safe for concurrent use.
type Publisher struct{ producer *Producer }

// Publisher returns the processor's way to publish.
func (p *Producer) Publisher() *Publisher { return &Publisher{p} }

// partial is the error of Publish. It wraps the reason: that of the first output that was refused, or why nobody waits
// for the rest.
type partial struct {
	error
	left []int
}

func (e *partial) Unwrap() error { return e.error }

// Unacknowledged implements processor.Partial. An output that was refused is certainly not on its topic; one that was
// given up may be, or get there yet.
func (e *partial) Unacknowledged() []int { return e.left }

// failed says what is left of a call whose records are settled or given up, and why; where nothing is left all is well.
func (p *Producer) failed(c *call, why error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &partial{error: why}
	for i := range c.records {
		if r := &c.records[i]; r.state != pendingDone || r.err != nil {
			e.left = append(e.left, i)
		}
	}
	if len(e.left) == 0 {
		return nil
	}
	return e
}

// Publish implements processor.Publisher. Where the queue is full it waits. What an operator has to put right first,
// such as a missing permission, it waits for as well. Its errors are processor.Partial.
func (u *Publisher) Publish(ctx context.Context, outputs []processor.Output) error {
	if len(outputs) == 0 {
		return nil
	}
	p := u.producer
	c := &call{
		budget: &p.forOutputs, patient: true, done: make(chan struct{}),
		records: make([]pending, len(outputs)), left: len(outputs),
	}
	for i := range outputs {
		r := outputs[i].Record
		c.records[i] = pending{record: r, size: r.Size(), call: c}
	}
	for next := 0; next < len(outputs); {
		n, space, err := u.admit(c, outputs, next)
		if err != nil {
			p.giveUp(c)
			return p.failed(c, err)
		}
		if next = n; space == nil {
			continue
		}
		select {
		case <-space:
		case <-ctx.Done():
			p.giveUp(c)
			return p.failed(c, fmt.Errorf("publish %d records: %w", len(outputs), ctx.Err()))
		}
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		p.giveUp(c)
		return p.failed(c, fmt.Errorf("publish %d records: %w", len(outputs), ctx.Err()))
	}
	for i := range c.records { // all done: nobody else touches them
		if err := c.records[i].err; err != nil {
			q := c.records[i].queue
			if err != errStopped { //nolint:errorlint // it is never wrapped
				err = fmt.Errorf("%w: %w", processor.ErrRefused, err)
			}
			return p.failed(c, fmt.Errorf("publish to %s/%d: %w", q.topic, q.partition, err))
		}
	}
	return nil
}

// admit queues as many outputs as there is room for, from next on. Where there is no room for all of them it also
// returns what to wait for.
func (u *Publisher) admit(c *call, outputs []processor.Output, next int) (int, <-chan struct{}, error) {
	p := u.producer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return next, nil, fmt.Errorf("publish %d records: %w", len(outputs), errStopped)
	}
	for ; next < len(outputs); next++ {
		topic, err := p.client.topic(outputs[next].Topic)
		if err != nil {
			return next, nil, err
		}
		q := p.queue(topic, outputs[next].Partition)
		if !p.forOutputs.share(q) || !p.forOutputs.take(c.records[next].size) {
			return next, p.forOutputs.wait(), nil
		}
		p.enqueue(q, &c.records[next])
	}
	return next, nil, nil
}
