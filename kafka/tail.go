package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// Tail reads all of registrations as it grows, without a group: every replica of the API has one. It begins at the end
// of each partition, and is Ready when it knows where that is: an outcome that is published from then on comes.
//
// It rides out brokers that restart and leaders that move. Where its place in the log is gone it goes on at the end,
// counted and logged: what it missed is in Postgres.
type Tail struct {
	client *Client
	handle func(ctx context.Context, partition int32, r cloudevents.Record)
	reader *Reader
	ready  chan struct{}

	// Of Run's goroutine only.
	partitions int
	stopped    map[int32]*tailPlace // those that are not being read
	pauses     map[int32]*tailPause
}

// tailPlace is where a partition is to be read on, and when.
type tailPlace struct {
	offset int64
	lost   bool // the offset is not in the log any more: go on at its end
	due    time.Time
}

// tailPause grows while a partition stops again and again.
type tailPause struct {
	backoff backoff
	until   time.Time // a stop before then is one more in a row
}

// next is how long to wait before a partition that has just stopped, or could not be resumed, is tried again.
func (p *tailPause) next(now time.Time) time.Duration {
	if now.After(p.until) {
		p.backoff.reset()
	}
	d := p.backoff.next()
	p.until = now.Add(d + 5*time.Second)
	return d
}

// NewTail prepares a tail. handle is called by one goroutine, for every record, in the order of its partition, without
// its headers: an outcome's value says it all. It must not keep the record: that would keep a whole answer of the broker
// in memory.
func NewTail(client *Client, handle func(ctx context.Context, partition int32, r cloudevents.Record)) *Tail {
	return &Tail{
		client: client, handle: handle, reader: NewReader(client, ReaderConfig{Topic: client.Registrations(), Bare: true}),
		ready: make(chan struct{}), stopped: make(map[int32]*tailPlace), pauses: make(map[int32]*tailPause),
	}
}

// Ready is closed once the tail has a position in every partition.
func (t *Tail) Ready() <-chan struct{} { return t.ready }

// Behind is how many records are on the topic and not handled yet, as of the last answers.
func (t *Tail) Behind() int64 { return t.reader.lag() }

// Age is how long ago a leader last told of the partition. While all is well it stays below a second; of a partition
// that is not read yet it is 0. What is older than Age has been handled, but for what Behind counts.
func (t *Tail) Age(partition int32) time.Duration { return t.reader.age(partition) }

// Run reads until ctx ends. It runs once.
func (t *Tail) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() { _ = t.reader.Run(ctx) }) // always nil

	if !t.begin(ctx) {
		return nil
	}
	close(t.ready)
	grown := time.NewTicker(growthCheck)
	defer grown.Stop()
	for ctx.Err() == nil {
		wait := t.resume(ctx)
		fetched, _ := t.reader.Poll(ctx, processor.Beside{}, 10_000, wait) // the error is that of ctx
		for i := range fetched {
			t.take(ctx, &fetched[i])
		}
		t.client.metrics.tailBehind.Set(float64(t.Behind()))
		select {
		case <-grown.C:
			t.grow(ctx)
		default:
		}
	}
	return nil
}

// begin finds the end of every partition.
func (t *Tail) begin(ctx context.Context) bool {
	topic := t.client.Registrations()
	for b := (backoff{min: 50 * time.Millisecond, max: time.Second}); ; {
		n, err := t.client.Partitions(ctx, topic)
		ends := make([]int64, n)
		for p := 0; p < n && err == nil; p++ {
			ends[p], err = t.client.offset(ctx, topic, int32(p), atEnd)
		}
		if err == nil {
			for p, end := range ends {
				t.reader.Seek(int32(p), end)
			}
			t.partitions = n
			return true
		}
		t.client.log.WarnContext(ctx, "position in the topic is not known yet", "topic", topic, "err", err)
		if !b.sleep(ctx) {
			return false
		}
	}
}

// grow reads partitions that were added since. They began after we were ready, so they are read from their start.
func (t *Tail) grow(ctx context.Context) {
	n, err := t.client.Partitions(ctx, t.client.Registrations())
	if err != nil {
		return
	}
	for ; t.partitions < n; t.partitions++ {
		t.client.log.InfoContext(ctx, "reading a partition that was added", "topic", t.client.Registrations(), "partition", t.partitions)
		t.reader.Seek(int32(t.partitions), 0)
	}
}

// take hands records on, or notes that a partition has stopped.
func (t *Tail) take(ctx context.Context, f *processor.Fetched) {
	for i := range f.Messages {
		t.handle(ctx, f.Partition, f.Messages[i].Record)
	}
	if f.Err == nil {
		return
	}
	now := time.Now()
	pause := t.pauses[f.Partition]
	if pause == nil {
		pause = &tailPause{backoff: backoff{min: 10 * time.Millisecond, max: time.Second}}
		t.pauses[f.Partition] = pause
	}
	t.stopped[f.Partition] = &tailPlace{
		offset: f.Next, lost: errors.Is(f.Err, processor.ErrOutOfLog), due: now.Add(pause.next(now)),
	}
}

// resume reads stopped partitions on whose time has come, and returns how long until the next one's.
func (t *Tail) resume(ctx context.Context) (wait time.Duration) {
	wait = time.Second
	for p, place := range t.stopped {
		if time.Until(place.due) <= 0 {
			if err := t.resumeAt(ctx, p, place); err == nil {
				delete(t.stopped, p)
				continue
			}
			now := time.Now()
			place.due = now.Add(t.pauses[p].next(now))
		}
		wait = min(wait, time.Until(place.due))
	}
	return max(wait, time.Millisecond)
}

func (t *Tail) resumeAt(ctx context.Context, partition int32, place *tailPlace) error {
	if place.lost {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		end, err := t.client.offset(ctx, t.client.Registrations(), partition, atEnd)
		if err != nil {
			return fmt.Errorf("find the end of %s/%d: %w", t.client.Registrations(), partition, err)
		}
		t.client.metrics.tailJumps.Inc()
		t.client.log.ErrorContext(ctx, "place in the topic is lost; going on at its end. Outcomes in between are in Postgres",
			"topic", t.client.Registrations(), "partition", partition, "lost", place.offset, "offset", end)
		place.offset = end
	}
	t.reader.Seek(partition, place.offset)
	return nil
}
