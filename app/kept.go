package app

import (
	"context"

	"github.com/dibs-hq/dibs/api"
)

// kept says how long the topics keep what an owner was named in.
func (d *Deployment) kept(ctx context.Context) []api.KeptTopic {
	var all []api.KeptTopic
	for _, topic := range []string{d.Kafka.Claims(), d.Kafka.Registrations(), d.Kafka.DeadLetters()} {
		keeps, err := d.Kafka.Keeps(ctx, topic)
		all = append(all, api.KeptTopic{Topic: topic, Keeps: keeps, Err: err})
	}
	return all
}
