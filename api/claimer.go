package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Source is the ce_source of the claims that come in here.
const Source = "dibs/api"

// ClaimerConfig says what a Claimer goes by. Partitions and Policies are required.
type ClaimerConfig struct {
	// Partitions is the pinned count of the routing contract.
	Partitions int
	// Policies are those that hold from the start of every log. What the log has said since comes from the partitions' rows.
	Policies names.Policies
	// PublishTimeout is how long Kafka has to take a claim, for those who wait less than that. Defaults to 5 s.
	PublishTimeout time.Duration
	// Check says why no claim on a partition can be taken now, nil where one can: its leader is away. It is asked for
	// every claim and must be cheap. Nil: always.
	Check func(partition int32) error
	// ClockBound is how far a producer's clock may run ahead of the brokers': what deadlines allow for. Defaults to 10 s.
	ClockBound time.Duration
	// Peppers are what the keys of private spaces are made with. What needs one that is missing, or another, is refused.
	Peppers names.Peppers
	// Sign signs requests. All are: where every request has to be, from some record on, nobody hears of it in time.
	// Without it none is, and those of actors are refused.
	Sign func(cloudevents.Record) cloudevents.Record
	// Erasure is what erasures need; without it they are refused.
	Erasure ErasureConfig
	// Now is the clock of ce_time and of deadlines. Defaults to time.Now.
	Now func() time.Time
	// NewID makes the ids of claims that come without one. Defaults to random ones of version 7.
	NewID func() uuid.UUID
	// Registerer gets the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
	// Log gets what is wrong and what actors ask for, without names. Nil discards.
	Log *slog.Logger
}

const (
	defaultPublishTimeout = 5 * time.Second
	defaultClockBound     = 10 * time.Second
)

// errStopping is the cause that ends a ctx when the process stops: what is being published is given up as unknown.
var errStopping = errors.New("the server is stopping")

// Claimer claims names, asks for what can be done with them, and reads what became of it. It is safe for concurrent use; Run must run.
type Claimer struct {
	cfg       ClaimerConfig
	claims    Claims
	lookup    Lookup
	waiter    *registrations.Waiter
	standings standings
	metrics   *claimerMetrics
}

// NewClaimer makes a Claimer.
func NewClaimer(cfg ClaimerConfig, c Claims, lookup Lookup, waiter *registrations.Waiter) (*Claimer, error) {
	if cfg.Partitions <= 0 {
		return nil, fmt.Errorf("claimer: %d partitions: the pinned count is required", cfg.Partitions)
	}
	if len(cfg.Policies) == 0 {
		return nil, errors.New("claimer: policies are required")
	}
	if cfg.PublishTimeout <= 0 {
		cfg.PublishTimeout = defaultPublishTimeout
	}
	if cfg.ClockBound <= 0 {
		cfg.ClockBound = defaultClockBound
	}
	if cfg.Check == nil {
		cfg.Check = func(int32) error { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Claimer{
		cfg: cfg, claims: c, lookup: lookup, waiter: waiter,
		standings: standings{lookup: lookup, log: cfg.Log, start: cfg.Policies, pinned: cfg.Partitions, peppers: cfg.Peppers},
		metrics:   newClaimerMetrics(cfg.Registerer, waiter),
	}, nil
}

// Run keeps what is known of the partitions fresh until ctx ends. Until it has read them once, and while they cannot be
// read, claims are refused.
func (c *Claimer) Run(ctx context.Context) error {
	c.standings.run(ctx)
	return nil
}

// Policies are those that hold, as far as is known: see Hold. They are never changed; ask again for the ones of now.
func (c *Claimer) Policies() names.Policies { return c.standings.holding().Policies }

// Holding is all that holds, as far as is known.
func (c *Claimer) Holding() Holding { return c.standings.holding() }

// Ready reports why all claims are refused, nil if those of some partition are not.
func (c *Claimer) Ready() error {
	if err := c.standings.fresh(); err != nil {
		return err
	}
	var fault error
	for p := range int32(c.cfg.Partitions) {
		if fault = c.cfg.Check(p); fault == nil {
			return nil
		}
	}
	return fault
}
