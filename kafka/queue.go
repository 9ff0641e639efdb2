package kafka

import (
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/prometheus/client_golang/prometheus"
)

// pending is a record on its way. Producer.mu guards it, but for record and size, which do not change.
type pending struct {
	record  cloudevents.Record
	size    int
	call    *call
	queue   *queue
	state   pendingState
	unclear bool  // an attempt ended without our knowing whether the broker has the record
	offset  int64 // once done without an error
	err     error
}

type pendingState uint8

const (
	pendingNew pendingState = iota // not in a queue yet
	pendingQueued
	pendingSending
	pendingDone
)

// call is one caller's wait for its records.
type call struct {
	budget *budget
	// patient callers wait until an operator has put right what keeps their records off the topic.
	patient bool
	// Closed when all records are done, and when one has failed, unless the caller has gone. Nil where nobody waits for it.
	done, failed chan struct{}

	records []pending
	left    int
	gone    bool
}

// queue holds what waits for one partition. Producer.mu guards it.
type queue struct {
	topic     string
	partition int32
	state     queueState
	records   []*pending // from head on; with the sent ones taken out
	head      int
	dead      int // how many of them nobody waits for any more

	view      int64 // the metadata that the leader was taken from
	staleView int64 // metadata up to this one is known to be wrong
	backoff   backoff
	retry     *time.Timer
	lastErr   error     // of the last attempts; nil where the last one succeeded
	failing   time.Time // since when lastErr is one

	// How much goes into one batch. maxBytes shrinks where the topic takes less than we thought. maxRecords is set while
	// a record that the broker refuses is searched for among its neighbours: 0 for no limit.
	maxBytes   int
	maxRecords int
	sending    *batch
}

type queueState uint8

const (
	queueIdle    queueState = iota // empty
	queueUnled                     // in Producer.unled
	queueReady                     // in its sender's list
	queueSending                   // in a request
	queueWaiting                   // for its retry timer
)

func (q *queue) empty() bool { return len(q.records)-q.head == q.dead }

// failed notes why records are not acknowledged.
func (q *queue) failed(err error) {
	if q.lastErr == nil {
		q.failing = time.Now()
	}
	q.lastErr = err
}

// waiting is how many records are not acknowledged yet.
func (q *queue) waiting() int {
	n := len(q.records) - q.head - q.dead
	if q.sending != nil {
		n += len(q.sending.records)
	}
	return n
}

func (q *queue) append(r *pending) {
	if q.head > 64 && q.head > len(q.records)/2 {
		q.records = append(q.records[:0], q.records[q.head:]...)
		clear(q.records[len(q.records):cap(q.records)])
		q.head = 0
	}
	r.queue, r.state = q, pendingQueued
	q.records = append(q.records, r)
}

// drop notes that a record in the queue is not waited for any more. The record goes when it is met, or when there are
// too many such: a broker that is away must not keep in memory what was given up.
func (q *queue) drop() {
	q.dead++
	if q.dead < 64 || q.dead < (len(q.records)-q.head)/2 {
		return
	}
	live := q.records[:0]
	for _, r := range q.records[q.head:] {
		if r.state != pendingDone {
			live = append(live, r)
		}
	}
	clear(q.records[len(live):])
	q.records, q.head, q.dead = live, 0, 0
}

// take moves the first records into a batch, at most so many bytes, but at least one record.
func (q *queue) take(b *batch) {
	b.queue, b.records, b.size = q, b.records[:0], 0
	for q.head < len(q.records) {
		r := q.records[q.head]
		if r.state == pendingDone {
			q.dead--
		} else {
			if len(b.records) > 0 && (b.size+r.size > q.maxBytes || len(b.records) == q.maxRecords) {
				return
			}
			r.state = pendingSending
			b.records = append(b.records, r)
			b.size += r.size
		}
		q.records[q.head] = nil
		q.head++
	}
	q.records, q.head = q.records[:0], 0
}

// putBack makes records the first ones again.
func (q *queue) putBack(records []*pending) {
	if len(records) == 0 {
		return
	}
	for _, r := range records {
		r.state = pendingQueued
	}
	if q.head >= len(records) {
		q.head -= len(records)
		copy(q.records[q.head:], records)
		return
	}
	q.records = append(append(make([]*pending, 0, len(records)+len(q.records)-q.head), records...), q.records[q.head:]...)
	q.head = 0
}

// budget bounds what one kind of caller has waiting. Producer.mu guards it.
type budget struct {
	records, maxRecords int
	bytes, maxBytes     int
	space               chan struct{} // closed when there is space again; nil where nobody waits for it
	freed               bool          // since the last show

	recordsGauge, bytesGauge prometheus.Gauge // as of the last show
}

// share reports whether a queue may have one more record of this budget: while it has fewer than there are places left.
// One that is not sent, for its leader is away, leaves places for all others that way, however many there are of its kind:
// of n, each ends with 1/(n+1) of the budget, and so do the others together.
func (b *budget) share(q *queue) bool {
	return q.waiting() < b.maxRecords-b.records
}

// take reports whether there was room for a record. One record fits into an empty budget, however large it is.
func (b *budget) take(size int) bool {
	if b.records >= b.maxRecords || b.bytes > 0 && b.bytes+size > b.maxBytes {
		return false
	}
	b.records++
	b.bytes += size
	return true
}

func (b *budget) release(records, bytes int) {
	b.records -= records
	b.bytes -= bytes
	b.freed = true
}

// show lets an operator see what waits, and those go on who wait for room. It is for the end of a request or a call, not
// for every record.
func (b *budget) show() {
	b.recordsGauge.Set(float64(b.records))
	b.bytesGauge.Set(float64(b.bytes))
	if b.freed && b.space != nil {
		close(b.space)
		b.space = nil
	}
	b.freed = false
}

// wait returns what will be closed when there is space.
func (b *budget) wait() <-chan struct{} {
	if b.space == nil {
		b.space = make(chan struct{})
	}
	return b.space
}
