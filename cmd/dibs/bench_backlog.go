package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
)

// backlog is dibs with claims that came while no processor ran. Each run has a deployment of its own: tables and topics
// that grow from run to run would favour the first.
type backlog struct {
	*deployed
	quiet *slog.Logger
	runs  int
	now   deployed // that of the run
	n     int
}

var _ interface {
	bench.Drainer
	bench.Hosted
} = (*backlog)(nil)

func (*backlog) Name() string { return "dibs" }

func (*backlog) Claim(context.Context, string, string) (bool, error) {
	return false, errors.New("it is there for its backlog only")
}

func (p *backlog) Host(ctx context.Context, f func(context.Context) error) (err error) {
	p.now = *p.deployed
	id := fmt.Sprintf("%s-%d", p.Postgres.Schema, p.runs)
	p.now.Kafka.TopicPrefix, p.now.Postgres.Schema, p.now.log = id+".", id, p.quiet
	p.runs++
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
	return p.now.run(ctx, f)
}

// inFlight is how many claims may wait for Kafka's acknowledgement while a backlog is made: fewer than a producer takes.
const inFlight = 20_000

func (p *backlog) Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error {
	p.n = n
	return app.WithClaims(ctx, p.now.Config, p.quiet, 1, func(ctx context.Context, d *app.Deployment) error {
		held, err := d.Held(ctx)
		if err != nil {
			return err
		}
		sign := d.Signer(func() api.Holding { return held })
		sent := make([]api.Publication, 0, inFlight)
		acknowledged := func() error {
			for _, s := range sent {
				select {
				case <-s.Settled():
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if _, err := s.Result(); err != nil {
					return err
				}
			}
			sent = sent[:0]
			return nil
		}
		for i := range n {
			name, owner := claim(i)
			_, partition, record, err := claimRecord(held.Policies[names.Username], d.Contract.Partitions, name, owner)
			if err != nil {
				return err
			}
			if sign != nil {
				record = sign(record)
			}
			s, err := d.Claims.Start(partition, record)
			if errors.Is(err, api.ErrBusy) && len(sent) > 0 { // most go to one partition
				if err := acknowledged(); err != nil {
					return err
				}
				s, err = d.Claims.Start(partition, record)
			}
			if err != nil {
				return err
			}
			if sent = append(sent, s); len(sent) == inFlight {
				if err := acknowledged(); err != nil {
					return err
				}
			}
		}
		return acknowledged()
	})
}

// Drain is over when all outcomes are published.
func (p *backlog) Drain(ctx context.Context, progress func(decided int)) error {
	client, err := kafka.New(app.KafkaConfig(p.now.Kafka), p.quiet, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	outcomes := kafka.NewReader(client, kafka.ReaderConfig{Topic: client.Registrations()})

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running, stop := context.WithCancel(ctx)
	var processor sync.WaitGroup
	processor.Go(func() {
		err := app.Run(running, app.Options{Config: p.now.Config, Processor: true, Log: p.quiet})
		if err != nil {
			cancel(fmt.Errorf("processor: %w", err))
		}
	})
	err = p.watch(ctx, outcomes, progress)
	stop()
	processor.Wait()
	return err
}

// watch counts outcomes until there are as many as claims.
func (p *backlog) watch(ctx context.Context, outcomes *kafka.Reader, progress func(decided int)) error {
	for {
		decided := 0
		for partition := range int32(p.partitions) {
			_, end, err := outcomes.Bounds(ctx, partition)
			if err != nil {
				return errors.Join(context.Cause(ctx), err)
			}
			decided += int(end)
		}
		progress(decided)
		if decided >= p.n {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
