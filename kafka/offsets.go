package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
	kafkago "github.com/segmentio/kafka-go"
	listoffsetsapi "github.com/segmentio/kafka-go/protocol/listoffsets"
)

// The two ends of a log, as ListOffsets asks for them.
const (
	atStart int64 = -2
	atEnd   int64 = -1
)

// Bounds implements processor.Source. It tries again for as long as ctx lets it; a topic or partition that does not
// exist is an error that wraps processor.ErrOutOfLog.
func (r *Reader) Bounds(ctx context.Context, partition int32) (start, end int64, err error) {
	if start, err = r.client.offset(ctx, r.cfg.Topic, partition, atStart); err == nil {
		end, err = r.client.offset(ctx, r.cfg.Topic, partition, atEnd)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("bounds of %s/%d: %w", r.cfg.Topic, partition, err)
	}
	return start, end, nil
}

// offset asks a partition's leader for one end of the log. A leader that does not know yet how far its followers are
// says so instead of giving an end that is too low.
func (c *Client) offset(ctx context.Context, topic string, partition int32, which int64) (int64, error) {
	var offset int64
	err := c.askLeader(ctx, "offsets", topic, partition, func(ctx context.Context, leader int32) error {
		body, _, err := c.roundTrip(ctx, &exchange{to: leader, request: &listoffsetsapi.Request{
			ReplicaID: -1,
			Topics: []listoffsetsapi.RequestTopic{{Topic: topic, Partitions: []listoffsetsapi.RequestPartition{{
				Partition: partition, CurrentLeaderEpoch: -1, Timestamp: which,
			}}}},
		}})
		if err != nil {
			return err
		}
		for _, t := range body.(*listoffsetsapi.Response).Topics {
			for _, p := range t.Partitions {
				if t.Topic == topic && p.Partition == partition {
					offset = p.Offset
					return codeError(p.ErrorCode)
				}
			}
		}
		return errNoAnswer
	})
	return offset, err
}

// At implements processor.Source. It tries again for as long as ctx lets it. An offset outside of the log is not an
// error; a topic or partition that does not exist is one that wraps processor.ErrOutOfLog.
func (r *Reader) At(ctx context.Context, partition int32, offset int64) (cloudevents.Record, bool, error) {
	if offset < 0 {
		return cloudevents.Record{}, false, nil
	}
	for b := (backoff{min: 20 * time.Millisecond, max: time.Second}); ; {
		record, found, final, err := r.client.at(ctx, r.cfg.Topic, partition, offset)
		if err == nil && !final {
			// Readers do not see it (yet). That is final only if the log ends before it.
			var end int64
			if end, err = r.client.offset(ctx, r.cfg.Topic, partition, atEnd); err == nil && offset < end {
				if b.sleep(ctx) {
					continue
				}
				err = ctx.Err()
			}
		}
		if err != nil {
			err = fmt.Errorf("read %s/%d at offset %d: %w", r.cfg.Topic, partition, offset, err)
		}
		return record, found, err
	}
}

// at reads one record. final is not set where the leader has the offset, or will have, but does not show it to readers.
func (c *Client) at(ctx context.Context, topic string, partition int32, offset int64) (record cloudevents.Record, found, final bool, err error) {
	err = c.askLeader(ctx, "read", topic, partition, func(ctx context.Context, leader int32) error {
		record, found, final = cloudevents.Record{}, false, true
		body, _, err := c.roundTrip(ctx, &exchange{
			to: leader, request: fetchRequest(topic, []place{{partition, offset}}, 0, 1, 1), decode: decodeFetch,
		})
		if err != nil {
			return err
		}
		a := body.(*fetchAnswer)
		if a.err != nil || len(a.partitions) != 1 || a.partitions[0].partition != partition {
			return errors.Join(a.err, errNoAnswer)
		}
		p := &a.partitions[0]
		if errors.Is(p.err, kafkago.OffsetOutOfRange) {
			return nil
		}
		final = offset < p.highWatermark
		in := recordReader{from: offset, limit: 1}
		if err := errors.Join(p.err, in.read(p.batches)); err != nil {
			return err
		}
		if len(in.messages) > 0 && in.messages[0].Offset == offset {
			record, found = in.messages[0].Record, true
		}
		return nil
	})
	return record, found, final, err
}

// askLeader calls ask with the leader of a partition until it succeeds, ctx ends, or the partition is known not to
// exist. ctx needs no deadline: each attempt has its own.
func (c *Client) askLeader(ctx context.Context, operation, topic string, partition int32, ask func(context.Context, int32) error) error {
	unknown := 0
	var stale int64
	for b := (backoff{min: 20 * time.Millisecond, max: time.Second}); ; {
		v, err := c.metadata.newer(ctx, stale)
		if err == nil {
			stale = v.seq
			var leader int32
			if leader, err = v.leader(topic, partition); err == nil {
				err = func() error {
					ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
					defer cancel()
					return ask(ctx, leader)
				}()
			}
		}
		if err == nil {
			return nil
		}
		c.metrics.failed(operation, err)
		if unknown++; !errors.Is(err, kafkago.UnknownTopicOrPartition) {
			unknown = 0
		}
		if unknown >= 6 { // not the first time: a broker that has just started may not know it yet
			return fmt.Errorf("%w: %w", processor.ErrOutOfLog, err)
		}
		if !b.sleep(ctx) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
