package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// Entry is something that happened to a name.
type Entry struct {
	Version int64     `json:"version"` // that it gave the name
	Outcome string    `json:"outcome"` // such as Accepted, Released, Expired
	At      time.Time `json:"at"`
	// Name is the one that it happened to: where look-alikes are kept apart, one history is that of all that look alike. It
	// is left out, like what comes behind it, where the key does not cover the owner.
	Name string `json:"name,omitempty"`
	// Owner has the name from then on, or had it until then.
	Owner string `json:"owner,omitempty"`
	// Actor did it, and Reason says why; empty where it was the owner or nobody.
	Actor     string `json:"actor,omitempty"`
	Reason    string `json:"reason,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	Position  string `json:"position"` // in the log, "<partition>-<log epoch>-<offset>"
}

// How much is read at once. Each page of an owner's names costs the API a look at all of them, so there are few; and
// each is well below maxAnswer.
const (
	pageSize   = 200
	ownerNames = 500
)

// History reads what happened to a name, from a version on; 0 for all of it. It ends behind an error. It is read in
// pages, each within the time of a call.
func (c *Client) History(ctx context.Context, space, name string, from int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for more := true; more; {
			var page wire.History
			err := c.page(ctx, &page, func(ctx context.Context) (*http.Response, error) {
				return c.wire.GetHistory(ctx, space, name, &wire.GetHistoryParams{From: &from, Limit: new(int32(pageSize))})
			})
			if err != nil {
				yield(Entry{}, fmt.Errorf("read history: %w", err))
				return
			}
			for i := range page.Entries {
				e := &page.Entries[i]
				if !yield(Entry{
					Version: e.Version, Outcome: string(e.Outcome), At: e.At, Name: value(e.Name), Owner: value(e.Owner), Actor: value(e.Actor), Reason: value(e.Reason),
					RequestID: value(e.RequestID), Position: fmt.Sprintf("%d-%d-%d", e.Partition, e.LogEpoch, e.Offset),
				}, nil) {
					return
				}
			}
			more = value(page.Next) > from
			from = value(page.Next)
		}
	}
}

// OwnerNamesOption says which of an owner's names are read.
type OwnerNamesOption func(*wire.GetOwnerNamesParams)

// InSpace reads the names of one space only.
func InSpace(space string) OwnerNamesOption {
	return func(p *wire.GetOwnerNamesParams) { p.Space = &space }
}

// OwnerNames reads the names that an owner holds, by space and key, in all spaces that the key covers: advice, true when
// each page was read. It ends behind an error.
func (c *Client) OwnerNames(ctx context.Context, owner string, options ...OwnerNamesOption) iter.Seq2[Name, error] {
	params := wire.GetOwnerNamesParams{Limit: new(int32(ownerNames))}
	for _, option := range options {
		option(&params)
	}
	return func(yield func(Name, error) bool) {
		params := params
		for more := true; more; {
			var page wire.OwnerNames
			err := c.page(ctx, &page, func(ctx context.Context) (*http.Response, error) {
				return c.wire.GetOwnerNames(ctx, owner, &params)
			})
			if err != nil {
				yield(Name{}, fmt.Errorf("read an owner's names: %w", err))
				return
			}
			for i := range page.Names {
				if !yield(nameOf(&page.Names[i]), nil) {
					return
				}
			}
			more = page.Next != nil && (params.After == nil || *params.After != *page.Next)
			params.After = page.Next
		}
	}
}

// page reads one page, within the time of a call.
func (c *Client) page(ctx context.Context, into any, do func(ctx context.Context) (*http.Response, error)) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	answer, err := c.try(ctx, request{do: func(ctx context.Context, _ time.Duration) (*http.Response, error) { return do(ctx) }})
	switch {
	case err != nil:
		return err
	case answer.problem != nil:
		return answer.problem
	}
	if err := json.Unmarshal(answer.body, into); err != nil {
		return fmt.Errorf("%w: %w", errNotDibs, err)
	}
	return nil
}
