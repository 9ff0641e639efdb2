package dev_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/dibs-hq/dibs/dev"
)

// These tests are what dibs asks of a broker through kafka-go, asked of the embedded one.

func startKafka(t *testing.T, cfg dev.KafkaConfig) *dev.Kafka {
	t.Helper()
	cfg.Logger = testLogger(t)
	k, err := dev.StartKafka(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// newClient has a transport of its own, so that no test sees another's pooled connections.
func newClient(t *testing.T, addr string) *kafka.Client {
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(addr), Transport: transport, Timeout: 10 * time.Second}
}

func createTopic(t *testing.T, client *kafka.Client, topic string, partitions int, configs ...kafka.ConfigEntry) {
	t.Helper()
	resp, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: topic, NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: configs,
	}}})
	if err == nil {
		err = resp.Errors[topic]
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	// The cached metadata may say "unknown topic" for up to its TTL.
	waitUntil(t, 10*time.Second, func() bool {
		meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{Topics: []string{topic}})
		return err == nil && len(meta.Topics) == 1 && meta.Topics[0].Error == nil && len(meta.Topics[0].Partitions) == partitions
	})
}

func TestKafkaAdmin(t *testing.T) {
	t.Parallel()
	k := startKafka(t, dev.KafkaConfig{DataDir: t.TempDir()})
	client := newClient(t, k.Addr())
	settings := map[string]string{
		"cleanup.policy": "delete", "retention.ms": "604800000", "message.timestamp.type": "CreateTime",
		"message.timestamp.after.max.ms": "1000", "message.timestamp.before.max.ms": "600000",
	}
	var entries []kafka.ConfigEntry
	for name, value := range settings {
		entries = append(entries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	createTopic(t, client, "claims", 12, entries...)

	meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if meta.ClusterID != dev.KafkaClusterID || len(meta.Brokers) != 1 {
		t.Errorf("cluster %q with %d brokers, want %q with one", meta.ClusterID, len(meta.Brokers), dev.KafkaClusterID)
	}
	if at := net.JoinHostPort(meta.Brokers[0].Host, strconv.Itoa(meta.Brokers[0].Port)); at != k.Addr() {
		t.Errorf("broker says it is at %s, want %s", at, k.Addr())
	}

	described, err := client.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: "claims",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, entry := range described.Resources[0].ConfigEntries {
		got[entry.ConfigName] = entry.ConfigValue
	}
	for name, want := range settings {
		if got[name] != want {
			t.Errorf("DescribeConfigs: %s = %q, want %q", name, got[name], want)
		}
	}

	again, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: "claims", NumPartitions: 1, ReplicationFactor: 1}}})
	if err != nil || !errors.Is(again.Errors["claims"], kafka.TopicAlreadyExists) {
		t.Errorf("creating it twice: %v, %v, want TopicAlreadyExists", again, err)
	}
}

func TestKafkaCreatesNoTopicByAccident(t *testing.T) {
	t.Parallel()
	client := newClient(t, startKafka(t, dev.KafkaConfig{DataDir: t.TempDir()}).Addr())
	for range 3 {
		_, err := client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: "typo", RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("x"))}),
		})
		if err == nil {
			t.Fatal("produced to a topic that nobody created")
		}
	}
	meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
	if err != nil || len(meta.Topics) != 0 {
		t.Fatalf("topics %v, %v, want none", meta.Topics, err)
	}
}

// TestKafkaManyPartitionsInOneRequest is the produce and the fetch of a processor: one request for all.
func TestKafkaManyPartitionsInOneRequest(t *testing.T) {
	t.Parallel()
	k := startKafka(t, dev.KafkaConfig{DataDir: t.TempDir()})
	client := newClient(t, k.Addr())
	const partitions = 4
	createTopic(t, client, "claims", partitions)

	at := time.UnixMilli(1_700_000_000_123).UTC()
	produceEach(t, client, "claims", partitions, at)
	fetched := fetchEach(t, client, "claims", partitions)
	for partition := range partitions {
		want := []string{fmt.Sprintf("%d/0 %s", partition, at.Format(time.RFC3339Nano)), fmt.Sprintf("%d/1 %s", partition, at.Format(time.RFC3339Nano))}
		if !slices.Equal(fetched[partition], want) {
			t.Errorf("partition %d: %v, want %v", partition, fetched[partition], want)
		}
	}

	offsets, err := client.ListOffsets(t.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		"claims": {kafka.FirstOffsetOf(1), kafka.LastOffsetOf(1)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if o := offsets.Topics["claims"][0]; o.Error != nil || o.FirstOffset != 0 || o.LastOffset != 2 {
		t.Errorf("offsets %+v, want 0 to 2", o)
	}
}

func produceEach(t *testing.T, client *kafka.Client, topic string, partitions int, at time.Time) {
	t.Helper()
	req := &produce.Request{Acks: -1, Timeout: 5000, Topics: []produce.RequestTopic{{Topic: topic}}}
	for partition := range partitions {
		var records []protocol.Record
		for i := range 2 {
			records = append(records, protocol.Record{Time: at, Key: protocol.NewBytes([]byte("key")), Value: protocol.NewBytes(fmt.Appendf(nil, "%d/%d", partition, i))})
		}
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, produce.RequestPartition{
			Partition: int32(partition), RecordSet: protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(records...)},
		})
	}
	answer, err := client.Transport.RoundTrip(t.Context(), client.Addr, req)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range answer.(*produce.Response).Topics[0].Partitions {
		if p.ErrorCode != 0 {
			t.Fatalf("produce to partition %d: %v", p.Partition, kafka.Error(p.ErrorCode))
		}
	}
}

func fetchEach(t *testing.T, client *kafka.Client, topic string, partitions int) map[int][]string {
	t.Helper()
	req := &fetch.Request{ReplicaID: -1, MaxWaitTime: 500, MinBytes: 1, MaxBytes: 1 << 20, SessionEpoch: -1, Topics: []fetch.RequestTopic{{Topic: topic}}}
	for partition := range partitions {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetch.RequestPartition{Partition: int32(partition), CurrentLeaderEpoch: -1, PartitionMaxBytes: 1 << 20})
	}
	answer, err := client.Transport.RoundTrip(t.Context(), client.Addr, req)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int][]string{}
	for _, p := range answer.(*fetch.Response).Topics[0].Partitions {
		if p.ErrorCode != 0 {
			t.Fatalf("fetch partition %d: %v", p.Partition, kafka.Error(p.ErrorCode))
		}
		for {
			record, err := p.RecordSet.Records.ReadRecord()
			if err != nil {
				break
			}
			value, err := protocol.ReadAll(record.Value)
			if err != nil {
				t.Fatal(err)
			}
			got[int(p.Partition)] = append(got[int(p.Partition)], string(value)+" "+record.Time.UTC().Format(time.RFC3339Nano))
		}
	}
	return got
}

func TestKafkaConsumerGroup(t *testing.T) {
	t.Parallel()
	k := startKafka(t, dev.KafkaConfig{DataDir: t.TempDir()})
	client := newClient(t, k.Addr())
	createTopic(t, client, "claims", 4)

	join := func() *kafka.ConsumerGroup {
		group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
			ID: "processors", Brokers: []string{k.Addr()}, Topics: []string{"claims"},
			HeartbeatInterval: 500 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 10 * time.Second,
			JoinGroupBackoff: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = group.Close() })
		return group
	}
	next := func(g *kafka.ConsumerGroup) *kafka.Generation {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for {
			gen, err := g.Next(ctx)
			if err == nil {
				return gen
			}
			if ctx.Err() != nil {
				t.Fatalf("no generation: %v", err)
			}
		}
	}
	first := join()
	gen := next(first)
	if n := len(gen.Assignments["claims"]); n != 4 {
		t.Fatalf("alone in the group: %d partitions, want 4", n)
	}
	if err := gen.CommitOffsets(map[string]map[int]int64{"claims": {0: 7}}); err != nil {
		t.Fatalf("commit: %v", err)
	}

	second := join()
	gens := make(chan *kafka.Generation, 2)
	go func() { gens <- next(second) }()
	go func() {
		for {
			if g := next(first); len(g.Assignments["claims"]) == 2 {
				gens <- g
				return
			}
		}
	}()
	owned := map[int]int64{}
	for range 2 {
		for _, a := range (<-gens).Assignments["claims"] {
			owned[a.ID] = a.Offset
		}
	}
	if len(owned) != 4 || owned[0] != 7 {
		t.Fatalf("two members own %v, want 4 partitions, the first from offset 7", owned)
	}
}

func TestKafkaKeepsItsData(t *testing.T) {
	t.Parallel()
	cfg := dev.KafkaConfig{DataDir: t.TempDir()}
	k := startKafka(t, cfg)
	createTopic(t, newClient(t, k.Addr()), "claims", 2, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "604800000"})
	produceEach(t, newClient(t, k.Addr()), "claims", 2, time.Now())

	if _, err := dev.StartKafka(t.Context(), cfg); !errors.Is(err, dev.ErrInUse) {
		t.Fatalf("second broker on one folder: %v, want ErrInUse", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Addr = k.Addr()
	k = startKafka(t, cfg)
	if got := fetchEach(t, newClient(t, k.Addr()), "claims", 2); len(got[0]) != 2 || len(got[1]) != 2 {
		t.Fatalf("after a restart: %v", got)
	}
}

func TestKafkaListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:9092", "example.com:9092"} {
		if _, err := dev.StartKafka(t.Context(), dev.KafkaConfig{Addr: addr, DataDir: t.TempDir()}); !errors.Is(err, dev.ErrNotLoopback) {
			t.Errorf("%s: %v, want ErrNotLoopback", addr, err)
		}
	}
}
