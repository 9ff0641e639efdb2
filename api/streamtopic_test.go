package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/getkin/kin-openapi/openapi3"
)

// published is registrations, for streams to read: one log for each partition.
type published struct {
	mu    sync.Mutex
	logs  [partitions][][]byte
	start [partitions]int64 // what is before it, retention has taken
	grown chan struct{}     // closed when something is appended; nil where nobody waits for that
	away  error             // what Open answers
	open  int
}

var _ api.Streams = (*published)(nil)

func newTopic() *published { return new(published) }

// streamsOf makes a world's API read this topic, and its outcomes go there.
func streamsOf(topic *published) func(*setup) {
	return func(s *setup) {
		s.server.Streams = topic
		s.memory.replicas = append(s.memory.replicas, func(o registrations.Outcome) { topic.append(o.Partition, o.Record().Value) })
	}
}

func (f *published) append(partition int32, value []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[partition] = append(f.logs[partition], value)
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
}

// all returns everything there is, by partition.
func (f *published) all() (values []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, log := range f.logs {
		for _, value := range log {
			values = append(values, string(value))
		}
	}
	return values
}

func (f *published) set(change func(f *published)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *published) opened() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

func (f *published) Open(_ context.Context, from *api.Place) (api.Stream, api.Place, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return nil, api.Place{}, f.away
	}
	place := api.Place{Log: [4]byte{1, 2, 3, 4}, Offsets: make([]int64, partitions)}
	for p := range f.logs {
		place.Offsets[p] = int64(len(f.logs[p]))
	}
	s := &topicStream{topic: f, next: [partitions]int64(place.Offsets)}
	if from != nil {
		for p, offset := range from.Offsets {
			if from.Log != place.Log || p >= partitions || offset < f.start[p] || offset > int64(len(f.logs[p])) {
				return nil, api.Place{}, fmt.Errorf("partition %d: %w", p, api.ErrGone)
			}
			s.next[p] = offset
		}
		if l := from.Last; l.Known && api.LandmarkOf(l.Partition, l.Offset, f.logs[l.Partition][l.Offset]) != l {
			return nil, api.Place{}, api.ErrGone
		}
		place = *from
	}
	f.open++
	return s, place, nil
}

type topicStream struct {
	topic *published
	next  [partitions]int64
}

func (s *topicStream) Next(ctx context.Context, wait time.Duration) ([]api.Published, error) {
	over := time.After(wait)
	for {
		f := s.topic
		f.mu.Lock()
		var out []api.Published
		for p := range s.next {
			if s.next[p] < f.start[p] {
				f.mu.Unlock()
				return out, api.ErrGone
			}
			for ; s.next[p] < int64(len(f.logs[p])) && len(out) < 64; s.next[p]++ {
				out = append(out, api.Published{Partition: int32(p), Offset: s.next[p], Value: f.logs[p][s.next[p]]})
			}
		}
		if f.grown == nil { // made by who waits: it belongs to his bubble
			f.grown = make(chan struct{})
		}
		grown := f.grown
		f.mu.Unlock()
		if len(out) > 0 || ctx.Err() != nil {
			return out, ctx.Err()
		}
		select {
		case <-grown:
		case <-over:
			return nil, nil
		case <-ctx.Done():
		}
	}
}

func (s *topicStream) Close() {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.topic.open--
}

// event is a block of a stream that has data.
type event struct{ id, kind, data string }

// told is what a stream said.
type told struct {
	t        *testing.T
	events   []event
	ids      []string // of blocks without data
	comments []string
	blocks   int
	retry    string
}

// heard reads the text of a stream as a browser would, and checks each event against the contract. What comes after the
// last empty line is not complete, and does not count.
func heard(t *testing.T, text string) *told {
	t.Helper()
	s := &told{t: t}
	blocks := strings.Split(text, "\n\n")
	for _, block := range blocks[:len(blocks)-1] {
		var e event
		id := ""
		for line := range strings.SplitSeq(block, "\n") {
			field, value, ok := strings.Cut(line, ": ")
			switch {
			case field == "id":
				id = value
			case field == "event":
				e.kind = value
			case field == "data" && e.data == "":
				e.data = value
			case field == "retry":
				s.retry = value
			case field == "" && ok, line == ":":
				s.comments = append(s.comments, value)
			default:
				t.Errorf("a stream has the line %q", line)
			}
		}
		s.blocks++
		if e.data == "" {
			if id != "" {
				s.ids = append(s.ids, id)
			}
			continue
		}
		e.id = id
		s.events = append(s.events, e)
		var value map[string]any
		if err := json.Unmarshal([]byte(e.data), &value); err != nil {
			t.Errorf("data is %q: %v", e.data, err)
			continue
		}
		if err := theContract().doc.Components.Schemas["Registration"].Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.VisitAsResponse()); err != nil {
			t.Errorf("data is not as described: %v\n%s", err, e.data)
		}
		if e.kind != value["outcome"] && e.kind != "message" || e.id == "" {
			t.Errorf("the event %q with the id %q is %s", e.kind, e.id, e.data)
		}
	}
	return s
}

// data is what the events say, and brief says it in few words.
func (s *told) data() (all []string) {
	for _, e := range s.events {
		all = append(all, e.data)
	}
	return all
}

func (s *told) brief() string {
	var all []string
	for _, e := range s.events {
		var v struct{ Key, Owner string }
		_ = json.Unmarshal([]byte(e.data), &v)
		all = append(all, fmt.Sprintf("%s %s %s", e.kind, v.Key, v.Owner))
	}
	return strings.Join(all, ", ")
}

// stream reads a stream for as long as d.
func (w *world) stream(d time.Duration, path string, headers ...string) (*answer, *told) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	a := w.askCtx(ctx, "GET", path, "", headers...)
	if a.status != 200 {
		return a, nil
	}
	return a, heard(w.t, a.text)
}
