package api_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
)

func TestHistory(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const path = nameOfAlice + "/history"
		w.get(path).is(200, "").has("space", "username", "key", "alice", "next", nil).entries()
		id := w.claim(reserveAlice).is(201, "").string("claim_id")
		w.claim(`{"name":"ALICE","owner":"u-18"}`).is(409, "taken") // changes nothing
		w.post("/v1/claims/"+id+"/confirm", byOwner).is(200, "")
		w.post(nameOfAlice+"/transfer", `{"owner":"u-17","new_owner":"u-18"}`).is(200, "")
		block := w.post(adminAlice+"/block", byAda).is(200, "").string("request_id")
		w.post(adminAlice+"/unblock", byAda).is(200, "")
		all := []string{
			"1 Accepted u-17", "2 Confirmed u-17", "3 Transferred u-18",
			"4 Released u-18", "5 Blocked - by ada: ticket 4711", "6 Unblocked - by ada: ticket 4711",
		}
		a := w.get("/v1/names/username/ALICE/history").is(200, "").has("key", "alice", "next", nil).entries(all...)
		first, fifth := a.entry(0), a.entry(4)
		if first["request_id"] != id || first["at"] != "2026-11-21T10:00:00.123Z" || first["log_epoch"] != 3.0 || first["offset"] != 0.0 {
			t.Errorf("the first is %v", first)
		}
		if first["name"] != "Alice" || a.entry(2)["name"] != "Alice" || fifth["name"] != nil {
			t.Errorf("they are of %v, %v and %v", first["name"], a.entry(2)["name"], fifth["name"])
		}
		if fifth["request_id"] != block || a.entry(3)["request_id"] != block {
			t.Errorf("the block is %v", fifth)
		}
		for size := 1; size < 8; size++ {
			var got []string
			for next := any(0.0); next != nil && len(got) <= len(all); {
				a := w.get(fmt.Sprintf("%s?limit=%d&from=%v", path, size, next)).is(200, "")
				page := a.told()
				if len(page) > size {
					t.Fatalf("%d entries with limit=%d", len(page), size)
				}
				got, next = append(got, page...), a.body["next"]
			}
			if strings.Join(got, "\n") != strings.Join(all, "\n") {
				t.Errorf("in pages of %d: %q", size, got)
			}
		}
		w.get(path+"?from=5").is(200, "").entries(all[4:]...)
		w.get(path+"?from=7").is(200, "").has("next", nil).entries()
		w.get(path+"?from=9223372036854775807&limit=1000").is(200, "").entries()

		for query, field := range map[string]string{
			"limit=0": "limit", "limit=-1": "limit", "limit=1001": "limit", "limit=x": "limit", "limit=99999999999": "limit", "limit=1&limit=2": "limit",
			"from=-1": "from", "from=x": "from", "from=1.5": "from", "from=9223372036854775808": "from", "from=": "from", "limit=": "limit", "limit=%zz": "limit",
		} {
			w.get(path+"?"+query).is(400, "bad_request").names(field)
		}
		w.get("/v1/names/pets/alice/history").is(404, "unknown_space")
		w.get("/v1/names/username/Zo%C3%AB/history").is(422, "invalid_name")
		w.memory.set(func(m *memory) { m.away = errAway })
		w.get(path).is(503, "unavailable")
	})
}

// entry is one of a history.
func (a *answer) entry(i int) map[string]any {
	a.t.Helper()
	list, _ := a.body["entries"].([]any)
	if i >= len(list) {
		a.t.Fatalf("there are %d entries\n%s", len(list), a.text)
	}
	return list[i].(map[string]any)
}

// told says what is in a history, an entry a line.
func (a *answer) told() (lines []string) {
	list, _ := a.body["entries"].([]any)
	for i := range list {
		e := a.entry(i)
		owner := e["owner"]
		if owner == nil {
			owner = "-"
		}
		line := fmt.Sprintf("%v %v %v", e["version"], e["outcome"], owner)
		if e["actor"] != nil {
			line += fmt.Sprintf(" by %v: %v", e["actor"], e["reason"])
		}
		lines = append(lines, line)
	}
	return lines
}

func (a *answer) entries(want ...string) *answer {
	a.t.Helper()
	if got := a.told(); a.body["entries"] == nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		a.t.Errorf("the entries are %q, want %q\n%s", got, want, a.text)
	}
	return a
}

func TestOwnerNames(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const path = "/v1/owners/u-17/names"
		if a := w.get(path).is(200, "").has("owner", "u-17", "next", nil); !strings.Contains(a.text, `"names":[]`) {
			t.Errorf("nothing is %s", a.text)
		}
		w.claim(alice).is(201, "")
		w.claim(`{"space":"handle","name":"Zoe","owner":"u-17"}`).is(201, "")
		w.claim(`{"name":"carol","owner":"u-17","mode":"reserve","ttl_seconds":60}`).is(201, "")
		w.claim(`{"name":"bob","owner":"u-17"}`).is(201, "")
		w.claim(`{"name":"dave","owner":"u-18"}`).is(201, "")
		w.claim(`{"name":"eve","owner":"u-17"}`).is(201, "")
		w.post("/v1/names/username/eve/deactivate", byOwner).is(200, "")
		w.claim(`{"name":"fred","owner":"u-17"}`).is(201, "")
		w.post("/v1/names/username/fred/release", byOwner).is(200, "")
		all := "handle/zoe registered, username/alice registered, username/bob registered, username/carol reserved, username/eve inactive"
		a := w.get(path).is(200, "").has("next", nil)
		if got := a.held(); got != all {
			t.Errorf("it holds %s", got)
		}
		first := a.body["names"].([]any)[0].(map[string]any)
		if first["name"] != "Zoe" || first["owner"] != "u-17" || first["available"] != false || first["reason"] != "taken" || first["version"] != 1.0 || first["claim_id"] == nil {
			t.Errorf("the first is %v", first)
		}
		for size := 1; size < 7; size++ {
			var got []string
			for next := ""; len(got) < 20; {
				a := w.get(fmt.Sprintf("%s?limit=%d%s", path, size, next)).is(200, "")
				got = append(got, a.held())
				if a.body["next"] == nil {
					break
				}
				next = "&after=" + a.string("next")
			}
			if strings.Join(got, ", ") != all {
				t.Errorf("in pages of %d: %q", size, got)
			}
		}
		// What is over is nobody's, also where that is not recorded yet.
		time.Sleep(time.Minute)
		if got := w.get(path).is(200, "").held(); strings.Contains(got, "carol") || !strings.Contains(got, "bob") {
			t.Errorf("it holds %s", got)
		}
		w.get("/v1/owners/%20/names").is(200, "")
		// Of one space.
		for space, want := range map[string]string{"handle": "handle/zoe registered", "staff": "", "username": "username/alice registered, username/bob registered, username/eve inactive"} {
			if a := w.get(path+"?space="+space).is(200, "").has("next", nil); a.held() != want {
				t.Errorf("in %s it holds %s", space, a.held())
			}
		}
		w.get(path+"?space=handle&limit=1").is(200, "").has("next", nil)
		w.get(path+"?space=pets").is(422, "unknown_space").names("space")
		w.get(path+"?space=").is(422, "unknown_space").names("space")
		w.get(path+"?space=handle&space=staff").is(400, "bad_request").names("space")
		for query, field := range map[string]string{
			"limit=0": "limit", "limit=1001": "limit", "after=": "after", "after=x": "after", "after=!": "after", "after=YWxpY2U": "after", // alice
			"after=dXNlcm5hbWUvAA": "after", "after=dXNlcm5hbWUvYWxpY2V": "after", "after=" + strings.Repeat("dXNl", 300): "after",
		} {
			w.get(path+"?"+query).is(400, "bad_request").names(field)
		}
		w.get("/v1/owners/Zo%C3%AB/names").is(422, "invalid_request").names("owner")
		w.get("/v1/owners/"+strings.Repeat("x", 256)+"/names").is(422, "invalid_request").names("owner")
		w.get("/v1/owners//names").is(404, "not_found")
		w.memory.set(func(m *memory) { m.away = errAway })
		w.get(path).is(503, "unavailable")
	})
}

// held says what is on a page of an owner's names.
func (a *answer) held() string {
	a.t.Helper()
	var got []string
	list, _ := a.body["names"].([]any)
	for _, n := range list {
		n := n.(map[string]any)
		got = append(got, fmt.Sprintf("%v/%v %v", n["space"], n["key"], n["state"]))
	}
	return strings.Join(got, ", ")
}

// A key is told what it covers, of a history and of what an owner holds.
func TestReadingByKey(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "ops", Principal: "ops", Scopes: []string{"admin", "claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"read"}, Spaces: []string{"username"}, Owners: []string{"u-1"}},
		auth.KeySpec{ID: "writer", Principal: "writer", Scopes: []string{"claim"}, Spaces: all, Owners: all},
	)
	ops, half, writer := headers[0], headers[1], headers[2]
	inTimeReal(t, func(t *testing.T, w *world) {
		w.claim(`{"name":"alice","owner":"u-17"}`, ops).is(201, "")
		w.post(nameOfAlice+"/transfer", `{"owner":"u-17","new_owner":"v-18"}`, ops).is(200, "")
		w.post(adminAlice+"/release", byAda, ops).is(200, "")
		w.claim(`{"name":"alice","owner":"u-19"}`, ops).is(201, "")
		w.claim(`{"space":"handle","name":"al","owner":"u-19"}`, ops).is(422, "invalid_name")
		w.claim(`{"space":"handle","name":"alma","owner":"u-19"}`, ops).is(201, "")
		const path = nameOfAlice + "/history"
		a := w.get(path, half).is(200, "").entries("1 Accepted u-17", "2 Transferred -", "3 Released -", "4 Accepted u-19")
		if strings.Contains(a.text, "ada") || strings.Contains(a.text, "v-18") || strings.Contains(a.text, "4711") || a.entry(1)["request_id"] != nil || a.entry(0)["request_id"] == nil ||
			a.entry(1)["name"] != nil || a.entry(0)["name"] == nil {
			t.Errorf("it tells %s", a.text)
		}
		w.get(path, ops).is(200, "").entries("1 Accepted u-17", "2 Transferred v-18", "3 Released v-18 by ada: ticket 4711", "4 Accepted u-19")
		w.get("/v1/names/handle/alma/history", half).is(403, "not_allowed").names("space")
		if got := w.get("/v1/owners/u-19/names", half).is(200, "").held(); got != "username/alice registered" {
			t.Errorf("it holds %s", got)
		}
		w.get("/v1/owners/v-18/names", half).is(403, "not_allowed").names("owner")
		for _, path := range []string{path, "/v1/owners/u-19/names"} {
			w.get(path).is(401, "unauthenticated")
			w.get(path, writer).is(403, "not_allowed")
		}
		// Nor does the place of a page tell of another space: there is none where nothing follows that the key covers.
		w.claim(`{"name":"bob","owner":"u-19"}`, ops).is(201, "")
		w.claim(`{"space":"staff","name":"also","owner":"u-19"}`, ops).is(201, "")
		const owned = "/v1/owners/u-19/names?limit=1"
		a = w.get(owned, half).is(200, "")
		if place, err := base64.RawURLEncoding.DecodeString(a.string("next")); err != nil || a.held() != "username/alice registered" || string(place) != "username/alice" {
			t.Errorf("the first page is %s, its end %q, %v", a.text, place, err)
		}
		if a = w.get(owned+"&after="+a.string("next"), half).is(200, "").has("next", nil); a.held() != "username/bob registered" {
			t.Errorf("the second page is %s", a.text)
		}
		w.get(owned+"&space=handle", half).is(403, "not_allowed").names("space")
		w.get(owned+"&space=pets", half).is(403, "not_allowed").names("space")
		if a = w.get(owned+"&space=username&after=aGFuZGxlL2FsbWE", half).is(200, ""); a.held() != "username/alice registered" { // handle/alma
			t.Errorf("behind another space's there is %s", a.text)
		}
	}, keys)
}
