package kafka

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

var (
	_ api.Claims          = (*Claims)(nil)
	_ processor.Publisher = (*Publisher)(nil)
)

// Claims writes requests to the topic claims, for the API. It is safe for concurrent use.
type Claims struct {
	producer *Producer
	topic    string
}

// Claims returns the API's way to publish.
func (p *Producer) Claims() *Claims { return &Claims{p, p.client.Claims()} }

// Publish implements api.Claims. A record that the broker will never take is api.ErrNotPublished; where that is because
// of its time, also ErrClock.
func (c *Claims) Publish(ctx context.Context, partition int32, r cloudevents.Record) (offset int64, err error) {
	p := c.producer
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("publish to %s/%d: %w: %w", c.topic, partition, api.ErrNotPublished, err)
	}
	w := &struct {
		call
		record [1]pending
	}{}
	w.budget, w.done, w.left, w.records = &p.forClaims, make(chan struct{}), 1, w.record[:]
	rec := &w.record[0]
	rec.record, rec.size, rec.call = r, r.Size(), &w.call

	p.mu.Lock()
	switch {
	case p.stopped:
		p.mu.Unlock()
		return 0, fmt.Errorf("publish to %s/%d: %w: %w", c.topic, partition, api.ErrNotPublished, errStopped)
	case !p.forClaims.take(rec.size):
		p.mu.Unlock()
		return 0, fmt.Errorf("publish to %s/%d: %w: %w", c.topic, partition, api.ErrBusy, api.ErrNotPublished)
	}
	p.enqueue(c.topic, partition, rec)
	p.mu.Unlock()

	select {
	case <-w.done:
	case <-ctx.Done():
		p.giveUp(&w.call)
	}
	offset, err = p.outcome(ctx, rec)
	if err != nil {
		err = fmt.Errorf("publish to %s/%d: %w", c.topic, partition, err)
	}
	return offset, err
}

// outcome says what is known of a record when the wait for it is over.
func (p *Producer) outcome(ctx context.Context, r *pending) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cause, known := r.err, r.call.left == 0
	if known && cause == nil {
		return r.offset, nil
	}
	if !known {
		if cause = ctx.Err(); r.queue.lastErr != nil {
			cause = fmt.Errorf("%w, after %w", cause, r.queue.lastErr)
		}
	}
	if r.unclear || r.state != pendingDone { // not done: it is in a request
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

// Publish implements processor.Publisher. Where the queue is full it waits. What an operator has to put right first,
// such as a missing permission, it waits for as well.
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
			return err
		}
		if next = n; space == nil {
			continue
		}
		select {
		case <-space:
		case <-ctx.Done():
			p.giveUp(c)
			return fmt.Errorf("publish %d records: %w", len(outputs), ctx.Err())
		}
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		p.giveUp(c)
		return fmt.Errorf("publish %d records: %w", len(outputs), ctx.Err())
	}
	for i := range c.records { // all done: nobody else touches them
		if err := c.records[i].err; err != nil {
			q := c.records[i].queue
			if err != errStopped { //nolint:errorlint // it is never wrapped
				err = fmt.Errorf("%w: %w", processor.ErrRefused, err)
			}
			return fmt.Errorf("publish to %s/%d: %w", q.topic, q.partition, err)
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
		if !p.forOutputs.take(c.records[next].size) {
			return next, p.forOutputs.wait(), nil
		}
		p.enqueue(topic, outputs[next].Partition, &c.records[next])
	}
	return next, nil, nil
}
