package peers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dibs-hq/dibs/bench"
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

// check fails the test unless the peer gives a name to one of those who ask at once, and to nobody after that.
func check(t *testing.T, p bench.Peer) {
	t.Helper()
	if s, ok := p.(bench.Starter); ok {
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const names, rivals, atOnce = 200, 50, 20
	for from := 0; from < names; from += atOnce {
		won := make([]atomic.Int32, atOnce)
		var all sync.WaitGroup
		for n := range won {
			for r := range rivals {
				all.Go(func() {
					got, err := p.Claim(t.Context(), fmt.Sprintf("Name-%d", from+n), fmt.Sprintf("owner-%d", r))
					if err != nil {
						t.Errorf("name %d, owner %d: %v", from+n, r, err)
					} else if got {
						won[n].Add(1)
					}
				})
			}
		}
		all.Wait()
		for n := range won {
			if w := won[n].Load(); w != 1 {
				t.Errorf("name %d has %d owners", from+n, w)
			}
			all.Go(func() {
				if got, err := p.Claim(t.Context(), fmt.Sprintf("Name-%d", from+n), "late"); err != nil || got {
					t.Errorf("name %d, asked for once more: %t, %v", from+n, got, err)
				}
			})
		}
		all.Wait()
	}
}

// drainer is what package bench calls one.
type drainer interface {
	Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error
	Drain(ctx context.Context, progress func(decided int)) error
}

// checkDrain fails the test unless the peer decides a backlog, each name once.
func checkDrain(t *testing.T, p bench.Peer) {
	t.Helper()
	d, ok := p.(drainer)
	if !ok {
		return
	}
	const n = 2000
	for round := range 2 {
		name := func(i int) string { return fmt.Sprintf("backlog-%d-%d", round, i/2) }
		if err := d.Fill(t.Context(), n, func(i int) (string, string) { return name(i), fmt.Sprintf("o-%d", i) }); err != nil {
			t.Fatal(err)
		}
		last := 0
		if err := d.Drain(t.Context(), func(decided int) {
			if decided < last || decided > n {
				t.Errorf("%d are decided after %d, of %d", decided, last, n)
			}
			last = decided
		}); err != nil {
			t.Fatal(err)
		}
		if last != n {
			t.Errorf("%d of %d are decided", last, n)
		}
		for i := 0; i < n; i += 500 {
			if got, err := p.Claim(t.Context(), name(i), "late"); err != nil || got {
				t.Errorf("a name of the backlog, asked for once more: %t, %v", got, err)
			}
		}
	}
	if strings.HasPrefix(p.Name(), "Kafka Streams") { // its store cannot be emptied while it runs
		return
	}
	if got, err := p.Claim(t.Context(), "backlog-0-0", "later"); err != nil || !got {
		t.Errorf("a name of the backlog before is still there: %t, %v", got, err)
	}
}

// slow are those that others stand for, which differ in settings: each JVM costs seconds, as does each message.
var slow = map[string]bool{peers.StreamsName: true, peers.StreamsTunedName: true, peers.StreamsExactName: true, peers.ConsumersName: true}

// TestOneOwner holds for all peers that decide.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	for _, name := range peers.Names() {
		if name == peers.EchoName {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if slow[name] && os.Getenv("DIBS_TEST_CAMPAIGN") == "" {
				t.Skip("SKIPPED, NOT TESTED: slow, and another one with other settings is tested; run it with DIBS_TEST_CAMPAIGN=1")
			}
			if strings.Contains(strings.ToLower(name), "kafka") {
				dibstest.NeedRealKafka(t)
			}
			set := open(t, name)
			if why, left := set.Left()[name]; left {
				dibstest.Needs(t, "what "+name+" runs on", errors.New(why))
			}
			p := set.Peers()[0]
			if p.Name() != name {
				t.Errorf("it calls itself %q", p.Name())
			}
			check(t, p)
			checkDrain(t, p)
		})
	}
}
