package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
	"github.com/google/uuid"
)

// SignUp asks for several names at once, all or none.
type SignUp struct {
	Owner string
	Names []WantedName // 1 to 8
	// TTL is how long the names may take to answer before the sign-up is given up, in whole seconds. 0 is a minute.
	TTL time.Duration
	// IdempotencyKey is the identity of the sign-up: asking again with it asks for the same. Without it the call makes one
	// up, for its own tries.
	IdempotencyKey string
}

// WantedName is one of the names of a sign-up.
type WantedName struct {
	Space string // "username" if left out
	Name  string
	// Fields are what is unique together, in a private space of several fields, in place of a name.
	Fields map[string]string
}

// SignUpResult is what was asked, and what became of it. As JSON it reads like the API's own.
type SignUpResult struct {
	ID    string `json:"signup_id,omitempty"`
	Owner string `json:"owner,omitempty"`
	// State is Pending, Accepted or Rejected: all of the names, or none.
	State State `json:"state,omitempty"`
	// Reason and Detail say why it was rejected, Detail which name was in the way.
	Reason string       `json:"reason,omitempty"`
	Detail string       `json:"detail,omitempty"`
	Names  []SignUpName `json:"names,omitempty"`
	// ExpiresAt is when a sign-up that is under way is given up.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	// Position is where it is in the log, "<partition>-<log epoch>-<offset>"; not known of a rejection.
	Position string `json:"position,omitempty"`
	// Replayed says that the outcome is that of an earlier request with the same identity.
	Replayed bool `json:"replayed,omitempty"`
}

// SignUpName is what one of the names has said.
type SignUpName struct {
	Space   string `json:"space"`
	Name    string `json:"name,omitempty"` // none in a private space
	Key     string `json:"key"`
	ClaimID string `json:"claim_id"`
	// State is pending, reserved or rejected before the decision, and registered, released or rejected behind it.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// SignUp asks for several names and waits for the outcome, until ctx ends. What fails on the way is tried again, as the same
// sign-up. A rejection is a result: the owner has none of the names. With ErrUndecided the result says as much as is known.
func (c *Client) SignUp(ctx context.Context, s SignUp) (SignUpResult, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	if s.IdempotencyKey == "" {
		s.IdempotencyKey = uuid.NewString()
	}
	body := wire.SignupRequest{Owner: s.Owner, TTLSeconds: optional(int64(s.TTL / time.Second)), Names: []wire.WantedName{}}
	for _, n := range s.Names {
		wanted := wire.WantedName{Space: optional(n.Space), Name: &n.Name}
		if n.Fields != nil {
			wanted.Name, wanted.Fields = optional(n.Name), (*wire.Fields)(&n.Fields)
		}
		body.Names = append(body.Names, wanted)
	}
	known := SignUpResult{Owner: s.Owner}
	answer, err := c.try(ctx, request{waits: true, publishes: true, do: func(ctx context.Context, wait time.Duration) (*http.Response, error) {
		prefer := async
		if wait > 0 {
			prefer = preferWait(wait)
		}
		return c.wire.CreateSignup(ctx, &wire.CreateSignupParams{IdempotencyKey: &s.IdempotencyKey, Prefer: &prefer}, body)
	}})
	if err != nil {
		if p := (*Problem)(nil); errors.As(err, &p) && p.ClaimID != "" {
			known.ID = p.ClaimID
		}
		if errors.Is(err, ErrUndecided) && known.ID != "" {
			known.State = Pending
		}
		return known, fmt.Errorf("sign up: %w", err)
	}
	result, err := answer.signUp()
	if err != nil {
		return known, fmt.Errorf("sign up: %w", err)
	}
	if result.Owner == "" { // a problem names nobody
		result.Owner = s.Owner
	}
	if result.State.decided() {
		return result, nil
	}
	return c.awaitSignUp(ctx, result)
}

// GetSignUp reads what became of a sign-up. One that is not known is a *Problem with the reason unknown_claim: it may not have
// begun yet.
func (c *Client) GetSignUp(ctx context.Context, id string) (SignUpResult, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	result, err := c.getSignUp(ctx, SignUpResult{ID: id}, false)
	if err != nil {
		return SignUpResult{}, fmt.Errorf("get sign-up %s: %w", id, err)
	}
	return result, nil
}

func (c *Client) awaitSignUp(ctx context.Context, pending SignUpResult) (SignUpResult, error) {
	return await(ctx, "sign-up "+pending.ID, pending, func() (SignUpResult, State, error) {
		r, err := c.getSignUp(ctx, pending, true)
		return r, r.State, err
	})
}

func (c *Client) getSignUp(ctx context.Context, of SignUpResult, wait bool) (SignUpResult, error) {
	answer, err := c.try(ctx, request{waits: wait, follows: true, do: func(ctx context.Context, wait time.Duration) (*http.Response, error) {
		params := wire.GetSignupParams{At: optional(of.Position)}
		if wait > 0 {
			params.Prefer = new(preferWait(wait))
		}
		return c.wire.GetSignup(ctx, of.ID, &params)
	}})
	if err != nil {
		return SignUpResult{}, err
	}
	if answer.problem != nil {
		return SignUpResult{}, answer.problem
	}
	return answer.signUp()
}

// signUp reads the answer to a sign-up. A problem with an id is its rejection by the log.
func (a *answer) signUp() (SignUpResult, error) {
	replayed := a.header.Get("Idempotent-Replayed") == "true"
	if p := a.problem; p != nil {
		switch p.Status {
		case http.StatusForbidden, http.StatusNotFound, http.StatusConflict:
			if p.ClaimID != "" {
				return SignUpResult{ID: p.ClaimID, State: Rejected, Reason: p.Reason, Detail: p.Detail, Replayed: replayed}, nil
			}
		}
		return SignUpResult{}, p
	}
	var s wire.Signup
	if err := json.Unmarshal(a.body, &s); err != nil || !s.State.Valid() {
		return SignUpResult{}, errors.Join(errNotDibs, err)
	}
	r := SignUpResult{
		ID: s.SignupID, Owner: value(s.Owner), State: State(s.State), Reason: string(value(s.Reason)), Detail: value(s.Detail),
		ExpiresAt: value(s.ExpiresAt), DecidedAt: value(s.DecidedAt), Position: fmt.Sprintf("%d-%d-%d", s.Partition, s.LogEpoch, s.Offset), Replayed: replayed,
	}
	for _, n := range s.Names {
		r.Names = append(r.Names, SignUpName{Space: n.Space, Name: value(n.Name), Key: n.Key, ClaimID: n.ClaimID, State: string(n.State), Reason: string(value(n.Reason))})
	}
	return r, nil
}
