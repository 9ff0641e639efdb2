package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// Erasure is how far the erasure of an owner is. As JSON it is the API's own report.
type Erasure struct {
	ID    string `json:"id"` // what AdminErasure takes
	Owner string `json:"owner"`
	// Done: nothing was found that names the owner, and everything that was asked for is wiped.
	Done bool `json:"-"`
	// State is "running", or "done" as Done says.
	State string `json:"state"`
	// Searched is false where the search through all decisions took too long: only names that the owner has were found.
	Searched bool `json:"searched"`
	// Found names were recorded with the owner; of those, Requested were asked to be erased just now.
	Found     int `json:"found"`
	Requested int `json:"requested"`
	// Of all requests for this owner: Pending are not wiped behind yet, Wiped are.
	Pending int `json:"pending"`
	Wiped   int `json:"done"`
	// Signups are those of Wiped that are about sign-ups.
	Signups int `json:"signups"`
	// Rows of the history, and forwarded records and dead letters, that name neither owner nor name any more.
	Decisions int64 `json:"decisions_wiped"`
	Records   int64 `json:"records_wiped"`
	// Remains is what the topics keep.
	Remains []Remains `json:"remains"`
}

// Remains is what a topic keeps of an erased owner.
type Remains struct {
	Topic string `json:"topic"`
	// Until is when the last record is deleted; zero where there is no such time, which Detail explains.
	Until  time.Time `json:"until,omitzero"`
	Detail string    `json:"detail,omitempty"`
}

// AdminErase asks for everything to be erased that is recorded of an owner. It takes some time: ask AdminErasure how far it is
// until it is Done, which also goes on with what came since. The same call again is the same erasure.
func (c *Client) AdminErase(ctx context.Context, owner string, by By) (Erasure, error) {
	var report wire.ErasureReport
	err := c.page(ctx, &report, func(ctx context.Context) (*http.Response, error) {
		return c.wire.EraseOwner(ctx, owner, wire.AdminRequest{Actor: by.Actor, Reason: by.Reason})
	})
	if err != nil {
		return Erasure{}, fmt.Errorf("erase: %w", err)
	}
	return erasureOf(&report), nil
}

// AdminErasure asks how far an erasure is, and for what is still to be erased.
func (c *Client) AdminErasure(ctx context.Context, id string) (Erasure, error) {
	var report wire.ErasureReport
	err := c.page(ctx, &report, func(ctx context.Context) (*http.Response, error) { return c.wire.GetErasure(ctx, id) })
	if err != nil {
		return Erasure{}, fmt.Errorf("read how far an erasure is: %w", err)
	}
	return erasureOf(&report), nil
}

func erasureOf(r *wire.ErasureReport) Erasure {
	e := Erasure{
		ID: r.ID, Owner: r.Owner, Done: r.State == wire.ErasureReportStateDone, State: string(r.State), Searched: r.Searched, Found: r.Found, Requested: r.Requested,
		Pending: r.Pending, Wiped: r.Done, Signups: r.Signups, Decisions: r.DecisionsWiped, Records: r.RecordsWiped, Remains: []Remains{},
	}
	for _, t := range r.Remains {
		e.Remains = append(e.Remains, Remains{Topic: t.Topic, Until: value(t.Until), Detail: value(t.Detail)})
	}
	return e
}
