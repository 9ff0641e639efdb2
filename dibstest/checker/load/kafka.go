package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/segmentio/kafka-go"
)

// topicLog is one partition of a topic, whole.
type topicLog struct {
	partition  int32
	start, end int64
	records    []checker.Record
}

// tries is how often a broker is asked before it is given up: one that was restarted a moment ago answers again.
const tries = 20

// again tries until something succeeds, tries times.
func again(ctx context.Context, what string, do func() error) error {
	var err error
	for range tries {
		if err = do(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(err, ctx.Err()))
		case <-time.After(250 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// readTopic reads all partitions of a topic, each from its start to where it ends now.
func readTopic(ctx context.Context, client *kafka.Client, topic string) ([]topicLog, error) {
	logs, err := bounds(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	for i := range logs {
		if err := logs[i].read(ctx, client, topic); err != nil {
			return nil, err
		}
	}
	return logs, nil
}

// bounds finds the partitions of a topic and the offsets they have now.
func bounds(ctx context.Context, client *kafka.Client, topic string) ([]topicLog, error) {
	var logs []topicLog
	err := again(ctx, "bounds of topic "+topic, func() error {
		logs = nil
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		if err != nil {
			return err
		}
		if len(meta.Topics) != 1 {
			return fmt.Errorf("the brokers describe %d topics", len(meta.Topics))
		}
		if err := meta.Topics[0].Error; err != nil {
			return err
		}
		var ask []kafka.OffsetRequest
		for _, p := range meta.Topics[0].Partitions {
			ask = append(ask, kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
		}
		offsets, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
		if err != nil {
			return err
		}
		for _, o := range offsets.Topics[topic] {
			if o.Error != nil {
				return o.Error
			}
			logs = append(logs, topicLog{partition: int32(o.Partition), start: o.FirstOffset, end: o.LastOffset})
		}
		if len(logs) != len(meta.Topics[0].Partitions) {
			return fmt.Errorf("offsets of %d partitions for %d", len(logs), len(meta.Topics[0].Partitions))
		}
		return nil
	})
	slices.SortFunc(logs, func(a, b topicLog) int { return int(a.partition - b.partition) })
	return logs, err
}

// read reads the records of [start, end).
func (l *topicLog) read(ctx context.Context, client *kafka.Client, topic string) error {
	for next := l.start; next < l.end; {
		from := next
		err := again(ctx, fmt.Sprintf("fetch %s/%d from %d", topic, l.partition, from), func() (err error) {
			next, err = l.fetch(ctx, client, topic, from)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch reads some records from an offset on, and returns the offset to go on from.
func (l *topicLog) fetch(ctx context.Context, client *kafka.Client, topic string, from int64) (int64, error) {
	answer, err := client.Fetch(ctx, &kafka.FetchRequest{
		Topic: topic, Partition: int(l.partition), Offset: from, MinBytes: 1, MaxBytes: 16 << 20, MaxWait: 100 * time.Millisecond,
	})
	if err != nil {
		return from, err
	}
	if answer.Error != nil {
		return from, answer.Error
	}
	next, known := from, len(l.records)
	for {
		r, err := answer.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			l.records = l.records[:known]
			return from, err
		}
		record, err := recordOf(l.partition, r)
		if err != nil {
			l.records = l.records[:known]
			return from, err
		}
		if r.Offset < from || r.Offset >= l.end { // a batch is answered whole
			continue
		}
		l.records = append(l.records, record)
		next = r.Offset + 1
	}
	if next == from { // markers of transactions: the client passes over them, and says nothing of where they end
		next++
	}
	return next, nil
}

func recordOf(partition int32, r *kafka.Record) (checker.Record, error) {
	is := checker.Record{Partition: partition, Offset: r.Offset, Time: r.Time.UTC().Truncate(time.Millisecond)}
	for _, h := range r.Headers {
		is.Headers = append(is.Headers, checker.Header{Name: h.Key, Value: h.Value})
	}
	var err error
	if is.Key, err = bytesOf(r.Key); err == nil {
		is.Value, err = bytesOf(r.Value)
	}
	return is, err
}

func bytesOf(b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer func() { _ = b.Close() }() // it is in memory
	return io.ReadAll(b)
}
