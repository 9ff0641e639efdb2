package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

It makes topics and schemas of its own on the servers of the settings, and removes them at the end.

--grow N measures something else: dibs on tables that have N names and their decisions already, beside dibs on empty ones, in the
same run. --grow-schema keeps the filled schema under that name for the next time, for filling takes long: fill first
(--grow 50000000 --grow-schema big --fill-only), measure when the machine is quiet.`,
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
	grown := growing{}
	f.Int64Var(&grown.names, "grow", 0, "compare tables with so many names with empty ones, instead of dibs with INSERT")
	f.StringVar(&grown.schema, "grow-schema", "", "schema that is filled, and kept; one that is filled already is used as it is")
	f.BoolVar(&grown.only, "fill-only", false, "fill --grow-schema and measure nothing")
	profile := profileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		if cfg.Waiting < 1 || cfg.Runs < 1 || cfg.Run <= 0 || cfg.Taken < 0 || cfg.Taken > 1 {
			return usage("--waiting and --runs are at least 1, --run is more than 0, --taken is 0 to 1")
		}
		if grown.names < 0 || grown.only && (grown.schema == "" || grown.names == 0) || grown.schema != "" && grown.names == 0 {
			return usage("--grow is 0 or more, --grow-schema goes with it, and --fill-only with both")
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
		var results []bench.Result
		if grown.names > 0 {
			results, err = b.runGrown(cmd.Context(), *partitions, grown)
		} else {
			results, err = b.run(cmd.Context(), *partitions)
		}
		if err != nil || grown.only {
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
	err = b.with(ctx, own, partitions, log, func(ctx context.Context, c *api.Claimer) error {
		results, err = bench.Measure(ctx, b.measuring(), inProcess{c, "dibs, in process"}, insert)
		return err
	})
	return results, err
}

// measuring is what to measure, with somebody to tell.
func (b *benching) measuring() bench.Config {
	b.cfg.Progress = func(peer string, run int, done *bench.Figures) {
		if done == nil {
			fmt.Fprintf(b.cmd.ErrOrStderr(), "run %d of %d, %s ", run, b.cfg.Runs, peer)
			return
		}
		fmt.Fprintf(b.cmd.ErrOrStderr(), "%.0f claims/s\n", done.PerSecond)
	}
	return b.cfg
}

// with runs f with a deployment in this process, on topics of its own that are removed behind it.
func (b *benching) with(ctx context.Context, own config.Config, partitions int, log *slog.Logger, f func(context.Context, *api.Claimer) error) (err error) {
	if _, err := postgres.Migrate(ctx, app.PostgresConfig(own, log)); err != nil {
		return err
	}
	client, err := kafka.New(app.KafkaConfig(own.Kafka), log, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.CreateTopics(ctx, kafka.TopicsConfig{Partitions: partitions}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.DeleteTopics(context.WithoutCancel(ctx))) }()
	return app.WithClaimer(ctx, own, log, f)
}

// inProcess is dibs as a peer of the benchmark.
type inProcess struct {
	claimer *api.Claimer
	name    string
}

func (p inProcess) Name() string { return p.name }

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
