package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/prometheus/client_golang/prometheus"
)

// ErrUnreachable says that Kafka or Postgres did not answer for as long as we were ready to wait.
var ErrUnreachable = errors.New("out of reach")

// ErrTopics says that the topics are not as dibs needs them.
var ErrTopics = errors.New("the topics cannot be used")

// ErrDenied says that Kafka or Postgres answers, and that it will not do until somebody changes something.
var ErrDenied = errors.New("cannot be used")

// errMissing is an ErrTopics that may come right by itself: all that is wrong is that topics are missing.
var errMissing = fmt.Errorf("%w: some are missing", ErrTopics)

// patience is how long a start waits for Kafka and Postgres to come up.
const patience = 30 * time.Second

// missingPatience is how long topics may be missing before they are. A broker that has just started answers before it
// knows of all topics.
const missingPatience = 5 * time.Second

// Deployment is one deployment's Kafka and Postgres, and what a process has of it.
type Deployment struct {
	Config config.Config
	Kafka  *kafka.Client
	Record *postgres.Record
	// Policies are those that hold from the start of every log; what holds by now is in the record: see Held.
	Policies names.Policies
	// Keys are what requests are signed with; without any, nothing here signs or checks.
	Keys auth.RequestKeys
	// Peppers are what the keys of private spaces are made with.
	Peppers names.Peppers
	// Eraser has the secret that erased names are kept under; nil for none.
	Eraser *names.Eraser
	// Contract is set once prepared.
	Contract postgres.Contract
	// ClockBound is how far ahead of the brokers' a producer's clock may run, as the topic said when it was prepared.
	ClockBound time.Duration
	// Claims and Waiter work in WithClaims and in a running process.
	Claims *kafka.Claims
	Waiter *registrations.Waiter

	dev      bool // one fake broker on one disk: nothing to warn of
	log      *slog.Logger
	registry prometheus.Registerer
	producer *kafka.Producer
	tail     *kafka.Tail
}

// KafkaConfig is what the settings say about Kafka.
func KafkaConfig(cfg config.Kafka) kafka.Config {
	return kafka.Config{
		Brokers: cfg.Brokers, TopicPrefix: cfg.TopicPrefix,
		TLS: kafka.TLS{
			Enabled: cfg.TLS.Enabled, CAFile: cfg.TLS.CAFile, CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, ServerName: cfg.TLS.ServerName,
		},
		SASL: kafka.SASL{
			Mechanism: cfg.SASL.Mechanism, Username: cfg.SASL.Username, Password: cfg.SASL.Password, AllowPlaintext: cfg.SASL.AllowPlaintext,
		},
	}
}

// PostgresConfig is what the settings say about Postgres.
func PostgresConfig(cfg config.Config, log *slog.Logger) postgres.Config {
	return postgres.Config{
		DSN: cfg.Postgres.DSN, Schema: cfg.Postgres.Schema, Topic: cfg.Kafka.TopicPrefix + "claims",
		MaxConns: cfg.Postgres.MaxConns, Timeout: cfg.Postgres.Timeout, Logger: log,
	}
}

// Open builds what a deployment needs, and connects to nothing. Close it.
func Open(cfg config.Config, log *slog.Logger, registry prometheus.Registerer) (*Deployment, error) {
	secret, err := readSecrets(cfg.Security)
	if err != nil {
		return nil, err
	}
	toRecord := PostgresConfig(cfg, log)
	toRecord.Eraser = secret.eraser
	record, err := postgres.New(toRecord)
	if err != nil {
		return nil, err
	}
	client, err := kafka.New(KafkaConfig(cfg.Kafka), log, registry)
	if err != nil {
		record.Close()
		return nil, err
	}
	producer := kafka.NewProducer(client, kafka.ProducerConfig{})
	return &Deployment{
		Config: cfg, Kafka: client, Record: record, Policies: names.Builtin(), Keys: secret.keys, Peppers: secret.peppers, Eraser: secret.eraser, log: log, registry: registry,
		producer: producer, Claims: producer.Claims(),
		Waiter: registrations.NewWaiter(registrations.WaiterConfig{Max: cfg.API.MaxWaiting, Record: record, Log: log}),
	}, nil
}

// Close lets go of all connections.
func (d *Deployment) Close() {
	d.Kafka.Close()
	d.Record.Close()
}

// Prepare makes sure that the deployment keeps what dibs promises on it: the schema is this version's, the topics have
// the settings they need, and routing is what was pinned. It waits a while for servers that do not answer.
func (d *Deployment) Prepare(ctx context.Context) error {
	if err := d.checkRecord(ctx); err != nil {
		return err
	}
	var pinned postgres.Contract // zero where nothing is pinned yet
	err := d.reach(ctx, "Postgres", func(ctx context.Context) (err error) {
		pinned, _, err = d.Record.Pinned(ctx)
		return err
	})
	if err != nil {
		return err
	}
	var partitions int
	var clusterID string
	err = d.reach(ctx, "Kafka", func(ctx context.Context) (err error) {
		if partitions, err = d.checkTopics(ctx, pinned.Partitions); err != nil {
			return err
		}
		if clusterID, err = d.Kafka.ClusterID(ctx); err != nil {
			return err
		}
		d.ClockBound, err = d.Kafka.ClockBound(ctx)
		return err
	})
	if err != nil {
		return err
	}
	found := postgres.Contract{Topic: d.Kafka.Claims(), ClusterID: clusterID, Partitions: partitions}
	return d.reach(ctx, "Postgres", func(ctx context.Context) (err error) {
		d.Contract, err = d.Record.Pin(ctx, found)
		if broken := (*postgres.ContractError)(nil); errors.As(err, &broken) && broken.Grown() {
			return nil // the check of the topics has warned of it
		}
		return err
	})
}

// checkRecord checks the schema and says aloud how durable the database is.
func (d *Deployment) checkRecord(ctx context.Context) error {
	if d.Config.Postgres.DSN == "" {
		return errors.New("postgres.dsn is not set: set DIBS_POSTGRES_DSN, or DIBS_POSTGRES_DSN_FILE to a file that holds it")
	}
	return d.reach(ctx, "Postgres", func(ctx context.Context) error {
		warnings, err := d.Record.Check(ctx)
		for _, w := range warnings {
			d.log.WarnContext(ctx, "postgres", "warning", w)
		}
		return err
	})
}

// checkTopics refuses topics on which a promise would not hold, and returns the partition count of claims.
func (d *Deployment) checkTopics(ctx context.Context, pinned int) (int, error) {
	findings, err := d.Kafka.CheckTopics(ctx, kafka.CheckConfig{Partitions: pinned})
	if err != nil {
		return 0, err
	}
	var wrong []string
	missing := 0
	for _, f := range findings {
		switch f.Severity {
		case kafka.Error:
			if f.Missing() {
				missing++
			}
			wrong = append(wrong, f.String())
		case kafka.Warning:
			if d.dev {
				continue // one broker on one disk, as the banner says
			}
			d.log.WarnContext(ctx, "topics", "warning", f.String())
		default:
			d.log.InfoContext(ctx, "topics", "note", f.String())
		}
	}
	if len(wrong) > 0 {
		what := ErrTopics
		if missing == len(wrong) {
			what = errMissing
		}
		return 0, fmt.Errorf("%w:\n  %s", what, strings.Join(wrong, "\n  "))
	}
	return d.Kafka.Partitions(ctx, d.Kafka.Claims())
}

// reach calls f until it succeeds, fails for a reason that waiting does not mend, or patience ends.
func (d *Deployment) reach(ctx context.Context, server string, f func(context.Context) error) error {
	deadline := time.Now().Add(patience)
	var missing time.Time // when topics were first said to be missing
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := f(attempt)
		cancel()
		if errors.Is(err, errMissing) && missing.IsZero() {
			missing = time.Now()
		}
		var broken *postgres.ContractError
		switch todo := remedy(err); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case todo != "":
			return fmt.Errorf("%s %w: %w: %s", server, ErrDenied, err, todo)
		case errors.Is(err, errMissing) && time.Since(missing) < missingPatience:
			pause = min(pause, missingPatience/10)
		case errors.Is(err, postgres.ErrSchema), errors.Is(err, postgres.ErrSecret), errors.Is(err, ErrTopics), errors.Is(err, kafka.ErrConfig), errors.As(err, &broken):
			return err
		case time.Now().Add(pause).After(deadline):
			return fmt.Errorf("%s is %w: %w", server, ErrUnreachable, err)
		}
		d.log.InfoContext(ctx, "waiting for "+server, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// remedy says what to do about a server that answers and turns us away. It is empty where waiting may do.
func remedy(err error) string {
	switch {
	case errors.Is(err, kafka.ErrDenied):
		return "set kafka.sasl.mechanism, kafka.sasl.username and kafka.sasl.password (DIBS_KAFKA_SASL_...) to what the brokers know; brokers that are too old have to be upgraded"
	case errors.Is(err, postgres.ErrUnfit):
		return "point postgres.dsn (DIBS_POSTGRES_DSN) to a database that will do"
	}
	var answer interface{ SQLState() string }
	if !errors.As(err, &answer) {
		return ""
	}
	switch answer.SQLState() {
	case "28000", "28P01": // no such role, or not from here; wrong password
		return "set the user and the password in postgres.dsn (DIBS_POSTGRES_DSN) to those of a role that may log in"
	case "3D000":
		return "create the database, or name the right one in postgres.dsn (DIBS_POSTGRES_DSN)"
	case "42501":
		return "grant it to the user that postgres.dsn (DIBS_POSTGRES_DSN) names"
	}
	return ""
}

// WithRecord runs f on a deployment whose Postgres is checked.
func WithRecord(ctx context.Context, cfg config.Config, log *slog.Logger, f func(*Deployment) error) error {
	d, err := Open(cfg, log, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.checkRecord(ctx); err != nil {
		return err
	}
	return f(d)
}

// WithClaims runs f on a deployment on which claims can be published and their outcomes awaited, by that many at once.
func WithClaims(ctx context.Context, cfg config.Config, log *slog.Logger, waiting int, f func(context.Context, *Deployment) error) error {
	cfg.API.MaxWaiting = 2 * waiting
	d, err := Open(cfg, log, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Prepare(ctx); err != nil {
		return err
	}
	parts := newStages(log)
	if err := d.startOutcomes(ctx, parts, nil); err != nil {
		return errors.Join(err, parts.stopAll(ctx))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-parts.failed:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	err = f(ctx, d)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	return errors.Join(err, parts.stopAll(ctx))
}
