package dibstest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// startWithin bounds the start of any server, with everything that has to be fetched for it.
const startWithin = 10 * time.Minute

// Broker is a Kafka for one test.
type Broker struct {
	// Addrs are the bootstrap addresses.
	Addrs []string
	// Prefix belongs to this test alone: the topics it creates start with it, and are deleted after the test. If a
	// private value is in them, the test fails.
	Prefix string
	// Kind is where the broker comes from.
	Kind Kind
	// Real is false for the embedded fake, also where the environment gives it.
	Real bool

	server *kafkaServer
	own    bool
}

// Kafka gives the test a broker that it shares with others.
func Kafka(t testing.TB) *Broker {
	t.Helper()
	server := current.sharedKafka(t)
	b := &Broker{Addrs: server.addrs, Prefix: prefix(t, "-"), Kind: server.kind, Real: server.real, server: server}
	t.Cleanup(func() {
		b.sweep(t)
		b.deleteTopics(t)
	})
	return b
}

// OwnKafka gives the test a broker of its own, which it may stop, kill and restart: a real one from jars where java and
// mvn are, else the embedded fake.
func OwnKafka(t testing.TB) *Broker {
	t.Helper()
	current.mustHaveBegun(t)
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	server, err := chooseOwnKafka(ctx)
	if err != nil {
		t.Fatalf("a kafka of its own: %v", err)
	}
	b := &Broker{Addrs: server.addrs, Prefix: prefix(t, "-"), Kind: server.kind, Real: server.real, server: server, own: true}
	t.Cleanup(func() {
		if server.running() {
			b.sweep(t)
		}
		SweepFiles(t, server.dir)
		if err := server.close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("Kafka of its own: %s", server.about)
	if !server.real && requires(t, "kafka") {
		t.Fatalf("%s=%s, but there is only %s", requireVariable, os.Getenv(requireVariable), server.about)
	}
	return b
}

// NeedRealKafka skips a test that means nothing on the embedded fake, loudly: the skip is counted and printed at the
// end of the run. Where DIBS_TEST_REQUIRE names kafka, it fails instead.
func NeedRealKafka(t testing.TB) {
	t.Helper()
	if server := current.sharedKafka(t); !server.real {
		current.skip(t, "kafka", "a real Kafka", "there is only "+server.about)
	}
}

// CanRestart says whether the methods below work: on a broker from OwnKafka.
func (b *Broker) CanRestart() bool { return b.own }

// Stop ends the broker cleanly. Start brings it back.
func (b *Broker) Stop() error {
	if !b.own {
		return errNotOurs
	}
	return b.server.stop()
}

// Kill ends the broker with SIGKILL. Start brings it back.
func (b *Broker) Kill() error {
	if !b.own {
		return errNotOurs
	}
	return b.server.kill()
}

// Start starts the broker again, on the same address and data, and waits until it serves.
func (b *Broker) Start(ctx context.Context) error {
	if !b.own {
		return errNotOurs
	}
	return b.server.start(ctx)
}

// Restart is Stop and Start.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.Stop(); err != nil {
		return err
	}
	return b.Start(ctx)
}

// Pause stops the broker in its tracks (SIGSTOP): connections stay open and nothing answers.
func (b *Broker) Pause() error {
	if !b.own {
		return errNotOurs
	}
	return b.server.pause()
}

// Continue lets a paused broker go on.
func (b *Broker) Continue() error {
	if !b.own {
		return errNotOurs
	}
	return b.server.signal(syscall.SIGCONT)
}

// sweep looks for private values in the test's topics, before they are deleted.
func (b *Broker) sweep(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), sweepWithin)
	defer cancel()
	s := newSweep()
	s.report(t, s.topics(ctx, b.Addrs, b.Prefix))
}

// deleteTopics leaves a shared broker as it was. A test that has killed what it needs is not failed for it.
func (b *Broker) deleteTopics(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.Addrs...), Transport: transport, Timeout: 10 * time.Second}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		t.Logf("topics of %s are left: %v", b.Prefix, err)
		return
	}
	var topics []string
	for _, topic := range meta.Topics {
		if strings.HasPrefix(topic.Name, b.Prefix) {
			topics = append(topics, topic.Name)
		}
	}
	if len(topics) == 0 {
		return
	}
	deleted, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: topics})
	if err != nil {
		t.Logf("topics %v are left: %v", topics, err)
		return
	}
	for topic, err := range deleted.Errors {
		if err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			t.Logf("topic %s is left: %v", topic, err)
		}
	}
}

// sharedKafka starts this binary's broker when the first test asks.
func (s *session) sharedKafka(t testing.TB) *kafkaServer {
	t.Helper()
	s.mustHaveBegun(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kafka == nil && s.kafkaErr == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		defer cancel()
		s.kafka, s.kafkaErr = chooseKafka(ctx)
		if s.kafkaErr == nil {
			s.say("Kafka: " + s.kafka.about)
		}
	}
	if s.kafkaErr != nil {
		t.Fatalf("no kafka for this test: %v", s.kafkaErr)
	}
	if !s.kafka.real && requires(t, "kafka") {
		t.Fatalf("%s=%s, but there is only %s", requireVariable, os.Getenv(requireVariable), s.kafka.about)
	}
	return s.kafka
}

// prefix is a name that no other test has, with a hint of whose it is.
func prefix(t testing.TB, separator string) string {
	var hint strings.Builder
	for _, r := range strings.ToLower(t.Name()) {
		if hint.Len() == 24 {
			break
		}
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			hint.WriteRune(r)
		}
	}
	return hint.String() + separator + strings.ToLower(rand.Text()[:12]) + separator
}
