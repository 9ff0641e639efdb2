package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an API that answers as it is told, one step for each request; the last step repeats.
type script struct {
	t     *testing.T
	mu    sync.Mutex
	steps []step
	seen  []seen
	start time.Time
}

type step struct {
	status  int
	body    string
	headers string        // "Name: value", one
	err     error         // instead of an answer
	takes   time.Duration // before the answer
	hangs   bool          // until the request is given up
}

type seen struct {
	at                                   time.Duration
	method, url, prefer, key, body, auth string
	match                                string
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	n := len(s.seen)
	s.seen = append(s.seen, seen{time.Since(s.start), r.Method, r.URL.RequestURI(), r.Header.Get("Prefer"), r.Header.Get("Idempotency-Key"), string(body), r.Header.Get("Authorization"), r.Header.Get("If-Match")})
	st := s.steps[min(n, len(s.steps)-1)]
	s.mu.Unlock()
	if st.hangs {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	select {
	case <-time.After(st.takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if st.err != nil {
		return nil, st.err
	}
	resp := &http.Response{StatusCode: st.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(st.body)), Request: r}
	if st.status >= 400 {
		resp.Header.Set("Content-Type", "application/problem+json")
	}
	if name, value, ok := strings.Cut(st.headers, ": "); ok {
		resp.Header.Set(name, value)
	}
	return resp, nil
}

// urls are what was asked for.
func (s *script) urls() (urls []string) {
	for _, got := range s.seen {
		urls = append(urls, got.url)
	}
	return urls
}

const (
	id       = "6f0c1a52-6e0b-4a0e-9c67-0a3a2f6f5a10"
	place    = `"type":"UsernameClaimed","space":"username","name":"Alice","key":"alice","owner":"u-17","partition":7,"log_epoch":1,"offset":4711}`
	accepted = `{"claim_id":"` + id + `","state":"accepted","version":1,"decided_at":"2026-11-21T10:00:00.123Z",` + place
	rejected = `{"claim_id":"` + id + `","state":"rejected","reason":"taken","detail":"the name is taken","decided_at":"2026-11-21T10:00:00.123Z",` + place
	pending  = `{"claim_id":"` + id + `","state":"pending",` + place
)

func problem(status int, reason, more string) step {
	return step{status: status, body: fmt.Sprintf(`{"type":"/problems/%s","title":"x","status":%d,"reason":%q%s}`, reason, status, reason, more)}
}

// scripted runs a test in a bubble against a script.
func scripted(t *testing.T, steps []step, test func(t *testing.T, c *client.Client, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t, steps: steps, start: time.Now()}
		c, err := client.New("http://api.test/base", client.WithHTTPClient(&http.Client{Transport: s}), client.WithKey("id.secret"))
		if err != nil {
			t.Fatal(err)
		}
		test(t, c, s)
	})
}

var alice = client.Claim{Name: "Alice", Owner: "u-17"}

func TestClaim(t *testing.T) {
	scripted(t, []step{{status: 201, body: accepted, headers: "Idempotent-Replayed: true"}}, func(t *testing.T, c *client.Client, s *script) {
		version := int64(0)
		r, err := c.Claim(t.Context(), client.Claim{Space: "username", Name: "Alice", Owner: "u-17", ExpectedVersion: &version, ReturnExisting: true,
			Metadata: map[string]string{"a": "b"}, IdempotencyKey: "k"})
		want := client.Result{ID: id, Type: "UsernameClaimed", State: client.Accepted, Space: "username", Name: "Alice", Key: "alice", Owner: "u-17", Version: 1,
			DecidedAt: time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC), Position: "7-1-4711", Replayed: true}
		if err != nil || r != want {
			t.Errorf("%+v, %v", r, err)
		}
		got := s.seen[0]
		if got.method != "POST" || got.url != "/base/v1/claims" || got.prefer != "wait=30" || got.key != "k" || got.auth != "Bearer id.secret" {
			t.Errorf("%+v", got)
		}
		const body = `{"expected_version":0,"metadata":{"a":"b"},"name":"Alice","on_conflict":"return_existing","owner":"u-17","space":"username"}`
		if got.body != body {
			t.Errorf("body is %s", got.body)
		}
	})
}

func TestClaimRejectedIsAResult(t *testing.T) {
	for _, test := range []struct {
		step step
		want client.Result
	}{
		{problem(409, "taken", `,"detail":"the name is taken","claim_id":"`+id+`"`), client.Result{Reason: "taken", Detail: "the name is taken"}},
		{problem(412, "version_conflict", `,"claim_id":"`+id+`","current_version":3`), client.Result{Reason: "version_conflict", CurrentVersion: 3}},
		{problem(403, "not_owner", `,"claim_id":"`+id+`"`), client.Result{Reason: "not_owner"}},
		{problem(404, "unknown_claim", `,"claim_id":"`+id+`"`), client.Result{Reason: "unknown_claim"}},
	} {
		scripted(t, []step{test.step}, func(t *testing.T, c *client.Client, s *script) {
			test.want.ID, test.want.State, test.want.Name, test.want.Owner = id, client.Rejected, "Alice", "u-17"
			if r, err := c.Claim(t.Context(), alice); err != nil || r != test.want || len(s.seen) != 1 {
				t.Errorf("%+v, %v after %d requests; want %+v", r, err, len(s.seen), test.want)
			}
		})
	}
}

func TestClaimRefusedIsAProblem(t *testing.T) {
	for _, test := range []struct {
		step step
		text string
	}{
		{problem(400, "bad_request", `,"detail":"x","errors":[{"field":"Prefer","detail":"is bad"}]`), "claim: 400 bad_request: Prefer is bad"},
		{problem(401, "unauthenticated", `,"detail":"a key is required"`), "claim: 401 unauthenticated: a key is required"},
		{problem(403, "not_allowed", ``), "claim: 403 not_allowed"},
		{problem(422, "invalid_name", `,"errors":[{"field":"name","detail":"is empty"}]`), "claim: 422 invalid_name: name is empty"},
		{problem(422, "idempotency_mismatch", `,"claim_id":"`+id+`"`), "claim: 422 idempotency_mismatch"},
		{problem(500, "internal", ``), "claim: 500 internal"},
		{problem(503, "partition_halted", ``), "claim: 503 partition_halted"},
		{step{status: 418, body: "short and stout", headers: "Content-Type: text/plain"}, "claim: 418 I'm a teapot"},
	} {
		scripted(t, []step{test.step}, func(t *testing.T, c *client.Client, s *script) {
			_, err := c.Claim(t.Context(), alice)
			var p *client.Problem
			if !errors.As(err, &p) || err.Error() != test.text || errors.Is(err, client.ErrUndecided) || errors.Is(err, client.ErrUnreachable) || len(s.seen) != 1 {
				t.Errorf("%v after %d requests, want %s", err, len(s.seen), test.text)
			}
		})
	}
}

var (
	refused = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	reset   = &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
)

// Whatever fails on the way is tried again under the same key, which is the caller's or one of our own.
func TestClaimIsTriedAgainAsTheSameClaim(t *testing.T) {
	steps := []step{
		{err: refused}, {err: reset}, problem(503, "outcome_unknown", `,"claim_id":"`+id+`"`), problem(503, "unavailable", ``),
		problem(503, "too_busy", ``), {status: 502, body: "<html>", headers: "Content-Type: text/html"}, {status: 504}, {hangs: true},
		{status: 201, body: accepted},
	}
	rate := problem(429, "rate_limited", ``)
	rate.headers = "Retry-After: 7"
	steps = append([]step{rate}, steps...)
	for _, key := range []string{"", "mine"} {
		scripted(t, steps, func(t *testing.T, c *client.Client, s *script) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			claim := alice
			claim.IdempotencyKey = key
			r, err := c.Claim(ctx, claim)
			if err != nil || r.State != client.Accepted || len(s.seen) != len(steps) {
				t.Fatalf("%+v, %v after %d requests", r, err, len(s.seen))
			}
			for i, got := range s.seen {
				if got.key == "" || got.key != s.seen[0].key || key != "" && got.key != key || got.body != s.seen[0].body {
					t.Errorf("request %d is another claim: %+v", i, got)
				}
			}
			if pause := s.seen[1].at - s.seen[0].at; pause < 7*time.Second {
				t.Errorf("Retry-After of 7 s, tried again after %s", pause)
			}
			if took := s.seen[9].at - s.seen[8].at; took < 45*time.Second || took > 60*time.Second {
				t.Errorf("a silent connection was given up after %s", took)
			}
		})
	}
	scripted(t, []step{{err: reset}, {status: 201, body: accepted}}, func(t *testing.T, c *client.Client, s *script) {
		claim := alice
		claim.ID = id
		if _, err := c.Claim(t.Context(), claim); err != nil || s.seen[0].key != "" || s.seen[1].body != s.seen[0].body || !strings.Contains(s.seen[0].body, id) {
			t.Errorf("%+v, %v", s.seen, err)
		}
	})
}

// Who asks for it hears soon that nobody is there; but only if nobody ever was.
func TestDialTries(t *testing.T) {
	busy := problem(503, "too_busy", ``)
	busy.headers = "Retry-After: 4"
	for _, test := range []struct {
		name      string
		steps     []step
		asked     int // 0: for as long as there is time
		undecided bool
	}{
		{"nobody there", []step{{err: refused}}, 3, false},
		{"up in time", []step{{err: refused}, {err: refused}, {status: 201, body: accepted}}, 3, false},
		{"busy", []step{busy, busy, busy, {status: 201, body: accepted}}, 4, false},
		{"restarted", []step{busy, {err: refused}, {err: refused}, {err: refused}, {err: refused}, {status: 201, body: accepted}}, 6, false},
		{"away since", []step{{err: refused}, {err: reset}, {err: refused}}, 0, true},
		{"restarted while it is awaited", []step{{status: 202, body: pending}, {err: refused}, {err: refused}, {err: refused}, {err: refused}, {status: 200, body: accepted}}, 6, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{t: t, steps: test.steps, start: time.Now()}
				c, err := client.New("http://api.test", client.WithHTTPClient(&http.Client{Transport: s}), client.WithTimeout(20*time.Second), client.WithDialTries(3))
				if err != nil {
					t.Fatal(err)
				}
				r, err := c.Claim(t.Context(), alice)
				last := test.steps[len(test.steps)-1]
				if (err == nil) != (last.err == nil) || err == nil && r.State != client.Accepted ||
					err != nil && !errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrUndecided) != test.undecided {
					t.Errorf("%+v, %v", r, err)
				}
				took := time.Since(s.start)
				if test.asked == 0 && took != 20*time.Second || test.asked > 0 && len(s.seen) != test.asked {
					t.Errorf("%d requests in %s", len(s.seen), took)
				}
				if err != nil && test.asked > 0 && (took > 2*time.Second || errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("%v after %s", err, took)
				}
				if test.name == "busy" && took < 12*time.Second {
					t.Errorf("Retry-After of 4 s, three times, took %s", took)
				}
			})
		})
	}
}

// What the error says when time is up depends on whether the claim may be in the log.
func TestClaimTimeIsUp(t *testing.T) {
	for _, test := range []struct {
		name                   string
		step                   step
		undecided, unreachable bool
		id                     string
	}{
		{"nobody there", step{err: refused}, false, true, ""},
		{"nothing published", problem(503, "unavailable", ``), false, true, ""},
		{"lost on the way", step{err: reset}, true, true, ""},
		{"silence", step{hangs: true}, true, false, ""},
		{"unknown", problem(503, "outcome_unknown", `,"claim_id":"`+id+`"`), true, true, id},
		{"a proxy", step{status: 502}, true, true, ""},
		{"pending", step{status: 202, body: pending}, true, false, id},
	} {
		t.Run(test.name, func(t *testing.T) {
			scripted(t, []step{test.step, test.step, test.step}, func(t *testing.T, c *client.Client, s *script) {
				if test.name == "pending" {
					s.steps = []step{test.step, {status: 200, body: pending}}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
				defer cancel()
				r, err := c.Claim(ctx, alice)
				if errors.Is(err, client.ErrUndecided) != test.undecided || errors.Is(err, client.ErrUnreachable) != test.unreachable ||
					!errors.Is(err, context.DeadlineExceeded) || r.ID != test.id || (r.State == client.Pending) != (test.id != "") {
					t.Errorf("%+v, %v", r, err)
				}
				if time.Since(s.start) != 8*time.Second {
					t.Errorf("took %s", time.Since(s.start))
				}
				if n := len(s.seen); n > 20 {
					t.Errorf("%d requests in 8 s", n)
				}
			})
		})
	}
}

// Without a deadline it still ends.
func TestClaimEndsWithoutADeadline(t *testing.T) {
	scripted(t, []step{{err: refused}}, func(t *testing.T, c *client.Client, s *script) {
		if _, err := c.Claim(context.Background(), alice); !errors.Is(err, client.ErrUnreachable) || time.Since(s.start) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(s.start))
		}
	})
}

func TestClaimPendingIsFollowed(t *testing.T) {
	steps := []step{
		{status: 202, body: pending, takes: 30 * time.Second}, {status: 200, body: pending, takes: 30 * time.Second}, {err: reset},
		problem(503, "unavailable", ""), {status: 200, body: pending}, {status: 200, body: rejected, takes: 3 * time.Second},
	}
	scripted(t, steps, func(t *testing.T, c *client.Client, s *script) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		r, err := c.Claim(ctx, alice)
		if err != nil || r.State != client.Rejected || r.Reason != "taken" || r.Detail != "the name is taken" || len(s.seen) != len(steps) {
			t.Fatalf("%+v, %v after %d requests", r, err, len(s.seen))
		}
		for _, got := range s.seen[1:] {
			if got.method != "GET" || got.url != "/base/v1/claims/"+id+"?at=7-1-4711" || got.prefer != "wait=30" || got.auth != "Bearer id.secret" {
				t.Errorf("%+v", got)
			}
		}
	})
}

// The API is asked to wait only as long as the caller does.
func TestClaimWaitsNoLongerThanItsCaller(t *testing.T) {
	scripted(t, []step{{status: 201, body: accepted}}, func(t *testing.T, c *client.Client, s *script) {
		for deadline, want := range map[time.Duration]string{
			10 * time.Second: "wait=9", 2500 * time.Millisecond: "wait=2", time.Hour: "wait=30", 300 * time.Millisecond: "respond-async",
		} {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			if _, err := c.Claim(ctx, alice); err != nil {
				t.Error(err)
			}
			cancel()
			if got := s.seen[len(s.seen)-1].prefer; got != want {
				t.Errorf("with %s left it prefers %q, want %q", deadline, got, want)
			}
		}
	})
}

// A key without the scope read cannot follow its claim: it is told so, with the claim.
func TestClaimPendingMayNotBeRead(t *testing.T) {
	scripted(t, []step{{status: 202, body: pending}, problem(403, "not_allowed", "")}, func(t *testing.T, c *client.Client, _ *script) {
		r, err := c.Claim(t.Context(), alice)
		var p *client.Problem
		if !errors.As(err, &p) || p.Reason != "not_allowed" || r.ID != id || r.State != client.Pending {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestSubmitAndAwait(t *testing.T) {
	scripted(t, []step{{status: 202, body: pending}, {status: 200, body: accepted}}, func(t *testing.T, c *client.Client, s *script) {
		r, err := c.Submit(t.Context(), alice)
		if err != nil || r.State != client.Pending || r.ID != id || r.Position != "7-1-4711" || s.seen[0].prefer != "respond-async" {
			t.Fatalf("%+v, %v, %+v", r, err, s.seen)
		}
		if r, err = c.Await(t.Context(), r); err != nil || r.State != client.Accepted || r.Version != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestSubmitReserve(t *testing.T) {
	const body = `{"mode":"reserve","name":"Alice","owner":"u-17","ttl_seconds":60}`
	scripted(t, []step{{status: 202, body: pending}}, func(t *testing.T, c *client.Client, s *script) {
		r, err := c.SubmitReserve(t.Context(), alice, time.Minute)
		if err != nil || r.State != client.Pending || s.seen[0].prefer != "respond-async" || s.seen[0].body != body {
			t.Errorf("%+v, %v, %+v", r, err, s.seen)
		}
	})
}

func TestGet(t *testing.T) {
	scripted(t, []step{{err: reset}, {status: 200, body: accepted}, problem(404, "unknown_claim", ""), problem(409, "ambiguous_id", `,"claim_id":"`+id+`"`)},
		func(t *testing.T, c *client.Client, s *script) {
			if r, err := c.Get(t.Context(), id); err != nil || r.State != client.Accepted || s.seen[0].url != "/base/v1/claims/"+id {
				t.Errorf("%+v, %v", r, err)
			}
			for _, reason := range []string{"unknown_claim", "ambiguous_id"} {
				var p *client.Problem
				if _, err := c.Get(t.Context(), id); !errors.As(err, &p) || p.Reason != reason {
					t.Errorf("%v, want %s", err, reason)
				}
			}
		})
}

func TestName(t *testing.T) {
	scripted(t, []step{
		{status: 200, body: `{"space":"username","name":"Alice","key":"alice","available":false,"reason":"taken","state":"registered","owner":"u-17","version":2,"claim_id":"` + id + `"}`},
		problem(404, "unknown_space", ""),
		{err: reset},
	}, func(t *testing.T, c *client.Client, s *script) {
		n, err := c.Name(t.Context(), "username", "a/b c%")
		want := client.Name{Space: "username", Name: "Alice", Key: "alice", Reason: "taken", State: "registered", Owner: "u-17", Version: 2, ClaimID: id}
		if err != nil || n != want || s.seen[0].url != "/base/v1/names/username/a%2Fb%20c%25" {
			t.Errorf("%+v, %v, %s", n, err, s.seen[0].url)
		}
		if _, err = c.Name(t.Context(), "pets", "x"); err == nil || errors.Is(err, client.ErrUnreachable) {
			t.Errorf("%v", err)
		}
		if _, err = c.Name(t.Context(), "pets", "x"); !errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrUndecided) {
			t.Errorf("%v", err)
		}
	})
}

// TestPrivate: a claim of several fields, whose answer has a key and no name, and what the key of a value is.
func TestPrivate(t *testing.T) {
	const keyed = `{"claim_id":"` + id + `","state":"accepted","version":1,"space":"member","key":"h1:00","owner":"u-17","partition":7,"log_epoch":1,"offset":4711}`
	scripted(t, []step{
		{status: 201, body: keyed},
		{status: 200, body: `{"space":"member","key":"h1:00","record_key":"member/h1:00","partition":3}`},
		{status: 200, body: `{"space":"email","key":"h1:01","record_key":"email/h1:01","partition":4}`},
	}, func(t *testing.T, c *client.Client, s *script) {
		fields := map[string]string{"tenant": "acme", "email": "ada@example.com"}
		r, err := c.Claim(t.Context(), client.Claim{Space: "member", Fields: fields, Owner: "u-17", IdempotencyKey: "k"})
		if err != nil || r.Key != "h1:00" || r.Name != "" || r.Space != "member" {
			t.Errorf("%+v, %v", r, err)
		}
		k, err := c.Lookup(t.Context(), "member", "", fields)
		if want := (client.Key{Space: "member", Key: "h1:00", RecordKey: "member/h1:00", Partition: 3}); err != nil || k != want {
			t.Errorf("%+v, %v", k, err)
		}
		if _, err := c.Lookup(t.Context(), "email", "ada@example.com", nil); err != nil {
			t.Error(err)
		}
		for i, want := range []string{
			`/base/v1/claims {"fields":{"email":"ada@example.com","tenant":"acme"},"owner":"u-17","space":"member"}`,
			`/base/v1/lookups {"fields":{"email":"ada@example.com","tenant":"acme"},"space":"member"}`, `/base/v1/lookups {"name":"ada@example.com","space":"email"}`,
		} {
			if got := s.seen[i].url + " " + s.seen[i].body; got != want {
				t.Errorf("asked\n%s, want\n%s", got, want)
			}
		}
	})
}

func TestNotDibs(t *testing.T) {
	for _, st := range []step{{status: 200, body: "<html>", headers: "Content-Type: text/html"}, {status: 200, body: "{}"}, {status: 304}} {
		scripted(t, []step{st}, func(t *testing.T, c *client.Client, s *script) {
			if r, err := c.Claim(t.Context(), alice); err == nil || !strings.Contains(err.Error(), "not dibs") || len(s.seen) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestNewRefusesAddresses(t *testing.T) {
	for _, address := range []string{"", "localhost:8080", "ftp://x", "http://", "http://x?y=z", "http://x#y", "::"} {
		if _, err := client.New(address); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
	if _, err := client.New("https://dibs.example.org/prefix/"); err != nil {
		t.Error(err)
	}
}

// A host that does not exist is not asked for a minute.
func TestNoSuchHost(t *testing.T) {
	gone := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "api.test", IsNotFound: true}}
	scripted(t, []step{{err: gone}}, func(t *testing.T, c *client.Client, s *script) {
		if _, err := c.Claim(t.Context(), alice); !errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrUndecided) || len(s.seen) != 1 {
			t.Errorf("%v after %d requests", err, len(s.seen))
		}
	})
}
