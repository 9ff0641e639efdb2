package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// post is a request with a body.
func (w *world) post(path, body string, headers ...string) *answer {
	w.t.Helper()
	return w.ask(http.MethodPost, path, body, headers...)
}

// string is a field of the body that is a string.
func (a *answer) string(field string) string {
	a.t.Helper()
	s, ok := a.body[field].(string)
	if !ok {
		a.t.Fatalf("there is no %s\n%s", field, a.text)
	}
	return s
}

const (
	reserveAlice = `{"name":"Alice","owner":"u-17","mode":"reserve","ttl_seconds":60}`
	byOwner      = `{"owner":"u-17"}`
	bySomebody   = `{"owner":"u-18"}`
	nameOfAlice  = "/v1/names/username/alice"
)

// reserved is the path of a claim that has reserved Alice for u-17 for a minute.
func (w *world) reserved() (path, id string) {
	w.t.Helper()
	id = w.claim(reserveAlice).is(201, "").string("claim_id")
	return "/v1/claims/" + id, id
}

func TestReserveAndConfirm(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		a := w.claim(reserveAlice).is(201, "").has("state", "accepted", "version", 1, "expires_at", "2026-11-21T10:01:00.123Z").heads("ETag", `"1"`)
		id := a.string("claim_id")
		path := "/v1/claims/" + id
		w.get(nameOfAlice).is(200, "").has("state", "reserved", "available", false, "reason", "taken", "expires_at", "2026-11-21T10:01:00.123Z", "claim_id", id)
		w.claim(`{"name":"Alice","owner":"u-18"}`).is(409, "taken")

		time.Sleep(59 * time.Second)
		const key = "Idempotency-Key: k"
		c := w.post(path+"/confirm", byOwner, key, "Prefer: wait=2").is(200, "").heads("ETag", `"2"`, "Idempotent-Replayed", "", "Preference-Applied", "wait=2").
			has("type", "ConfirmRequested", "state", "accepted", "claim_id", id, "version", 2, "name", "Alice", "owner", "u-17", "expires_at", nil)
		request := c.string("request_id")
		if c.heads("Location", "/v1/claims/"+request); request == id {
			t.Error("the confirmation has the id of the claim")
		}
		w.post(path+"/confirm", byOwner, key).is(200, "").has("request_id", request, "version", 2).heads("Idempotent-Replayed", "true")
		w.post(path+"/confirm", bySomebody, key).is(422, "idempotency_mismatch").has("request_id", request)
		w.post(path+"/confirm", byOwner).is(200, "").has("version", 2) // again: it is so already
		w.get("/v1/claims/"+request).is(200, "").has("type", "ConfirmRequested", "claim_id", id, "request_id", request, "version", 2).heads("ETag", `"2"`)
		w.get(path).is(200, "").has("type", "UsernameClaimed", "claim_id", id, "request_id", id, "version", 1)
		w.get(nameOfAlice).is(200, "").has("state", "registered", "version", 2, "expires_at", nil)
	})
}

func TestReservationExpires(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, id := w.reserved()
		time.Sleep(time.Minute)
		w.get(nameOfAlice).is(200, "").has("state", "free", "available", true, "reason", nil, "owner", nil, "claim_id", nil, "version", 1)
		a := w.post(path+"/confirm", byOwner).is(409, "reservation_expired").has("claim_id", id)
		w.get("/v1/claims/"+a.string("request_id")).is(200, "reservation_expired").has("state", "rejected", "type", "ConfirmRequested", "claim_id", id)
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":60}`).is(409, "reservation_expired")
		w.post(path+"/withdraw", byOwner).is(409, "reservation_expired")
		w.claim(`{"name":"Alice","owner":"u-18"}`).is(201, "").has("version", 3)
		w.post(path+"/confirm", byOwner).is(409, "reservation_expired")
	})
}

func TestExtend(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, id := w.reserved()
		time.Sleep(30 * time.Second)
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":600}`, "Idempotency-Key: k").is(200, "").
			has("type", "ExtendRequested", "claim_id", id, "version", 2, "expires_at", "2026-11-21T10:10:30.123Z").heads("ETag", `"2"`)
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":600}`, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "true")
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":604800}`).is(200, "").has("expires_at", "2026-11-28T10:00:00.123Z")
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":604800}`).is(409, "limit_exceeded")
		w.post(path+"/extend", `{"owner":"u-18","ttl_seconds":60}`).is(403, "not_owner").has("owner", nil)
		w.post(path+"/confirm", byOwner).is(200, "")
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":60}`).is(409, "wrong_state")
	})
}

func TestWithdraw(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, id := w.reserved()
		w.post(path+"/withdraw", bySomebody).is(403, "not_owner")
		w.post(path+"/withdraw", byOwner, "Idempotency-Key: k").is(200, "").has("type", "WithdrawRequested", "state", "accepted", "claim_id", id, "version", 2)
		w.post(path+"/withdraw", byOwner, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "true")
		w.post(path+"/withdraw", byOwner).is(404, "unknown_claim").has("claim_id", id)
		w.post(path+"/confirm", byOwner).is(404, "unknown_claim")
		w.get(nameOfAlice).is(200, "").has("state", "free", "available", true)

		// The same key for another claim of the name is another request.
		second, _ := w.reserved()
		w.post(second+"/withdraw", byOwner, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "")
		w.post(path+"/withdraw", byOwner, "Idempotency-Key: k").is(200, "").has("version", 2).heads("Idempotent-Replayed", "true")

		// A registered name too, unless it has changed since.
		id = w.claim(alice).is(201, "").string("claim_id")
		w.post("/v1/claims/"+id+"/withdraw", byOwner).is(200, "")
		id = w.claim(alice).is(201, "").string("claim_id")
		w.claim(`{"name":"ALICE","owner":"u-17","replaces":{"name":"alice"}}`).is(201, "")
		w.post("/v1/claims/"+id+"/withdraw", byOwner).is(409, "wrong_state")
	})
}

// A claim that is not decided is withdrawn by its name, whichever of the two comes to the log first.
func TestWithdrawUndecided(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		id := uuid.NewString()
		claim := fmt.Sprintf(`{"name":"Alice","owner":"u-17","claim_id":%q}`, id)
		path := "/v1/claims/" + id + "/withdraw"
		w.post(path, byOwner).is(404, "unknown_claim").has("claim_id", nil).heads("Retry-After", "1")
		w.published(0)
		w.post(path, `{"owner":"u-17","name":"ALICE"}`).is(200, "").has("state", "accepted", "claim_id", id, "version", 0)
		w.claim(claim).is(409, "withdrawn").has("claim_id", id)
		w.get("/v1/claims/"+id).is(200, "withdrawn").has("state", "rejected")
		w.post(path, `{"owner":"u-17","space":"pets","name":"ALICE"}`).is(422, "unknown_space").names("space")
		w.post(path, `{"owner":"u-17","space":"username","name":"b!"}`).is(422, "invalid_name").names("name")
		w.post(path, `{"owner":"u-17","space":"username"}`).is(422, "invalid_request").names("name")
		w.post(path, `{"owner":"u-17","name":""}`).is(422, "invalid_name").names("name")

		id = uuid.NewString()
		w.memory.held = true
		w.claim(fmt.Sprintf(`{"name":"Bob","owner":"u-17","claim_id":%q}`, id), "Prefer: respond-async").is(202, "")
		at := w.post("/v1/claims/"+id+"/withdraw", `{"owner":"u-17","name":"bob"}`, "Prefer: respond-async").is(202, "").
			has("state", "pending", "type", "WithdrawRequested", "claim_id", id).header.Get("Location")
		w.get(at).is(200, "").has("state", "pending", "type", nil)
		w.memory.release()
		w.get(at).is(200, "").has("state", "accepted", "type", "WithdrawRequested", "version", 2)
		w.get("/v1/names/username/bob").is(200, "").has("available", true)
	})
}

func TestRelease(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		id := w.claim(alice).is(201, "").string("claim_id")
		release := nameOfAlice + "/release"
		w.post(release, bySomebody).is(403, "not_owner")
		w.post(release, byOwner, `If-Match: "2"`).is(412, "version_conflict").has("current_version", 1)
		w.post(release, `{"owner":"u-17","expected_version":0}`).is(412, "version_conflict")
		w.post("/v1/names/username/ALICE/release", byOwner, `If-Match: "1"`, "Idempotency-Key: k").is(200, "").
			has("type", "ReleaseRequested", "state", "accepted", "version", 2, "claim_id", id, "name", "Alice", "expires_at", nil).heads("ETag", `"2"`)
		w.post(release, byOwner, `If-Match: "1"`, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "true")
		w.post(release, byOwner, "Idempotency-Key: k").is(422, "idempotency_mismatch")
		w.post(release, byOwner).is(403, "not_owner")
		w.get(nameOfAlice).is(200, "").has("state", "free", "available", true, "version", 2).heads("ETag", `"2"`)
		w.claim(`{"name":"Alice","owner":"u-18"}`, "If-None-Match: *").is(201, "").has("version", 3)
		w.post(release, byOwner).is(403, "not_owner")
	})
}

func TestCoolDown(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const name = "/v1/names/handle/alice"
		w.claim(`{"space":"handle","name":"alice","owner":"u-17"}`).is(201, "")
		w.post(name+"/release", byOwner).is(200, "").has("expires_at", "2026-11-21T11:00:00.123Z")
		w.get(name).is(200, "").has("state", "cooling", "available", false, "reason", "cooling_down", "expires_at", "2026-11-21T11:00:00.123Z", "owner", nil)
		w.claim(`{"space":"handle","name":"alice","owner":"u-18"}`).is(409, "cooling_down")
		w.claim(`{"space":"handle","name":"alice","owner":"u-17"}`).is(201, "")
		w.post(name+"/release", byOwner).is(200, "")
		time.Sleep(time.Hour)
		w.get(name).is(200, "").has("state", "free", "available", true, "reason", nil, "expires_at", nil)
		w.claim(`{"space":"handle","name":"alice","owner":"u-18"}`).is(201, "")
	})
}

func TestBlocked(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		about := claims.About{Space: "username", Spelling: "alice"}
		w.claim(alice).is(201, "")
		w.memory.privileged(&claims.BlockRequested{About: about, Actor: "ops", Reason: "abuse"})
		w.get(nameOfAlice).is(200, "").has("state", "blocked", "available", false, "reason", "blocked", "owner", nil)
		w.claim(alice).is(409, "blocked")
		w.post(nameOfAlice+"/release", byOwner).is(409, "blocked")
		w.claim(`{"name":"bob","owner":"u-17"}`).is(201, "")
		w.post("/v1/names/username/bob/rename", `{"owner":"u-17","to":"Alice"}`).is(409, "blocked")
		w.memory.privileged(&claims.UnblockRequested{About: about, Actor: "ops", Reason: "a mistake"})
		w.get(nameOfAlice).is(200, "").has("state", "free", "available", true)
	})
}

func TestTransfer(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		transfer, body := nameOfAlice+"/transfer", `{"owner":"u-17","new_owner":"u-18"}`
		w.post(transfer, body).is(403, "not_owner")
		w.claim(alice).is(201, "")
		w.post(transfer, `{"owner":"u-17","new_owner":"u-18","expected_version":3}`).is(412, "version_conflict").has("current_version", 1)
		w.post(transfer, body, "Idempotency-Key: k").is(200, "").has("type", "TransferRequested", "owner", "u-18", "version", 2)
		w.post(transfer, body, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "true")
		w.post(transfer, body).is(403, "not_owner")
		w.get(nameOfAlice).is(200, "").has("owner", "u-18", "state", "registered", "name", "Alice")
		w.claim(`{"name":"bob","owner":"u-17","mode":"reserve"}`).is(201, "")
		w.post("/v1/names/username/bob/transfer", body).is(409, "wrong_state")
	})
}

func TestDeactivateAndReactivate(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.post(nameOfAlice+"/reactivate", byOwner).is(409, "wrong_state")
		w.post(nameOfAlice+"/deactivate", bySomebody).is(403, "not_owner")
		w.post(nameOfAlice+"/deactivate", byOwner, `If-Match: "1"`, "Idempotency-Key: k").is(200, "").has("type", "DeactivateRequested", "version", 2)
		w.post(nameOfAlice+"/deactivate", byOwner, `If-Match: "1"`, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "true")
		w.get(nameOfAlice).is(200, "").has("state", "inactive", "available", false, "reason", "taken", "owner", "u-17")
		w.post(nameOfAlice+"/deactivate", byOwner).is(409, "wrong_state")
		w.post(nameOfAlice+"/rename", `{"owner":"u-17","to":"Alicia"}`).is(409, "wrong_state").has("claim_id", nil).names("name")
		w.post(nameOfAlice+"/reactivate", byOwner, `If-Match: "1"`).is(412, "version_conflict")
		w.post(nameOfAlice+"/reactivate", byOwner).is(200, "").has("type", "ReactivateRequested", "version", 3)

		// Unique among the active only: it may be gone.
		const name = "/v1/names/staff/alice"
		w.claim(`{"space":"staff","name":"alice","owner":"u-17"}`).is(201, "")
		w.post(name+"/deactivate", byOwner).is(200, "")
		w.get(name).is(200, "").has("state", "free", "available", true)
		w.claim(`{"space":"staff","name":"alice","owner":"u-18"}`).is(201, "")
		w.post(name+"/reactivate", byOwner).is(409, "taken")
	})
}

// Every call whose wait runs out is pending, and can be read where its Location says.
func TestOrdersPending(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, id := w.reserved()
		w.claim(`{"name":"bob","owner":"u-17"}`).is(201, "")
		w.claim(`{"space":"staff","name":"bob","owner":"u-17"}`).is(201, "")
		for i, call := range []struct{ path, body, kind, claim string }{
			{path + "/extend", `{"owner":"u-17","ttl_seconds":60}`, "ExtendRequested", id},
			{path + "/confirm", byOwner, "ConfirmRequested", id},
			{path + "/withdraw", byOwner, "WithdrawRequested", id},
			{"/v1/names/username/bob/deactivate", byOwner, "DeactivateRequested", ""},
			{"/v1/names/username/bob/reactivate", byOwner, "ReactivateRequested", ""},
			{"/v1/names/username/bob/rename", `{"owner":"u-17","to":"bobby"}`, "UsernameClaimed", ""},
			{"/v1/names/username/bobby/transfer", `{"owner":"u-17","new_owner":"u-18"}`, "TransferRequested", ""},
			{"/v1/names/staff/bob/release", byOwner, "ReleaseRequested", ""},
		} {
			w.memory.set(func(m *memory) { m.held = true })
			key := fmt.Sprintf("Idempotency-Key: k%d", i)
			a := w.post(call.path, call.body, key, "Prefer: wait=1").is(202, "").heads("Retry-After", "1", "Preference-Applied", "wait=1", "ETag", "").
				has("state", "pending", "type", call.kind, "owner", "u-17", "version", nil)
			if a.took != time.Second {
				t.Errorf("%s took %s", call.path, a.took)
			}
			request := a.string("request_id")
			if call.claim == "" {
				call.claim = request
			}
			a.has("claim_id", call.claim)
			at := a.header.Get("Location")
			if !strings.HasPrefix(at, "/v1/claims/"+request+"?at=") {
				t.Errorf("%s is at %s", call.path, at)
			}
			w.get(at).is(200, "").has("state", "pending", "request_id", request)
			time.AfterFunc(time.Second, w.memory.release)
			again := w.post(call.path, call.body, key).is(200, "").has("request_id", request, "state", "accepted", "type", call.kind).heads("Idempotent-Replayed", "true")
			if again.took != time.Second {
				t.Errorf("%s again took %s", call.path, again.took)
			}
			w.get(at).is(200, "").has("state", "accepted", "type", call.kind, "request_id", request)
		}
		if n := w.waiter.Counts().Waiting; n != 0 {
			t.Errorf("%d tickets are still out", n)
		}
	})
}

// What is of no use later has a deadline: a minute from now, and what clocks may differ.
func TestOrdersHaveDeadlines(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, _ := w.reserved()
		const until = `"deadline":"2026-11-21T10:01:10.123Z"`
		for _, call := range []struct {
			path, body string
			deadline   bool
		}{
			{path + "/extend", `{"owner":"u-17","ttl_seconds":60}`, true},
			{path + "/confirm", byOwner, true},
			{path + "/withdraw", byOwner, true},
			{nameOfAlice + "/release", byOwner, true},
			{nameOfAlice + "/transfer", `{"owner":"u-17","new_owner":"u-18"}`, true},
			{nameOfAlice + "/deactivate", byOwner, false},
			{nameOfAlice + "/reactivate", byOwner, false},
		} {
			p := claims.Partition("username/alice", partitions)
			before := len(w.memory.logs[p])
			w.post(call.path, call.body)
			r := w.memory.logs[p][before]
			if got := strings.Contains(string(r.Value), until); got != call.deadline || strings.Contains(string(r.Value), "deadline") != call.deadline {
				t.Errorf("%s: %s", call.path, r.Value)
			}
		}
		// It comes to the log in time and is decided too late.
		_, id := w.reserved()
		w.memory.set(func(m *memory) { m.held = true })
		at := w.post("/v1/claims/"+id+"/withdraw", byOwner, "Prefer: respond-async").is(202, "").header.Get("Location")
		w.memory.set(func(m *memory) {
			for p := range m.logs {
				for i := range m.logs[p] {
					m.logs[p][i].Time = m.logs[p][i].Time.Add(71 * time.Second)
				}
			}
		})
		w.memory.release()
		w.get(at).is(200, "deadline_passed").has("state", "rejected")
	})
}

func TestBadOrders(t *testing.T) {
	long := strings.Repeat("x", 256)
	inTime(t, func(t *testing.T, w *world) {
		path, _ := w.reserved()
		w.claim(`{"name":"bob","owner":"u-17"}`).is(201, "")
		before := len(w.memory.records())
		const bob = "/v1/names/username/bob"
		for _, test := range []struct {
			path, body string
			status     int
			reason     string
			fields     string
		}{
			{path + "/confirm", ``, 415, "unsupported_media_type", "Content-Type"},
			{path + "/confirm", `{`, 400, "bad_request", "body"},
			{path + "/confirm", `{"owner":"u-17","x":1}`, 400, "bad_request", "x"},
			{path + "/confirm", `{"owner":"u-17","ttl_seconds":1}`, 400, "bad_request", "ttl_seconds"},
			{path + "/confirm", `{"owner":17}`, 400, "bad_request", "owner"},
			{path + "/confirm", `{"owner":null}`, 400, "bad_request", "owner"},
			{path + "/confirm", `{}`, 422, "invalid_request", "owner"},
			{path + "/confirm", `{"owner":"` + long + `"}`, 422, "invalid_request", "owner"},
			{"/v1/claims/17/confirm", byOwner, 400, "bad_request", "id"},
			{"/v1/claims/" + uuid.NewString() + "/confirm", byOwner, 404, "unknown_claim", ""},
			{"/v1/claims/" + uuid.NewString() + "/extend", `{"owner":"u-17","ttl_seconds":1}`, 404, "unknown_claim", ""},
			{"/v1/claims/" + uuid.NewString() + "/withdraw", byOwner, 404, "unknown_claim", ""},
			{path + "/extend", byOwner, 422, "invalid_request", "ttl_seconds"},
			{path + "/extend", `{"owner":"","ttl_seconds":0}`, 422, "invalid_request", "owner ttl_seconds"},
			{path + "/extend", `{"owner":"u-17","ttl_seconds":-60}`, 422, "invalid_request", "ttl_seconds"},
			{path + "/extend", `{"owner":"u-17","ttl_seconds":604801}`, 422, "invalid_request", "ttl_seconds"},
			{path + "/extend", `{"owner":"u-17","ttl_seconds":9223372036854775807}`, 422, "invalid_request", "ttl_seconds"},
			{path + "/extend", `{"owner":"u-17","ttl_seconds":"60"}`, 400, "bad_request", "ttl_seconds"},
			{path + "/withdraw", `{"owner":"u-17","key":"alice"}`, 400, "bad_request", "key"},
			{bob + "/release", `{"owner":"u-17","expected_version":-1}`, 422, "invalid_request", "expected_version"},
			{bob + "/release", `{"owner":"u-17","actor":"ops"}`, 400, "bad_request", "actor"},
			{bob + "/release", `{"owner":"ü","expected_version":-1}`, 422, "invalid_request", "owner expected_version"},
			{"/v1/names/pets/bob/release", byOwner, 404, "unknown_space", "space"},
			{"/v1/names/pets/bob/rename", `{"owner":"u-17","to":"bobby"}`, 404, "unknown_space", "space"},
			{"/v1/names/username/b/release", byOwner, 422, "invalid_name", "name"},
			{bob + "/transfer", byOwner, 422, "invalid_request", "new_owner"},
			{bob + "/transfer", `{"owner":"u-17","new_owner":"u-17"}`, 422, "invalid_request", "new_owner"},
			{bob + "/transfer", `{"owner":"u-17","new_owner":"` + long + `"}`, 422, "invalid_request", "new_owner"},
			{bob + "/deactivate", `{"owner":""}`, 422, "invalid_request", "owner"},
			{bob + "/reactivate", `{"owner":""}`, 422, "invalid_request", "owner"},
			{bob + "/rename", byOwner, 422, "invalid_name", "to"},
			{bob + "/rename", `{"owner":"u-17","to":"b"}`, 422, "invalid_name", "to"},
			{bob + "/rename", `{"owner":"u-17","to":"root"}`, 422, "reserved_word", "to"},
			{bob + "/rename", `{"owner":"u-17","to":"bob"}`, 422, "invalid_request", "to"},
			{bob + "/rename", `{"owner":"u-17","to":"bobby","expected_version":0}`, 422, "invalid_request", "expected_version"},
			{bob + "/rename", `{"owner":"u-17","to":"bobby","mode":"reserve"}`, 400, "bad_request", "mode"},
			{bob + "/rename", `{"owner":"u-18","to":"bobby"}`, 403, "not_owner", "name"},
			{bob + "/rename", `{"owner":"u-17","to":"bobby","expected_version":2}`, 412, "version_conflict", "expected_version"},
			{"/v1/names/username/carol/rename", `{"owner":"u-17","to":"bobby"}`, 403, "not_owner", "name"},
			{"/v1/names/username/x/rename", `{"owner":"u-17","to":"bobby"}`, 422, "invalid_name", "name"},
		} {
			a := w.post(test.path, test.body)
			if a.status != test.status || a.body["reason"] != test.reason || a.body["claim_id"] != nil {
				t.Errorf("%s %s: %d %v, want %d %s\n%s", test.path, test.body, a.status, a.body["reason"], test.status, test.reason, a.text)
				continue
			}
			a.names(strings.Fields(test.fields)...)
		}
		for _, call := range []string{"release", "rename", "transfer", "deactivate", "reactivate"} {
			body := map[string]string{"rename": `{"owner":"u-17","to":"bobby"}`, "transfer": `{"owner":"u-17","new_owner":"u-18"}`}[call]
			if body == "" {
				body = byOwner
			}
			for _, header := range []string{"If-Match: x", "If-Match: *", `If-Match: W/"1"`, `If-Match: "-1"`, `If-Match: "1", "2"`, "Prefer: wait=x", "Idempotency-Key: \t"} {
				name, _, _ := strings.Cut(header, ":")
				w.post(bob+"/"+call, body, header).is(400, "bad_request").names(name)
			}
			w.post(bob+"/"+call, body[:len(body)-1]+`,"expected_version":1}`, `If-Match: "1"`).is(400, "bad_request").names("If-Match")
		}
		w.published(before)
	})
}

// A name that nobody asked for in this way is not confirmed by the id of something else.
func TestOrderAboutWhatIsNoClaim(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, _ := w.reserved()
		request := w.post(path+"/confirm", byOwner).is(200, "").string("request_id")
		w.post("/v1/claims/"+request+"/confirm", byOwner).is(404, "unknown_claim").has("claim_id", nil)
		existing := w.claim(`{"name":"Alice","owner":"u-17","on_conflict":"return_existing"}`).is(201, "")
		w.post("/v1/claims/"+existing.string("request_id")+"/withdraw", byOwner).is(404, "unknown_claim")
		rejected := w.claim(`{"name":"Alice","owner":"u-18"}`).is(409, "taken").string("claim_id")
		w.post("/v1/claims/"+rejected+"/confirm", bySomebody).is(404, "unknown_claim").has("claim_id", rejected)
		w.memory.set(func(m *memory) { m.away = errAway })
		w.post(path+"/confirm", byOwner).is(503, "unavailable")
		w.post(nameOfAlice+"/rename", `{"owner":"u-17","to":"Alicia"}`).is(503, "unavailable")
	})
}

// A key is good for its spaces and owners in every call.
func TestKeysOfOrders(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "any", Principal: "gateway", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "reader", Principal: "console", Scopes: []string{"read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "mail", Principal: "mail", Scopes: []string{"claim", "read"}, Spaces: []string{"handle"}, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"claim", "read"}, Spaces: all, Owners: []string{"v-"}},
		auth.KeySpec{ID: "ours", Principal: "ours", Scopes: []string{"claim", "read"}, Spaces: all, Owners: []string{"u-"}},
	)
	anybody, reader, mail, half, ours := headers[0], headers[1], headers[2], headers[3], headers[4]
	inTimeReal(t, func(t *testing.T, w *world) {
		path := "/v1/claims/" + w.claim(reserveAlice, anybody).is(201, "").string("claim_id")
		w.claim(`{"name":"bob","owner":"u-17"}`, anybody).is(201, "")
		before := len(w.memory.records())
		for _, call := range []struct{ path, body string }{
			{path + "/confirm", byOwner}, {path + "/extend", `{"owner":"u-17","ttl_seconds":60}`}, {path + "/withdraw", byOwner},
			{path + "/withdraw", `{"owner":"u-17","name":"alice"}`},
			{"/v1/names/username/bob/release", byOwner}, {"/v1/names/username/bob/rename", `{"owner":"u-17","to":"bobby"}`},
			{"/v1/names/username/bob/transfer", `{"owner":"u-17","new_owner":"u-18"}`},
			{"/v1/names/username/bob/deactivate", byOwner}, {"/v1/names/username/bob/reactivate", byOwner},
		} {
			w.post(call.path, call.body).is(401, "unauthenticated")
			w.post(call.path, call.body, reader).is(403, "not_allowed")
			w.post(call.path, call.body, mail).is(403, "not_allowed").names("space")
			if strings.HasSuffix(call.path, "transfer") {
				w.post(call.path, call.body, half).is(403, "not_allowed").names("new_owner")
				w.post(call.path, `{"owner":"u-17","new_owner":"v-18"}`, half).is(403, "not_allowed").names("owner")
				w.post(call.path, `{"owner":"u-17","new_owner":"v-18"}`, ours).is(403, "not_allowed").names("new_owner")
				continue
			}
			w.post(call.path, call.body, half).is(403, "not_allowed").names("owner")
		}
		w.published(before)
		w.post(path+"/confirm", byOwner, ours).is(200, "")
		w.get(nameOfAlice, half).is(200, "").has("owner", nil)
		if o := w.memory.ledger.Holdings; len(o) != 2 || o[refOf("alice")].State != registrations.Registered {
			t.Errorf("%+v", o)
		}
	}, keys)
}
