package verify_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
)

// rig is a deployment in memory: the real processor between two logs, on the record without a database. It is the
// processor's Source, Publisher and Group.
type rig struct {
	t     testing.TB
	rules processor.Rules
	mem   *memory.Record
	runs  chan struct{} // closed when the processor has ended
	stop  func()

	mu            sync.Mutex
	claims        []memoryLog
	registrations []memoryLog
	assigned      bool
	at            map[int32]int64 // where the processor reads on
	grown         chan struct{}
}

// memoryLog is one partition of a topic. Offsets below start are gone.
type memoryLog struct {
	start, end int64
	records    []processor.Message
}

func (l *memoryLog) append(r cloudevents.Record) int64 {
	if r.Time.IsZero() {
		r.Time = time.Now().UTC().Truncate(time.Millisecond)
	}
	l.records = append(l.records, processor.Message{Offset: l.end, Record: r})
	l.end++
	return l.end - 1
}

func (l *memoryLog) cut(start int64) {
	l.start = start
	for len(l.records) > 0 && l.records[0].Offset < start {
		l.records = l.records[1:]
	}
}

var (
	testSigning = claims.SigningKey{ID: "k1", Secret: []byte("a secret of the tests")}
	testKeys    = claims.Keys{"k1": testSigning.Secret}
)

// spaceHandle has names unique among active users, with a cool-down.
const spaceHandle = names.Space("handle")

func testPolicies() names.Policies {
	username := *names.Builtin()[names.Username]
	username.Version = 1
	handle := username
	handle.Space, handle.Version, handle.UniqueAmong, handle.CoolDown = spaceHandle, 3, names.AmongActive, 30*time.Second
	return names.Policies{names.Username: &username, spaceHandle: &handle}
}

func newRig(t testing.TB, partitions int) *rig {
	t.Helper()
	g := &rig{
		t: t, mem: memory.New(), runs: make(chan struct{}), at: make(map[int32]int64), grown: make(chan struct{}, 1),
		rules:  processor.Rules{Partitions: partitions, Policies: testPolicies(), Keys: testKeys},
		claims: make([]memoryLog, partitions), registrations: make([]memoryLog, partitions),
	}
	g.run()
	return g
}

// run starts a processor, which is stopped at the end of the test.
func (g *rig) run() {
	p, err := processor.New(processor.Config{Rules: g.rules, Signing: testSigning, Topic: "claims"}, g, g.mem, g, g)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Run(ctx)
	}()
	g.stop = func() { stop(); <-done }
	g.t.Cleanup(g.stop)
}

// send appends a record to a partition of claims.
func (g *rig) send(partition int32, r cloudevents.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.claims[partition].append(r)
	g.wake()
}

func (g *rig) wake() {
	select {
	case g.grown <- struct{}{}:
	default:
	}
}

// settled waits until everything is decided and published, then stops the processor.
func (g *rig) settled() {
	g.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		waits := g.waits()
		if waits == "" {
			g.stop()
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatal(waits)
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polled: the processor says nothing when it is idle
	}
}

func (g *rig) waits() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.claims {
		s, _ := g.mem.Standing(int32(p))
		if end := g.claims[p].end; s.NextOffset != end || s.PublishedThrough != end && end > 0 {
			return fmt.Sprintf("partition %d: next is %d, published through %d, the log ends at %d", p, s.NextOffset, s.PublishedThrough, end)
		}
	}
	return ""
}

// Next implements processor.Group.
func (g *rig) Next(ctx context.Context) (processor.Assignment, error) {
	g.mu.Lock()
	first := !g.assigned
	g.assigned = true
	n := len(g.claims)
	g.mu.Unlock()
	if !first {
		<-ctx.Done()
		return processor.Assignment{}, ctx.Err()
	}
	a := processor.Assignment{Generation: 1, Live: make(chan struct{})}
	for p := range n {
		a.Partitions = append(a.Partitions, int32(p))
	}
	return a, nil
}

// Commit implements processor.Group.
func (g *rig) Commit(map[int32]int64) error { return nil }

// Seek implements processor.Source.
func (g *rig) Seek(partition int32, offset int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at[partition] = offset
	g.wake()
}

// Drop implements processor.Source.
func (g *rig) Drop(partition int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.at, partition)
}

// Poll implements processor.Source.
func (g *rig) Poll(ctx context.Context, b processor.Beside, most int, wait time.Duration) ([]processor.Fetched, error) {
	timeout := time.After(wait)
	for {
		if b.Least != math.MaxInt { // it has one transaction at a time: with none under way everything is worth it
			if all := g.take(b, most); len(all) > 0 {
				return all, nil
			}
		}
		select {
		case <-g.grown:
		case <-b.Until:
			return nil, nil
		case <-timeout:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (g *rig) take(b processor.Beside, most int) (all []processor.Fetched) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, from := range g.at {
		if b.Passes(p) {
			continue
		}
		log := &g.claims[p]
		var messages []processor.Message
		for _, m := range log.records {
			if m.Offset >= from && len(messages) < most {
				messages = append(messages, m)
			}
		}
		if len(messages) == 0 {
			continue
		}
		most -= len(messages)
		next := messages[len(messages)-1].Offset + 1
		all = append(all, processor.Fetched{Partition: p, From: from, Next: next, Messages: messages, HighWatermark: log.end})
		g.at[p] = next
	}
	return all
}

// Bounds implements processor.Source.
func (g *rig) Bounds(_ context.Context, partition int32) (start, end int64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.claims[partition].start, g.claims[partition].end, nil
}

// At implements processor.Source.
func (g *rig) At(_ context.Context, partition int32, offset int64) (cloudevents.Record, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.claims[partition].records {
		if m.Offset == offset {
			return m.Record, true, nil
		}
	}
	return cloudevents.Record{}, false, nil
}

// Publish implements processor.Publisher.
func (g *rig) Publish(_ context.Context, outputs []processor.Output) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range outputs {
		switch o.Topic {
		case processor.ToRegistrations:
			g.registrations[o.Partition].append(o.Record)
		case processor.ToClaims:
			g.claims[o.Partition].append(o.Record)
		}
	}
	g.wake()
	return nil
}
