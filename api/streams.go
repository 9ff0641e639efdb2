package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// ErrGone says that a place is not in the log: retention has passed it, or it is of another log. (410)
var ErrGone = errors.New("the place is not in the log")

// Streams opens streams of registrations. It is safe for concurrent use.
type Streams interface {
	// Open begins to read at a place, or at the end of the log where there is none given, and says where that is. A
	// place that is not in the log is an error that wraps ErrGone.
	Open(ctx context.Context, from *Place) (Stream, Place, error)
}

// Stream reads all partitions of registrations, each in its order. It is for one goroutine.
type Stream interface {
	// Next returns what comes next, after at most that long; nothing if there is nothing, which is no error. It rides out
	// brokers that are away. The values are good until the next call. An error is one that wraps ErrGone, or that of ctx.
	Next(ctx context.Context, wait time.Duration) ([]Published, error)
	// Close ends it and frees what it holds.
	Close()
}

// Published is a record of registrations.
type Published struct {
	Partition int32
	Offset    int64
	Value     []byte
}

// streams is what the streams of a server have in common.
type streams struct {
	source  Streams
	most    int
	stopped context.Context // ends when the server stops
	stop    context.CancelFunc

	events prometheus.Counter
	ended  *prometheus.CounterVec

	mu    sync.Mutex
	open  int
	opens map[string]int // of each principal that has any
}

const defaultStreams = 64

func newStreams(source Streams, most int, reg prometheus.Registerer) *streams {
	if most <= 0 {
		most = defaultStreams
	}
	f := promauto.With(reg)
	s := &streams{
		source: source, most: most, opens: make(map[string]int),
		events: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_stream_events_total",
			Help: "Events sent to those who watch registrations.",
		}),
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_streams_ended_total",
			Help: "Streams of registrations that have ended, by why: client, slow (it did not take what it was sent), key (revoked or expired), gone (the log went on without it), stopping.",
		}, []string{"reason"}),
	}
	for _, why := range []ending{endClient, endSlow, endKey, endGone, endStopping} {
		s.ended.WithLabelValues(string(why))
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dibs_streams",
		Help: "Streams of registrations that are open.",
	}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(s.open)
	})
	s.stopped, s.stop = context.WithCancel(context.Background())
	return s
}

// take takes a slot for a principal. One has half of them at most, so that its mistakes leave room for others; without
// keys all callers are one, and have all. The error is a *Refused; without one, release gives the slot back.
func (s *streams) take(principal string) error {
	share := max(1, s.most/2)
	if principal == auth.Anonymous {
		share = s.most
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := &Refused{Reason: TooBusy, RetryAfter: 5 * time.Second}
	switch {
	case s.open >= s.most:
		refused.Detail = "there are as many streams as there may be; ask again after Retry-After, or at another replica"
		return refused
	case s.opens[principal] >= share:
		refused.Detail = fmt.Sprintf("there are as many streams of the key's principal as there may be: at most %d of them are for one principal; end one, or ask at another replica", share)
		return refused
	}
	s.open++
	s.opens[principal]++
	return nil
}

func (s *streams) release(principal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.opens[principal]--; s.opens[principal] == 0 {
		delete(s.opens, principal)
	}
}

// ending is why a stream has ended, as a label.
type ending string

const (
	endClient   ending = "client"
	endSlow     ending = "slow"
	endKey      ending = "key"
	endGone     ending = "gone"
	endStopping ending = "stopping"
)

// farewells are what a stream says last, for whoever reads along. Those who have gone hear nothing.
var farewells = map[ending]string{
	endKey:      "the key is not valid any more",
	endGone:     "what comes next is not in the log any more: asked for with the last id, this says so",
	endStopping: "the server stops: go on with the last id at another one",
}
