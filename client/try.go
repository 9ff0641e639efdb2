package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// Pauses between tries: doubled each time, with jitter, and never shorter than Retry-After asks.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	maxAnswer    = 1 << 20
)

var errNotDibs = errors.New("what answers is not dibs")

// limited gives a ctx without a deadline one.
func (c *Client) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || c.timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}

// request is what one try does.
type request struct {
	// waits: the API is asked to wait, for as long as there is time.
	waits bool
	// publishes: the API may have done it although we did not hear of it.
	publishes bool
	// follows: it asks for what an earlier one has published. Somebody has been there.
	follows bool
	do      func(ctx context.Context, wait time.Duration) (*http.Response, error)
}

// try makes a request until it is answered for good, or ctx ends. The error wraps ErrUndecided if a try may have
// published something.
func (c *Client) try(ctx context.Context, r request) (*answer, error) {
	taken := false // perhaps
	dials := c.dials
	if r.follows {
		dials = 0
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		a, err := c.once(ctx, r)
		if !notSent(err) {
			dials = 0
		}
		var least time.Duration
		switch {
		case errors.Is(err, errNotDibs):
			return nil, err
		case err != nil:
			taken = taken || r.publishes && !notSent(err)
			if ctx.Err() == nil {
				err = fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			if dials--; dials == 0 || permanent(err) {
				return nil, err
			}
		case a.problem != nil && a.problem.transient():
			taken = taken || r.publishes && (a.problem.Reason == "outcome_unknown" || a.problem.Reason == "")
			err, least = a.problem, a.problem.RetryAfter
		default:
			return a, nil
		}
		// Up to a half of the pause more or less, so that those who failed together do not come back together.
		if sleep(ctx, max(least, pause/2+rand.N(pause))) != nil {
			if taken {
				return nil, fmt.Errorf("%w: %w: %w", ErrUndecided, ctx.Err(), err)
			}
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// once makes one request. It ends in good time, also when the other side has fallen silent.
func (c *Client) once(ctx context.Context, r request) (*answer, error) {
	wait := time.Duration(0)
	if r.waits {
		wait = longestWait
		if end, ok := ctx.Deadline(); ok { // a little early, so that the answer is still heard
			wait = max(0, min(wait, time.Until(end)-500*time.Millisecond)).Truncate(time.Second)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait+tryReserve)
	defer cancel()
	resp, err := r.do(ctx, wait)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read in full, or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	a := &answer{header: resp.Header, body: body}
	if resp.StatusCode >= http.StatusBadRequest {
		a.problem = readProblem(resp, body)
	} else if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%w: status %d", errNotDibs, resp.StatusCode)
	}
	return a, nil
}

// permanent reports whether trying again would end in the same way: a host of that name there is not, or it is not who it
// says.
func permanent(err error) bool {
	var dns *net.DNSError
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, &dns) && dns.IsNotFound
}

// notSent reports whether the request certainly did not reach anybody.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is what the API said.
type answer struct {
	header  http.Header
	body    []byte
	problem *Problem // of a status of 400 and more
}

// claim reads the answer to a claim, or to another request. A problem with the id of one claim is its rejection by the
// log; one without an id may be what the API knows beforehand that the log would say.
func (a *answer) claim() (Result, error) {
	replayed := a.header.Get("Idempotent-Replayed") == "true"
	if p := a.problem; p != nil {
		switch p.Status {
		case http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed:
			if p.ClaimID != "" && p.Reason != ambiguous || foreseen[p.Reason] {
				r := Result{ID: p.ClaimID, RequestID: p.RequestID, State: Rejected, Reason: p.Reason, Detail: p.Detail, Replayed: replayed}
				var body wire.Problem
				if json.Unmarshal(a.body, &body) == nil {
					r.CurrentVersion = value(body.CurrentVersion)
				}
				return r, nil
			}
		}
		return Result{}, p
	}
	var c wire.Claim
	if err := json.Unmarshal(a.body, &c); err != nil || !c.State.Valid() {
		return Result{}, errors.Join(errNotDibs, err)
	}
	var follows *FollowUp
	if f := c.FollowUp; f != nil {
		follows = &FollowUp{
			RequestID: f.RequestID, Space: f.Space, Key: f.Key, Version: f.Version, State: FollowUpState(f.State),
			Reason: string(value(f.Reason)), Detail: value(f.Detail),
		}
	}
	return Result{
		ID: c.ClaimID, RequestID: c.RequestID, Type: string(value(c.Type)), State: State(c.State), ExpiresAt: value(c.ExpiresAt),
		Space: value(c.Space), Name: value(c.Name), Key: value(c.Key), Owner: value(c.Owner),
		Version: value(c.Version), Reason: string(value(c.Reason)), Detail: value(c.Detail), CurrentVersion: value(c.CurrentVersion),
		DecidedAt: value(c.DecidedAt), Position: fmt.Sprintf("%d-%d-%d", c.Partition, c.LogEpoch, c.Offset), Replayed: replayed,
		FollowUp: follows,
	}, nil
}

// ambiguous is what is said of an id that stands for two claims: which of them was meant is not known.
const ambiguous = "ambiguous_id"

// foreseen are the rejections that may come without a claim: nothing was published.
var foreseen = map[string]bool{"not_owner": true, "version_conflict": true, "wrong_state": true}

// readProblem reads a problem, or makes one of what a proxy in between has said.
func readProblem(resp *http.Response, body []byte) *Problem {
	p := &Problem{Status: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	var w wire.Problem
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(body, &w) != nil {
		return p
	}
	p.Reason, p.Title, p.Detail, p.ClaimID, p.RequestID = w.Reason, w.Title, value(w.Detail), value(w.ClaimID), value(w.RequestID)
	for _, e := range w.Errors {
		p.Errors = append(p.Errors, FieldError{Field: e.Field, Detail: e.Detail})
	}
	return p
}

// value is what a pointer points to, or nothing.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
