package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
)

const (
	request   = "9d1c1a52-6e0b-4a0e-9c67-0a3a2f6f5a11"
	about     = `"space":"username","name":"Alice","key":"alice","owner":"u-17","partition":7,"log_epoch":1,"offset":4712}`
	confirmed = `{"claim_id":"` + id + `","request_id":"` + request + `","type":"ConfirmRequested","state":"accepted","version":2,` + about
	later     = `{"claim_id":"` + id + `","request_id":"` + request + `","type":"ConfirmRequested","state":"pending",` + about
)

var ada = client.By{Actor: "ada", Reason: "ticket 4711"}

const byAda = `{"actor":"ada","reason":"ticket 4711"}`

// calls are all that can be asked beside a claim.
var calls = []struct {
	do              func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error)
	url, body, what string
	ofName          bool
}{
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Confirm(ctx, id, "u-17", o...)
	}, "/base/v1/claims/" + id + "/confirm", `{"owner":"u-17"}`, "confirm", false},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Extend(ctx, id, "u-17", 90*time.Second, o...)
	}, "/base/v1/claims/" + id + "/extend", `{"owner":"u-17","ttl_seconds":90}`, "extend", false},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Withdraw(ctx, id, "u-17", append(o, client.Undecided("username", "Alice"))...)
	}, "/base/v1/claims/" + id + "/withdraw", `{"name":"Alice","owner":"u-17","space":"username"}`, "withdraw", false},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Release(ctx, "username", "a/b", "u-17", o...)
	}, "/base/v1/names/username/a%2Fb/release", `{"owner":"u-17"}`, "release", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Rename(ctx, "username", "Alice", "u-17", "Alicia", o...)
	}, "/base/v1/names/username/Alice/rename", `{"owner":"u-17","to":"Alicia"}`, "rename", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Transfer(ctx, "username", "Alice", "u-17", "u-18", o...)
	}, "/base/v1/names/username/Alice/transfer", `{"new_owner":"u-18","owner":"u-17"}`, "transfer", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Deactivate(ctx, "username", "Alice", "u-17", o...)
	}, "/base/v1/names/username/Alice/deactivate", `{"owner":"u-17"}`, "deactivate", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.Reactivate(ctx, "username", "Alice", "u-17", o...)
	}, "/base/v1/names/username/Alice/reactivate", `{"owner":"u-17"}`, "reactivate", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.AdminRelease(ctx, "username", "Alice", ada, o...)
	}, "/base/v1/admin/names/username/Alice/release", byAda, "admin release", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.AdminTransfer(ctx, "username", "Alice", "u-18", ada, o...)
	}, "/base/v1/admin/names/username/Alice/transfer", `{"actor":"ada","new_owner":"u-18","reason":"ticket 4711"}`, "admin transfer", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.AdminBlock(ctx, "username", "a/b", ada, o...)
	}, "/base/v1/admin/names/username/a%2Fb/block", byAda, "block", true},
	{func(ctx context.Context, c *client.Client, o ...client.RequestOption) (client.Result, error) {
		return c.AdminUnblock(ctx, "username", "Alice", ada, o...)
	}, "/base/v1/admin/names/username/Alice/unblock", byAda, "unblock", true},
}

// Each is one request, tried again under one key, and followed by its own id.
func TestOrders(t *testing.T) {
	for _, call := range calls {
		t.Run(call.what, func(t *testing.T) {
			steps := []step{{err: reset}, problem(503, "unavailable", ""), {status: 202, body: later}, {status: 200, body: confirmed}}
			for _, key := range []string{"", "mine"} {
				scripted(t, steps, func(t *testing.T, c *client.Client, s *script) {
					options := []client.RequestOption{client.IfVersion(3)}
					if key != "" {
						options = append(options, client.IdempotencyKey(key))
					}
					r, err := call.do(t.Context(), c, options...)
					if err != nil || r.State != client.Accepted || r.ID != id || r.RequestID != request || r.Version != 2 || len(s.seen) != 4 {
						t.Fatalf("%+v, %v after %d requests", r, err, len(s.seen))
					}
					for _, got := range s.seen[:3] {
						match := map[bool]string{true: `"3"`}[call.ofName]
						if got.method != "POST" || got.url != call.url || got.body != call.body || got.key != s.seen[0].key || got.key == "" || got.match != match {
							t.Errorf("%+v", got)
						}
						if key != "" && got.key != key {
							t.Errorf("the key is %q", got.key)
						}
					}
					if got := s.seen[3]; got.url != "/base/v1/claims/"+request+"?at=7-1-4712" {
						t.Errorf("it was looked for at %s", got.url)
					}
				})
			}
		})
	}
}

func TestOrdersRejected(t *testing.T) {
	for _, call := range calls {
		for _, test := range []struct {
			step step
			want client.Result
		}{
			{problem(403, "not_owner", `,"claim_id":"`+id+`","request_id":"`+request+`","detail":"no"`), client.Result{ID: id, RequestID: request, Reason: "not_owner", Detail: "no"}},
			{problem(409, "wrong_state", ``), client.Result{Reason: "wrong_state"}}, // beforehand
			{problem(412, "version_conflict", `,"current_version":4`), client.Result{Reason: "version_conflict", CurrentVersion: 4}},
		} {
			scripted(t, []step{test.step}, func(t *testing.T, c *client.Client, s *script) {
				r, err := call.do(t.Context(), c)
				if err != nil || r.State != client.Rejected || r.ID != test.want.ID || r.RequestID != test.want.RequestID || r.Reason != test.want.Reason ||
					r.Detail != test.want.Detail || r.CurrentVersion != test.want.CurrentVersion || !strings.Contains(call.url, "/admin/") && r.Owner != "u-17" || len(s.seen) != 1 {
					t.Errorf("%s: %+v, %v", call.what, r, err)
				}
			})
		}
		for _, st := range []step{problem(404, "unknown_claim", ""), problem(409, "ambiguous_id", `,"claim_id":"`+id+`"`), problem(403, "not_allowed", ""), problem(422, "invalid_request", "")} {
			scripted(t, []step{st}, func(t *testing.T, c *client.Client, s *script) {
				var p *client.Problem
				if r, err := call.do(t.Context(), c); !errors.As(err, &p) || !strings.HasPrefix(err.Error(), call.what+": ") || len(s.seen) != 1 {
					t.Errorf("%s: %+v, %v", call.what, r, err)
				}
			})
		}
		scripted(t, []step{problem(503, "outcome_unknown", `,"claim_id":"`+id+`","request_id":"`+request+`"`)}, func(t *testing.T, c *client.Client, _ *script) {
			r, err := call.do(t.Context(), c)
			if !errors.Is(err, client.ErrUndecided) || r.RequestID != request || r.State != client.Pending {
				t.Errorf("%s: %+v, %v", call.what, r, err)
			}
		})
	}
}

func TestReserve(t *testing.T) {
	const body = `{"mode":"reserve","name":"Alice","owner":"u-17","replaces":{"name":"Bob"},"ttl_seconds":60}`
	answer := `{"claim_id":"` + id + `","request_id":"` + id + `","state":"accepted","version":1,"expires_at":"2026-11-21T10:01:00.123Z",` + place
	scripted(t, []step{{status: 201, body: answer}}, func(t *testing.T, c *client.Client, s *script) {
		r, err := c.Reserve(t.Context(), client.Claim{Name: "Alice", Owner: "u-17", Replaces: &client.Replaces{Name: "Bob"}}, time.Minute)
		if err != nil || !r.ExpiresAt.Equal(time.Date(2026, 11, 21, 10, 1, 0, 123e6, time.UTC)) || s.seen[0].body != body {
			t.Errorf("%+v, %v, %s", r, err, s.seen[0].body)
		}
		if _, err := c.Reserve(t.Context(), alice, 0); err != nil || s.seen[1].body != `{"mode":"reserve","name":"Alice","owner":"u-17"}` {
			t.Errorf("%v, %s", err, s.seen[1].body)
		}
	})
}

// What becomes of a claim whose wait runs out is followed until it is settled.
func TestWithdrawOnTimeout(t *testing.T) {
	state := func(s string) string {
		return `{"claim_id":"` + id + `","request_id":"` + id + `","state":"` + s + `",` + place
	}
	steps := []step{{status: 202, body: state("withdrawing"), takes: 9 * time.Second}, {status: 200, body: state("withdrawing")}, {status: 200, body: state("withdrawn")}}
	scripted(t, steps, func(t *testing.T, c *client.Client, s *script) {
		claim := alice
		claim.WithdrawOnTimeout = true
		r, err := c.Claim(t.Context(), claim)
		if err != nil || r.State != client.Withdrawn || len(s.seen) != 3 || !strings.Contains(s.seen[0].body, `"on_timeout":"withdraw"`) {
			t.Errorf("%+v, %v, %+v", r, err, s.seen)
		}
		for _, got := range s.seen[1:] {
			if got.url != "/base/v1/claims/"+id+"?at=7-1-4711&on_timeout=withdraw" {
				t.Errorf("it was looked for at %s", got.url)
			}
		}
		// It needs a wait, however little time there is.
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := c.Claim(ctx, claim); err != nil || s.seen[3].prefer != "wait=1" {
			t.Errorf("%v, %+v", err, s.seen[3])
		}
		if _, err := c.Submit(t.Context(), claim); err == nil || len(s.seen) != 4 {
			t.Errorf("it was submitted: %v", err)
		}
	})
}

func TestUpdate(t *testing.T) {
	name := func(version int) step {
		return step{status: 200, body: fmt.Sprintf(`{"space":"username","name":"Alice","key":"alice","available":false,"state":"registered","owner":"u-17","version":%d}`, version)}
	}
	conflict := problem(412, "version_conflict", `,"claim_id":"`+id+`","current_version":9`)
	scripted(t, []step{name(1), conflict, name(2), conflict, name(3), {status: 200, body: confirmed}}, func(t *testing.T, c *client.Client, s *script) {
		var versions []int64
		r, err := c.Update(t.Context(), "username", "alice", func(ctx context.Context, n client.Name) (client.Result, error) {
			versions = append(versions, n.Version)
			return c.Release(ctx, "username", "alice", n.Owner, client.IfVersion(n.Version))
		})
		if err != nil || r.State != client.Accepted || fmt.Sprint(versions) != "[1 2 3]" || s.seen[1].key == s.seen[3].key {
			t.Errorf("%+v, %v, %v", r, err, versions)
		}
	})
	// Another rejection, an error and a name that cannot be read end it; so does time.
	release := func(c *client.Client) (client.Result, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return c.Update(ctx, "username", "alice", func(ctx context.Context, n client.Name) (client.Result, error) {
			return c.Release(ctx, "username", "alice", "u-17", client.IfVersion(n.Version))
		})
	}
	scripted(t, []step{name(1), problem(403, "not_owner", `,"claim_id":"`+id+`"`)}, func(t *testing.T, c *client.Client, s *script) {
		if r, err := release(c); err != nil || r.Reason != "not_owner" || len(s.seen) != 2 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	scripted(t, []step{name(1), problem(422, "invalid_request", "")}, func(t *testing.T, c *client.Client, s *script) {
		if r, err := release(c); err == nil || len(s.seen) != 2 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	scripted(t, []step{problem(404, "unknown_space", "")}, func(t *testing.T, c *client.Client, s *script) {
		if r, err := release(c); err == nil || len(s.seen) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	endless := []step{}
	for range 500 {
		endless = append(endless, name(1), conflict)
	}
	scripted(t, endless, func(t *testing.T, c *client.Client, s *script) {
		start := time.Now()
		if r, err := release(c); !errors.Is(err, context.DeadlineExceeded) || r.Reason != "version_conflict" || time.Since(start) != 5*time.Second || len(s.seen) > 100 {
			t.Errorf("%+v, %v after %s and %d requests", r, err, time.Since(start), len(s.seen))
		}
	})
}
