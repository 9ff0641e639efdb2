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

// key signs what dibs and actors ask.
var key = claims.SigningKey{ID: "k1", Secret: []byte("of this test")}

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
		DSN: db.DSN, Schema: db.Schema, Secrets: map[string][]byte{key.ID: key.Secret},
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

// live asks for something of each kind that leaves something in a column of its own: reservations, renames, marks, facts,
// and what actors do.
func live(t *testing.T, topic string, brokers []string) int {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	about := func(name string) claims.About { return claims.About{Space: names.Username, Spelling: name} }
	claim := func(name string, change func(*claims.UsernameClaimed)) claims.Body {
		q := &claims.UsernameClaimed{Space: names.Username, Spelling: name, Owner: "u-1", Mode: claims.ModeReserve}
		change(q)
		return q
	}
	old, renamed, kept, short := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	asked := []struct {
		id   uuid.UUID
		body claims.Body
	}{
		{old, claim("Life.old", func(q *claims.UsernameClaimed) { q.Mode = claims.ModeRegister })},
		{renamed, claim("life.new", func(q *claims.UsernameClaimed) { q.Replaces = &claims.Replaces{Name: "life.old", Version: 1} })},
		{uuid.New(), &claims.ExtendRequested{About: about("life.new"), ClaimID: renamed, Owner: "u-1", TTLSeconds: 3600}},
		{uuid.New(), &claims.ConfirmRequested{About: about("life.new"), ClaimID: renamed, Owner: "u-1"}},
		{kept, claim("life.kept", func(q *claims.UsernameClaimed) { q.Replaces = &claims.Replaces{Name: "life.blocked", Version: 7} })},
		{uuid.New(), &claims.WithdrawRequested{About: about("life.never"), ClaimID: uuid.New(), Owner: "u-1"}},
		{uuid.New(), claim("life.blocked", func(*claims.UsernameClaimed) {})},
		{uuid.New(), &claims.BlockRequested{About: about("life.blocked"), Actor: "ada", Reason: "rude"}},
		{uuid.New(), claim("life.inactive", func(q *claims.UsernameClaimed) { q.Mode = claims.ModeRegister })},
		{uuid.New(), &claims.DeactivateRequested{About: about("life.inactive"), Owner: "u-1"}},
		{short, claim("life.short", func(q *claims.UsernameClaimed) { q.TTLSeconds = new(int64(1)) })},
	}
	for _, q := range asked {
		space, spelling := q.body.Name()
		ref := names.Ref{Space: space, Key: names.Key(strings.ToLower(spelling))}
		r := claims.NewRecord(q.body, cloudevents.Event{ID: q.id, Source: "test", Principal: "gateway"}, ref)
		if q.body.Privileged() {
			r = key.Sign(r)
		}
		is := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Partition: claims.Partition(ref.RecordKey(), partitions)}
		for _, h := range r.Headers {
			is.Headers = append(is.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if err := client.ProduceSync(ctx, is).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return len(asked) + 2 // the release of the old name, and whether the short one is over
}

// TestHistory: what the real processor leaves on real servers is loaded and keeps the promises; what is then spoilt is
// seen.
func TestHistory(t *testing.T) {
	cfg, brokers := decideAll(t)
	n := produce(t, cfg.Claims, brokers) + live(t, cfg.Claims, brokers)
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
	if len(h.Claims) <= n || len(h.Names) < 40 || len(h.Names) > 66 || len(h.DeadLetters) == 0 || len(h.Registrations) < n/2 {
		t.Errorf("that cannot be all: %d were produced (and some are forwarded) for at most 66 names", n)
	}
	markers := int64(0)
	for _, l := range h.Logs {
		markers += l.End
	}
	if markers -= int64(len(h.Claims)); markers <= 0 {
		t.Error("there are no markers of transactions in the logs: this test does not test what it says")
	}
	kinds := make(map[string]int)
	states := make(map[string]int)
	for _, d := range h.Decisions {
		kinds[d.Kind]++
	}
	for _, n := range h.Names {
		states[n.State]++
	}
	for _, state := range []string{"free", "reserved", "registered", "inactive", "blocked"} {
		if states[state] == 0 {
			t.Errorf("no name is %s", state)
		}
	}
	for _, kind := range []string{checker.KindOutcome, checker.KindFact, checker.KindDuplicate, checker.KindForwarded, checker.KindDead, checker.KindMark} {
		if kinds[kind] == 0 {
			t.Errorf("there is no decision %q", kind)
		}
	}

	conn, err := pgx.Connect(t.Context(), cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	// Each column that is changed is seen, and changed back.
	for _, c := range []struct{ table, column, to, where string }{
		{"names", "owner", "'somebody'", "key = 'name-1'"},
		{"names", "state", "'i'", "key = 'name-1'"},
		{"names", "name", "'Name-1x'", "key = 'name-1'"},
		{"names", "expires_at", "expires_at + interval '1 second'", "key = 'life.kept'"},
		{"names", "replaces", "'other'", "key = 'life.kept'"},
		{"names", "replaces_version", "8", "key = 'life.kept'"},
		{"names", "settled", "NULL", "key = 'life.new'"},
		{"names", "previous", "'u-9'", "key = 'life.old'"},
		{"decisions", "expires_at", "expires_at + interval '1 second'", "outcome = 'X'"},
		{"decisions", "follow_key", "'other'", "follow_key IS NOT NULL"},
		{"decisions", "follow_version", "2", "follow_key IS NOT NULL"},
		{"decisions", "request", "'ExtendRequested'", "outcome = 'C'"},
		{"decisions", "actor", "'bea'", "outcome = 'B'"},
		{"decisions", "why", "'so'", "outcome = 'B'"},
		{"decisions", "owner", "'u-9'", "kind = 'm'"},
		{"decisions", "request_id", "gen_random_uuid()", "kind = 'm'"},
		{"decisions", "state", "'f'", "outcome = 'D'"},
		{"decisions", "kind", "'d'", "kind = 'f' AND outcome = 'L'"},
	} {
		t.Run(c.table+" "+c.column+" "+c.where, func(t *testing.T) {
			at := pgx.Identifier{cfg.Schema, c.table}.Sanitize()
			exec := func(format string, args ...any) int64 {
				done, err := conn.Exec(t.Context(), fmt.Sprintf(format, args...))
				if err != nil {
					t.Fatal(err)
				}
				return done.RowsAffected()
			}
			exec("CREATE TEMP TABLE was AS TABLE %s", at)
			if exec("UPDATE %s SET %s = %s WHERE %s", at, c.column, c.to, c.where) == 0 {
				t.Error("there is no such row")
			}
			h, err := load.History(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(checker.Check(h)) == 0 {
				t.Error("it is not seen")
			}
			// At once: a processor is at work, and would decide again what it does not find.
			if err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("TRUNCATE %s; INSERT INTO %[1]s TABLE was; DROP TABLE was", at)).Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
