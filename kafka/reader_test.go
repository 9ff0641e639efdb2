package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dibs-hq/dibs/processor/sourcetest"
)

func TestSourceAndPublisher(t *testing.T) {
	t.Parallel()
	sourcetest.Exercise(t, func(t *testing.T) sourcetest.Log {
		c := broker(t, sourcetest.Partitions)
		p, r := NewProducer(c, ProducerConfig{}), NewReader(c, ReaderConfig{})
		run(t, p)
		run(t, r)
		trim := func(t *testing.T, partition int32, below int64) { trim(t, c, partition, below) }
		return sourcetest.Log{Source: r, Publisher: p.Publisher(), Trim: trim, TooLarge: 2 << 20}
	})
}

// other is another client of the same brokers, for what kafka-go cannot do.
func other(t testing.TB, c *Client, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.cfg.Brokers...)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// trim deletes the records of a partition of claims below an offset, as retention does.
func trim(t testing.TB, c *Client, partition int32, below int64) {
	t.Helper()
	trimTopic(t, c, c.Claims(), partition, below)
}

func trimTopic(t testing.TB, c *Client, topic string, partition int32, below int64) {
	t.Helper()
	var to kadm.Offsets
	to.Add(kadm.Offset{Topic: topic, Partition: partition, At: below})
	r, err := kadm.NewClient(other(t, c)).DeleteRecords(t.Context(), to)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}
