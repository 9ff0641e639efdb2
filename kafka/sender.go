package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	produceapi "github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// sender has the one request in flight to one leader.
type sender struct {
	producer *Producer
	leader   int32
	woken    chan struct{}
	ready    []*queue // to be sent; Producer.mu guards it

	// Of the goroutine only.
	batches []*batch
	buffer  []byte
	failing bool
}

// batch is what one partition has in a request.
type batch struct {
	queue   *queue
	records []*pending
	size    int // estimate
	encoded [2]int
	settled bool
}

func newSender(p *Producer, leader int32) *sender {
	return &sender{producer: p, leader: leader, woken: make(chan struct{}, 1)}
}

func (s *sender) run(ctx context.Context) {
	for {
		select {
		case <-s.woken:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			// Who is ready to publish as well comes into the same request: the first of many would have one to itself.
			runtime.Gosched()
			if !s.collect() {
				break
			}
			response, sent, err := s.send(ctx)
			s.settle(response, sent, err)
		}
	}
}

// collect takes what waits for this leader, as much as one request may hold.
func (s *sender) collect() bool {
	p := s.producer
	p.mu.Lock()
	defer p.mu.Unlock()
	n, total := 0, 0
	for len(s.ready) > 0 && total < p.cfg.MaxRequestBytes {
		q := s.ready[0]
		s.ready = s.ready[1:]
		if n == len(s.batches) {
			s.batches = append(s.batches, new(batch))
		}
		b := s.batches[n]
		if q.take(b); len(b.records) == 0 {
			q.state = queueIdle
			continue
		}
		q.state, q.sending, b.settled = queueSending, b, false
		total += b.size
		n++
	}
	p.show()
	if len(s.ready) == 0 {
		s.ready = nil
	}
	s.batches = s.batches[:n]
	return n > 0
}

// send encodes the batches and sends them in one request.
func (s *sender) send(ctx context.Context) (response *produceapi.Response, sent bool, err error) {
	now := time.Now() // the time of records that have none, at every attempt anew
	s.buffer = s.buffer[:0]
	for _, b := range s.batches {
		start := len(s.buffer)
		s.buffer = append(s.buffer, 0, 0, 0, 0)
		s.buffer = appendBatch(s.buffer, b.records, now)
		binary.BigEndian.PutUint32(s.buffer[start:], uint32(len(s.buffer)-start-4))
		b.encoded = [2]int{start, len(s.buffer)}
	}
	timeout := s.producer.client.cfg.RequestTimeout
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	r, sent, err := s.producer.client.roundTrip(ctx, &exchange{to: s.leader, request: s.request(timeout)})
	if err != nil {
		s.buffer = nil // its connection may still be writing it
		return nil, sent, err
	}
	s.producer.client.metrics.requests.WithLabelValues("produce").Observe(time.Since(began).Seconds())
	return r.(*produceapi.Response), true, nil
}

// request frames what is encoded. The leader has a little less time for its followers than the connection has for the
// answer: an answer says more than a time-out.
func (s *sender) request(timeout time.Duration) *rawproduce.Request {
	r := &rawproduce.Request{Acks: -1, Timeout: int32((timeout * 8 / 10).Milliseconds())}
	for _, b := range s.batches {
		i := 0
		for i < len(r.Topics) && r.Topics[i].Topic != b.queue.topic {
			i++
		}
		if i == len(r.Topics) {
			r.Topics = append(r.Topics, rawproduce.RequestTopic{Topic: b.queue.topic})
		}
		r.Topics[i].Partitions = append(r.Topics[i].Partitions, rawproduce.RequestPartition{
			Partition: b.queue.partition,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(s.buffer[b.encoded[0]:b.encoded[1]])},
		})
	}
	return r
}

// errNoAnswer: the broker answered, but not for this partition.
var errNoAnswer = errors.New("the broker left the partition out of its answer")

// settle tells everybody what became of their records, and schedules what is to be tried again.
func (s *sender) settle(response *produceapi.Response, sent bool, failed error) {
	p := s.producer
	p.mu.Lock()
	defer p.mu.Unlock()
	if failed == nil {
		for i := range response.Topics {
			t := &response.Topics[i]
			for j := range t.Partitions {
				q := p.queues[topicPartition{t.Topic, t.Partitions[j].Partition}]
				if q != nil && q.sending != nil && !q.sending.settled {
					s.settleBatch(q.sending, &t.Partitions[j])
				}
			}
		}
	}
	why, how := failed, unclear
	switch {
	case failed == nil:
		why = errNoAnswer
	case !sent:
		how = notWritten
	}
	if failed != nil && s.leaderFailed(failed) {
		p.client.log.Warn("broker does not take records; trying again", "broker", s.leader, "err", failed, "sent", sent)
	} else if failed == nil {
		s.failing = false
	}
	for _, b := range s.batches {
		if !b.settled {
			s.again(b, why, how)
		}
		clear(b.records)
		b.queue = nil
	}
	p.show()
}

// leaderFailed counts a failure of the whole request and reports whether it is the first one in a row.
func (s *sender) leaderFailed(err error) (first bool) {
	s.producer.client.metrics.failed("produce", err)
	first, s.failing = !s.failing, true
	return first
}

// settleBatch deals with a broker's answer for one partition. The caller holds Producer.mu.
func (s *sender) settleBatch(b *batch, r *produceapi.ResponsePartition) {
	p, q := s.producer, b.queue
	err := codeError(r.ErrorCode)
	if err == nil {
		for i, rec := range b.records {
			rec.offset = r.BaseOffset + int64(i)
			p.finish(rec, nil)
		}
		p.client.metrics.produced.WithLabelValues(q.topic).Add(float64(len(b.records)))
		p.client.metrics.producedBytes.WithLabelValues(q.topic).Add(float64(b.encoded[1] - b.encoded[0]))
		if q.lastErr != nil {
			p.client.log.Info("broker takes records again", "topic", q.topic, "partition", q.partition, "broker", s.leader)
			q.lastErr = nil
		}
		q.backoff.reset()
		if q.maxRecords *= 2; q.maxRecords > p.cfg.MaxQueuedRecords {
			q.maxRecords = 0
		}
		s.done(b)
		p.schedule(q)
		return
	}
	if r.ErrorMessage != "" {
		err = fmt.Errorf("%w: %s", err, r.ErrorMessage)
	}
	p.client.metrics.failed("produce", err)
	switch how := classify(err); how {
	case refused:
		s.refuse(b, err, r.RecordErrors)
	case forbidden:
		s.forbid(b, err)
	default:
		s.again(b, err, how)
	}
}

// done takes a batch out of flight. The caller holds Producer.mu.
func (s *sender) done(b *batch) {
	b.settled, b.queue.sending = true, nil
}

// again puts records back to be sent once more, after a pause and with a fresh look at who leads. The caller holds
// Producer.mu.
func (s *sender) again(b *batch, why error, how class) {
	p, q := s.producer, b.queue
	s.done(b)
	if how == unclear {
		for _, r := range b.records {
			r.unclear = true
		}
	}
	if q.lastErr == nil && !s.failing {
		p.client.log.Warn("records are not acknowledged; trying again",
			"topic", q.topic, "partition", q.partition, "broker", s.leader, "records", len(b.records), "err", why)
	}
	q.failed(why)
	q.staleView = q.view
	s.putBack(b)
	p.later(q, q.backoff.next())
}

// forbid fails the records of callers that will not wait for an operator; the others' are tried again, slowly. The
// caller holds Producer.mu.
func (s *sender) forbid(b *batch, why error) {
	keep := b.records[:0:0]
	for _, r := range b.records {
		if r.call.patient {
			keep = append(keep, r)
		} else {
			s.producer.finish(r, why)
		}
	}
	b.records = keep
	s.again(b, why, notWritten)
	if q := b.queue; q.retry.Stop() {
		s.producer.later(q, time.Second)
	}
}

// refuse finds out which records of a batch the broker will not take: one record must not fail its neighbours. The
// caller holds Producer.mu.
func (s *sender) refuse(b *batch, why error, bad []produceapi.ResponseError) {
	p, q := s.producer, b.queue
	s.done(b)
	drop := func(r *pending, why error) {
		p.client.metrics.refused.Inc()
		p.finish(r, why)
	}
	switch tooLarge := label(why) == "too_large"; {
	case len(b.records) == 1:
		drop(b.records[0], why)
	case tooLarge:
		q.maxBytes = max(1, b.size/2) // for good: the topic takes less than we thought
		p.client.log.Warn("topic takes smaller batches only", "topic", q.topic, "refused_bytes", b.size, "next_bytes", q.maxBytes)
	case len(bad) > 0 && len(bad) < len(b.records):
		for _, e := range bad {
			if i := int(e.BatchIndex); i >= 0 && i < len(b.records) {
				drop(b.records[i], fmt.Errorf("%w: %s", why, e.BatchIndexErrorMessage))
			}
		}
	default:
		q.maxRecords = (len(b.records) + 1) / 2
	}
	s.putBack(b)
	p.schedule(q)
}

// putBack returns the records that are still waited for to their queue. The caller holds Producer.mu.
func (s *sender) putBack(b *batch) {
	keep := b.records[:0]
	for _, r := range b.records {
		switch {
		case r.state == pendingDone:
		case r.call.gone:
			s.producer.finish(r, context.Canceled)
		default:
			keep = append(keep, r)
		}
	}
	s.producer.client.metrics.retried.Add(float64(len(keep)))
	b.queue.putBack(keep)
	clear(keep)
}
