package api

import (
	"testing"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Ids that were given out must come out again for ever: a repeated request has to find its outcome.
func TestDerivedIDIsGolden(t *testing.T) {
	for _, test := range []struct {
		principal, operation, claim string
		ref                         names.Ref
		key, want                   string
	}{
		{"gateway", "claim", "", names.Ref{Space: "username", Key: "alice"}, "signup-17", "83a9a0b0-3ddc-5e6f-927a-3679e76a9692"},
		{"anonymous", "claim", "", names.Ref{Space: "username", Key: "alice"}, "signup-17", "a68e81b8-717d-5824-a967-3fe23abf428b"},
		{"gateway", "confirm", "0190a1b2-0000-7000-8000-000000000001", names.Ref{Space: "username", Key: "alice"}, "signup-17", "f1cab131-78a5-572f-94a6-29351b0f42ed"},
		{"", "", "", names.Ref{}, "", "6bb84a74-5242-5a5c-b8fd-607badd37a71"},
	} {
		if got := derivedID(test.principal, test.operation, test.claim, test.ref, test.key); got.String() != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// No two lists of parts have one id, also where their texts run into each other.
func TestDerivedIDTellsPartsApart(t *testing.T) {
	seen := make(map[uuid.UUID]string)
	for _, parts := range [][6]string{
		{"ab", "c", "", "s", "k", "i"}, {"a", "bc", "", "s", "k", "i"}, {"abc", "", "", "s", "k", "i"}, {"", "abc", "", "s", "k", "i"},
		{"ab", "", "c", "s", "k", "i"}, {"ab", "c", "s", "", "k", "i"}, {"ab", "c", "", "sk", "", "i"}, {"ab", "c", "", "s", "ki", ""},
		{"ab", "c", "", "s", "", "ki"}, {"ab", "c", "", "s", "k", "i\x00"},
	} {
		id := derivedID(parts[0], parts[1], parts[2], names.Ref{Space: names.Space(parts[3]), Key: names.Key(parts[4])}, parts[5])
		if other, ok := seen[id]; ok {
			t.Errorf("%q has the id of %s", parts, other)
		}
		seen[id] = parts[0]
		if id.Version() != 5 || id.Variant() != uuid.RFC4122 {
			t.Errorf("%s is of version %d", id, id.Version())
		}
	}
}
