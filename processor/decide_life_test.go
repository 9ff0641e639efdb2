package processor_test

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

func decideAlone(l processor.Ledger, q request) processor.Decision {
	return processor.Decide(l, []processor.Received{processor.Receive(q.message(7), l.Rules)})
}

// The checks of what is asked of a holding, in the order of the design: a request that fails several is answered by the
// first.
func TestDecideChecksOfHolder(t *testing.T) {
	nine := new(int64(9))
	by := func(owner string, version *int64) []claims.Body {
		return []claims.Body{
			&claims.ReleaseRequested{About: about("alice"), Owner: owner, ExpectedVersion: version},
			&claims.DeactivateRequested{About: about("alice"), Owner: owner, ExpectedVersion: version},
			&claims.TransferRequested{About: about("alice"), Owner: owner, NewOwner: "u-3", ExpectedVersion: version},
		}
	}
	inactive := heldBy("u-1", 3)
	inactive.State = registrations.Inactive
	for _, test := range []struct {
		owner   string
		version *int64
		want    registrations.Reason
	}{{"u-2", nine, registrations.NotOwner}, {"u-1", nine, registrations.VersionConflict}, {"u-1", new(int64(3)), registrations.WrongState}, {"u-1", nil, registrations.WrongState}} {
		for _, body := range by(test.owner, test.version) {
			d := decideAlone(aliceLedger(inactive), request{id: idOf("r1"), body: body})
			o := d.Rows[0].Outcome
			if o.Reason != test.want || d.Changes != nil {
				t.Errorf("%s by %s: %s, want %s", body.Type(), test.owner, o.Reason, test.want)
			}
			if want := map[bool]int64{true: 3}[test.want == registrations.VersionConflict]; o.CurrentVersion != want {
				t.Errorf("%s by %s: current version %d", body.Type(), test.owner, o.CurrentVersion)
			}
		}
	}
	// An unknown claim before another's name, and that before its state.
	for claim, want := range map[string]registrations.Reason{"c9": registrations.UnknownClaim, "the claim of u-1": registrations.NotOwner} {
		for _, body := range []claims.Body{
			&claims.ConfirmRequested{About: about("alice"), ClaimID: idOf(claim), Owner: "u-2"},
			&claims.ExtendRequested{About: about("alice"), ClaimID: idOf(claim), Owner: "u-2", TTLSeconds: 60},
		} {
			if o := decideAlone(aliceLedger(inactive), request{id: idOf("r1"), body: body}).Rows[0].Outcome; o.Reason != want {
				t.Errorf("%s of %s: %s, want %s", body.Type(), claim, o.Reason, want)
			}
		}
	}
}

// A row says who did it and why, where that was signed and is fit to be kept.
func TestDecideActor(t *testing.T) {
	block := &claims.BlockRequested{About: about("alice"), Actor: "ada", Reason: "a trademark"}
	for name, test := range map[string]struct {
		body  *claims.BlockRequested
		sign  *claims.SigningKey
		kept  bool
		wants registrations.Reason
	}{
		"signed":               {block, &testKey, true, ""},
		"under the older key":  {block, &olderKey, true, ""},
		"under a wrong key":    {block, &unknownKey, false, registrations.NotAllowed},
		"unsigned":             {block, nil, false, registrations.NotAllowed},
		"no actor":             {&claims.BlockRequested{About: about("alice"), Actor: "\x01", Reason: "a trademark"}, &testKey, false, registrations.InvalidRequest},
		"signed, and too late": {&claims.BlockRequested{About: claims.About{Space: names.Username, Spelling: "alice", Deadline: tenOClock.Add(-1)}, Actor: "ada", Reason: "a trademark"}, &testKey, true, registrations.DeadlinePassed},
	} {
		row := decideAlone(aliceLedger(), request{id: idOf("r1"), body: test.body, sign: test.sign}).Rows[0]
		if kept := row.Actor == "ada" && row.Why == "a trademark"; kept != test.kept || !kept && row.Actor+row.Why != "" || row.Outcome.Reason != test.wants {
			t.Errorf("%s: by %q because %q, %s", name, row.Actor, row.Why, row.Outcome.Reason)
		}
	}
}

// What a rename leaves on its row, and only there: the follow-up is published from it, also after a take-over.
func TestDecideFollowUp(t *testing.T) {
	rename := asking{id: "c1", name: "Alice", owner: "u-1", more: func(c *claims.UsernameClaimed) { c.Replaces = &claims.Replaces{Name: "BOB", Version: 4} }}
	want := processor.FollowUp{Claim: idOf("c1"), Ref: names.Ref{Space: names.Username, Key: "bob"}, Owner: "u-1", Version: 4}
	row := processor.Decide(aliceLedger(), receiveAll(rules48, 0, rename)).Rows[0]
	if row.FollowUp == nil || *row.FollowUp != want {
		t.Fatalf("follow-up %+v, want %+v", row.FollowUp, want)
	}
	outputs := processor.OutputsOf("claims", rules48, testKey, processor.Fence{Partition: onAlice, LogEpoch: 1}, []processor.Row{row})
	if len(outputs) != 2 || outputs[1].Topic != processor.ToClaims || outputs[1].Partition != claims.Partition("username/bob", 48) {
		t.Fatalf("outputs %+v", outputs)
	}
	r := processor.Receive(processor.Message{Record: outputs[1].Record}, rules48)
	release, ok := r.Request.Body.(*claims.ReleaseRequested)
	if !ok || r.Request.ID != claims.ReleaseID(idOf("c1"), names.Ref{Space: names.Username, Key: "alice"}) || release.Owner != "u-1" || *release.ExpectedVersion != 4 || release.Actor != "" || r.Ref != want.Ref || r.Request.Principal != claims.Principal {
		t.Errorf("the follow-up is %+v, %+v", r.Request, r.Request.Body)
	}
	held := registrations.Holding{State: registrations.Registered, Owner: "u-1", Version: 4}
	there := processor.Ledger{Partition: outputs[1].Partition, Rules: rules48, Known: processor.Known{Holdings: map[names.Ref]registrations.Holding{want.Ref: held}}}
	if d := processor.Decide(there, []processor.Received{r}); d.Rows[0].Outcome.Type != registrations.Released {
		t.Errorf("where it lands: %+v", d.Rows[0])
	}

	// Reserved, the name remembers it until it is confirmed.
	rename.change(func(c *claims.UsernameClaimed) { c.Mode = claims.ModeReserve })
	d := processor.Decide(aliceLedger(), receiveAll(rules48, 0, rename))
	if h := d.Changes[0].Holding; d.Rows[0].FollowUp != nil || h.Replaces != "bob" || h.ReplacesVersion != 4 {
		t.Errorf("reserved: %+v, follow-up %+v", h, d.Rows[0].FollowUp)
	}
	confirm := request{id: idOf("r1"), body: &claims.ConfirmRequested{About: about("alice"), ClaimID: idOf("c1"), Owner: "u-1"}}
	d = decideAlone(carried(aliceLedger(), d), confirm)
	if h := d.Changes[0].Holding; d.Rows[0].FollowUp == nil || *d.Rows[0].FollowUp != want || h.Replaces != "" || h.ReplacesVersion != 0 || !h.ExpiresAt.IsZero() {
		t.Errorf("confirmed: %+v, follow-up %+v", h, d.Rows[0].FollowUp)
	}
}

// A time that RFC 3339 has no digits for is no end: the last one that it has is.
func TestDecideEndOfTime(t *testing.T) {
	end := time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
	l := aliceLedger()
	l.LogTime = end.Add(-time.Minute)
	d := processor.Decide(l, receiveAll(rules48, 0, asking{id: "c1", name: "alice", owner: "u-1", more: func(c *claims.UsernameClaimed) { c.Mode = claims.ModeReserve }}))
	if o := d.Rows[0].Outcome; o.Type != registrations.Accepted || !o.ExpiresAt.Equal(end) {
		t.Fatalf("%+v", o)
	}
	if _, err := registrations.Decode(d.Rows[0].Outcome.Record()); err != nil {
		t.Error(err)
	}
	extend := request{id: idOf("r1"), body: &claims.ExtendRequested{About: about("alice"), ClaimID: idOf("c1"), Owner: "u-1", TTLSeconds: 3600}}
	if o := decideAlone(carried(l, d), extend).Rows[0].Outcome; o.Type != registrations.Extended || !o.ExpiresAt.Equal(end) {
		t.Errorf("%+v", o)
	}
	policy := *names.Builtin()[names.Username]
	policy.CoolDown = time.Hour
	cooling := aliceLedger(heldBy("u-1", 1))
	cooling.LogTime, cooling.Rules.Policies = l.LogTime, names.Policies{names.Username: &policy}
	release := request{id: idOf("r1"), body: &claims.ReleaseRequested{About: about("alice"), Owner: "u-1"}}
	if o := decideAlone(cooling, release).Rows[0].Outcome; o.State != registrations.Cooling || !o.ExpiresAt.Equal(end) {
		t.Errorf("%+v", o)
	}
}

// Beyond the horizon of decisions the name itself says what it knows: whose claim it was, and since when.
func TestDecideWithoutTheClaim(t *testing.T) {
	reserved := heldBy("u-1", 3)
	reserved.State, reserved.Since, reserved.ExpiresAt = registrations.Reserved, tenOClock.Add(-time.Hour), tenOClock.Add(time.Hour)
	claim := reserved.ClaimID
	extend := func(seconds int64) request {
		return request{id: idOf("r1"), body: &claims.ExtendRequested{About: about("alice"), ClaimID: claim, Owner: "u-1", TTLSeconds: seconds}}
	}
	if o := decideAlone(aliceLedger(reserved), extend(7*24*3600)).Rows[0].Outcome; !o.ExpiresAt.Equal(reserved.Since.Add(7 * 24 * time.Hour)) {
		t.Errorf("extended: %+v", o)
	}
	over := reserved
	over.ExpiresAt = tenOClock
	if d := decideAlone(aliceLedger(over), extend(60)); len(d.Rows) != 2 || d.Rows[1].Outcome.Reason != registrations.ReservationExpired {
		t.Errorf("over: %+v", d.Rows)
	}
	// The decision of a claim of that id on another name says nothing about this one.
	l := aliceLedger()
	other := registrations.Outcome{Type: registrations.Accepted, State: registrations.Reserved, ExpiresAt: tenOClock.Add(-1), Ref: names.Ref{Space: names.Username, Key: "bob"}}
	l.Known.Outcomes[processor.Request{Partition: onAlice, ID: claim}] = other
	if d := decideAlone(l, extend(60)); d.Rows[0].Outcome.Reason != registrations.UnknownClaim {
		t.Errorf("of another name: %+v", d.Rows)
	}
}

// An id of dibs' own is nobody else's, not even of who can sign: taken in advance it would swallow the request that is to
// come under it.
func TestDecideOwnID(t *testing.T) {
	release := &claims.ReleaseRequested{About: about("alice"), Owner: "u-1", ExpectedVersion: new(int64(1))}
	for name, test := range map[string]struct {
		principal string
		sign      *claims.SigningKey
		want      string
	}{
		"dibs":                    {claims.Principal, &testKey, "Released"},
		"dibs, older key":         {claims.Principal, &olderKey, "Released"},
		"dibs, unsigned":          {claims.Principal, nil, "dead"},
		"dibs, wrong key":         {claims.Principal, &unknownKey, "dead"},
		"another, signed":         {"gateway", &testKey, "dead"},
		"nobody, signed":          {"", &testKey, "dead"},
		"another, and not signed": {"gateway", nil, "dead"},
	} {
		q := request{id: claims.ReleaseID(idOf("c1"), names.Ref{Space: names.Username, Key: "alice"}), body: release, principal: test.principal, sign: test.sign}
		if got := kinds(decideAlone(aliceLedger(heldBy("u-1", 1)), q)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
