package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/dibs-hq/dibs/processor"
	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
)

// The names of the topics, behind the prefix.
const (
	claimsName        = "claims"
	registrationsName = "registrations"
	deadLettersName   = "claims.dlq"
)

// Client is one process's way to the brokers: one transport with its pool of connections, and what is known of the
// cluster. Everything else in this package is built on one. It is safe for concurrent use.
type Client struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	addr      net.Addr
	transport *kafkago.Transport
	dialer    *kafkago.Dialer // for the consumer group, which has connections of its own
	metadata  *metadata
	end       context.CancelFunc // of transport.Context

	claims, registrations, deadLetters string // the topics' full names
}

// New prepares a client. It reads the certificates' files and connects to nothing. A nil logger discards, a nil
// registerer registers nothing. The configuration's warnings are logged.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, w := range cfg.Warnings() {
		log.Warn("kafka configuration is not for production", "warning", w)
	}
	c := &Client{
		cfg: cfg, log: log, metrics: newMetrics(reg), addr: kafkago.TCP(cfg.Brokers...),
		claims: cfg.TopicPrefix + claimsName, registrations: cfg.TopicPrefix + registrationsName, deadLetters: cfg.TopicPrefix + deadLettersName,
	}
	ctx, end := context.WithCancel(context.Background())
	c.end = end
	dialer := &net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: 15 * time.Second}
	c.transport = &kafkago.Transport{
		Dial:        dialer.DialContext,
		DialTimeout: cfg.DialTimeout,
		// Only the list of brokers is taken from the transport's own cache, so the smallest list of topics will do.
		// It is also how long the transport's requests for it may take.
		MetadataTTL:    time.Second,
		MetadataTopics: []string{c.Claims()},
		IdleTimeout:    30 * time.Second,
		ClientID:       cfg.ClientID,
		TLS:            tlsConfig,
		SASL:           mechanism,
		Context:        ctx,
	}
	c.dialer = &kafkago.Dialer{
		ClientID: cfg.ClientID, DialFunc: dialer.DialContext, Timeout: cfg.DialTimeout,
		TLS: tlsConfig, SASLMechanism: mechanism,
	}
	c.metadata = newMetadata(c)
	return c, nil
}

// Close ends the client's connections and goroutines. What still uses it gets errors.
func (c *Client) Close() {
	c.end()
	c.transport.CloseIdleConnections()
}

// Claims is the full name of the topic of requests.
func (c *Client) Claims() string { return c.claims }

// Registrations is the full name of the topic of outcomes.
func (c *Client) Registrations() string { return c.registrations }

// DeadLetters is the full name of the topic of records that could not be answered.
func (c *Client) DeadLetters() string { return c.deadLetters }

// topic is the full name of a topic that a processor writes.
func (c *Client) topic(t processor.Topic) (string, error) {
	switch t {
	case processor.ToRegistrations:
		return c.Registrations(), nil
	case processor.ToClaims:
		return c.Claims(), nil
	case processor.ToDeadLetters:
		return c.DeadLetters(), nil
	}
	return "", fmt.Errorf("%w: there is no topic %d", processor.ErrRefused, t)
}

// ClusterID asks the brokers which cluster they are.
func (c *Client) ClusterID(ctx context.Context) (string, error) {
	v, err := c.metadata.ask(ctx, c.topics())
	if err != nil {
		return "", fmt.Errorf("ask for the cluster id: %w", err)
	}
	return v.clusterID, nil
}

// Partitions asks how many partitions a topic has. A topic that does not exist is an error that wraps
// processor.ErrOutOfLog.
func (c *Client) Partitions(ctx context.Context, topic string) (int, error) {
	v, err := c.metadata.ask(ctx, []string{topic})
	if err != nil {
		return 0, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
	}
	t := v.topics[topic]
	if t.err != nil {
		return 0, fmt.Errorf("ask for the partitions of %s: %w", topic, readError(t.err))
	}
	return len(t.partitions), nil
}

// topics are the full names of all our topics.
func (c *Client) topics() []string { return []string{c.Claims(), c.Registrations(), c.DeadLetters()} }
