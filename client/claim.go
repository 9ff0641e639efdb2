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
	Owner string
	// ExpectedVersion, if set, is the version that the name must have; 0 for never held or free.
	ExpectedVersion *int64
	// ReturnExisting accepts a name that the owner holds already, instead of rejecting it as taken.
	ReturnExisting bool
	Metadata       map[string]string

	// IdempotencyKey, or ID, a UUID of version 4 or 7, is the identity of the claim: asking again with it asks for the
	// same claim. Without either the call makes one up, for its own tries.
	IdempotencyKey string
	ID             string
}

// State is what became of a claim.
type State string

// The states of a claim.
const (
	Pending  State = "pending" // in the log; it will be decided
	Accepted State = "accepted"
	Rejected State = "rejected"
)

// Result is a claim and what became of it. As JSON it reads like the API's own.
type Result struct {
	ID    string `json:"claim_id,omitempty"`
	State State  `json:"state,omitempty"`
	Space string `json:"space,omitempty"`
	Name  string `json:"name,omitempty"`
	Key   string `json:"key,omitempty"`
	Owner string `json:"owner,omitempty"`
	// Version is that of the name, if accepted.
	Version int64 `json:"version,omitempty"`
	// Reason and Detail say why it was rejected; CurrentVersion is the version that a version_conflict found.
	Reason         string    `json:"reason,omitempty"`
	Detail         string    `json:"detail,omitempty"`
	CurrentVersion int64     `json:"current_version,omitempty"`
	DecidedAt      time.Time `json:"decided_at,omitzero"`
	// Position is where the claim is in the log, "<partition>-<log epoch>-<offset>"; not known of all rejections.
	Position string `json:"position,omitempty"`
	// Replayed says that the outcome is that of an earlier request with the same identity.
	Replayed bool `json:"replayed,omitempty"`
}

// Claim claims a name and waits for the outcome, until ctx ends. What fails on the way is tried again, as the same claim.
//
// A rejection is a result. With ErrUndecided the result says as much as is known: at least the ID, if the claim is known
// to be in the log, and Await waits for it.
func (c *Client) Claim(ctx context.Context, claim Claim) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	result, err := c.submit(ctx, claim, true)
	if err != nil || result.State != Pending {
		return result, err
	}
	return c.await(ctx, result)
}

// Submit claims a name and returns when the claim is in the log, or with the outcome if that is there.
func (c *Client) Submit(ctx context.Context, claim Claim) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	return c.submit(ctx, claim, false)
}

// Await waits until a claim is decided or ctx ends: then the error is ErrUndecided, and the result as it was.
func (c *Client) Await(ctx context.Context, pending Result) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	return c.await(ctx, pending)
}

// Get reads what became of a claim. One that is not decided yet is a *Problem with the reason unknown_claim, unless its
// position is known: for that, Await a result.
func (c *Client) Get(ctx context.Context, id string) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	result, err := c.get(ctx, id, "", false)
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
	var key *string
	if claim.IdempotencyKey != "" {
		key = &claim.IdempotencyKey
	}
	answer, err := c.try(ctx, request{waits: wait, publishes: true, do: func(ctx context.Context, wait time.Duration) (*http.Response, error) {
		prefer := preferWait(wait)
		if wait == 0 {
			prefer = "respond-async"
		}
		return c.wire.CreateClaim(ctx, &wire.CreateClaimParams{IdempotencyKey: key, Prefer: &prefer}, body)
	}})
	if err != nil {
		known := Result{ID: claim.ID, Space: claim.Space, Name: claim.Name, Owner: claim.Owner}
		if p := (*Problem)(nil); errors.As(err, &p) && p.ClaimID != "" {
			known.ID = p.ClaimID
		}
		if errors.Is(err, ErrUndecided) && known.ID != "" {
			known.State = Pending
		}
		return known, fmt.Errorf("claim: %w", err)
	}
	result, err := answer.claim()
	if err != nil {
		return Result{}, fmt.Errorf("claim: %w", err)
	}
	if result.Name == "" { // a problem names nothing
		result.Space, result.Name, result.Owner = claim.Space, claim.Name, claim.Owner
	}
	return result, nil
}

func (c *Client) await(ctx context.Context, pending Result) (Result, error) {
	for pause := firstPause; ; {
		start := time.Now()
		result, err := c.get(ctx, pending.ID, pending.Position, true)
		switch {
		case err == nil && result.State != Pending:
			return result, nil
		case ctx.Err() != nil:
			return pending, fmt.Errorf("await claim %s: %w: %w", pending.ID, ErrUndecided, ctx.Err())
		case err != nil:
			return pending, fmt.Errorf("await claim %s: %w", pending.ID, err)
		case time.Since(start) < time.Second: // the API did not wait: it is stopping, or our own time is short
			_ = sleep(ctx, pause) // what it says is seen above
			pause = min(2*pause, longestPause)
		}
	}
}

// get reads a claim. With wait the API holds the answer back until it is decided, or the wait is over.
func (c *Client) get(ctx context.Context, id, position string, wait bool) (Result, error) {
	var at *string
	if position != "" {
		at = &position
	}
	answer, err := c.try(ctx, request{waits: wait, do: func(ctx context.Context, wait time.Duration) (*http.Response, error) {
		params := &wire.GetClaimParams{At: at}
		if wait > 0 {
			prefer := preferWait(wait)
			params.Prefer = &prefer
		}
		return c.wire.GetClaim(ctx, id, params)
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
	b := wire.ClaimRequest{Name: c.Name, Owner: c.Owner, ExpectedVersion: c.ExpectedVersion, Metadata: c.Metadata}
	if c.Space != "" {
		b.Space = &c.Space
	}
	if c.ReturnExisting {
		b.OnConflict = new(wire.ReturnExisting)
	}
	if c.ID != "" {
		b.ClaimID = &c.ID
	}
	return b
}

func preferWait(wait time.Duration) string { return fmt.Sprintf("wait=%d", int(wait.Seconds())) }
