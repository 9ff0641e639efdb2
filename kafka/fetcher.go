package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/processor"
)

// partitionMax is how much a leader gives of one partition in one answer. It is above our batches, so that a batch comes
// whole also where its partition is not the first of the request.
const partitionMax = 1 << 20

// A Seek must not wait behind a long poll for other partitions. It calls off a request that would wait longer than this;
// the next requests wait this long, then twice as long each time. So one of a row of Seeks calls off, not each.
const seekWait = 20 * time.Millisecond

// unheardMax is for how long a partition of ours may go without an answer before the log behind its next offset is no
// longer taken for the one we knew. A partition that is being asked has an answer every half a second, or an error that
// interrupts it: a log that ends earlier than it did, or goes away, is seen. One that is not asked, because there is no
// room for what it would bring, sees nothing: a topic that is deleted, made again and grown past our place meanwhile
// reads on as if nothing had been.
//
// No time is short enough to rule that out. But deleting a topic, making it again, electing its leaders, and writing as
// much as there was before, by producers that first have to find those leaders, takes longer than this where people or
// their tools do it step by step; what is faster is left to the check that a processor makes by the clock. A much shorter
// time would make every wait for room a check, with its requests to a leader, just when the processor does not keep up.
const unheardMax = 10 * time.Second

// errUnheard: see unheardMax.
var errUnheard = fmt.Errorf("%w: the partition was not asked for a while", processor.ErrInterrupted)

// errSought ends a request that was called off.
var errSought = errors.New("called off by a seek")

// fetcher reads from one leader, one request at a time. What is read goes into the readings; there is no next request
// while they hold an answer's worth that nobody has taken. What is held of partitions that Poll passes over does not count
// against the others: a transaction may hang for long, and they go on meanwhile.
type fetcher struct {
	reader *Reader
	leader int32
	woken  chan struct{}

	// Reader.mu guards these.
	readings []*reading
	turn     int
	wait     time.Duration           // of the next request
	callOff  context.CancelCauseFunc // the request under way; nil where there is none
	waitEnds time.Time               // when its wait is over

	// Of the goroutine only.
	asked   []*reading
	places  []place
	index   map[int32]int // partition to its place
	backoff backoff
	idle    backoff // between answers that should have been waited for and were empty
}

func newFetcher(r *Reader, leader int32) *fetcher {
	return &fetcher{
		reader: r, leader: leader, woken: make(chan struct{}, 1), wait: seekWait, index: make(map[int32]int),
		backoff: backoff{min: 40 * time.Millisecond, max: time.Second},
		idle:    backoff{min: time.Millisecond, max: 100 * time.Millisecond},
	}
}

// add begins to read a partition. The caller holds Reader.mu.
func (f *fetcher) add(g *reading) {
	f.readings = append(f.readings, g)
	g.heard = time.Now()
	f.wait = seekWait
	if f.callOff != nil && time.Until(f.waitEnds) > seekWait {
		f.callOff(errSought)
	}
	wake(f.woken)
}

// remove ends the reading of a partition. The caller holds Reader.mu.
func (f *fetcher) remove(g *reading) {
	if i := slices.Index(f.readings, g); i >= 0 {
		f.readings = slices.Delete(f.readings, i, i+1)
	}
	wake(f.woken) // it may have held what others wait for: room
}

func (f *fetcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		called, wait, ok := f.plan(ctx)
		if !ok {
			select {
			case <-f.woken:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		a, err := f.fetch(called, wait)
		switch {
		case errors.Is(err, errSought):
		case ctx.Err() != nil:
		case err != nil:
			f.failed(err)
			f.backoff.sleep(ctx)
		default:
			f.backoff.reset()
			progress := f.apply(a)
			if progress && f.reader.cfg.Rest > 0 {
				pause(ctx, f.reader.cfg.Rest)
			}
			if progress || time.Since(began) >= wait/2 {
				f.idle.reset()
			} else {
				f.idle.sleep(ctx) // a broker that does not wait must not keep a core busy
			}
		}
	}
}

// plan decides what to ask for. It reports false where there is nothing to ask for now. A Seek that comes after it ends
// called.
func (f *fetcher) plan(ctx context.Context) (called context.Context, wait time.Duration, ok bool) {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	f.asked, f.places = f.asked[:0], f.places[:0]
	clear(f.index)
	f.turn++
	all, free := 0, 0 // bytes that are held: in all, and of partitions that Poll does not pass over
	for _, g := range f.readings {
		all += g.bytes
		if !g.passed {
			free += g.bytes
		}
	}
	if free >= r.cfg.MaxBytes {
		return nil, 0, false
	}
	// What is passed over has the room that the others leave, none of its own: while a transaction hangs, what is held of its
	// partitions stays at what it was, at most two answers. So what is held in all is bounded by how many transactions there are.
	hasRoom := func(g *reading) bool { return g.bytes < partitionMax && (!g.passed || all < r.cfg.MaxBytes) }
	f.interruptUnheard(hasRoom)
	for _, passed := range []bool{false, true} { // an answer is as large as may be: first what is waited for
		for i := range f.readings {
			g := f.readings[(f.turn+i)%len(f.readings)]
			if g.passed == passed && hasRoom(g) {
				f.index[g.partition] = len(f.asked)
				f.asked = append(f.asked, g)
				f.places = append(f.places, place{g.partition, g.next})
			}
		}
	}
	if len(f.asked) == 0 {
		return nil, 0, false
	}
	wait = min(f.wait, r.cfg.MaxWait)
	f.wait = 2 * wait
	if len(f.asked) < len(f.readings) {
		wait = min(wait, seekWait) // the ones left out may have room soon
	}
	called, f.callOff = context.WithCancelCause(ctx)
	f.waitEnds = time.Now().Add(wait)
	return called, wait, true
}

// interruptUnheard stops the partitions that would be asked now, after too long. What has been read ahead of them is of
// the log that we knew, and comes before the interruption. The caller holds Reader.mu.
func (f *fetcher) interruptUnheard(asked func(*reading) bool) {
	now := time.Now()
	for i := len(f.readings) - 1; i >= 0; i-- { // from behind, since it takes them out
		if g := f.readings[i]; asked(g) && now.Sub(g.heard) > unheardMax {
			r := f.reader
			r.client.log.Info("reading of a partition has been held up; what is behind it is looked at before it goes on",
				"topic", r.cfg.Topic, "partition", g.partition, "offset", g.next, "broker", f.leader, "waited", now.Sub(g.heard))
			r.interrupt(g, fmt.Errorf("read %s/%d at offset %d: %w", r.cfg.Topic, g.partition, g.next, errUnheard))
		}
	}
}

// fetch sends the request and waits for the answer.
func (f *fetcher) fetch(ctx context.Context, wait time.Duration) (*fetchAnswer, error) {
	r := f.reader
	ctx, cancel := context.WithTimeout(ctx, wait+r.client.cfg.RequestTimeout)
	defer cancel()
	began := time.Now()
	body, _, err := r.client.roundTrip(ctx, &exchange{
		to: f.leader, request: fetchRequest(r.cfg.Topic, f.places, wait, r.cfg.MaxBytes, partitionMax), decode: decodeFetch,
	})
	r.mu.Lock()
	f.callOff(nil)
	f.callOff = nil
	r.mu.Unlock()
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errSought) {
			return nil, cause
		}
		return nil, fmt.Errorf("fetch from broker %d: %w", f.leader, err)
	}
	r.client.metrics.requests.WithLabelValues("fetch").Observe(time.Since(began).Seconds())
	a := body.(*fetchAnswer)
	if a.err != nil {
		return nil, fmt.Errorf("fetch from broker %d: %w", f.leader, a.err)
	}
	return a, nil
}

// failed interrupts everything that was asked for.
func (f *fetcher) failed(err error) {
	r := f.reader
	r.client.metrics.failed("fetch", err)
	if f.backoff.attempt%10 == 0 { // the first one in a row, then one every ten seconds or so
		r.client.log.Warn("reading was interrupted", "topic", r.cfg.Topic, "broker", f.leader, "partitions", len(f.asked), "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range f.asked {
		if g.fetcher == f {
			r.interrupt(g, fmt.Errorf("%w: %w", processor.ErrInterrupted, err))
		}
	}
}

// apply reads an answer into the readings, and reports whether it brought anything.
func (f *fetcher) apply(a *fetchAnswer) (progress bool) {
	r := f.reader
	records := 0
	for i := range a.partitions {
		p := &a.partitions[i]
		at, ok := f.index[p.partition]
		if !ok {
			continue // not asked for
		}
		g, from := f.asked[at], f.places[at].offset
		in := recordReader{from: from, next: from, limit: partitionMax * 4, bare: r.cfg.Bare}
		err := p.err
		if err == nil {
			err = in.read(f.apart(g, p.batches))
		}
		progress = progress || in.next > from || err != nil
		records += len(in.messages)
		f.store(g, &in, p, err)
	}
	r.client.metrics.fetched.WithLabelValues(r.cfg.Topic).Add(float64(records))
	r.client.metrics.fetchedBytes.WithLabelValues(r.cfg.Topic).Add(float64(a.size))
	return progress
}

// hangs is for how long a partition is passed over before its transaction counts as one that hangs.
const hangs = 250 * time.Millisecond

// apart gives the batches of a partition whose transaction hangs memory of their own. A record keeps its answer: with a record
// here and there, such a partition would keep all that is read of the others meanwhile.
func (f *fetcher) apart(g *reading, batches []byte) []byte {
	if len(batches) == 0 {
		return nil
	}
	f.reader.mu.Lock()
	hanging := g.passed && time.Since(g.passedSince) > hangs
	f.reader.mu.Unlock()
	if hanging {
		return bytes.Clone(batches)
	}
	return batches
}

// store puts what was read where Poll finds it, unless a Seek or Drop has been faster.
func (f *fetcher) store(g *reading, in *recordReader, p *fetchedPartition, err error) {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.fetcher != f {
		return
	}
	if err == nil && p.highWatermark < g.highWatermark {
		// Not on this leader's watch. Whatever came with it may be of another log.
		err = fmt.Errorf("%w: the log ended at offset %d and now ends at %d", processor.ErrInterrupted, g.highWatermark, p.highWatermark)
		in = &recordReader{}
	}
	if p.err == nil {
		g.heard = time.Now()
		g.highWatermark, r.answered[g.partition] = p.highWatermark, g.heard
	}
	if in.next > g.next {
		if len(g.messages) == 0 {
			g.messages = in.messages
		} else {
			g.messages = append(g.messages, in.messages...)
		}
		g.bytes += len(p.batches) + in.inflated
		g.next = in.next
		if !g.passed { // or else Poll finds it when that is over
			wake(r.arrived)
		}
	}
	if err != nil {
		r.client.metrics.failed("fetch", err)
		r.client.log.Warn("reading of a partition has stopped",
			"topic", r.cfg.Topic, "partition", g.partition, "offset", g.next, "broker", f.leader, "err", err)
		r.interrupt(g, fmt.Errorf("read %s/%d at offset %d: %w", r.cfg.Topic, g.partition, g.next, readError(err)))
	}
}
