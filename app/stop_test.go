package app_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestClaimInFlightIsAnsweredAtTheStop holds the decision of a claim up until the process that it waits in is stopping.
func TestClaimInFlightIsAnsweredAtTheStop(t *testing.T) {
	t.Parallel()
	d := deploy(t, 3)
	d.calm = true
	p := d.start("serve").ready()
	d.assigned(time.Minute, p)
	if a := d.claim(p, asked{name: "warm-up", owner: "u-1"}); a.status != http.StatusCreated {
		t.Fatal(a)
	}

	release := d.hold(`LOCK TABLE decisions IN EXCLUSIVE MODE`)
	answered := make(chan answer, 1)
	go func() { answered <- d.claim(p, asked{name: "in-flight", owner: "u-1", prefer: "wait=20"}) }()
	eventually(t, 10*time.Second, func() error {
		if n := p.metrics()["dibs_http_waiters"]; n != 1 {
			return fmt.Errorf("%v claims wait", n)
		}
		return nil
	})
	began := time.Now()
	done := make(chan int, 1)
	go func() { done <- p.stop() }()
	eventually(t, 10*time.Second, func() error {
		if a := get(p.apiAddr(), "/openapi.yaml"); a.err == nil {
			return fmt.Errorf("it still takes requests")
		}
		return nil
	})
	select {
	case a := <-answered:
		t.Fatalf("answered before it was decided: %s", a)
	default:
	}
	release()
	if a := <-answered; a.status != http.StatusCreated || a.claim.State != "accepted" {
		t.Errorf("the claim in flight: %s", a)
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("answered, and ended with 0, %s after SIGTERM", time.Since(began).Round(time.Millisecond))
	d.settled(10 * time.Second) // also published: nobody is left to do it
	d.check()
}
