package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	claimID   = "0190a5a0-0000-7000-8000-000000000001"
	requestID = "0190a5a0-0000-7000-8000-000000000002"
)

// fakeAPI answers everything but look-ups with one answer, and remembers what it was asked.
type fakeAPI struct {
	status           int
	answer           string
	path, space      string
	body, key, match string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.path, f.space, f.body, f.key, f.match = r.URL.Path, r.URL.Query().Get("space"), string(body), r.Header.Get("Idempotency-Key"), r.Header.Get("If-Match")
	if r.URL.Path == "/v1/lookups" { // of no private space
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"space":"handle","key":"alice","record_key":"handle/alice","partition":0}`)
		return
	}
	w.Header().Set("Content-Type", map[bool]string{true: "application/problem+json", false: "application/json"}[f.status >= 400])
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "60") // asked once, then waited for: no try is cut off in the middle
	}
	w.WriteHeader(f.status)
	_, _ = io.WriteString(w, f.answer)
}

func accepted(kind, more string) string {
	return fmt.Sprintf(`{"claim_id":%q,"request_id":%q,"type":%q,"state":"accepted","space":"username","name":"Alice","key":"alice","owner":"u-17",`+
		`"version":2,"partition":0,"log_epoch":1,"offset":0%s}`, claimID, requestID, kind, more)
}

func refusal(status int, reason, more string) string {
	return fmt.Sprintf(`{"type":"/problems/%s","title":"x","status":%d,"reason":%q,"detail":"the detail"%s}`, reason, status, reason, more)
}

const byAda = `{"actor":"ada","reason":"ticket 4711"}`

const expiry = `,"expires_at":"2026-11-21T10:10:00.123Z"`

// TestOrdersTellTheOutcome: what each command asks, what it says, and its exit code.
func TestOrdersTellTheOutcome(t *testing.T) {
	api := new(fakeAPI)
	server := httptest.NewServer(api)
	defer server.Close()
	for _, test := range []struct {
		args             []string
		answer           string
		path, body, says string
	}{
		{[]string{"claim", "Alice", "--reserve", "--ttl=10m", "--replaces=Bob"}, accepted("UsernameClaimed", expiry), "/v1/claims",
			`{"mode":"reserve","name":"Alice","owner":"u-17","replaces":{"name":"Bob"},"space":"username","ttl_seconds":600}`,
			"accepted: u-17 has username/alice until 2026-11-21T10:10:00Z, version 2"},
		{[]string{"claim", "Alice", "--withdraw-on-timeout"}, strings.Replace(accepted("UsernameClaimed", ""), "accepted", "withdrawn", 1), "/v1/claims",
			`{"name":"Alice","on_timeout":"withdraw","owner":"u-17","space":"username"}`, "withdrawn: it was not decided in time"},
		{[]string{"confirm", claimID}, accepted("ConfirmRequested", ""), "/v1/claims/" + claimID + "/confirm", `{"owner":"u-17"}`,
			"accepted: u-17 has username/alice, version 2 (request " + requestID + ")"},
		{[]string{"extend", claimID, "--ttl=10m"}, accepted("ExtendRequested", expiry), "/v1/claims/" + claimID + "/extend", `{"owner":"u-17","ttl_seconds":600}`,
			"accepted: u-17 has username/alice until 2026-11-21T10:10:00Z, version 2"},
		{[]string{"withdraw", claimID}, accepted("WithdrawRequested", ""), "/v1/claims/" + claimID + "/withdraw", `{"owner":"u-17"}`,
			"accepted: claim " + claimID + " of username/alice is withdrawn, version 2"},
		{[]string{"withdraw", claimID, "--name=Alice"}, accepted("WithdrawRequested", ""), "/v1/claims/" + claimID + "/withdraw",
			`{"name":"Alice","owner":"u-17","space":"username"}`, "is withdrawn"},
		{[]string{"release", "Alice"}, accepted("ReleaseRequested", ""), "/v1/names/username/Alice/release", `{"owner":"u-17"}`, "accepted: u-17 has released username/alice, version 2"},
		{[]string{"release", "Alice", "--space=handle"}, accepted("ReleaseRequested", expiry), "/v1/names/handle/Alice/release", `{"owner":"u-17"}`, "cools down until 2026"},
		{[]string{"rename", "Bob", "Alice"}, accepted("UsernameClaimed", ""), "/v1/names/username/Bob/rename", `{"owner":"u-17","to":"Alice"}`,
			"accepted: u-17 has username/alice in place of Bob, version 2"},
		{[]string{"transfer", "Alice", "u-18"}, strings.Replace(accepted("TransferRequested", ""), "u-17", "u-18", 1), "/v1/names/username/Alice/transfer",
			`{"new_owner":"u-18","owner":"u-17"}`, "accepted: u-18 has username/alice, which was u-17's, version 2"},
		{[]string{"deactivate", "Alice"}, accepted("DeactivateRequested", ""), "/v1/names/username/Alice/deactivate", `{"owner":"u-17"}`,
			"accepted: u-17 is not active any more as username/alice, version 2"},
		{[]string{"reactivate", "Alice"}, accepted("ReactivateRequested", ""), "/v1/names/username/Alice/reactivate", `{"owner":"u-17"}`,
			"accepted: u-17 has username/alice, version 2"},
		{[]string{"admin", "release", "Alice"}, accepted("ReleaseRequested", expiry), "/v1/admin/names/username/Alice/release", byAda,
			"accepted: username/alice is released, which was u-17's, and cools down until 2026-11-21T10:10:00Z, version 2"},
		{[]string{"admin", "transfer", "Alice", "u-18", "--space=handle"}, accepted("TransferRequested", ""), "/v1/admin/names/handle/Alice/transfer",
			`{"actor":"ada","new_owner":"u-18","reason":"ticket 4711"}`, "accepted: u-17 has username/alice, version 2"},
		{[]string{"admin", "block", "Alice"}, accepted("BlockRequested", ""), "/v1/admin/names/username/Alice/block", byAda, "accepted: username/alice is blocked, version 2 (request " + requestID + ")"},
		{[]string{"admin", "unblock", "Alice"}, accepted("UnblockRequested", ""), "/v1/admin/names/username/Alice/unblock", byAda, "accepted: username/alice is unblocked, version 2"},
	} {
		args := append(test.args, "--url="+server.URL, "--idempotency-key=k")
		if test.args[0] == "admin" {
			args = append(args, "--actor=ada", "--reason=ticket 4711")
		} else {
			args = append(args, "--owner=u-17")
		}
		api.status, api.answer = http.StatusOK, test.answer
		want := exitOK
		if strings.HasPrefix(test.says, "withdrawn") {
			want = exitRejected
		}
		code, stdout, stderr := dibs(t, args...)
		if code != want || !strings.Contains(stdout, test.says) || stderr != "" {
			t.Errorf("%v: exit %d, %q, %q; want %q", test.args, code, stdout, stderr, test.says)
		}
		if api.path != test.path || api.body != test.body || api.key != "k" || api.match != "" {
			t.Errorf("%v: asked %s %s with key %q and If-Match %q", test.args, api.path, api.body, api.key, api.match)
		}
		code, stdout, _ = dibs(t, append(args, "-o", "json")...)
		var result struct {
			ClaimID string `json:"claim_id"`
			State   string
		}
		if err := json.Unmarshal([]byte(stdout), &result); code != want || err != nil || result.ClaimID != claimID {
			t.Errorf("%v: exit %d, %q, %v", test.args, code, stdout, err)
		}
		switch name := strings.TrimPrefix(strings.Join(test.args[:2], " "), "admin "); strings.Fields(name)[0] {
		case "release", "rename", "transfer", "deactivate", "reactivate":
			if dibs(t, append(args, "--expected-version=3")...); api.match != `"3"` {
				t.Errorf("%v: If-Match is %q", test.args, api.match)
			}
		}

		what := "request"
		if test.args[0] == "claim" || test.args[0] == "rename" {
			what = "claim"
		}
		for _, failure := range []struct {
			status int
			answer string
			code   int
			out    string
			err    string
		}{
			{409, refusal(409, "wrong_state", `,"claim_id":"`+claimID+`","request_id":"`+requestID+`"`), exitRejected, "rejected: wrong_state: the detail (request " + requestID + ")", ""},
			{403, refusal(403, "not_owner", ``), exitRejected, "rejected: not_owner: the detail (nothing was published)", ""},
			{409, refusal(409, "taken", `,"claim_id":"`+claimID+`"`), exitRejected, "rejected: taken: the detail (" + what + " " + claimID + ")", ""},
			{422, refusal(422, "invalid_name", `,"errors":[{"field":"name","detail":"is too short"}]`), exitRejected, "rejected: invalid_name: name is too short (nothing was published)", ""},
			{422, refusal(422, "reserved_word", ``), exitRejected, "rejected: reserved_word: the detail (nothing was published)", ""},
			{404, refusal(404, "unknown_claim", ``), exitRejected, "rejected: unknown_claim: the detail (nothing was published)", ""},
			{412, refusal(412, "version_conflict", `,"current_version":7`), exitRejected, "rejected: version_conflict: the detail (nothing was published)", ""},
			{422, refusal(422, "invalid_request", ``), exitFailure, "", "422 invalid_request"},
			{422, refusal(422, "unknown_space", ``), exitFailure, "", "422 unknown_space"},
			{403, refusal(403, "not_allowed", ``), exitFailure, "", "403 not_allowed"},
			{400, refusal(400, "bad_request", ``), exitFailure, "", "400 bad_request"},
			{503, refusal(503, "outcome_unknown", `,"claim_id":"`+claimID+`"`), exitUndecided, "", "not decided yet"},
			{503, refusal(503, "unavailable", ``), exitUnreachable, "", "unavailable"},
		} {
			api.status, api.answer = failure.status, failure.answer
			code, stdout, stderr := dibs(t, append(args, "--wait=500ms")...)
			if code != failure.code || !strings.Contains(stdout, failure.out) || !strings.Contains(stderr, failure.err) {
				t.Errorf("%v with %d: exit %d, %q, %q", test.args, failure.status, code, stdout, stderr)
			}
			if failure.code == exitRejected {
				code, stdout, stderr := dibs(t, append(args, "-o", "json")...)
				var told map[string]any
				err := json.Unmarshal([]byte(stdout), &told)
				if code != exitRejected || err != nil || stderr != "" || told["state"] != "rejected" || !strings.Contains(failure.out, fmt.Sprintf("%v: %v", told["reason"], told["detail"])) {
					t.Errorf("%v with %d: exit %d, %q, %q, %v", test.args, failure.status, code, stdout, stderr, err)
				}
			}
		}
	}
}

func TestOrdersOutOfReach(t *testing.T) {
	code, _, stderr := dibs(t, "release", "alice", "--owner=u-1", "--url=http://"+nowhere(t), "--wait=10s")
	if code != exitUnreachable {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
