package api_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// recorded is what there is of owners.
type recorded struct {
	mu          sync.Mutex
	held, named []api.Trace
	erased      api.Erased
	slow        bool
	away        error
}

func (r *recorded) set(f func(*recorded)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

func (r *recorded) Held(context.Context, string) ([]api.Trace, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held, r.away
}

func (r *recorded) Named(ctx context.Context, owner string) ([]api.Trace, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner != "u-17" {
		return nil, nil
	}
	if r.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.named, nil
}

func (r *recorded) Erased(context.Context, string) (api.Erased, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.erased, nil
}

const eraseU17 = "/v1/admin/owners/u-17/erase"

// TestEraseOwner: each name that is recorded with the owner is asked for, by dibs, under an id that is the same as long as nothing
// new is recorded; until nothing is left.
func TestEraseOwner(t *testing.T) {
	r := &recorded{}
	last := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	var logged written
	inTime(t, func(t *testing.T, w *world) {
		alice, strange, unknown := names.Ref{Space: names.Username, Key: "alice"}, names.Ref{Key: "no name"}, names.Ref{Space: "nowhere", Key: "_lol_"}
		r.set(func(r *recorded) {
			r.held = []api.Trace{{Ref: alice, Version: 3}}
			r.named = []api.Trace{{Ref: strange, LogEpoch: 1, Offset: 9}, {Ref: unknown, LogEpoch: 1, Offset: 4}, {Ref: alice, LogEpoch: 1, Offset: 7}}
			r.erased = api.Erased{Pending: 1, Last: last}
		})
		first := w.post(eraseU17, byAda).is(202, "").has("owner", "u-17", "state", "running", "searched", true, "found", 3, "requested", 3, "pending", 1, "done", 0)
		location := first.header.Get("Location")
		if !strings.HasPrefix(location, "/v1/admin/erasures/") || strings.Contains(location, "u-17") {
			t.Errorf("the report is at %s", location)
		}
		for _, want := range []string{`"topic":"claims","until":"2026-11-22T10:00:00Z"`, `"detail":"it keeps records for ever","topic":"registrations"`, `"detail":"how long it keeps records cannot be read","topic":"claims.dlq"`} {
			if !strings.Contains(first.text, want) {
				t.Errorf("the report does not say %s:\n%s", want, first.text)
			}
		}
		w.post(eraseU17, byAda).is(202, "").heads("Location", location)
		w.get(location).is(200, "").has("id", first.body["id"], "found", 3)
		w.published(9)
		asked := make(map[string]names.Key)
		for _, record := range w.memory.records() {
			q, err := claims.Read(record)
			b, ok := q.Body.(*claims.ErasureRequested)
			if err != nil || !ok || !claims.OwnID(q.ID) || q.Principal != claims.Principal || b.Owner != "u-17" || b.Actor != "ada" || b.Reason == "" {
				t.Fatalf("asked is %+v, %v", q, err)
			}
			if key := (names.Ref{Space: b.Space, Key: b.Key}).RecordKey(); key != string(record.Key) {
				t.Errorf("%s is asked under the key %s", key, record.Key)
			}
			asked[q.ID.String()] = b.Key
		}
		if len(asked) != 3 {
			t.Errorf("three names are asked for under %d ids", len(asked))
		}

		// Something new is another request.
		r.set(func(r *recorded) { r.held, r.named = nil, []api.Trace{{Ref: alice, LogEpoch: 1, Offset: 11}} })
		w.get(location).is(200, "").has("found", 1, "requested", 1)
		for _, record := range w.memory.records() {
			if q, err := claims.Read(record); err == nil {
				asked[q.ID.String()] = "alice"
			}
		}
		if w.published(10); len(asked) != 4 {
			t.Errorf("what is new is asked under an old id: there are %d", len(asked))
		}
		r.set(func(r *recorded) {
			r.named, r.erased = nil, api.Erased{Done: 4, Signups: 2, Decisions: 12, DeadLetters: 1, Last: last}
		})
		w.get(location).is(200, "").has("state", "done", "found", 0, "done", 4, "signups", 2, "decisions_wiped", 12, "records_wiped", 1)

		// What was not searched is not done.
		r.set(func(r *recorded) { r.slow = true })
		w.get(location).is(200, "").has("state", "running", "searched", false)
		r.set(func(r *recorded) { r.slow, r.away = false, errors.New("away") })
		w.get(location).is(503, "unavailable")
		r.set(func(r *recorded) { r.away = nil })

		w.get("/v1/admin/erasures/x").is(404, "not_found")
		w.get(location[:len(location)-1]).is(404, "not_found")
		w.get("/v1/admin/erasures/"+strings.Repeat("A", 80)).is(404, "not_found")
		w.post("/v1/admin/owners/%C3%A4/erase", byAda).is(422, "invalid_request").names("owner")
		w.post(eraseU17, `{"actor":"ada","reason":""}`).is(422, "invalid_request").names("reason")
		w.post(eraseU17, `{"actor":"ada"}`).is(422, "invalid_request").names("reason")
		if text := logged.String(); strings.Count(text, `action=erase owner=u-17 names=3 requested=3`) != 3 || strings.Contains(text, "alice") {
			t.Errorf("the log has\n%s", text)
		}
	}, logTo(&logged), erasing(r))
}

func erasing(r *recorded) func(*setup) {
	return func(s *setup) {
		s.claimer.Erasure = api.ErasureConfig{
			Eraser: names.NewEraser([]byte("a secret")), Traces: r,
			Topics: func(context.Context) []api.KeptTopic {
				return []api.KeptTopic{{Topic: "claims", Keeps: 24 * time.Hour}, {Topic: "registrations", Keeps: -1}, {Topic: "claims.dlq", Err: errors.New("hidden")}}
			},
		}
	}
}

// TestEraseOwnerIsRefused where it could not be kept, or is not for the caller to ask.
func TestEraseOwnerIsRefused(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		if a := w.post(eraseU17, byAda).is(501, "not_configured"); !strings.Contains(a.text, "security.erasure_secret_file") {
			t.Error(a.text)
		}
		w.get("/v1/admin/erasures/x").is(501, "not_configured")
	})
	inTime(t, func(t *testing.T, w *world) {
		if a := w.post(eraseU17, byAda).is(501, "not_configured"); !strings.Contains(a.text, "security.request_keys_file") {
			t.Error(a.text)
		}
		w.published(0)
	}, erasing(&recorded{}), func(s *setup) { s.claimer.Sign = nil })
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "some", Principal: "some", Scopes: []string{"admin"}, Spaces: []string{"username"}, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"admin"}, Spaces: all, Owners: []string{"u-"}},
		auth.KeySpec{ID: "app", Principal: "app", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
	)
	inTimeReal(t, func(t *testing.T, w *world) {
		for _, h := range headers {
			w.post(eraseU17, byAda, h).is(403, "not_allowed")
			w.get("/v1/admin/erasures/x", h).is(403, "not_allowed")
		}
		w.post(eraseU17, byAda).is(401, "unauthenticated")
		w.published(0)
	}, keys, erasing(&recorded{}))
}
