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
