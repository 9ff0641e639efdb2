package peers

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/bench"
	kafkago "github.com/segmentio/kafka-go"
)

// streams is a Kafka Streams application with a state store, in a JVM of its own: see streams/Names.java. It is started when
// it is first needed. While it is stopped its JVM stays, paused: one that had to begin anew each time would never be warm.
type streams struct {
	*wires
	name    string
	program []string
	logFile string

	mu   sync.Mutex // held while it starts or stops
	jvm  *jvm       // nil before the first start
	runs atomic.Bool
}

// streamsKind is one way to set up Kafka Streams.
type streamsKind struct {
	guarantee string
	tuned     bool
}

// The guarantees, as Kafka Streams calls them. With the second one, answers count when their transaction is committed.
const (
	atLeastOnce = "at_least_once"
	exactlyOnce = "exactly_once_v2"
)

func (k streamsKind) open(ctx context.Context, o *opening) (bench.Peer, error) {
	if err := o.needsKafka(); err != nil {
		return nil, err
	}
	java, err := o.findJava(ctx)
	if err != nil {
		return nil, err
	}
	files, err := streamsProgram(ctx)
	if err != nil {
		return nil, err
	}
	w, err := openWires(ctx, o)
	if err != nil {
		return nil, err
	}
	dir, err := o.folder()
	if err != nil {
		return nil, err
	}
	app := o.id + "." + word(o.name)
	s := &streams{wires: w, name: o.name, logFile: dir + "/log", program: append([]string{java}, files.arguments(
		"--brokers", strings.Join(o.Brokers, ","), "--app-id", app, "--in", w.client.Claims(), "--out", w.client.Registrations(),
		"--state-dir", dir, "--guarantee", k.guarantee, "--tuned", strconv.FormatBool(k.tuned),
		"--threads", strconv.Itoa(runtime.GOMAXPROCS(0)),
	)...)}
	if k.guarantee == exactlyOnce {
		err = w.tailCommitted(ctx, o, accepted)
	} else {
		err = w.tail(ctx, accepted)
	}
	if err != nil {
		return nil, err
	}
	o.onClose(func(ctx context.Context) error {
		if s.jvm == nil {
			return nil
		}
		return errors.Join(s.jvm.end(), deleteTopic(ctx, o.Brokers, app+"-names-changelog"))
	})
	return s, nil
}

// deleteTopic deletes a topic that is not one of dibs'.
func deleteTopic(ctx context.Context, brokers []string, topic string) error {
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(brokers...), Transport: transport, Timeout: 10 * time.Second}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	response, err := client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = response.Errors[topic]
	}
	if err != nil && !errors.Is(err, kafkago.UnknownTopicOrPartition) {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return nil
}

// Name implements bench.Peer.
func (s *streams) Name() string { return s.name }

// Claim implements bench.Peer.
func (s *streams) Claim(ctx context.Context, name, owner string) (bool, error) {
	if !s.runs.Load() {
		if err := s.Start(ctx); err != nil {
			return false, err
		}
	}
	return s.claim(ctx, name, owner)
}

// Start implements bench.Starter. It returns when the application runs.
func (s *streams) Start(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.runs.Load():
		return nil
	case s.jvm != nil:
		err = s.jvm.tell(ctx, "resume")
	default:
		s.jvm, err = startJVM(ctx, s.program, s.logFile)
		if err == nil {
			s.run(s.jvm.watch)
		}
	}
	s.runs.Store(err == nil)
	return err
}

// Stop implements bench.Starter.
func (s *streams) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runs.Swap(false) {
		return nil
	}
	return s.jvm.tell(ctx, "pause")
}

// Fill implements bench.Drainer. The application has its partitions and is paused meanwhile: its start is not what is
// measured.
func (s *streams) Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.fillBacklog(ctx, n, claim)
}

// Drain implements bench.Drainer.
func (s *streams) Drain(ctx context.Context, progress func(decided int)) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	return s.awaitBacklog(ctx, progress)
}
