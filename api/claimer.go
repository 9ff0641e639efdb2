package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dibs-hq/dibs/claims"
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
	Policies   names.Policies
	// PublishTimeout is how long Kafka has to take a claim, for those who wait less than that. Defaults to 5 s.
	PublishTimeout time.Duration
	// Check says why no claim can be taken now, nil where one can: Kafka is gone, the routing contract is broken. It is
	// asked for every claim and must be cheap. Nil: always.
	Check func() error
	// Now is the clock of ce_time. Defaults to time.Now.
	Now func() time.Time
	// NewID makes the ids of claims that come without one. Defaults to random ones of version 7.
	NewID func() uuid.UUID
	// Registerer gets the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
	// Log gets what is wrong, without names. Nil discards.
	Log *slog.Logger
}

const defaultPublishTimeout = 5 * time.Second

// errStopping is the cause that ends a ctx when the process stops: what is being published is given up as unknown.
var errStopping = errors.New("the server is stopping")

// Claimer claims names and reads what became of it. It is safe for concurrent use; Run must run.
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
	if cfg.Check == nil {
		cfg.Check = func() error { return nil }
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
		standings: standings{lookup: lookup, log: cfg.Log},
		metrics:   newClaimerMetrics(cfg.Registerer, waiter),
	}, nil
}

// Run keeps what is known of the partitions fresh until ctx ends. Until it has read them once, and while they cannot be
// read, claims are refused.
func (c *Claimer) Run(ctx context.Context) error {
	c.standings.run(ctx)
	return nil
}

// Ready reports why claims are refused, nil if they are not.
func (c *Claimer) Ready() error {
	if err := c.cfg.Check(); err != nil {
		return err
	}
	return c.standings.fresh()
}

// Result is what became of a claim, as far as it is known.
type Result struct {
	RequestID uuid.UUID
	Ref       names.Ref
	Name      string // as typed
	Owner     string
	// Outcome is the answer of the log; nil while it is pending.
	Outcome *registrations.Outcome
	// Replayed: the outcome is that of an earlier request with the same id.
	Replayed bool
	// Position is where the claim was written, while it is pending.
	Position Position
}

// Claim publishes a claim and waits for its outcome, at most that long; with 0 it returns when Kafka has the claim.
//
// A rejection is an outcome. The error is a *Refused, or that of a ctx that had ended before anything was done. A ctx
// that ends later ends the wait, not the claim.
func (c *Claimer) Claim(ctx context.Context, principal string, r Request, wait time.Duration) (Result, error) {
	start := time.Now()
	claim, ref, err := r.check(c.cfg.Policies)
	if err != nil {
		return Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	partition := claims.Partition(ref.String(), c.cfg.Partitions)
	known, err := c.open(partition)
	if err != nil {
		return Result{}, err
	}
	id := c.requestID(&r, principal, ref)
	ticket, err := c.waiter.Expect(id, partition)
	if err != nil {
		return Result{}, &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: err}
	}
	defer ticket.Release()

	event := cloudevents.Event{ID: id, Source: Source, Principal: principal, Time: c.cfg.Now()}
	offset, published := c.publish(ctx, partition, claim.Record(event, ref, r.Trace...), wait)
	if published == nil || errors.Is(published, ErrUnknown) {
		c.await(ctx, ticket, wait-time.Since(start))
	}
	result := Result{
		RequestID: id, Ref: ref, Name: r.Name, Owner: r.Owner,
		Position: Position{Partition: partition, LogEpoch: known.LogEpoch, Offset: offset},
	}
	o, ok := ticket.Outcome()
	switch {
	case ok:
		c.metrics.endToEnd.Observe(time.Since(start).Seconds())
		if r.repeatable() {
			if o.RequestHash != claim.Hash(ref, principal, c.cfg.Policies) {
				return Result{}, &Refused{Reason: IdempotencyMismatch, ClaimID: id}
			}
			// Where our own record is the second copy of a claim, it is at another place than the one that was decided.
			result.Replayed = published == nil && (o.Partition != partition || o.Offset != offset)
		}
		if result.Replayed {
			c.metrics.replays.Inc()
		}
		result.Outcome = &o
		return result, nil
	case published == nil:
		return result, nil
	case errors.Is(published, ErrBusy):
		return Result{}, &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: published}
	case errors.Is(published, ErrNotPublished):
		return Result{}, unavailable(published)
	default:
		return Result{}, &Refused{Reason: OutcomeUnknown, ClaimID: id, RetryAfter: time.Second, Err: published}
	}
}

// open checks that a claim on the partition can be taken now, and returns what is known of the partition.
func (c *Claimer) open(partition int32) (Partition, error) {
	if err := c.Ready(); err != nil {
		return Partition{}, unavailable(err)
	}
	p := c.standings.of(partition)
	if p.Halted != "" {
		return Partition{}, &Refused{
			Reason: PartitionHalted, RetryAfter: 30 * time.Second,
			Detail: fmt.Sprintf("partition %d is halted until an operator lets it go on; nothing was published", partition),
			Err:    errors.New(p.Halted),
		}
	}
	return p, nil
}

func (c *Claimer) requestID(r *Request, principal string, ref names.Ref) uuid.UUID {
	switch {
	case r.ClaimID != uuid.Nil:
		return r.ClaimID
	case r.IdempotencyKey != "":
		return derivedID(principal, operationClaim, "", ref, r.IdempotencyKey)
	default:
		return c.cfg.NewID()
	}
}

// publish writes the record, also for a caller that goes away meanwhile: whether the claim is in the log is not left
// open for that. What is wrong and says neither that nothing was written nor that it is unknown, is unknown.
func (c *Claimer) publish(ctx context.Context, partition int32, r cloudevents.Record, wait time.Duration) (int64, error) {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(wait, c.cfg.PublishTimeout))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errStopping) {
			cancel()
		}
	})()
	c.metrics.received.Inc()
	offset, err := c.claims.Publish(detached, partition, r)
	if err != nil && !errors.Is(err, ErrNotPublished) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return offset, err
}

// await waits until the outcome is there, the wait is over or ctx ends.
func (c *Claimer) await(ctx context.Context, ticket *registrations.Ticket, wait time.Duration) {
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ticket.Done():
	case <-ctx.Done():
	case <-timer.C:
		c.metrics.timeouts.Inc()
	}
}
