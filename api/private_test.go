package api_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

var (
	pepper  = []byte("thirty-two bytes that nobody has")
	peppers = names.Peppers{"email": {1: pepper}, "member": {1: pepper}}
)

// secret is a private space.
func secret(space names.Space, private names.Private) *names.Policy {
	p := *names.Builtin()[names.Username]
	p.Space, p.Reserved, p.MinLength, p.MaxLength, p.Private = space, nil, 1, 254, &private
	return p.WithPepper(1, pepper)
}

func privateSpaces() names.Policies {
	member := secret("member", names.Private{Fields: []names.Field{{Name: "tenant", Form: names.FormName}, {Name: "email", Form: names.FormEmail}}})
	return names.Policies{"email": secret("email", names.Private{Form: names.FormEmail}), "member": member}
}

func privateKey(t *testing.T, space names.Space, v names.Value) string {
	t.Helper()
	key, err := peppers.Key(privateSpaces()[space], v)
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

// withPeppers gives the API its peppers, and the log and what is logged to look at.
func withPeppers(log *bytes.Buffer, ps names.Peppers) func(*setup) {
	return func(s *setup) {
		s.claimer.Peppers = ps
		logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		s.claimer.Log, s.server.Log = logger, logger
	}
}

// TestPrivateSpace: a value comes in by a body, and nothing but its key goes on.
func TestPrivateSpace(t *testing.T) {
	var log bytes.Buffer
	inTime(t, func(t *testing.T, w *world) {
		w.hold(0, partitions, privateSpaces())
		var answers strings.Builder
		ask := func(method, path, body string, headers ...string) *answer {
			t.Helper()
			a := w.ask(method, path, body, headers...)
			fmt.Fprintln(&answers, a.text, a.header)
			return a
		}
		claim := func(body string, headers ...string) *answer {
			t.Helper()
			return ask("POST", "/v1/claims", body, headers...)
		}
		ada, bob := privateKey(t, "email", names.Value{Name: "canary.ada@example.com"}), privateKey(t, "email", names.Value{Name: "canary.bob@example.com"})
		at := "/v1/names/email/" + ada

		first := claim(`{"space":"email","name":"canary.ada@EXAMPLE.com","owner":"u-1"}`, "Idempotency-Key: k").is(201, "").has("key", ada, "space", "email", "name", nil)
		id := first.body["claim_id"].(string)
		claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-1"}`, "Idempotency-Key: k").is(201, "").has("claim_id", id).heads("Idempotent-Replayed", "true")
		claim(`{"space":"email","name":"`+ada+`","owner":"u-1"}`, "Idempotency-Key: k").is(201, "").has("claim_id", id).heads("Idempotent-Replayed", "true")
		claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-2"}`).is(409, "taken")
		ask("GET", "/v1/claims/"+id, "").is(200, "").has("key", ada, "name", nil, "state", "accepted")
		ask("GET", at, "").is(200, "").has("key", ada, "name", nil, "state", "registered", "owner", "u-1", "available", false, "reason", "taken")
		ask("GET", at+"/history", "").is(200, "").has("key", ada)
		ask("GET", "/v1/owners/u-1/names", "").is(200, "")
		ask("POST", at+"/rename", `{"owner":"u-1","to":"canary.ada@example.com"}`).is(422, "invalid_request").names("to")
		ask("POST", at+"/rename", `{"owner":"u-1","to":"canary.bob@example.com"}`).is(200, "").has("key", bob)
		ask("GET", at, "").is(200, "").has("state", "free", "available", true)
		claim(`{"space":"email","name":"`+ada+`","owner":"u-1","mode":"reserve","ttl_seconds":600,"replaces":{"name":"canary.bob@example.com"}}`).is(201, "").has("state", "accepted", "key", ada)
		reserved := ask("GET", at, "").is(200, "").has("state", "reserved").body["claim_id"].(string)
		ask("POST", "/v1/claims/"+reserved+"/extend", `{"owner":"u-1","ttl_seconds":900}`).is(200, "")
		ask("POST", "/v1/claims/"+reserved+"/confirm", `{"owner":"u-1"}`).is(200, "").has("key", ada)
		ask("GET", "/v1/names/email/"+bob, "").is(200, "").has("state", "free")
		ask("POST", at+"/transfer", `{"owner":"u-1","new_owner":"u-2"}`).is(200, "")
		ask("POST", at+"/deactivate", `{"owner":"u-2"}`).is(200, "")
		ask("POST", at+"/reactivate", `{"owner":"u-2"}`).is(200, "")
		ask("POST", "/v1/admin/names/email/"+ada+"/block", `{"actor":"ada","reason":"spam"}`).is(200, "")
		ask("POST", "/v1/admin/names/email/"+ada+"/unblock", `{"actor":"ada","reason":"ham"}`).is(200, "")
		third := claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-3"}`).is(201, "").body["claim_id"].(string)
		ask("POST", "/v1/claims/"+third+"/withdraw", `{"owner":"u-3","space":"email","name":"canary.ada@example.com"}`).is(200, "").has("key", ada)
		ask("POST", "/v1/claims/8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b3f2/withdraw", `{"owner":"u-3","space":"email","name":"canary.ada@example.com"}`).is(200, "")
		claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-3"}`).is(201, "")
		ask("POST", at+"/release", `{"owner":"u-3"}`).is(200, "")

		// Several fields.
		fields := names.Value{Fields: map[string]string{"tenant": "canary-acme", "email": "canary.ada@example.com"}}
		member := privateKey(t, "member", fields)
		claim(`{"space":"member","fields":{"tenant":"Canary-Acme","email":"canary.ada@example.com"},"owner":"u-1"}`).is(201, "").has("key", member)
		claim(`{"space":"member","fields":{"tenant":"canary-acme","email":"canary.ada@EXAMPLE.com"},"owner":"u-2"}`).is(409, "taken")

		// Look-ups.
		lookup := ask("POST", "/v1/lookups", `{"space":"email","name":"canary.ada@example.com"}`).is(200, "")
		lookup.has("space", "email", "key", ada, "record_key", "email/"+ada, "partition", int(claims.Partition("email/"+ada, partitions)))
		ask("POST", "/v1/lookups", `{"space":"member","fields":{"tenant":"canary-acme","email":"canary.ada@example.com"}}`).is(200, "").has("key", member)
		ask("POST", "/v1/lookups", `{"name":"Alice"}`).is(200, "").has("space", "username", "key", "alice", "record_key", "username/alice")

		// What cannot be.
		logged := len(w.memory.records())
		stale := strings.Replace(ada, "h1:", "h2:", 1)
		for body, field := range map[string]string{
			`"space":"email","name":"canary.ada"`:             "name",
			`"space":"email","name":"canary.ada@exämple.com"`: "name",
			`"space":"email"`:                                                                                         "name",
			`"space":"email","name":"` + stale + `"`:                                                                  "name",
			`"space":"email","fields":{"email":"canary.ada@example.com"}`:                                             "fields",
			`"space":"member","name":"canary.ada@example.com"`:                                                        "fields",
			`"space":"member","fields":{"tenant":"canary-acme"}`:                                                      "fields.email",
			`"space":"member","fields":{"tenant":"canary acme","email":"canary.ada@example.com"}`:                     "fields.tenant",
			`"space":"member","fields":{"tenant":"canary-acme","email":"canary.ada@example.com","canary.x":"canary"}`: "fields",
		} {
			claim(`{`+body+`,"owner":"u-1"}`).is(422, "invalid_name").names(field)
			ask("POST", "/v1/lookups", `{`+body+`}`).is(422, "invalid_name").names(field)
		}
		claim(`{"space":"email","name":"canary.ada","owner":"","mode":"canary"}`).is(422, "invalid_request").names("name", "mode", "owner")
		claim(`{"space":"email","name":"canary.ada@example.com","fields":{},"owner":"u-1"}`).is(422, "invalid_request").names("fields")
		claim(`{"name":"alice","fields":{"a":"b"},"owner":"u-1"}`).is(422, "invalid_request").names("fields")
		claim(`{"fields":{"a":"b"},"owner":"u-1"}`).is(422, "invalid_request").names("fields")
		claim(`{"space":"canary-x","name":"canary.ada@example.com","owner":"u-1"}`).is(422, "unknown_space")
		claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-1","replaces":{"name":"canary.bob"}}`).is(422, "invalid_request").names("replaces.name")
		claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-1","canary.ada@example.com":1}`).is(400, "bad_request")
		claim(`{"space":"member","fields":{"canary.ada":7},"owner":"u-1"}`).is(400, "bad_request").names("fields")
		claim(`{"space":"member","fields":["canary.ada@example.com"],"owner":"u-1"}`).is(400, "bad_request").names("fields")
		claim(`{"space":"email","name":"canary.ada@example.com"`).is(400, "bad_request")
		claim(`{"space":"email","name":["canary.ada@example.com"],"owner":"u-1"}`).is(400, "bad_request")
		ask("POST", "/v1/lookups?canary.ada@example.com", `{}`).is(400, "bad_request")
		ask("POST", "/v1/lookups", `{"space":"nope","name":"canary.ada@example.com"}`).is(422, "unknown_space")
		raw := "/v1/names/email/canary.ada@example.com"
		for _, path := range []string{raw, raw + "/history"} {
			ask("GET", path, "").is(422, "invalid_name").names("name")
		}
		for call, body := range map[string]string{
			"release": `{"owner":"u-1"}`, "rename": `{"owner":"u-1","to":"canary.bob@example.com"}`, "transfer": `{"owner":"u-1","new_owner":"u-2"}`,
			"deactivate": `{"owner":"u-1"}`, "reactivate": `{"owner":"u-1"}`,
		} {
			ask("POST", raw+"/"+call, body, "Idempotency-Key: canary").is(422, "invalid_name").names("name")
		}
		ask("POST", "/v1/admin/names/email/canary.ada@example.com/block", `{"actor":"ada","reason":"spam"}`).is(422, "invalid_name")
		w.published(logged)

		for what, text := range map[string]string{"an answer": answers.String(), "what is logged": log.String(), "a record": fmt.Sprintf("%q", w.memory.records())} {
			if i := strings.Index(strings.ToLower(text), "canary"); i >= 0 {
				t.Errorf("%s tells of a value: %s", what, text[max(0, i-200):min(len(text), i+100)])
			}
		}
		if log.Len() == 0 || answers.Len() == 0 {
			t.Error("nothing was looked at")
		}
	}, withPeppers(&log, peppers))
}

// TestPrivateTimeout: what is withdrawn for want of time is known by its key, and so is what is pending.
func TestPrivateTimeout(t *testing.T) {
	var log bytes.Buffer
	inTime(t, func(t *testing.T, w *world) {
		w.hold(0, partitions, privateSpaces())
		ada := privateKey(t, "email", names.Value{Name: "canary.ada@example.com"})
		w.memory.set(func(m *memory) { m.held = true })
		a := w.claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-1","on_timeout":"withdraw"}`, "Prefer: wait=1").is(202, "").has("state", "withdrawing", "key", ada, "name", nil)
		b := w.claim(`{"space":"email","name":"canary.ada@example.com","owner":"u-1"}`, "Prefer: respond-async").is(202, "").has("state", "pending", "key", ada, "name", nil)
		text := a.text + b.text + log.String() + fmt.Sprintf("%q", w.memory.records())
		if strings.Contains(text, "canary") {
			t.Errorf("%s", text)
		}
		w.published(3)
	}, withPeppers(&log, peppers))
}

// TestPepperIsMissing, or another: no second key for one value. What is asked by its key goes on.
func TestPepperIsMissing(t *testing.T) {
	for what, ps := range map[string]names.Peppers{
		"none": nil, "of another space": {"username": {1: pepper}}, "another": {"email": {1: bytes.Repeat([]byte{9}, 32)}}, "a later one": {"email": {2: pepper}},
	} {
		t.Run(what, func(t *testing.T) {
			var log bytes.Buffer
			inTime(t, func(t *testing.T, w *world) {
				w.hold(0, partitions, privateSpaces())
				const body = `{"space":"email","name":"ada@example.com","owner":"u-1"}`
				w.claim(body).is(503, "not_configured")
				w.ask("POST", "/v1/lookups", `{"space":"email","name":"ada@example.com"}`).is(503, "not_configured")
				w.claim(`{"space":"email","name":"ada@example.com","owner":"u-1","replaces":{"name":"bob@example.com"}}`).is(503, "not_configured")
				w.published(0)
				ada := privateKey(t, "email", names.Value{Name: "ada@example.com"})
				w.claim(`{"space":"email","name":"`+ada+`","owner":"u-1"}`).is(201, "")
				w.ask("POST", "/v1/names/email/"+ada+"/rename", `{"owner":"u-1","to":"bob@example.com"}`).is(503, "not_configured")
				w.ask("POST", "/v1/names/email/"+ada+"/release", `{"owner":"u-1"}`).is(200, "")
			}, withPeppers(&log, ps))
		})
	}
}

// TestLookupsAreLimited: they need a scope of their own, and there are so many for each caller.
func TestLookupsAreLimited(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "writer", Principal: "gateway", Scopes: []string{"claim", "read", "admin"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "importer", Principal: "importer", Scopes: []string{"lookup"}, Spaces: []string{"username"}, Owners: all},
		auth.KeySpec{ID: "other", Principal: "other", Scopes: []string{"lookup", "claim"}, Spaces: all, Owners: all},
	)
	inTimeReal(t, func(t *testing.T, w *world) {
		w.ask("POST", "/v1/lookups", `{"name":"alice"}`, headers[0]).is(403, "not_allowed")
		w.ask("POST", "/v1/lookups", `{"space":"email","name":"alice"}`, headers[1]).is(403, "not_allowed").names("space")
		for range 19 {
			w.ask("POST", "/v1/lookups", `{"name":"alice"}`, headers[1]).is(200, "")
		}
		w.ask("POST", "/v1/lookups", `{"name":"alice"}`, headers[1]).is(429, "rate_limited")
		w.ask("POST", "/v1/lookups", `{"name":"alice"}`, headers[2]).is(200, "")
		w.claim(alice, headers[2]).is(201, "")
	}, keys, func(s *setup) { s.server = api.Config{LookupRate: 2} })
}
