package main

import (
	"context"
	"errors"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
)

// backlog is dibs with claims that came while no processor ran.
type backlog struct {
	perRun
	arrivals *overKafka // the way of claims that go on coming; nil for none
}

var _ interface {
	bench.Recoverer
	bench.Hosted
	bench.Apart
} = (*backlog)(nil)

// outageWait is how long a claim is waited for that has a backlog before it.
const outageWait = 15 * time.Minute

// Recovers implements bench.Recoverer.
func (*backlog) Recovers() {}

func (p *backlog) Claim(ctx context.Context, name, owner string) (bool, error) {
	if p.arrivals == nil {
		return false, errors.New("it is there for its backlog only")
	}
	return p.arrivals.Claim(ctx, name, owner)
}

func (p *backlog) Host(ctx context.Context, f func(context.Context) error) (err error) {
	return p.run(ctx, func(ctx context.Context) error {
		if p.arrivals == nil {
			return f(ctx)
		}
		p.arrivals.entrance = entrance{settings: p.now.Config, log: p.quiet, wait: outageWait}
		return p.arrivals.Host(ctx, f)
	})
}

// backlogs are dibs as --processors and --partitions say.
func (b *benching) backlogs(id string) (all []bench.Peer) {
	for _, r := range b.deployments(id) {
		p := &backlog{perRun: *r}
		if p.name = "dibs" + r.name; b.cfg.Rate > 0 {
			p.arrivals = &overKafka{}
		}
		all = append(all, p)
	}
	return all
}

// inFlight is how many claims may wait for Kafka's acknowledgement while a backlog is made: fewer than a producer takes.
const inFlight = 20_000

func (p *backlog) Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error {
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

// Drain is over when the outcomes of all claims are published that had come when it looked last but one.
func (p *backlog) Drain(ctx context.Context, progress func(decided int)) error {
	client, err := kafka.New(app.KafkaConfig(p.now.Kafka), p.quiet, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	claimed := kafka.NewReader(client, kafka.ReaderConfig{})
	outcomes := kafka.NewReader(client, kafka.ReaderConfig{Topic: client.Registrations()})
	come, err := p.ends(ctx, claimed)
	if err != nil {
		return err
	}
	record, err := postgres.New(app.PostgresConfig(p.now.Config, p.quiet))
	if err != nil {
		return err
	}
	defer record.Close()
	started := make(chan error, 1)
	go func() {
		err := p.processes.start(ctx)
		if err != nil {
			p.processes.fail(err)
		}
		started <- err
	}()
	err = p.watch(ctx, come, claimed, outcomes, record, progress)
	return errors.Join(err, <-started)
}

// watch looks on while outcomes are published. come is how many claims there are by now in each partition. A partition that
// is taken over meanwhile, by another of several processors, gets some of its outcomes twice: they are no more than
// was decided.
func (p *backlog) watch(ctx context.Context, come []int64, claimed, outcomes *kafka.Reader, record *postgres.Record, progress func(decided int)) error {
	all := make([]int32, p.partitions)
	for i := range all {
		all[i] = int32(i)
	}
	for {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		published, err := p.ends(ctx, outcomes)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		standings, err := record.Standings(ctx, all)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		committed := make([]int64, p.partitions) // 0 for one that nobody has yet
		for _, s := range standings {
			committed[s.Partition] = s.NextOffset
		}
		decided, behind := 0, false
		for partition, n := range published {
			n = min(n, committed[partition])
			decided += int(n)
			behind = behind || n < come[partition]
		}
		progress(decided)
		if !behind {
			return nil
		}
		if p.arrivals != nil {
			if come, err = p.ends(ctx, claimed); err != nil {
				return errors.Join(context.Cause(ctx), err)
			}
		}
	}
}

// ends is how many records there are in each partition: each claim has an outcome in its partition, and its copies.
func (p *backlog) ends(ctx context.Context, r *kafka.Reader) ([]int64, error) {
	all := make([]int64, p.partitions)
	for partition := range all {
		_, end, err := r.Bounds(ctx, int32(partition))
		if err != nil {
			return nil, err
		}
		all[partition] = end
	}
	return all, nil
}
