package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/verify"
)

var _ verify.Log = (*Replay)(nil)

// ErrSilent says that nothing has come of a partition for as long as one waits for it.
var ErrSilent = errors.New("kafka does not answer")

// Replay reads parts of a topic that are there already, from one offset to another. It is safe for concurrent use.
type Replay struct {
	bounds   *Reader // for Bounds and At; it does not run
	client   *Client
	topic    string
	patience time.Duration
}

// NewReplay prepares to read one of the client's topics, by its full name. It waits for a leader for as long as patience.
func NewReplay(client *Client, topic string, patience time.Duration) *Replay {
	return &Replay{bounds: NewReader(client, ReaderConfig{Topic: topic}), client: client, topic: topic, patience: patience}
}

// Bounds implements verify.Log.
func (r *Replay) Bounds(ctx context.Context, partition int32) (start, end int64, err error) {
	err = r.patiently(ctx, func(ctx context.Context) error {
		start, end, err = r.bounds.Bounds(ctx, partition)
		return err
	})
	return start, end, err
}

// At implements verify.Log.
func (r *Replay) At(ctx context.Context, partition int32, offset int64) (record cloudevents.Record, there bool, err error) {
	err = r.patiently(ctx, func(ctx context.Context) error {
		record, there, err = r.bounds.At(ctx, partition, offset)
		return err
	})
	return record, there, err
}

// patiently bounds a call that tries again for as long as its context lets it.
func (r *Replay) patiently(ctx context.Context, call func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	err := call(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return err
}

// Read implements verify.Log.
func (r *Replay) Read(ctx context.Context, partition int32, from, to int64, run func([]processor.Message, int64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	reader := NewReader(r.client, ReaderConfig{Topic: r.topic})
	var reading sync.WaitGroup
	reading.Go(func() { _ = reader.Run(ctx) }) // always nil
	defer reading.Wait()
	defer cancel()
	reader.Seek(partition, from)
	heard := time.Now()
	for from < to {
		fetched, err := reader.Poll(ctx, processor.Beside{}, 10_000, time.Second)
		if err != nil {
			return err
		}
		for i := range fetched {
			f := &fetched[i]
			switch {
			case errors.Is(f.Err, processor.ErrOutOfLog):
				return f.Err
			case f.Err != nil: // its leader has moved, or we have kept it waiting
				if time.Since(heard) > r.patience {
					return fmt.Errorf("%w: %w", ErrSilent, f.Err)
				}
				reader.Seek(partition, from)
				continue
			}
			messages, next := f.Messages, min(f.Next, to)
			for n := len(messages); n > 0 && messages[n-1].Offset >= to; n-- {
				messages = messages[:n-1]
			}
			if err := run(messages, next); err != nil {
				return err
			}
			from, heard = f.Next, time.Now()
		}
		if time.Since(heard) > r.patience {
			return fmt.Errorf("%w: nothing of %s/%d from offset %d on for %s", ErrSilent, r.topic, partition, from, r.patience)
		}
	}
	return nil
}
