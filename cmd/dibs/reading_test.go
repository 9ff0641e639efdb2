package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	holding = `{"space":"username","name":"Alice","key":"alice","available":false,"reason":"taken","state":"reserved","owner":"u-17","version":3,"expires_at":"2026-11-21T10:10:00Z"}`
	another = `{"space":"handle","name":"al","key":"al","available":false,"reason":"taken","state":"registered","owner":"u-17","version":1}`
	entries = `{"space":"username","key":"alice","entries":[` +
		`{"version":1,"outcome":"Accepted","at":"2026-11-21T10:00:00.123Z","owner":"u-17","request_id":"` + requestID + `","partition":0,"log_epoch":1,"offset":7},` +
		`{"version":2,"outcome":"Blocked","at":"2026-11-21T10:00:01Z","actor":"ada","reason":"ticket\n4711\u001b[2J","partition":0,"log_epoch":1,"offset":8}]}`
)

// TestReading: what the commands that read ask for, and what they tell.
func TestReading(t *testing.T) {
	api := new(fakeAPI)
	server := httptest.NewServer(api)
	defer server.Close()
	for _, test := range []struct {
		args         []string
		answer, path string
		says         string
		lines        int
	}{
		{[]string{"names", "Alice"}, holding, "/v1/names/username/Alice", "username/alice: reserved by u-17 until 2026-11-21T10:10:00Z, version 3\n", 1},
		{[]string{"names", "al", "--space=handle"}, another, "/v1/names/handle/al", "handle/al: registered by u-17, version 1\n", 1},
		{[]string{"names", "root"}, `{"space":"username","name":"root","key":"root","available":false,"reason":"reserved_word","state":"free","version":0}`,
			"/v1/names/username/root", "username/root: free, a reserved word, version 0\n", 1},
		{[]string{"names", "paypa1", "--space=handle"}, `{"space":"handle","name":"paypa1","key":"paypal","available":false,"reason":"confusable","state":"free","version":2}`,
			"/v1/names/handle/paypa1", "handle/paypa1: free, but it looks like one that is taken, version 2\n", 1},
		{[]string{"names", "Пётр", "--space=handle"}, `{"space":"handle","name":"Пётр","key":"πëᴛp","available":false,"reason":"taken","state":"registered","owner":"u-17","version":1}`,
			"/v1/names/handle/Пётр", "handle/Пётр: registered by u-17, version 1\n", 1},
		{[]string{"history", "paypa1", "--space=handle"}, `{"space":"handle","key":"paypal","entries":[` +
			`{"version":1,"outcome":"Accepted","at":"2026-11-21T10:00:00.123Z","name":"PayPal","owner":"u-17","partition":0,"log_epoch":1,"offset":7},` +
			`{"version":2,"outcome":"Accepted","at":"2026-11-21T10:00:01Z","name":"Paypa1","owner":"u-18","partition":0,"log_epoch":1,"offset":8}]}`,
			"/v1/names/handle/paypa1/history", "1  2026-11-21T10:00:00Z  accepted  u-17, as PayPal\n2  2026-11-21T10:00:01Z  accepted  u-18\n", 2},
		{[]string{"names", "--owner=u-17"}, `{"owner":"u-17","names":[` + another + `,` + holding + `]}`, "/v1/owners/u-17/names",
			"handle/al: registered by u-17, version 1\nusername/alice: reserved by u-17 until 2026-11-21T10:10:00Z, version 3\n", 2},
		{[]string{"names", "--owner=u-17", "--space=handle"}, `{"owner":"u-17","names":[` + another + `]}`, "/v1/owners/u-17/names handle",
			"handle/al: registered by u-17, version 1\n", 1},
		{[]string{"names", "--owner=u-17"}, `{"owner":"u-17","names":[]}`, "/v1/owners/u-17/names", "", 0},
		{[]string{"history", "Alice"}, entries, "/v1/names/username/Alice/history",
			"1  2026-11-21T10:00:00Z  accepted  u-17\n2  2026-11-21T10:00:01Z  blocked  by ada: ticket 4711 [2J\n", 2},
	} {
		api.status, api.answer = http.StatusOK, test.answer
		args := append(test.args, "--url="+server.URL)
		if code, stdout, stderr := dibs(t, args...); code != exitOK || stdout != test.says || stderr != "" || strings.TrimSpace(api.path+" "+api.space) != test.path {
			t.Errorf("%v: exit %d, %q, %q; asked %s %s", test.args, code, stdout, stderr, api.path, api.space)
		}
		code, stdout, _ := dibs(t, append(args, "-o", "json")...)
		if got := strings.Count(stdout, "\n"); code != exitOK || got != test.lines {
			t.Errorf("%v: exit %d, %d lines of JSON: %s", test.args, code, got, stdout)
		}
		for line := range strings.Lines(stdout) {
			var told map[string]any
			if err := json.Unmarshal([]byte(line), &told); err != nil || told["version"] == nil {
				t.Errorf("%v: %s, %v", test.args, line, err)
			}
		}
		api.status, api.answer = http.StatusNotFound, refusal(404, "unknown_space", "")
		if code, stdout, stderr := dibs(t, args...); code != exitFailure || stdout != "" || !strings.Contains(stderr, "unknown_space") {
			t.Errorf("%v: exit %d, %q, %q", test.args, code, stdout, stderr)
		}
		api.status, api.answer = http.StatusServiceUnavailable, refusal(503, "unavailable", "")
		if code, _, stderr := dibs(t, append(args, "--wait=200ms")...); code != exitUnreachable || !strings.Contains(stderr, "unavailable") {
			t.Errorf("%v: exit %d, %q", test.args, code, stderr)
		}
		if code, _, stderr := dibs(t, append(test.args, "--url=http://"+nowhere(t))...); code != exitUnreachable || !strings.Contains(stderr, "cannot reach") {
			t.Errorf("%v: exit %d, %q", test.args, code, stderr)
		}
	}
}

// What there is nothing to say of, says so: beside what is read, which is nothing.
func TestHistoryOfNothing(t *testing.T) {
	api := &fakeAPI{status: http.StatusOK, answer: `{"space":"handle","key":"alice","entries":[]}`}
	server := httptest.NewServer(api)
	defer server.Close()
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"history", "Alice", "--space=handle"}, "nothing has happened to handle/Alice\n"},
		{[]string{"history", "Ali\nce\u202e", "--space=handle", "-o=json"}, "nothing has happened to handle/Ali ce \n"},
		{[]string{"history", "Alice", "--space=handle", "--from=7"}, "nothing has happened to handle/Alice from version 7 on\n"},
	} {
		if code, stdout, stderr := dibs(t, append(test.args, "--url="+server.URL)...); code != exitOK || stdout != "" || stderr != test.says {
			t.Errorf("%q: exit %d, %q, %q", test.args, code, stdout, stderr)
		}
	}
}

// What somebody has written is one line on a terminal, in the order in which it is stored.
func TestOneLine(t *testing.T) {
	for from, want := range map[string]string{
		"ticket 4711, 日本 é \u05d0": "ticket 4711, 日本 é \u05d0", "a\r\n\tb": "a   b", "\x1b[2J\x7f\u009b": " [2J  ",
		"a\u2028b\u2029c\u0085d": "a b c d", "\u202aa\u202eb\u202cc": " a b c", "\u2066a\u2069\u200e\u200f\u061c": " a    ",
		"a\u200bb\ufeffc\u00add\U000e0041": "a b c d ", "\xff": "\ufffd",
	} {
		if got := oneLine(from); got != want {
			t.Errorf("%q is %q, want %q", from, got, want)
		}
	}
}

// A rename whose old name is not released says so.
func TestRejectedFollowUpIsTold(t *testing.T) {
	api := &fakeAPI{status: http.StatusOK, answer: accepted("ConfirmRequested", `,"follow_up":{"request_id":"`+requestID+
		`","space":"username","key":"bob","version":1,"state":"rejected","reason":"version_conflict"}`)}
	server := httptest.NewServer(api)
	defer server.Close()
	const want = "but username/bob is not released: version_conflict (request " + requestID + ")"
	if code, stdout, stderr := dibs(t, "confirm", claimID, "--owner=u-17", "--url="+server.URL); code != exitOK || !strings.Contains(stdout, want) {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if _, stdout, _ := dibs(t, "confirm", claimID, "--owner=u-17", "--url="+server.URL, "-o", "json"); !strings.Contains(stdout, `"follow_up":{"request_id"`) {
		t.Errorf("%q", stdout)
	}
}
