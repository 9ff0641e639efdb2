package kafka

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/processor"
)

var (
	_ api.Streams = (*Streams)(nil)
	_ api.Stream  = (*stream)(nil)
)

// Streams opens streams of registrations. It is safe for concurrent use.
type Streams struct{ client *Client }

// NewStreams prepares them.
func NewStreams(client *Client) *Streams { return &Streams{client} }

const (
	// streamBytes is about how much a stream reads ahead from each leader.
	streamBytes = 256 << 10
	// streamWait is how long a leader waits for records for a stream: a new one ends the wait at once.
	streamWait = 2 * time.Second
	// streamRest is how much later than it could be an event may come: else many streams on a busy topic would ask for
	// every record one by one, each of them.
	streamRest = 25 * time.Millisecond
	// streamPoll is how many records a stream hands out at once.
	streamPoll = 256
	// placesAtOnce is how many partitions are looked at at once when a stream opens.
	placesAtOnce = 8
)

// Open implements api.Streams.
func (s *Streams) Open(ctx context.Context, from *api.Place) (api.Stream, api.Place, error) {
	topic := s.client.Registrations()
	v, err := s.client.metadata.ask(ctx, []string{topic})
	if err == nil {
		err = v.topics[topic].err
	}
	if err != nil {
		return nil, api.Place{}, fmt.Errorf("open stream of %s: %w", topic, err)
	}
	place := api.Place{Log: logMark(v.clusterID, topic), Offsets: make([]int64, len(v.topics[topic].partitions))}
	if from != nil {
		if from.Log != place.Log || len(from.Offsets) > len(place.Offsets) {
			return nil, api.Place{}, fmt.Errorf("open stream of %s: %w: it is of another log", topic, api.ErrGone)
		}
		copy(place.Offsets, from.Offsets) // partitions that were added since are read from their start
		place.Last = from.Last
	}
	opened := &stream{
		client: s.client, reader: NewReader(s.client, ReaderConfig{Topic: topic, MaxBytes: streamBytes, MaxWait: streamWait, Rest: streamRest, Bare: true}),
		places: make([]streamPlace, len(place.Offsets)),
	}
	if err := opened.begin(ctx, &place, from == nil); err != nil {
		return nil, api.Place{}, fmt.Errorf("open stream of %s: %w", topic, err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	opened.stop, opened.grown = stop, time.Now()
	opened.ended.Go(func() { _ = opened.reader.Run(running) }) // always nil
	return opened, place, nil
}

// logMark tells one cluster's topic from another's.
func logMark(clusterID, topic string) [4]byte {
	sum := sha256.Sum256([]byte("dibs/stream\x00" + clusterID + "\x00" + topic))
	return [4]byte(sum[:4])
}

// stream is a reader of its own. What interrupts it, it looks at before it goes on: behind an interruption may be another
// log.
type stream struct {
	client *Client
	reader *Reader
	stop   context.CancelFunc
	ended  sync.WaitGroup

	places []streamPlace
	grown  time.Time // when more partitions were last looked for
	gone   error
}

// streamPlace is how far a partition is read.
type streamPlace struct {
	next    int64
	last    api.Landmark
	stopped bool // it is not being read, and will be again when it is due
	due     time.Time
	backoff backoff
}

// begin finds, or checks, the place in every partition, and seeks it.
func (s *stream) begin(ctx context.Context, place *api.Place, atTheEnd bool) error {
	errs := make([]error, len(place.Offsets))
	var all sync.WaitGroup
	turns := make(chan struct{}, placesAtOnce)
	for i := range place.Offsets {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			p := int32(i)
			if atTheEnd {
				place.Offsets[i], errs[i] = s.client.offset(ctx, s.client.Registrations(), p, atEnd)
				return
			}
			last := api.Landmark{}
			if place.Last.Known && place.Last.Partition == p {
				last = place.Last
			}
			errs[i] = s.check(ctx, p, place.Offsets[i], last)
		})
	}
	all.Wait()
	for _, err := range errs {
		if errors.Is(err, api.ErrGone) { // what is certain is said before what is not
			return err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, offset := range place.Offsets {
		s.places[i] = streamPlace{next: offset}
		if place.Last.Known && place.Last.Partition == int32(i) {
			s.places[i].last = place.Last
		}
		s.seek(int32(i))
	}
	return nil
}

// seek reads a partition on from its place.
func (s *stream) seek(partition int32) {
	p := &s.places[partition]
	p.stopped = false
	s.reader.Seek(partition, p.next)
}

// check reports whether a place is in the log that it was in: an error that wraps api.ErrGone says that it is not.
func (s *stream) check(ctx context.Context, partition int32, offset int64, last api.Landmark) error {
	start, end, err := s.reader.Bounds(ctx, partition)
	switch {
	case errors.Is(err, processor.ErrOutOfLog):
		return fmt.Errorf("%w: %w", api.ErrGone, err)
	case err != nil:
		return err
	case offset < start:
		return fmt.Errorf("%w: partition %d begins at %d, behind %d", api.ErrGone, partition, start, offset)
	case offset > end:
		return fmt.Errorf("%w: partition %d ends at %d, before %d", api.ErrGone, partition, end, offset)
	case !last.Known || last.Offset < start:
		return nil
	}
	r, found, err := s.reader.At(ctx, partition, last.Offset)
	if err != nil {
		return err
	}
	if !found || api.LandmarkOf(partition, last.Offset, r.Value) != last {
		return fmt.Errorf("%w: partition %d has another record at %d than there was", api.ErrGone, partition, last.Offset)
	}
	return nil
}

// Next implements api.Stream.
func (s *stream) Next(ctx context.Context, wait time.Duration) ([]api.Published, error) {
	if s.gone == nil {
		wait = min(wait, s.resume(ctx))
	}
	if s.gone != nil {
		return nil, s.gone
	}
	fetched, err := s.reader.Poll(ctx, processor.Beside{}, streamPoll, wait)
	var out []api.Published
	for i := range fetched {
		out = s.take(out, &fetched[i])
	}
	return out, err
}

// take notes how far a partition is, and that it has stopped.
func (s *stream) take(out []api.Published, f *processor.Fetched) []api.Published {
	for i := range f.Messages {
		m := &f.Messages[i]
		out = append(out, api.Published{Partition: f.Partition, Offset: m.Offset, Value: m.Record.Value})
	}
	p := &s.places[f.Partition]
	p.next = f.Next
	if n := len(f.Messages); n > 0 {
		m := &f.Messages[n-1]
		p.last = api.LandmarkOf(f.Partition, m.Offset, m.Record.Value)
		p.backoff.reset()
	}
	switch {
	case errors.Is(f.Err, processor.ErrOutOfLog):
		s.gone = fmt.Errorf("%w: %w", api.ErrGone, f.Err)
	case f.Err != nil:
		if p.backoff.max == 0 {
			p.backoff = backoff{min: 10 * time.Millisecond, max: time.Second}
		}
		p.stopped, p.due = true, time.Now().Add(p.backoff.next())
	}
	return out
}

// resume reads stopped partitions on whose time has come, and those that were added. It returns how long until there is
// more to do.
func (s *stream) resume(ctx context.Context) (wait time.Duration) {
	wait = growthCheck
	away := false
	for i := range s.places {
		p := &s.places[i]
		if p.stopped && !away && time.Until(p.due) <= 0 {
			err := s.checkShortly(ctx, int32(i), p)
			switch {
			case err == nil:
				s.seek(int32(i))
			case errors.Is(err, api.ErrGone):
				s.gone = err
				return 0
			default: // the others come when this one is not due: each may take as long, and our caller must go on
				p.due, away = time.Now().Add(p.backoff.next()), true
			}
		}
		if p.stopped {
			wait = min(wait, time.Until(p.due))
		}
	}
	if time.Since(s.grown) >= growthCheck {
		s.grow(ctx)
	}
	return max(wait, time.Millisecond)
}

func (s *stream) checkShortly(ctx context.Context, partition int32, p *streamPlace) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.check(ctx, partition, p.next, p.last)
}

// grow reads partitions that were added since the stream began, from their start.
func (s *stream) grow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s.grown = time.Now()
	n, err := s.client.Partitions(ctx, s.client.Registrations())
	if err != nil {
		return
	}
	for len(s.places) < n {
		s.places = append(s.places, streamPlace{})
		s.seek(int32(len(s.places) - 1))
	}
}

// Close implements api.Stream.
func (s *stream) Close() {
	s.stop()
	s.ended.Wait()
}
