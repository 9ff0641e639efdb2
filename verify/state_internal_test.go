package verify

import (
	"testing"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestFirstClaims: the first claim of a name is the one that made its first version, not one that was answered with it.
func TestFirstClaims(t *testing.T) {
	ref := names.Ref{Space: names.Username, Key: "alice"}
	made, asked := uuid.New(), uuid.New()
	answer := func(id uuid.UUID, version int64) processor.Row {
		return processor.Row{Kind: processor.KindOutcome, RequestID: id, Outcome: registrations.Outcome{
			RequestID: id, ClaimID: made, Ref: ref, Type: registrations.Accepted, State: registrations.Registered, Version: version,
		}}
	}
	if got := firstClaims([]processor.Row{answer(made, 1), answer(asked, 1), answer(asked, 3)}); len(got) != 1 || got[ref] != made {
		t.Errorf("%v, want %s", got, made)
	}
}
