package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/ops"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options say what a process does.
type Options struct {
	Config config.Config
	// API and Processor are the roles: one of them, or both.
	API, Processor bool
	Log            *slog.Logger
	// Dev: on embedded servers, as Dev starts them.
	Dev bool
	// Version and Revision are told to Prometheus.
	Version, Revision string
	// OnOutcome, if set, sees every outcome that is published, from one goroutine.
	OnOutcome func(registrations.Outcome)
	// OnReady, if set, is called once when everything runs, with the addresses it listens on.
	OnReady func(apiAddr, opsAddr string)
}

// Run runs the roles until ctx ends or a part fails, and stops them in the right order: HTTP first, while outcomes still
// come for those who wait; then the processor, which publishes what it has committed and leaves its group; then the rest.
func Run(ctx context.Context, o Options) error {
	registry := newRegistry(o)
	d, err := Open(o.Config, o.Log, registry)
	if err != nil {
		return err
	}
	defer d.Close()
	d.dev = o.Dev
	keys, err := authenticator(o)
	if err != nil {
		return err
	}
	r := &running{Options: o, d: d, registry: registry, parts: newStages(o.Log), prepared: make(chan struct{})}
	if err := r.start(ctx, keys); err != nil {
		err = errors.Join(err, r.parts.stopAll(ctx))
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // told to stop before everything was up
		}
		return err
	}
	return r.parts.wait(ctx)
}

// running is a process's parts.
type running struct {
	Options
	d        *Deployment
	registry *prometheus.Registry
	parts    *stages

	prepared  chan struct{} // closed when the fields below are set
	tail      *kafka.Tail
	claimer   *api.Claimer
	processor *processor.Processor
	opsAddr   string
}

func (r *running) start(ctx context.Context, keys api.Authenticator) error {
	if err := r.startOps(ctx); err != nil {
		return err
	}
	if err := r.d.Prepare(ctx); err != nil {
		return err
	}
	if err := r.d.checkInForce(ctx, r.Processor); err != nil {
		return err
	}
	if r.API {
		if err := r.d.startOutcomes(ctx, r.parts, r.OnOutcome); err != nil {
			return err
		}
		r.tail = r.d.tail
	} else {
		r.parts.start(ctx, "producer", r.d.producer.Run)
	}
	if r.Processor {
		if err := r.startProcessor(ctx); err != nil {
			return err
		}
	}
	apiAddr := ""
	if r.API {
		var err error
		if apiAddr, err = r.startAPI(ctx, keys); err != nil {
			return err
		}
	}
	close(r.prepared)
	if r.OnReady != nil {
		r.OnReady(apiAddr, r.opsAddr)
	}
	return nil
}

// startOutcomes starts what carries claims out and their outcomes back. It returns when the topic's position is known:
// from then on no outcome is missed.
func (d *Deployment) startOutcomes(ctx context.Context, parts *stages, also func(registrations.Outcome)) error {
	parts.start(ctx, "producer", d.producer.Run)
	d.tail = kafka.NewTail(d.Kafka, func(ctx context.Context, partition int32, r cloudevents.Record) {
		d.deliver(ctx, partition, r, also)
	})
	parts.start(ctx, "tail of registrations", d.tail.Run)
	parts.start(ctx, "waiter", d.Waiter.Run)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-d.tail.Ready():
		return nil
	case err := <-parts.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("position in %s: Kafka is %w: %w", d.Kafka.Registrations(), ErrUnreachable, ctx.Err())
	}
}

// deliver hands an outcome to whoever waits for it. Most are waited for elsewhere, and are not even decoded.
func (d *Deployment) deliver(ctx context.Context, partition int32, r cloudevents.Record, also func(registrations.Outcome)) {
	if also == nil {
		if id, ok := registrations.PeekRequestID(r.Value); ok && !d.Waiter.Waiting(id) {
			return
		}
	}
	o, err := registrations.Decode(r)
	if err != nil {
		d.log.WarnContext(ctx, "a record that is no outcome of ours is on registrations: only dibs may write there", "partition", partition, "err", err)
		return
	}
	d.Waiter.Deliver(o)
	if also != nil {
		also(o)
	}
}

// transactionsOf is in how many transactions at once a processor decides. One of the connections for deciding is left for
// taking over, and for what is written down between batches.
func transactionsOf(lanes, maxConns int) int {
	if lanes == 0 {
		lanes = runtime.GOMAXPROCS(0)
	}
	return min(lanes, max(1, postgres.Deciding(maxConns)-1))
}

func (r *running) startProcessor(ctx context.Context) error {
	if len(r.d.Keys.All) == 0 {
		return fmt.Errorf("the processor signs its own requests (a renamed name's release, an expiry), and %w", errNoRequestKeys)
	}
	cfg := r.Config.Processor
	retention, err := r.d.retention(ctx)
	if err != nil {
		return err
	}
	transactions := transactionsOf(cfg.Lanes, r.Config.Postgres.MaxConns)
	if transactions < cfg.Lanes {
		r.Log.WarnContext(ctx, "processor.lanes is more than the connections of postgres.max_conns are enough for", "lanes", cfg.Lanes, "used", transactions)
	}
	reader := kafka.NewReader(r.d.Kafka, kafka.ReaderConfig{})
	r.parts.start(ctx, "reader", reader.Run)
	// It is left behind the processor's last commit: whoever takes over finds nothing left to publish.
	group := kafka.NewGroup(r.d.Kafka, kafka.GroupConfig{ID: r.Config.Kafka.TopicPrefix + cfg.Group})
	r.parts.start(ctx, "group", group.Run)
	p, err := processor.New(processor.Config{
		Rules:   processor.Rules{Partitions: r.d.Contract.Partitions, Policies: r.d.Policies, Keys: r.d.Keys.All, Eraser: r.d.Eraser},
		Signing: r.d.Keys.Signing,
		Topic:   r.d.Kafka.Claims(),
		Limits:  processor.Limits{Batch: cfg.BatchMax, Retention: retention, Transactions: transactions},
		Log:     r.Log, Metrics: r.registry,
	}, group, r.d.Record, r.d.producer.Publisher(), reader)
	if err != nil {
		return err
	}
	r.processor = p
	r.parts.start(ctx, "processor", p.Run)
	return nil
}

// silence is for how long a leader may not answer the tail before claims on its partition are refused at once.
const silence = 3 * time.Second

// leaderAnswers says why a claim on a partition would not be answered: the partition's leader has not been heard of for a
// while.
func (d *Deployment) leaderAnswers(partition int32) error {
	if age := d.tail.Age(partition); age > silence {
		return fmt.Errorf("kafka has not answered for partition %d of %s for %s", partition, d.Kafka.Registrations(), age.Round(time.Second))
	}
	if stalled := d.Claims.Stalled(partition); stalled > silence {
		return fmt.Errorf("kafka has not taken a claim on partition %d of %s for %s", partition, d.Kafka.Claims(), stalled.Round(time.Second))
	}
	return nil
}

// startClaimer starts what claims names in this process.
func (r *running) startClaimer(ctx context.Context) (err error) {
	r.claimer, err = api.NewClaimer(api.ClaimerConfig{
		Partitions: r.d.Contract.Partitions, Policies: r.d.Policies, Registerer: r.registry, Log: r.Log,
		Check: r.d.leaderAnswers, ClockBound: r.d.ClockBound, Sign: r.d.Signer(func() api.Holding { return r.claimer.Holding() }),
		Peppers: r.d.Peppers, Erasure: api.ErasureConfig{Eraser: r.d.Eraser, Traces: r.d.Record, Topics: r.d.kept},
	}, r.d.Claims, r.d.Record, r.d.Waiter)
	if err != nil {
		return err
	}
	r.parts.start(ctx, "claimer", r.claimer.Run)
	return nil
}

// awaitClaimer returns when claims can be taken: a process that says it is ready refuses none for having just started.
func (r *running) awaitClaimer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		fault := r.claimer.Ready()
		if fault == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("claims cannot be taken: %w: %w", fault, ctx.Err())
		}
	}
}

func (r *running) startAPI(ctx context.Context, keys api.Authenticator) (string, error) {
	if err := r.startClaimer(ctx); err != nil {
		return "", err
	}
	if err := r.awaitClaimer(ctx); err != nil {
		return "", err
	}
	cfg := r.Config.API
	server, err := api.NewServer(api.Config{
		Addr: cfg.Addr, WaitDefault: cfg.WaitDefault, WaitMax: cfg.WaitMax, Rate: cfg.RatePerSec, Burst: cfg.RateBurst, LookupRate: cfg.LookupRate,
		Streams: kafka.NewStreams(r.d.Kafka), MaxStreams: cfg.MaxStreams, MaxConnections: cfg.MaxConns,
		Registerer: r.registry, Log: r.Log,
	}, r.claimer, keys)
	if err != nil {
		return "", err
	}
	if k, ok := keys.(*auth.Keys); ok {
		r.parts.start(ctx, "keys", k.Run)
	}
	ln, err := listen(ctx, cfg.Addr)
	if err != nil {
		return "", fmt.Errorf("api.addr: %w", err)
	}
	r.parts.start(ctx, "api", func(ctx context.Context) error { return server.Serve(ctx, ln) })
	return ln.Addr().String(), nil
}

func (r *running) startOps(ctx context.Context) error {
	ln, err := listen(ctx, r.Config.Ops.Addr)
	if err != nil {
		return fmt.Errorf("ops.addr: %w", err)
	}
	r.opsAddr = ln.Addr().String()
	cfg := ops.Config{Metrics: r.registry, Checks: r.checks(), Log: r.Log}
	if r.Processor {
		cfg.Views = map[string]func() any{"partitions": func() any {
			if !r.isPrepared() {
				return []PartitionStatus{}
			}
			return partitionStatus(r.processor.Status(), time.Now())
		}}
	}
	server := ops.New(cfg)
	r.parts.start(ctx, "ops", func(ctx context.Context) error { return server.Serve(ctx, ln) })
	return nil
}

// checks are what readiness asks, by name. Those of parts that are not there yet say so.
func (r *running) checks() []ops.Check {
	checks := []ops.Check{
		{Name: "started", Ready: func(context.Context) error {
			if !r.isPrepared() {
				return errors.New("waiting for Kafka and Postgres, or checking them")
			}
			return nil
		}},
		{Name: "postgres", Ready: r.d.Record.Ping},
		{Name: "kafka", Ready: func(ctx context.Context) error {
			_, err := r.d.Kafka.Partitions(ctx, r.d.Kafka.Claims())
			return err
		}},
	}
	if r.API {
		checks = append(checks,
			ops.Check{Name: "registrations", Ready: func(context.Context) error {
				if !r.isPrepared() {
					return errors.New("not read yet")
				}
				if n := r.tail.Behind(); n > maxBehind {
					return fmt.Errorf("%d outcomes behind", n)
				}
				return nil
			}},
			ops.Check{Name: "peppers", Advisory: true, Ready: func(context.Context) error {
				if !r.isPrepared() {
					return nil // no policy is known yet
				}
				return r.d.Peppers.Lacking(r.claimer.Policies())
			}},
			ops.Check{Name: "claims", Ready: func(context.Context) error {
				if !r.isPrepared() {
					return errors.New("not taken yet")
				}
				return r.claimer.Ready()
			}},
		)
	}
	if r.Processor {
		checks = append(checks, ops.Check{Name: "deciding", Ready: func(context.Context) error {
			if !r.isPrepared() {
				return nil // which "started" says
			}
			return databaseFault(r.processor.Status(), time.Now())
		}}, ops.Check{Name: "partitions", Advisory: true, Ready: func(context.Context) error {
			if !r.isPrepared() {
				return errors.New("not owned yet")
			}
			return partitionFault(r.processor.Status(), time.Now())
		}})
	}
	return checks
}

// maxBehind is how many outcomes a replica may have to catch up with and still be called ready.
const maxBehind = 50_000

func (r *running) isPrepared() bool {
	select {
	case <-r.prepared:
		return true
	default:
		return false
	}
}

func authenticator(o Options) (api.Authenticator, error) {
	if !o.API {
		return nil, nil
	}
	if o.Config.API.Auth == "none" {
		return auth.None{}, nil
	}
	if o.Config.API.KeysFile == "" {
		return nil, errors.New("api.keys_file is not set: make a key with dibs keys new, or set api.auth to none to serve loopback without keys")
	}
	keys := auth.NewKeys(auth.KeysConfig{Path: o.Config.API.KeysFile, Log: o.Log})
	return keys, keys.Load()
}

func newRegistry(o Options) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dibs_build_info", Help: "1, with the version in its labels."}, []string{"version", "revision", "goversion"})
	info.WithLabelValues(o.Version, o.Revision, runtime.Version()).Set(1)
	registry.MustRegister(info)
	return registry
}
