package api_test

import "testing"

// What would be passed over is refused before anything is published, and the answer says what it is.
func TestNothingIsPassedOver(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		path, _ := w.reserved()
		w.post(path+"/confirm", byOwner, `If-Match: "1"`).is(400, "bad_request").names("If-Match")
		w.post(path+"/extend", `{"owner":"u-17","ttl_seconds":60}`, "If-Match: *").is(400, "bad_request").names("If-Match")
		w.post(path+"/withdraw", byOwner, `If-Match: "7"`).is(400, "bad_request").names("If-Match")
		w.post(nameOfAlice+"/release", byOwner, "If-None-Match: *").is(400, "bad_request").names("If-None-Match")
		w.post(nameOfAlice+"/rename", toAlicia, "If-None-Match: garbage").is(400, "bad_request").names("If-None-Match")
		w.post(adminAlice+"/release", byAda, "If-None-Match: *").is(400, "bad_request").names("If-None-Match")
		w.post("/v1/claims?wait=5", alice).is(400, "bad_request").names("wait")
		w.post(nameOfAlice+"/release?force=1", byOwner).is(400, "bad_request").names("force")
		w.published(1)
		for _, at := range []string{path, nameOfAlice, nameOfAlice + "/history", "/v1/owners/u-17/names", streamPath} {
			w.get(at+"?foo=bar").is(400, "bad_request").names("foo")
			w.get(at+"?form=2").is(400, "bad_request").names("form")
			w.get(at+"?last-event-id=x").is(400, "bad_request").names("last-event-id")
		}
		w.get(nameOfAlice, `If-None-Match: "1"`).is(200, "") // as a cache asks
		w.get(nameOfAlice+"/history?lmit=1").is(400, "bad_request").names("lmit")
		w.get(nameOfAlice+"/history?limit=1&from=1").is(200, "")
	})
}
