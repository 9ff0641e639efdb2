package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/processor"
	kafkago "github.com/segmentio/kafka-go"
)

var _ processor.Source = (*Reader)(nil)

// ReaderConfig says what a Reader reads, and how much ahead.
type ReaderConfig struct {
	// Topic is the full name of one of the client's topics. Defaults to that of claims.
	Topic string
	// MaxBytes is how large one answer of a leader should be. At most two answers per leader are held: one that is read
	// out, and one behind it. As much again may be held for each transaction whose partitions are passed over. (One batch is
	// always taken, however large.) Defaults to 4 MiB.
	MaxBytes int
	// MaxWait is how long a leader waits for records. Defaults to 500 ms.
	MaxWait time.Duration
	// Rest is how long a leader is left alone after an answer that brought something. Who can wait that long does not ask
	// for each record alone. Defaults to not at all.
	Rest time.Duration
	// Bare passes over the headers of records.
	Bare bool
}

func (c ReaderConfig) withDefaults(client *Client) ReaderConfig {
	if c.Topic == "" {
		c.Topic = client.Claims()
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 4 << 20
	}
	if c.MaxWait == 0 {
		c.MaxWait = 500 * time.Millisecond
	}
	return c
}

// Reader reads partitions of one topic: per leader there is one fetch request under way, for all partitions of that
// leader that are sought.
//
// It implements processor.Source. Seek, Drop and Poll are for one goroutine; Bounds and At are safe for any. It reads
// while Run runs.
type Reader struct {
	client *Client
	cfg    ReaderConfig

	mu         sync.Mutex // guards everything below, and all readings and fetchers
	partitions map[int32]*reading
	order      []*reading // the same, for Poll to take turns
	turn       int
	fetchers   map[int32]*fetcher
	answered   map[int32]time.Time // when a leader last gave an answer about a partition; at first, when it was sought
	staleView  int64               // metadata up to this one is known to be wrong
	start      func(*fetcher)      // nil while Run does not run

	arrived chan struct{} // wakes Poll
	resolve chan struct{} // wakes the resolver
	workers sync.WaitGroup
}

// reading is the reading of one partition from one Seek on. The next Seek makes another one, so that an answer to the
// former can be told from an answer to the latter.
type reading struct {
	partition     int32
	from          int64 // where the next Fetched begins
	next          int64 // what to ask the leader for: behind what has been read ahead
	messages      []processor.Message
	bytes         int  // of messages, roughly
	passed        bool // over by the last Poll: it is in a transaction
	passedSince   time.Time
	highWatermark int64
	heard         time.Time // when its leader last told of it; at first, when the fetcher got it
	err           error     // reading has stopped; comes behind the messages
	fetcher       *fetcher
	view          int64 // the metadata that the leader was taken from
	sought        time.Time
	unknown       int // how many metadata answers in a row did not know the partition
}

// NewReader prepares a reader.
func NewReader(client *Client, cfg ReaderConfig) *Reader {
	return &Reader{
		client: client, cfg: cfg.withDefaults(client),
		partitions: make(map[int32]*reading), fetchers: make(map[int32]*fetcher), answered: make(map[int32]time.Time),
		arrived: make(chan struct{}, 1), resolve: make(chan struct{}, 1),
	}
}

// Run fetches until ctx ends. It runs once.
func (r *Reader) Run(ctx context.Context) error {
	r.mu.Lock()
	r.start = func(f *fetcher) { r.workers.Go(func() { f.run(ctx) }) }
	for _, f := range r.fetchers {
		r.start(f)
	}
	r.mu.Unlock()
	r.workers.Go(func() { r.resolveLeaders(ctx) })
	<-ctx.Done()
	r.mu.Lock()
	r.start = nil
	r.mu.Unlock()
	r.workers.Wait()
	return nil
}

// Seek implements processor.Source.
func (r *Reader) Seek(partition int32, offset int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(partition)
	g := &reading{partition: partition, from: offset, next: offset, sought: time.Now()}
	if _, ok := r.answered[partition]; !ok {
		r.answered[partition] = g.sought
	}
	r.partitions[partition] = g
	r.order = append(r.order, g)
	r.place(g)
}

// Drop implements processor.Source.
func (r *Reader) Drop(partition int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(partition)
	delete(r.answered, partition)
}

// drop ends the reading of a partition. The caller holds mu.
func (r *Reader) drop(partition int32) {
	g := r.partitions[partition]
	if g == nil {
		return
	}
	r.leave(g)
	delete(r.partitions, partition)
	for i := range r.order {
		if r.order[i] == g {
			r.order = append(r.order[:i], r.order[i+1:]...)
			break
		}
	}
}

// leave takes a reading from its fetcher. The caller holds mu.
func (r *Reader) leave(g *reading) {
	if g.fetcher != nil {
		g.fetcher.remove(g)
		g.fetcher = nil
	}
}

// place gives a reading to the fetcher of its leader, or to the resolver. The caller holds mu.
func (r *Reader) place(g *reading) {
	if v := r.client.metadata.current(); v.seq > r.staleView {
		if leader, err := v.leader(r.cfg.Topic, g.partition); err == nil {
			r.assign(g, leader, v.seq)
			return
		}
	}
	wake(r.resolve)
}

// assign makes a fetcher read a partition. The caller holds mu.
func (r *Reader) assign(g *reading, leader int32, view int64) {
	f := r.fetchers[leader]
	if f == nil {
		f = newFetcher(r, leader)
		r.fetchers[leader] = f
		if r.start != nil {
			r.start(f)
		}
	}
	g.fetcher, g.view = f, view
	f.add(g)
}

// interrupt stops a reading. The caller holds mu.
func (r *Reader) interrupt(g *reading, err error) {
	r.leave(g)
	r.staleView = max(r.staleView, g.view)
	g.err = err
	reason := "interrupted"
	if errors.Is(err, processor.ErrOutOfLog) {
		reason = "out_of_log"
	}
	r.client.metrics.interrupted.WithLabelValues(r.cfg.Topic, reason).Inc()
	wake(r.arrived)
}

// Poll implements processor.Source. Less records than are worth it come as well where they are large: see enoughBytes. With
// math.MaxInt nothing ever is. Busy must not call the reader.
func (r *Reader) Poll(ctx context.Context, b processor.Beside, most int, wait time.Duration) ([]processor.Fetched, error) {
	var timeout <-chan time.Time
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if fetched := r.take(b, most); len(fetched) > 0 {
			return fetched, nil
		}
		if wait <= 0 {
			return nil, nil
		}
		if timeout == nil {
			t := time.NewTimer(wait)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-r.arrived:
		case <-b.Until:
			wait = 0
		case <-timeout:
			wait = 0 // one last look
		case <-ctx.Done():
		}
	}
}

// take hands out what has arrived, another partition first each time.
func (r *Reader) take(b processor.Beside, most int) []processor.Fetched {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass(&b)
	if !r.worth(b.Least) {
		return nil
	}
	var out []processor.Fetched
	var over []*reading
	first := 0
	for i := range r.order {
		at := (r.turn + i) % len(r.order)
		g := r.order[at]
		if g.passed {
			continue
		}
		f, ok := g.take(most)
		if !ok {
			continue
		}
		if len(out) == 0 {
			first = at
		}
		out = append(out, f)
		most -= len(f.Messages)
		if f.Err != nil {
			over = append(over, g)
		} else if g.fetcher != nil {
			wake(g.fetcher.woken) // there is room again
		}
	}
	if len(out) > 0 {
		r.turn = first + 1 // and not one further each time: who comes behind many that are passed over would be first most often
	}
	for _, g := range over {
		r.drop(g.partition)
	}
	return out
}

// pass notes which partitions are busy. Fetchers go by it: they cannot ask, for Busy is for the goroutine of Poll. The caller
// holds mu.
func (r *Reader) pass(b *processor.Beside) {
	for _, g := range r.order {
		if passed := b.Passes(g.partition); passed != g.passed {
			if g.passed = passed; passed {
				g.passedSince = time.Now()
			}
			if g.fetcher != nil {
				wake(g.fetcher.woken) // there is room for the others, or for this one
			}
		}
	}
}

// worth reports whether enough has arrived of the partitions that are not passed over. The caller holds mu.
func (r *Reader) worth(least int) bool {
	switch least {
	case math.MaxInt:
		return false
	case 0, 1:
		return true
	}
	records, bytes := 0, 0
	for _, g := range r.order {
		if !g.passed {
			records += len(g.messages)
			bytes += g.bytes
		}
	}
	return records >= least || bytes >= r.enoughBytes()
}

// enoughBytes is what is worth handing out, however few records it is: where a partition is full, or a leader's partitions
// together, no more of them is read, and waiting for more records would be in vain. It is no less than the smaller of these,
// and by itself work enough for a transaction.
func (r *Reader) enoughBytes() int { return min(partitionMax, r.cfg.MaxBytes) }

// take hands out at most so many messages; where there is nothing but progress over offsets without messages, that.
func (g *reading) take(most int) (processor.Fetched, bool) {
	f := processor.Fetched{Partition: g.partition, From: g.from, Next: g.next, HighWatermark: g.highWatermark}
	switch n := len(g.messages); {
	case n > most:
		if most <= 0 {
			return f, false
		}
		f.Messages = g.messages[:most:most]
		f.Next = f.Messages[most-1].Offset + 1
		g.messages = g.messages[most:]
		g.bytes -= g.bytes / n * most
	case g.next > g.from: // with messages or without
		f.Messages = g.messages
		g.messages, g.bytes = nil, 0
	case g.err != nil:
		f.Err = g.err
	default:
		return f, false
	}
	g.from = f.Next
	return f, true
}

// lag is how many records are not polled yet, as of the leaders' last answers.
func (r *Reader) lag() (records int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.order {
		records += max(0, g.highWatermark-g.from)
	}
	return records
}

// age is how long ago a leader last answered for a partition, or the partition was sought, if that was later.
func (r *Reader) age(partition int32) time.Duration {
	r.mu.Lock()
	at, ok := r.answered[partition]
	r.mu.Unlock()
	if !ok {
		return 0
	}
	return time.Since(at)
}

// patience is how long a leader is looked for before reading counts as interrupted.
const patience = 5 * time.Second

// resolveLeaders finds leaders for the partitions that have none.
func (r *Reader) resolveLeaders(ctx context.Context) {
	b := backoff{min: 20 * time.Millisecond, max: time.Second}
	for {
		select {
		case <-r.resolve:
		case <-ctx.Done():
			return
		}
		for b.reset(); ; {
			seq, any := r.unledView()
			if !any {
				break
			}
			v, err := r.client.metadata.newer(ctx, seq)
			if r.lead(v, err) && !b.sleep(ctx) {
				return
			}
		}
	}
}

func (r *Reader) unledView() (seq int64, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.order {
		any = any || g.fetcher == nil && g.err == nil
	}
	return r.staleView, any
}

// lead assigns the partitions that have a leader now, and reports whether some still have none.
func (r *Reader) lead(v *view, failed error) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stale := r.staleView
	for _, g := range r.order {
		if g.fetcher != nil || g.err != nil {
			continue
		}
		err := failed
		if err == nil {
			if v.seq <= stale {
				again = true
				continue
			}
			var leader int32
			if leader, err = v.leader(r.cfg.Topic, g.partition); err == nil {
				r.assign(g, leader, v.seq)
				continue
			}
			g.view = v.seq
		}
		r.client.metrics.failed("fetch", err)
		g.unknown++
		if !errors.Is(err, kafkago.UnknownTopicOrPartition) {
			g.unknown = 0
		}
		switch waited := time.Since(g.sought); {
		case g.unknown >= 3 && waited > time.Second: // a broker that has just started may not know it yet
			r.interrupt(g, fmt.Errorf("%w: %s/%d: %w", processor.ErrOutOfLog, r.cfg.Topic, g.partition, err))
		case waited > patience:
			r.interrupt(g, fmt.Errorf("%w: no leader for %s/%d: %w", processor.ErrInterrupted, r.cfg.Topic, g.partition, err))
		default:
			again = true
			if v != nil {
				r.staleView = max(r.staleView, v.seq)
			}
		}
	}
	return again
}
