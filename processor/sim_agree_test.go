package processor_test

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
)

// FuzzAgreement has the processor and the checker, who share no code, decide one record, and then a copy of it, each by
// its own reading of the design.
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
		rules := processor.Rules{Partitions: n, Policies: simRules.Policies}
		received := []processor.Received{processor.Receive(processor.Message{Offset: 0, Record: r}, rules), processor.Receive(processor.Message{Offset: 1, Record: r}, rules)}
		d := processor.Decide(processor.Ledger{Partition: partition, LogEpoch: 1, Rules: rules}, received)

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
		for i, o := range processor.OutputsOf(topicName, rules, fence, d.Rows) {
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
