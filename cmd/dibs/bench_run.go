package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/grow"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// benching is one benchmark.
type benching struct {
	cmd      *cobra.Command
	cfg      bench.Config
	settings config.Config

	through    []string
	names      string
	exponent   float64
	universe   int
	partitions []int
	processors []int
	kill       bool
	runs       int // that had a deployment of their own
	peers      bool
	only       []string
	plot       string
	grown      growing
}

// run measures on topics and schemas of its own. With an error, the report is of the runs that had ended.
func (b *benching) run(ctx context.Context) (report *bench.Report, err error) {
	if report, err = b.report(ctx); err != nil {
		return nil, err
	}
	defer report.Machine.Close()
	id := "bench-" + uuid.NewString()[:8]
	d := b.deployment(id, b.partitions[0])
	others, closeOthers, err := b.others(ctx, d.Config, d.log, report.Left)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cleanly(ctx, closeOthers)) }()
	switch {
	case b.cfg.Backlog > 0:
		return report, b.measure(ctx, report, append(b.backlogs(id), others...))
	case len(b.partitions) > 1 || len(b.processors) > 1 || b.processors[0] > 0:
		return report, b.measure(ctx, report, append(b.variants(id), others...))
	}
	return report, d.run(ctx, func(ctx context.Context) error {
		return app.WithClaimer(ctx, app.Options{Config: d.Config, Processor: true, Log: d.log}, func(ctx context.Context, c *api.Claimer) error {
			var all []bench.Peer
			for _, way := range b.through {
				all = append(all, ways[way](entrance{c, d.Config, b.quiet(), benchWait}))
			}
			return b.measure(ctx, report, append(all, others...))
		})
	})
}

// report begins a report, and the benchmark tells of itself from now on.
func (b *benching) report(ctx context.Context) (report *bench.Report, err error) {
	version, _ := build()
	report = &bench.Report{At: time.Now().UTC().Truncate(time.Second), Version: version, Left: make(map[string]string)}
	if report.Machine, err = bench.Look(ctx, b.settings.Kafka.Brokers, b.settings.Postgres.DSN); err != nil {
		return nil, err
	}
	b.cfg.Meter = report.Machine
	b.cfg.Progress = (&benchProgress{b.cmd.ErrOrStderr(), isTerminal(b.cmd.ErrOrStderr())}).tell
	return report, nil
}

// deployment is one of the benchmark's own.
func (b *benching) deployment(id string, partitions int) *deployed {
	own := b.settings
	own.Kafka.TopicPrefix, own.Postgres.Schema, own.API.MaxWaiting = id+".", id, 2*maxBenchWaiting
	own.API.Auth, own.Ops.Addr = "none", "127.0.0.1:0"
	return &deployed{Config: own, partitions: partitions, log: logger(b.cmd, b.settings.Log)}
}

func (b *benching) measure(ctx context.Context, report *bench.Report, all []bench.Peer) error {
	if b.cfg.Backlog > 0 {
		var able []bench.Peer
		for _, p := range all {
			_, drains := p.(bench.Drainer)
			_, recovers := p.(bench.Recoverer)
			switch {
			case !drains:
				report.Left[p.Name()] = "cannot be given a backlog"
			case b.cfg.Rate > 0 && !recovers:
				report.Left[p.Name()] = "cannot be asked while it works off a backlog"
			default:
				able = append(able, p)
			}
		}
		all = able
	}
	chosen, err := b.choose(all)
	if err != nil {
		return err
	}
	report.Config = b.cfg
	report.Tables, err = bench.Measure(ctx, b.cfg, chosen...)
	return err
}

// quiet is the logger of what is started again and again: the first has said what there is to be warned of.
func (b *benching) quiet() *slog.Logger {
	return logger(b.cmd, config.Log{Level: "error", Format: b.settings.Log.Format})
}

// cleanly undoes something, also where ctx has ended.
func cleanly(ctx context.Context, undo func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return undo(ctx)
}

// deployed is a deployment of its own: what its settings name belongs to the benchmark.
type deployed struct {
	config.Config
	partitions int
	kept       bool // its schema
	log        *slog.Logger
}

// run calls f while there are topics and a schema.
func (d *deployed) run(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if !d.kept {
			err = errors.Join(err, cleanly(ctx, func(ctx context.Context) error { return grow.Drop(ctx, d.Postgres.DSN, d.Postgres.Schema) }))
		}
	}()
	if _, err := postgres.Migrate(ctx, app.PostgresConfig(d.Config, d.log)); err != nil {
		return err
	}
	client, err := kafka.New(app.KafkaConfig(d.Kafka), d.log, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	defer func() { err = errors.Join(err, cleanly(ctx, client.DeleteTopics)) }()
	if _, err := client.CreateTopics(ctx, kafka.TopicsConfig{Partitions: d.partitions}); err != nil {
		return err
	}
	return f(ctx)
}
