package app

import (
	"context"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/processor"
)

// AcceptGap lets a halted partition go on at the start of the log that Kafka has now, in the next log epoch.
func (d *Deployment) AcceptGap(ctx context.Context, partition int32, actor, reason string) (processor.Standing, error) {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	start, _, err := kafka.NewReader(d.Kafka, kafka.ReaderConfig{}).Bounds(bounded, partition)
	if err != nil {
		return processor.Standing{}, fmt.Errorf("where does the log start? Kafka is %w: %w", ErrUnreachable, err)
	}
	return d.Record.AcceptGap(ctx, partition, start, actor, reason)
}
