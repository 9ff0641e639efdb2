package processor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits bound what a lane holds and how long it waits. The zero value means the defaults.
type Limits struct {
	// Batch is how many records are decided in one transaction, and about how many are published at once. Defaults to
	// 8,000.
	Batch int
	// Transactions is in how many transactions at once partitions are decided, each one in one of them. Defaults to 1.
	Transactions int
	// Beside is how many records of other partitions are worth another transaction beside one. Defaults to 256.
	Beside int
	// Unpublished is how many committed rows a lane holds before deciding waits for publishing. Partitions that are set
	// aside because publishing them does not get on hold up to four times as many. Defaults to four batches.
	Unpublished int
	// PollWait is how long to wait for records before looking at assignments and cursors. Defaults to 100 ms.
	PollWait time.Duration
	// VerifyEvery is how often the log's identity is checked without a reason. Defaults to 1 h.
	VerifyEvery time.Duration
	// Doubts is after how many checks in a row that found another log a partition is halted. Defaults to 3.
	Doubts int
	// DoubtPause is how long after such a check the next one is. Defaults to 500 ms.
	DoubtPause time.Duration
	// FencedPause is how long a partition that was lost to another writer is left alone. Defaults to 1 s.
	FencedPause time.Duration
	// HaltedPause is how often a halted partition's row is looked at. Defaults to 2 s.
	HaltedPause time.Duration
	// LookEvery is how often the rows of all partitions are looked at without a reason. Defaults to 5 s.
	LookEvery time.Duration
	// SweepEvery is how often reservations that have expired are looked for. Defaults to 500 ms.
	SweepEvery time.Duration
	// SweepRate is how many of them are asked about in a second, once there are more than a few. Defaults to 2,700.
	SweepRate int
	// Retention is how long decisions are kept, by the log time of their partition; 0 is for ever.
	Retention time.Duration
	// Drain is how long a stopping processor may take to publish what it has committed. Defaults to 1 s.
	Drain time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Batch == 0 {
		l.Batch = 8000
	}
	if l.Transactions == 0 {
		l.Transactions = 1
	}
	if l.Beside == 0 {
		l.Beside = 256
	}
	if l.Unpublished == 0 {
		l.Unpublished = 4 * l.Batch
	}
	if l.SweepRate == 0 {
		l.SweepRate = 2700
	}
	if l.Doubts == 0 {
		l.Doubts = 3
	}
	def(&l.PollWait, 100*time.Millisecond)
	def(&l.VerifyEvery, time.Hour)
	def(&l.DoubtPause, 500*time.Millisecond)
	def(&l.FencedPause, time.Second)
	def(&l.HaltedPause, 2*time.Second)
	def(&l.LookEvery, 5*time.Second)
	def(&l.SweepEvery, 500*time.Millisecond)
	def(&l.Drain, time.Second)
	return l
}

// Config says how a Processor works.
type Config struct {
	// Rules: the pinned partition count and the policies. Required.
	Rules Rules
	// Topic is the full name of the topic claims, as dead letters cite it. Required.
	Topic string
	// Signing is what the processor's own requests are signed with; the key is one of the Rules'. Required.
	Signing claims.SigningKey
	// Limits default one by one.
	Limits Limits
	// Clock defaults to the machine's.
	Clock Clock
	// Log defaults to none.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// Processor decides the claims of the partitions that its group assigns to it. Build it with New.
type Processor struct {
	group Group
	lane  *lane
	cfg   Config
	m     *metrics
}

// New builds a processor. It does no I/O.
func New(cfg Config, group Group, record Record, publisher Publisher, source Source) (*Processor, error) {
	if cfg.Rules.Partitions <= 0 || len(cfg.Rules.Policies) == 0 || cfg.Topic == "" {
		return nil, errors.New("processor: the rules (partition count, policies) and the topic's name are required")
	}
	if key, ok := cfg.Rules.Keys[cfg.Signing.ID]; !ok || !bytes.Equal(key, cfg.Signing.Secret) {
		return nil, errors.New("processor: a signing key that is one of the rules' keys is required")
	}
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Clock == nil {
		cfg.Clock = machineClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Processor{group: group, cfg: cfg, m: newMetrics(cfg.Metrics)}
	p.lane = newLane(cfg, source, record, publisher, p.m)
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(newGauges(p))
	}
	return p, nil
}

// Run decides until ctx ends; then it publishes what it has committed, as far as Limits.Drain lets it, and returns nil.
// The group is to be closed after it, so that whoever takes over finds nothing left to do.
func (p *Processor) Run(ctx context.Context) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopDrain := context.AfterFunc(ctx, func() { time.AfterFunc(p.cfg.Limits.Drain, cancel) })
	defer stopDrain()

	var wg sync.WaitGroup
	decided := make(chan struct{})
	wg.Go(func() {
		defer close(decided)
		p.lane.decideStage(ctx)
	})
	wg.Go(func() { p.lane.publishStage(hard, decided) })
	wg.Go(func() { p.report(ctx) })
	p.follow(ctx)
	wg.Wait()
	return nil
}

// follow hands on what each generation of the group assigns.
func (p *Processor) follow(ctx context.Context) {
	pause := newBackoff(p.cfg.Clock)
	for ctx.Err() == nil {
		a, err := p.group.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				p.m.trouble("group", err)
				p.cfg.Log.WarnContext(ctx, "no assignment from the consumer group yet", "err", err)
				p.cfg.Clock.Sleep(ctx, pause.step())
			}
			continue
		}
		pause = newBackoff(p.cfg.Clock)
		p.cfg.Log.InfoContext(ctx, "assigned", "generation", a.Generation, "partitions", fmt.Sprint(a.Partitions))
		p.lane.assign(a.Partitions, a.Live)
	}
}

// reportEvery is how often the group learns our offsets, for dashboards.
const reportEvery = 5 * time.Second

func (p *Processor) report(ctx context.Context) {
	for ctx.Err() == nil {
		p.cfg.Clock.Sleep(ctx, reportEvery)
		offsets := make(map[int32]int64)
		for _, s := range p.Status() {
			offsets[s.Partition] = s.NextOffset
		}
		if len(offsets) > 0 && ctx.Err() == nil {
			if err := p.group.Commit(offsets); err != nil {
				p.cfg.Log.DebugContext(ctx, "offsets were not reported to the group", "err", err)
			}
		}
	}
}

// machineClock is the machine's clock and chance.
type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (machineClock) Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

func (machineClock) NewID() uuid.UUID { return uuid.New() }
