package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	metadataapi "github.com/segmentio/kafka-go/protocol/metadata"
)

// refreshPause is the least time between two refreshes, however many ask for one.
const refreshPause = 40 * time.Millisecond

// metadata is what we know of the cluster: above all, who leads which partition. The transport has a cache of its own,
// but that one is renewed by the clock alone; this one is renewed when somebody finds it wrong.
//
// It is safe for concurrent use and has no goroutine while nobody asks.
type metadata struct {
	client *Client

	mu      sync.Mutex
	view    *view
	started time.Time     // of the last refresh
	running chan struct{} // closed at the end of the refresh under way; nil where there is none
	failed  error         // of the last refresh
}

// view is one answer of a broker. It is never changed.
type view struct {
	seq        int64 // counts the views, from 1; 0 is the view of nothing
	clusterID  string
	controller int32
	brokers    map[int32]kafkago.Broker
	topics     map[string]topicView
}

type topicView struct {
	err        error // such as UnknownTopicOrPartition
	partitions map[int32]metadataapi.ResponsePartition
}

func newMetadata(c *Client) *metadata { return &metadata{client: c, view: &view{}} }

// current is the latest view.
func (m *metadata) current() *view {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

// newer returns a view that is newer than the one numbered seq, and asks the brokers where there is none. Callers share
// one request. An error means that nobody could be asked; come back after a pause.
func (m *metadata) newer(ctx context.Context, seq int64) (*view, error) {
	m.mu.Lock()
	if m.view.seq > seq {
		defer m.mu.Unlock()
		return m.view, nil
	}
	done := m.running
	if done == nil {
		done = make(chan struct{})
		m.running = done
		wait := refreshPause - time.Since(m.started)
		go m.refresh(done, wait) // outlives an impatient caller, but neither its own time-out nor the client
	}
	m.mu.Unlock()

	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view.seq > seq {
		return m.view, nil
	}
	return nil, m.failed
}

func (m *metadata) refresh(done chan struct{}, wait time.Duration) {
	ctx, cancel := context.WithTimeout(m.client.transport.Context, m.client.cfg.RequestTimeout)
	defer cancel()
	if wait > 0 {
		pause(ctx, wait)
	}
	m.mu.Lock()
	m.started = time.Now()
	m.mu.Unlock()
	v, err := m.ask(ctx, m.client.topics())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed = err; err == nil {
		v.seq = m.view.seq + 1
		m.view = v
	}
	m.running = nil
	close(done)
}

// ask asks a broker about topics, past all caches.
func (m *metadata) ask(ctx context.Context, topics []string) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, m.client.cfg.RequestTimeout)
	defer cancel()
	for b := (backoff{min: 20 * time.Millisecond, max: time.Second}); ; {
		began := time.Now()
		r, _, err := m.client.roundTrip(ctx, &exchange{
			to: anyBroker, request: &metadataapi.Request{TopicNames: topics},
		})
		if err == nil {
			m.client.metrics.requests.WithLabelValues("metadata").Observe(time.Since(began).Seconds())
			return newView(r.(*metadataapi.Response)), nil
		}
		m.client.metrics.failed("metadata", err)
		if !isTransient(err) {
			return nil, fmt.Errorf("ask for metadata: %w: %w", ErrDenied, err)
		}
		if !b.sleep(ctx) {
			return nil, fmt.Errorf("ask for metadata: %w", err)
		}
	}
}

// isTransient reports whether another attempt may have more luck. Wrong credentials do not get better within seconds.
func isTransient(err error) bool {
	return !errors.Is(err, kafkago.SASLAuthenticationFailed) && !errors.Is(err, kafkago.UnsupportedSASLMechanism) &&
		!errors.Is(err, kafkago.UnsupportedVersion)
}

func newView(r *metadataapi.Response) *view {
	v := &view{
		clusterID: r.ClusterID, controller: r.ControllerID,
		brokers: make(map[int32]kafkago.Broker, len(r.Brokers)),
		topics:  make(map[string]topicView, len(r.Topics)),
	}
	for _, b := range r.Brokers {
		v.brokers[b.NodeID] = kafkago.Broker{ID: int(b.NodeID), Host: b.Host, Port: int(b.Port), Rack: b.Rack}
	}
	for _, t := range r.Topics {
		tv := topicView{err: codeError(t.ErrorCode), partitions: make(map[int32]metadataapi.ResponsePartition, len(t.Partitions))}
		for _, p := range t.Partitions {
			tv.partitions[p.PartitionIndex] = p
		}
		v.topics[t.Name] = tv
	}
	return v
}

// leader is the broker that leads a partition. The error says why there is none: UnknownTopicOrPartition,
// LeaderNotAvailable or whatever the broker said about the topic.
func (v *view) leader(topic string, partition int32) (int32, error) {
	t, ok := v.topics[topic]
	if !ok {
		return anyBroker, kafkago.UnknownTopicOrPartition
	}
	if t.err != nil {
		return anyBroker, t.err
	}
	p, ok := t.partitions[partition]
	if !ok {
		return anyBroker, kafkago.UnknownTopicOrPartition
	}
	if _, ok := v.brokers[p.LeaderID]; !ok {
		return anyBroker, kafkago.LeaderNotAvailable
	}
	return p.LeaderID, nil
}
