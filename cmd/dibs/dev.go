package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/spf13/cobra"
)

func newDev() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine, with an embedded Kafka and Postgres: to try it, not for production",
		Long: `Run dibs with an embedded Kafka and Postgres, listening on loopback only. Nothing needs to be installed; the first
start downloads Postgres. What is claimed is kept in the data folder. Ctrl-C stops everything.`,
		Args: exactArgs(0, "no arguments"),
	}
	f := cmd.Flags()
	kafkaAddr := f.String("kafka-addr", "127.0.0.1:9092", "where the embedded Kafka listens")
	dataDir := f.String("data-dir", "", "where to keep data (default: in the user's cache folder)")
	partitions := f.Int("partitions", 12, "partitions of the topics, when they are made")
	spaces := f.String("spaces", "", "file of spaces whose policies are to hold: see dibs spaces apply")
	f.String("api-addr", "127.0.0.1:8080", "where the HTTP API listens")
	f.String("ops-addr", "127.0.0.1:8081", "where health and metrics are")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := load(cmd, map[string]any{"api.addr": "127.0.0.1:8080", "ops.addr": "127.0.0.1:8081", "api.auth": "none", "log.level": "warn", "log.format": "text"})
		if err != nil {
			return err
		}
		if *partitions < 1 || *partitions > 1000 {
			return usage("--partitions is %d: 1 to 1000", *partitions)
		}
		var policies []*names.Policy
		if *spaces != "" {
			if policies, err = readSpaces(*spaces); err != nil {
				return err
			}
		}
		out := &lines{w: cmd.OutOrStdout()}
		v, revision := build()
		return app.Dev(cmd.Context(), app.DevOptions{
			Options: app.Options{
				Config: settings.Config, Log: logger(cmd, settings.Log), Version: v, Revision: revision,
				OnOutcome: out.outcome,
				OnReady:   func(apiAddr, opsAddr string) { out.banner(v, apiAddr, opsAddr, *kafkaAddr) },
			},
			KafkaAddr: *kafkaAddr, DataDir: *dataDir, Partitions: *partitions, Spaces: policies,
			Progress: slog.New(progress{out}),
		})
	}
	return cmd
}

// lines writes what a person at a terminal reads. Outcomes come from another goroutine than the rest.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format, args...)
}

func (l *lines) banner(version, apiAddr, opsAddr, kafkaAddr string) {
	l.printf(`
dibs %s, everything on this machine: NOT FOR PRODUCTION, no authentication, one fake broker

  API         http://%s     (OpenAPI: /openapi.yaml)
  operations  http://%s/readyz?verbose  /metrics
  Kafka       %s     topics claims, registrations, claims.dlq

Each decision is a line below. Ctrl-C stops. Try it:

  curl -i http://%s/v1/claims -H 'content-type: application/json' -d '{"name":"alice","owner":"u-17"}'

`, version, apiAddr, opsAddr, kafkaAddr, apiAddr)
}

// outcome prints one decision.
func (l *lines) outcome(o registrations.Outcome) {
	at := o.LogTime.Local().Format("15:04:05.000")
	what := fmt.Sprintf("version %d", o.Version)
	switch {
	case o.Type == registrations.Rejected:
		what = string(o.Reason)
	case o.Owner != "":
		what = o.Owner + ", " + what
	}
	l.printf("%s  %-11s  %-40s  %s\n", at, strings.ToLower(string(o.Type)), called(string(o.Ref.Space), string(o.Ref.Key), o.Name), what)
}
