package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// ProducerConfig bounds what a Producer holds and sends.
type ProducerConfig struct {
	// MaxBatchBytes is how much goes to one partition in one request. It must stay below the topics' max.message.bytes.
	// Defaults to 900,000.
	MaxBatchBytes int
	// MaxRequestBytes is how much goes into one request. Defaults to 8 MiB.
	MaxRequestBytes int
	// MaxQueuedRecords and MaxQueuedBytes are how much may wait for an answer, each for the API and for the processor.
	// Default to 50,000 and 64 MiB.
	MaxQueuedRecords, MaxQueuedBytes int
}

func (c ProducerConfig) withDefaults() ProducerConfig {
	defaults := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	defaults(&c.MaxBatchBytes, 900_000)
	defaults(&c.MaxRequestBytes, 8<<20)
	defaults(&c.MaxQueuedRecords, 50_000)
	defaults(&c.MaxQueuedBytes, 64<<20)
	return c
}

// ErrClock means that the broker finds the record's time too far from its own clock. Where the record had no time, it
// was ours.
var ErrClock = errors.New("the broker's clock and ours are too far apart")

// errStopped: the producer's Run has ended.
var errStopped = errors.New("the producer has stopped")

// Producer appends records to all topics. Per leader one request is in flight; whatever comes in meanwhile, for
// whatever partition of that leader, is the next request. So there is no linger time: an idle producer sends at once, a
// busy one sends large batches.
//
// The records of one partition are appended in the order in which they came, also over retries: a partition is in at
// most one request, and what failed goes first the next time. (A request that was given up as lost may still be
// appended later: a copy, behind its original.)
//
// It is used through Claims and Publisher, and works while Run runs.
type Producer struct {
	client *Client
	cfg    ProducerConfig

	mu      sync.Mutex // guards everything below, and all queues, senders, calls and budgets
	queues  map[topicPartition]*queue
	senders map[int32]*sender
	unled   []*queue      // with records, and no known leader
	start   func(*sender) // nil while Run does not run
	stopped bool

	resolve chan struct{} // wakes the resolver
	workers sync.WaitGroup

	forClaims, forOutputs budget
}

type topicPartition struct {
	topic     string
	partition int32
}

// NewProducer prepares a producer.
func NewProducer(client *Client, cfg ProducerConfig) *Producer {
	cfg = cfg.withDefaults()
	m := client.metrics
	newBudget := func(caller string) budget {
		return budget{
			maxRecords: cfg.MaxQueuedRecords, maxBytes: cfg.MaxQueuedBytes,
			recordsGauge: m.queued.WithLabelValues(caller), bytesGauge: m.queuedBytes.WithLabelValues(caller),
		}
	}
	return &Producer{
		client: client, cfg: cfg,
		queues: make(map[topicPartition]*queue), senders: make(map[int32]*sender),
		resolve:   make(chan struct{}, 1),
		forClaims: newBudget("api"), forOutputs: newBudget("processor"),
	}
}

// show lets an operator see what waits. The caller holds mu.
func (p *Producer) show() {
	p.forClaims.show()
	p.forOutputs.show()
}

// Run sends what is published until ctx ends. What is not acknowledged by then fails: what was never sent as not
// published, the rest as unknown. It runs once.
func (p *Producer) Run(ctx context.Context) error {
	p.mu.Lock()
	p.start = func(s *sender) { p.workers.Go(func() { s.run(ctx) }) }
	for _, s := range p.senders {
		p.start(s)
	}
	p.mu.Unlock()
	p.workers.Go(func() { p.resolveLeaders(ctx) })
	<-ctx.Done()
	p.mu.Lock()
	p.start = nil
	p.mu.Unlock()
	p.workers.Wait()
	p.stop()
	return nil
}

// stop fails everything that still waits. That makes room in the budgets: whoever waits for it finds that we have stopped.
func (p *Producer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, q := range p.queues {
		if q.retry != nil {
			q.retry.Stop()
		}
		for _, r := range q.records[q.head:] {
			p.finish(r, errStopped)
		}
		q.records, q.head = nil, 0
	}
	p.show()
}

// queue is what waits for a partition. The caller holds mu.
func (p *Producer) queue(topic string, partition int32) *queue {
	q := p.queues[topicPartition{topic, partition}]
	if q == nil {
		q = &queue{topic: topic, partition: partition, maxBytes: p.cfg.MaxBatchBytes}
		q.backoff = backoff{min: 10 * time.Millisecond, max: 500 * time.Millisecond}
		p.queues[topicPartition{topic, partition}] = q
	}
	return q
}

// enqueue puts a record behind the others of its partition. The caller holds mu and has the budget for it.
func (p *Producer) enqueue(q *queue, r *pending) {
	q.append(r)
	if q.state == queueIdle {
		p.schedule(q)
	}
}

// schedule hands a queue with records to the sender of its leader. The caller holds mu.
func (p *Producer) schedule(q *queue) {
	if q.empty() {
		q.state = queueIdle
		return
	}
	v := p.client.metadata.current()
	if v.seq > q.staleView {
		if leader, err := v.leader(q.topic, q.partition); err == nil {
			p.assign(q, leader, v.seq)
			return
		}
	}
	q.state = queueUnled
	p.unled = append(p.unled, q)
	wake(p.resolve)
}

// assign makes a queue ready at the sender of its leader. The caller holds mu.
func (p *Producer) assign(q *queue, leader int32, view int64) {
	s := p.senders[leader]
	if s == nil {
		s = newSender(p, leader)
		p.senders[leader] = s
		if p.start != nil {
			p.start(s)
		}
	}
	q.state, q.view = queueReady, view
	s.ready = append(s.ready, q)
	wake(s.woken)
}

// later schedules a queue after a pause. The caller holds mu.
func (p *Producer) later(q *queue, pause time.Duration) {
	q.state = queueWaiting
	q.retry = time.AfterFunc(pause, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.stopped && q.state == queueWaiting {
			p.schedule(q)
		}
	})
}

// resolveLeaders finds leaders for the queues that have none.
func (p *Producer) resolveLeaders(ctx context.Context) {
	b := backoff{min: 20 * time.Millisecond, max: time.Second}
	for {
		select {
		case <-p.resolve:
		case <-ctx.Done():
			return
		}
		for b.reset(); ; {
			seq, any := p.unledView()
			if !any {
				break
			}
			v, err := p.client.metadata.newer(ctx, seq)
			if err == nil {
				err = p.lead(v)
			}
			if err != nil && !b.sleep(ctx) {
				return
			}
		}
	}
}

// unledView is the view that will not do any more for some queue.
func (p *Producer) unledView() (seq int64, any bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show()
	for _, q := range p.unled {
		seq = max(seq, q.staleView)
	}
	return seq, len(p.unled) > 0
}

// lead assigns the queues that have a leader now. The error is why one still has none.
func (p *Producer) lead(v *view) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var still []*queue
	var failed error
	for _, q := range p.unled {
		leader, err := v.leader(q.topic, q.partition)
		switch {
		case q.empty(): // everybody gave up
			q.state = queueIdle
		case v.seq <= q.staleView:
			still = append(still, q)
		case err != nil:
			q.failed(err)
			q.staleView, failed = v.seq, err
			p.client.metrics.failed("produce", err)
			still = append(still, q)
		default:
			p.assign(q, leader, v.seq)
		}
	}
	p.unled = still
	return failed
}

// finish ends the wait for a record. The caller holds mu.
func (p *Producer) finish(r *pending, err error) {
	if r.state == pendingDone {
		return
	}
	r.state, r.err = pendingDone, err
	c := r.call
	c.budget.release(1, r.size)
	if c.left--; c.left > 0 || c.gone {
		return
	}
	if c.done != nil {
		close(c.done)
	}
	if c.failed != nil && err != nil {
		close(c.failed)
	}
}

// errGivenUp: its caller waits no longer, and it was not sent.
var errGivenUp = errors.New("given up")

// giveUp drops what a call has not sent yet; its caller waits no longer.
func (p *Producer) giveUp(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.left == 0 {
		return // all is known by now
	}
	c.gone = true
	for i := range c.records {
		if r := &c.records[i]; r.state == pendingQueued {
			r.state, r.err = pendingDone, errGivenUp
			c.budget.release(1, r.size)
			r.queue.drop()
		}
	}
	p.show()
}

// wake signals a goroutine that may be busy: it looks again when it is done.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isClock reports whether the broker refused a time.
func isClock(err error) bool { return errors.Is(err, kafkago.InvalidTimestamp) }
