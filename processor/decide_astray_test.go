package processor_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// A record that lies where it does not belong.
func TestDecideMisplaced(t *testing.T) {
	once := []cloudevents.Header{{Name: claims.Rerouted, Value: []byte("1")}}
	away := func(key string) int32 { return (claims.Partition(key, 48) + 1) % 48 }
	unknown := func(c *claims.UsernameClaimed) { c.Space = "nope" }
	for name, test := range map[string]struct {
		asking
		on     int32
		want   string
		key    string // what a forwarded record is keyed by
		detail string
	}{
		"where it belongs":                    {asking{name: "alice"}, onAlice, "Accepted", "", ""},
		"elsewhere":                           {asking{name: "Alice"}, away("username/alice"), "forwarded", "username/alice", ""},
		"elsewhere, again":                    {asking{name: "Alice", headers: once}, away("username/alice"), "dead", "", fmt.Sprintf("belongs on partition %d and was forwarded once before", onAlice)},
		"where it belongs, forwarded":         {asking{name: "alice", headers: once}, onAlice, "Accepted", "", ""},
		"the key of another, by its content":  {asking{name: "alice", key: "username/bob"}, onAlice, "Accepted", "", ""},
		"no key, by its content":              {asking{name: "alice", key: "x"}, onAlice, "Accepted", "", ""},
		"the key of another, elsewhere":       {asking{name: "alice", key: "username/bob"}, away("username/alice"), "forwarded", "username/alice", ""},
		"in capitals, where the key leads":    {asking{name: "Alice", key: "username/Alice"}, claims.Partition("username/Alice", 48), "forwarded", "username/alice", ""},
		"beyond the pinned count":             {asking{name: "alice"}, 48, "forwarded", "username/alice", ""},
		"beyond the pinned count, again":      {asking{name: "alice", headers: once}, 49, "dead", "", fmt.Sprintf("belongs on partition %d and was forwarded once before", onAlice)},
		"unreadable, where its key leads":     {asking{key: "username/alice", value: []byte("hello")}, onAlice, "malformed", "", ""},
		"unreadable, elsewhere":               {asking{key: "username/alice", value: []byte("hello")}, away("username/alice"), "forwarded", "username/alice", ""},
		"unreadable, elsewhere, again":        {asking{key: "username/alice", value: []byte("hello"), headers: once}, away("username/alice"), "dead", "", fmt.Sprintf("belongs on partition %d and was forwarded once before", onAlice)},
		"unreadable, a key that is no name's": {asking{key: "Alice!", value: []byte("hello")}, claims.Partition("Alice!", 48), "malformed", "", ""},
		"unreadable, elsewhere, stray key":    {asking{key: "Alice!", value: []byte("hello")}, away("Alice!"), "forwarded", "Alice!", ""},
		"unknown space, where its key leads":  {asking{name: "alice", key: "nope/alice", more: unknown}, claims.Partition("nope/alice", 48), "unknown_space", "", ""},
		"unknown space, elsewhere":            {asking{name: "alice", key: "nope/alice", more: unknown}, away("nope/alice"), "forwarded", "nope/alice", ""},
		"no name, where its key leads":        {asking{name: "-", key: "username/-"}, claims.Partition("username/-", 48), "invalid_name", "", ""},
		"no name, elsewhere":                  {asking{name: "-", key: "username/-"}, away("username/-"), "forwarded", "username/-", ""},
		"unreadable and beyond":               {asking{key: "username/alice", value: []byte("hello")}, 400, "forwarded", "username/alice", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := test.asking
			a.id, a.owner = "c1", "u-1"
			r := receiveAll(rules48, 5, a)
			before := r[0].Record
			headers := slices.Clone(before.Headers)
			d := processor.Decide(processor.Ledger{Partition: test.on, LogEpoch: 1, Rules: rules48}, r)
			if got := kinds(d); got != test.want {
				t.Fatalf("%s, want %s", got, test.want)
			}
			row := d.Rows[0]
			if !reflect.DeepEqual(r[0].Headers, headers) {
				t.Error("the record as read was changed")
			}
			switch row.Kind {
			case processor.KindForwarded:
				want := before
				want.Key, want.Headers, want.Time = []byte(test.key), append(headers, once...), time.Time{}
				if !reflect.DeepEqual(*row.Raw, want) {
					t.Errorf("forwarded\n%+v\nwant\n%+v", *row.Raw, want)
				}
				// Where it lands it is decided, and never forwarded again.
				m := processor.Message{Record: *row.Raw}
				there := processor.Decide(processor.Ledger{Partition: claims.Partition(test.key, 48), Rules: rules48}, []processor.Received{processor.Receive(m, rules48)})
				if there.Rows[0].Kind != processor.KindOutcome || there.Rows[0].RequestID != idOf("c1") {
					t.Errorf("where it was forwarded to: %s", kinds(there))
				}
			case processor.KindDead:
				if row.Detail != test.detail || !reflect.DeepEqual(*row.Raw, before) {
					t.Errorf("dead of %q, %+v", row.Detail, *row.Raw)
				}
			}
			if row.Kind != processor.KindOutcome && (len(d.Changes) > 0 || row.Outcome != (registrations.Outcome{})) {
				t.Errorf("left %+v and %+v", d.Changes, row.Outcome)
			}
		})
	}
}

// What nobody can be told about.
func TestDecideDead(t *testing.T) {
	good := asking{id: "c1", name: "alice", owner: "u-1"}.message(0)
	with := func(change func(*processor.Message)) processor.Message {
		m := good
		m.Headers = slices.Clone(m.Headers)
		change(&m)
		return m
	}
	set := func(m *processor.Message, name, value string) {
		m.Headers = append([]cloudevents.Header{{Name: name, Value: []byte(value)}}, m.Headers...)
	}
	const noKey = "the record's key is empty, too long, or not text, and no other can be computed"
	unreadable := func(key []byte) processor.Message {
		return with(func(m *processor.Message) { m.Key, m.Value = key, []byte("hello") })
	}
	for name, test := range map[string]struct {
		processor.Message
		id     uuid.UUID
		detail string
	}{
		"no event at all":           {processor.Message{}, uuid.Nil, "ce_id is not a UUID"},
		"structured":                {with(func(m *processor.Message) { set(m, "content-type", "application/cloudevents+json") }), idOf("c1"), "structured mode: send the binary mode, with ce_ headers and the data as the value"},
		"unknown type":              {with(func(m *processor.Message) { set(m, "ce_type", "dibs.Wished.v1") }), idOf("c1"), `ce_type "dibs.Wished.v1" is unknown`},
		"an id of dibs' own":        {with(func(m *processor.Message) { set(m, "ce_id", "6f0c3a52-8f4e-8c1d-9b7a-2f6d1e5c4b3a") }), uuid.MustParse("6f0c3a52-8f4e-8c1d-9b7a-2f6d1e5c4b3a"), "ce_id is of version 8, which is for dibs' own requests, and is not signed as one"},
		"unreadable, null key":      {unreadable(nil), idOf("c1"), noKey},
		"unreadable, empty key":     {unreadable([]byte{}), idOf("c1"), noKey},
		"unreadable, key too long":  {unreadable([]byte(strings.Repeat("k", 513))), idOf("c1"), noKey},
		"unreadable, key not UTF-8": {unreadable([]byte("username/\xff")), idOf("c1"), noKey},
		"unreadable, key with NUL":  {unreadable([]byte("username/a\x00b")), idOf("c1"), noKey},
		"no name, null key": {with(func(m *processor.Message) {
			m.Key, m.Value = nil, []byte(`{"space":"username","name":"-","owner":"o","mode":"register"}`)
		}), idOf("c1"), noKey},
		"no space, null key": {with(func(m *processor.Message) {
			m.Key, m.Value = nil, []byte(`{"space":"nope","name":"alice","owner":"o","mode":"register"}`)
		}), idOf("c1"), noKey},
	} {
		t.Run(name, func(t *testing.T) {
			for partition := range int32(50) { // wherever it lies
				d := processor.Decide(processor.Ledger{Partition: partition, LogEpoch: 1, Rules: rules48}, []processor.Received{processor.Receive(test.Message, rules48)})
				want := []processor.Row{{Kind: processor.KindDead, RequestID: test.id, Raw: &test.Record, Detail: test.detail}}
				if !reflect.DeepEqual(d.Rows, want) || d.Changes != nil {
					t.Fatalf("rows %+v, want %+v", d.Rows, want)
				}
			}
		})
	}
	// A readable claim needs no key of its own; and a key of 512 bytes will do.
	m := with(func(m *processor.Message) { m.Key = nil })
	if d := processor.Decide(aliceLedger(), []processor.Received{processor.Receive(m, rules48)}); kinds(d) != "Accepted" {
		t.Errorf("null key: %s", kinds(d))
	}
	long := unreadable([]byte(strings.Repeat("k", 512)))
	on := claims.Partition(string(long.Key), 48)
	if d := processor.Decide(processor.Ledger{Partition: on, Rules: rules48}, []processor.Received{processor.Receive(long, rules48)}); kinds(d) != "malformed" {
		t.Errorf("a key of 512 bytes: %s", kinds(d))
	}
}
