package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// Event is something that was decided: the outcome of a request, or a fact that a decision made true beside it. As JSON
// it reads like the record on the topic, with the id.
type Event struct {
	// ID is how far this is in the log, for WatchRequest.After.
	ID string `json:"id,omitempty"`
	// Outcome is the type: Accepted, Rejected, Confirmed, Extended, Released, Withdrawn, Deactivated, Reactivated,
	// Transferred, Blocked, Unblocked, Expired; and what later versions may add.
	Outcome string `json:"outcome"`
	// RequestID is the request that was answered; Cause, of a fact, the one that caused it.
	RequestID string `json:"request_id,omitempty"`
	Cause     string `json:"cause,omitempty"`
	ClaimID   string `json:"claim_id,omitempty"`
	Space     string `json:"space"`
	Key       string `json:"key"`
	Name      string `json:"name,omitempty"`
	Owner     string `json:"owner,omitempty"`
	// Request is what was asked, such as ConfirmRequested; empty for a claim.
	Request string `json:"request,omitempty"`
	// State and Version are what the name has now. A rejection changes neither, and has none.
	State     string    `json:"state,omitempty"`
	Version   int64     `json:"version,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Reason and Detail say why it was rejected; CurrentVersion is the version that a version_conflict found.
	Reason         string    `json:"reason,omitempty"`
	Detail         string    `json:"detail,omitempty"`
	CurrentVersion int64     `json:"current_version,omitempty"`
	LogTime        time.Time `json:"log_time"`
	PolicyVersion  int       `json:"policy_version"`
	RequestHash    string    `json:"request_hash"`
	// Where the request is in the log of claims.
	Partition int32 `json:"partition"`
	LogEpoch  int64 `json:"log_epoch"`
	Offset    int64 `json:"offset"`
}

// WatchRequest says what to watch. The zero value watches everything that the key may see, from now on.
type WatchRequest struct {
	// Space is that of the names to be told of; empty for all.
	Space string
	// After is the ID of the last event that was seen: what came behind it comes first.
	After string
	// Moved, if set, is called with every id: that of an event when the next one is asked for, and those that come where
	// there was nothing to tell. To go on after the last of them misses nothing either.
	Moved func(id string)
}

// Watch tells what is decided, until ctx ends or the loop is left. Where the connection is lost it is made again, and
// goes on behind the last event: nothing is missed, and the events of one name come in the order in which they were
// decided. An event may come more than once; take one if its Version is higher than the last you saw of that name.
//
// The last pair has the error that ended it: that of ctx; or a *Problem that trying again would not change. With the
// reason position_gone what came after the id is not on the topic any more: watch without After first, then read the
// names that matter.
func (c *Client) Watch(ctx context.Context, request WatchRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{client: c, WatchRequest: request, yield: yield, dials: c.dials}
		if err := w.run(ctx); err != nil {
			yield(Event{}, fmt.Errorf("watch: %w", err))
		}
	}
}

const (
	// silentFor is how long nothing may come before the connection counts as lost: three times as long as the API would
	// let pass.
	silentFor = 45 * time.Second
	// longestLine is above any event's, and longestEvent as well.
	longestLine  = 1 << 20
	longestEvent = 1 << 20
)

var (
	errLeft   = errors.New("the loop was left")
	errSilent = fmt.Errorf("nothing was heard for %s", silentFor)
)

// watch is one call of Watch.
type watch struct {
	client *Client
	WatchRequest
	yield func(Event, error) bool
	dials int           // how many are left, of those that find nobody; 0: as many as there is time for
	retry time.Duration // what the API wants to be waited before it is asked again
	came  bool          // something, on this connection
}

// run returns nil where the loop was left.
func (w *watch) run(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		w.came = false
		err := w.once(ctx)
		var problem *Problem
		var least time.Duration
		switch {
		case errors.Is(err, errLeft):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &problem):
			if !problem.transient() {
				return err
			}
			w.dials, least = 0, problem.RetryAfter
		case errors.Is(err, errNotDibs):
			return err
		default:
			if !notSent(err) {
				w.dials = 0
			}
			if w.dials--; w.dials == 0 || permanent(err) {
				return fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
		}
		if w.came {
			pause, least = firstPause, max(least, w.retry)
		}
		if err := sleep(ctx, max(least, pause/2)+rand.N(pause)); err != nil {
			return err
		}
	}
}

// once makes one connection and reads it to its end. The error is never nil.
func (w *watch) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(silentFor, func() { cancel(errSilent) })
	defer silence.Stop()
	resp, err := w.client.wire.StreamRegistrations(ctx, &wire.StreamRegistrationsParams{
		LastEventID: optional(w.After), Space: optional(w.Space),
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	switch {
	case resp.StatusCode >= http.StatusBadRequest:
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return err
		}
		return readProblem(resp, body)
	case resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		return fmt.Errorf("%w: status %d, %q", errNotDibs, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	w.dials = 0
	err = w.read(resp.Body, func() { silence.Reset(silentFor) })
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// read reads server-sent events. Each line that is heard is one.
func (w *watch) read(body io.Reader, heard func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), longestLine)
	id := w.After
	var data []byte
	for lines.Scan() {
		heard()
		w.came = true
		line := lines.Text()
		if line == "" { // the end of a block
			if err := w.dispatch(id, data); err != nil {
				return err
			}
			data = nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			if data != nil {
				data = append(data, '\n')
			}
			if data = append(data, value...); len(data) > longestEvent {
				return fmt.Errorf("%w: an event is too long", errNotDibs)
			}
		case "id":
			id = value
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil && ms >= 0 {
				w.retry = min(time.Duration(ms)*time.Millisecond, longestPause)
			}
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%w: a line is too long", errNotDibs)
	case err != nil:
		return err
	}
	return io.EOF // what has no end line is not complete, and comes again
}

// dispatch hands on what a block says.
func (w *watch) dispatch(id string, data []byte) error {
	if len(data) > 0 {
		event := Event{}
		if err := json.Unmarshal(data, &event); err != nil || event.Outcome == "" {
			return errors.Join(fmt.Errorf("%w: an event is %.64q", errNotDibs, data), err)
		}
		event.ID = id
		if !w.yield(event, nil) {
			return errLeft
		}
	}
	if id != w.After {
		w.After = id
		if w.Moved != nil {
			w.Moved(id)
		}
	}
	return nil
}
