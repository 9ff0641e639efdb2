package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSignupTellsTheOutcome: what it asks, what it says, and its exit code.
func TestSignupTellsTheOutcome(t *testing.T) {
	api := new(fakeAPI)
	server := httptest.NewServer(api)
	defer server.Close()
	args := []string{"signup", "Alice", "invoice-number/in-1", "--owner=u-17", "--ttl=30s", "--idempotency-key=k", "--url=" + server.URL}
	api.status, api.answer = http.StatusCreated, `{"signup_id":"`+claimID+`","state":"accepted","owner":"u-17","partition":1,"log_epoch":1,"offset":1,"names":[`+
		`{"space":"username","name":"Alice","key":"alice","claim_id":"`+claimID+`","state":"registered"},`+
		`{"space":"invoice-number","name":"in-1","key":"in-1","claim_id":"`+claimID+`","state":"registered"}]}`
	code, stdout, stderr := dibs(t, args...)
	if want := "accepted: u-17 has username/alice, invoice-number/in-1 (sign-up " + claimID + ")\n"; code != exitOK || stdout != want || stderr != "" {
		t.Errorf("exit %d, %q, %q; want %q", code, stdout, stderr, want)
	}
	const body = `{"names":[{"name":"Alice"},{"name":"in-1","space":"invoice-number"}],"owner":"u-17","ttl_seconds":30}`
	if api.path != "/v1/signups" || api.body != body || api.key != "k" {
		t.Errorf("asked %s %s with key %q", api.path, api.body, api.key)
	}
	code, stdout, _ = dibs(t, append(args, "-o", "json")...)
	var r struct {
		ID    string `json:"signup_id"`
		Names []struct{ Key string }
	}
	if err := json.Unmarshal([]byte(stdout), &r); code != exitOK || err != nil || r.ID != claimID || len(r.Names) != 2 {
		t.Errorf("exit %d, %q, %v", code, stdout, err)
	}

	api.status, api.answer = http.StatusConflict, refusal(http.StatusConflict, "taken", `,"claim_id":"`+claimID+`"`)
	if code, stdout, _ := dibs(t, args...); code != exitRejected || !strings.Contains(stdout, "rejected: taken: the detail (sign-up "+claimID+")") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	api.status, api.answer = http.StatusUnprocessableEntity, refusal(http.StatusUnprocessableEntity, "reserved_word", `,"errors":[{"field":"names[1].name","detail":"is reserved"}]`)
	if code, stdout, stderr := dibs(t, args...); code != exitRejected || stdout != "rejected: reserved_word: names[1].name is reserved (nothing was published)\n" || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	api.answer = refusal(http.StatusUnprocessableEntity, "invalid_request", "") // another name would not help
	if code, _, _ := dibs(t, args...); code != exitFailure {
		t.Errorf("exit %d", code)
	}
	for _, wrong := range [][]string{{"signup", "--owner=u"}, {"signup", "alice"}, {"signup", "alice", "--owner=u", "--ttl=1ms"}} {
		if code, _, _ := dibs(t, wrong...); code != exitUsage {
			t.Errorf("%v: exit %d", wrong, code)
		}
	}
}
