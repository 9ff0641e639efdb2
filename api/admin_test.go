package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
)

const (
	adminAlice = "/v1/admin/names/username/alice"
	byAda      = `{"actor":"ada","reason":"ticket 4711"}`
	toNewOwner = `{"actor":"ada","reason":"ticket 4711","new_owner":"u-18"}`
)

// An actor acts on anybody's name, whoever holds it, and the log has a signature for it.
func TestAdmin(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		id := w.claim(alice).is(201, "").string("claim_id")
		w.post(adminAlice+"/transfer", toNewOwner, `If-Match: "1"`).is(200, "").heads("ETag", `"2"`).
			has("type", "TransferRequested", "state", "accepted", "owner", "u-18", "version", 2, "name", "Alice")
		w.post(adminAlice+"/transfer", toNewOwner).is(409, "wrong_state") // hers already
		w.get(nameOfAlice).is(200, "").has("owner", "u-18", "version", 2)
		a := w.post("/v1/admin/names/username/ALICE/release", byAda, "Idempotency-Key: k", "Prefer: wait=2").is(200, "").
			has("type", "ReleaseRequested", "owner", "u-18", "version", 3).heads("Preference-Applied", "wait=2", "Location", "/v1/claims/"+w.last())
		w.get(a.header.Get("Location")).is(200, "").has("type", "ReleaseRequested", "version", 3)
		w.post(adminAlice+"/release", byAda).is(409, "wrong_state")
		w.post(adminAlice+"/block", byAda).is(200, "").has("type", "BlockRequested", "version", 4, "owner", nil)
		w.post(adminAlice+"/block", byAda).is(200, "").has("version", 5)
		w.claim(alice).is(409, "blocked")
		w.post(adminAlice+"/release", byAda).is(409, "blocked")
		w.post(adminAlice+"/transfer", toNewOwner).is(409, "blocked")
		w.post(adminAlice+"/unblock", byAda).is(200, "").has("type", "UnblockRequested", "version", 6)
		w.post(adminAlice+"/unblock", byAda).is(409, "wrong_state")
		w.claim(alice).is(201, "").has("version", 7)
		w.get("/v1/claims/"+id).is(200, "").has("state", "accepted")
		for _, r := range w.memory.records() {
			if key := w.memory.ledger.Signing; !(claims.Keys{key.ID: key.Secret}).Signed(r) {
				t.Errorf("not signed: %s", r.Value)
			}
		}
	})
}

// last is the id of the last request in the log.
func (w *world) last() string {
	records := w.memory.records()
	for i := len(records) - 1; i >= 0; i-- {
		if strings.Contains(string(records[i].Value), `"actor"`) {
			id, _ := records[i].Header("ce_id")
			return string(id)
		}
	}
	return ""
}

// A version and a repetition are as with the owner's calls; what an actor asks is another request than the owner's.
func TestAdminRepeated(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		const key = "Idempotency-Key: k"
		w.post(adminAlice+"/release", byAda, `If-Match: "2"`).is(412, "version_conflict").has("current_version", 1)
		w.post(adminAlice+"/release", `{"actor":"ada","reason":"x","expected_version":7}`).is(412, "version_conflict")
		w.post(adminAlice+"/transfer", `{"actor":"ada","reason":"x","new_owner":"u-19","expected_version":0}`).is(412, "version_conflict")
		w.post(nameOfAlice+"/release", bySomebody, key).is(403, "not_owner")
		id := w.post(adminAlice+"/release", byAda, key).is(200, "").has("version", 2).heads("Idempotent-Replayed", "").string("request_id")
		w.claim(alice).is(201, "")
		w.post(adminAlice+"/release", byAda, key).is(200, "").has("version", 2, "request_id", id).heads("Idempotent-Replayed", "true")
		w.post(adminAlice+"/release", `{"actor":"bob","reason":"ticket 4711"}`, key).is(422, "idempotency_mismatch")
		w.post(adminAlice+"/release", `{"actor":"ada","reason":"ticket 4712"}`, key).is(422, "idempotency_mismatch")
		w.post(adminAlice+"/block", byAda, key).is(200, "").heads("Idempotent-Replayed", "")
		w.post(adminAlice+"/unblock", byAda, key).is(200, "").heads("Idempotent-Replayed", "")

		w.memory.held = true
		at := w.post(adminAlice+"/block", byAda, "Prefer: respond-async").is(202, "").has("state", "pending", "type", "BlockRequested").header.Get("Location")
		w.memory.release()
		w.get(at).is(200, "").has("state", "accepted", "type", "BlockRequested")
	})
}

// The key says who may: its scope, its spaces, and that it is limited to no owners.
func TestAdminKeys(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "ops", Principal: "ops", Scopes: []string{"admin"}, Spaces: []string{"username"}, Owners: all},
		auth.KeySpec{ID: "app", Principal: "app", Scopes: []string{"claim", "read", "lookup"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"admin"}, Spaces: all, Owners: []string{"u-"}},
	)
	ops, app, half := headers[0], headers[1], headers[2]
	inTimeReal(t, func(t *testing.T, w *world) {
		w.claim(alice, app).is(201, "")
		w.claim(alice, ops).is(403, "not_allowed")
		w.get(nameOfAlice, ops).is(403, "not_allowed")
		for _, call := range []string{"release", "block", "unblock", "transfer"} {
			body := byAda
			if call == "transfer" {
				body = toNewOwner
			}
			w.post(adminAlice+"/"+call, body).is(401, "unauthenticated")
			w.post(adminAlice+"/"+call, body, app).is(403, "not_allowed")
			if a := w.post(adminAlice+"/"+call, body, half).is(403, "not_allowed").names("owner"); !strings.Contains(a.text, "anybody's names") {
				t.Errorf("it says %s", a.text)
			}
			w.post("/v1/admin/names/handle/alice/"+call, body, ops).is(403, "not_allowed").names("space")
		}
		w.published(1)
		w.post(adminAlice+"/release", byAda, ops).is(200, "")
		if got, _ := w.memory.records()[1].Header("ce_dibsprincipal"); string(got) != "ops" {
			t.Errorf("the record is from %q", got)
		}
	}, keys)
}

// Without a key to sign with, an API says which setting it lacks, and does everything else.
func TestAdminWithoutRequestKeys(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		for _, call := range []string{"release", "block", "unblock", "transfer"} {
			body := byAda
			if call == "transfer" {
				body = toNewOwner
			}
			if a := w.post(adminAlice+"/"+call, body).is(501, "not_configured"); !strings.Contains(a.string("detail"), "security.request_keys_file") {
				t.Errorf("it says %s", a.text)
			}
		}
		w.published(1)
		w.post(nameOfAlice+"/release", byOwner).is(200, "")
		for _, r := range w.memory.records() {
			if _, signed := r.Header(claims.Signature); signed {
				t.Errorf("signed: %s", r.Value)
			}
		}
	}, func(s *setup) { s.claimer.Sign = nil })
}

func TestAdminBadInput(t *testing.T) {
	long := strings.Repeat("x", 501)
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		for _, test := range []struct {
			call, body string
			status     int
			reason     string
			fields     string
		}{
			{"block", ``, 415, "unsupported_media_type", "Content-Type"},
			{"block", `[]`, 400, "bad_request", "body"},
			{"block", `{}`, 422, "invalid_request", "actor reason"},
			{"block", `{"actor":"ada"}`, 422, "invalid_request", "reason"},
			{"block", `{"reason":"x"}`, 422, "invalid_request", "actor"},
			{"unblock", `{"actor":"","reason":""}`, 422, "invalid_request", "actor reason"},
			{"unblock", `{"actor":"` + long[:256] + `","reason":"x"}`, 422, "invalid_request", "actor"},
			{"unblock", `{"actor":"` + long[:255] + `","reason":"` + long + `"}`, 422, "invalid_request", "reason"},
			{"block", `{"actor":"Zoë","reason":"x"}`, 422, "invalid_request", "actor"},
			{"block", `{"actor":"a\u0000","reason":"x"}`, 400, "bad_request", "actor"},
			{"block", `{"actor":"ada","reason":"a\u0000"}`, 400, "bad_request", "reason"},
			{"block", `{"actor":"ada","reason":7}`, 400, "bad_request", "reason"},
			{"block", `{"actor":null,"reason":"x"}`, 400, "bad_request", "actor"},
			{"block", `{"actor":"ada","reason":"x","owner":"u-17"}`, 400, "bad_request", "owner"},
			{"block", `{"actor":"ada","reason":"x","expected_version":1}`, 400, "bad_request", "expected_version"},
			{"release", `{"owner":"u-17"}`, 400, "bad_request", "owner"},
			{"release", `{}`, 422, "invalid_request", "actor reason"},
			{"release", `{"actor":"ada","reason":"x","expected_version":-1}`, 422, "invalid_request", "expected_version"},
			{"transfer", byAda, 422, "invalid_request", "new_owner"},
			{"transfer", `{"actor":"","reason":"x","new_owner":"ü","expected_version":-1}`, 422, "invalid_request", "actor new_owner expected_version"},
			{"rename", byAda, 404, "not_found", ""},
		} {
			a := w.post(adminAlice+"/"+test.call, test.body)
			if a.status != test.status || a.body["reason"] != test.reason || a.body["claim_id"] != nil {
				t.Errorf("%s %s: %d %v, want %d %s\n%s", test.call, test.body, a.status, a.body["reason"], test.status, test.reason, a.text)
				continue
			}
			a.names(strings.Fields(test.fields)...)
		}
		for _, call := range []string{"release", "block", "unblock", "transfer"} {
			body := byAda
			if call == "transfer" {
				body = toNewOwner
			}
			w.post("/v1/admin/names/pets/alice/"+call, body).is(404, "unknown_space").names("space")
			w.post("/v1/admin/names/username/Zo%C3%AB/"+call, body).is(422, "invalid_name").names("name")
			w.post("/v1/admin/names/username/a%2Fb/"+call, body).is(422, "invalid_name").names("name")
			w.post("/v1/admin/names/username/%00/"+call, body).is(422, "invalid_name").names("name")
			w.post("/v1/admin/names/username/%FF%FE/"+call, body).is(422, "invalid_name").names("name")
			w.get("/v1/admin/names/username/alice/"+call).is(405, "method_not_allowed").heads("Allow", "POST")
			for _, header := range []string{"If-Match: x", "If-Match: *", `If-Match: W/"1"`, `If-Match: "-1"`, `If-Match: "1", "2"`, "Prefer: wait=x", "Idempotency-Key: \t"} {
				name, _, _ := strings.Cut(header, ":")
				w.post(adminAlice+"/"+call, body, header).is(400, "bad_request").names(name)
			}
		}
		// Nobody shall think that it was done to the version that they saw.
		w.post(adminAlice+"/block", byAda, `If-Match: "1"`).is(400, "bad_request").names("If-Match")
		w.post(adminAlice+"/unblock", byAda, "If-None-Match: *").is(400, "bad_request").names("If-None-Match")
		w.post(adminAlice+"/release", `{"actor":"ada","reason":"x","expected_version":1}`, `If-Match: "1"`).is(400, "bad_request").names("If-Match")
		w.published(1)

		// A reserved word can be blocked: that is no claim.
		w.post("/v1/admin/names/username/root/block", byAda).is(200, "")
	})
}

// What an actor asked for is in the log of the process, with what came of it and without the name, its owner or the reason.
func TestAdminIsAudited(t *testing.T) {
	var logged written
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		id := w.post(adminAlice+"/release", byAda).is(200, "").string("request_id")
		rejected := w.post(adminAlice+"/release", byAda).is(409, "wrong_state").string("request_id")
		w.memory.set(func(m *memory) { m.held = true })
		w.post(adminAlice+"/block", byAda, "Prefer: wait=1").is(202, "")
		for _, line := range []string{
			"level=INFO msg=\"admin request\" principal=anonymous actor=ada action=release space=username request_id=" + id + " outcome=Released",
			"request_id=" + rejected + " outcome=\"rejected: wrong_state\"",
			"actor=ada action=block space=username",
			"outcome=pending",
		} {
			if !strings.Contains(logged.String(), line) {
				t.Errorf("the log has no %s:\n%s", line, logged.String())
			}
		}
		for _, secret := range []string{"lice", "u-17", "4711"} {
			if strings.Contains(logged.String(), secret) {
				t.Errorf("the log has %q:\n%s", secret, logged.String())
			}
		}
	}, logTo(&logged))
}

// What an actor was refused is in the log of the process as well, once, without the name, its owner or what was typed.
func TestRefusedAdminIsAudited(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "ops", Principal: "ops", Scopes: []string{"admin"}, Spaces: []string{"username"}, Owners: all},
		auth.KeySpec{ID: "app", Principal: "app", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"admin"}, Spaces: all, Owners: []string{"u-"}},
	)
	ops, app, half := headers[0], headers[1], headers[2]
	for _, signs := range []bool{true, false} {
		var logged written
		inTimeReal(t, func(t *testing.T, w *world) {
			audited := func(a *answer, want string) {
				t.Helper()
				var lines []string
				for line := range strings.Lines(logged.String()) {
					if strings.Contains(line, `msg="admin request`) {
						_, line, _ = strings.Cut(strings.TrimSpace(line), " ") // the time
						lines = append(lines, line)
					}
				}
				if got := strings.Join(lines, "\n"); got != want {
					t.Errorf("%d: the log has\n%s, want\n%s", a.status, got, want)
				}
				for _, secret := range []string{"lice", "u-1", "4711", "ada"} {
					if strings.Contains(logged.String(), secret) {
						t.Errorf("the log has %q:\n%s", secret, logged.String())
					}
				}
				logged.reset()
			}
			line := func(principal, action, space, reason string) string {
				return `level=INFO msg="admin request refused" principal=` + principal + " action=" + action + " space=" + space + " reason=" + reason
			}
			logged.reset()
			audited(w.post(adminAlice+"/block", byAda, app).is(403, "not_allowed"), line("app", "block", "username", "not_allowed"))
			audited(w.post(adminAlice+"/transfer", toNewOwner, half).is(403, "not_allowed"), line("half", "transfer", "username", "not_allowed"))
			audited(w.post("/v1/admin/names/handle/alice/unblock", byAda, ops).is(403, "not_allowed"), line("ops", "unblock", "handle", "not_allowed"))
			audited(w.post(adminAlice+"/release", `[]`, ops).is(400, "bad_request"), line("ops", "release", "username", "bad_request"))
			audited(w.post("/v1/admin/names/alice/u-17/block", byAda, half).is(403, "not_allowed"), line("half", "block", `""`, "not_allowed"))
			audited(w.post(adminAlice+"/block", byAda), "") // nobody
			if !signs {
				audited(w.post(adminAlice+"/block", byAda, ops).is(501, "not_configured"), line("ops", "block", "username", "not_configured"))
				return
			}
			audited(w.post("/v1/admin/names/username/al!ce/block", byAda, ops).is(422, "invalid_name"), line("ops", "block", "username", "invalid_name"))
			audited(w.post(adminAlice+"/block", `{"actor":"ada","reason":""}`, ops).is(422, "invalid_request"), line("ops", "block", "username", "invalid_request"))
			w.post(nameOfAlice+"/release", byOwner, half).is(403, "not_allowed") // no call of an actor
			audited(w.get("/v1/claims/x", app).is(400, "bad_request"), "")

			// What came as far as the log is said there, once.
			w.memory.set(func(m *memory) {
				m.publish = func(context.Context, func() int64) (int64, error) { return 0, api.ErrNotPublished }
			})
			w.post(adminAlice+"/block", byAda, ops).is(503, "unavailable")
			if text := logged.String(); strings.Count(text, `msg="admin request`) != 1 || !strings.Contains(text, `outcome="refused: unavailable"`) {
				t.Errorf("the log has\n%s", text)
			}
		}, keys, logTo(&logged), func(s *setup) {
			if !signs {
				s.claimer.Sign = nil
			}
		})
	}
}
