package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	deleteapi "github.com/segmentio/kafka-go/protocol/deletetopics"
)

// DeleteTopics deletes the three topics, and all that they hold: for deployments that were made for a benchmark or a
// test. A topic that is not there is no error.
func (c *Client) DeleteTopics(ctx context.Context) error {
	for b := (backoff{min: 50 * time.Millisecond, max: time.Second}); ; {
		err := c.deleteTopics(ctx)
		if err == nil || permanent(err) || !b.sleep(ctx) {
			return err
		}
	}
}

func (c *Client) deleteTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	v, err := c.metadata.ask(ctx, c.topics())
	if err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	body, _, err := c.roundTrip(ctx, &exchange{to: v.controller, request: &deleteapi.Request{
		TopicNames: c.topics(), TimeoutMs: int32(c.cfg.RequestTimeout.Milliseconds()),
	}})
	if err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	for _, t := range body.(*deleteapi.Response).Responses {
		if err := codeError(t.ErrorCode); err != nil && !errors.Is(err, kafkago.UnknownTopicOrPartition) {
			return fmt.Errorf("delete topic %s: %w", t.Name, err)
		}
	}
	return nil
}
