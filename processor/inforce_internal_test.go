package processor

import (
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// TestRulesNeverGoDown: an older dibs that applies something says the rules that it knows.
func TestRulesNeverGoDown(t *testing.T) {
	var f *InForce
	for _, step := range []struct{ said, want int }{{1, 1}, {3, 3}, {2, 3}, {4, 4}, {1, 4}} {
		f = f.with(&claims.PolicyActivated{Space: names.Username, Rules: step.said, Keys: []string{"k1"}})
		if f.Rules != step.want {
			t.Fatalf("rules are %d behind an activation by rules %d, want %d", f.Rules, step.said, step.want)
		}
	}
}
