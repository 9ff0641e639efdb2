package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// What a rename leads to shows on the claim, on its repetition and on the confirmation.
func TestFollowUp(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "").has("follow_up", nil)
		const key = "Idempotency-Key: k"
		a := w.post(nameOfAlice+"/rename", toAlicia, key).is(200, "").follows("pending", "alice", 1)
		release := a.body["follow_up"].(map[string]any)["request_id"].(string)
		w.get("/v1/claims/"+release).is(200, "").has("type", "ReleaseRequested", "state", "accepted", "version", 2)
		w.get(a.header.Get("Location")).is(200, "").follows("released", "alice", 1)
		w.post(nameOfAlice+"/rename", toAlicia, key).is(200, "").heads("Idempotent-Replayed", "true").follows("released", "alice", 1)
		w.claim(`{"name":"ALICIA","owner":"u-17","replaces":{"name":"alicia"}}`).is(201, "").has("follow_up", nil) // spelt anew
		w.claim(`{"name":"alicia","owner":"u-17","replaces":{"name":"alicia"}}`).is(201, "").has("follow_up", nil)

		// By reservation: it follows the confirmation.
		id := w.claim(`{"name":"Alma","owner":"u-17","mode":"reserve","ttl_seconds":60,"replaces":{"name":"alicia"}}`).is(201, "").has("follow_up", nil).string("claim_id")
		w.get("/v1/claims/"+id).is(200, "").has("follow_up", nil)
		w.post("/v1/claims/"+id+"/extend", `{"owner":"u-17","ttl_seconds":600}`).is(200, "").has("follow_up", nil)
		confirm := w.post("/v1/claims/"+id+"/confirm", byOwner).is(200, "").follows("released", "alicia", 3)
		w.post("/v1/claims/"+id+"/confirm", byOwner).is(200, "").follows("released", "alicia", 3)
		w.get("/v1/claims/"+id).is(200, "").has("type", "UsernameClaimed", "state", "accepted").follows("released", "alicia", 3)
		w.get(confirm.header.Get("Location")).is(200, "").has("type", "ConfirmRequested").follows("released", "alicia", 3)

		// Where nothing was replaced nothing follows; and a confirmation stays what it was when the claim is withdrawn.
		id = w.claim(`{"name":"Anna","owner":"u-17","mode":"reserve","ttl_seconds":60}`).is(201, "").string("claim_id")
		confirm = w.post("/v1/claims/"+id+"/confirm", byOwner).is(200, "").has("follow_up", nil)
		w.post("/v1/claims/"+id+"/withdraw", byOwner).is(200, "")
		w.get(confirm.header.Get("Location")).is(200, "").has("state", "accepted")
		w.get("/v1/claims/"+id).is(200, "").has("state", "withdrawn")
	})
}

// Who waits for a rename that is pending hears of what follows as well.
func TestFollowUpOfAPending(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.memory.set(func(m *memory) { m.held = true })
		at := w.post(nameOfAlice+"/rename", toAlicia, "Prefer: respond-async").is(202, "").header.Get("Location")
		time.AfterFunc(time.Second, w.memory.release)
		a := w.get(at, "Prefer: wait=9").is(200, "").has("state", "accepted")
		if f, _ := a.body["follow_up"].(map[string]any); a.took != time.Second || f["key"] != "alice" {
			t.Errorf("after %s: %s", a.took, a.text)
		}
	})
}

// Of two renames at once only one gives the name up. The other's release is rejected: that shows, and its owner has both.
func TestFollowUpRejected(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.memory.set(func(m *memory) { m.held = true })
		first := w.post(nameOfAlice+"/rename", toAlicia, "Prefer: respond-async").is(202, "").has("follow_up", nil).header.Get("Location")
		second := w.post(nameOfAlice+"/rename", `{"owner":"u-17","to":"Alma"}`, "Prefer: respond-async").is(202, "").header.Get("Location")
		w.memory.release()
		states := make(map[any]map[string]any)
		for _, at := range []string{first, second} {
			f := w.get(at).is(200, "").has("state", "accepted").body["follow_up"].(map[string]any)
			states[f["state"]] = f
		}
		f := states["rejected"]
		if states["released"] == nil || f == nil || f["reason"] != "not_owner" || f["detail"] != "the name is not held by this owner" {
			t.Errorf("what follows is %v", states)
		}
		w.get("/v1/names/username/alicia").is(200, "").has("owner", "u-17")
		w.get("/v1/names/username/alma").is(200, "").has("owner", "u-17")
	})
}

func (a *answer) follows(state, key string, version int) *answer {
	a.t.Helper()
	f, _ := a.body["follow_up"].(map[string]any)
	if f["state"] != state || f["key"] != key || f["space"] != "username" || f["version"] != float64(version) || f["reason"] != nil {
		a.t.Errorf("what follows is %v, want %s of %s at version %d", f, state, key, version)
	}
	return a
}

// A claim that was accepted and withdrawn reads withdrawn, however it was withdrawn, and stays so.
func TestWithdrawnShows(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		for key, claim := range map[string]string{"Idempotency-Key: register": alice, "Idempotency-Key: reserve": reserveAlice} {
			a := w.claim(claim, key).is(201, "")
			id, path := a.string("claim_id"), a.header.Get("Location")
			w.post(path+"/withdraw", byOwner).is(200, "")
			gone := w.get(path).is(200, "").has("state", "withdrawn", "type", "UsernameClaimed", "claim_id", id, "expires_at", nil)
			w.claim(claim, key).is(409, "withdrawn").has("claim_id", id).heads("Idempotent-Replayed", "true")
			w.claim(`{"name":"Alice","owner":"u-18"}`).is(201, "")
			w.post(nameOfAlice+"/release", bySomebody).is(200, "")
			if again := w.get(path).is(200, ""); again.text != gone.text {
				t.Errorf("then it reads\n%s, before\n%s", again.text, gone.text)
			}
		}
		// Released, expired and handed over is not withdrawn.
		id := w.claim(alice).is(201, "").string("claim_id")
		w.post(nameOfAlice+"/release", byOwner).is(200, "")
		next := w.claim(alice).is(201, "").string("claim_id")
		w.post("/v1/claims/"+next+"/withdraw", byOwner).is(200, "")
		w.get("/v1/claims/"+id).is(200, "").has("state", "accepted")
		w.get("/v1/claims/"+next).is(200, "").has("state", "withdrawn")

		// One that was answered with what stands is not undone with that.
		id = w.claim(alice).is(201, "").string("claim_id")
		same := `{"name":"Alice","owner":"u-17","on_conflict":"return_existing","claim_id":"` + uuid.NewString() + `"}`
		w.claim(same).is(201, "").has("claim_id", id)
		w.post("/v1/claims/"+id+"/withdraw", byOwner).is(200, "")
		w.claim(same).is(201, "").has("claim_id", id).heads("Idempotent-Replayed", "true")
		w.get("/v1/claims/"+id).is(200, "").has("state", "withdrawn")
	})
}

// A reservation must be able to hold for longer than clocks may be off.
func TestShortestTTL(t *testing.T) {
	for _, test := range []struct {
		bound        time.Duration
		short, right int
	}{{0, 19, 20}, {time.Second, 1, 2}, {1200 * time.Millisecond, 2, 3}} {
		inTime(t, func(t *testing.T, w *world) {
			body := `{"name":"Alice","owner":"u-17","mode":"reserve","ttl_seconds":%d}`
			a := w.claim(fmt.Sprintf(body, test.short)).is(422, "invalid_request").names("ttl_seconds")
			if !strings.Contains(a.text, fmt.Sprintf("must be at least %d", test.right)) {
				t.Errorf("it says %s", a.text)
			}
			w.claim(fmt.Sprintf(body, test.right)).is(201, "")
		}, func(s *setup) { s.claimer.ClockBound = test.bound })
	}
}
