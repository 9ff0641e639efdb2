package postgres_test

import (
	"fmt"
	"testing"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// TestByOwner: what an owner holds, of all spaces and partitions, in pages; no more and no less.
func TestByOwner(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	one, two := acquire(t, r, 0), acquire(t, r, 1)
	a, b := accepting(one, 6, "name"), accepting(two, 3, "address")
	for i := range b.Changes {
		b.Changes[i].Ref.Space = "email"
	}
	states := []registrations.State{registrations.Registered, registrations.Reserved, registrations.Inactive}
	for i := range a.Changes[:3] {
		a.Changes[i].State, a.Changes[i].ExpiresAt = states[i], logTime
	}
	a.Changes[3].Owner = "u-2"
	a.Changes[4].State, a.Changes[4].Owner, a.Changes[4].Previous = registrations.Cooling, "", "u-1"
	a.Changes[5].State, a.Changes[5].Owner = registrations.StateBlocked, ""
	commit(t, r, a, b)
	want := []api.Owned{
		{Ref: b.Changes[0].Ref, Holding: b.Changes[0].Holding}, {Ref: b.Changes[1].Ref, Holding: b.Changes[1].Holding}, {Ref: b.Changes[2].Ref, Holding: b.Changes[2].Holding},
		{Ref: a.Changes[0].Ref, Holding: a.Changes[0].Holding}, {Ref: a.Changes[1].Ref, Holding: a.Changes[1].Holding}, {Ref: a.Changes[2].Ref, Holding: a.Changes[2].Holding},
	}
	var within []string
	owned := func(owner string, limit int, after names.Ref, want ...api.Owned) {
		t.Helper()
		got, err := r.ByOwner(t.Context(), owner, within, limit, after)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("owned are\n%+v, %v, want\n%+v", got, err, want)
		}
	}
	owned("u-1", 100, names.Ref{}, want...)
	owned("u-1", 2, names.Ref{}, want[:2]...)
	owned("u-1", 2, want[1].Ref, want[2:4]...)
	owned("u-1", 100, want[4].Ref, want[5])
	owned("u-1", 100, want[5].Ref)
	owned("u-1", 0, names.Ref{})
	owned("u-1", 100, names.Ref{Space: "email", Key: "zzz"}, want[3:]...) // the name it begins behind may be gone
	owned("u-3", 100, names.Ref{})
	owned("", 100, names.Ref{})
	within = []string{"username"}
	owned("u-1", 100, names.Ref{}, want[3:]...)
	owned("u-1", 1, want[0].Ref, want[3])
	within = []string{"email", "handle"}
	owned("u-1", 100, names.Ref{}, want[:3]...)
	owned("u-1", 100, want[3].Ref)
	within = []string{"username", "email", "pets"}
	owned("u-1", 100, names.Ref{}, want...)
	within = []string{} // none
	owned("u-1", 100, names.Ref{})
	within = nil

	// Given up and handed over.
	next := accepting(standing(t, r, 0), 3, "other")
	for i := range next.Changes {
		c := &next.Changes[i]
		c.Ref, c.Version, c.Holding.Version = a.Changes[i].Ref, 1, 2
	}
	next.Changes[0].State, next.Changes[0].Owner = registrations.Free, ""
	next.Changes[1].Owner = "u-3"
	commit(t, r, next)
	kept := api.Owned{Ref: next.Changes[2].Ref, Holding: next.Changes[2].Holding}
	owned("u-1", 100, want[2].Ref, kept)
	owned("u-3", 100, names.Ref{}, api.Owned{Ref: next.Changes[1].Ref, Holding: next.Changes[1].Holding})
}
