package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

const both = `{"owner":"u-17","names":[{"name":"Alice"},{"name":"bob.b"}]}`

// signUp is POST /v1/signups.
func (w *world) signUp(body string, headers ...string) *answer {
	w.t.Helper()
	return w.ask(http.MethodPost, "/v1/signups", body, headers...)
}

// states reads the names of a sign-up.
func (a *answer) states() string {
	var all []string
	for _, n := range a.body["names"].([]any) {
		n := n.(map[string]any)
		text := fmt.Sprintf("%s/%s %s %s", n["space"], n["key"], n["name"], n["state"])
		if n["reason"] != nil {
			text += fmt.Sprint(" ", n["reason"])
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func (w *world) holds(key, owner string) {
	w.t.Helper()
	h, _ := w.memory.Name(w.t.Context(), names.Ref{Space: names.Username, Key: names.Key(key)})
	if got := h.Owner; got != owner || owner != "" && h.State != registrations.Registered {
		w.t.Errorf("%s is %s by %q, want %q", key, h.State, got, owner)
	}
}

func TestSignup(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		a := w.signUp(both).is(201, "").has("owner", "u-17", "state", "accepted", "reason", nil, "log_epoch", 3)
		id := a.body["signup_id"].(string)
		a.heads("Location", "/v1/signups/"+id, "Idempotent-Replayed", "")
		const want = "username/alice Alice registered, username/bob.b bob.b registered"
		if got := a.states(); got != want {
			t.Errorf("names are %s, want %s", got, want)
		}
		if v := uuid.MustParse(id).Version(); v != 7 {
			t.Errorf("the id of a sign-up without a key has version %d", v)
		}
		w.holds("alice", "u-17")
		w.holds("bob.b", "u-17")
		b := w.get("/v1/signups/"+id).is(200, "").has("state", "accepted", "owner", "u-17", "expires_at", nil)
		if got := b.states(); got != want {
			t.Errorf("reads %s", got)
		}
		w.get("/v1/claims/"+id).is(200, "").has("type", "SignupRequested", "state", "accepted", "space", "signup")
		claim := claims.SignupClaimID(uuid.MustParse(id), names.Ref{Space: names.Username, Key: "alice"})
		w.get("/v1/claims/"+claim.String()).is(200, "").has("state", "accepted", "name", "Alice")
	})
}

// One name that is taken is in the way of all: nothing is left of the others.
func TestSignupRejected(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(`{"name":"BOB.b","owner":"u-1"}`).is(201, "")
		a := w.signUp(both).is(409, "taken").has("detail", "username/bob.b: the name is taken")
		id := a.body["claim_id"].(string)
		a.has("request_id", id, "instance", "/v1/signups/"+id)
		w.holds("alice", "")
		w.holds("bob.b", "u-1")
		b := w.get("/v1/signups/"+id).is(200, "taken").has("state", "rejected", "owner", "u-17", "detail", "username/bob.b: the name is taken")
		if got := b.states(); got != "username/alice Alice released, username/bob.b bob.b rejected taken" {
			t.Errorf("reads %s", got)
		}
		w.claim(alice).is(201, "") // it is free
	})
}

func TestSignupIsRepeated(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const key = "Idempotency-Key: one"
		first := w.signUp(both, key).is(201, "").heads("Idempotent-Replayed", "")
		again := w.signUp(both, key).is(201, "").heads("Idempotent-Replayed", "true")
		again.has("signup_id", first.body["signup_id"])
		w.signUp(`{"owner":"u-17","names":[{"name":"Alice"}]}`, key).is(422, "idempotency_mismatch").
			has("claim_id", first.body["signup_id"], "instance", "/v1/signups/"+first.body["signup_id"].(string))
		w.signUp(both, "Idempotency-Key: other").is(409, "taken")
		w.signUp(both, "Idempotency-Key: other").is(409, "taken").heads("Idempotent-Replayed", "true")
	})
}

// A sign-up that is not decided yet reads pending, wherever it is asked for, and its names as they answer.
func TestSignupPending(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.set(func(m *memory) { m.held = true })
		a := w.signUp(both, "Idempotency-Key: one").is(202, "").has("state", "pending", "owner", "u-17").heads("Retry-After", "1")
		if got := a.states(); got != "username/alice Alice pending, username/bob.b bob.b pending" {
			t.Errorf("names are %s", got)
		}
		at := a.header.Get("Location")
		w.get(at).is(200, "").has("state", "pending").heads("Retry-After", "1")
		id := a.body["signup_id"].(string)
		w.get("/v1/signups/"+id).is(404, "unknown_claim")
		done := make(chan *answer)
		go func() { done <- w.get(at, "Prefer: wait=10") }()
		time.Sleep(time.Second)
		w.memory.release()
		b := <-done
		if b.is(200, "").has("state", "accepted"); b.took != time.Second {
			t.Errorf("took %s", b.took)
		}
		w.signUp(both, "Idempotency-Key: one").is(201, "")
	})
}

// What is wrong is said before anything is published, each name by its place.
func TestSignupRefused(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		many := `{"owner":"u","names":[` + strings.Repeat(`{"name":"alice"},`, 8) + `{"name":"bob"}]}`
		for body, want := range map[string]struct {
			status         int
			reason, fields string
		}{
			`{"owner":"u","names":[{"name":"alice"},{"name":"ALICE"}]}`:                 {422, "invalid_request", "names[1].name"},
			`{"owner":"u","names":[{"name":"alice"},{"name":"root"}]}`:                  {422, "reserved_word", "names[1].name"},
			`{"owner":"u","names":[{"name":"-"},{"name":"bob"}]}`:                       {422, "invalid_name", "names[0].name"},
			`{"owner":"u","names":[{"name":"alice"},{"space":"none","name":"in-1"}]}`:   {422, "unknown_space", "names[1].space"},
			`{"owner":"u","names":[{"name":"alice"},{"space":"signup","name":"in-1"}]}`: {422, "unknown_space", "names[1].space"},
			`{"owner":"u","names":[]}`:                                                  {422, "invalid_request", "names"},
			many:                                                                        {422, "invalid_request", "names[1].name names[2].name names[3].name names[4].name names[5].name names[6].name names[7].name names"},
			`{"owner":"","names":[{"name":"alice"}]}`:                                   {422, "invalid_request", "owner"},
			`{"owner":"u","names":[{"name":"alice"}],"ttl_seconds":3601}`:               {422, "invalid_request", "ttl_seconds"},
			`{"owner":"u"}`: {422, "invalid_request", "names"},
			`{"owner":"u","names":[{"name":"alice","key":"x"}]}`:        {400, "bad_request", "names[0].key"},
			`{"owner":"u","names":[{"name":"alice"},{"name":7}]}`:       {400, "bad_request", "names[1].name"},
			`{"owner":"u","names":[{"name":"alice"}],"mode":"reserve"}`: {400, "bad_request", "mode"},
		} {
			w.signUp(body).is(want.status, want.reason).names(strings.Fields(want.fields)...)
		}
		w.published(0)
		w.get("/v1/signups/none").is(400, "bad_request")
		w.get("/v1/signups/"+uuid.NewString()).is(404, "unknown_claim")
		w.get("/v1/signups/"+uuid.NewString()+"?at=0-9-9-9").is(400, "bad_request")
	})
}

// Where what holds was applied by a dibs that knows no sign-ups, its processors may still be there.
func TestSignupUnderOldRules(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		hold := func(partition, rules int) {
			w.memory.set(func(m *memory) { m.rows[partition].Rules = rules })
			time.Sleep(2 * time.Second)
		}
		hold(1, 1)
		w.signUp(both).is(503, "not_configured").heads("Retry-After", "30")
		w.published(0)
		w.claim(alice).is(201, "")
		hold(1, 2)
		w.signUp(`{"owner":"u-17","names":[{"name":"bob"},{"name":"carol"}]}`).is(201, "")
		hold(0, 1)
		w.signUp(`{"owner":"u-17","names":[{"name":"dave"}]}`).is(503, "not_configured")
	})
}

// A name that is promised to a sign-up is its alone until that is decided: nobody gets it, and nobody ends it.
func TestSignupPromise(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		ref := names.Ref{Space: names.Username, Key: "alice"}
		id := uuid.New()
		claim := claims.SignupClaimID(id, ref)
		w.memory.set(func(m *memory) {
			m.ledger.Holdings[ref] = registrations.Holding{
				State: registrations.Reserved, Name: "Alice", Owner: "u-17", ClaimID: claim, Version: 1, Signup: id, ExpiresAt: m.now().Add(-time.Hour),
			}
		})
		w.get("/v1/names/username/alice").is(200, "").has("reason", "taken", "state", "reserved", "available", false, "owner", "u-17")
		w.claim(`{"name":"alice","owner":"u-2"}`).is(409, "taken")
		w.ask(http.MethodPost, "/v1/names/username/alice/release", `{"owner":"u-17"}`).is(409, "wrong_state")
		w.ask(http.MethodPost, "/v1/admin/names/username/alice/release", `{"actor":"ada","reason":"why"}`).is(409, "wrong_state")
		w.ask(http.MethodPost, "/v1/admin/names/username/alice/block", `{"actor":"ada","reason":"why"}`).is(409, "wrong_state")
	})
}
