package api

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Connections are kept open again when nobody waits, and there is room or nobody has waited for a second; never before.
func TestKeptAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newConnections(20, prometheus.NewRegistry())
		kept := true
		c.keepOpen = func(yes bool) { kept = yes }
		closes := func(want bool) {
			t.Helper()
			c.changed(nil, http.StateClosed)
			if kept != want {
				t.Fatalf("with %d open connections are kept: %v, want %v", len(c.places), kept, want)
			}
			c.places <- struct{}{}
		}
		for range 20 {
			c.places <- struct{}{}
		}
		c.wait(true)
		closes(false)
		for range 10 {
			<-c.places
		}
		closes(false) // there is room, but who waits has not taken it yet
		c.wait(false)
		closes(true)
		for range 10 {
			c.places <- struct{}{}
		}
		c.wait(true)
		c.wait(false)
		time.Sleep(roomAgain)
		closes(false)
		time.Sleep(time.Nanosecond)
		closes(true)
	})
}
