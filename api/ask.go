package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Result is what became of a request, as far as it is known.
type Result struct {
	RequestID uuid.UUID
	// Type is what was asked, its ce_type; empty where that is not known.
	Type string
	// ClaimID is the claim that it is about; zero where that is not known.
	ClaimID uuid.UUID
	Ref     names.Ref
	Name    string // as typed
	Owner   string
	// Outcome is the answer of the log; nil while it is pending.
	Outcome *registrations.Outcome
	// Replayed: the outcome is that of an earlier request with the same id.
	Replayed bool
	// Withdrawal is what undid the claim; nil for nothing.
	Withdrawal *registrations.Outcome
	// FollowUp is what it gave up for its name; nil for nothing.
	FollowUp *GivenUp
	// Withdrawing: that is in the log, at Position, and not decided yet. Until it is, the Outcome is not the last word.
	Withdrawing bool
	// Position is where the request was written, as far as it is known.
	Position Position

	// notWithdrawn: there was a withdrawal, which was refused.
	notWithdrawn bool
}

// asking is a request on its way to the log: everything about it is checked.
type asking struct {
	principal string
	body      claims.Body
	ref       names.Ref
	id        uuid.UUID
	// repeatable: another request may have the same id.
	repeatable bool
	// filled: the version of what the claim replaces is our own, of a look-up; it is no part of what the caller asked.
	filled bool
	trace  []cloudevents.Header
}

// result is what is known of a request before it is decided.
func (a *asking) result() Result {
	claim, owner := subject(a.body)
	if claim == uuid.Nil && a.body.Type() == claims.TypeUsernameClaimed {
		claim = a.id
	}
	_, spelling := a.body.Name()
	return Result{RequestID: a.id, Type: a.body.Type(), ClaimID: claim, Ref: a.ref, Name: spelling, Owner: owner}
}

// ask publishes a request and waits for its outcome, at most that long; with 0 it returns when Kafka has the request. It
// is the one way into the log.
//
// A rejection is an outcome. The error is a *Refused, or that of a ctx that had ended before anything was done. A ctx
// that ends later ends the wait, not the request.
func (c *Claimer) ask(ctx context.Context, a *asking, wait time.Duration) (Result, error) {
	start := time.Now()
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	partition := claims.Partition(a.ref.String(), c.cfg.Partitions)
	known, err := c.open(partition)
	if err != nil {
		return Result{}, err
	}
	ticket, err := c.waiter.Expect(a.id, partition)
	if err != nil {
		return Result{}, &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: err}
	}
	defer ticket.Release()

	event := cloudevents.Event{ID: a.id, Source: Source, Principal: a.principal, Time: c.cfg.Now()}
	isClaim := a.body.Type() == claims.TypeUsernameClaimed
	if isClaim {
		c.metrics.received.Inc()
	}
	record := claims.NewRecord(a.body, event, a.ref, a.trace...)
	if c.cfg.Sign != nil {
		record = c.cfg.Sign(record)
	}
	pub, err := c.claims.Start(partition, record)
	if err != nil {
		return Result{}, c.refused(a.id, err)
	}
	published := c.await(ctx, start, wait, ticket, pub)
	result := a.result()
	o := ticket.Outcome()
	switch {
	case o != nil:
		if isClaim {
			c.metrics.endToEnd.Observe(time.Since(start).Seconds())
		}
		if a.repeatable {
			if !c.same(a, o.RequestHash) {
				return Result{}, &Refused{Reason: IdempotencyMismatch, ClaimID: a.id}
			}
			result.Replayed = elsewhere(ctx, pub, published, o, partition, known.LogEpoch)
		}
		if result.Replayed {
			c.metrics.replays.Inc()
		}
		if result.Outcome = o; !result.Replayed {
			return result, nil // where the record is does not matter any more
		}
	case published != nil:
		return Result{}, c.refused(a.id, published)
	}
	offset, err := pub.Result()
	switch {
	case err == nil && o == nil && offset < known.NextOffset:
		// The log we knew of was further than that: this one is another, and its partition is about to be halted. The claim
		// is in it, and will not be decided before an operator says so.
		return Result{}, &Refused{Reason: OutcomeUnknown, ClaimID: a.id, RetryAfter: time.Second, Err: errOtherLog}
	case err == nil:
		result.Position = Position{Partition: partition, LogEpoch: known.LogEpoch, Offset: offset}
	}
	return result, nil
}

// nearby is how far apart the versions may be that two requests of one caller filled in.
const nearby = 256

// same reports whether a hash is that of what is asked. Where we have filled in the version of what is replaced, an
// earlier request of the same caller may have another.
func (c *Claimer) same(a *asking, hash claims.Hash) bool {
	policies := c.Policies()
	asks := func(body claims.Body) bool {
		if claims.HashOf(body, a.ref, a.principal, policies) == hash {
			return true
		}
		// By the policy that the log had come to it may have been no name, or of no space: then it counts as it was typed.
		typed := names.Ref{Space: a.ref.Space, Key: names.Key(a.ref.String() + "\x00" + claims.Asked(body))}
		return claims.HashOf(body, typed, a.principal, policies) == hash || claims.HashOf(body, typed, a.principal, nil) == hash
	}
	if asks(a.body) {
		return true
	}
	claim, ok := a.body.(*claims.UsernameClaimed)
	if !ok || !a.filled {
		return false
	}
	other, replaces := *claim, *claim.Replaces
	other.Replaces = &replaces
	for v := max(1, claim.Replaces.Version-nearby); v <= claim.Replaces.Version+nearby; v++ {
		if replaces.Version = v; asks(&other) {
			return true
		}
	}
	return false
}

// await waits until the outcome is there, and at most so long; behind that only until it is known whether the claim is
// in the log, which is what is to be told instead. The error is that it is not, or that it is not known.
func (c *Claimer) await(ctx context.Context, start time.Time, wait time.Duration, ticket *registrations.Ticket, pub Publication) error {
	timer := time.NewTimer(min(wait, failureAfter))
	defer timer.Stop()
	var failed <-chan struct{}
	later := max(0, wait-failureAfter)
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
			if later > 0 {
				failed = pub.Failed()
				timer.Reset(later)
				later = 0
				continue
			}
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

// failureAfter is when a wait begins to look whether the record fails. Nearly all outcomes are there by then, and one channel
// less to wait on is less work for each.
const failureAfter = 200 * time.Millisecond

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
	_, err := pub.Result()
	if err != nil { // else there is nothing to give up, and to remember for so long
		cause := context.Cause(ctx) // of the request no more is kept than that
		time.AfterFunc(patience, func() { _, _ = pub.GiveUp(cause) })
	}
	return err
}

// elsewhere reports whether an outcome is that of another record than ours: of an earlier one, where ours is its copy or
// was not written. The acknowledgement that tells is there before the outcome, but for few; it is waited for a moment,
// unless the wait for it has ended with an error.
func elsewhere(ctx context.Context, pub Publication, published error, o *registrations.Outcome, partition int32, logEpoch int64) bool {
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
	if o.Request == signupShort { // it is decided by what comes behind it: only one that was there before is not ours
		return errors.Is(err, ErrNotPublished) || err == nil && (o.LogEpoch < logEpoch || o.LogEpoch == logEpoch && o.Offset < offset)
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
