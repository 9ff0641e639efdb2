package api_test

import "testing"

func TestGetName(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.get("/v1/names/username/Alice").is(200, "").heads("ETag", `"0"`, "Cache-Control", "no-store").
			has("space", "username", "name", "Alice", "key", "alice", "available", true, "state", "free", "version", 0,
				"reason", nil, "owner", nil, "claim_id", nil)
		id := w.claim(alice).is(201, "").body["claim_id"]
		w.get("/v1/names/username/aLICE").is(200, "").heads("ETag", `"1"`).
			has("name", "Alice", "key", "alice", "available", false, "reason", "taken", "state", "registered", "version", 1,
				"owner", "u-17", "claim_id", id)
		w.get("/v1/names/username/Root").is(200, "").heads("ETag", `"0"`).
			has("name", "Root", "key", "root", "available", false, "reason", "reserved_word", "state", "free")
		w.get("/v1/names/username/al%69ce").is(200, "").has("key", "alice")
		w.ask("HEAD", "/v1/names/username/alice", "", "X: y").heads("ETag", `"1"`)
	})
}
