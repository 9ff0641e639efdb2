package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/client"
)

// What happened to a name, and who did it.
func ExampleClient_History() {
	url, stop := startTiny(nil)
	defer stop()
	ctx, c := context.Background(), must(client.New(url))

	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"}))
	must(c.AdminBlock(ctx, "username", "alice", client.By{Actor: "ada", Reason: "ticket 4711"}))
	for entry, err := range c.History(ctx, "username", "alice", 0) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d %s owner=%q actor=%q reason=%q\n", entry.Version, entry.Outcome, entry.Owner, entry.Actor, entry.Reason)
	}
	// Output:
	// 1 Accepted owner="u-17" actor="" reason=""
	// 2 Released owner="u-17" actor="" reason=""
	// 3 Blocked owner="" actor="ada" reason="ticket 4711"
}

// The names that an owner holds.
func ExampleClient_OwnerNames() {
	url, stop := startTiny(nil)
	defer stop()
	ctx, c := context.Background(), must(client.New(url))

	for _, name := range []string{"Bob", "Alice", "Carol"} {
		must(c.Claim(ctx, client.Claim{Name: name, Owner: "u-17"}))
	}
	must(c.Release(ctx, "username", "bob", "u-17"))
	for name, err := range c.OwnerNames(ctx, "u-17") {
		if err != nil {
			panic(err)
		}
		fmt.Println(name.Name, name.State)
	}
	// Output:
	// Alice registered
	// Carol registered
}

// Whoever has lost a name to a mistake gets it back from an admin, without a moment in which it is free.
func ExampleClient_AdminTransfer() {
	url, stop := startTiny(nil)
	defer stop()
	ctx, c := context.Background(), must(client.New(url))

	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-18"}))
	result := must(c.AdminTransfer(ctx, "username", "alice", "u-17", client.By{Actor: "ada", Reason: "ticket 4711"}))
	fmt.Println(result.State, result.Owner, result.Version)
	// Output:
	// accepted u-17 2
}

// What follows a rename shows on its result.
func TestFollowUp(t *testing.T) {
	url, stop := startTiny(nil)
	defer stop()
	ctx, c := context.Background(), must(client.New(url))
	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"}))
	result := must(c.Rename(ctx, "username", "alice", "u-17", "Alma"))
	want := client.FollowUp{RequestID: result.FollowUp.RequestID, Space: "username", Key: "alice", Version: 1, State: client.FollowUpPending}
	if *result.FollowUp != want {
		t.Errorf("at first it is %+v", *result.FollowUp)
	}
	want.State = client.FollowUpReleased
	if result = must(c.Get(ctx, result.ID)); *result.FollowUp != want {
		t.Errorf("then it is %+v", *result.FollowUp)
	}
	if released := must(c.Get(ctx, want.RequestID)); released.Type != "ReleaseRequested" || released.FollowUp != nil {
		t.Errorf("the release is %+v", released)
	}
}

// Pages are read one after another, and no further than is asked for; what fails on the way is tried again.
func TestPages(t *testing.T) {
	const (
		first  = `{"space":"username","key":"alice","entries":[{"version":1,"outcome":"Accepted","at":"2026-11-21T10:00:00Z","partition":1,"log_epoch":2,"offset":3}],"next":7}`
		second = `{"space":"username","key":"alice","entries":[{"version":7,"outcome":"Blocked","at":"2026-11-21T10:00:00Z","partition":1,"log_epoch":2,"offset":4}]}`
		one    = `{"owner":"u/17","names":[{"space":"username","name":"Alice","key":"alice","available":false,"state":"registered","version":1}],"next":"eA"}`
		two    = `{"owner":"u/17","names":[]}`
	)
	read := func(c *client.Client, most int) (got []string) {
		for e, err := range c.History(context.Background(), "username", "a/b", 1) {
			if got = append(got, fmt.Sprint(e.Version, e.Outcome, e.Position, err)); len(got) == most {
				break
			}
		}
		return got
	}
	scripted(t, []step{{status: 200, body: first}, problem(503, "unavailable", ""), {status: 200, body: second}}, func(t *testing.T, c *client.Client, s *script) {
		if got := strings.Join(read(c, 9), "; "); got != "1Accepted1-2-3<nil>; 7Blocked1-2-4<nil>" {
			t.Errorf("read %s", got)
		}
		if got := s.urls(); !strings.HasPrefix(got[0], "/base/v1/names/username/a%2Fb/history?from=1&limit=") || !strings.Contains(got[2], "from=7&") {
			t.Errorf("asked %q", got)
		}
	})
	scripted(t, []step{{status: 200, body: first}}, func(t *testing.T, c *client.Client, _ *script) {
		if got := read(c, 1); len(got) != 1 {
			t.Errorf("read %q", got)
		}
	})
	scripted(t, []step{{status: 200, body: first}, problem(404, "unknown_space", "")}, func(t *testing.T, c *client.Client, _ *script) {
		if got := read(c, 9); len(got) != 2 || !strings.Contains(got[1], "unknown_space") {
			t.Errorf("read %q", got)
		}
	})
	scripted(t, []step{{status: 200, body: one}, {status: 200, body: two}, {status: 200, body: `x`}}, func(t *testing.T, c *client.Client, s *script) {
		var got []string
		for n, err := range c.OwnerNames(context.Background(), "u/17") {
			got = append(got, n.Key, fmt.Sprint(err))
		}
		if strings.Join(got, " ") != "alice <nil>" {
			t.Errorf("read %q", got)
		}
		if got := s.urls(); !strings.HasPrefix(got[0], "/base/v1/owners/u%2F17/names?limit=500") || !strings.Contains(got[1], "after=eA&") {
			t.Errorf("asked %q", got)
		}
		for _, err := range c.OwnerNames(context.Background(), "u/17", client.InSpace("a&b")) {
			if p := (*client.Problem)(nil); err == nil || errors.As(err, &p) {
				t.Errorf("of what is no answer: %v", err)
			}
		}
		if got := s.urls(); !strings.Contains(got[2], "?space=a%26b") && !strings.Contains(got[2], "&space=a%26b") || strings.Contains(got[2], "after") {
			t.Errorf("asked %q", got)
		}
	})
}
