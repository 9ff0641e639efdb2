package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestOneNameHasOneWinner: 500 at once, over two APIs. Once as it comes, and once all in one batch, because nobody
// processes until all are in the log.
func TestOneNameHasOneWinner(t *testing.T) {
	t.Parallel()
	const callers = 500
	d := deploy(t, 12)
	d.calm = true
	apis := []*process{d.start("api"), d.start("api")}
	processor := d.start("processor").ready()
	d.assigned(30*time.Second, processor)
	for _, api := range apis {
		api.ready()
	}
	for _, test := range []struct {
		name string
		away bool
	}{{"Contested", false}, {"Awaited", true}} {
		before := d.written()
		if test.away {
			processor.stop()
		}
		answers := make([]answer, callers)
		gate := make(chan struct{})
		var calls sync.WaitGroup
		for i := range answers {
			calls.Go(func() {
				<-gate
				// The wait is long so that a slow machine shows as nothing but slow.
				answers[i] = d.claim(apis[i%2], asked{name: test.name, owner: fmt.Sprintf("u-%d", i), prefer: "wait=30"})
			})
		}
		began := time.Now()
		close(gate)
		if test.away {
			eventually(t, 30*time.Second, func() error {
				if n := d.written() - before; n < callers {
					return fmt.Errorf("%d claims are in the log", n)
				}
				return nil
			})
			processor = d.again(processor)
		}
		calls.Wait()
		took := time.Since(began)

		winner, taken := "", 0
		for i, a := range answers {
			switch {
			case a.err != nil:
				t.Errorf("caller %d: %v", i, a.err)
			case a.status == http.StatusCreated && winner == "":
				winner = fmt.Sprintf("u-%d", i)
			case a.status == http.StatusConflict && a.claim.Reason == "taken":
				taken++
			default:
				t.Errorf("caller %d: %s", i, a)
			}
		}
		if winner == "" || taken != callers-1 {
			t.Fatalf("winner %q, %d taken; want one winner and %d", winner, taken, callers-1)
		}
		t.Logf("%d claims of one name over 2 APIs in %s: 1 × 201, %d × 409 taken", callers, took.Round(time.Millisecond), taken)
		for _, api := range apis {
			if a := d.look(api, "/v1/names/username/"+strings.ToLower(test.name), ""); a.claim.Owner != winner {
				t.Errorf("%s says that %q has the name; %s was told it has", api.name, a.claim.Owner, winner)
			}
		}
	}
	d.settled(30 * time.Second)
	d.check()
}

// TestOneKeyHasOneOutcome: the same Idempotency-Key 50 times at once, over two APIs.
func TestOneKeyHasOneOutcome(t *testing.T) {
	t.Parallel()
	const calls = 50
	d := deploy(t, 3)
	d.calm = true
	apis := []*process{d.start("api"), d.start("api")}
	d.assigned(30*time.Second, d.start("processor").ready())
	for _, api := range apis {
		api.ready()
	}
	if a := d.claim(apis[0], asked{name: "held", owner: "somebody"}); a.status != http.StatusCreated {
		t.Fatal(a)
	}
	for _, test := range []struct {
		name   string
		status int
	}{{"wanted", http.StatusCreated}, {"held", http.StatusConflict}} {
		answers := make([]answer, calls)
		gate := make(chan struct{})
		var under sync.WaitGroup
		for i := range answers {
			under.Go(func() {
				<-gate
				answers[i] = d.claim(apis[i%2], asked{name: test.name, owner: "u-1", key: "sign-up 4711", prefer: "wait=30"})
			})
		}
		close(gate)
		under.Wait()
		ids := make(map[string]int)
		places := make(map[string]int)
		fresh := 0
		for i, a := range answers {
			if a.err != nil || a.status != test.status {
				t.Fatalf("%s, call %d: %s", test.name, i, a)
			}
			ids[a.claim.ClaimID]++
			places[fmt.Sprintf("%d-%d-%d", a.claim.Partition, a.claim.LogEpoch, a.claim.Offset)]++
			if a.header.Get("Idempotent-Replayed") != "true" {
				fresh++
			}
		}
		if len(ids) != 1 || len(places) != 1 || fresh != 1 {
			t.Errorf("%s: claim ids %v, decided at %v, %d not marked as replayed; want one of each", test.name, ids, places, fresh)
		}
		if n := value[int](d, `SELECT count(*) FROM decisions WHERE kind = 'o' AND request_id = $1`, sorted(ids)[0]); n != 1 {
			t.Errorf("%s: %d outcomes are stored, want 1", test.name, n)
		}
		t.Logf("%s: %d × %d, one claim id, %d not marked as replayed", test.name, calls, test.status, fresh)
	}
	d.settled(30 * time.Second)
	d.check()
}

// TestWaitThatRanOutIsReadableElsewhere: nobody decides until everybody was told to wait.
func TestWaitThatRanOutIsReadableElsewhere(t *testing.T) {
	t.Parallel()
	d := deploy(t, 3)
	d.calm = true
	here, there := d.start("api"), d.start("api")
	here.ready()
	there.ready()

	posted := d.claim(here, asked{name: "patience", owner: "u-1", prefer: "wait=1"})
	location := posted.header.Get("Location")
	if posted.status != http.StatusAccepted || posted.claim.State != "pending" || posted.header.Get("Retry-After") == "" ||
		!strings.HasPrefix(location, "/v1/claims/"+posted.claim.ClaimID+"?at=") {
		t.Fatalf("%s\n%v", posted, posted.header)
	}
	if a := d.look(there, location, ""); a.status != http.StatusOK || a.claim.State != "pending" || a.claim.ClaimID != posted.claim.ClaimID {
		t.Fatalf("at the other API: %s", a)
	}
	bare, _, _ := strings.Cut(location, "?")
	if a := d.look(there, bare, ""); a.status != http.StatusNotFound || a.claim.Reason != "unknown_claim" {
		t.Fatalf("without its position: %s", a)
	}

	polled := make(chan answer, 1)
	go func() { polled <- d.look(there, location, "wait=10") }()
	d.start("processor")
	a := <-polled
	if a.status != http.StatusOK || a.claim.State != "accepted" || a.claim.ClaimID != posted.claim.ClaimID || a.claim.Version != 1 {
		t.Fatalf("at the other API, after the processor has started: %s", a)
	}
	t.Logf("the other API said accepted %s after the processor was started", a.took.Round(time.Millisecond))
	for _, api := range []*process{here, there} {
		if a := d.look(api, bare, ""); a.status != http.StatusOK || a.claim.State != "accepted" {
			t.Errorf("%s, by the id alone: %s", api.name, a)
		}
	}
	d.settled(30 * time.Second)
	d.check()
}
