package processor_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// What is wiped answers as it did: whoever withdrew a claim before it came, and what a reservation was that has expired.
func TestDecideOverWhatIsWiped(t *testing.T) {
	eraser := names.NewEraser([]byte("a secret"))
	rules := processor.Rules{Partitions: 48, Policies: names.Builtin(), Keys: testKeys, Eraser: eraser}
	decide := func(known processor.Known, q request) registrations.Outcome {
		t.Helper()
		l := processor.Ledger{Partition: onAlice, LogEpoch: 1, Rules: rules, Known: known}
		d := processor.Decide(l, []processor.Received{processor.Receive(q.message(7), rules)})
		return d.Rows[len(d.Rows)-1].Outcome
	}

	withdrawn := processor.Known{Marks: map[processor.Mark]struct{}{{Partition: onAlice, Claim: idOf("c1"), Owner: eraser.Owner("u-1")}: {}}}
	claim := func(owner string) request {
		return request{id: idOf("c1"), body: &claims.UsernameClaimed{Space: names.Username, Spelling: "Alice", Owner: owner, Mode: claims.ModeRegister}}
	}
	if o := decide(withdrawn, claim("u-1")); o.Reason != registrations.ClaimWithdrawn {
		t.Errorf("a claim that was withdrawn by who is erased: %+v", o)
	}
	if o := decide(withdrawn, claim("u-2")); o.Type != registrations.Accepted {
		t.Errorf("a claim that another one withdrew, who is erased: %+v", o)
	}

	was := registrations.Outcome{
		Type: registrations.Accepted, State: registrations.Reserved, Erased: true, Ref: eraser.Ref(aliceRef), RequestID: idOf("c1"), ClaimID: idOf("c1"),
		Version: 1, ExpiresAt: tenOClock.Add(-time.Minute),
	}
	expired := processor.Known{Outcomes: map[processor.Request]registrations.Outcome{{Partition: onAlice, ID: idOf("c1")}: was}}
	confirm := request{id: idOf("r1"), body: &claims.ConfirmRequested{About: about("Alice"), ClaimID: idOf("c1"), Owner: "u-1"}}
	if o := decide(expired, confirm); o.Reason != registrations.ReservationExpired {
		t.Errorf("a confirmation of what has expired, and is erased: %+v", o)
	}
	was.Ref = eraser.Ref(names.Ref{Space: names.Username, Key: "alicia"})
	expired.Outcomes[processor.Request{Partition: onAlice, ID: idOf("c1")}] = was
	if o := decide(expired, confirm); o.Reason != registrations.UnknownClaim {
		t.Errorf("a confirmation of what was another name: %+v", o)
	}
}

// A processor without the secret decides nothing from the first erasure on that is signed.
func TestErasureWithoutSecret(t *testing.T) {
	rules := processor.Rules{Partitions: 48, Policies: names.Builtin(), Keys: testKeys}
	regime, err := processor.NewRegime(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	erase := request{id: idOf("e1"), body: &claims.ErasureRequested{About: about("Alice"), Owner: "u-1", Actor: "ada", Reason: "asked for"}}
	unsigned, before := erase.message(1), gridRequest("claim by u-1").message(0)
	erase.sign = &testKey
	received, err := processor.ReceiveAll([]processor.Message{before, unsigned, erase.message(2), before}, regime)
	var lacking *processor.LackingError
	if !errors.As(err, &lacking) || !lacking.Secret || len(received) != 2 {
		t.Errorf("%d records are received, %v", len(received), err)
	}
	rules.Eraser = names.NewEraser([]byte("a secret"))
	if regime, err = processor.NewRegime(rules, nil); err != nil {
		t.Fatal(err)
	}
	if received, err := processor.ReceiveAll([]processor.Message{erase.message(2)}, regime); err != nil || len(received) != 1 {
		t.Errorf("with the secret: %d records, %v", len(received), err)
	}
}
