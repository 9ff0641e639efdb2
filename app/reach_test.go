package app_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/postgres"
)

// misbehaving is a deployment whose broker does as the test says.
func misbehaving(t *testing.T, options ...kfake.Opt) (config.Config, *kfake.Cluster) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	database := dibstest.Postgres(t)
	var cfg config.Config
	cfg.Kafka.Brokers = cluster.ListenAddrs()
	cfg.Postgres.DSN, cfg.Postgres.Schema = database.DSN, database.Schema
	if _, err := postgres.Migrate(t.Context(), app.PostgresConfig(cfg, nil)); err != nil {
		t.Fatal(err)
	}
	return cfg, cluster
}

// prepared says how long a start takes to be ready, or to give up, and why.
func prepared(t *testing.T, cfg config.Config) (time.Duration, error) {
	t.Helper()
	d, err := app.Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	began := time.Now()
	err = d.Prepare(t.Context())
	return time.Since(began), err
}

// with changes a DSN.
func with(t *testing.T, dsn string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// TestStartIsDenied: a server that answers, and that waiting does not mend, ends the start at once. It says what to do.
func TestStartIsDenied(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(*testing.T, *config.Config, *kfake.Cluster)
		says []string
	}{
		"no such database": {func(t *testing.T, cfg *config.Config, _ *kfake.Cluster) {
			cfg.Postgres.DSN = with(t, cfg.Postgres.DSN, func(u *url.URL) { u.Path = "/nowhere" })
		}, []string{"Postgres cannot be used", "nowhere", "create the database"}},
		"no such role": {func(t *testing.T, cfg *config.Config, _ *kfake.Cluster) {
			cfg.Postgres.DSN = with(t, cfg.Postgres.DSN, func(u *url.URL) { u.User = url.UserPassword("nobody", "x") })
		}, []string{"Postgres cannot be used", "nobody", "set the user and the password in postgres.dsn"}},
		"wrong encoding": {func(t *testing.T, cfg *config.Config, _ *kfake.Cluster) {
			cfg.Postgres.DSN = ascii(t, cfg.Postgres.DSN)
			if _, err := postgres.Migrate(t.Context(), app.PostgresConfig(*cfg, nil)); err != nil {
				t.Fatal(err)
			}
		}, []string{"Postgres cannot be used", "SQL_ASCII", "create it with ENCODING 'UTF8'", "postgres.dsn"}},
		"wrong credentials for Kafka": {func(t *testing.T, cfg *config.Config, cluster *kfake.Cluster) {
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake}, Err: kerr.SaslAuthenticationFailed, Count: -1})
			cfg.Kafka.SASL.Mechanism, cfg.Kafka.SASL.Username, cfg.Kafka.SASL.Password = "SCRAM-SHA-512", "nobody", "x"
			cfg.Kafka.SASL.AllowPlaintext = true
		}, []string{"Kafka cannot be used", "set kafka.sasl.mechanism"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, cluster := misbehaving(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "somebody", "x"))
			test.harm(t, &cfg, cluster)
			took, err := prepared(t, cfg)
			if !errors.Is(err, app.ErrDenied) || errors.Is(err, app.ErrUnreachable) {
				t.Fatalf("after %v: %v", took, err)
			}
			for _, text := range test.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("it does not say %q: %v", text, err)
				}
			}
			if took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// ascii makes a database of another encoding on the same server.
func ascii(t *testing.T, dsn string) string {
	t.Helper()
	name := "dibs_test_ascii_" + strings.ToLower(rand.Text()) // another run may be at the same server
	run := func(ctx context.Context, sql string) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sql)
		return errors.Join(err, conn.Close(ctx))
	}
	drop := func() error { return run(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") }
	if err := run(t.Context(), "CREATE DATABASE "+name+" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return with(t, dsn, func(u *url.URL) { u.Path = "/" + name })
}

// TestBrokerDoesNotKnowItsTopicsYet: a broker that has just restarted may say that a topic does not exist. That is
// believed when it says so for a few seconds.
func TestBrokerDoesNotKnowItsTopicsYet(t *testing.T) {
	t.Parallel()
	cfg, cluster := misbehaving(t)
	client, err := kafka.New(app.KafkaConfig(cfg.Kafka), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.CreateTopics(t.Context(), kafka.TopicsConfig{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	ignorance := kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: client.Registrations(), Err: kerr.UnknownTopicOrPartition, Count: -1}
	h := cluster.Fault(ignorance)
	began := time.Now()
	time.AfterFunc(2*time.Second, h.Remove)
	took, err := prepared(t, cfg)
	if err != nil || time.Since(began) < 2*time.Second || took > 10*time.Second {
		t.Errorf("a topic that is known after two seconds: %v, %v", took, err)
	}
	cluster.Fault(ignorance)
	took, err = prepared(t, cfg)
	if !errors.Is(err, app.ErrTopics) || !strings.Contains(err.Error(), client.Registrations()+": existence is missing") || took < 4*time.Second || took > 20*time.Second {
		t.Errorf("a topic that is not known: %v, %v", took, err)
	}
}
