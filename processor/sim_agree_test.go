package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
)

// FuzzAgreement has the processor and the reference decide one record, and then a copy of it, each by its own reading of
// the design; and the checker, who shares no code with either, where it is a claim of the kind that it knows.
func FuzzAgreement(f *testing.F) {
	const id, kind, good = "6f0c1b7e-3a55-4d0e-9a39-0d8f4a6b2c11", "dibs.UsernameClaimed.v1", `{"space":"username","name":"Alice","owner":"u-17","mode":"register"}`
	for _, value := range []string{
		good, `{"space":"username","name":"Alice","owner":"u-17","mode":"reserve","ttl_seconds":60}`, "x", "{}", "null", good + " ", good + "x",
		`{"space":"s","name":"","owner":"","mode":""}`, `{"name":"späß","owner":"\u00e9","space":"username","mode":"register","mode":"register"}`,
		`{"space":"username","name":"root","owner":"u","mode":"register","replaces":{"name":"Bob","version":1},"expected_version":-1,"on_conflict":"x","deadline":"2026-11-21T10:00:00.0001+01:00","metadata":{"b":"1","a":"\ud83d\ude00"}}`,
		`{"space":"username","name":"abc","owner":"u","mode":"register","expected_version":null,"on_conflict":"return_existing","deadline":"2020-01-01T00:00:00Z","x":[{}]}`,
	} {
		f.Add([]byte("username/alice"), []byte(value), id, kind, "application/json", "1.0", "gateway", int32(0), uint8(3), int64(1700000000000))
	}
	for kind, value := range map[string]string{
		claims.TypeConfirmRequested: `"claim_id":"` + id + `","owner":"u"`, claims.TypeExtendRequested: `"claim_id":"` + id + `","owner":"u","ttl_seconds":60`,
		claims.TypeReleaseRequested: `"owner":"u","expected_version":0`, claims.TypeWithdrawRequested: `"claim_id":"` + id + `","owner":"u"`,
		claims.TypeDeactivateRequested: `"owner":"u"`, claims.TypeReactivateRequested: `"owner":"u"`, claims.TypeTransferRequested: `"owner":"u","new_owner":"v"`,
		claims.TypeBlockRequested: `"actor":"a","reason":"r"`, claims.TypeUnblockRequested: `"actor":"a","reason":"r"`,
		claims.TypeErasureRequested: `"owner":"u","actor":"a","reason":"r"`, claims.TypeExpiryDue: `"claim_id":"` + id + `","expires_at":"2026-11-21T10:00:00.000Z"`,
	} {
		for signed := range 2 {
			f.Add([]byte("handle/alice"), []byte(`{"space":"handle","name":"Alice",`+value+"}"), id, kind, "application/json", "1.0", "gateway", int32(0), uint8(0), int64(1700000000000)+int64(signed))
		}
	}
	for _, name := range []string{"PayPal", "раураӏ", "p\u0430ypal", "a\u200db", "_l0l_", "ПЁТР"} {
		value := `{"space":"alike","name":"` + name + `","owner":"u","mode":"register","replaces":{"name":"paypa1","version":1}}`
		f.Add([]byte("alike/paypal"), []byte(value), id, kind, "application/json", "1.0", "gateway", int32(0), uint8(0), int64(1700000000000))
	}
	for _, of := range []string{id, "6f0c1b7e-3a55-8d0e-9a39-0d8f4a6b2c11"} {
		f.Add([]byte("alike/_lol_"), []byte(`{"space":"alike","key":"_lol_","owner":"u"}`), of, claims.TypeReleaseRequested, "application/json", "1.0", "dibs", int32(0), uint8(0), int64(1700000000000))
	}
	f.Add([]byte(nil), []byte(good), id, kind, "application/cloudevents", "1.0", "", int32(1), uint8(1), int64(-1))
	f.Add([]byte{0xff}, []byte("x"), "6F0C1B7E-3A55-7D0E-9A39-0D8F4A6B2C11", kind, "", "1.0", "a\nb", int32(2), uint8(200), int64(1)<<50)
	f.Fuzz(func(t *testing.T, key, value []byte, id, kind, contentType, version, principal string, partition int32, partitions uint8, ms int64) {
		n := int(partitions) + 1
		if partition < 0 || int(partition) > 300 || ms < -1 || ms > 1<<52 {
			return
		}
		r := cloudevents.Record{Key: key, Value: value, Time: time.UnixMilli(ms).UTC(), Headers: []cloudevents.Header{
			{Name: cloudevents.ContentType, Value: []byte(contentType)}, {Name: cloudevents.SpecVersion, Value: []byte(version)},
			{Name: cloudevents.ID, Value: []byte(id)}, {Name: cloudevents.Type, Value: []byte(kind)},
		}}
		if principal != "" {
			r.Headers = append(r.Headers, cloudevents.Header{Name: cloudevents.Principal, Value: []byte(principal)})
		}
		rules := processor.Rules{Partitions: n, Policies: simRules.Policies, Keys: simKeys}
		if ms%2 == 0 {
			r = simSigning.Sign(r)
		}
		received := []processor.Received{processor.Receive(processor.Message{Offset: 0, Record: r}, rules), processor.Receive(processor.Message{Offset: 1, Record: r}, rules)}
		d := processor.Decide(processor.Ledger{Partition: partition, LogEpoch: 1, Rules: rules}, received)

		at := fmt.Sprintf("%s %q", kind, value)
		y, left := newReference(rules, partition), d.Rows
		for offset := range int64(2) {
			for _, x := range y.next(processor.Message{Offset: offset, Record: r}) {
				if len(left) == 0 {
					t.Fatalf("%s: no row where there should be %s", at, x.text())
				}
				if diff := x.differs(&left[0], partition); diff != "" {
					t.Errorf("%s: %s: %s", at, x.text(), diff)
				}
				left = left[1:]
			}
		}
		if len(left) > 0 {
			t.Errorf("%s: %d rows too many", at, len(left))
		}
		if !plainClaim(kind, &received[0].Request) {
			return
		}

		h := checker.History{
			Partitions: n, Topic: topicName, Running: true,
			Claims:   []checker.Record{recordOf(partition, 1, 0, r), recordOf(partition, 1, 1, r)},
			Logs:     []checker.Log{{Partition: partition, LogEpoch: 1, End: 2}},
			Progress: []checker.Progress{{Partition: partition, LogEpoch: 1, NextOffset: 2, PublishedThrough: 2}},
		}
		for _, row := range d.Rows {
			h.Decisions = append(h.Decisions, decisionOf(memory.Row{Partition: partition, LogEpoch: 1, Row: row}))
		}
		fence := processor.Fence{Partition: partition, LogEpoch: 1}
		for i, o := range processor.OutputsOf(topicName, rules, simSigning, fence, d.Rows) {
			if o.Topic == processor.ToRegistrations {
				h.Registrations = append(h.Registrations, recordOf(o.Partition, 0, int64(i), o.Record))
			}
		}
		for _, c := range d.Changes {
			h.Names = append(h.Names, nameOf(c.Ref, c.Holding))
		}
		for _, v := range checker.Check(h) {
			t.Error(v)
		}
	})
}

// plainClaim reports whether the checker knows what a request asks.
func plainClaim(kind string, q *claims.Request) bool {
	if kind != claims.TypeUsernameClaimed || claims.OwnID(q.ID) {
		return false
	}
	b, ok := q.Body.(*claims.UsernameClaimed)
	return !ok || b.Mode != claims.ModeReserve && b.Replaces == nil && b.Space != spaceHandle && b.Space != spaceVanity && b.Space != spaceAlike && b.Space != spaceSecret
}
