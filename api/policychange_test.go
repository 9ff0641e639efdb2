package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// tagged is a version of the space tag: names of one character on, but for what is changed.
func tagged(version int, change func(p *names.Policy)) names.Policies {
	all := activated("tag", version, 1)
	if change != nil {
		change(all["tag"])
	}
	return all
}

func longer(p *names.Policy) { p.MinLength = 5 }

// What was accepted is answered with its outcome under any policy: whoever repeats it has not heard of that.
func TestRepeatedAfterAPolicyChange(t *testing.T) {
	const key = "Idempotency-Key: pk1"
	for name, test := range map[string]struct {
		claim, other string
		change       func(p *names.Policy)
		refused      string
	}{
		"too short":     {`{"space":"tag","name":"ab","owner":"u-17"}`, `{"space":"tag","name":"ab","owner":"u-18"}`, longer, "invalid_name"},
		"reserved":      {`{"space":"tag","name":"shop","owner":"u-17"}`, `{"space":"tag","name":"shop","owner":"u-18"}`, func(p *names.Policy) { p.Reserved = map[names.Key]struct{}{"shop": {}} }, "reserved_word"},
		"ttl too long":  {`{"space":"tag","name":"shop","owner":"u-17","mode":"reserve","ttl_seconds":3600}`, `{"space":"tag","name":"shop","owner":"u-17","mode":"reserve","ttl_seconds":3601}`, func(p *names.Policy) { p.LongestTTL = time.Hour / 2 }, "invalid_request"},
		"ttl too short": {`{"space":"tag","name":"shop","owner":"u-17","mode":"reserve","ttl_seconds":60}`, `{"space":"tag","name":"shop","owner":"u-17","mode":"reserve","ttl_seconds":61}`, func(p *names.Policy) { p.ShortestTTL = time.Hour / 2 }, "invalid_request"},
		"all of it":     {`{"space":"tag","name":"ab","owner":"u-17","mode":"reserve","ttl_seconds":60}`, `{"space":"tag","name":"ab","owner":"u-17","mode":"reserve","ttl_seconds":61}`, func(p *names.Policy) { p.ShortestTTL, p.MinLength = time.Hour/2, 5 }, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				w.hold(0, partitions, tagged(1, nil))
				id := w.claim(test.claim, key).is(201, "").heads("Idempotent-Replayed", "").string("claim_id")
				chosen := uuid.NewString()
				withID := test.claim[:len(test.claim)-1] + `,"claim_id":"` + chosen + `"}`
				first := w.claim(withID)
				w.hold(0, partitions, tagged(2, test.change))
				before := len(w.memory.records())

				w.claim(test.claim, key).is(201, "").has("claim_id", id, "version", 1).heads("Idempotent-Replayed", "true")
				if again := w.claim(withID).heads("Idempotent-Replayed", "true"); again.status != first.status || again.body["reason"] != first.body["reason"] {
					t.Errorf("by its id: %d\n%s, before %d\n%s", again.status, again.text, first.status, first.text)
				}
				w.claim(test.other, key).is(422, "idempotency_mismatch").has("claim_id", id)
				w.claim(test.claim, "Idempotency-Key: pk2").is(422, test.refused)
				w.claim(test.claim).is(422, test.refused)
				w.published(before)
				w.memory.set(func(m *memory) { m.away = errAway })
				w.claim(test.claim, key).is(503, "unavailable") // it cannot be known
				w.claim(test.claim).is(422, test.refused)
			})
		})
	}
}

// The same for a rename, whose version was filled in.
func TestRenameRepeatedAfterAPolicyChange(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const key, to = "Idempotency-Key: k", `{"owner":"u-17","to":"cd"}`
		w.hold(0, partitions, tagged(1, nil))
		w.claim(`{"space":"tag","name":"ab","owner":"u-17"}`).is(201, "")
		id := w.post("/v1/names/tag/ab/rename", to, key).is(200, "").string("claim_id")
		w.hold(0, partitions, tagged(2, longer))
		w.post("/v1/names/tag/AB/rename", to, key).is(200, "").has("claim_id", id).heads("Idempotent-Replayed", "true").header.Get("ETag")
		w.post("/v1/names/tag/ab/rename", `{"owner":"u-18","to":"cd"}`, key).is(422, "idempotency_mismatch")
		w.post("/v1/names/tag/ab/rename", to).is(422, "invalid_name").names("to")
		w.post("/v1/names/tag/xy/rename", to, "Idempotency-Key: other").is(422, "invalid_request").names("to", "name")
	})
}

// The same for what an earlier dibs took and this one refuses.
func TestRenameOrWhatExistsRepeated(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		id := uuid.New()
		w.memory.set(func(m *memory) { // by the rules of then: the log has activated no others
			s := m.ledger.Sign(&claims.UsernameClaimed{
				Space: names.Username, Spelling: "Alice", Owner: "u-17", Mode: claims.ModeRegister,
				Replaces: &claims.Replaces{Name: "bobby", Version: 1}, OnConflict: claims.OnConflictReturn,
			}, id, "anonymous")
			m.logs[s.Partition] = append(m.logs[s.Partition], s.Record)
		})
		w.memory.decide()
		before := len(w.memory.records())
		const both = `{"name":"Alice","owner":"u-17","on_conflict":"return_existing","replaces":{"name":"bobby","version":1}`
		w.claim(both+`,"claim_id":"`+id.String()+`"}`).is(201, "").heads("Idempotent-Replayed", "true").has("claim_id", id.String())
		a := w.claim(both+"}").is(422, "invalid_request").names("on_conflict")
		if !strings.Contains(a.text, `"detail":"does not go with replaces"`) {
			t.Errorf("it is told %s", a.text)
		}
		w.published(before)
	})
}

// And for what is asked about a claim or a name.
func TestOrderRepeatedAfterAPolicyChange(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const key, hour = "Idempotency-Key: k", `{"owner":"u-17","ttl_seconds":3600}`
		w.hold(0, partitions, tagged(1, nil))
		path := "/v1/claims/" + w.claim(`{"space":"tag","name":"ab","owner":"u-17","mode":"reserve","ttl_seconds":60}`).is(201, "").string("claim_id")
		request := w.post(path+"/extend", hour, key).is(200, "").string("request_id")
		rejected := w.post("/v1/names/tag/cd/release", byOwner, key).is(403, "not_owner").string("request_id")
		w.hold(0, partitions, tagged(2, func(p *names.Policy) { p.LongestTTL, p.MinLength = time.Hour/2, 5 }))
		before := len(w.memory.records())

		w.post(path+"/extend", hour, key).is(200, "").has("request_id", request).heads("Idempotent-Replayed", "true")
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":3601}`, key).is(422, "idempotency_mismatch").has("request_id", request)
		w.post(path+"/extend", hour, "Idempotency-Key: other").is(422, "invalid_request").names("ttl_seconds")
		w.post(path+"/extend", hour).is(422, "invalid_request").names("ttl_seconds")
		w.post("/v1/names/tag/cd/release", byOwner, key).is(403, "not_owner").has("request_id", rejected).heads("Idempotent-Replayed", "true")
		w.post("/v1/names/tag/cd/release", byOwner).is(422, "invalid_name")
		w.published(before)
	})
}

// What is once held is checked like any other name.
func TestOnceHeldIsChecked(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.hold(0, partitions, tagged(1, nil))
		w.claim(`{"space":"tag","name":"ab","owner":"u-17"}`).is(201, "")
		w.post("/v1/names/tag/ab/transfer", `{"owner":"u-17","new_owner":"u-17"}`).is(422, "invalid_request").names("new_owner")
		w.hold(0, partitions, tagged(2, longer))
		w.post("/v1/names/tag/ab/transfer", `{"owner":"u-17","new_owner":"u-17"}`).is(422, "invalid_request").names("new_owner")
		w.post("/v1/names/tag/ab/release", `{"owner":"ü"}`).is(422, "invalid_request").names("owner")
		w.published(1)
		w.post("/v1/names/tag/ab/transfer", `{"owner":"u-17","new_owner":"u-18"}`).is(200, "")
	})
}

// Who is not told what became of a claim can withdraw it, though nobody could claim that name now.
func TestWithdrawOfAnUndecidedAfterAPolicyChange(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.hold(0, partitions, tagged(1, nil))
		w.memory.set(func(m *memory) { m.held = true })
		const asked = `{"owner":"u-17","space":"tag","name":"ab"}`
		id := w.claim(asked, "Prefer: respond-async").is(202, "").string("claim_id")
		w.memory.set(func(m *memory) { // behind the claim, in the log
			for i := range m.rows {
				m.rows[i].Policies = tagged(2, longer)
			}
		})
		time.Sleep(2 * time.Second)
		path := "/v1/claims/" + id
		w.post(path+"/withdraw", `{"owner":"u-17","space":"tag","name":"a!"}`).is(422, "invalid_name").names("name")
		w.published(1)
		time.AfterFunc(time.Second, w.memory.release)
		w.post(path+"/withdraw", asked).is(200, "").has("state", "accepted", "claim_id", id)
		w.get(path).is(200, "").has("state", "withdrawn")
		w.hold(0, partitions, tagged(2, longer))
		w.post("/v1/claims/"+uuid.NewString()+"/withdraw", `{"owner":"u-17","space":"tag","name":"xy"}`).is(409, "invalid_name") // says the log
	})
}

// A key hears nothing of spaces that it is not for: neither what they allow nor what was asked there.
func TestSpacesOfAKeyComeFirst(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "all", Principal: "all", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "username", Principal: "username", Scopes: []string{"claim", "read"}, Spaces: []string{"username"}, Owners: all},
	)
	inTimeReal(t, func(t *testing.T, w *world) {
		withdraw := func(id, body string) *answer { return w.post("/v1/claims/"+id+"/withdraw", body, headers[1]) }
		withdraw(uuid.NewString(), `{"owner":"u-17","space":"handle","name":"a!"}`).is(403, "not_allowed").names("space")
		withdraw(uuid.NewString(), `{"owner":"u-17","space":"pets","name":"alice"}`).is(403, "not_allowed").names("space")
		withdraw(uuid.NewString(), `{"owner":"u-17","space":"handle","name":"alice"}`).is(403, "not_allowed").names("space")

		id := w.claim(`{"space":"handle","name":"Alice","owner":"u-17"}`, headers[0]).is(201, "").string("claim_id")
		withdraw(id, byOwner).is(403, "not_allowed").names("space")
		withdraw(id, `{"owner":"u-17","name":"alice"}`).is(200, "") // it is none of its space: nothing is told
		release := w.post("/v1/names/handle/alice/release", byOwner, headers[0]).is(200, "").string("request_id")
		withdraw(release, byOwner).is(403, "not_allowed").names("space") // not that it is no claim
		w.get("/v1/claims/"+release, headers[1]).is(403, "not_allowed").names("space")
	}, keys)
}

// Where the log has come to a policy that the API has not, the claim is rejected; and so it is when it is repeated.
func TestRejectedByALaterPolicy(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const key, claim = "Idempotency-Key: k", `{"space":"tag","name":"Ab","owner":"u-17"}`
		w.hold(0, partitions, tagged(1, nil))
		w.memory.set(func(m *memory) { m.ledger.Hold(tagged(2, longer)["tag"]) })
		id := w.claim(claim, key).is(409, "invalid_name").string("claim_id")
		w.claim(claim, key).is(409, "invalid_name").has("claim_id", id).heads("Idempotent-Replayed", "true")
		w.claim(`{"space":"tag","name":"Ab","owner":"u-18"}`, key).is(422, "idempotency_mismatch").has("claim_id", id)
		w.hold(0, partitions, tagged(2, longer))
		w.claim(claim, key).is(409, "invalid_name").has("claim_id", id).heads("Idempotent-Replayed", "true")
		w.claim(`{"space":"tag","name":"Ab","owner":"u-18"}`, key).is(422, "idempotency_mismatch").has("claim_id", id)
	})
}
