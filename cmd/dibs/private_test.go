package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPrivateValuesAreInNoAddress: where a space is private, every command that has a name in an address asks for its key
// first, in a body, and says no more than the key. What is a key already, or in no private space, goes as it is.
func TestPrivateValuesAreInNoAddress(t *testing.T) {
	key := "h1:" + strings.Repeat("0123456789abcdef", 4)
	var asked []string
	forbidden := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.String())
		answer := accepted("ReleaseRequested", "")
		answer = strings.NewReplacer(`"name":"Alice",`, "", `"alice"`, `"`+key+`"`, "username", "email").Replace(answer)
		status := http.StatusOK
		switch {
		case r.URL.Path == "/v1/lookups" && forbidden:
			status, answer = http.StatusForbidden, refusal(http.StatusForbidden, "not_allowed", "")
		case r.URL.Path == "/v1/lookups" && strings.Contains(string(body), `"email"`):
			answer = `{"space":"email","key":"` + key + `","record_key":"email/` + key + `","partition":1}`
		case r.URL.Path == "/v1/lookups":
			answer = `{"space":"handle","key":"alice","record_key":"handle/alice","partition":1}`
		case strings.HasSuffix(r.URL.Path, "/history"):
			answer = `{"space":"email","key":"` + key + `","entries":[]}`
		case r.Method == http.MethodGet:
			answer = `{"space":"email","key":"` + key + `","available":false,"state":"registered","owner":"u-17","version":1}`
		}
		w.Header().Set("Content-Type", map[bool]string{true: "application/problem+json", false: "application/json"}[status >= 400])
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	run := func(args ...string) (int, string) {
		t.Helper()
		asked = nil
		code, stdout, stderr := dibs(t, append(args, "--url="+server.URL)...)
		return code, stdout + stderr
	}
	const value = "ada@example.org"
	for _, c := range []struct{ args, method, path string }{
		{"names %s", "GET", "/v1/names/%s/%s"},
		{"history %s", "GET", "/v1/names/%s/%s/history?after=0&limit=100"},
		{"release %s --owner=u-17", "POST", "/v1/names/%s/%s/release"},
		{"rename %s bob@example.org --owner=u-17", "POST", "/v1/names/%s/%s/rename"},
		{"transfer %s u-18 --owner=u-17", "POST", "/v1/names/%s/%s/transfer"},
		{"deactivate %s --owner=u-17", "POST", "/v1/names/%s/%s/deactivate"},
		{"reactivate %s --owner=u-17", "POST", "/v1/names/%s/%s/reactivate"},
		{"admin release %s --actor=a --reason=b", "POST", "/v1/admin/names/%s/%s/release"},
		{"admin transfer %s u-18 --actor=a --reason=b", "POST", "/v1/admin/names/%s/%s/transfer"},
		{"admin block %s --actor=a --reason=b", "POST", "/v1/admin/names/%s/%s/block"},
		{"admin unblock %s --actor=a --reason=b", "POST", "/v1/admin/names/%s/%s/unblock"},
	} {
		command := func(name string) []string { return strings.Fields(fmt.Sprintf(c.args, name)) }
		address := func(space, name string) string {
			path, _, _ := strings.Cut(fmt.Sprintf(c.path, space, name), "?")
			return c.method + " " + path
		}
		is := func(what string, want ...string) {
			t.Helper()
			for i := range asked {
				asked[i], _, _ = strings.Cut(asked[i], "?")
			}
			if fmt.Sprint(asked) != fmt.Sprint(want) {
				t.Errorf("%s of %s: asked %v, want %v", c.args, what, asked, want)
			}
		}
		forbidden = false
		code, said := run(append(command(value), "--space=email")...)
		is("a private value", "POST /v1/lookups", address("email", key))
		if code != exitOK || strings.Contains(said, value) {
			t.Errorf("%s of a private value: exit %d, %q", c.args, code, said)
		}
		if code, said := run(append(command("alice"), "--space=handle")...); code != exitOK {
			t.Errorf("%s in another space: exit %d, %q", c.args, code, said)
		}
		is("a name in another space", "POST /v1/lookups", address("handle", "alice"))
		forbidden = true
		code, said = run(append(command(value), "--space=email")...)
		is("a private value that cannot be looked up", "POST /v1/lookups")
		if code != exitFailure || !strings.Contains(said, "dibs lookup") || strings.Contains(said, value) {
			t.Errorf("%s that cannot look up: exit %d, %q", c.args, code, said)
		}
		run(append(command(key), "--space=email")...)
		is("a key", address("email", key))
		run(append(command("alice"), "--space=handle", "--plain")...)
		is("a name in a space that is said to be plain", address("handle", "alice"))
		run(command("alice")...)
		is("a user name", address("username", "alice"))
	}
}

// TestFields: several fields that are unique together are given one by one, and taken as they are.
func TestFields(t *testing.T) {
	api := &fakeAPI{status: http.StatusCreated, answer: accepted("UsernameClaimed", "")}
	server := httptest.NewServer(api)
	defer server.Close()
	for _, c := range []struct {
		args string
		body string // empty: wrong usage
	}{
		{"claim --space member --field tenant=acme,inc --field email=a=b@example.org", `{"fields":{"email":"a=b@example.org","tenant":"acme,inc"},"owner":"u-17","space":"member"}`},
		{"claim --space member x --field tenant=acme", ""},
		{"claim --space member", ""},
		{"claim x y", ""},
		{"claim --field tenant", ""},
		{"claim --field =x", ""},
		{"claim --field a=b --field a=c", ""},
		{"signup alice --field member/tenant=acme --field other/a=b --field member/email=e", `{"names":[{"name":"alice"},` +
			`{"fields":{"email":"e","tenant":"acme"},"space":"member"},{"fields":{"a":"b"},"space":"other"}],"owner":"u-17"}`},
		{"signup --field member/tenant=acme", `{"names":[{"fields":{"tenant":"acme"},"space":"member"}],"owner":"u-17"}`},
		{"signup --field tenant=a/b", ""},
		{"signup --field member/tenant=acme --field member/tenant=b", ""},
		{"lookup --space member --field tenant=acme,inc", `{"fields":{"tenant":"acme,inc"},"space":"member"}`},
	} {
		api.body = ""
		args := append(strings.Fields(c.args), "--url="+server.URL)
		if !strings.HasPrefix(c.args, "lookup") {
			args = append(args, "--owner=u-17")
		}
		code, _, stderr := dibs(t, args...)
		if api.body != c.body || c.body == "" && code != exitUsage {
			t.Errorf("%s: exit %d, asked %s, want %s\n%s", c.args, code, api.body, c.body, stderr)
		}
	}
}
