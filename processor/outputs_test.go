package processor_test

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// What rows publish: each its own, in their order, and where it belongs.
func TestOutputs(t *testing.T) {
	l := aliceLedger()
	r := receiveAll(rules48, 7,
		asking{id: "c1", name: "alice", owner: "u-1"},
		asking{id: "c2", name: "alice", owner: "u-2"},
		asking{id: "c3", name: "bob", owner: "u-3"}, // misplaced
		asking{id: "c1", name: "alice", owner: "u-1", at: time.Hour},
		asking{id: "c1", name: "alice", owner: "u-9", at: time.Hour, headers: []cloudevents.Header{{Name: "traceparent", Value: []byte("00-1-2-00")}}})
	d := processor.Decide(l, r)
	if got, want := kinds(d), "Accepted taken forwarded duplicate dead"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	at := processor.Fence{Partition: onAlice, LogEpoch: 3}
	got := processor.OutputsOf("dibs.claims", rules48, simSigning, at, d.Rows)

	forwarded := r[2].Record
	forwarded.Headers = append(forwarded.Headers[:len(forwarded.Headers):len(forwarded.Headers)], cloudevents.Header{Name: "dibs-rerouted", Value: []byte("1")})
	forwarded.Time = time.Time{} // the topic refuses what is old: the writer stamps it
	letter := r[4].Record
	letter.Time = time.Time{}
	letter.Headers = append(letter.Headers[:len(letter.Headers):len(letter.Headers)],
		cloudevents.Header{Name: "dibs-dead-topic", Value: []byte("dibs.claims")},
		cloudevents.Header{Name: "dibs-dead-partition", Value: []byte(strconv.Itoa(int(onAlice)))},
		cloudevents.Header{Name: "dibs-dead-log-epoch", Value: []byte("3")},
		cloudevents.Header{Name: "dibs-dead-offset", Value: []byte("11")},
		cloudevents.Header{Name: "dibs-dead-reason", Value: []byte("ce_id was used before for a request with other content")},
	)
	want := []processor.Output{
		{Topic: processor.ToRegistrations, Partition: onAlice, Record: d.Rows[0].Outcome.Record()},
		{Topic: processor.ToRegistrations, Partition: onAlice, Record: d.Rows[1].Outcome.Record()},
		{Topic: processor.ToClaims, Partition: claims.Partition("username/bob", 48), Record: forwarded},
		{Topic: processor.ToRegistrations, Partition: onAlice, Record: d.Rows[0].Outcome.Record()}, // byte for byte
		{Topic: processor.ToDeadLetters, Partition: onAlice, Record: letter},
	}
	if len(got) != len(want) {
		t.Fatalf("%d outputs, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("output %d is\n%+v\nwant\n%+v", i, got[i], want[i])
		}
	}
	// The rows keep what they had: they may be published again.
	if again := processor.OutputsOf("dibs.claims", rules48, simSigning, at, d.Rows); !reflect.DeepEqual(again, got) {
		t.Error("published again it is something else")
	}
}

// A partition beyond the pinned count publishes on those that there are.
func TestOutputsBeyondTheCount(t *testing.T) {
	for partition, letters := range map[int32]int32{47: 47, 48: 0, 49: 1, 97: 1} {
		d := processor.Decide(processor.Ledger{Partition: partition, Rules: rules48}, append(
			receiveAll(rules48, 0, asking{id: "c1", name: "alice", owner: "u-1", headers: []cloudevents.Header{{Name: claims.Rerouted}}}),
			processor.Receive(processor.Message{Offset: 1}, rules48)))
		out := processor.OutputsOf("claims", rules48, simSigning, processor.Fence{Partition: partition}, d.Rows)
		if len(out) != 2 {
			t.Errorf("of partition %d: %d outputs, want 2", partition, len(out))
		}
		for _, o := range out {
			if o.Topic != processor.ToDeadLetters || o.Partition != letters {
				t.Errorf("of partition %d: topic %d, partition %d, want dead letters on %d", partition, o.Topic, o.Partition, letters)
			}
		}
	}
}

// A record's headers may have room behind them, and others may share it.
func TestOutputsLeaveTheRecordAlone(t *testing.T) {
	m := asking{id: "c1", name: "alice", owner: "u-1"}.message(0)
	m.Headers = append(make([]cloudevents.Header, 0, 32), m.Headers...)
	behind := m.Headers[len(m.Headers):cap(m.Headers)]
	away := processor.Ledger{Partition: onAlice + 1, Rules: rules48}
	forwarded := processor.Decide(away, []processor.Received{processor.Receive(m, rules48)})
	away.Refused = map[int64]string{0: "too odd"}
	dead := processor.Decide(away, []processor.Received{processor.Receive(m, rules48)})
	if kinds(forwarded) != "forwarded" || kinds(dead) != "dead" {
		t.Fatalf("%s, %s", kinds(forwarded), kinds(dead))
	}
	processor.OutputsOf("claims", rules48, simSigning, processor.Fence{}, dead.Rows)
	for _, h := range behind {
		if h.Name != "" {
			t.Errorf("%s was written behind the record's headers", h.Name)
		}
	}
}

// A rename publishes its outcome, and behind it the release of the old name: signed, under an id of its own, where the old
// name is, and the same again after a take-over.
func TestOutputsFollowUp(t *testing.T) {
	rules := processor.Rules{Partitions: 48, Policies: simPolicies(), Keys: simKeys}
	rename := asking{id: "c1", name: "alice", owner: "u-1", more: func(c *claims.UsernameClaimed) {
		c.Replaces = &claims.Replaces{Name: "Bob", Version: 3}
	}}
	d := processor.Decide(processor.Ledger{Partition: onAlice, LogEpoch: 1, Rules: rules}, receiveAll(rules, 0, rename))
	at := processor.Fence{Partition: onAlice, LogEpoch: 1}
	out := processor.OutputsOf("claims", rules, simSigning, at, d.Rows)
	if len(out) != 2 || out[0].Topic != processor.ToRegistrations || out[1].Topic != processor.ToClaims {
		t.Fatalf("%d outputs: %+v", len(out), out)
	}
	onBob := claims.Partition("username/bob", 48)
	r := out[1]
	if r.Partition != onBob || string(r.Key) != "username/bob" || !r.Time.IsZero() {
		t.Errorf("the follow-up is %s on partition %d at %s", r.Key, r.Partition, r.Time)
	}
	q, err := claims.Read(r.Record)
	if err != nil {
		t.Fatal(err)
	}
	three := int64(3)
	want := &claims.ReleaseRequested{About: claims.About{Space: "username", Spelling: "bob"}, Owner: "u-1", ExpectedVersion: &three}
	if !reflect.DeepEqual(q.Body, claims.Body(want)) || q.ID != claims.ReleaseID(idOf("c1"), names.Ref{Space: names.Username, Key: "alice"}) || q.Principal != claims.Principal || !simKeys.Signed(r.Record) {
		t.Errorf("the follow-up is %+v: %+v, signed %t", q.Event, q.Body, simKeys.Signed(r.Record))
	}
	if again := processor.OutputsOf("claims", rules, simSigning, at, d.Rows); !reflect.DeepEqual(again, out) {
		t.Error("published again it is something else")
	}

	// Its partition takes it for what it is.
	r.Time = tenOClock
	got := processor.Decide(processor.Ledger{Partition: onBob, LogEpoch: 1, Rules: rules}, []processor.Received{processor.Receive(processor.Message{Record: r.Record}, rules)})
	if kinds(got) != "not_owner" { // nobody has bob here
		t.Errorf("it is decided %s", kinds(got))
	}
}

// A mark and an answer that there is nothing to do are recorded, not published; a fact is published in its order.
func TestOutputsNotPublished(t *testing.T) {
	outcome := func(kind processor.Kind, what registrations.Type, seq int) processor.Row {
		o := registrations.Outcome{Type: what, Fact: kind == processor.KindFact, Seq: seq, RequestID: idOf("r"), Ref: aliceRef, LogTime: tenOClock}
		return processor.Row{Kind: kind, Seq: seq, RequestID: o.RequestID, Outcome: o}
	}
	rows := []processor.Row{
		outcome(processor.KindFact, registrations.Expired, 0), outcome(processor.KindOutcome, registrations.Unchanged, 1),
		{Kind: processor.KindMark, RequestID: idOf("c"), Outcome: registrations.Outcome{Owner: "u-1"}}, outcome(processor.KindOutcome, registrations.Withdrawn, 1),
		outcome(processor.KindDuplicate, registrations.Unchanged, 1),
	}
	out := processor.OutputsOf("claims", rules48, simSigning, processor.Fence{Partition: onAlice}, rows)
	if len(out) != 2 || !reflect.DeepEqual(out[0].Record, rows[0].Outcome.Record()) || !reflect.DeepEqual(out[1].Record, rows[3].Outcome.Record()) {
		t.Errorf("%d outputs: %+v", len(out), out)
	}
}
