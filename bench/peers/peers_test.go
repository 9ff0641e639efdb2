package peers_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dibs-hq/dibs/bench/peers"
	"github.com/dibs-hq/dibs/dibstest"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

// open opens peers of a test, and closes them after it.
func open(t *testing.T, only ...string) *peers.Set {
	t.Helper()
	cfg := peers.Config{Brokers: dibstest.Kafka(t).Addrs, DSN: dibstest.Postgres(t).DSN, Partitions: 4, Only: only}
	set, err := peers.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return set
}

// TestEcho: everybody has an answer, and it is yes.
func TestEcho(t *testing.T) {
	t.Parallel()
	echo := open(t, peers.EchoName).Peers()[0]
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			if got, err := echo.Claim(t.Context(), fmt.Sprintf("name-%d", i%50), "o"); err != nil || !got {
				t.Errorf("claim %d: %t, %v", i, got, err)
			}
		})
	}
	all.Wait()
}
