package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/bench"
)

// perRun is a deployment that each run has anew, with its processors: tables and topics that grow from run to run would
// favour the first.
type perRun struct {
	*deployed
	quiet      *slog.Logger
	name       string
	processors int      // processes that decide; 0: this one does
	runs       *int     // of all of the benchmark: no two have the same topics
	now        deployed // that of the run
	processes  *processes
}

func (p *perRun) Name() string { return p.name }

// PIDs implements bench.Apart.
func (p *perRun) PIDs() []int { return p.processes.pids() }

// run calls f with the deployment of a run, and stops its processors after that, if they were started.
func (p *perRun) run(ctx context.Context, f func(context.Context) error) (err error) {
	p.now = *p.deployed
	id := fmt.Sprintf("%s-%d", p.Postgres.Schema, *p.runs)
	p.now.Kafka.TopicPrefix, p.now.Postgres.Schema, p.now.log = id+".", id, p.quiet
	*p.runs++
	if p.now.Security.RequestKeysFile == "" { // a processor signs what it asks of itself
		dir, err := os.MkdirTemp("", "dibs-bench-")
		if err != nil {
			return fmt.Errorf("a folder for request keys: %w", err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // nobody needs what is in it
		p.now.Security.RequestKeysFile = filepath.Join(dir, "request-keys.yaml")
		if err := auth.MakeRequestKeys(p.now.Security.RequestKeysFile, "bench"); err != nil {
			return err
		}
	}
	return p.now.run(ctx, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		p.processes = &processes{settings: p.now.Config, size: p.processors, log: p.quiet, fail: func(err error) { cancel(err) }}
		defer func() { err = errors.Join(err, p.processes.stop()) }()
		return f(ctx)
	})
}

// variant is dibs with other processors, or other topics, than those of the benchmark.
type variant struct {
	perRun
	way  string
	peer bench.Peer // that of the run
}

var _ interface {
	bench.Hosted
	bench.Apart
} = (*variant)(nil)

func (p *variant) Host(ctx context.Context, f func(context.Context) error) error {
	return p.run(ctx, func(ctx context.Context) error {
		if p.processors > 0 {
			if err := p.processes.start(ctx); err != nil {
				return err
			}
			if err := p.processes.await(ctx, p.partitions); err != nil {
				return err
			}
		}
		o := app.Options{Config: p.now.Config, Processor: p.processors == 0, Log: p.quiet}
		return app.WithClaimer(ctx, o, func(ctx context.Context, c *api.Claimer) error {
			p.peer = ways[p.way](entrance{c, o.Config, p.quiet, benchWait})
			if h, ok := p.peer.(bench.Hosted); ok {
				return h.Host(ctx, f)
			}
			return f(ctx)
		})
	})
}

func (p *variant) Claim(ctx context.Context, name, owner string) (bool, error) {
	return p.peer.Claim(ctx, name, owner)
}

// killed is a variant of which a processor is killed in the middle of each run: the longest that a claim waits is what it
// takes another to take over.
type killed struct{ variant }

var _ bench.FaultInjected = (*killed)(nil)

func (p *killed) InjectFault() error { return p.processes.kill() }

// variants are dibs as --processors, --partitions and --through say, each with each.
func (b *benching) variants(id string) (all []bench.Peer) {
	for _, r := range b.deployments(id) {
		for _, way := range b.through {
			v := variant{perRun: *r, way: way}
			if v.name = ways[way](entrance{}).Name() + r.name; b.kill {
				v.name += ", one killed"
				all = append(all, &killed{v})
				continue
			}
			all = append(all, &v)
		}
	}
	return all
}

// deployments are what is to be compared, with what tells them apart as their names.
func (b *benching) deployments(id string) (all []*perRun) {
	for _, processors := range b.processors {
		for _, partitions := range b.partitions {
			r := &perRun{deployed: b.deployment(id, partitions), quiet: b.quiet(), processors: processors, runs: &b.runs}
			switch {
			case len(b.processors) == 1 && !b.cmd.Flags().Changed("processors"):
			case processors == 0:
				r.name = ", its own processor"
			default:
				r.name = ", " + counted(processors, "processor")
			}
			if len(b.partitions) > 1 {
				r.name += ", " + counted(partitions, "partition")
			}
			all = append(all, r)
		}
	}
	return all
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
