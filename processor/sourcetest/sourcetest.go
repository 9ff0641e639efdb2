// Package sourcetest is what every processor.Source and processor.Publisher must pass: the contracts of the two ports,
// sentence by sentence.
//
// It uses nothing but the ports, so that a broker and a log in memory are held to the same.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// Partitions is how many partitions of claims a Log has.
const Partitions = 3

// Log is an empty topic of claims, with what reads and writes it.
type Log struct {
	Source    processor.Source
	Publisher processor.Publisher
	// Trim deletes the records of a partition below an offset, as retention does. nil where that cannot be asked for.
	Trim func(t *testing.T, partition int32, below int64)
	// TooLarge is the size of a value that the topic refuses. 0 where it takes everything.
	TooLarge int
}

// Exercise runs the suite. Open gives a log that is empty and belongs to the test; it may be called in parallel.
func Exercise(t *testing.T, open func(t *testing.T) Log) {
	for _, part := range []struct {
		name string
		run  func(*harness)
	}{
		{"ReadsInOrder", readsInOrder},
		{"ReadsBytesAsWritten", readsBytesAsWritten},
		{"ReadsFromAnOffset", readsFromAnOffset},
		{"ReadsWhatComes", readsWhatComes},
		{"SeekMoves", seekMoves},
		{"SeekDoesNotDisturb", seekDoesNotDisturb},
		{"Drop", drop},
		{"PollWaits", pollWaits},
		{"PollEnds", pollEnds},
		{"PollBeside", pollBeside},
		{"BehindTheEnd", behindTheEnd},
		{"NoSuchPartition", noSuchPartition},
		{"Trimmed", trimmed},
		{"Bounds", bounds},
		{"At", at},
		{"PublishNothing", publishNothing},
		{"PublishKeepsOrder", publishKeepsOrder},
		{"PublishRefused", publishRefused},
		{"PublishEnds", publishEnds},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.run(&harness{T: t, Log: open(t)})
		})
	}
}

// harness is a log under test, with verbs. Each fails the test where the log does not do as it should.
type harness struct {
	*testing.T
	Log
	next map[int32]int64 // where the next Fetched of a partition must begin
}

// patience is how long anything may take that has to happen.
const patience = 20 * time.Second

func record(partition int32, i int) cloudevents.Record {
	return cloudevents.Record{Key: fmt.Appendf(nil, "k%d", partition), Value: fmt.Appendf(nil, "%d/%d", partition, i)}
}

func records(partition int32, from, to int) []cloudevents.Record {
	var out []cloudevents.Record
	for i := from; i < to; i++ {
		out = append(out, record(partition, i))
	}
	return out
}

// write appends records to a partition.
func (h *harness) write(partition int32, rs ...cloudevents.Record) {
	h.Helper()
	var out []processor.Output
	for _, r := range rs {
		out = append(out, processor.Output{Topic: processor.ToClaims, Partition: partition, Record: r})
	}
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	if err := h.Publisher.Publish(ctx, out); err != nil {
		h.Fatalf("publish %d records to partition %d: %v", len(out), partition, err)
	}
}

func (h *harness) seek(partition int32, offset int64) {
	if h.next == nil {
		h.next = make(map[int32]int64)
	}
	h.next[partition] = offset
	h.Source.Seek(partition, offset)
}

// poll polls once and checks everything that can be checked without knowing what is in the log.
func (h *harness) poll(most int, wait time.Duration) []processor.Fetched {
	h.Helper()
	fetched, err := h.Source.Poll(h.Context(), processor.Beside{}, most, wait)
	if err != nil {
		h.Fatalf("poll: %v", err)
	}
	seen := map[int32]bool{}
	total := 0
	for _, f := range fetched {
		next, sought := h.next[f.Partition]
		switch {
		case !sought:
			h.Fatalf("partition %d comes without being sought", f.Partition)
		case seen[f.Partition]:
			h.Fatalf("partition %d comes twice in one answer", f.Partition)
		case f.From != next || f.Next < f.From:
			h.Fatalf("partition %d: [%d, %d) comes where %d is next", f.Partition, f.From, f.Next, next)
		case f.Err != nil && len(f.Messages) > 0:
			h.Fatalf("partition %d: records come with an error", f.Partition)
		case f.Err == nil && f.Next == f.From:
			h.Fatalf("partition %d: nothing comes as an answer", f.Partition)
		}
		last := f.From - 1
		for _, m := range f.Messages {
			if m.Offset <= last || m.Offset >= f.Next {
				h.Fatalf("partition %d: offset %d comes behind %d in [%d, %d)", f.Partition, m.Offset, last, f.From, f.Next)
			}
			last = m.Offset
		}
		seen[f.Partition] = true
		total += len(f.Messages)
		h.next[f.Partition] = f.Next
		if f.Err != nil {
			delete(h.next, f.Partition) // nothing more may come
		}
	}
	if total > most {
		h.Fatalf("poll gives %d records, at most %d were asked for", total, most)
	}
	return fetched
}

// read polls until so many records of each partition have come.
func (h *harness) read(most int, want map[int32]int) map[int32][]processor.Message {
	h.Helper()
	got := map[int32][]processor.Message{}
	missing := func() bool {
		for p, n := range want {
			if len(got[p]) < n {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(patience); missing(); {
		if time.Now().After(deadline) {
			h.Fatalf("the records do not come: %d of %v", len(got), want)
		}
		for _, f := range h.poll(most, time.Second) {
			if f.Err != nil {
				h.Fatalf("partition %d: %v", f.Partition, f.Err)
			}
			got[f.Partition] = append(got[f.Partition], f.Messages...)
		}
	}
	return got
}

// failure polls until a partition stops.
func (h *harness) failure(partition int32) error {
	h.Helper()
	for deadline := time.Now().Add(patience); ; {
		if time.Now().After(deadline) {
			h.Fatalf("partition %d does not fail", partition)
		}
		for _, f := range h.poll(100, time.Second) {
			if f.Partition == partition && f.Err != nil {
				return f.Err
			}
		}
	}
}

// same fails unless the messages are the records, at offsets from first on.
func (h *harness) same(got []processor.Message, first int64, want []cloudevents.Record) {
	h.Helper()
	if len(got) != len(want) {
		h.Fatalf("%d records come, not %d", len(got), len(want))
	}
	for i, m := range got {
		if m.Offset != first+int64(i) || !bytes.Equal(m.Value, want[i].Value) || !bytes.Equal(m.Key, want[i].Key) {
			h.Fatalf("record %d is %q at offset %d, not %q at %d", i, m.Value, m.Offset, want[i].Value, first+int64(i))
		}
	}
}

func readsInOrder(h *harness) {
	want := map[int32]int{}
	for p := range int32(Partitions) {
		h.write(p, records(p, 0, 500)...)
		want[p] = 500
	}
	for _, most := range []int{1000, 7} {
		for p := range int32(Partitions) {
			h.seek(p, 0)
		}
		got := h.read(most, want)
		for p := range int32(Partitions) {
			h.same(got[p], 0, records(p, 0, 500))
		}
	}
}

func readsBytesAsWritten(h *harness) {
	r := cloudevents.Record{
		Key: []byte("k"), Value: []byte{0, 1, 255}, Time: time.UnixMilli(time.Now().UnixMilli()),
		Headers: []cloudevents.Header{{Name: "ce_id", Value: []byte("1")}, {Name: "a", Value: nil}, {Name: "a", Value: []byte{}}},
	}
	empty := cloudevents.Record{Key: []byte{}, Value: nil, Time: r.Time}
	before := time.Now().Add(-time.Second)
	h.write(0, r, empty, cloudevents.Record{Key: []byte("no time")})
	h.seek(0, 0)
	got := h.read(10, map[int32]int{0: 3})[0]
	for i, want := range []cloudevents.Record{r, empty} {
		if !got[i].Time.Equal(want.Time) {
			h.Errorf("time is %v, not %v", got[i].Time, want.Time)
		}
		got[i].Time = want.Time
		if !reflect.DeepEqual(got[i].Record, want) || got[i].Hash() != want.Hash() {
			h.Errorf("record is %+v, not %+v", got[i].Record, want)
		}
	}
	if at := got[2].Time; at.Before(before) || at.After(time.Now().Add(time.Second)) {
		h.Errorf("a record that was written without time has %v", at)
	}
}

func readsFromAnOffset(h *harness) {
	h.write(1, records(1, 0, 50)...)
	h.seek(1, 20)
	h.same(h.read(100, map[int32]int{1: 30})[1], 20, records(1, 20, 50))
	h.seek(1, 50) // the end is in the log
	if f := h.poll(100, 100*time.Millisecond); len(f) != 0 {
		h.Fatalf("the end of the log gives %v", f)
	}
}

func readsWhatComes(h *harness) {
	for p := range int32(Partitions) {
		h.seek(p, 0)
	}
	for i := range 20 {
		p := int32(i % Partitions)
		h.write(p, record(p, i))
		h.same(h.read(100, map[int32]int{p: 1})[p], int64(i/Partitions), []cloudevents.Record{record(p, i)})
	}
}

func seekMoves(h *harness) {
	h.write(0, records(0, 0, 100)...)
	h.seek(0, 0)
	h.read(10, map[int32]int{0: 30})
	h.seek(0, 5) // what was read ahead is not what is asked for now
	h.same(h.read(100, map[int32]int{0: 95})[0], 5, records(0, 5, 100))
	h.seek(0, 90)
	h.same(h.read(100, map[int32]int{0: 10})[0], 90, records(0, 90, 100))
}

func seekDoesNotDisturb(h *harness) {
	h.write(0, records(0, 0, 200)...)
	h.seek(0, 0)
	got := map[int32][]processor.Message{}
	for i := 0; len(got[0]) < 200; i++ {
		h.seek(int32(1+i%2), 0)
		for p, ms := range h.read(10, map[int32]int{0: min(10, 200-len(got[0]))}) {
			got[p] = append(got[p], ms...)
		}
	}
	h.same(got[0], 0, records(0, 0, 200))
}

func drop(h *harness) {
	h.write(0, records(0, 0, 10)...)
	h.write(1, records(1, 0, 10)...)
	h.seek(0, 0)
	h.seek(1, 0)
	h.read(100, map[int32]int{0: 10, 1: 10})
	h.Source.Drop(0)
	h.Source.Drop(0)
	h.Source.Drop(2)
	delete(h.next, 0)
	h.write(0, records(0, 10, 20)...)
	h.write(1, records(1, 10, 20)...)
	h.same(h.read(100, map[int32]int{1: 10})[1], 10, records(1, 10, 20))
	h.seek(0, 10)
	h.same(h.read(100, map[int32]int{0: 10})[0], 10, records(0, 10, 20))
}

func pollWaits(h *harness) {
	h.seek(0, 0)
	const wait = 300 * time.Millisecond
	began := time.Now()
	if f := h.poll(1, wait); len(f) != 0 {
		h.Fatalf("an empty log gives %v", f)
	}
	if took := time.Since(began); took < wait*9/10 {
		h.Errorf("poll waited %v, not %v", took, wait)
	}
	if f := h.poll(1, 0); len(f) != 0 {
		h.Fatalf("an empty log gives %v", f)
	}
}

// pollBeside: busy partitions keep what has arrived, in order; of the others less than is worth it stays as well.
func pollBeside(h *harness) {
	h.write(0, records(0, 0, 10)...)
	h.write(1, records(1, 0, 4)...)
	h.seek(0, 0)
	h.seek(1, 0)
	busy := func(p int32) bool { return p == 0 }
	beside := func(least int, until <-chan struct{}, wait time.Duration) []processor.Fetched {
		h.Helper()
		fetched, err := h.Source.Poll(h.Context(), processor.Beside{Busy: busy, Least: least, Until: until}, 100, wait)
		if err != nil {
			h.Fatalf("poll: %v", err)
		}
		return fetched
	}
	if f := beside(5, nil, 500*time.Millisecond); len(f) != 0 {
		h.Fatalf("less than is worth it comes: %v", f)
	}
	until := make(chan struct{}, 1)
	until <- struct{}{}
	began := time.Now()
	if f := beside(5, until, patience); len(f) != 0 || time.Since(began) > patience/2 {
		h.Fatalf("what ends the wait gives %v after %v", f, time.Since(began))
	}
	time.AfterFunc(50*time.Millisecond, func() { until <- struct{}{} })
	if f := beside(5, until, patience); len(f) != 0 || time.Since(began) > patience/2 {
		h.Fatalf("what ends the wait gives %v after %v", f, time.Since(began))
	}
	h.write(1, records(1, 4, 8)...)
	f := beside(5, nil, patience)
	if len(f) != 1 || f[0].Partition != 1 || f[0].From != 0 || len(f[0].Messages) < 5 {
		h.Fatalf("beside partition 0 comes %v", f)
	}
	got := f[0].Messages
	h.next[1] = f[0].Next
	if n := 8 - len(got); n > 0 {
		got = append(got, h.read(100, map[int32]int{0: 10, 1: n})[1]...)
		h.same(got, 0, records(1, 0, 8))
		return
	}
	h.same(got, 0, records(1, 0, 8))
	h.same(h.read(100, map[int32]int{0: 10})[0], 0, records(0, 0, 10))
}

func pollEnds(h *harness) {
	h.seek(0, 0)
	ctx, cancel := context.WithTimeout(h.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Source.Poll(ctx, processor.Beside{}, 1, patience); !errors.Is(err, context.DeadlineExceeded) {
		h.Errorf("poll ends with %v", err)
	}
}

func behindTheEnd(h *harness) {
	h.write(0, records(0, 0, 10)...)
	h.write(1, records(1, 0, 10)...)
	h.seek(0, 11)
	h.seek(1, 0)
	if err := h.failure(0); !errors.Is(err, processor.ErrOutOfLog) {
		h.Errorf("error is %v", err)
	}
	h.seek(1, 0)
	h.same(h.read(100, map[int32]int{1: 10})[1], 0, records(1, 0, 10))
	h.write(0, records(0, 10, 20)...) // h.poll fails if that comes before the next seek
	h.poll(100, 200*time.Millisecond)
	h.seek(0, 10)
	h.same(h.read(100, map[int32]int{0: 10})[0], 10, records(0, 10, 20))
}

func noSuchPartition(h *harness) {
	h.seek(Partitions, 0)
	if err := h.failure(Partitions); !errors.Is(err, processor.ErrOutOfLog) {
		h.Errorf("error is %v", err)
	}
}

func trimmed(h *harness) {
	if h.Trim == nil {
		h.Skip("this log cannot be trimmed")
	}
	h.write(0, records(0, 0, 10)...)
	h.Trim(h.T, 0, 6)
	h.seek(0, 5)
	if err := h.failure(0); !errors.Is(err, processor.ErrOutOfLog) {
		h.Errorf("error is %v", err)
	}
	h.bounds(0, 6, 10)
	h.absent(0, 5)
	h.seek(0, 6)
	h.same(h.read(100, map[int32]int{0: 4})[0], 6, records(0, 6, 10))
}

func (h *harness) bounds(partition int32, start, end int64) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	gotStart, gotEnd, err := h.Source.Bounds(ctx, partition)
	if err != nil || gotStart != start || gotEnd != end {
		h.Errorf("bounds of partition %d are [%d, %d), %v; not [%d, %d)", partition, gotStart, gotEnd, err, start, end)
	}
}

func (h *harness) absent(partition int32, offset int64) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	if r, ok, err := h.Source.At(ctx, partition, offset); err != nil || ok {
		h.Errorf("at offset %d of partition %d there is %q, %v, %v", offset, partition, r.Value, ok, err)
	}
}

func bounds(h *harness) {
	h.bounds(2, 0, 0)
	h.write(2, records(2, 0, 7)...)
	h.bounds(2, 0, 7)
	h.bounds(1, 0, 0)
}

func at(h *harness) {
	h.absent(0, 0)
	h.write(0, records(0, 0, 100)...)
	for _, offset := range []int64{0, 1, 57, 99} {
		r, ok, err := h.Source.At(h.Context(), 0, offset)
		if want := record(0, int(offset)); err != nil || !ok || !bytes.Equal(r.Value, want.Value) || r.Hash() != want.Hash() {
			h.Errorf("at offset %d there is %q, %v, %v", offset, r.Value, ok, err)
		}
	}
	h.absent(0, 100)
	h.absent(0, 1000)
	h.absent(1, 0)
}

func publishNothing(h *harness) {
	if err := h.Publisher.Publish(h.Context(), nil); err != nil {
		h.Error(err)
	}
}

func publishKeepsOrder(h *harness) {
	var out []processor.Output
	for i := range 3000 {
		p := int32(i % Partitions)
		out = append(out, processor.Output{Topic: processor.ToClaims, Partition: p, Record: record(p, i/Partitions)})
	}
	if err := h.Publisher.Publish(h.Context(), out); err != nil {
		h.Fatal(err)
	}
	for p := range int32(Partitions) {
		h.seek(p, 0)
	}
	got := h.read(1e6, map[int32]int{0: 1000, 1: 1000, 2: 1000})
	for p := range int32(Partitions) {
		h.same(got[p], 0, records(p, 0, 1000))
	}
}

func publishRefused(h *harness) {
	if h.TooLarge == 0 {
		h.Skip("this log takes everything")
	}
	large := cloudevents.Record{Key: []byte("large"), Value: make([]byte, h.TooLarge)}
	err := h.Publisher.Publish(h.Context(), []processor.Output{{Topic: processor.ToClaims, Record: large}})
	if !errors.Is(err, processor.ErrRefused) {
		h.Errorf("error is %v", err)
	}
	h.write(0, record(0, 0)) // and nothing is in its way
}

func publishEnds(h *harness) {
	ctx, cancel := context.WithCancel(h.Context())
	cancel()
	err := h.Publisher.Publish(ctx, []processor.Output{{Topic: processor.ToClaims, Record: record(0, 0)}})
	if err != nil && !errors.Is(err, context.Canceled) {
		h.Errorf("error is %v", err)
	}
}
