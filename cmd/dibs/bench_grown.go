package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/grow"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/google/uuid"
)

// growing says what dibs on empty tables is compared with.
type growing struct {
	names  int64
	schema string // kept; empty for one that is dropped at the end
	only   bool
}

// runGrown measures dibs on grown tables and on empty ones, in turn.
func (b *benching) runGrown(ctx context.Context, partitions int, g growing) (results []bench.Result, err error) {
	log := logger(b.cmd, b.settings.Log)
	id := "bench-" + uuid.NewString()[:8]
	deployment := func(suffix string) config.Config {
		own := b.settings
		own.Kafka.TopicPrefix, own.Postgres.Schema, own.API.MaxWaiting = id+suffix+".", id+suffix, 2*b.cfg.Waiting
		own.Processor.Group += suffix
		return own
	}
	empty, grown := deployment("-empty"), deployment("-grown")
	drop := []string{empty.Postgres.Schema}
	if g.schema != "" {
		grown.Postgres.Schema = g.schema
	} else {
		drop = append(drop, grown.Postgres.Schema)
	}
	defer func() {
		err = errors.Join(err, grow.Drop(context.WithoutCancel(ctx), b.settings.Postgres.DSN, drop...))
	}()
	if _, err := postgres.Migrate(ctx, app.PostgresConfig(grown, log)); err != nil {
		return nil, err
	}
	err = grow.Fill(ctx, grow.Config{
		DSN: grown.Postgres.DSN, Schema: grown.Postgres.Schema, Names: g.names, Partitions: partitions,
		Progress: func(step string) { fmt.Fprintln(b.cmd.ErrOrStderr(), step) },
	})
	if errors.Is(err, grow.ErrFilled) {
		err = nil
	}
	if err != nil || g.only {
		return nil, err
	}
	if err := grow.Begin(ctx, grown.Postgres.DSN, grown.Postgres.Schema); err != nil {
		return nil, err
	}
	err = b.with(ctx, empty, partitions, log, func(ctx context.Context, e *api.Claimer) error {
		return b.with(ctx, grown, partitions, log, func(ctx context.Context, c *api.Claimer) error {
			results, err = bench.Measure(ctx, b.measuring(), inProcess{c, fmt.Sprintf("dibs, %d names", g.names)}, inProcess{e, "dibs, empty tables"})
			return err
		})
	})
	return results, err
}
