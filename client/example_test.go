package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// A name is claimed, once.
func ExampleClient_Claim() {
	url, stop := startTiny(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := client.New(url, client.WithKey("gateway.the-secret-of-that-key"))
	if err != nil {
		panic(err)
	}
	for _, owner := range []string{"u-17", "u-18"} {
		result, err := c.Claim(ctx, client.Claim{Name: "Alice", Owner: owner})
		if err != nil {
			panic(err) // the API is away, or did not like the request
		}
		switch result.State {
		case client.Accepted:
			fmt.Printf("%s has %s, version %d\n", owner, result.Name, result.Version)
		case client.Rejected:
			fmt.Printf("%s does not get %s: %s\n", owner, result.Name, result.Reason)
		}
	}
	// Output:
	// u-17 has Alice, version 1
	// u-18 does not get Alice: taken
}

// With an IdempotencyKey a claim can be repeated, also by another process.
func ExampleClient_Claim_again() {
	url, stop := startTiny(nil)
	defer stop()
	c := must(client.New(url))

	claim := client.Claim{Name: "Alice", Owner: "u-17", IdempotencyKey: "signup-4711"}
	first := must(c.Claim(context.Background(), claim))
	again := must(c.Claim(context.Background(), claim))
	fmt.Println(first.State, first.Replayed)
	fmt.Println(again.State, again.Replayed, first.ID == again.ID)
	// Output:
	// accepted false
	// accepted true true
}

// A version that is expected makes a claim safe against changes in between.
func ExampleClient_Claim_expectedVersion() {
	url, stop := startTiny(nil)
	defer stop()
	c := must(client.New(url))

	free := int64(0)
	claim := client.Claim{Name: "Alice", Owner: "u-17", ExpectedVersion: &free}
	must(c.Claim(context.Background(), claim))
	result := must(c.Claim(context.Background(), claim))
	fmt.Println(result.State, result.Reason, result.CurrentVersion)
	// Output:
	// rejected version_conflict 1
}

// A request that cannot be had is refused, with the fields that are wrong.
func ExampleProblem() {
	url, stop := startTiny(nil)
	defer stop()
	c := must(client.New(url))

	_, err := c.Claim(context.Background(), client.Claim{Name: "a", Owner: "u-17"})
	var problem *client.Problem
	if errors.As(err, &problem) {
		fmt.Println(problem.Status, problem.Reason)
		for _, e := range problem.Errors {
			fmt.Println(e.Field, e.Detail)
		}
	}
	// Output:
	// 422 invalid_name
	// name is too short: at least 3 characters
}

// Time is up before the claim is decided: it is not lost, and can be waited for again.
func ExampleClient_Await() {
	decide := make(chan struct{})
	url, stop := startTiny(decide)
	defer stop()
	c := must(client.New(url))

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	result, err := c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"})
	fmt.Println(result.State, errors.Is(err, client.ErrUndecided))

	close(decide)
	result = must(c.Await(context.Background(), result))
	fmt.Println(result.State)
	// Output:
	// pending true
	// accepted
}

// A name is reserved while something else is done, and confirmed when that went well.
func ExampleClient_Reserve() {
	url, stop := startTiny(nil)
	defer stop()
	c, ctx := must(client.New(url)), context.Background()

	reserved := must(c.Reserve(ctx, client.Claim{Name: "Alice", Owner: "u-17"}, 10*time.Minute))
	name := must(c.Name(ctx, "username", "alice"))
	fmt.Println(reserved.State, name.State, reserved.ExpiresAt.Equal(name.ExpiresAt))

	extended := must(c.Extend(ctx, reserved.ID, "u-17", time.Hour))
	fmt.Println(extended.State, extended.ExpiresAt.After(reserved.ExpiresAt))
	confirmed := must(c.Confirm(ctx, reserved.ID, "u-17"))
	name = must(c.Name(ctx, "username", "alice"))
	fmt.Println(confirmed.State, name.State, name.Version)
	// Output:
	// accepted reserved true
	// accepted true
	// accepted registered 3
}

// What was to be done with the name did not go well: it is free again, at once.
func ExampleClient_Withdraw() {
	url, stop := startTiny(nil)
	defer stop()
	c, ctx := must(client.New(url)), context.Background()

	reserved := must(c.Reserve(ctx, client.Claim{Name: "Alice", Owner: "u-17"}, 10*time.Minute))
	must(c.Withdraw(ctx, reserved.ID, "u-17"))
	fmt.Println(must(c.Name(ctx, "username", "alice")).Available)
	late := must(c.Confirm(ctx, reserved.ID, "u-17"))
	fmt.Println(late.State, late.Reason)
	// Output:
	// true
	// rejected unknown_claim
}

// A name is given up for another: there is no moment with neither.
func ExampleClient_Rename() {
	url, stop := startTiny(nil)
	defer stop()
	c, ctx := must(client.New(url)), context.Background()

	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"}))
	renamed := must(c.Rename(ctx, "username", "Alice", "u-17", "Alicia"))
	fmt.Println(renamed.State, renamed.Name)
	fmt.Println(must(c.Name(ctx, "username", "alice")).Available, must(c.Name(ctx, "username", "alicia")).Owner)

	again := must(c.Rename(ctx, "username", "Alice", "u-17", "Alma"))
	fmt.Println(again.State, again.Reason)
	// Output:
	// accepted Alicia
	// true u-17
	// rejected not_owner
}

// A change of e-mail, or of anything else that takes a while: the new name is reserved, and the old one released when the
// new one is confirmed.
func ExampleClient_Reserve_rename() {
	url, stop := startTiny(nil)
	defer stop()
	c, ctx := must(client.New(url)), context.Background()

	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"}))
	reserved := must(c.Reserve(ctx, client.Claim{Name: "Alicia", Owner: "u-17", Replaces: &client.Replaces{Name: "Alice"}}, time.Hour))
	fmt.Println(must(c.Name(ctx, "username", "alice")).State)
	must(c.Confirm(ctx, reserved.ID, "u-17"))
	fmt.Println(must(c.Name(ctx, "username", "alice")).State)
	// Output:
	// registered
	// free
}

// A name is handed over, made inactive, and given up.
func ExampleClient_Transfer() {
	url, stop := startTiny(nil)
	defer stop()
	c, ctx := must(client.New(url)), context.Background()

	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"}))
	for _, result := range []client.Result{
		must(c.Transfer(ctx, "username", "alice", "u-17", "u-18")),
		must(c.Deactivate(ctx, "username", "alice", "u-18", client.IfVersion(2))),
		must(c.Reactivate(ctx, "username", "alice", "u-18", client.IdempotencyKey("back-4711"))),
		must(c.Release(ctx, "username", "alice", "u-17")),
		must(c.Release(ctx, "username", "alice", "u-18")),
	} {
		fmt.Printf("%s %d %q\n", result.State, result.Version, result.Reason)
	}
	// Output:
	// accepted 2 ""
	// accepted 3 ""
	// accepted 4 ""
	// rejected 0 "not_owner"
	// accepted 5 ""
}

// Somebody is faster: the name is read again, and what is to be done is decided again.
func ExampleClient_Update() {
	url, stop := startTiny(nil)
	defer stop()
	c, ctx := must(client.New(url)), context.Background()
	must(c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"}))

	faster := true
	result := must(c.Update(ctx, "username", "alice", func(ctx context.Context, n client.Name) (client.Result, error) {
		fmt.Println("version", n.Version)
		if faster {
			must(c.Rename(ctx, "username", "alice", "u-17", "ALICE"))
			faster = false
		}
		return c.Transfer(ctx, "username", "alice", n.Owner, "u-18", client.IfVersion(n.Version))
	}))
	fmt.Println(result.State, result.Owner, result.Version)
	// Output:
	// version 1
	// version 2
	// accepted u-18 3
}

// Who holds a name is advice: only a claim decides.
func ExampleClient_Name() {
	url, stop := startTiny(nil)
	defer stop()
	c := must(client.New(url))

	must(c.Claim(context.Background(), client.Claim{Name: "Alice", Owner: "u-17"}))
	for _, name := range []string{"ALICE", "bob", "postmaster"} {
		n := must(c.Name(context.Background(), "username", name))
		fmt.Printf("%s available=%t reason=%q owner=%q\n", n.Key, n.Available, n.Reason, n.Owner)
	}
	// Output:
	// alice available=false reason="taken" owner="u-17"
	// bob available=true reason="" owner=""
	// postmaster available=false reason="reserved_word" owner=""
}

// A client gives its connections back.
func TestConnectionsAreReused(t *testing.T) {
	url, stop := startTiny(nil)
	defer stop()
	c := must(client.New(url))
	fresh := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			fresh++
		}
	}})
	for i := range 5 {
		if _, err := c.Claim(ctx, client.Claim{Name: fmt.Sprintf("name%d", i), Owner: "u"}); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Claim(ctx, client.Claim{Name: fmt.Sprintf("name%d", i), Owner: "v"}); err != nil || r.State != client.Rejected {
			t.Fatal(r, err)
		}
	}
	if fresh != 1 {
		t.Errorf("%d connections for 10 claims one after another", fresh)
	}
}
