package main

import (
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// Each decision is a line, in columns: whoever has the name, if anybody has.
func TestLinesOfDecisions(t *testing.T) {
	var out strings.Builder
	l := &lines{w: &out}
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.Local)
	ref := names.Ref{Space: "username", Key: "alice"}
	for _, o := range []registrations.Outcome{
		{Type: registrations.Accepted, Owner: "u-17", Version: 1},
		{Type: registrations.Rejected, Owner: "u-18", Reason: registrations.Taken},
		{Type: registrations.Transferred, Owner: "u-18", Version: 2},
		{Type: registrations.Deactivated, Owner: "u-18", Version: 3},
		{Type: registrations.Blocked, Version: 4},
	} {
		o.Ref, o.LogTime = ref, at
		l.outcome(o)
	}
	pad := strings.Repeat(" ", 26)
	want := "10:00:00.000  accepted     username/alice" + pad + "  u-17, version 1\n" +
		"10:00:00.000  rejected     username/alice" + pad + "  taken\n" +
		"10:00:00.000  transferred  username/alice" + pad + "  u-18, version 2\n" +
		"10:00:00.000  deactivated  username/alice" + pad + "  u-18, version 3\n" +
		"10:00:00.000  blocked      username/alice" + pad + "  version 4\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
