package api_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
)

// withKeys makes a file of keys and a world that goes by it; it returns the header of each.
func withKeys(t *testing.T, specs ...auth.KeySpec) (headers []string, change func(*setup)) {
	t.Helper()
	text := "keys:\n"
	for _, spec := range specs {
		token, entry, err := auth.NewKey(spec)
		if err != nil {
			t.Fatal(err)
		}
		text += entry
		headers = append(headers, "Authorization: Bearer "+token)
	}
	path := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := auth.NewKeys(auth.KeysConfig{Path: path})
	if err := keys.Load(); err != nil {
		t.Fatal(err)
	}
	return headers, func(s *setup) { s.keys = keys }
}

func TestKeys(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "writer", Principal: "gateway", Scopes: []string{"claim"}, Spaces: []string{"username"}, Owners: []string{"u-"}},
		auth.KeySpec{ID: "reader", Principal: "console", Scopes: []string{"read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "mail", Principal: "mail", Scopes: []string{"claim", "read"}, Spaces: []string{"email"}, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"claim", "read"}, Spaces: all, Owners: []string{"v-"}},
		auth.KeySpec{ID: "old", Principal: "gateway", Scopes: []string{"claim"}, Spaces: all, Owners: all, Expires: time.Now().Add(-time.Hour)},
		auth.KeySpec{ID: "rotated", Principal: "gateway", Scopes: []string{"claim"}, Spaces: all, Owners: all},
	)
	writer, reader, mail, half, old, rotated := headers[0], headers[1], headers[2], headers[3], headers[4], headers[5]
	inTimeReal(t, func(t *testing.T, w *world) {
		var texts []string
		for _, header := range []string{"X: y", "Authorization: Basic d3JpdGVyOng=", "Authorization: Bearer writer.wrong", writer + "x", old} {
			a := w.claim(alice, header).is(401, "unauthenticated").heads("WWW-Authenticate", `Bearer realm="dibs"`)
			texts = append(texts, a.text)
			w.get("/v1/names/username/alice", header).is(401, "unauthenticated")
		}
		for _, text := range texts {
			if text != texts[0] {
				t.Errorf("a 401 tells more than another:\n%s%s", text, texts[0])
			}
		}
		w.published(0)

		w.claim(alice, reader).is(403, "not_allowed")
		w.claim(alice, mail).is(403, "not_allowed").names("space")
		w.claim(alice, half).is(403, "not_allowed").names("owner")
		w.claim(`{"name":"Alice","owner":"v-1"}`, writer).is(403, "not_allowed").names("owner")
		w.claim(`{"name":"Alice","owner":"v-1","space":"email"}`, writer).is(403, "not_allowed").names("space")
		w.published(0)

		id := w.claim(alice, writer, "Idempotency-Key: k").is(201, "").body["claim_id"].(string)
		if got, _ := w.memory.records()[0].Header("ce_dibsprincipal"); string(got) != "gateway" {
			t.Errorf("the record is from %q", got)
		}
		// Another key of the same principal is the same caller; another principal is another.
		w.claim(alice, rotated, "Idempotency-Key: k").is(201, "").has("claim_id", id).heads("Idempotent-Replayed", "true")
		w.claim(`{"name":"Alice","owner":"v-1"}`, half, "Idempotency-Key: k").is(409, "taken").heads("Idempotent-Replayed", "")

		w.get("/v1/claims/"+id, writer).is(403, "not_allowed")
		w.get("/v1/claims/"+id, mail).is(403, "not_allowed").names("space")
		w.get("/v1/claims/"+id, half).is(403, "not_allowed").names("owner")
		w.get("/v1/claims/"+id, reader).is(200, "").has("owner", "u-17")
		w.get("/v1/names/username/alice", writer).is(403, "not_allowed")
		w.get("/v1/names/username/alice", mail).is(403, "not_allowed").names("space")
		w.get("/v1/names/username/alice", reader).is(200, "").has("owner", "u-17", "claim_id", id)
		w.get("/v1/names/username/alice", half).is(200, "").has("available", false, "owner", nil, "claim_id", nil)

		w.get("/openapi.yaml").is(200, "")
		w.get("/problems/taken").is(200, "")
		w.get("/v1/nothing").is(404, "not_found")
	}, keys)
}

// inTimeReal is for tests that need no waits.
func inTimeReal(t *testing.T, test func(t *testing.T, w *world), change ...func(*setup)) {
	t.Helper()
	w := newWorld(t, change...)
	for w.claimer.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	test(t, w)
}

func TestRateLimit(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "a", Principal: "a", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "b", Principal: "b", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
	)
	inTime(t, func(t *testing.T, w *world) {
		for i := range 3 {
			w.claim(fmt.Sprintf(`{"name":"name%d","owner":"u"}`, i), headers[0]).is(201, "")
		}
		w.claim(alice, headers[0]).is(429, "rate_limited").heads("Retry-After", "2")
		w.get("/v1/names/username/alice", headers[0]).is(429, "rate_limited")
		w.published(3)
		w.claim(alice, headers[1]).is(201, "") // another caller
		time.Sleep(2 * time.Second)
		w.claim(`{"name":"bob","owner":"u"}`, headers[0]).is(201, "")
		w.claim(`{"name":"carol","owner":"u"}`, headers[0]).is(429, "rate_limited")
	}, keys, func(s *setup) { s.server.Rate, s.server.Burst = 0.5, 3 })
}

// A sign-up costs as much as claims of its names do, or all that can be saved up; and who waits as long as is said gets through.
func TestRateLimitOfSignups(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t, auth.KeySpec{ID: "a", Principal: "a", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all})
	signUp := func(n int, names ...string) string {
		return fmt.Sprintf(`{"owner":"u-%d","names":[{"name":"%s"}]}`, n, strings.Join(names, `"},{"name":"`))
	}
	inTime(t, func(t *testing.T, w *world) {
		w.signUp(signUp(1, "name1", "name2", "name3"), headers[0]).is(201, "") // of 4
		w.signUp(signUp(2, "name4", "name5"), headers[0]).is(429, "rate_limited").heads("Retry-After", "4")
		w.published(10) // of the first one, with what it led to
		time.Sleep(4 * time.Second)
		w.signUp(signUp(2, "name4", "name5"), headers[0]).is(201, "")
		w.get("/v1/names/username/name4", headers[0]).is(429, "rate_limited")
		time.Sleep(time.Minute)
		w.signUp(signUp(3, "name6", "name7", "name8", "name9", "name10", "name11"), headers[0]).is(201, "")
		w.get("/v1/names/username/name6", headers[0]).is(429, "rate_limited")
	}, keys, func(s *setup) { s.server.Rate, s.server.Burst = 0.5, 4 })
}

// Without keys the API can be reached from this machine only.
func TestNoKeysOnLoopbackOnly(t *testing.T) {
	w := newWorld(t)
	if _, err := api.NewServer(api.Config{Addr: "0.0.0.0:8080"}, w.claimer, auth.None{}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("%v", err)
	}
	headers, keys := withKeys(t, auth.KeySpec{ID: fmt.Sprint("k", rand.IntN(9)), Principal: "p", Scopes: []string{"read"}, Spaces: []string{"*"}, Owners: []string{"*"}})
	var s setup
	keys(&s)
	if _, err := api.NewServer(api.Config{Addr: "0.0.0.0:8080"}, w.claimer, s.keys); err != nil {
		t.Errorf("with keys: %v (%s)", err, headers)
	}
}
