package dibstest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"

	"github.com/dibs-hq/dibs/dibstest"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

func newClient(t *testing.T, b *dibstest.Broker) *kafka.Client {
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(b.Addrs...), Transport: transport, Timeout: 10 * time.Second}
}

// createTopic creates a topic as dibs asks for its claims.
func createTopic(t *testing.T, client *kafka.Client, topic string) {
	t.Helper()
	resp, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: topic, NumPartitions: 3, ReplicationFactor: 1,
		ConfigEntries: []kafka.ConfigEntry{
			{ConfigName: "cleanup.policy", ConfigValue: "delete"},
			{ConfigName: "message.timestamp.type", ConfigValue: "CreateTime"},
			{ConfigName: "message.timestamp.after.max.ms", ConfigValue: "1000"},
			{ConfigName: "message.timestamp.before.max.ms", ConfigValue: "600000"},
		},
	}}})
	if err == nil {
		err = resp.Errors[topic]
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

// produce tries until it succeeds: a fresh topic, and a fresh broker, are unknown to a client's metadata for a while.
func produce(t *testing.T, client *kafka.Client, topic string, at time.Time, value string) error {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp, err := client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: topic, Partition: 1, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Time: at, Key: kafka.NewBytes([]byte("username/alice")), Value: kafka.NewBytes([]byte(value))}),
		})
		if err == nil {
			err = resp.Error
		}
		var answer kafka.Error
		if err == nil || errors.As(err, &answer) && !answer.Temporary() {
			return err
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func fetch(t *testing.T, client *kafka.Client, topic string) []string {
	t.Helper()
	resp, err := client.Fetch(t.Context(), &kafka.FetchRequest{Topic: topic, Partition: 1, Offset: 0, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	var values []string
	for {
		record, err := resp.Records.ReadRecord()
		if err != nil {
			return values
		}
		value, err := kafka.ReadAll(record.Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, string(value))
	}
}

// TestKafkaSmoke is what every kind of broker must give to kafka-go.
func TestKafkaSmoke(t *testing.T) {
	t.Parallel()
	b := dibstest.Kafka(t)
	if b.CanRestart() {
		t.Error("a shared broker says it can be restarted")
	}
	if err := b.Kill(); err == nil {
		t.Fatal("a shared broker let itself be killed")
	}
	client := newClient(t, b)
	topic := b.Prefix + "claims"
	createTopic(t, client, topic)
	if err := produce(t, client, topic, time.Now(), "first"); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, client, topic); !slices.Equal(got, []string{"first"}) {
		t.Fatalf("fetched %v", got)
	}
}

// TestKafkaHoldsTheClockBound needs a broker that enforces message.timestamp.after.max.ms; the fake only stores it.
func TestKafkaHoldsTheClockBound(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	b := dibstest.Kafka(t)
	client := newClient(t, b)
	topic := b.Prefix + "claims"
	createTopic(t, client, topic)
	if err := produce(t, client, topic, time.Now(), "now"); err != nil {
		t.Fatal(err)
	}
	if err := produce(t, client, topic, time.Now().Add(time.Minute), "from the future"); !errors.Is(err, kafka.InvalidTimestamp) {
		t.Fatalf("a record from the future: %v, want InvalidTimestamp", err)
	}
	if got := fetch(t, client, topic); !slices.Equal(got, []string{"now"}) {
		t.Fatalf("fetched %v", got)
	}
}

func TestEachTestHasItsOwnTopics(t *testing.T) {
	t.Parallel()
	var prefixes []string
	var left string
	for i := range 2 {
		t.Run(fmt.Sprint("Same/Name_", i), func(t *testing.T) {
			b := dibstest.Kafka(t)
			prefixes = append(prefixes, b.Prefix)
			left = b.Prefix + "claims"
			createTopic(t, newClient(t, b), left)
		})
	}
	if prefixes[0] == prefixes[1] {
		t.Fatalf("two tests share the prefix %s", prefixes[0])
	}
	client := newClient(t, dibstest.Kafka(t))
	deadline := time.Now().Add(10 * time.Second)
	for {
		meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(meta.Topics, func(topic kafka.Topic) bool { return topic.Name == left }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("topic %s is there after its test", left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestOwnKafkaKeepsRecords ends a broker in each way and reads what it acknowledged before.
func TestOwnKafkaKeepsRecords(t *testing.T) {
	t.Parallel()
	b := dibstest.OwnKafka(t)
	if !b.CanRestart() {
		t.Fatal("a broker of our own says it can't be restarted")
	}
	topic := b.Prefix + "claims"
	createTopic(t, newClient(t, b), topic)
	var want []string
	for _, end := range []struct {
		name string
		do   func() error
	}{{"Stop", b.Stop}, {"Kill", b.Kill}} {
		want = append(want, end.name)
		if err := produce(t, newClient(t, b), topic, time.Now(), end.name); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := end.do(); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if _, err := newClient(t, b).Metadata(t.Context(), &kafka.MetadataRequest{}); err == nil {
			t.Fatalf("the broker answers after %s", end.name)
		}
		ended := time.Now()
		if err := b.Start(t.Context()); err != nil {
			t.Fatalf("start after %s: %v", end.name, err)
		}
		t.Logf("%s took %s, start %s", end.name, ended.Sub(began).Round(time.Millisecond), time.Since(ended).Round(time.Millisecond))
		if err := produce(t, newClient(t, b), topic, time.Now(), "after "+end.name); err != nil {
			t.Fatal(err)
		}
		want = append(want, "after "+end.name)
		if got := fetch(t, newClient(t, b), topic); !slices.Equal(got, want) {
			t.Fatalf("fetched %v, want %v", got, want)
		}
	}

	if err := b.Pause(); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, b)
	client.Timeout = 500 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := client.Metadata(ctx, &kafka.MetadataRequest{}); err == nil {
		t.Fatal("the broker answers while it is paused")
	}
	if err := b.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := produce(t, newClient(t, b), topic, time.Now(), "after Pause"); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresSchema(t *testing.T) {
	t.Parallel()
	connect := func(d *dibstest.Database) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	exists := func(conn *pgx.Conn, schema string) (there bool) {
		err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there)
		if err != nil {
			t.Fatal(err)
		}
		return there
	}
	var schema string
	t.Run("Inner", func(t *testing.T) {
		d := dibstest.Postgres(t)
		schema = d.Schema
		conn := connect(d)
		if !exists(conn, schema) {
			t.Fatalf("schema %s is not there", schema)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE "+pgx.Identifier{schema, "t"}.Sanitize()+" ()"); err != nil {
			t.Fatal(err)
		}
	})
	d := dibstest.Postgres(t)
	if d.Schema == schema {
		t.Fatalf("two tests share the schema %s", schema)
	}
	if len(d.Schema) > 63 || strings.ToLower(d.Schema) != d.Schema {
		t.Errorf("schema %s needs quotes or is cut off", d.Schema)
	}
	if exists(connect(d), schema) {
		t.Fatalf("schema %s is there after its test", schema)
	}
}

func TestOwnPostgresKeepsRows(t *testing.T) {
	t.Parallel()
	d := dibstest.OwnPostgres(t)
	table := pgx.Identifier{d.Schema, "kept"}.Sanitize()
	rows := func(sql string) (n int) {
		conn, err := pgx.Connect(t.Context(), d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	rows("CREATE TABLE " + table + " (v int)")
	for i, end := range []struct {
		name string
		do   func() error
	}{{"Stop", d.Stop}, {"StopImmediate", d.StopImmediate}, {"Kill", d.Kill}} {
		if n := rows("INSERT INTO " + table + " VALUES (1)"); n != i+1 {
			t.Fatalf("before %s: %d rows, want %d", end.name, n, i+1)
		}
		if err := end.do(); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if conn, err := pgx.Connect(t.Context(), d.DSN); err == nil {
			_ = conn.Close(t.Context())
			t.Fatalf("the server answers after %s", end.name)
		}
		began := time.Now()
		if err := d.Start(t.Context()); err != nil {
			t.Fatalf("start after %s: %v", end.name, err)
		}
		t.Logf("start after %s: %s", end.name, time.Since(began).Round(time.Millisecond))
	}
	if n := rows("SELECT 1"); n != 3 {
		t.Fatalf("%d rows, want 3", n)
	}
}
