package processor_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// rig is a processor of one lane that runs as in production, on ports that a test can hold up one by one. The simulation
// drives the stages itself, and knows no call that never returns: that is what is tested here.
type rig struct {
	*testing.T
	processor *processor.Processor
	record    *riggedRecord
	logs      *riggedLogs
	publisher *riggedPublisher
	registry  *prometheus.Registry
	log       *slog.Logger // nil for none
	limits    processor.Limits
	// stop ends the processor and waits until it has: as a deployment does that is told to stop.
	stop func()
}

// withRig runs a test on a processor that is assigned all partitions. Prepare says before what is special. Time passes
// only when everybody waits.
func withRig(t *testing.T, prepare, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{
			T: t, registry: prometheus.NewRegistry(),
			record:    &riggedRecord{Record: memory.New()},
			logs:      &riggedLogs{away: make(map[int32]bool), next: make(map[int32]int64)},
			publisher: &riggedPublisher{}, limits: processor.Limits{Batch: 8, FencedPause: 10 * time.Second},
		}
		if prepare != nil {
			prepare(r)
		}
		group := make(assignments, 1)
		group <- processor.Assignment{Partitions: []int32{0, 1, 2}, Live: make(chan struct{})}
		var err error
		if r.processor, err = processor.New(processor.Config{
			Rules: simRules, Signing: simSigning, Topic: topicName, Metrics: r.registry, Limits: r.limits,
			Log: r.log,
		}, group, r.record, r.publisher, r.logs); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := r.processor.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		r.stop = func() {
			stop()
			<-ended
		}
		defer r.stop()
		test(r)
	})
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// status is one partition's.
func (r *rig) status(p int32) processor.Status {
	r.Helper()
	for _, s := range r.processor.Status() {
		if s.Partition == p {
			return s
		}
	}
	r.Fatalf("partition %d is not assigned", p)
	return processor.Status{}
}

// metric is a metric's value, of a partition where it has one.
func (r *rig) metric(name string, p int32) float64 {
	r.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() != fmt.Sprint(p) {
				continue
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	r.Fatalf("no metric %s of partition %d", name, p)
	return 0
}

// decided fails unless a partition's row is at the offset.
func (r *rig) decided(p int32, next int64) {
	r.Helper()
	if s, _ := r.record.Standing(p); s.NextOffset != next {
		r.Errorf("partition %d is decided through %d, not %d", p, s.NextOffset, next)
	}
}

// written fails unless a partition's row says that it is published through the offset.
func (r *rig) written(p int32, through int64) {
	r.Helper()
	if s, _ := r.record.Standing(p); s.PublishedThrough != through {
		r.Errorf("partition %d is written down as published through %d, not %d", p, s.PublishedThrough, through)
	}
}

type assignments chan processor.Assignment

func (a assignments) Next(ctx context.Context) (processor.Assignment, error) {
	select {
	case next := <-a:
		return next, nil
	case <-ctx.Done():
		return processor.Assignment{}, ctx.Err()
	}
}

func (assignments) Commit(map[int32]int64) error { return nil }

// riggedRecord asks a test first, where that wants to be asked.
type riggedRecord struct {
	*memory.Record
	look        func([]processor.Request) error
	commit      func(context.Context, []processor.Batch) error
	unpublished func(int32) error
	published   func([]processor.Cursor) error
	halt        func(context.Context)
	forget      func(int32)
}

func (r *riggedRecord) Halt(ctx context.Context, at processor.Fence, reason string) error {
	if r.halt != nil {
		r.halt(ctx)
	}
	return r.Record.Halt(ctx, at, reason)
}

func (r *riggedRecord) Published(ctx context.Context, cursors []processor.Cursor) error {
	if r.published != nil {
		if err := r.published(cursors); err != nil {
			return err
		}
	}
	return r.Record.Published(ctx, cursors)
}

func (r *riggedRecord) Forget(ctx context.Context, at processor.Fence, keep time.Duration, most int) (processor.Forgotten, error) {
	if r.forget != nil {
		r.forget(at.Partition)
	}
	return r.Record.Forget(ctx, at, keep, most)
}

func (r *riggedRecord) Look(ctx context.Context, fences []processor.Fence, refs []names.Ref, requests []processor.Request) (processor.Known, error) {
	if r.look != nil {
		if err := r.look(requests); err != nil {
			return processor.Known{}, err
		}
	}
	return r.Record.Look(ctx, fences, refs, requests)
}

func (r *riggedRecord) Commit(ctx context.Context, batches []processor.Batch) error {
	if r.commit != nil {
		if err := r.commit(ctx, batches); err != nil {
			return err
		}
	}
	return r.Record.Commit(ctx, batches)
}

func (r *riggedRecord) Unpublished(ctx context.Context, at processor.Fence, from int64) ([]processor.Row, error) {
	if r.unpublished != nil {
		if err := r.unpublished(at.Partition); err != nil {
			return nil, err
		}
	}
	return r.Record.Unpublished(ctx, at, from)
}

// riggedLogs is a processor.Source. A leader that is away answers nothing, and hands out nothing.
type riggedLogs struct {
	mu      sync.Mutex
	records [3][]processor.Message
	next    map[int32]int64 // what is being read
	away    map[int32]bool
}

// send appends a claim of a name of that partition, and returns its request id.
func (s *riggedLogs) send(p int32, label string) uuid.UUID {
	name := ""
	for i := 0; name == "" || claims.Partition("username/"+name, pinned) != p; i++ {
		name = fmt.Sprintf("%s%d", strings.ToLower(label), i)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := asking{id: label, name: name, owner: "u-1"}.message(int64(len(s.records[p])))
	m.Time = time.Now()
	s.records[p] = append(s.records[p], m)
	return idOf(label)
}

// append writes a record of our own.
func (s *riggedLogs) append(p int32, r cloudevents.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Time = time.Now()
	s.records[p] = append(s.records[p], processor.Message{Offset: int64(len(s.records[p])), Record: r})
}

// arrive has leaders come back, all at once.
func (s *riggedLogs) arrive(partitions ...int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range partitions {
		delete(s.away, p)
	}
}

func (s *riggedLogs) leave(p int32, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[p] = away
}

func (s *riggedLogs) Seek(p int32, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[p] = offset
}

func (s *riggedLogs) Drop(p int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.next, p)
}

func (s *riggedLogs) Poll(ctx context.Context, b processor.Beside, most int, patience time.Duration) ([]processor.Fetched, error) {
	for end := time.Now().Add(patience); ; {
		if all := s.fetch(b, most); len(all) > 0 || !time.Now().Before(end) {
			return all, ctx.Err()
		}
		select {
		case <-b.Until:
			return nil, nil
		case <-time.After(time.Millisecond):
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (s *riggedLogs) fetch(b processor.Beside, most int) (all []processor.Fetched) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arrived := 0
	for p, from := range s.next {
		if s.away[p] || b.Passes(p) {
			continue
		}
		there := s.records[p][from:]
		arrived += len(there)
		if n := min(len(there), most); n > 0 {
			next := from + int64(n)
			all = append(all, processor.Fetched{
				Partition: p, From: from, Next: next, Messages: slices.Clone(there[:n]), HighWatermark: int64(len(s.records[p])),
			})
			most -= n
		}
	}
	if arrived < b.Least {
		return nil
	}
	for _, f := range all {
		s.next[f.Partition] = f.Next
	}
	return all
}

// answers waits for the leader, until ctx ends.
func (s *riggedLogs) answers(ctx context.Context, p int32) error {
	for {
		s.mu.Lock()
		away := s.away[p]
		s.mu.Unlock()
		if !away {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *riggedLogs) Bounds(ctx context.Context, p int32) (start, end int64, err error) {
	if err := s.answers(ctx, p); err != nil {
		return 0, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return 0, int64(len(s.records[p])), nil
}

func (s *riggedLogs) At(ctx context.Context, p int32, offset int64) (cloudevents.Record, bool, error) {
	if err := s.answers(ctx, p); err != nil {
		return cloudevents.Record{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if offset < 0 || offset >= int64(len(s.records[p])) {
		return cloudevents.Record{}, false, nil
	}
	return s.records[p][offset].Record, true, nil
}

// riggedPublisher asks a test first. What is not acknowledged of a call, it says only where partial is set.
type riggedPublisher struct {
	mu      sync.Mutex
	copies  map[uuid.UUID]int
	calls   int
	partial bool
	// refuse says why an output is not taken.
	refuse func(context.Context, *processor.Output) error
}

type partialError struct {
	error
	left []int
}

func (e *partialError) Unwrap() error         { return e.error }
func (e *partialError) Unacknowledged() []int { return e.left }

func (p *riggedPublisher) Publish(ctx context.Context, outputs []processor.Output) error {
	var left []int
	var why error
	for i := range outputs {
		if p.refuse != nil {
			if err := p.refuse(ctx, &outputs[i]); err != nil {
				left, why = append(left, i), err
				continue
			}
		}
		p.mu.Lock()
		if p.copies == nil {
			p.copies = make(map[uuid.UUID]int)
		}
		if id, err := uuid.Parse(requestIDOf(outputs[i].Value)); err == nil {
			p.copies[id]++
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.calls++
	p.mu.Unlock()
	if why != nil && p.partial {
		return &partialError{why, left}
	}
	return why
}

func (p *riggedPublisher) copiesOf(id uuid.UUID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.copies[id]
}

// gate holds up who passes it while it is shut.
type gate struct {
	mu   sync.Mutex
	shut chan struct{}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return nil
	}
	select {
	case <-shut:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
