package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/peers"
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
	partitions int
	peers      bool
	only       []string
	plot       string
}

// The direct INSERT: how many connections it has, and how it is called, here and among the peers.
const (
	poolSize   = 64
	insertName = peers.InsertName
)

// run measures on topics and schemas of its own. With an error, the report is of the runs that had ended.
func (b *benching) run(ctx context.Context) (report *bench.Report, err error) {
	log := logger(b.cmd, b.settings.Log)
	id := "bench-" + uuid.NewString()[:8]
	own := b.settings
	own.Kafka.TopicPrefix, own.Postgres.Schema, own.API.MaxWaiting = id+".", id, 2*maxBenchWaiting
	own.API.Auth, own.Ops.Addr = "none", "127.0.0.1:0"

	version, _ := build()
	report = &bench.Report{At: time.Now().UTC().Truncate(time.Second), Version: version, Left: make(map[string]string)}
	if report.Machine, err = bench.Look(ctx, own.Kafka.Brokers, own.Postgres.DSN); err != nil {
		return nil, err
	}
	defer report.Machine.Close()
	b.cfg.Meter = report.Machine
	b.cfg.Progress = (&benchProgress{b.cmd.ErrOrStderr(), isTerminal(b.cmd.ErrOrStderr())}).tell

	insert, err := bench.NewInsert(ctx, own.Postgres.DSN, id+"-insert", poolSize)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, cleanly(ctx, func(ctx context.Context) error { return insert.Close(ctx, id+"-insert") }))
	}()
	d := &deployed{own, b.partitions, insert, log}
	others, closeOthers, err := b.others(ctx, own, log, report.Left)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cleanly(ctx, closeOthers)) }()
	others = withBase(others, insert)

	if b.cfg.Backlog > 0 {
		return report, b.measure(ctx, report, append([]bench.Peer{&backlog{deployed: d, quiet: b.quiet()}}, others...))
	}
	return report, d.run(ctx, func(ctx context.Context) error {
		return app.WithClaimer(ctx, own, log, func(ctx context.Context, c *api.Claimer) error {
			var all []bench.Peer
			for _, way := range b.through {
				all = append(all, ways[way](entrance{c, own, b.quiet()}))
			}
			return b.measure(ctx, report, append(all, others...))
		})
	})
}

// withBase puts the direct INSERT last, unless one of that name is there.
func withBase(others []bench.Peer, insert *bench.Insert) []bench.Peer {
	for _, p := range others {
		if p.Name() == insertName {
			return others
		}
	}
	return append(others, insert)
}

func (b *benching) measure(ctx context.Context, report *bench.Report, all []bench.Peer) error {
	if b.cfg.Backlog > 0 {
		var able []bench.Peer
		for _, p := range all {
			if _, can := p.(bench.Drainer); can {
				able = append(able, p)
			} else {
				report.Left[p.Name()] = "cannot be given a backlog"
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
	insert     *bench.Insert
	log        *slog.Logger
}

// run calls f while there are topics and a schema.
func (d *deployed) run(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		err = errors.Join(err, cleanly(ctx, func(ctx context.Context) error { return d.insert.Drop(ctx, d.Postgres.Schema) }))
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
