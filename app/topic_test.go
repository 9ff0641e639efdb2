package app_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topics are a deployment's topics, as somebody else sees them who has his own client: what that one can do and dibs
// never does, tests need.
type topics struct {
	t       testing.TB
	client  *kgo.Client
	admin   *kadm.Client
	brokers []string
	batches atomic.Int64 // written by our clients

	claims, registrations, letters string
}

// OnProduceBatchWritten counts: franz-go calls it.
func (s *topics) OnProduceBatchWritten(kgo.BrokerMetadata, string, int32, kgo.ProduceBatchMetrics) {
	s.batches.Add(1)
}

func newTopics(t testing.TB, kafka *dibstest.Broker) *topics {
	t.Helper()
	s := &topics{t: t, brokers: kafka.Addrs, claims: kafka.Prefix + "claims", registrations: kafka.Prefix + "registrations", letters: kafka.Prefix + "claims.dlq"}
	s.client = s.connect()
	s.admin = kadm.NewClient(s.client)
	return s
}

// connect makes a client that puts records where they say.
func (s *topics) connect(options ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RecordDeliveryTimeout(30 * time.Second), kgo.ProducerBatchMaxBytes(1 << 20), kgo.WithHooks(s),
	}, options...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

func (s *topics) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

// ends are the offsets behind the last records of claims.
func (s *topics) ends() (map[int32]int64, error) {
	ctx, cancel := s.within()
	defer cancel()
	listed, err := s.admin.ListEndOffsets(ctx, s.claims)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ends of %s: %w", s.claims, err)
	}
	ends := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// append appends records to claims, those of one partition as one batch, in order.
func (s *topics) append(client *kgo.Client, records ...*kgo.Record) {
	s.t.Helper()
	for _, r := range records {
		r.Topic = s.claims
	}
	ctx, cancel := s.within()
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		s.t.Fatalf("append to %s: %v", s.claims, err)
	}
}

// cut deletes the records of a partition of claims that lie before an offset, as retention does.
func (s *topics) cut(partition int32, before int64) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	var to kadm.Offsets
	to.AddOffset(s.claims, partition, before, -1)
	cut, err := s.admin.DeleteRecords(ctx, to)
	if err == nil {
		err = cut.Error()
	}
	if err != nil {
		s.t.Fatalf("delete records of %s/%d before %d: %v", s.claims, partition, before, err)
	}
}

// remove deletes topics, and returns when no broker knows them.
func (s *topics) remove(names ...string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	removed, err := s.admin.DeleteTopics(ctx, names...)
	if err == nil {
		err = removed.Error()
	}
	if err != nil {
		s.t.Fatalf("delete %v: %v", names, err)
	}
	eventually(s.t, 30*time.Second, func() error {
		listed, err := s.admin.ListTopics(ctx, names...)
		if err != nil {
			return err
		}
		for _, t := range listed {
			if !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("%s is still there", t.Topic)
			}
		}
		return nil
	})
}

// grow adds partitions to topics.
func (s *topics) grow(by int, names ...string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	grown, err := s.admin.CreatePartitions(ctx, by, names...)
	if err == nil {
		err = grown.Error()
	}
	if err != nil {
		s.t.Fatalf("add %d partitions to %v: %v", by, names, err)
	}
}

// set changes a setting of a topic.
func (s *topics) set(topic, setting, to string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	changed, err := s.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: setting, Value: &to}}, topic)
	if err == nil {
		_, err = changed.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		s.t.Fatalf("set %s of %s to %s: %v", setting, topic, to, err)
	}
}

// read reads all records of a topic that there are now.
func (s *topics) read(topic string) []*kgo.Record {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	starts, err := s.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	ends, err := s.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	from := make(map[int32]kgo.Offset)
	left := make(map[int32]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if start, ok := starts.Lookup(topic, end.Partition); ok && start.Offset < end.Offset {
			from[end.Partition], left[end.Partition] = kgo.NewOffset().At(start.Offset), end.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	// Control records count, too: a partition may end with one.
	reader := s.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.KeepControlRecords())
	defer reader.Close()
	var all []*kgo.Record
	for len(left) > 0 {
		fetched := reader.PollFetches(ctx)
		if err := fetched.Err0(); err != nil {
			s.t.Fatalf("read %s: %v, and %v are not read", topic, err, left)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			end, wanted := left[r.Partition]
			if wanted && !r.Attrs.IsControl() && r.Offset < end {
				all = append(all, r)
			}
			if wanted && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
	}
	return all
}
