package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
	"github.com/google/uuid"
)

// Claim asks for a name.
type Claim struct {
	Space string // "username" if left out
	Name  string
	// Fields are what is unique together, in a private space of several fields, in place of a name.
	Fields map[string]string
	Owner  string
	// ExpectedVersion, if set, is the version that the name must have; 0 for never held or free.
	ExpectedVersion *int64
	// ReturnExisting accepts a name that the owner holds already, instead of rejecting it as taken. It does not go with
	// Replaces.
	ReturnExisting bool
	// Replaces makes it a rename: the owner gives up that name when it has this one for good.
	Replaces *Replaces
	// WithdrawOnTimeout undoes a claim that is not decided within the time there is, at most half a minute: its state is
	// Withdrawn then.
	WithdrawOnTimeout bool
	Metadata          map[string]string

	// IdempotencyKey, or ID, a UUID of version 4 or 7, is the identity of the claim: asking again with it asks for the
	// same claim. Without either the call makes one up, for its own tries.
	IdempotencyKey string
	ID             string

	reserve bool
	ttl     time.Duration
}

// Replaces is the name that a claim gives up, in the same space. Without a Version it is the one that it has now.
type Replaces struct {
	Name    string
	Version int64
}

// State is what became of a claim, or of what else was asked.
type State string

// The states of a claim.
const (
	Pending     State = "pending" // in the log; it will be decided
	Accepted    State = "accepted"
	Rejected    State = "rejected"
	Withdrawing State = "withdrawing" // its withdrawal is in the log; it will be decided
	Withdrawn   State = "withdrawn"   // since it was accepted, or because its wait had run out
)

// decided reports whether there is nothing more to come.
func (s State) decided() bool { return s != Pending && s != Withdrawing }

// Result is what was asked, and what became of it. As JSON it reads like the API's own.
type Result struct {
	// ID is that of the claim that it is about, RequestID that of what was asked: of a claim they are the same.
	ID        string `json:"claim_id,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Type is what was asked, such as UsernameClaimed; empty where that is not known.
	Type  string `json:"type,omitempty"`
	State State  `json:"state,omitempty"`
	Space string `json:"space,omitempty"`
	Name  string `json:"name,omitempty"`
	Key   string `json:"key,omitempty"`
	Owner string `json:"owner,omitempty"`
	// Version is that of the name, if accepted.
	Version int64 `json:"version,omitempty"`
	// ExpiresAt is until when the name is reserved, or cools down.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Reason and Detail say why it was rejected; CurrentVersion is the version that a version_conflict found.
	Reason         string    `json:"reason,omitempty"`
	Detail         string    `json:"detail,omitempty"`
	CurrentVersion int64     `json:"current_version,omitempty"`
	DecidedAt      time.Time `json:"decided_at,omitzero"`
	// FollowUp is the release of the name that was given up for this one; nil for none.
	FollowUp *FollowUp `json:"follow_up,omitempty"`
	// Position is where the claim is in the log, "<partition>-<log epoch>-<offset>"; not known of all rejections.
	Position string `json:"position,omitempty"`
	// Replayed says that the outcome is that of an earlier request with the same identity.
	Replayed bool `json:"replayed,omitempty"`
}

// FollowUp is the release of a name that was given up for another one. It comes behind: Get the claim to learn more.
type FollowUp struct {
	RequestID string        `json:"request_id"`
	Space     string        `json:"space"`
	Key       string        `json:"key"`
	Version   int64         `json:"version"` // that the name must have
	State     FollowUpState `json:"state"`
	// Reason and Detail say why it was rejected: the owner has both names.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// FollowUpState is what became of a follow-up: pending, released or rejected.
type FollowUpState string

// The states of a follow-up.
const (
	FollowUpPending  FollowUpState = "pending"
	FollowUpReleased FollowUpState = "released"
	FollowUpRejected FollowUpState = "rejected"
)

// Claim claims a name and waits for the outcome, until ctx ends. What fails on the way is tried again, as the same claim.
//
// A rejection is a result. With ErrUndecided the result says as much as is known: at least the ID, if the claim is known
// to be in the log, and Await waits for it.
func (c *Client) Claim(ctx context.Context, claim Claim) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	result, err := c.submit(ctx, claim, true)
	if err != nil || result.State.decided() {
		return result, err
	}
	return c.await(ctx, result)
}

// Reserve claims a name for a while, and waits for the outcome as Claim does. Confirm it before it expires, at ExpiresAt.
// A ttl of 0 is as long as the space says.
func (c *Client) Reserve(ctx context.Context, claim Claim, ttl time.Duration) (Result, error) {
	claim.reserve, claim.ttl = true, ttl
	return c.Claim(ctx, claim)
}

// Submit claims a name and returns when the claim is in the log, or with the outcome if that is there.
func (c *Client) Submit(ctx context.Context, claim Claim) (Result, error) {
	if claim.WithdrawOnTimeout {
		return Result{}, errors.New("submit: WithdrawOnTimeout needs a wait")
	}
	ctx, cancel := c.limited(ctx)
	defer cancel()
	return c.submit(ctx, claim, false)
}

// SubmitReserve is Reserve that returns when the claim is in the log, as Submit does.
func (c *Client) SubmitReserve(ctx context.Context, claim Claim, ttl time.Duration) (Result, error) {
	claim.reserve, claim.ttl = true, ttl
	return c.Submit(ctx, claim)
}

// Await waits until a claim, or what else was asked, is decided or ctx ends: then the error is ErrUndecided, and the result as it was.
func (c *Client) Await(ctx context.Context, pending Result) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	return c.await(ctx, pending)
}

// Get reads what became of a claim, or of another request by its RequestID. One that is not decided yet is a *Problem with the reason unknown_claim, unless its
// position is known: for that, Await a result.
func (c *Client) Get(ctx context.Context, id string) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	result, err := c.get(ctx, Result{ID: id}, false)
	if err != nil {
		return Result{}, fmt.Errorf("get claim %s: %w", id, err)
	}
	return result, nil
}

func (c *Client) submit(ctx context.Context, claim Claim, wait bool) (Result, error) {
	if claim.ID == "" && claim.IdempotencyKey == "" {
		claim.IdempotencyKey = uuid.NewString()
	}
	body := claim.body()
	known := Result{ID: claim.ID, Space: claim.Space, Name: claim.Name, Owner: claim.Owner}
	result, err := c.ask(ctx, wait, known, func(ctx context.Context, prefer string) (*http.Response, error) {
		if claim.WithdrawOnTimeout && prefer == async {
			prefer = preferWait(time.Second)
		}
		return c.wire.CreateClaim(ctx, &wire.CreateClaimParams{IdempotencyKey: optional(claim.IdempotencyKey), Prefer: &prefer}, body)
	})
	if err != nil {
		return result, fmt.Errorf("claim: %w", err)
	}
	return result, nil
}

// async is the preference not to wait.
const async = "respond-async"

// ask makes a request that publishes something, until it is answered. known is what the caller has said.
func (c *Client) ask(ctx context.Context, wait bool, known Result, do func(ctx context.Context, prefer string) (*http.Response, error)) (Result, error) {
	answer, err := c.try(ctx, request{waits: wait, publishes: true, do: func(ctx context.Context, wait time.Duration) (*http.Response, error) {
		prefer := async
		if wait > 0 {
			prefer = preferWait(wait)
		}
		return do(ctx, prefer)
	}})
	if err != nil {
		if p := (*Problem)(nil); errors.As(err, &p) && p.ClaimID != "" {
			known.ID, known.RequestID = p.ClaimID, p.RequestID
		}
		if errors.Is(err, ErrUndecided) && known.ID+known.RequestID != "" {
			known.State = Pending
		}
		return known, err
	}
	result, err := answer.claim()
	if err != nil {
		return known, err
	}
	if result.Space == "" { // a problem names nothing
		result.Space, result.Name, result.Owner = known.Space, known.Name, known.Owner
	}
	return result, nil
}

func (c *Client) await(ctx context.Context, pending Result) (Result, error) {
	return await(ctx, "claim "+pending.request(), pending, func() (Result, State, error) {
		r, err := c.get(ctx, pending, true)
		return r, r.State, err
	})
}

// await asks again and again what became of a request, until it is decided or ctx ends.
func await[R any](ctx context.Context, what string, pending R, get func() (R, State, error)) (R, error) {
	for pause := firstPause; ; {
		start := time.Now()
		result, state, err := get()
		switch {
		case err == nil && state.decided():
			return result, nil
		case ctx.Err() != nil:
			return pending, fmt.Errorf("await %s: %w: %w", what, ErrUndecided, ctx.Err())
		case err != nil:
			return pending, fmt.Errorf("await %s: %w", what, err)
		case time.Since(start) < time.Second: // the API did not wait: it is stopping, or our own time is short
			_ = sleep(ctx, pause) // what it says is seen above
			pause = min(2*pause, longestPause)
		}
	}
}

// request is the id by which it can be read.
func (r *Result) request() string {
	if r.RequestID != "" {
		return r.RequestID
	}
	return r.ID
}

// get reads what became of a request. With wait the API holds the answer back until it is decided, or the wait is over.
func (c *Client) get(ctx context.Context, of Result, wait bool) (Result, error) {
	params := wire.GetClaimParams{At: optional(of.Position)}
	if of.State == Withdrawing && of.Position != "" {
		params.OnTimeout = new(wire.GetClaimParamsOnTimeoutWithdraw)
	}
	answer, err := c.try(ctx, request{waits: wait, follows: true, do: func(ctx context.Context, wait time.Duration) (*http.Response, error) {
		params := params
		if wait > 0 {
			params.Prefer = new(preferWait(wait))
		}
		return c.wire.GetClaim(ctx, of.request(), &params)
	}})
	if err != nil {
		return Result{}, err
	}
	if answer.problem != nil {
		return Result{}, answer.problem
	}
	return answer.claim()
}

func (c *Claim) body() wire.ClaimRequest {
	b := wire.ClaimRequest{Name: &c.Name, Owner: c.Owner, ExpectedVersion: c.ExpectedVersion, Metadata: c.Metadata}
	b.Space = optional(c.Space)
	if c.Fields != nil {
		b.Name, b.Fields = optional(c.Name), (*wire.Fields)(&c.Fields)
	}
	if c.reserve {
		b.Mode = new(wire.Reserve)
		b.TTLSeconds = optional(int64(c.ttl / time.Second))
	}
	if r := c.Replaces; r != nil {
		b.Replaces = &wire.Replaces{Name: r.Name, Version: optional(r.Version)}
	}
	if c.WithdrawOnTimeout {
		b.OnTimeout = new(wire.ClaimRequestOnTimeoutWithdraw)
	}
	if c.ReturnExisting {
		b.OnConflict = new(wire.ReturnExisting)
	}
	b.ClaimID = optional(c.ID)
	return b
}

func preferWait(wait time.Duration) string { return fmt.Sprintf("wait=%d", int(wait.Seconds())) }

// optional is nil for a zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
