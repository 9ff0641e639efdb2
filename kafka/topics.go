package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	createapi "github.com/segmentio/kafka-go/protocol/createtopics"
)

// The names of the settings that matter.
const (
	cleanupPolicy   = "cleanup.policy"
	retentionMS     = "retention.ms"
	retentionBytes  = "retention.bytes"
	timestampType   = "message.timestamp.type"
	timestampAfter  = "message.timestamp.after.max.ms"
	timestampBefore = "message.timestamp.before.max.ms"
	minInSync       = "min.insync.replicas"
	maxMessageBytes = "max.message.bytes"
	uncleanElection = "unclean.leader.election.enable"
)

const day = 24 * time.Hour

// TopicsConfig says how the topics are to be.
type TopicsConfig struct {
	// Partitions is the count of all three topics; it can't be changed in place. Defaults to 12.
	Partitions int
	// ReplicationFactor defaults to 3, or to the brokers there are.
	ReplicationFactor int
	// ClockBound is how far a record of claims may lie before the broker's clock: a producer whose clock runs ahead can
	// end a reservation early by as much. At most 10 s, which is the default.
	ClockBound time.Duration
	// Retention is how long claims and registrations are kept. It must be longer than the oldest backup of Postgres that
	// one would restore. At least 7 days, which is the default.
	Retention time.Duration
	// DeadLetterRetention is how long dead letters are kept. At least 30 days, which is the default.
	DeadLetterRetention time.Duration
}

// The bounds of a TopicsConfig, which are its defaults too.
const (
	MaxClockBound          = 10 * time.Second
	MinRetention           = 7 * day
	MinDeadLetterRetention = 30 * day
)

// maxAge is how old a record of claims may be when it is written.
const maxAge = 10 * time.Minute

func (c TopicsConfig) withDefaults() TopicsConfig {
	if c.Partitions == 0 {
		c.Partitions = 12
	}
	if c.ClockBound == 0 {
		c.ClockBound = MaxClockBound
	}
	if c.Retention == 0 {
		c.Retention = MinRetention
	}
	if c.DeadLetterRetention == 0 {
		c.DeadLetterRetention = MinDeadLetterRetention
	}
	return c
}

func (c TopicsConfig) validate() error {
	switch {
	case c.Partitions < 1 || c.Partitions > math.MaxInt16:
		return fmt.Errorf("%w: topics: %d partitions", ErrConfig, c.Partitions)
	case c.ReplicationFactor < 0 || c.ReplicationFactor > math.MaxInt16:
		return fmt.Errorf("%w: topics: replication factor %d", ErrConfig, c.ReplicationFactor)
	case c.ClockBound < time.Millisecond || c.ClockBound > MaxClockBound:
		return fmt.Errorf("%w: topics: clock bound %v is not between 1ms and %v", ErrConfig, c.ClockBound, MaxClockBound)
	case c.Retention < MinRetention:
		return fmt.Errorf("%w: topics: retention %v is less than %v", ErrConfig, c.Retention, MinRetention)
	case c.DeadLetterRetention < MinDeadLetterRetention:
		return fmt.Errorf("%w: topics: dead letter retention %v is less than %v", ErrConfig, c.DeadLetterRetention, MinDeadLetterRetention)
	}
	return nil
}

// setting is one setting of a topic, spelt out, so that no default of a broker counts.
type setting struct{ name, value string }

// settings are what a topic is created with.
func (c TopicsConfig) settings(topic string, minISR int) []setting {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	s := []setting{
		{cleanupPolicy, "delete"},
		{retentionMS, ms(c.Retention)},
		{retentionBytes, "-1"},
		{timestampType, "CreateTime"},
		{minInSync, strconv.Itoa(minISR)},
		{maxMessageBytes, strconv.Itoa(1<<20 + 12)},
		{uncleanElection, "false"},
		// An outcome has the log time of its decision, and may be published again much later.
		{timestampAfter, ms(time.Hour)},
		{timestampBefore, strconv.Itoa(math.MaxInt64)},
	}
	set := func(name, value string) {
		for i := range s {
			if s[i].name == name {
				s[i].value = value
			}
		}
	}
	switch topic {
	case claimsName:
		set(timestampAfter, ms(c.ClockBound))
		set(timestampBefore, ms(maxAge))
	case deadLettersName:
		set(retentionMS, ms(c.DeadLetterRetention))
		set(maxMessageBytes, strconv.Itoa(2<<20)) // what the topic of claims just took, and the reason it is here
	}
	return s
}

// CreatedTopic is what became of one topic.
type CreatedTopic struct {
	Topic string
	// Existed: it was there already, and was left as it is. CheckTopics says whether it will do.
	Existed                                       bool
	Partitions, ReplicationFactor, MinInSyncCount int
}

// CreateReport says what was created, and what the operator should hear about it.
type CreateReport struct {
	Topics []CreatedTopic
	Notes  []string
}

// CreateTopics creates the topics that are not there, and returns when they can be written. It changes none that is.
func (c *Client) CreateTopics(ctx context.Context, cfg TopicsConfig) (CreateReport, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return CreateReport{}, err
	}
	v, err := c.metadata.ask(ctx, c.topics())
	if err != nil {
		return CreateReport{}, fmt.Errorf("create topics: %w", err)
	}
	var report CreateReport
	replicas := cfg.ReplicationFactor
	if replicas == 0 {
		if replicas = min(3, len(v.brokers)); replicas < 3 {
			report.Notes = append(report.Notes, fmt.Sprintf(
				"replication factor %d, not 3, because there are %d brokers: losing a disk may lose claims", replicas, len(v.brokers)))
		}
	}
	minISR := min(2, max(1, replicas-1))
	for _, name := range []string{claimsName, registrationsName, deadLettersName} {
		existed, err := c.createTopic(ctx, name, cfg, replicas, minISR)
		if err != nil {
			return report, fmt.Errorf("create topic %s: %w", c.cfg.TopicPrefix+name, err)
		}
		report.Topics = append(report.Topics, CreatedTopic{
			Topic: c.cfg.TopicPrefix + name, Existed: existed, Partitions: cfg.Partitions, ReplicationFactor: replicas, MinInSyncCount: minISR,
		})
	}
	if v, err = c.awaitLeaders(ctx); err != nil {
		return report, fmt.Errorf("create topics: %w", err)
	}
	for i := range report.Topics {
		if t := &report.Topics[i]; t.Existed {
			*t = CreatedTopic{Topic: t.Topic, Existed: true, Partitions: len(v.topics[t.Topic].partitions), ReplicationFactor: v.topics[t.Topic].replicas()}
		}
	}
	return report, nil
}

func (c *Client) createTopic(ctx context.Context, name string, cfg TopicsConfig, replicas, minISR int) (existed bool, err error) {
	topic := createapi.RequestTopic{
		Name: c.cfg.TopicPrefix + name, NumPartitions: int32(cfg.Partitions), ReplicationFactor: int16(replicas),
	}
	for _, s := range cfg.settings(name, minISR) {
		topic.Configs = append(topic.Configs, createapi.RequestConfig{Name: s.name, Value: s.value})
	}
	for b := (backoff{min: 50 * time.Millisecond, max: time.Second}); ; {
		err := c.askController(ctx, &createapi.Request{
			Topics: []createapi.RequestTopic{topic}, TimeoutMs: int32(c.cfg.RequestTimeout.Milliseconds()),
		})
		switch {
		case err == nil:
			return false, nil
		case errors.Is(err, kafkago.TopicAlreadyExists): // perhaps by an attempt of ours whose answer was lost
			return b.attempt == 0, nil
		case permanent(err):
			return false, err
		}
		c.metrics.failed("create_topic", err)
		if !b.sleep(ctx) {
			return false, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// permanent reports whether a refusal to create a topic will stay one.
func permanent(err error) bool {
	for _, code := range []kafkago.Error{
		kafkago.InvalidReplicationFactor, kafkago.InvalidPartitionNumber, kafkago.InvalidConfiguration, kafkago.InvalidTopic,
		kafkago.PolicyViolation, kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed, kafkago.InvalidRequest,
		kafkago.SASLAuthenticationFailed,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// askController sends the request that only the controller can deal with, or a broker that passes it on.
func (c *Client) askController(ctx context.Context, r *createapi.Request) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	v, err := c.metadata.ask(ctx, c.topics())
	if err != nil {
		return err
	}
	body, _, err := c.roundTrip(ctx, &exchange{to: v.controller, request: r})
	if err != nil {
		return err
	}
	for _, t := range body.(*createapi.Response).Topics {
		if t.Name == r.Topics[0].Name {
			if err := codeError(t.ErrorCode); err != nil && t.ErrorMessage != "" {
				return fmt.Errorf("%w: %s", err, t.ErrorMessage)
			}
			return codeError(t.ErrorCode)
		}
	}
	return errNoAnswer
}

// awaitLeaders waits until every partition of our topics has a leader. Right after a topic is created, brokers may not
// know it yet.
func (c *Client) awaitLeaders(ctx context.Context) (*view, error) {
	var seq int64
	for b := (backoff{min: 50 * time.Millisecond, max: time.Second}); ; {
		v, err := c.metadata.newer(ctx, seq)
		if err == nil {
			seq = v.seq
			if err = v.led(c.topics()); err == nil {
				return v, nil
			}
		}
		if !b.sleep(ctx) {
			return nil, fmt.Errorf("wait for leaders: %w: %w", ctx.Err(), err)
		}
	}
}

// led says which partition of the topics has no leader.
func (v *view) led(topics []string) error {
	for _, topic := range topics {
		t, ok := v.topics[topic]
		if !ok {
			t.err = kafkago.UnknownTopicOrPartition
		}
		if t.err != nil {
			return fmt.Errorf("%s: %w", topic, t.err)
		}
		for p := range t.partitions {
			if _, err := v.leader(topic, p); err != nil {
				return fmt.Errorf("%s/%d: %w", topic, p, err)
			}
		}
	}
	return nil
}

// replicas is how many the partition has that has the fewest.
func (t topicView) replicas() int {
	least := 0
	for _, p := range t.partitions {
		if n := len(p.ReplicaNodes); least == 0 || n < least {
			least = n
		}
	}
	return least
}
