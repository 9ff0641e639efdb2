package api_test

import "testing"

// A name that nobody can claim is not available, whatever was.
func TestNameThatNobodyCanClaim(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.hold(0, partitions, tagged(1, nil))
		w.claim(`{"space":"tag","name":"ab","owner":"u-17"}`).is(201, "")
		w.claim(`{"space":"tag","name":"cd","owner":"u-17"}`).is(201, "")
		w.post("/v1/names/tag/ab/release", byOwner).is(200, "")
		w.get("/v1/names/tag/ab").is(200, "").has("state", "free", "available", true, "reason", nil)
		w.hold(0, partitions, tagged(2, longer))
		w.get("/v1/names/tag/ab").is(200, "").has("state", "free", "available", false, "reason", "invalid_name", "version", 2)
		w.claim(`{"space":"tag","name":"ab","owner":"u-17"}`).is(422, "invalid_name")
		w.get("/v1/names/tag/cd").is(200, "").has("state", "registered", "available", false, "reason", "invalid_name", "owner", "u-17")
		w.get("/v1/names/tag/ef").is(422, "invalid_name")
		w.get("/v1/names/tag/abcde").is(200, "").has("available", true, "reason", nil)
	})
}
