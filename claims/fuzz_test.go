package claims_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/cloudevents/eventtest"
)

// FuzzRead: whatever comes along there is no panic; every error is one of the two classes; what is read is what another
// JSON library reads, and it reads back from what we write.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, file := range files {
		f.Add(eventtest.Read(f, file).Value)
	}
	for _, value := range []string{
		"", "null", "{}", "[]", "{\"space\":\"\xff\"}", `{"space":"username","name":"a","owner":"b","mode":"","x":"\u0000"}`,
		`{"space":"\ud83d\ude00","name":"\u0041","owner":"\"\\\/\b","mode":"reserve","metadata":{"a":null,"b":"c"}}`,
		`{"space":"s","name":"n","owner":"o","mode":"m","replaces":{"name":"x","version":-0},"deadline":"2026-11-21T10:00:00.5+01:00"}`,
		`{"space":"s","name":"n","owner":"o","mode":"m","ttl_seconds":1e3}`, `{"space":"s","space":"t"}`, `{"space":"s"} {}`,
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r := minimal().Record(event(), alice)
		r.Value = value
		read, err := claims.Read(r)
		if err != nil {
			var malformed *claims.MalformedError
			if !errors.As(err, &malformed) || read.Body != nil || !utf8.ValidString(err.Error()) {
				t.Fatalf("%q: %v, body %v", value, err, read.Body)
			}
			return
		}
		c := read.Body.(*claims.UsernameClaimed)
		checkAgainstJSON(t, value, c)
		again := c.Record(read.Event, alice)
		if len(again.Value) > claims.MaxRecord-len(again.Key) {
			return // a deadline of fewer digits may grow
		}
		back, err := claims.Read(again)
		if err != nil || !reflect.DeepEqual(back.Body, read.Body) {
			t.Fatalf("%q\nis      %+v\nand reads back from %q as\n        %+v, %v", value, c, again.Value, back.Body, err)
		}
		if c.Hash(alice, "", policies) != back.Body.(*claims.UsernameClaimed).Hash(alice, "", policies) {
			t.Fatalf("%q: another hash after reading back", value)
		}
	})
}

// checkAgainstJSON compares a claim with what encoding/json makes of the value.
func checkAgainstJSON(t *testing.T, value []byte, c *claims.UsernameClaimed) {
	t.Helper()
	var fields map[string]json.RawMessage // not a struct: its names would be compared without regard to case
	if err := json.Unmarshal(value, &fields); err != nil {
		t.Fatalf("%q was read, and is not JSON: %v", value, err)
	}
	if !utf8.Valid(value) {
		t.Fatalf("%q was read, and is not UTF-8", value)
	}
	into := func(field string, to any) {
		if raw, ok := fields[field]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				t.Fatalf("%q was read, and its %s is wrong: %v", value, field, err)
			}
		}
	}
	var space, name, owner, mode, onConflict string
	var ttl, version *int64
	var replaces *struct {
		Name    string
		Version int64
	}
	var metadata map[string]*string
	for field, to := range map[string]any{
		"space": &space, "name": &name, "owner": &owner, "mode": &mode, "on_conflict": &onConflict,
		"ttl_seconds": &ttl, "expected_version": &version, "metadata": &metadata,
	} {
		into(field, to)
	}
	if string(c.Space) != space || c.Spelling != name || c.Owner != owner || string(c.Mode) != mode || string(c.OnConflict) != onConflict {
		t.Fatalf("%q was read as %+v", value, c)
	}
	if !reflect.DeepEqual(c.TTLSeconds, ttl) || !reflect.DeepEqual(c.ExpectedVersion, version) {
		t.Fatalf("%q was read as %+v", value, c)
	}
	if raw := strings.ToLower(string(fields["replaces"])); strings.Count(raw, `"name"`) == 1 && strings.Count(raw, `"version"`) == 1 {
		into("replaces", &replaces)
		if c.Replaces == nil || c.Replaces.Name != replaces.Name || c.Replaces.Version != replaces.Version {
			t.Fatalf("%q was read as %+v", value, c.Replaces)
		}
	}
	kept := 0
	for k, v := range metadata {
		if v == nil {
			continue
		}
		kept++
		if got, ok := c.Metadata[k]; !ok || got != *v {
			t.Fatalf("%q was read with the metadata %q", value, c.Metadata)
		}
	}
	if len(c.Metadata) != kept {
		t.Fatalf("%q was read with the metadata %q", value, c.Metadata)
	}
	for _, text := range []string{space, name, owner, mode, onConflict} {
		if strings.ContainsRune(text, 0) {
			t.Fatalf("%q was read, and contains NUL", value)
		}
	}
}

// FuzzReadRecord: the same for everything around the value.
func FuzzReadRecord(f *testing.F) {
	f.Add([]byte("username/alice"), "application/json", "1.0", claimID.String(), claims.TypeUsernameClaimed, "gateway", minimal().AppendJSON(nil))
	f.Add([]byte(nil), "application/cloudevents+json", "0.3", "", "dibs.UsernameClaimed.v2", "\xff", []byte(nil))
	for _, test := range requests {
		f.Add([]byte("username/alice"), "application/json", "1.0", claimID.String(), test.body.Type(), "gateway", claims.NewRecord(test.body, event(), alice).Value)
	}
	f.Fuzz(func(t *testing.T, key []byte, contentType, specVersion, id, kind, principal string, value []byte) {
		r := cloudevents.Record{Key: key, Value: value}
		for _, h := range [][2]string{
			{"content-type", contentType}, {"ce_specversion", specVersion}, {"ce_id", id}, {"ce_type", kind}, {"ce_dibsprincipal", principal},
		} {
			r.Headers = append(r.Headers, cloudevents.Header{Name: h[0], Value: []byte(h[1])})
		}
		read, err := claims.Read(r)
		var malformed *claims.MalformedError
		var unanswerable *claims.UnanswerableError
		switch {
		case err == nil:
			if read.Body == nil || read.Type != kind || read.Body.Type() != kind || read.Principal != principal || !strings.EqualFold(read.ID.String(), id) {
				t.Fatalf("%+v was read as %+v", r, read)
			}
			again := claims.NewRecord(read.Body, read.Event, alice)
			if read.Body.Validate() != nil || len(again.Key)+len(again.Value) > claims.MaxRecord {
				return // what is empty is left out; a time of fewer digits may grow
			}
			if back, err := claims.Read(again); err != nil || !reflect.DeepEqual(back.Body, read.Body) {
				t.Fatalf("%q\nis      %+v\nand reads back from %q as\n        %+v, %v", value, read.Body, again.Value, back.Body, err)
			}
		case errors.As(err, &malformed):
			if read.Body != nil || read.Type != kind || !strings.EqualFold(read.ID.String(), id) {
				t.Fatalf("%+v was read as %+v, %v", r, read, err)
			}
		case errors.As(err, &unanswerable):
			if read.Body != nil {
				t.Fatalf("%+v was read as %+v, %v", r, read, err)
			}
		default:
			t.Fatalf("%+v: an error of no class: %v", r, err)
		}
	})
}
