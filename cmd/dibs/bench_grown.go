package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/grow"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/google/uuid"
)

// growing says what dibs on empty tables is compared with.
type growing struct {
	names  int64
	schema string // kept; empty for one that is dropped at the end
	only   bool
}

func (g growing) validate() error {
	if g.names < 0 || g.names == 0 && (g.schema != "" || g.only) || g.only && g.schema == "" {
		return usage("--grow is 0 or more, --grow-schema goes with it, and --fill-only with both")
	}
	return nil
}

// runGrown measures dibs on grown tables and on empty ones, in turn. Where the tables are only to be filled, there is no report.
func (b *benching) runGrown(ctx context.Context) (report *bench.Report, err error) {
	id := "bench-" + uuid.NewString()[:8]
	empty, grown := b.deployment(id+"-empty", b.partitions[0]), b.deployment(id+"-grown", b.partitions[0])
	empty.Processor.Group, grown.Processor.Group = empty.Processor.Group+"-empty", grown.Processor.Group+"-grown"
	if b.grown.schema != "" {
		grown.Postgres.Schema, grown.kept = b.grown.schema, true
		if err := grow.Check(ctx, grown.Postgres.DSN, b.grown.schema); err != nil { // before it is migrated: it may be somebody's
			return nil, err
		}
	}
	if b.grown.only {
		return nil, b.fill(ctx, grown)
	}
	if report, err = b.report(ctx); err != nil {
		return nil, err
	}
	defer report.Machine.Close()
	return report, empty.run(ctx, func(ctx context.Context) error {
		return grown.run(ctx, func(ctx context.Context) error {
			if err := b.fill(ctx, grown); err != nil {
				return err
			}
			if err := grow.Begin(ctx, grown.Postgres.DSN, grown.Postgres.Schema); err != nil {
				return err
			}
			return app.WithClaimer(ctx, app.Options{Config: empty.Config, Processor: true, Log: empty.log}, func(ctx context.Context, e *api.Claimer) error {
				return app.WithClaimer(ctx, app.Options{Config: grown.Config, Processor: true, Log: grown.log}, func(ctx context.Context, c *api.Claimer) error {
					return b.measure(ctx, report, []bench.Peer{among{inProcess{c, fmt.Sprintf("dibs, %d names", b.grown.names)}}, among{inProcess{e, "dibs, empty tables"}}})
				})
			})
		})
	})
}

// among claims what lies anywhere in the indexes: names and owners among those that are there, and an id that is derived from
// an idempotency key. With ids of version 7 one index less has grown.
type among struct{ inProcess }

func (p among) Claim(ctx context.Context, name, owner string) (bool, error) {
	name, owner = grow.Among(name, owner)
	return p.ask(ctx, api.Request{Name: name, Owner: owner, IdempotencyKey: owner})
}

// fill fills a schema, which takes long, unless it is filled already.
func (b *benching) fill(ctx context.Context, d *deployed) error {
	if _, err := postgres.Migrate(ctx, app.PostgresConfig(d.Config, d.log)); err != nil {
		return err
	}
	err := grow.Fill(ctx, grow.Config{
		DSN: d.Postgres.DSN, Schema: d.Postgres.Schema, Names: b.grown.names, Partitions: b.partitions[0],
		Progress: func(step string) { fmt.Fprintln(b.cmd.ErrOrStderr(), step) },
	})
	if errors.Is(err, grow.ErrFilled) {
		return nil
	}
	return err
}
