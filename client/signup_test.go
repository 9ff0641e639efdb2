package client_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
)

const (
	signupNames    = `"names":[{"space":"username","name":"Alice","key":"alice","claim_id":"` + id + `","state":"registered"}]`
	signupPlace    = `"owner":"u-17","partition":7,"log_epoch":1,"offset":4711,"decided_at":"2026-11-21T10:00:00.123Z",` + signupNames + `}`
	signupAccepted = `{"signup_id":"` + id + `","state":"accepted",` + signupPlace
	signupPending  = `{"signup_id":"` + id + `","state":"pending","owner":"u-17","partition":7,"log_epoch":1,"offset":4700,"names":[]}`
)

var couple = client.SignUp{
	Owner: "u-17", TTL: 30 * time.Second, IdempotencyKey: "k",
	Names: []client.WantedName{{Name: "Alice"}, {Space: "invoice-number", Name: "in-1"}},
}

func TestSignUp(t *testing.T) {
	scripted(t, []step{
		{err: errors.New("connection reset")}, {status: 202, body: signupPending}, {status: 200, body: signupPending, takes: 30 * time.Second},
		{status: 200, body: signupAccepted},
	}, func(t *testing.T, c *client.Client, s *script) {
		r, err := c.SignUp(t.Context(), couple)
		want := client.SignUpResult{
			ID: id, Owner: "u-17", State: client.Accepted, DecidedAt: time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC), Position: "7-1-4711",
			Names: []client.SignUpName{{Space: "username", Name: "Alice", Key: "alice", ClaimID: id, State: "registered"}},
		}
		if err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("%+v, %v, want %+v", r, err, want)
		}
		const body = `{"names":[{"name":"Alice"},{"name":"in-1","space":"invoice-number"}],"owner":"u-17","ttl_seconds":30}`
		urls := []string{"/base/v1/signups", "/base/v1/signups", "/base/v1/signups/" + id + "?at=7-1-4700", "/base/v1/signups/" + id + "?at=7-1-4700"}
		if !reflect.DeepEqual(s.urls(), urls) {
			t.Errorf("asked for %q", s.urls())
		}
		for _, got := range s.seen[:2] {
			if got.body != body || got.key != "k" {
				t.Errorf("asked %s under %q", got.body, got.key)
			}
		}
	})
}

func TestSignUpRejected(t *testing.T) {
	scripted(t, []step{problem(409, "taken", `,"claim_id":"`+id+`","detail":"username/alice: the name is taken"`)}, func(t *testing.T, c *client.Client, s *script) {
		r, err := c.SignUp(t.Context(), couple)
		want := client.SignUpResult{ID: id, Owner: "u-17", State: client.Rejected, Reason: "taken", Detail: "username/alice: the name is taken"}
		if err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("%+v, %v, want %+v", r, err, want)
		}
	})
}

func TestSignUpRefused(t *testing.T) {
	scripted(t, []step{problem(422, "invalid_name", `,"errors":[{"field":"names[0].name","detail":"is too short"}]`)}, func(t *testing.T, c *client.Client, s *script) {
		_, err := c.SignUp(t.Context(), couple)
		var p *client.Problem
		if !errors.As(err, &p) || p.Reason != "invalid_name" || len(p.Errors) != 1 {
			t.Errorf("%v", err)
		}
	})
}

// What is not decided in time is undecided, and the result says which it is.
func TestSignUpUndecided(t *testing.T) {
	scripted(t, []step{{status: 202, body: signupPending}, {status: 200, body: signupPending, takes: 20 * time.Second}}, func(t *testing.T, c *client.Client, s *script) {
		r, err := c.SignUp(t.Context(), couple)
		if !errors.Is(err, client.ErrUndecided) || r.ID != id || r.State != client.Pending || r.Position != "7-1-4700" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestGetSignUp(t *testing.T) {
	scripted(t, []step{{status: 200, body: signupPending}, problem(404, "unknown_claim", "")}, func(t *testing.T, c *client.Client, s *script) {
		if r, err := c.GetSignUp(t.Context(), id); err != nil || r.State != client.Pending {
			t.Errorf("%+v, %v", r, err)
		}
		var p *client.Problem
		if _, err := c.GetSignUp(t.Context(), id); !errors.As(err, &p) || p.Reason != "unknown_claim" {
			t.Errorf("%v", err)
		}
	})
}
