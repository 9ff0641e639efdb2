package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestEraseTellsTheReport: what it asks, what it says, and its exit code. As JSON the report is the API's own.
func TestEraseTellsTheReport(t *testing.T) {
	api := new(fakeAPI)
	server := httptest.NewServer(api)
	defer server.Close()
	args := []string{"admin", "erase", "u-17", "--actor=ada", "--reason=request 4711", "--url=" + server.URL}
	const done = `{"id":"e","owner":"u-17","state":"done","searched":true,"found":0,"requested":0,"pending":0,"done":14,"signups":1,"decisions_wiped":31,` +
		`"records_wiped":4,"remains":[{"topic":"claims","until":"2026-12-01T10:00:00Z"},{"topic":"claims.dlq","detail":"for ever"}]}`

	api.status, api.answer = http.StatusAccepted, done
	code, stdout, stderr := dibs(t, args...)
	const want = "u-17 is erased: 14 requests (1 about sign-ups), 31 rows of the history and 4 records wiped\n" +
		"  claims keeps what names the owner until 2026-12-01T10:00:00Z\n  claims.dlq: for ever\n"
	if code != exitOK || stdout != want || stderr != "" {
		t.Errorf("exit %d, %q, %q; want %q", code, stdout, stderr, want)
	}
	if api.path != "/v1/admin/owners/u-17/erase" || api.body != `{"actor":"ada","reason":"request 4711"}` {
		t.Errorf("asked %s %s", api.path, api.body)
	}

	code, stdout, _ = dibs(t, append(args, "-o", "json")...)
	var got, report map[string]any
	if err := json.Unmarshal([]byte(done), &report); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("exit %d, %q, %v", code, stdout, err)
	}
	for field := range report {
		if a, b := asText(t, got[field]), asText(t, report[field]); a != b {
			t.Errorf("%s is %s, want %s", field, a, b)
		}
	}

	api.answer = strings.NewReplacer(`"state":"done"`, `"state":"running"`, `"pending":0`, `"pending":2`, `"found":0`, `"found":3`).Replace(done)
	code, stdout, _ = dibs(t, append(args, "--wait=10ms")...)
	if code != exitUndecided || !strings.HasPrefix(stdout, "u-17 is not erased yet: 3 names found, 2 requests not wiped behind, 14 wiped; run it again to go on\n") {
		t.Errorf("exit %d, %q", code, stdout)
	}

	api.status, api.answer = http.StatusNotImplemented, refusal(http.StatusNotImplemented, "not_configured", "")
	if code, _, stderr := dibs(t, args...); code != exitFailure || !strings.Contains(stderr, "not_configured") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	for _, wrong := range [][]string{{"admin", "erase", "--actor=a", "--reason=r"}, {"admin", "erase", "u", "--actor=a"}, {"admin", "erase", "u", "--reason=r"}} {
		if code, _, _ := dibs(t, wrong...); code != exitUsage {
			t.Errorf("%v: exit %d", wrong, code)
		}
	}
}

func asText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
