package claims_test

import (
	"crypto/sha256"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/cloudevents/eventtest"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// TestGoldenSignup: what a sign-up is asked by, and what it leads to. The texts are what the hashes are over, by hand.
func TestGoldenSignup(t *testing.T) {
	ref := claims.SignupRef(otherID)
	about := claims.About{Space: claims.Signup, Spelling: otherID.String()}
	claim := claims.SignupClaimID(otherID, alice)
	own := func(id uuid.UUID) cloudevents.Event {
		return cloudevents.Event{ID: id, Source: "dibs", Principal: claims.Principal, Time: sentAt}
	}
	asked := event()
	asked.ID = otherID
	for file, test := range map[string]struct {
		body  claims.Body
		event cloudevents.Event
		ref   names.Ref
		text  string
	}{
		"signup_requested": {&claims.SignupRequested{
			About: about, Owner: "u-17", TTLSeconds: new(int64(30)),
			Names: []claims.SignupName{{Space: "username", Spelling: "Alice"}, {Space: "email", Key: "h1:00ff"}},
		}, asked, ref, `{"key":"0190163d-8694-739b-aea5-966c26f8ad91","names":[{"name":"Alice","space":"username"},{"key":"h1:00ff","space":"email"}],` +
			`"owner":"u-17","principal":"gateway","space":"signup","ttl_seconds":30,"type":"dibs.SignupRequested.v1"}`},
		"signup_voted": {&claims.SignupVoted{
			About: about, ClaimID: claim, Owner: "u-17", Of: alice, Reason: "taken", Detail: "the name is taken",
		}, own(claims.SignupVoteID(claim, sentAt)), ref, `{"claim_id":"` + claim.String() + `","detail":"the name is taken","key":"0190163d-8694-739b-aea5-966c26f8ad91",` +
			`"of":{"key":"alice","space":"username"},"owner":"u-17","principal":"dibs","reason":"taken","space":"signup","type":"dibs.SignupVoted.v1"}`},
		"username_claimed_signup": {&claims.UsernameClaimed{
			Space: "username", Spelling: "Alice", Owner: "u-17", Mode: claims.ModeReserve, Signup: otherID,
		}, own(claim), alice, `{"key":"alice","mode":"reserve","owner":"u-17","principal":"dibs","signup":"0190163d-8694-739b-aea5-966c26f8ad91",` +
			`"space":"username","type":"dibs.UsernameClaimed.v1"}`},
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("testdata", file+".json")
			written := claims.NewRecord(test.body, test.event, test.ref)
			if file != "signup_requested" {
				written = signingKey.Sign(written)
			}
			eventtest.Check(t, path, written, *update)
			read, err := claims.Read(eventtest.Read(t, path))
			if err != nil || !reflect.DeepEqual(read.Body, test.body) {
				t.Fatalf("read %+v, %v, want %+v", read.Body, err, test.body)
			}
			if err := read.Body.Validate(); err != nil {
				t.Error(err)
			}
			if got := claims.HashOf(read.Body, test.ref, test.event.Principal, policies); got != sha256.Sum256([]byte(test.text)) {
				t.Errorf("not the hash of %s", test.text)
			}
			if got, want := read.Body.Privileged(), file == "signup_voted"; got != want {
				t.Errorf("privileged %t", got)
			}
		})
	}
}

// TestSignupIDs: every id of a sign-up is another one, of version 8, and always the same.
func TestSignupIDs(t *testing.T) {
	claim := claims.SignupClaimID(otherID, alice)
	seen := make(map[uuid.UUID]bool)
	for _, id := range []uuid.UUID{
		claim, claims.SignupClaimID(otherID, names.Ref{Space: "username", Key: "bob"}), claims.SignupClaimID(claim, alice),
		claims.SignupVoteID(claim, sentAt), claims.SignupVoteID(claim, sentAt.Add(1e6)), claims.SignupConfirmID(claim), claims.SignupWithdrawID(claim),
	} {
		if seen[id] || !claims.OwnID(id) {
			t.Errorf("%s: seen before %t, dibs' own %t", id, seen[id], claims.OwnID(id))
		}
		seen[id] = true
	}
	if is, want := claim.String(), "2c2bbc3e-7a2a-8caf-bef2-5c8f61c485e8"; is != want {
		t.Errorf("%s, want %s, which was derived once", is, want)
	}
}

func TestSignupRef(t *testing.T) {
	if got := claims.SignupID(claims.SignupRef(otherID)); got != otherID {
		t.Errorf("%s", got)
	}
	for _, ref := range []names.Ref{{Space: "username", Key: names.Key(otherID.String())}, {Space: "signup", Key: "alice"}, {Space: "signup", Key: names.Key(strings.ToUpper(otherID.String()))}} {
		if got := claims.SignupID(ref); got != uuid.Nil {
			t.Errorf("%s is the sign-up %s", ref, got)
		}
	}
}

// TestSignupInvalid: what cannot be read, and what can and is not valid.
func TestSignupInvalid(t *testing.T) {
	read := func(kind, value string) error {
		e := event()
		e.Type = kind
		r := claims.NewRecord(&claims.SignupRequested{}, e, claims.SignupRef(otherID))
		r.Headers = append([]cloudevents.Header{{Name: cloudevents.Type, Value: []byte(kind)}}, r.Headers...)
		r.Value = []byte(value)
		q, err := claims.Read(r)
		if err == nil {
			err = q.Body.Validate()
		}
		return err
	}
	const head = `{"space":"signup","name":"0190163d-8694-739b-aea5-966c26f8ad91","owner":"u-17",`
	nine := strings.Repeat(`{"space":"username","name":"a"},`, 8) + `{"space":"username","name":"a"}`
	for value, want := range map[string]string{
		head + `"names":[]}`:                                                "names must be 1 to 8",
		head + `"names":[` + nine + `]}`:                                    "names must be 1 to 8",
		head + `"names":{}}`:                                                "names is not a list of objects",
		head + `"names":["alice"]}`:                                         "names is not a JSON object",
		head + `"names":[{"name":"alice"}]}`:                                "names needs space and name of each",
		head + `"names":[{"space":"username"}]}`:                            "names needs space and name of each",
		head + `"names":[{"space":"username","name":7}]}`:                   "names.name is not a string",
		head + `"names":null}`:                                              "names is missing",
		head + `"ttl_seconds":3}`:                                           "names is missing",
		head + `"ttl_seconds":0,"names":[{"space":"username","name":"a"}]}`: "ttl_seconds must be 1 to 3600",
		strings.Replace(head, "u-17", "ü", 1) + `"names":[{"space":"username","name":"a"}]}`:                 "owner must be 1 to 255 printable ASCII characters",
		strings.Replace(head, `,"owner":"u-17"`, "", 1) + `"names":[{"space":"username","name":"a"}]}`:       "owner is missing",
		head + `"names":[{"space":"username","name":"a","x":[1]}],"x":{},"deadline":"2026-11-21T10:00:00Z"}`: "",
	} {
		got := ""
		if err := read(claims.TypeSignupRequested, value); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
	if err := read(claims.TypeSignupVoted, head+`"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91"}`); err == nil || err.Error() != "of is missing" {
		t.Error(err)
	}
	if err := read(claims.TypeSignupVoted, head+`"claim_id":"0190163d-8694-739b-aea5-966c26f8ad91","of":{"space":"username"}}`); err == nil || err.Error() != "of needs space and key" {
		t.Error(err)
	}
}

// TestSignupFieldsElsewhere: to the requests that there were before sign-ups, their fields say nothing.
func TestSignupFieldsElsewhere(t *testing.T) {
	for _, more := range []string{`"names":7`, `"of":"x"`, `"detail":{}`, `"signup":{}`, `"signup":"no id"`, `"signup":"0190163d86947000aea5966c26f8ad91"`} {
		r := minimal().Record(event(), alice)
		r.Value = []byte(strings.Replace(string(r.Value), "{", "{"+more+",", 1))
		read, err := claims.Read(r)
		if err != nil || !reflect.DeepEqual(read.Body, claims.Body(minimal())) {
			t.Errorf("%s: %+v, %v", more, read.Body, err)
		}
	}
}
