package claims_test

import (
	"flag"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/cloudevents/eventtest"
	"github.com/dibs-hq/dibs/names"
)

var update = flag.Bool("update", false, "write the golden files anew")

var trace = []cloudevents.Header{
	{Name: "traceparent", Value: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")},
	{Name: "tracestate", Value: []byte("congo=t61rcWkgMzE")},
}

// The files are the contract of topic one: what producers in any language write, and what we go on reading.
func TestGolden(t *testing.T) {
	private := names.Ref{Space: "email", Key: "h1:9d71ff2b7e49f27b7dd3e85c07569f1bb53bb714d86f1ba8b34260a37b95e3cb"}
	renamed := &claims.UsernameClaimed{
		Space: private.Space, Key: private.Key, Owner: "u-17", Mode: claims.ModeRegister,
		Replaces: &claims.Replaces{Key: "h1:3e524580f04287973e4f7bff8925d4fde47997293491c7fba713c5b76fac923f", Version: 2},
	}
	for file, test := range map[string]struct {
		claim *claims.UsernameClaimed
		ref   names.Ref
		extra []cloudevents.Header
	}{
		"username_claimed_minimal.json": {minimal(), alice, nil},
		"username_claimed_full.json":    {full(), alice, trace},
		"username_claimed_private.json": {renamed, private, nil},
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("testdata", file)
			written := test.claim.Record(event(), test.ref, test.extra...)
			eventtest.Check(t, path, written, *update)

			read, err := claims.Read(eventtest.Read(t, path))
			if err != nil {
				t.Fatal(err)
			}
			want := claims.Request{Event: event(), Body: test.claim}
			want.Type, want.Subject = claims.TypeUsernameClaimed, test.ref.String()
			if !reflect.DeepEqual(read, want) {
				t.Errorf("got  %+v %+v\nwant %+v %+v", read, read.Body, want, want.Body)
			}
			again := read.Body.(*claims.UsernameClaimed).Record(read.Event, test.ref, test.extra...)
			eventtest.Check(t, path, again, false)
		})
	}
}

// Whatever somebody else puts on the topic in good faith, beyond what we write ourselves, is read as they mean it.
func TestReadIsGenerous(t *testing.T) {
	record := func(value string, headers ...cloudevents.Header) cloudevents.Record {
		r := minimal().Record(event(), alice)
		r.Value = []byte(value)
		r.Headers = append(headers, r.Headers...)
		return r
	}
	for name, r := range map[string]cloudevents.Record{
		"other order":        record(`{"mode":"register","owner":"u-17","name":"Alice","space":"username"}`),
		"white space":        record(" {\n\t\"space\" : \"username\" , \"name\":\"Alice\",\"owner\":\"u-17\",\"mode\":\"register\"\r\n}\n"),
		"escapes":            record(`{"sp\u0061ce":"username","name":"\u0041lice","owner":"u\u002d17","mode":"register"}`),
		"unknown fields":     record(`{"x":{"y":[1,2,{"z":null}]},"space":"username","name":"Alice","owner":"u-17","mode":"register","Name":"Bob"}`),
		"null is absent":     record(`{"space":"username","name":"Alice","owner":"u-17","mode":"register","ttl_seconds":null,"replaces":null,"expected_version":null,"on_conflict":null,"deadline":null,"metadata":null}`),
		"empty metadata":     record(`{"space":"username","name":"Alice","owner":"u-17","mode":"register","metadata":{}}`),
		"metadata of nulls":  record(`{"space":"username","name":"Alice","owner":"u-17","mode":"register","metadata":{"a":null}}`),
		"Go's zero deadline": record(`{"space":"username","name":"Alice","owner":"u-17","mode":"register","deadline":"0001-01-01T00:00:00Z"}`),
		"an escaped escape":  record(`{"space":"username","name":"Alice","owner":"u-17","mode":"register","x":"\\u0000 \\\\u0000"}`),
		"content type":       record(string(minimal().AppendJSON(nil)), cloudevents.Header{Name: "content-type", Value: []byte("application/json; charset=utf-8")}),
		"a header of theirs": record(string(minimal().AppendJSON(nil)), cloudevents.Header{Name: "x-request-id", Value: []byte{0xff, 0}}),
	} {
		t.Run(name, func(t *testing.T) {
			read, err := claims.Read(r)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(read.Body, claims.Body(minimal())) {
				t.Errorf("got %+v, want %+v", read.Body, minimal())
			}
		})
	}
}

func TestRerouted(t *testing.T) {
	for _, value := range []string{"1", ""} {
		r := minimal().Record(event(), alice, cloudevents.Header{Name: claims.Rerouted, Value: []byte(value)})
		if read, err := claims.Read(r); err != nil || !read.Rerouted {
			t.Errorf("%q: rerouted %v, %v", value, read.Rerouted, err)
		}
	}
	if read, _ := claims.Read(minimal().Record(event(), alice)); read.Rerouted {
		t.Error("rerouted without the header")
	}
	// Also what cannot be read is forwarded once only.
	r := minimal().Record(event(), alice, cloudevents.Header{Name: claims.Rerouted, Value: []byte("1")})
	r.Value = nil
	if read, err := claims.Read(r); err == nil || !read.Rerouted {
		t.Errorf("unreadable: rerouted %v, %v", read.Rerouted, err)
	}
}

func TestRecordLeavesOutWhatIsAbsent(t *testing.T) {
	c := minimal()
	c.Metadata = map[string]string{}
	if got := string(c.AppendJSON(nil)); got != `{"space":"username","name":"Alice","owner":"u-17","mode":"register"}` {
		t.Error(got)
	}
}

func TestRecordIsAboutItsName(t *testing.T) {
	r := minimal().Record(cloudevents.Event{ID: claimID, Type: "wrong", Subject: "wrong"}, names.Ref{Space: "username", Key: "bob"})
	if string(r.Key) != "username/bob" {
		t.Errorf("key %q", r.Key)
	}
	if subject, _ := r.Header(cloudevents.Subject); string(subject) != "username/bob" {
		t.Errorf("subject %q", subject)
	}
	if kind, _ := r.Header(cloudevents.Type); string(kind) != claims.TypeUsernameClaimed {
		t.Errorf("type %q", kind)
	}
	if !r.Time.IsZero() {
		t.Errorf("time %v: the writer stamps it", r.Time)
	}
	if space, name := minimal().Name(); space != "username" || name != "Alice" || minimal().Type() != claims.TypeUsernameClaimed {
		t.Errorf("the claim is about %s/%s", space, name)
	}
}
