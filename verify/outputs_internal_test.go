package verify

import (
	"testing"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestTwoOutcomesOfOneOffset: whoever asks that a sign-up be erased when its time is over gets an answer, and so does the sign-up.
func TestTwoOutcomesOfOneOffset(t *testing.T) {
	row := func(kind processor.Kind, seq int, what registrations.Type) processor.Row {
		o := registrations.Outcome{
			Type: what, RequestID: uuid.New(), Ref: names.Ref{Space: names.Username, Key: "alice"}, LogEpoch: 1, Offset: 7, Seq: seq, Fact: kind == processor.KindFact,
		}
		return processor.Row{Offset: 7, Seq: seq, Kind: kind, RequestID: o.RequestID, Outcome: o}
	}
	rows := []processor.Row{
		row(processor.KindFact, 0, registrations.Expired), row(processor.KindOutcome, 1, registrations.Rejected), row(processor.KindOutcome, 2, registrations.Erased),
	}
	x := newOutputs(1, 5, 9)
	for i := range rows {
		x.expect(&rows[i])
	}
	for i := range rows {
		for _, want := range []bool{false, true} {
			if n := x.count(0); n != 3 {
				t.Errorf("%d outputs are expected", n)
			}
			if expected, again := x.match(7, rows[i].Outcome.Record()); !expected || again != want {
				t.Errorf("row %d: %t, again %t, want %t", i, expected, again, want)
			}
		}
		missing := 0
		x.missing(9, func(_ int64, n int) { missing += n })
		if missing != 2-i {
			t.Errorf("%d are missing behind row %d", missing, i)
		}
	}
}
