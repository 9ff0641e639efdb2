package verify_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/dibs-hq/dibs/verify"
)

// forgotten is what a partition has lost of its rows.
type forgotten struct {
	before  verify.Position
	logTime time.Time
}

// forget deletes about a part of every partition's rows, the oldest, as a record does.
func (w *world) forget(part float64) {
	for p, rows := range w.rows {
		var f forgotten
		for i := range int(part * float64(len(rows))) {
			if row := &rows[i]; row.Kind == processor.KindOutcome || row.Kind == processor.KindFact {
				f = forgotten{verify.Position{LogEpoch: row.LogEpoch, Offset: row.Offset + 1}, row.Outcome.LogTime}
			}
		}
		if f.logTime.IsZero() {
			continue
		}
		w.forgotten[p] = f
		w.rows[p] = slices.DeleteFunc(rows, func(r memory.Row) bool {
			return r.Kind != processor.KindPolicy && (r.LogEpoch < f.before.LogEpoch || r.LogEpoch == f.before.LogEpoch && r.Offset < f.before.Offset)
		})
	}
}

// TestForgotten: what is kept agrees with the log, however much is gone: of the rows alone, and of the log and the topic with them.
func TestForgotten(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newRig(t, 3)
			g.walk(seed, 700)
			g.settled()
			whole := g.left()
			all := whole.agrees(t, "whole")
			for _, part := range []float64{.01, .3, .6, .9, 1} {
				w := whole.copy()
				w.forget(part)
				r := w.agrees(t, fmt.Sprintf("%.0f %% forgotten", 100*part))
				if r.Forgotten == 0 || r.Names != all.Names {
					t.Errorf("%.0f %%: %d names, %d outcomes on registrations are of what is forgotten", 100*part, r.Names, r.Forgotten)
				}
				if part == .3 && (r.Trusted == 0 || r.Rows < all.Rows/5) {
					t.Errorf("of %d rows %d are trusted and %d compared", all.Rows, r.Trusted, r.Rows)
				}
				for p := range w.claims { // and retention of the topics
					trim(&w.claims[p], int(part*float64(len(w.claims[p].records)))/2)
					trim(&w.registrations[p], int(part*float64(len(w.registrations[p].records)))/3)
				}
				w.agrees(t, fmt.Sprintf("%.0f %% forgotten, and a part of the log taken", 100*part))
			}
		})
	}
}

func trim(l *memoryLog, n int) {
	if n == 0 {
		return
	}
	l.start = l.records[n-1].Offset + 1
	l.records = slices.Clone(l.records[n:])
}

// TestForgottenBroken: what is wrong with what is kept is found.
func TestForgottenBroken(t *testing.T) {
	t.Parallel()
	whole := history(t, 42, 1500)
	whole.forget(.4)
	for what, break1 := range map[string]func(t *testing.T, w *world) (where, field string, offset int64){
		"reason": func(t *testing.T, w *world) (string, string, int64) {
			row := w.row(t, func(r *processor.Row) bool {
				return r.Kind == processor.KindOutcome && r.Outcome.Reason == registrations.Taken
			})
			row.Outcome.Reason = registrations.Confusable
			return "decisions", "reason", row.Offset
		},
		"a row is missing": func(t *testing.T, w *world) (string, string, int64) {
			row := *w.row(t, ofType(registrations.Accepted))
			w.drop(&row)
			return "decisions", "row", row.Offset
		},
		"a name's policy": func(t *testing.T, w *world) (string, string, int64) {
			ref := w.row(t, func(r *processor.Row) bool {
				o := &r.Outcome
				switch o.Type {
				case registrations.Accepted, registrations.Released, registrations.Withdrawn, registrations.Transferred, registrations.Blocked, registrations.Unblocked:
				default:
					return false
				}
				return o.State != "" && o.State != registrations.Reserved && o.Ref.Space != claims.Signup && o.ClaimID == o.RequestID == (o.Type == registrations.Accepted) &&
					w.names[o.Ref].Version == o.Version
			}).Outcome.Ref
			h := w.names[ref]
			h.PolicyVersion++
			w.names[ref] = h
			return "names", "policy_version", -1
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := whole.copy()
			where, field, offset := break1(t, w)
			r, err := w.verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			differs(t, &r, where, field, offset)
		})
	}
}
