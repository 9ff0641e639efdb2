package processor_test

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// TestVoteForALostSignup: a sign-up that was lost with its partition's log is given up for good when the first of its names
// asks for it, and gives back what that holds; a copy of it that comes late is none any more.
func TestVoteForALostSignup(t *testing.T) {
	signup, claim := idOf("s1"), idOf("c1")
	ref := names.Ref{Space: claims.Signup, Key: names.Key(signup.String())}
	on := claims.Partition(ref.RecordKey(), 48)
	receive := func(offset int64, body claims.Body, e cloudevents.Event) processor.Received {
		e.Source = "dibs"
		r := claims.NewRecord(body, e, ref)
		r.Time = tenOClock
		if e.Principal == claims.Principal {
			r = testKey.Sign(r)
		}
		return processor.Receive(processor.Message{Offset: offset, Record: r}, rules48)
	}
	about := claims.About{Space: claims.Signup, Spelling: string(ref.Key)}
	vote := receive(0, &claims.SignupVoted{About: about, ClaimID: claim, Owner: "u-1", Of: aliceRef},
		cloudevents.Event{ID: claims.SignupVoteID(claim, time.Time{}), Principal: claims.Principal})
	l := processor.Ledger{Partition: on, LogEpoch: 1, Rules: rules48}
	d := processor.Decide(l, []processor.Received{vote})
	sent := false
	for _, r := range d.Rows {
		sent = sent || r.Kind == processor.KindSent && r.Sent.Request == "WithdrawRequested" && r.Sent.Claim == claim && r.Sent.Ref == aliceRef && r.Sent.Owner == "u-1"
	}
	if last := d.Rows[len(d.Rows)-1]; !sent || last.Outcome.Type != registrations.Abandoned || len(d.Changes) != 1 {
		t.Fatalf("decided %+v, changes %+v", d.Rows, d.Changes)
	}
	late := receive(1, &claims.SignupRequested{About: about, Owner: "u-1", Names: []claims.SignupName{{Space: names.Username, Spelling: "alice"}}}, cloudevents.Event{ID: signup})
	d = processor.Decide(carried(l, d), []processor.Received{late})
	if last := d.Rows[len(d.Rows)-1]; len(d.Rows) != 1 || last.Outcome.Type != registrations.Rejected {
		t.Errorf("late, it is decided %+v", d.Rows)
	}
}
