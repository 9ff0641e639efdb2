package claims_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/cloudevents/eventtest"
	"github.com/dibs-hq/dibs/names"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var (
	aboutAlice = claims.About{Space: names.Username, Spelling: "Alice"}
	otherID    = uuid.MustParse("0190163d-8694-739b-aea5-966c26f8ad91")
	signingKey = claims.SigningKey{ID: "k2", Secret: []byte("the key of now, 32 bytes or more")}
	signKeys   = claims.Keys{"k1": []byte("the key before that, still known"), "k2": signingKey.Secret}
)

// requests is one of each request beside a claim, and of each way to ask it, by the file that keeps it. The text is what
// its hash is over, written by hand; the sum comes from another implementation of SHA-256.
var requests = map[string]struct {
	body      claims.Body
	text, sum string
}{
	"confirm_requested": {&claims.ConfirmRequested{About: aboutAlice, ClaimID: otherID, Owner: "u-17"},
		`{"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.ConfirmRequested.v1"}`, "eccf74edddb80b49236c2d6d0515990f0b2986ecd22814a213fdccb2d99e9c15"},
	"confirm_requested_deadline": {&claims.ConfirmRequested{About: claims.About{Space: names.Username, Spelling: "Alice", Deadline: sentAt.Add(time.Minute)}, ClaimID: otherID, Owner: "u-17"},
		`{"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.ConfirmRequested.v1"}`, "eccf74edddb80b49236c2d6d0515990f0b2986ecd22814a213fdccb2d99e9c15"},
	"extend_requested": {&claims.ExtendRequested{About: aboutAlice, ClaimID: otherID, Owner: "u-17", TTLSeconds: 900},
		`{"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","key":"alice","owner":"u-17","principal":"gateway","space":"username","ttl_seconds":900,"type":"dibs.ExtendRequested.v1"}`, "8b0ab552aeabcea9cf694787941b0298067341bd0c337747301c9a5eb1b48817"},
	"release_requested": {&claims.ReleaseRequested{About: aboutAlice, Owner: "u-17"},
		`{"key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.ReleaseRequested.v1"}`, "dc1e2765169c2c3823a89b2acbe7d99663d1b538623742ccdccfdf4adcdba199"},
	"release_requested_version": {&claims.ReleaseRequested{About: aboutAlice, Owner: "u-17", ExpectedVersion: new(int64(3))},
		`{"expected_version":3,"key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.ReleaseRequested.v1"}`, "0e204fa2746d159bb689afa005d7b83c7f9d31f082cd389f79d964d905daf363"},
	"release_requested_actor": {&claims.ReleaseRequested{About: aboutAlice, Actor: "ada", Reason: "abuse, \"ticket\" 4711"},
		`{"actor":"ada","key":"alice","principal":"gateway","reason":"abuse, \"ticket\" 4711","space":"username","type":"dibs.ReleaseRequested.v1"}`, "ae6f01aedea9fdec52043e3bcd2a24df99e9b4ea23cea11a3231bbd02ef1d562"},
	"withdraw_requested": {&claims.WithdrawRequested{About: aboutAlice, ClaimID: otherID, Owner: "u-17"},
		`{"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.WithdrawRequested.v1"}`, "d7facc05fd99b6268e3605b7f51c8f3b45b44e169f6dc0f9ee6ef365073855d2"},
	"deactivate_requested": {&claims.DeactivateRequested{About: aboutAlice, Owner: "u-17", ExpectedVersion: new(int64(3))},
		`{"expected_version":3,"key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.DeactivateRequested.v1"}`, "9c9682a72ca47ecc1b4122228e90b13dfb652d10bde3d359317499b6e86a6aab"},
	"reactivate_requested": {&claims.ReactivateRequested{About: aboutAlice, Owner: "u-17", ExpectedVersion: new(int64(0))},
		`{"expected_version":0,"key":"alice","owner":"u-17","principal":"gateway","space":"username","type":"dibs.ReactivateRequested.v1"}`, "85c8f4d2f5663a64ad3cb0a8a26cf87475c9467e9770f7dedd6b601221a213f8"},
	"transfer_requested": {&claims.TransferRequested{About: aboutAlice, Owner: "u-17", NewOwner: "u-18", ExpectedVersion: new(int64(3))},
		`{"expected_version":3,"key":"alice","new_owner":"u-18","owner":"u-17","principal":"gateway","space":"username","type":"dibs.TransferRequested.v1"}`, "5ffda499bfa98bfb706072ca3d9a661cfc7eea823336e445a1edf7a29efaf94a"},
	"transfer_requested_actor": {&claims.TransferRequested{About: aboutAlice, NewOwner: "u-18", Actor: "ada", Reason: "it is theirs"},
		`{"actor":"ada","key":"alice","new_owner":"u-18","principal":"gateway","reason":"it is theirs","space":"username","type":"dibs.TransferRequested.v1"}`, "3ad8eb6f48803e86546b23cae0bf809d3d829cb6d8a73036dafdf5d036b8b082"},
	"block_requested": {&claims.BlockRequested{About: aboutAlice, Actor: "ada", Reason: "a trademark (™)"},
		`{"actor":"ada","key":"alice","principal":"gateway","reason":"a trademark (™)","space":"username","type":"dibs.BlockRequested.v1"}`, "45555628e40a1d62732d009efa80d2519eb870ed14befc1834a078724329d081"},
	"unblock_requested": {&claims.UnblockRequested{About: aboutAlice, Actor: "ada", Reason: "settled"},
		`{"actor":"ada","key":"alice","principal":"gateway","reason":"settled","space":"username","type":"dibs.UnblockRequested.v1"}`, "912a0acb80183f49ce40b76f04104686289a7c5c7f4560484b769e8c7ea8608c"},
	"erasure_requested": {&claims.ErasureRequested{About: aboutAlice, Owner: "u-17", Actor: "ada", Reason: "request 4711"},
		`{"actor":"ada","key":"alice","owner":"u-17","principal":"gateway","reason":"request 4711","space":"username","type":"dibs.ErasureRequested.v1"}`, "a538f8c1e6388d7937ae3f41fed9b620cd536804f26b1dbfd8a6df23934bfeaf"},
	"expiry_due": {&claims.ExpiryDue{About: aboutAlice, ClaimID: otherID, ExpiresAt: sentAt.Add(15 * time.Minute)},
		`{"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","expires_at":"2026-11-21T10:15:00.123Z","key":"alice","principal":"gateway","space":"username","type":"dibs.ExpiryDue.v1"}`, "8fae2126b3a93c074afe0d888347eeb25de7cd76e3216541f439e463fae90c8e"},
}

// The files are the contract of topic one. Privileged requests are in them with their signature.
func TestGoldenRequests(t *testing.T) {
	for name, test := range requests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".json")
			written := claims.NewRecord(test.body, event(), alice)
			if test.body.Privileged() {
				written = signingKey.Sign(written)
			}
			eventtest.Check(t, path, written, *update)

			kept := eventtest.Read(t, path)
			read, err := claims.Read(kept)
			if err != nil {
				t.Fatal(err)
			}
			want := claims.Request{Event: event(), Body: test.body}
			want.Type, want.Subject = test.body.Type(), "username/alice"
			if !reflect.DeepEqual(read, want) {
				t.Errorf("got  %+v %+v\nwant %+v %+v", read, read.Body, want, want.Body)
			}
			if err := read.Body.Validate(); err != nil {
				t.Errorf("valid it is not: %v", err)
			}
			if signed := signKeys.Signed(kept); signed != test.body.Privileged() {
				t.Errorf("signed %v", signed)
			}
			if space, spelling := read.Body.Name(); space != names.Username || spelling != "Alice" {
				t.Errorf("about %s/%s", space, spelling)
			}
			if until := read.Body.Until(); until.IsZero() == strings.HasSuffix(name, "_deadline") {
				t.Errorf("until %v", until)
			}
			got := claims.HashOf(read.Body, alice, "gateway", policies)
			if got != sha256.Sum256([]byte(test.text)) {
				t.Errorf("not the hash of %s", test.text)
			}
			if sum := hex.EncodeToString(got[:]); sum != test.sum {
				t.Errorf("hash %s, want %s", sum, test.sum)
			}
		})
	}
	kept, err := filepath.Glob("testdata/*_*.json")
	if err != nil || len(kept) != len(requests)+12 {
		t.Errorf("%d golden files for %d requests, three by key, four claims, three policies and two of a sign-up, %v", len(kept), len(requests), err)
	}
}

// TestGoldenByKey: what dibs asks itself is about a key, where that is no name.
func TestGoldenByKey(t *testing.T) {
	ref := names.Ref{Space: names.Username, Key: "_lol_"}
	for file, test := range map[string]struct {
		body claims.Body
		id   uuid.UUID
	}{
		"release_requested_key": {&claims.ReleaseRequested{About: claims.AboutKey(ref), Owner: "u-17", ExpectedVersion: new(int64(3))}, claims.ReleaseID(otherID, alice)},
		"erasure_requested_key": {&claims.ErasureRequested{About: claims.AboutKey(ref), Owner: "u-17", Actor: "ada", Reason: "request 4711"}, claims.ErasureID(otherID, ref, "1-4711")},
		"expiry_due_key":        {&claims.ExpiryDue{About: claims.AboutKey(ref), ClaimID: otherID, ExpiresAt: sentAt.Add(15 * time.Minute)}, claims.ExpiryID(otherID, sentAt.Add(15*time.Minute))},
	} {
		path := filepath.Join("testdata", file+".json")
		e := cloudevents.Event{ID: test.id, Source: "dibs", Principal: claims.Principal, Time: sentAt}
		eventtest.Check(t, path, signingKey.Sign(claims.NewRecord(test.body, e, ref)), *update)
		read, err := claims.Read(eventtest.Read(t, path))
		if err != nil || !reflect.DeepEqual(read.Body, test.body) || claims.KeyOf(read.Body) != "_lol_" {
			t.Errorf("%s: read %+v, %v", file, read.Body, err)
		}
		// In its hash it does not matter by which of the two it was asked.
		named := reflect.New(reflect.TypeOf(test.body).Elem())
		named.Elem().Set(reflect.ValueOf(test.body).Elem())
		named.Elem().FieldByName("About").Set(reflect.ValueOf(claims.About{Space: ref.Space, Spelling: string(ref.Key)}))
		if claims.HashOf(read.Body, ref, "dibs", policies) != claims.HashOf(named.Interface().(claims.Body), ref, "dibs", policies) {
			t.Errorf("%s: by name it has another hash", file)
		}
	}
	if about := claims.AboutKey(alice); about.Spelling != "alice" || about.Key != "" {
		t.Errorf("a key that is a name is asked by %+v", about)
	}
}

// TestKeyBesideAName: a key counts in place of a name; else it is a field that we do not know.
func TestKeyBesideAName(t *testing.T) {
	release := func(value string) (claims.Body, error) {
		r := claims.NewRecord(&claims.ReleaseRequested{About: aboutAlice, Owner: "u-17"}, event(), alice)
		r.Value = []byte(value)
		read, err := claims.Read(r)
		return read.Body, err
	}
	for value, key := range map[string]names.Key{
		`{"space":"username","key":"_a","owner":"u-17"}`:                  "_a",
		`{"key":"\u005fa","space":"username","owner":"u-17"}`:             "_a",
		`{"space":"username","name":null,"key":"_a","owner":"u-17"}`:      "_a",
		`{"space":"username","name":"Alice","key":"_a","owner":"u-17"}`:   "",
		`{"space":"username","key":["_a"],"name":"Alice","owner":"u-17"}`: "",
		`{"space":"username","key":7,"name":"Alice","owner":"u-17"}`:      "",
	} {
		body, err := release(value)
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		if _, name := body.Name(); claims.KeyOf(body) != key || name == "" && key == "" {
			t.Errorf("%s is about the key %q, the name %q", value, claims.KeyOf(body), name)
		}
	}
	for value, want := range map[string]string{
		`{"space":"username","key":"","owner":"u-17"}`:                                 `name is missing`,
		`{"space":"username","key":7,"owner":"u-17"}`:                                  `name is missing`,
		`{"key":"_a","owner":"u-17"}`:                                                  `space is missing`,
		`{"space":"username","key":"` + strings.Repeat("k", 513) + `","owner":"u-17"}`: `name is missing`,
		`{"space":"username","key":"a\u0000","owner":"u-17"}`:                          `the value contains NUL`,
	} {
		if _, err := release(value); err == nil || err.Error() != want {
			t.Errorf("%.80s: %v, want %s", value, err, want)
		}
	}
	// What was said of it before a key counted is said of it still: an answer is the same when the log is replayed.
	r := claims.NewRecord(&claims.ConfirmRequested{About: aboutAlice, ClaimID: otherID, Owner: "u-17"}, event(), alice)
	r.Value = []byte(`{"space":"username","key":"_a","owner":"u-17"}`)
	if _, err := claims.Read(r); err == nil || err.Error() != "name is missing" {
		t.Errorf("a confirmation by key, of no claim: %v", err)
	}
	r = minimal().Record(event(), alice)
	r.Value = []byte(`{"space":"username","key":"alice","mode":"register"}`)
	if _, err := claims.Read(r); err == nil || err.Error() != "name is missing" {
		t.Errorf("a claim by key, of nobody: %v", err)
	}
	for replaces, want := range map[string]claims.Replaces{
		`{"key":"h1:00","version":3}`:              {Key: "h1:00", Version: 3},
		`{"name":"bob","key":"h1:00","version":3}`: {Name: "bob", Version: 3},
		`{"key":7,"name":"bob","version":3}`:       {Name: "bob", Version: 3},
	} {
		r := minimal().Record(event(), alice)
		r.Value = []byte(`{"space":"email","key":"h1:01","owner":"u-17","mode":"register","replaces":` + replaces + `}`)
		read, err := claims.Read(r)
		if c, ok := read.Body.(*claims.UsernameClaimed); err != nil || !ok || c.Key != "h1:01" || c.Spelling != "" || *c.Replaces != want {
			t.Errorf("a claim by key: %+v, %v", read.Body, err)
		}
	}
	for _, replaces := range []string{`{"version":3}`, `{"key":"","version":3}`, `{"key":7,"version":3}`, `{"key":"h1:00"}`} {
		r := minimal().Record(event(), alice)
		r.Value = []byte(`{"space":"email","key":"h1:01","owner":"u-17","mode":"register","replaces":` + replaces + `}`)
		if _, err := claims.Read(r); err == nil || err.Error() != "replaces needs name and version" {
			t.Errorf("%s: %v", replaces, err)
		}
	}
}

// TestHashOfALookalike: where one key stands for several names, which of them is meant is a part of what is asked.
func TestHashOfALookalike(t *testing.T) {
	p := *names.Builtin()[names.Username]
	var err error
	if p.Form, err = (names.Precis{Tables: names.TablesLatest, Confusables: names.ConfusablesAsTyped}).Form(); err != nil {
		t.Fatal(err)
	}
	apart := names.Policies{names.Username: &p}
	ref := names.Ref{Space: names.Username, Key: "paypal"}
	claim := func(name, replaces string) claims.Hash {
		c := &claims.UsernameClaimed{Space: names.Username, Spelling: name, Owner: "u-17", Mode: claims.ModeRegister}
		if replaces != "" {
			c.Replaces = &claims.Replaces{Name: replaces, Version: 1}
		}
		return c.Hash(ref, "gateway", apart)
	}
	if claim("paypal", "") != claim("PayPal", "") || claim("PAYPA1", "") != claim("paypa1", "") || claim("paypal", "") == claim("paypa1", "") {
		t.Error("names are not told apart by their canonical forms")
	}
	if claim("paypal", "b0b") == claim("paypal", "bob") || claim("paypal", "BOB") != claim("paypal", "bob") {
		t.Error("names that are replaced are not told apart by their canonical forms")
	}
	const text = `{"key":"paypal","mode":"register","name":"paypa1","owner":"u-17","principal":"gateway","space":"username","type":"dibs.UsernameClaimed.v1"}`
	if claim("Paypa1", "") != sha256.Sum256([]byte(text)) {
		t.Errorf("it is not the hash of %s", text)
	}
	c := &claims.UsernameClaimed{Space: names.Username, Spelling: "PayPal", Owner: "u-17", Mode: claims.ModeRegister}
	if claim("PayPal", "") != c.Hash(ref, "gateway", policies) {
		t.Error("the hash of a name that is its own key is another one than without look-alikes")
	}
}

// Who may write to the topic may ask for most of it, but not for this.
func TestPrivileged(t *testing.T) {
	for name, test := range requests {
		want := strings.HasSuffix(name, "_actor") || strings.Contains(name, "block") || name == "expiry_due" || name == "erasure_requested"
		if got := test.body.Privileged(); got != want {
			t.Errorf("%s: privileged %v", name, got)
		}
	}
	if full().Privileged() {
		t.Error("a claim is privileged")
	}
}

// drawBody draws a request of any type, with whatever in it.
func drawBody(t *rapid.T) claims.Body {
	text := rapid.String()
	word := func(label string) string { return text.Draw(t, label) }
	number := rapid.Ptr(rapid.Int64Range(-maxExact, maxExact), true)
	when := func(label string) time.Time {
		if ms := rapid.Int64Range(0, 4102444800000).Draw(t, label); ms > 0 {
			return time.UnixMilli(ms).UTC()
		}
		return time.Time{}
	}
	var id uuid.UUID
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "claim_id"))
	id[0] |= 1 // the nil id is none
	a := claims.About{Space: names.Space(word("space")), Spelling: word("name"), Deadline: when("deadline")}
	owner, version := word("owner"), number.Draw(t, "expected_version")
	actor, reason := "a"+word("actor"), "r"+word("reason")
	switch rapid.IntRange(0, 11).Draw(t, "type") {
	case 0:
		return drawClaim(t)
	case 1:
		return &claims.ConfirmRequested{About: a, ClaimID: id, Owner: "o" + owner}
	case 2:
		return &claims.ExtendRequested{About: a, ClaimID: id, Owner: "o" + owner, TTLSeconds: rapid.Int64Range(-maxExact, maxExact).Draw(t, "ttl")}
	case 3:
		return &claims.ReleaseRequested{About: a, Owner: owner, ExpectedVersion: version, Actor: word("actor"), Reason: word("reason")}
	case 4:
		return &claims.WithdrawRequested{About: a, ClaimID: id, Owner: "o" + owner}
	case 5:
		return &claims.DeactivateRequested{About: a, Owner: "o" + owner, ExpectedVersion: version}
	case 6:
		return &claims.ReactivateRequested{About: a, Owner: "o" + owner, ExpectedVersion: version}
	case 7:
		return &claims.TransferRequested{About: a, Owner: owner, NewOwner: "n" + word("new_owner"), ExpectedVersion: version, Actor: word("actor"), Reason: word("reason")}
	case 8:
		return &claims.BlockRequested{About: a, Actor: actor, Reason: reason}
	case 9:
		return &claims.UnblockRequested{About: a, Actor: actor, Reason: reason}
	case 10:
		return &claims.ErasureRequested{About: a, Owner: "o" + owner, Actor: actor, Reason: reason}
	}
	return &claims.ExpiryDue{About: a, ClaimID: id, ExpiresAt: time.UnixMilli(rapid.Int64Range(1, 4102444800000).Draw(t, "expires_at")).UTC()}
}

func TestRequestReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawBody(t)
		r := claims.NewRecord(want, event(), alice)
		if strings.Contains(string(r.Value), `\u0000`) || len(r.Key)+len(r.Value) > claims.MaxRecord {
			t.Skip("not for the topic")
		}
		read, err := claims.Read(r)
		if err != nil || !reflect.DeepEqual(read.Body, want) {
			t.Fatalf("%s\ngot  %+v, %v\nwant %+v", r.Value, read.Body, err, want)
		}
		if claims.HashOf(read.Body, alice, "gateway", policies) != claims.HashOf(want, alice, "gateway", policies) {
			t.Fatal("another hash after reading back")
		}
	})
}

// The hash is over what the record says, as canonical JSON, less deadline and spelling and with key, type and principal.
func TestHashOfRequestIsOverCanonicalJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := drawBody(t)
		if _, ok := body.(*claims.UsernameClaimed); ok {
			t.Skip("tested by itself")
		}
		var said map[string]any
		decoder := json.NewDecoder(bytes.NewReader(claims.NewRecord(body, event(), alice).Value))
		decoder.UseNumber()
		if err := decoder.Decode(&said); err != nil {
			t.Fatal(err)
		}
		delete(said, "deadline")
		delete(said, "name")
		said["space"], said["key"], said["type"], said["principal"] = "username", "alice", body.Type(), "gateway"
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(said); err != nil {
			t.Fatal(err)
		}
		text := jsontext.Value(b.Bytes())
		if err := text.Canonicalize(); err != nil {
			t.Fatal(err)
		}
		if got := claims.HashOf(body, alice, "gateway", policies); got != sha256.Sum256(text) {
			t.Fatalf("not the hash of %s", text)
		}
	})
}

// What each request must say, and what happens to the others' fields.
func TestReadRequestMalformed(t *testing.T) {
	read := func(kind, value string) (claims.Request, error) {
		e := event()
		e.Type = kind
		return claims.Read(cloudevents.Record{Key: []byte("username/alice"), Value: []byte(value), Headers: e.Headers(0)})
	}
	for name, test := range requests {
		value := string(claims.NewRecord(test.body, event(), alice).Value)
		var said map[string]any
		if err := json.Unmarshal([]byte(value), &said); err != nil {
			t.Fatal(err)
		}
		for field := range said {
			rest := make(map[string]any)
			for k, v := range said {
				if k != field {
					rest[k] = v
				}
			}
			text, _ := json.Marshal(rest)
			_, err := read(test.body.Type(), string(text))
			var malformed *claims.MalformedError
			optional := field == "expected_version" || field == "deadline" ||
				strings.HasPrefix(name, "release") || strings.HasPrefix(name, "transfer") && (field == "owner" || field == "actor" || field == "reason")
			if field == "space" || field == "name" {
				optional = false
			}
			switch missing := errors.As(err, &malformed) && malformed.Field == field && malformed.Detail == "is missing"; {
			case optional && err != nil:
				t.Errorf("%s without %s: %v", name, field, err)
			case !optional && !missing:
				t.Errorf("%s without %s: %v", name, field, err)
			}
		}
	}
	confirm := func(id string) string {
		return `{"space":"username","name":"Alice","owner":"u-17","claim_id":` + id + `}`
	}
	for id, want := range map[string]string{
		`"0190163d-8694-739b-aea5-966c26f8ad91"`: "", `"0190163D-8694-739B-AEA5-966C26F8AD91"`: "", `"x"`: "claim_id is not a UUID", `""`: "claim_id is not a UUID",
		`"{0190163d-8694-739b-aea5-966c26f8ad91}"`: "claim_id is not a UUID", `"0190163d8694739baea5966c26f8ad91"`: "claim_id is not a UUID",
		`"urn:uuid:0190163d-8694-739b-aea5-966c26f8ad91"`: "claim_id is not a UUID", `"00000000-0000-0000-0000-000000000000"`: "claim_id is not a UUID",
		`7`: "claim_id is not a string", `null`: "claim_id is missing",
	} {
		if _, err := read(claims.TypeConfirmRequested, confirm(id)); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("claim_id %s: %v, want %q", id, err, want)
		}
	}
	if _, err := read(claims.TypeExpiryDue, `{"space":"username","name":"Alice","claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","expires_at":"soon"}`); err == nil || err.Error() != "expires_at is not an RFC 3339 time" {
		t.Errorf("expires_at: %v", err)
	}
	// What another type says is passed over.
	got, err := read(claims.TypeBlockRequested, `{"space":"username","name":"Alice","actor":"ada","reason":"x","owner":"u-1","mode":"register","ttl_seconds":7}`)
	if want := (&claims.BlockRequested{About: aboutAlice, Actor: "ada", Reason: "x"}); err != nil || !reflect.DeepEqual(got.Body, claims.Body(want)) {
		t.Errorf("%+v, %v", got.Body, err)
	}
}

func TestValidateRequests(t *testing.T) {
	long := strings.Repeat("x", 501)
	version := func(n int64) *int64 { return &n }
	for name, test := range map[string]struct {
		body  claims.Body
		field string // "" for a request that is valid
	}{
		"confirm, no owner":          {&claims.ConfirmRequested{About: aboutAlice}, "owner"},
		"withdraw, no owner":         {&claims.WithdrawRequested{About: aboutAlice}, "owner"},
		"extend, no owner":           {&claims.ExtendRequested{About: aboutAlice, TTLSeconds: 1}, "owner"},
		"extend by 0":                {&claims.ExtendRequested{About: aboutAlice, Owner: "o"}, "ttl_seconds"},
		"extend by less":             {&claims.ExtendRequested{About: aboutAlice, Owner: "o", TTLSeconds: -1}, "ttl_seconds"},
		"extend by a second":         {&claims.ExtendRequested{About: aboutAlice, Owner: "o", TTLSeconds: 1}, ""},
		"extend by ten years":        {&claims.ExtendRequested{About: aboutAlice, Owner: "o", TTLSeconds: 316224000}, ""},
		"extend by more":             {&claims.ExtendRequested{About: aboutAlice, Owner: "o", TTLSeconds: 316224001}, "ttl_seconds"},
		"extend for ever":            {&claims.ExtendRequested{About: aboutAlice, Owner: "o", TTLSeconds: 1<<63 - 1}, "ttl_seconds"},
		"release by nobody":          {&claims.ReleaseRequested{About: aboutAlice}, "owner"},
		"release by both":            {&claims.ReleaseRequested{About: aboutAlice, Owner: "o", Actor: "a", Reason: "r"}, "actor"},
		"release, owner's reason":    {&claims.ReleaseRequested{About: aboutAlice, Owner: "o", Reason: "r"}, "reason"},
		"release, no reason":         {&claims.ReleaseRequested{About: aboutAlice, Actor: "a"}, "reason"},
		"release, reason of 500":     {&claims.ReleaseRequested{About: aboutAlice, Actor: "a", Reason: long[1:]}, ""},
		"release, reason of 501":     {&claims.ReleaseRequested{About: aboutAlice, Actor: "a", Reason: long}, "reason"},
		"release, actor of 255":      {&claims.ReleaseRequested{About: aboutAlice, Actor: long[:255], Reason: "r"}, ""},
		"release, actor of 256":      {&claims.ReleaseRequested{About: aboutAlice, Actor: long[:256], Reason: "r"}, "actor"},
		"release, actor no text":     {&claims.ReleaseRequested{About: aboutAlice, Actor: "a\n", Reason: "r"}, "actor"},
		"release, version 0":         {&claims.ReleaseRequested{About: aboutAlice, Owner: "o", ExpectedVersion: version(0)}, ""},
		"release, version -1":        {&claims.ReleaseRequested{About: aboutAlice, Owner: "o", ExpectedVersion: version(-1)}, "expected_version"},
		"deactivate, no owner":       {&claims.DeactivateRequested{About: aboutAlice}, "owner"},
		"deactivate, version -1":     {&claims.DeactivateRequested{About: aboutAlice, Owner: "o", ExpectedVersion: version(-1)}, "expected_version"},
		"reactivate, no owner":       {&claims.ReactivateRequested{About: aboutAlice}, "owner"},
		"reactivate, version -1":     {&claims.ReactivateRequested{About: aboutAlice, Owner: "o", ExpectedVersion: version(-1)}, "expected_version"},
		"transfer by nobody":         {&claims.TransferRequested{About: aboutAlice, NewOwner: "n"}, "owner"},
		"transfer to nobody":         {&claims.TransferRequested{About: aboutAlice, Owner: "o"}, "new_owner"},
		"transfer to oneself":        {&claims.TransferRequested{About: aboutAlice, Owner: "o", NewOwner: "o"}, "new_owner"},
		"transfer to no owner":       {&claims.TransferRequested{About: aboutAlice, Owner: "o", NewOwner: "ü"}, "new_owner"},
		"transfer, version -1":       {&claims.TransferRequested{About: aboutAlice, Owner: "o", NewOwner: "n", ExpectedVersion: version(-1)}, "expected_version"},
		"transfer by an actor":       {&claims.TransferRequested{About: aboutAlice, Actor: "a", Reason: "r", NewOwner: "n"}, ""},
		"block, no actor":            {&claims.BlockRequested{About: aboutAlice, Reason: "r"}, "actor"},
		"block, no reason":           {&claims.BlockRequested{About: aboutAlice, Actor: "a"}, "reason"},
		"unblock, no actor":          {&claims.UnblockRequested{About: aboutAlice, Reason: "r"}, "actor"},
		"unblock, no reason":         {&claims.UnblockRequested{About: aboutAlice, Actor: "a"}, "reason"},
		"claim, ttl 0":               {reserving(0), "ttl_seconds"},
		"claim, ttl -1":              {reserving(-1), "ttl_seconds"},
		"claim, ttl 1":               {reserving(1), ""},
		"claim, ttl for ever":        {reserving(1<<63 - 1), "ttl_seconds"},
		"claim, ttl, not reserved":   {changed(func(c *claims.UsernameClaimed) { c.TTLSeconds = version(60) }), "ttl_seconds"},
		"claim, replaces version 0":  {changed(func(c *claims.UsernameClaimed) { c.Replaces = &claims.Replaces{Name: "bob"} }), "replaces.version"},
		"claim, replaces version -1": {changed(func(c *claims.UsernameClaimed) { c.Replaces = &claims.Replaces{Name: "bob", Version: -1} }), "replaces.version"},
	} {
		err := test.body.Validate()
		var invalid *claims.InvalidError
		switch {
		case test.field == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.field != "" && (!errors.As(err, &invalid) || invalid.Field != test.field || invalid.Detail == ""):
			t.Errorf("%s: %v, want an InvalidError about %s", name, err, test.field)
		}
	}
}

func changed(change func(*claims.UsernameClaimed)) claims.Body {
	c := minimal()
	change(c)
	return c
}

func reserving(seconds int64) claims.Body {
	return changed(func(c *claims.UsernameClaimed) { c.Mode, c.TTLSeconds = claims.ModeReserve, &seconds })
}

// The ids that dibs derives are fixed: another version of dibs, or another replica, must come to the same. They were
// computed with another implementation of SHA-256.
func TestDerivedIDs(t *testing.T) {
	for want, got := range map[string]uuid.UUID{
		"4a7b5e5a-ef69-83e9-a4b0-17ce51d2bec6": claims.ReleaseID(otherID, alice),
		"8af1c2c5-50bd-82cd-8565-7880a6d20844": claims.ReleaseID(claimID, alice),
		"8150b766-71c1-842b-8d16-becc8148b088": claims.ExpiryID(otherID, sentAt),
		"ba0696ac-3e51-8a72-9be0-ba29e284173b": claims.ExpiryID(otherID, sentAt.Add(time.Millisecond)),
	} {
		if got.String() != want {
			t.Errorf("%s, want %s", got, want)
		}
		if !claims.OwnID(got) || claims.ValidID(got) {
			t.Errorf("%s is of version %d, variant %s", got, got.Version(), got.Variant())
		}
	}
	if claims.ExpiryID(otherID, sentAt.In(time.FixedZone("", 3600))) != claims.ExpiryID(otherID, sentAt) {
		t.Error("in another zone the id is another")
	}
	if claims.OwnID(claimID) || claims.OwnID(uuid.Nil) || claims.OwnID(uuid.MustParse("6f0c3a52-8f4e-8c1d-1b7a-2f6d1e5c4b3a")) {
		t.Error("an id of another version or variant is taken for dibs' own")
	}
}
