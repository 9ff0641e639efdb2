package load_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/dibs-hq/dibs/dibstest/checker/load"
	ourkafka "github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

const partitions = 3

// everything is a group of one process.
type everything struct{ given chan processor.Assignment }

func (g everything) Next(ctx context.Context) (processor.Assignment, error) {
	select {
	case a := <-g.given:
		return a, nil
	case <-ctx.Done():
		return processor.Assignment{}, ctx.Err()
	}
}

func (everything) Commit(map[int32]int64) error { return nil }

// run runs a part until the test ends.
func run(t *testing.T, what interface{ Run(context.Context) error }) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- what.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// decideAll runs the real processor on the real adapters, and returns where its deployment is.
func decideAll(t *testing.T) (load.Config, []string) {
	broker, db := dibstest.Kafka(t), dibstest.Postgres(t)
	client, err := ourkafka.New(ourkafka.Config{Brokers: broker.Addrs, TopicPrefix: broker.Prefix}, nil, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := client.CreateTopics(t.Context(), ourkafka.TopicsConfig{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema, Topic: client.Claims()}
	if _, err := postgres.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	record, err := postgres.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(record.Close)
	if _, err := record.Pin(t.Context(), postgres.Contract{Topic: client.Claims(), Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	producer, reader := ourkafka.NewProducer(client, ourkafka.ProducerConfig{}), ourkafka.NewReader(client, ourkafka.ReaderConfig{})
	group := everything{make(chan processor.Assignment, 1)}
	group.given <- processor.Assignment{Partitions: []int32{0, 1, 2}, Live: make(chan struct{})}
	key := claims.SigningKey{ID: "k1", Secret: []byte("of this test")}
	p, err := processor.New(processor.Config{
		Rules:   processor.Rules{Partitions: partitions, Policies: names.Builtin(), Keys: claims.Keys{key.ID: key.Secret}},
		Signing: key, Topic: client.Claims(), Limits: processor.Limits{Batch: 50},
	}, group, record, producer.Publisher(), reader)
	if err != nil {
		t.Fatal(err)
	}
	run(t, producer)
	run(t, reader)
	run(t, p)
	return load.Config{
		Kafka:  &kafka.Client{Addr: addresses(broker.Addrs), Timeout: 10 * time.Second},
		Claims: client.Claims(), Registrations: broker.Prefix + "registrations", DeadLetters: broker.Prefix + "claims.dlq",
		DSN: db.DSN, Schema: db.Schema,
	}, broker.Addrs
}

func addresses(all []string) net.Addr { return kafka.TCP(all...) }

// record is a claim on its partition, or on the one given.
func record(topic string, q claims.UsernameClaimed, id uuid.UUID, partition int32) *kgo.Record {
	ref := names.Ref{Space: q.Space, Key: names.Key(strings.ToLower(q.Spelling))}
	r := q.Record(cloudevents.Event{ID: id, Source: "test", Principal: "gateway"}, ref)
	is := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Partition: partition}
	if partition < 0 {
		is.Partition = claims.Partition(ref.RecordKey(), partitions)
	}
	for _, h := range r.Headers {
		is.Headers = append(is.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return is
}

// produce puts claims of all sorts on the topic: contended names, repeats, misrouted and unreadable ones, in compressed
// batches, some in transactions that are committed or aborted.
func produce(t *testing.T, topic string, brokers []string) int {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := 0
	for i, compression := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.ZstdCompression(), kgo.SnappyCompression()} {
		opts := []kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(compression)}
		transactional := i%2 == 1
		if transactional {
			opts = append(opts, kgo.TransactionalID(topic+strconv.Itoa(i)))
		}
		client, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for round := range 4 {
			if transactional {
				if err := client.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
			}
			var all []*kgo.Record
			for j := range 40 {
				q := claims.UsernameClaimed{Space: names.Username, Spelling: fmt.Sprintf("Name-%d", (7*round+j)%60), Owner: fmt.Sprintf("u-%d", j%5), Mode: claims.ModeRegister}
				id, wrong := uuid.New(), int32(-1)
				switch j % 10 {
				case 3:
					wrong = int32(j/10) % partitions
				case 4:
					q.Mode = "borrow"
				}
				r := record(topic, q, id, wrong)
				switch j % 10 {
				case 5: // again
					all = append(all, record(topic, q, id, -1))
				case 6:
					r.Value = []byte("\x00garbage")
				case 7:
					r.Headers = nil
				}
				all = append(all, r)
			}
			if err := client.ProduceSync(ctx, all...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			n += len(all)
			if transactional {
				if err := client.EndTransaction(ctx, round%2 == 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return n
}

// TestHistory: what the real processor leaves on real servers is loaded and keeps the promises; what is then spoilt is
// seen.
func TestHistory(t *testing.T) {
	cfg, brokers := decideAll(t)
	n := produce(t, cfg.Claims, brokers)
	var h checker.History
	var found []checker.Violation
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var err error
		if h, err = load.History(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if found = checker.Check(h); len(found) == 0 && len(h.Claims) >= n {
			break
		}
	}
	for i, v := range found {
		if i < 10 {
			t.Error(v)
		}
	}
	t.Logf("%d claims, %d decisions, %d names, %d outcomes, %d dead letters", len(h.Claims), len(h.Decisions), len(h.Names), len(h.Registrations), len(h.DeadLetters))
	if len(h.Claims) <= n || len(h.Names) < 40 || len(h.Names) > 60 || len(h.DeadLetters) == 0 || len(h.Registrations) < n/2 {
		t.Errorf("that cannot be all: %d were produced (and some are forwarded) for at most 60 names", n)
	}
	markers := int64(0)
	for _, l := range h.Logs {
		markers += l.End
	}
	if markers -= int64(len(h.Claims)); markers <= 0 {
		t.Error("there are no markers of transactions in the logs: this test does not test what it says")
	}
	kinds := make(map[string]int)
	for _, d := range h.Decisions {
		kinds[d.Kind]++
	}
	for _, kind := range []string{checker.KindOutcome, checker.KindDuplicate, checker.KindForwarded, checker.KindDead} {
		if kinds[kind] == 0 {
			t.Errorf("there is no decision %q", kind)
		}
	}

	conn, err := pgx.Connect(t.Context(), cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	spoil := fmt.Sprintf(`UPDATE %s.names SET owner = 'somebody' WHERE key = 'name-1'`, pgx.Identifier{cfg.Schema}.Sanitize())
	if _, err := conn.Exec(t.Context(), spoil); err != nil {
		t.Fatal(err)
	}
	if h, err = load.History(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if found = checker.Check(h); len(found) != 1 || found[0].Promise != 1 {
		t.Errorf("after a name's owner was changed: %v", found)
	}
}
