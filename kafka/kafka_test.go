package kafka

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/dibs-hq/dibs/dibstest"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

// noLeaks fails a test that leaves a goroutine of this package or of kafka-go behind. It must be called first, so that
// it looks last.
func noLeaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

// fake starts a fake cluster in this process, with our topics, for tests that need a broker to misbehave on command.
func fake(t testing.TB, partitions int32, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(partitions, claimsName, registrationsName, deadLettersName),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// connect makes a client that ends with the test.
func connect(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg, slog.New(slog.NewTextHandler(testWriter{t}, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func connectFake(t testing.TB, cluster *kfake.Cluster) *Client {
	return connect(t, Config{Brokers: cluster.ListenAddrs(), RequestTimeout: time.Second})
}

// broker gives a test topics of its own on whatever broker there is.
func broker(t testing.TB, partitions int) *Client {
	t.Helper()
	b := dibstest.Kafka(t)
	return created(t, connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix}), partitions)
}

// created creates the client's topics.
func created(t testing.TB, c *Client, partitions int) *Client {
	t.Helper()
	if _, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs something until the test, or the returned function, ends it.
func run(t testing.TB, what interface {
	Run(context.Context) error
}) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- what.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not end with its context")
		}
	})
	t.Cleanup(stop)
	return stop
}

// within is a context for what must not take longer.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// testWriter logs to the test. What comes after its end is dropped.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(string(b))
	}
	return len(b), nil
}

// wantIs fails unless err is all of the targets.
func wantIs(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("error is %v, want %v", err, target)
		}
	}
}

// await waits for something that is going to be true.
func await(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// sampleCount is how many observations a histogram has.
func sampleCount(t testing.TB, o prometheus.Observer) uint64 {
	t.Helper()
	var m dto.Metric
	if err := o.(prometheus.Metric).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram().GetSampleCount()
}

func counter(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
