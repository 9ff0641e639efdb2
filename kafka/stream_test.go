package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/dibstest"
)

// watcher reads a stream as the API does, and keeps its place.
type watcher struct {
	t      testing.TB
	stream api.Stream
	place  api.Place
	got    []string
}

func watch(t testing.TB, c *Client, from *api.Place) *watcher {
	t.Helper()
	s, place, err := NewStreams(c).Open(within(t, 10*time.Second), from)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, stream: s, place: place}
	t.Cleanup(s.Close)
	return w
}

// read reads until there are so many, or the stream ends.
func (w *watcher) read(n int, within time.Duration) error {
	w.t.Helper()
	for end := time.Now().Add(within); len(w.got) < n; {
		if time.Now().After(end) {
			w.t.Fatalf("%d records of %d after %s: %v", len(w.got), n, within, w.got)
		}
		batch, err := w.stream.Next(w.t.Context(), 100*time.Millisecond)
		if err != nil {
			return err
		}
		for _, r := range batch {
			for int(r.Partition) >= len(w.place.Offsets) {
				w.place.Offsets = append(w.place.Offsets, 0)
			}
			w.place.Offsets[r.Partition] = r.Offset + 1
			w.place.Last = api.LandmarkOf(r.Partition, r.Offset, r.Value)
			w.got = append(w.got, fmt.Sprintf("%d/%s", r.Partition, r.Value))
		}
	}
	return nil
}

// want checks that what was read is this, each partition in its order.
func (w *watcher) want(partitions int, want []string) {
	w.t.Helper()
	byPartition := func(all []string) []string {
		var out []string
		for p := range partitions {
			for _, s := range all {
				if s[:2] == fmt.Sprintf("%d/", p) {
					out = append(out, s)
				}
			}
		}
		return out
	}
	same(w.t, byPartition(want), byPartition(w.got))
}

// copyOf is a place that does not change with its watcher.
func copyOf(p api.Place) *api.Place {
	p.Offsets = slices.Clone(p.Offsets)
	return &p
}

// A stream begins at the end, or at a place; then it has everything, each partition in its order.
func TestStream(t *testing.T) {
	dibstest.Kafka(t) // starts it, where it is ours
	noLeaks(t)
	c := broker(t, 3)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	for i := range 10 {
		announce(t, p, int32(i%3), -1)
	}
	w := watch(t, c, nil)
	begin := copyOf(w.place)
	var want []string
	var places []*api.Place
	for i := range 30 {
		announce(t, p, int32(i*i%3), i)
		want = append(want, fmt.Sprintf("%d/%d", i*i%3, i))
		if err := w.read(i+1, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		places = append(places, copyOf(w.place))
	}
	same(t, want, w.got)
	again := watch(t, c, begin)
	if err := again.read(30, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	again.want(3, want)
	for i, place := range places[:29] {
		rest := watch(t, c, place)
		if err := rest.read(29-i, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		rest.want(3, want[i+1:])
		rest.stream.Close()
	}
	if batch, err := w.stream.Next(t.Context(), 50*time.Millisecond); len(batch) != 0 || err != nil {
		t.Errorf("there is more: %v, %v", batch, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.stream.Next(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// A place that is not in the log is said to be gone, whatever took it away.
func TestStreamPlaceIsGone(t *testing.T) {
	t.Parallel()
	c := broker(t, 2)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	w := watch(t, c, nil)
	for i := range 10 {
		announce(t, p, int32(i%2), i)
	}
	if err := w.read(3, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	gone := func(what string, change func(p *api.Place)) {
		t.Helper()
		place := copyOf(w.place)
		change(place)
		s, _, err := NewStreams(c).Open(within(t, 20*time.Second), place)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, api.ErrGone) {
			t.Errorf("%s: %v", what, err)
		}
	}
	gone("behind the end", func(p *api.Place) { p.Offsets[1] = 6 })
	gone("another cluster's", func(p *api.Place) { p.Log[0]++ })
	gone("more partitions", func(p *api.Place) { p.Offsets = append(p.Offsets, 0) })
	gone("another record", func(p *api.Place) { p.Last.Hash++ })
	gone("another record in a place before", func(p *api.Place) { p.Last.Offset-- })
	s, _, err := NewStreams(c).Open(t.Context(), copyOf(w.place))
	if err != nil {
		t.Fatalf("the place as it is: %v", err)
	}
	s.Close()

	trimTopic(t, c, c.Registrations(), 0, 5)
	gone("passed by retention", func(p *api.Place) { p.Offsets[0], p.Last = 4, api.Landmark{} })
	s, _, err = NewStreams(c).Open(t.Context(), &api.Place{Log: w.place.Log, Offsets: []int64{5, 5}, Last: api.Landmark{Partition: 0, Offset: 4, Known: true}})
	if err != nil {
		t.Fatalf("at the new start, behind a record that retention took: %v", err)
	}
	s.Close()

	// The topic is made again, and grows past the place: only the record before it tells.
	place := w.place
	place.Offsets, place.Last = []int64{5, 2}, api.LandmarkOf(1, 1, []byte("3"))
	if s, _, err = NewStreams(c).Open(t.Context(), &place); err != nil {
		t.Fatalf("before the topic is made again: %v", err)
	}
	s.Close()
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the topics are created again", 20*time.Second, func() bool {
		r, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 2})
		return err == nil && !r.Topics[1].Existed
	})
	for i := range 20 {
		announce(t, p, int32(i%2), 100+i)
	}
	w.place = place
	gone("made again, and as long", func(*api.Place) {})
}

// A stream that was open while its topic was made again ends, instead of going on in another log.
func TestStreamEndsWithItsLog(t *testing.T) {
	t.Parallel()
	c := broker(t, 1)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	w := watch(t, c, nil)
	for i := range 10 {
		announce(t, p, 0, i)
	}
	if err := w.read(10, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the topics are created again", 20*time.Second, func() bool {
		r, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 1})
		return err == nil && !r.Topics[1].Existed
	})
	for i := range 20 {
		announce(t, p, 0, 100+i)
	}
	if err := w.read(11, 20*time.Second); !errors.Is(err, api.ErrGone) {
		t.Errorf("%v, with %v", err, w.got)
	}
	if _, err := w.stream.Next(t.Context(), 0); !errors.Is(err, api.ErrGone) {
		t.Errorf("asked again: %v", err)
	}
}

// So does one that could not be read while that happened, though the new log is as long.
func TestStreamLooksBehindAnInterruption(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	w := watch(t, c, nil)
	for i := range 10 {
		announce(t, p, 0, i)
	}
	if err := w.read(10, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: registrationsName, Err: kerr.KafkaStorageError, Count: -1})
	await(t, "it is interrupted", 5*time.Second, func() bool {
		if _, err := w.stream.Next(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		return h.Hits() > 2
	})
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the topics are created again", 20*time.Second, func() bool {
		r, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 1})
		return err == nil && !r.Topics[1].Existed
	})
	for i := range 20 {
		announce(t, p, 0, 100+i)
	}
	h.Remove()
	if err := w.read(11, 20*time.Second); !errors.Is(err, api.ErrGone) {
		t.Errorf("%v, with %v", err, w.got)
	}
}

// Leaders that move and connections that are cut lose nothing, and nothing comes twice.
func TestStreamRidesOutFaults(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 2, kfake.NumBrokers(2))
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	w := watch(t, c, nil)
	var want []string
	comes := func(what string) {
		t.Helper()
		n := len(want)
		announce(t, p, int32(n%2), n)
		want = append(want, fmt.Sprintf("%d/%d", n%2, n))
		if err := w.read(n+1, 10*time.Second); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	comes("at first")
	for i := range 6 {
		if err := cluster.MoveTopicPartition(registrationsName, int32(i%2), int32(i/2%2)); err != nil {
			t.Fatal(err)
		}
		comes("after a move")
		comes("after a move")
		cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
		comes("after a cut")
		comes("after a cut")
	}
	same(t, want, w.got)

	// While a partition cannot be read, Next returns in time all the same: somebody has to send heartbeats.
	h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: registrationsName, Err: kerr.KafkaStorageError, Count: -1})
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		began := time.Now()
		if _, err := w.stream.Next(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("Next took %s", took)
		}
	}
	h.Remove()
	comes("after a fault")
	comes("after a fault")
	same(t, want, w.got)
}

// On a busy topic a stream does not ask for every record alone.
func TestStreamRests(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	w := watch(t, c, nil)
	var fetches atomic.Int64
	cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	began := time.Now()
	for i := range 200 {
		announce(t, p, 0, i)
	}
	if err := w.read(200, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if n, most := fetches.Load(), int64(time.Since(began)/streamRest)+2; n > most {
		t.Errorf("%d fetches for 200 records in %s, want %d at most", n, time.Since(began), most)
	}
}

// Partitions that are added are read from their start, also where the place is from before.
func TestStreamGrows(t *testing.T) {
	before := growthCheck
	growthCheck = 200 * time.Millisecond
	t.Cleanup(func() { growthCheck = before })
	c := broker(t, 1)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	w := watch(t, c, nil)
	begin := copyOf(w.place)
	r, err := kadm.NewClient(other(t, c)).UpdatePartitions(t.Context(), 3, c.Registrations())
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	announce(t, p, 2, 1)
	announce(t, p, 0, 2)
	for _, w := range []*watcher{w, watch(t, c, begin)} {
		if err := w.read(2, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		w.want(3, []string{"2/1", "0/2"})
	}
}

// Streams that are closed leave nothing behind.
func TestStreamsLeaveNothing(t *testing.T) {
	dibstest.Kafka(t)
	noLeaks(t)
	c := broker(t, 3)
	for range 3 {
		var open []api.Stream
		for range 30 {
			s, _, err := NewStreams(c).Open(within(t, 10*time.Second), nil)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
		}
		for _, s := range open {
			s.Close()
		}
	}
}

// An open that finds nobody ends with its ctx, and is not called gone.
func TestStreamOfNobody(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	cluster.Close()
	_, _, err := NewStreams(c).Open(within(t, 300*time.Millisecond), nil)
	if err == nil || errors.Is(err, api.ErrGone) {
		t.Errorf("%v", err)
	}
}
