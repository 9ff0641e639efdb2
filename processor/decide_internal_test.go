package processor

import (
	"testing"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// Two changes of one name in a run are one over the version that was read, which is what the record compares.
func TestChangeTwice(t *testing.T) {
	ref, other := names.Ref{Space: "username", Key: "alice"}, names.Ref{Space: "username", Key: "bob"}
	d := deciding{changed: make(map[names.Ref]int)}
	d.change(ref, 3, registrations.Holding{Version: 4, Owner: "u-1"})
	d.change(other, 0, registrations.Holding{Version: 1})
	d.change(ref, d.holding(ref).Version, registrations.Holding{Version: 5, Owner: "u-2"})
	want := []Change{
		{Ref: ref, Version: 3, Holding: registrations.Holding{Version: 5, Owner: "u-2"}},
		{Ref: other, Version: 0, Holding: registrations.Holding{Version: 1}},
	}
	if len(d.changes) != 2 || d.changes[0] != want[0] || d.changes[1] != want[1] {
		t.Errorf("got  %+v\nwant %+v", d.changes, want)
	}
	if d.holding(ref).Owner != "u-2" {
		t.Errorf("the name is held by %+v", d.holding(ref))
	}
}
