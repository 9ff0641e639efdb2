package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
)

// DevOptions say what `dibs dev` runs. The roles of Options do not matter: it runs both.
type DevOptions struct {
	Options
	KafkaAddr  string
	DataDir    string // empty: in the user's cache folder
	Partitions int    // of topics that are made
	// Spaces are applied once everything runs, and then it is ready. Beside them there is the private space email.
	Spaces []*names.Policy
	// Progress gets what takes its time: the first start downloads Postgres.
	Progress *slog.Logger
}

// devClockBound is how far ahead of the broker a producer's clock may be, in dev.
const devClockBound = time.Second

// Dev runs everything on this machine until ctx ends, and leaves no process behind.
func Dev(ctx context.Context, o DevOptions) (err error) {
	dir := o.DataDir
	if dir == "" {
		if dir, err = dev.DefaultDataDir(); err != nil {
			return err
		}
	}
	broker, err := dev.StartKafka(ctx, dev.KafkaConfig{Addr: o.KafkaAddr, DataDir: filepath.Join(dir, "kafka"), Partitions: o.Partitions, Logger: o.Log})
	if err != nil {
		return fmt.Errorf("embedded Kafka: %w", err)
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	o.Progress.InfoContext(ctx, "starting the embedded Postgres; the first time it is downloaded")
	database, err := dev.StartPostgres(ctx, dev.PostgresConfig{DataDir: filepath.Join(dir, "postgres"), Logger: o.Progress})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("embedded Postgres: %w", err)
	}
	defer func() { err = errors.Join(err, database.Stop()) }()

	o.Config.Kafka.Brokers = []string{broker.Addr()}
	o.Config.Postgres.DSN = database.DSN()
	o.API, o.Processor, o.Dev = true, true, true
	if o.Config.Security.RequestKeysFile == "" {
		o.Config.Security.RequestKeysFile = filepath.Join(dir, "request-keys.yaml")
		if err := auth.MakeRequestKeys(o.Config.Security.RequestKeysFile, "dev"); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if o.Config.Security.PeppersFile == "" {
		o.Config.Security.PeppersFile = filepath.Join(dir, "peppers.yaml")
		if err := auth.MakePeppers(o.Config.Security.PeppersFile, devEmail); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if o.Config.Security.ErasureSecretFile == "" {
		o.Config.Security.ErasureSecretFile = filepath.Join(dir, "erasure-secret")
		if err := auth.MakeErasureSecret(o.Config.Security.ErasureSecretFile); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := prepareDev(ctx, o); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-database.Done():
			cancel(errors.New("the embedded Postgres has stopped"))
		case <-ctx.Done():
		}
	}()
	var applying sync.WaitGroup
	ready := o.OnReady
	o.OnReady = func(apiAddr, opsAddr string) {
		applying.Go(func() {
			err := applyDevSpaces(ctx, o)
			switch {
			case err != nil && ctx.Err() == nil:
				cancel(err)
			case err == nil && ready != nil:
				ready(apiAddr, opsAddr)
			}
		})
	}
	err = Run(ctx, o.Options)
	cause := context.Cause(ctx)
	cancel(nil)
	applying.Wait()
	if cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// devEmail is the space that there is beside username.
const devEmail = names.Space("email")

// applyDevSpaces does what an operator does with dibs spaces apply.
func applyDevSpaces(ctx context.Context, o DevOptions) error {
	email, err := devPolicy(ctx, o)
	if err != nil {
		return err
	}
	if email != nil {
		o.Spaces = append(slices.Clone(o.Spaces), email)
	}
	if len(o.Spaces) == 0 {
		return nil
	}
	return ApplySpaces(ctx, o.Config, o.Log, o.Spaces, ApplyOptions{
		Wait: patience,
		Progress: func(space names.Space, done, of int) {
			if done == of {
				o.Progress.InfoContext(ctx, "the policy of a space holds", "space", space)
			}
		},
	})
}

// devPolicy is the policy of that space; nil where somebody has said, or says, something else.
func devPolicy(ctx context.Context, o DevOptions) (*names.Policy, error) {
	if slices.ContainsFunc(o.Spaces, func(p *names.Policy) bool { return p.Space == devEmail }) {
		return nil, nil
	}
	policies, err := config.ParseSpaces([]byte("spaces: {" + string(devEmail) + ": {version: 1, key: hmac, form: email}}"))
	if err != nil {
		return nil, err
	}
	email := policies[0]
	err = WithRecord(ctx, o.Config, o.Log, func(d *Deployment) error {
		if len(d.Peppers[devEmail]) == 0 { // the file is somebody's own
			email = nil
			return nil
		}
		rows, err := d.Record.All(ctx)
		if err != nil {
			return err
		}
		with, err := d.peppered(rows, email)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if holds := row.InForce.Over(d.Policies)[devEmail]; holds != nil && (holds.Version > 1 || !holds.SameAs(with)) {
				email = nil
			}
		}
		return nil
	})
	return email, err
}

// prepareDev makes what an operator makes with dibs migrate and dibs topics.
func prepareDev(ctx context.Context, o DevOptions) error {
	if _, err := postgres.Migrate(ctx, PostgresConfig(o.Config, o.Log)); err != nil {
		return err
	}
	client, err := kafka.New(KafkaConfig(o.Config.Kafka), o.Log, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.CreateTopics(ctx, kafka.TopicsConfig{Partitions: o.Partitions, ReplicationFactor: 1, ClockBound: devClockBound})
	return err
}
