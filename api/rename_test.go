package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
)

func refOf(name string) names.Ref {
	return names.Ref{Space: names.Username, Key: names.Key(name)}
}

const toAlicia = `{"owner":"u-17","to":"Alicia"}`

func TestRename(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		a := w.post(nameOfAlice+"/rename", toAlicia, `If-Match: "1"`).is(200, "").heads("ETag", `"1"`).
			has("type", "UsernameClaimed", "state", "accepted", "name", "Alicia", "key", "alicia", "version", 1)
		w.get(a.header.Get("Location")).is(200, "").has("name", "Alicia")
		w.get("/v1/names/username/alicia").is(200, "").has("owner", "u-17", "state", "registered")
		w.get(nameOfAlice).is(200, "").has("available", true, "version", 2) // what follows has released it
		w.published(3)

		// As a claim, with the version or without.
		w.claim(`{"name":"Alma","owner":"u-17","replaces":{"name":"ALICIA","version":1}}`).is(201, "")
		w.get("/v1/names/username/alicia").is(200, "").has("available", true)
		w.claim(`{"name":"Alice","owner":"u-17","replaces":{"name":"alma"}}`).is(201, "")
		w.get("/v1/names/username/alma").is(200, "").has("available", true)
		w.claim(`{"name":"Alma","owner":"u-17","replaces":{"name":"nobody"}}`).is(403, "not_owner").names("replaces.name").has("claim_id", nil)
		w.claim(`{"name":"Alma","owner":"u-17","replaces":{"name":"alice","version":1}}`).is(412, "version_conflict").
			names("replaces.version").has("claim_id", nil, "current_version", 3)
	})
}

// A rejected rename has changed nothing: neither name.
func TestRenameRejected(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.claim(`{"name":"Alicia","owner":"u-18"}`).is(201, "")
		w.post(nameOfAlice+"/rename", toAlicia).is(409, "taken")
		w.post("/v1/names/username/alicia/rename", `{"owner":"u-18","to":"Alice"}`).is(409, "taken") // nor do they swap
		w.get(nameOfAlice).is(200, "").has("owner", "u-17", "version", 1)
		w.get("/v1/names/username/alicia").is(200, "").has("owner", "u-18", "version", 1)
	})
}

// The new name is reserved first, and the old one given up when it is confirmed.
func TestRenameByReservation(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		id := w.claim(`{"name":"Alicia","owner":"u-17","mode":"reserve","ttl_seconds":60,"replaces":{"name":"alice"}}`).is(201, "").string("claim_id")
		w.get(nameOfAlice).is(200, "").has("owner", "u-17")
		w.post("/v1/claims/"+id+"/confirm", byOwner).is(200, "")
		w.get(nameOfAlice).is(200, "").has("available", true)
		w.post("/v1/claims/"+id+"/withdraw", byOwner).is(409, "wrong_state") // there is no way back to neither
	})
}

func TestRenameToAnotherSpelling(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		const body = `{"owner":"u-17","to":"ALICE"}`
		w.post(nameOfAlice+"/rename", body, "Idempotency-Key: k").is(200, "").has("name", "ALICE", "version", 2)
		w.post(nameOfAlice+"/rename", body, "Idempotency-Key: k").is(200, "").heads("Idempotent-Replayed", "true")
		w.post(nameOfAlice+"/rename", body).is(422, "invalid_request").names("to")
		w.get(nameOfAlice).is(200, "").has("name", "ALICE", "version", 2)
		w.published(2)
		w.claim(`{"name":"bob","owner":"u-17","mode":"reserve"}`).is(201, "")
		w.post("/v1/names/username/bob/rename", `{"owner":"u-17","to":"Bob"}`).is(409, "wrong_state").has("claim_id", nil)
	})
}

// A rename is repeated after the old name has gone, and gone on to others: it is the same rename, and nothing is published
// for it.
func TestRenameAgain(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		const key = "Idempotency-Key: k"
		id := w.post(nameOfAlice+"/rename", toAlicia, key).is(200, "").heads("Idempotent-Replayed", "").string("claim_id")
		again := func() {
			t.Helper()
			n := len(w.memory.records())
			w.post(nameOfAlice+"/rename", toAlicia, key).is(200, "").has("claim_id", id, "version", 1).heads("Idempotent-Replayed", "true")
			w.published(n)
		}
		again()
		for i := range 3 {
			owner := fmt.Sprintf(`{"owner":"v-%d"}`, i)
			w.claim(fmt.Sprintf(`{"name":"Alice","owner":"v-%d"}`, i)).is(201, "")
			again()
			w.post(nameOfAlice+"/release", owner).is(200, "")
		}
		again()
		w.post("/v1/names/username/alicia/release", byOwner).is(200, "")
		again()
		// Another owner's is another, and so is one with a version of its own; another new name is another claim.
		w.post(nameOfAlice+"/rename", `{"owner":"u-18","to":"Alicia"}`, key).is(422, "idempotency_mismatch")
		w.post(nameOfAlice+"/rename", toAlicia, key, `If-Match: "1"`).is(200, "").heads("Idempotent-Replayed", "true")
		w.post(nameOfAlice+"/rename", toAlicia, key, `If-Match: "2"`).is(422, "idempotency_mismatch")
		w.post("/v1/names/username/bob/rename", toAlicia, key).is(422, "idempotency_mismatch")
		w.post(nameOfAlice+"/rename", `{"owner":"u-17","to":"Alma"}`, key).is(403, "not_owner").has("claim_id", nil)
		// As a plain claim it is another operation.
		w.claim(`{"name":"Alicia","owner":"u-17"}`, key).is(201, "").heads("Idempotent-Replayed", "")
	})
}

// While the first try is pending, the old name may change: the second joins it all the same.
func TestRenameAgainWhilePending(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.memory.set(func(m *memory) { m.held = true })
		const key = "Idempotency-Key: k"
		id := w.post(nameOfAlice+"/rename", toAlicia, key, "Prefer: respond-async").is(202, "").string("claim_id")
		w.memory.set(func(m *memory) {
			h := m.ledger.Holdings[refOf("alice")]
			h.Version++
			m.ledger.Holdings[refOf("alice")] = h
		})
		time.AfterFunc(time.Second, w.memory.release)
		w.post(nameOfAlice+"/rename", toAlicia, key).is(200, "").has("claim_id", id).heads("Idempotent-Replayed", "true")
		// What follows was asked for the version that was: the owner keeps both.
		w.get(nameOfAlice).is(200, "").has("owner", "u-17")
	})
}

// What is written says what the caller has not: the version.
func TestRenameFillsInTheVersion(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.post(nameOfAlice+"/release", byOwner).is(200, "")
		w.claim(alice).is(201, "").has("version", 3)
		w.post("/v1/names/username/ALICE/rename", toAlicia).is(200, "")
		for _, r := range w.memory.records() {
			if string(r.Key) == "username/alicia" && !strings.Contains(string(r.Value), `"replaces":{"name":"ALICE","version":3}`) {
				t.Errorf("%s", r.Value)
			}
		}
	})
}
