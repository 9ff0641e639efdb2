package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	cmd := outputFlag(withSettings(&cobra.Command{
		Use: "bench", Short: "Measure claims per second, beside a direct INSERT on the same Postgres",
		Long: `Measure claims per second and how long each waits, in this process (no HTTP), beside INSERT … ON CONFLICT over a pool of
64 connections to the same Postgres. Both get the same names; runs are interleaved; medians are reported.

It makes topics and schemas of its own on the servers of the settings, and removes them at the end.`,
		Args: exactArgs(0, "no arguments"),
	}, "kafka", "postgres", "processor"))
	f := cmd.Flags()
	cfg := bench.Config{}
	f.IntVar(&cfg.Waiting, "waiting", 1024, "claims that wait at once")
	f.IntVar(&cfg.Runs, "runs", 3, "interleaved runs of each")
	f.DurationVar(&cfg.Warmup, "warmup", 3*time.Second, "before each run, not measured")
	f.DurationVar(&cfg.Run, "run", 10*time.Second, "length of each run")
	f.Float64Var(&cfg.Taken, "taken", 0.2, "part of the names that are taken, 0 to 1")
	partitions := f.Int("partitions", 12, "partitions of the topics")
	profile := profileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		if cfg.Waiting < 1 || cfg.Runs < 1 || cfg.Run <= 0 || cfg.Taken < 0 || cfg.Taken > 1 {
			return usage("--waiting and --runs are at least 1, --run is more than 0, --taken is 0 to 1")
		}
		settings, err := load(cmd, map[string]any{"log.level": "warn"})
		if err != nil {
			return err
		}
		stop, err := profile()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		b := benching{cmd: cmd, cfg: cfg, settings: settings.Config}
		results, err := b.run(cmd.Context(), *partitions)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"config": cfg, "results": results})
		}
		return bench.Write(cmd.OutOrStdout(), cfg, results)
	}
	return cmd
}

type benching struct {
	cmd      *cobra.Command
	cfg      bench.Config
	settings config.Config
}

// run measures on topics and schemas of its own.
func (b *benching) run(ctx context.Context, partitions int) (results []bench.Result, err error) {
	log := logger(b.cmd, b.settings.Log)
	id := "bench-" + uuid.NewString()[:8]
	own := b.settings
	own.Kafka.TopicPrefix, own.Postgres.Schema, own.API.MaxWaiting = id+".", id, 2*b.cfg.Waiting
	insert, err := bench.NewInsert(ctx, own.Postgres.DSN, id+"-insert", 64)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, insert.Close(context.WithoutCancel(ctx), id, id+"-insert")) }()
	if _, err := postgres.Migrate(ctx, app.PostgresConfig(own, log)); err != nil {
		return nil, err
	}
	client, err := kafka.New(app.KafkaConfig(own.Kafka), log, nil)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if _, err := client.CreateTopics(ctx, kafka.TopicsConfig{Partitions: partitions}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.DeleteTopics(context.WithoutCancel(ctx))) }()
	b.cfg.Progress = func(peer string, run int, done *bench.Figures) {
		if done == nil {
			fmt.Fprintf(b.cmd.ErrOrStderr(), "run %d of %d, %s ", run, b.cfg.Runs, peer)
			return
		}
		fmt.Fprintf(b.cmd.ErrOrStderr(), "%.0f claims/s\n", done.PerSecond)
	}
	err = app.WithClaimer(ctx, own, log, func(ctx context.Context, c *api.Claimer) error {
		results, err = bench.Measure(ctx, b.cfg, inProcess{c}, insert)
		return err
	})
	return results, err
}

// inProcess is dibs as a peer of the benchmark.
type inProcess struct{ claimer *api.Claimer }

func (inProcess) Name() string { return "dibs, in process" }

func (p inProcess) Claim(ctx context.Context, name, owner string) (bool, error) {
	r, err := p.claimer.Claim(ctx, "bench", api.Request{Space: names.Username, Name: name, Owner: owner, Mode: claims.ModeRegister}, 30*time.Second)
	switch {
	case err != nil:
		return false, err
	case r.Outcome == nil:
		return false, errors.New("a claim was not decided within 30 s")
	}
	return r.Outcome.Type == registrations.Accepted, nil
}
