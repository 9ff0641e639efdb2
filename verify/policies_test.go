package verify_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/processor"
)

// policies is a history in which the policy of a space changes on the way.
func policies(t *testing.T, seed uint64, requests int) *world {
	t.Helper()
	g := newRig(t, 2)
	w := &walk{rig: g, r: rand.New(rand.NewPCG(seed, 7)), clock: time.Now().UTC().Truncate(time.Millisecond), policies: true}
	for range requests {
		w.step()
	}
	g.settled()
	return g.left()
}

// TestPolicies: what comes into force on the way is replayed where it lies. Where retention has taken a policy, all up to the
// last one is taken on trust.
func TestPolicies(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		whole := policies(t, seed, 600)
		r := whole.agrees(t, fmt.Sprintf("seed %d", seed))
		if r.Trusted > 0 {
			t.Errorf("seed %d: %d rows are trusted, and the log is whole", seed, r.Trusted)
		}
		for p, s := range whole.standings {
			if s.InForce == nil {
				t.Fatalf("seed %d: nothing was activated on partition %d", seed, p)
			}
		}
		for cut := int64(1); cut < 300; cut += 1 + cut/3 {
			w := whole.copy()
			for p := range w.claims {
				w.claims[p].cut(min(cut, w.claims[p].end))
			}
			r := w.agrees(t, fmt.Sprintf("seed %d, cut at %d", seed, cut))
			if r.Trusted < cut {
				t.Fatalf("seed %d, cut at %d: %d rows are trusted", seed, cut, r.Trusted)
			}
		}
	}
}

// TestPoliciesDiffer: a row that says another policy holds than the log does, one that holds nothing, and a policy that is
// gone from the log.
func TestPoliciesDiffer(t *testing.T) {
	t.Parallel()
	whole := policies(t, 9, 300)
	for what, spoil := range map[string]func(s *processor.Standing){
		"another": func(s *processor.Standing) {
			f := *s.InForce
			f.SignedOnly = !f.SignedOnly
			s.InForce = &f
		},
		"nothing": func(s *processor.Standing) { s.InForce = nil },
	} {
		w := whole.copy()
		s := w.standings[0]
		spoil(&s)
		w.standings[0] = s
		r, err := w.verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Found != 1 || r.Differences[0].Where != "partitions" || r.Differences[0].Field != "policies" {
			t.Errorf("%s holds: %d differences, %v", what, r.Found, r.Differences)
		}
	}
}

// TestPolicyOfOthers: what asks for a key that there is not here cannot be replayed.
func TestPolicyOfOthers(t *testing.T) {
	t.Parallel()
	g := newRig(t, 1)
	g.rules.Keys = claims.Keys{testSigning.ID: testSigning.Secret, "k2": []byte("another secret")}
	g.stop()
	g.assigned = false
	g.run()
	w := &walk{rig: g, r: rand.New(rand.NewPCG(1, 7)), clock: time.Now().UTC().Truncate(time.Millisecond), keys: []string{"k1", "k2"}}
	w.activate()
	g.settled()
	left := g.left()
	left.agrees(t, "with both keys")
	left.rules.Keys = testKeys
	var lacking *processor.LackingError
	if _, err := left.verify(t.Context()); !errors.As(err, &lacking) || lacking.Keys[0] != "k2" {
		t.Errorf("without k2: %v", err)
	}
}
