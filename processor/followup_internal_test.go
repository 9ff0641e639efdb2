package processor

import (
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
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
	want := func(released, rejected, dead string) {
		t.Helper()
		text := "# HELP dibs_follow_ups_total Releases of names that were given up for another one; where one is rejected, or a dead letter, its owner has both.\n" +
			"# TYPE dibs_follow_ups_total counter\ndibs_follow_ups_total{outcome=\"dead\"} " + dead + "\ndibs_follow_ups_total{outcome=\"rejected\"} " + rejected + "\ndibs_follow_ups_total{outcome=\"released\"} " + released + "\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), "dibs_follow_ups_total"); err != nil {
			t.Error(err)
		}
	}
	want("0", "0", "0")
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
	}}, nil)
	want("1", "2", "0")
}

// One that is put aside, because its key was retired before it came, is counted, too; what others make to look like one is not.
func TestDeadFollowUpsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	about := claims.About{Space: names.Username, Spelling: "alice"}
	ours := claims.ReleaseID(uuid.New(), names.Ref{Space: names.Username, Key: "bobby"})
	keys := claims.Keys{"k1": []byte("retired"), "k2": []byte("holds")}
	var all []Message
	add := func(id uuid.UUID, principal, key string, secret []byte, body claims.Body) {
		r := claims.NewRecord(body, cloudevents.Event{ID: id, Source: "dibs", Principal: principal}, names.Ref{Space: names.Username, Key: "alice"})
		if key != "" {
			r = claims.SigningKey{ID: key, Secret: secret}.Sign(r)
		}
		all = append(all, Message{Offset: int64(len(all)), Record: r})
	}
	release := &claims.ReleaseRequested{About: about, Owner: "u-1", ExpectedVersion: new(int64(1))}
	add(ours, claims.Principal, "k1", keys["k1"], release)
	add(ours, claims.Principal, "", nil, release)
	add(ours, claims.Principal, "k1", []byte("guessed"), release)
	add(ours, claims.Principal, "k3", []byte("unknown"), release)
	add(ours, "mallory", "k1", keys["k1"], release)
	add(ours, claims.Principal, "k1", keys["k1"], &claims.ExpiryDue{About: about, ClaimID: uuid.New()})
	some, _ := keys.Only([]string{"k2"})
	rules := Rules{Partitions: 1, Policies: names.Builtin(), Keys: some}
	var received []Received
	for _, message := range all {
		received = append(received, Receive(message, rules))
	}
	d := Decide(Ledger{LogEpoch: 1, Rules: rules}, received)
	for _, row := range d.Rows {
		if row.Kind != KindDead {
			t.Errorf("the record at %d is %s", row.Offset, row.Kind)
		}
	}
	m.decided(Batch{Rows: d.Rows}, keys)
	if n := testutil.ToFloat64(m.followUps.WithLabelValues(deadFollowUp)); n != 1 {
		t.Errorf("%v are counted", n)
	}
}
