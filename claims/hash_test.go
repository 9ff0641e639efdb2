package claims_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

var policies = names.Builtin()

// The texts are written by hand and their hashes come from sha256sum: hashes are stored, so they never change.
func TestHashIsFixed(t *testing.T) {
	for name, test := range map[string]struct {
		claim     *claims.UsernameClaimed
		principal string
		text, sum string
	}{
		"minimal": {minimal(), "gateway",
			`{"key":"alice","mode":"register","owner":"u-17","principal":"gateway","space":"username","type":"dibs.UsernameClaimed.v1"}`,
			"139b0a87b5aed62b9b30e889358b06a321353146402e51a77b138cfe32e8cdfd"},
		"without a principal": {minimal(), "",
			`{"key":"alice","mode":"register","owner":"u-17","space":"username","type":"dibs.UsernameClaimed.v1"}`,
			"0508ffc76339899b27c617e70fff11ff12de5dea781219bf46e553beaa9e85d6"},
		"full": {full(), "gateway",
			`{"expected_version":0,"key":"alice","metadata":{"campaign":"spring \"26\"","plan":"free","ville":"Besançon"},"mode":"reserve","on_conflict":"return_existing","owner":"u-17","principal":"gateway","replaces":{"name":"old.alice","version":3},"space":"username","ttl_seconds":900,"type":"dibs.UsernameClaimed.v1"}`,
			"eaff8518dfa99047de33605afe174ec1042bd86633fb99d858d1a0e8927a5384"},
	} {
		got := test.claim.Hash(alice, test.principal, policies)
		if want := sha256.Sum256([]byte(test.text)); got != want {
			t.Errorf("%s: not the hash of %s", name, test.text)
		}
		if sum := hex.EncodeToString(got[:]); sum != test.sum {
			t.Errorf("%s: %s, want %s", name, sum, test.sum)
		}
	}
}

// asked is what a claim asks for, once more in another way: as a map.
func asked(c *claims.UsernameClaimed, ref names.Ref, principal string) map[string]any {
	m := map[string]any{"type": "dibs.UsernameClaimed.v1", "space": string(ref.Space), "key": string(ref.Key), "owner": c.Owner, "mode": string(c.Mode)}
	if c.TTLSeconds != nil {
		m["ttl_seconds"] = *c.TTLSeconds
	}
	if c.ExpectedVersion != nil {
		m["expected_version"] = *c.ExpectedVersion
	}
	if c.OnConflict != "" {
		m["on_conflict"] = string(c.OnConflict)
	}
	if c.Replaces != nil {
		old := c.Replaces.Name
		if key, err := policies[names.Username].HeldKey(old); err == nil && ref.Space == names.Username {
			old = string(key)
		}
		m["replaces"] = map[string]any{"name": old, "version": c.Replaces.Version}
	}
	if len(c.Metadata) > 0 {
		m["metadata"] = c.Metadata
	}
	if principal != "" {
		m["principal"] = principal
	}
	return m
}

// maxExact is the largest whole number that RFC 8785 writes as it is.
const maxExact = 1 << 53

func drawClaim(t *rapid.T) *claims.UsernameClaimed {
	text := rapid.String()
	number := rapid.Ptr(rapid.Int64Range(-maxExact, maxExact), true)
	c := &claims.UsernameClaimed{
		Space: names.Space(text.Draw(t, "space")), Spelling: text.Draw(t, "name"), Owner: text.Draw(t, "owner"),
		Mode: claims.Mode(text.Draw(t, "mode")), OnConflict: claims.OnConflict(text.Draw(t, "on_conflict")),
		TTLSeconds: number.Draw(t, "ttl_seconds"), ExpectedVersion: number.Draw(t, "expected_version"),
	}
	if m := rapid.MapOfN(text, text, 0, 5).Draw(t, "metadata"); len(m) > 0 {
		c.Metadata = m
	}
	if rapid.Bool().Draw(t, "replaces") {
		old := rapid.OneOf(text, rapid.SampledFrom([]string{"Old", "old", "no name"}))
		c.Replaces = &claims.Replaces{Name: old.Draw(t, "old"), Version: rapid.Int64Range(-maxExact, maxExact).Draw(t, "version")}
	}
	if ms := rapid.Int64Range(0, 4102444800000).Draw(t, "deadline"); ms > 0 {
		c.Deadline = time.UnixMilli(ms).UTC()
	}
	return c
}

// The hash is over canonical JSON as another implementation of RFC 8785 makes it.
func TestHashIsOverCanonicalJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, principal := drawClaim(t), rapid.String().Draw(t, "principal")
		ref := names.Ref{
			Space: rapid.SampledFrom([]names.Space{names.Username, "email"}).Draw(t, "space"),
			Key:   names.Key(rapid.String().Draw(t, "key")),
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(asked(c, ref, principal)); err != nil {
			t.Fatal(err)
		}
		text := jsontext.Value(b.Bytes())
		if err := text.Canonicalize(); err != nil {
			t.Fatal(err)
		}
		if got := c.Hash(ref, principal, policies); got != sha256.Sum256(text) {
			t.Fatalf("not the hash of %s", text)
		}
	})
}

// RFC 8785 writes larger numbers as the nearest double. We keep them exact: two versions never hash alike.
func TestHashKeepsLargeNumbersApart(t *testing.T) {
	a, b := minimal(), minimal()
	a.ExpectedVersion, b.ExpectedVersion = new(int64(maxExact)), new(int64(maxExact+1))
	if a.Hash(alice, "", policies) == b.Hash(alice, "", policies) {
		t.Error("2^53 and 2^53+1 have one hash")
	}
}

// Two claims have one hash if and only if they ask for the same: drawn from few values, so that they often do.
func TestHashTellsClaimsApart(t *testing.T) {
	type input struct {
		claim     *claims.UsernameClaimed
		ref       names.Ref
		principal string
	}
	draw := func(t *rapid.T) input {
		few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		number := rapid.SampledFrom([]*int64{nil, new(int64(0)), new(int64(1))})
		c := &claims.UsernameClaimed{
			Space: names.Username, Spelling: few("name", "Alice", "alice"), Owner: few("owner", "u-1", "u-2"),
			Mode: claims.Mode(few("mode", "register", "reserve")), OnConflict: claims.OnConflict(few("on_conflict", "", "return_existing")),
			TTLSeconds: number.Draw(t, "ttl_seconds"), ExpectedVersion: number.Draw(t, "expected_version"),
			Replaces: rapid.SampledFrom([]*claims.Replaces{nil, {Name: "old", Version: 1}, {Name: "OLD", Version: 1}, {Name: "old", Version: 2}, {Name: "-", Version: 1}}).Draw(t, "replaces"),
			Metadata: rapid.SampledFrom([]map[string]string{nil, {}, {"a": "b"}, {"a": "b", "c": ""}, {"c": "", "a": "b"}}).Draw(t, "metadata"),
			Deadline: rapid.SampledFrom([]time.Time{{}, sentAt}).Draw(t, "deadline"),
		}
		return input{c, names.Ref{Space: names.Username, Key: names.Key(few("key", "alice", "bob"))}, few("principal", "", "gateway")}
	}
	same := 0
	rapid.Check(t, func(t *rapid.T) {
		a := draw(t)
		b := a
		if rapid.Bool().Draw(t, "near") { // all but one thing the same
			one := draw(t)
			c := *a.claim
			b.claim = &c
			switch rapid.IntRange(0, 9).Draw(t, "which") {
			case 0:
				b.ref = one.ref
			case 1:
				b.principal = one.principal
			case 2:
				c.Owner = one.claim.Owner
			case 3:
				c.Mode = one.claim.Mode
			case 4:
				c.TTLSeconds = one.claim.TTLSeconds
			case 5:
				c.Replaces = one.claim.Replaces
			case 6:
				c.ExpectedVersion = one.claim.ExpectedVersion
			case 7:
				c.OnConflict = one.claim.OnConflict
			case 8:
				c.Metadata = one.claim.Metadata
			case 9:
				c.Spelling, c.Deadline = one.claim.Spelling, one.claim.Deadline
			}
		} else {
			b = draw(t)
		}
		x, y := asked(a.claim, a.ref, a.principal), asked(b.claim, b.ref, b.principal)
		equal := a.claim.Hash(a.ref, a.principal, policies) == b.claim.Hash(b.ref, b.principal, policies)
		if equal != reflect.DeepEqual(x, y) {
			t.Fatalf("one hash: %v, for\n%v\n%v", equal, x, y)
		}
		if equal {
			same++
		}
	})
	if same == 0 {
		t.Errorf("%d pairs asked for the same: too few to say anything", same)
	}
}

// Each thing on its own: what is part of the hash, and what is not.
func TestHashFields(t *testing.T) {
	base := full().Hash(alice, "gateway", policies)
	for name, test := range map[string]struct {
		change func(*claims.UsernameClaimed)
		same   bool
	}{
		"nothing":                     {func(*claims.UsernameClaimed) {}, true},
		"spelling":                    {func(c *claims.UsernameClaimed) { c.Spelling = "ALICE" }, true},
		"spelling of the replaced":    {func(c *claims.UsernameClaimed) { c.Replaces.Name = "OLD.ALICE" }, true},
		"deadline":                    {func(c *claims.UsernameClaimed) { c.Deadline = time.Time{} }, true},
		"space of the body":           {func(c *claims.UsernameClaimed) { c.Space = "email" }, true}, // the ref's counts
		"owner":                       {func(c *claims.UsernameClaimed) { c.Owner = "u-18" }, false},
		"mode":                        {func(c *claims.UsernameClaimed) { c.Mode = claims.ModeRegister }, false},
		"ttl":                         {func(c *claims.UsernameClaimed) { c.TTLSeconds = new(int64(901)) }, false},
		"no ttl":                      {func(c *claims.UsernameClaimed) { c.TTLSeconds = nil }, false},
		"ttl 0 for none":              {func(c *claims.UsernameClaimed) { c.TTLSeconds = new(int64(0)) }, false},
		"expected version":            {func(c *claims.UsernameClaimed) { c.ExpectedVersion = new(int64(1)) }, false},
		"any version":                 {func(c *claims.UsernameClaimed) { c.ExpectedVersion = nil }, false},
		"the replaced":                {func(c *claims.UsernameClaimed) { c.Replaces.Name = "other" }, false},
		"the replaced one's version":  {func(c *claims.UsernameClaimed) { c.Replaces.Version = 4 }, false},
		"nothing replaced":            {func(c *claims.UsernameClaimed) { c.Replaces = nil }, false},
		"on_conflict":                 {func(c *claims.UsernameClaimed) { c.OnConflict = "" }, false},
		"metadata, a value":           {func(c *claims.UsernameClaimed) { c.Metadata["plan"] = "paid" }, false},
		"metadata, a name":            {func(c *claims.UsernameClaimed) { c.Metadata["new"] = "" }, false},
		"no metadata":                 {func(c *claims.UsernameClaimed) { c.Metadata = nil }, false},
		"metadata, other composition": {func(c *claims.UsernameClaimed) { c.Metadata["ville"] = "Besanc\u0327on" }, false},
	} {
		c := full()
		test.change(c)
		if got := c.Hash(alice, "gateway", policies); (got == base) != test.same {
			t.Errorf("%s: the same hash %v, want %v", name, got == base, test.same)
		}
	}
	for name, got := range map[string]claims.Hash{
		"key":       full().Hash(names.Ref{Space: names.Username, Key: "bob"}, "gateway", policies),
		"space":     full().Hash(names.Ref{Space: "email", Key: "alice"}, "gateway", policies),
		"principal": full().Hash(alice, "other", policies),
		"nobody":    full().Hash(alice, "", policies),
	} {
		if got == base {
			t.Errorf("%s: the same hash", name)
		}
	}
}

// The hash is taken of what was read: what surrounds it on the topic does not matter.
func TestHashOfRecords(t *testing.T) {
	hash := func(r cloudevents.Record) claims.Hash {
		t.Helper()
		read, err := claims.Read(r)
		if err != nil {
			t.Fatal(err)
		}
		return read.Body.(*claims.UsernameClaimed).Hash(alice, read.Principal, policies)
	}
	base := hash(full().Record(event(), alice))
	other := event()
	other.Time, other.Source = sentAt.Add(time.Hour), "another-api"
	late := full().Record(other, alice, trace...)
	late.Time = sentAt.Add(2 * time.Hour)
	if hash(late) != base {
		t.Error("time, source or trace headers changed the hash")
	}
	reordered := full().Record(event(), alice)
	reordered.Value = []byte(`{"metadata":{"ville":"Besan\u00e7on","plan":"free","campaign":"spring \"26\""},"mode":"reserve","x":1,"on_conflict":"return_existing",
		"ttl_seconds":900,"owner":"u-17","expected_version":0,"replaces":{"version":3,"name":"old.alice"},"name":"aLICE","space":"username"}`)
	if hash(reordered) != base {
		t.Error("order, spelling or an unknown field changed the hash")
	}
}

func TestHashUnread(t *testing.T) {
	record := func(key, value, principal string) cloudevents.Record {
		return cloudevents.Record{Key: []byte(key), Value: []byte(value), Headers: []cloudevents.Header{{Name: cloudevents.Principal, Value: []byte(principal)}}}
	}
	e := cloudevents.Event{Type: claims.TypeUsernameClaimed}
	base := claims.HashUnread(e, record("ab", "cd", "ef"))
	if copied := record("ab", "cd", "ef"); claims.HashUnread(e, copied) != base {
		t.Error("a copy has another hash")
	}
	traced := record("ab", "cd", "ef")
	traced.Headers = append(traced.Headers, trace...)
	traced.Time = sentAt
	timed := e
	timed.Time = sentAt
	if claims.HashUnread(timed, traced) != base {
		t.Error("time or trace headers changed the hash")
	}
	seen := map[claims.Hash]string{base: "base"}
	for i, r := range []cloudevents.Record{
		record("a", "bcd", "ef"), record("abc", "d", "ef"), record("ab", "cd", "eg"), record("ab", "cdef", ""), record("ab", "", "cdef"),
		record("abc", "def", ""), record("ab", "fcd", "e"), record("ab", "ce", "ef"), record("ac", "cd", "ef"),
		{Key: []byte("ab"), Value: []byte("cd")},
	} {
		h := claims.HashUnread(e, r)
		if other, ok := seen[h]; ok {
			t.Errorf("record %d and %s have one hash", i, other)
		}
		seen[h] = fmt.Sprint(i)
	}
	if claims.HashUnread(cloudevents.Event{Type: "dibs.Other.v1"}, record("ab", "cd", "ef")) == base {
		t.Error("another type has the same hash")
	}
}
