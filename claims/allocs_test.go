//go:build !race

package claims_test

import (
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/dibstest/allocs"
	"github.com/dibs-hq/dibs/names"
)

// What the API makes of a claim, and what a processor reads of it.
func TestAllocations(t *testing.T) {
	policies, claim, key := names.Builtin(), minimal(), activationKey
	record := claim.Record(event(), alice)
	allocs.Check(t,
		allocs.Case{Name: "record", Run: func() { claim.Record(event(), alice) }},
		allocs.Case{Name: "sign", Run: func() { key.Sign(record) }},
		allocs.Case{Name: "read", Run: func() {
			if _, err := claims.Read(record); err != nil {
				t.Fatal(err)
			}
		}},
		allocs.Case{Name: "hash", Run: func() { claim.Hash(alice, "gateway", policies) }},
	)
}
