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
	// Check says why no claim on a partition can be taken now, nil where one can: its leader is away. It is asked for
	// every claim and must be cheap. Nil: always.
	Check func(partition int32) error
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
	c.metrics.received.Inc()
	pub, err := c.claims.Start(partition, claim.Record(event, ref, r.Trace...))
	if err != nil {
		return Result{}, c.refused(id, err)
	}
	published := c.await(ctx, start, wait, ticket, pub)
	result := Result{RequestID: id, Ref: ref, Name: r.Name, Owner: r.Owner}
	o, ok := ticket.Outcome()
	switch {
	case ok:
		c.metrics.endToEnd.Observe(time.Since(start).Seconds())
		if r.repeatable() {
			if o.RequestHash != claim.Hash(ref, principal, c.cfg.Policies) {
				return Result{}, &Refused{Reason: IdempotencyMismatch, ClaimID: id}
			}
			result.Replayed = elsewhere(ctx, pub, published, &o, partition)
		}
		if result.Replayed {
			c.metrics.replays.Inc()
		}
		result.Outcome = &o
		return result, nil
	case published != nil:
		return Result{}, c.refused(id, published)
	}
	offset, _ := pub.Result()
	if offset < known.NextOffset {
		// The log we knew of was further than that: this one is another, and its partition is about to be halted. The claim
		// is in it, and will not be decided before an operator says so.
		return Result{}, &Refused{Reason: OutcomeUnknown, ClaimID: id, RetryAfter: time.Second, Err: errOtherLog}
	}
	result.Position = Position{Partition: partition, LogEpoch: known.LogEpoch, Offset: offset}
	return result, nil
}

// await waits until the outcome is there, and at most so long; behind that only until it is known whether the claim is
// in the log, which is what is to be told instead. The error is that it is not, or that it is not known.
func (c *Claimer) await(ctx context.Context, start time.Time, wait time.Duration, ticket *registrations.Ticket, pub Publication) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	failed := pub.Failed()
	for {
		select {
		case <-ticket.Done():
			return nil
		case <-failed:
			if _, err := pub.Result(); errors.Is(err, ErrNotPublished) {
				return err
			}
			failed = nil // it may be in the log all the same: then its outcome comes
			continue
		case <-ctx.Done():
		case <-timer.C:
			if wait > 0 {
				c.metrics.timeouts.Inc()
			}
		}
		break
	}
	patience := max(0, c.cfg.PublishTimeout-time.Since(start))
	if ctx.Err() != nil {
		return c.leave(ctx, patience, pub)
	}
	timer.Reset(patience)
	select {
	case <-ticket.Done():
		return nil
	case <-pub.Settled():
		_, err := pub.Result()
		return err
	case <-ctx.Done():
		return c.leave(ctx, max(0, c.cfg.PublishTimeout-time.Since(start)), pub)
	case <-timer.C:
		_, err := pub.GiveUp(errSlow)
		return err
	}
}

var (
	errSlow     = errors.New("no acknowledgement in time")
	errOtherLog = errors.New("the claim is in another log than the one that is decided")
)

// leave ends the wait for a caller who has gone. What was to be published is published all the same, if that is soon:
// whoever asks again under the same key finds it. Where the process is stopping, nothing is.
func (c *Claimer) leave(ctx context.Context, patience time.Duration, pub Publication) error {
	if errors.Is(context.Cause(ctx), errStopping) {
		_, err := pub.GiveUp(errStopping)
		return err
	}
	time.AfterFunc(patience, func() { _, _ = pub.GiveUp(context.Cause(ctx)) })
	_, err := pub.Result()
	return err
}

// elsewhere reports whether an outcome is that of another record than ours: of an earlier one, where ours is its copy or
// was not written. The acknowledgement that tells is there before the outcome, but for few; it is waited for a moment,
// unless the wait for it has ended with an error.
func elsewhere(ctx context.Context, pub Publication, published error, o *registrations.Outcome, partition int32) bool {
	if o.Partition != partition {
		return true
	}
	offset, err := pub.Result()
	if err != nil && published == nil {
		timer := time.NewTimer(ackWait)
		defer timer.Stop()
		select {
		case <-pub.Settled():
			offset, err = pub.Result()
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return errors.Is(err, ErrNotPublished) || err == nil && o.Offset != offset
}

// ackWait is how long the answer is held to find out whether it is one that was given before.
const ackWait = time.Second

// refused says why a claim was not taken. What is wrong and says neither that nothing was written nor that it is
// unknown, is unknown.
func (c *Claimer) refused(id uuid.UUID, err error) error {
	switch {
	case errors.Is(err, ErrBusy):
		return &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: err}
	case errors.Is(err, ErrNotPublished):
		return unavailable(err)
	}
	if !errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return &Refused{Reason: OutcomeUnknown, ClaimID: id, RetryAfter: time.Second, Err: err}
}

// open checks that a claim on the partition can be taken now, and returns what is known of the partition.
func (c *Claimer) open(partition int32) (Partition, error) {
	if err := c.standings.fresh(); err != nil {
		return Partition{}, unavailable(err)
	}
	if err := c.cfg.Check(partition); err != nil {
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
