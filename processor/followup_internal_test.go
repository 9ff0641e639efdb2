package processor

import (
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Releases that a processor asked for are counted by what became of them, from 0 on; nobody else's are, and no copies.
func TestFollowUpsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	want := func(released, rejected string) {
		t.Helper()
		text := "# HELP dibs_follow_ups_total Releases of names that were given up for another one; where one is rejected, its owner has both.\n" +
			"# TYPE dibs_follow_ups_total counter\ndibs_follow_ups_total{outcome=\"rejected\"} " + rejected + "\ndibs_follow_ups_total{outcome=\"released\"} " + released + "\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), "dibs_follow_ups_total"); err != nil {
			t.Error(err)
		}
	}
	want("0", "0")
	ours := claims.ReleaseID(uuid.New(), names.Ref{Space: names.Username, Key: "alice"})
	row := func(kind Kind, id uuid.UUID, request string, what registrations.Type) Row {
		return Row{Kind: kind, RequestID: id, Outcome: registrations.Outcome{RequestID: id, Request: request, Type: what}}
	}
	m.decided(Batch{Rows: []Row{
		row(KindOutcome, ours, "ReleaseRequested", registrations.Released),
		row(KindOutcome, ours, "ReleaseRequested", registrations.Rejected),
		row(KindOutcome, ours, "ReleaseRequested", registrations.Rejected),
		row(KindDuplicate, ours, "ReleaseRequested", registrations.Rejected),
		row(KindOutcome, ours, "ExpiryDue", registrations.Expired),
		row(KindOutcome, uuid.New(), "ReleaseRequested", registrations.Rejected),
	}})
	want("1", "2")
}
