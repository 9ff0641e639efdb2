package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// life writes what happens to one name, a batch at a time, and keeps what its history must be.
type life struct {
	*testing.T
	record *postgres.Record
	s      processor.Standing
	ref    names.Ref
	held   registrations.Holding
	read   int64 // the version that is committed
	batch  processor.Batch
	want   []string
}

func newLife(t *testing.T, r *postgres.Record, partition int32, key string) *life {
	l := &life{T: t, record: r, s: acquire(t, r, partition), ref: ref(key)}
	l.batch = accepting(l.s, 0, "")
	return l
}

// row adds an outcome or a fact of the name.
func (l *life) row(o registrations.Outcome, actor string) {
	o.Ref, o.LogTime, o.Partition, o.LogEpoch, o.Offset = l.ref, logTime, l.s.Partition, l.s.LogEpoch, l.batch.Next
	if o.RequestID == uuid.Nil {
		o.RequestID = uuid.New()
	}
	kind := processor.KindOutcome
	if o.Fact {
		kind = processor.KindFact
	}
	row := processor.Row{Offset: o.Offset, Kind: kind, RequestID: o.RequestID, Principal: "gateway", Outcome: o, Actor: actor}
	if actor != "" {
		row.Why = "because"
	}
	l.batch.Rows = append(l.batch.Rows, row)
	l.batch.Next, l.batch.LastOffset = o.Offset+1, o.Offset
}

// became adds a row that changes the name, which is then in a state, of an owner and a claim.
func (l *life) became(what registrations.Type, state registrations.State, owner string, claim uuid.UUID, actor string) {
	was := l.held
	l.held = registrations.Holding{State: state, Name: "x", Owner: owner, ClaimID: claim, Version: was.Version + 1, PolicyVersion: 1, Since: logTime, Partition: l.s.Partition}
	o := registrations.Outcome{Type: what, State: state, Version: l.held.Version, ClaimID: claim, Owner: owner, Fact: what == registrations.Expired}
	if what == registrations.Accepted {
		o.RequestID = claim
	}
	if owner == "" {
		o.Owner, o.ClaimID = was.Owner, was.ClaimID
	}
	l.row(o, actor)
	l.want = append(l.want, fmt.Sprintf("%d %s %s %s %s", o.Version, what, o.Owner, actor, "gateway"))
}

func (l *life) commit() {
	l.Helper()
	if l.held.Version != l.read {
		l.batch.Changes = []processor.Change{{Ref: l.ref, Version: l.read, Holding: l.held}}
	}
	commit(l.T, l.record, l.batch)
	l.read, l.s = l.held.Version, standing(l.T, l.record, l.s.Partition)
	l.batch = accepting(l.s, 0, "")
}

// check compares the history in pages of several sizes.
func (l *life) check() {
	l.Helper()
	for _, limit := range []int{1, 2, 3, 100} {
		var got []string
		for from := int64(0); ; {
			entries, err := l.record.History(l.Context(), l.ref, from, limit)
			if err != nil || len(entries) > limit {
				l.Fatalf("%d entries from %d on, %v", len(entries), from, err)
			}
			if len(entries) == 0 {
				break
			}
			for i := range entries {
				e := &entries[i]
				if e.Why != "" != (e.Actor != "") || e.Ref != l.ref {
					l.Errorf("entry %+v", *e)
				}
				got = append(got, fmt.Sprintf("%d %s %s %s %s", e.Version, e.Type, e.Owner, e.Actor, e.Principal))
			}
			from = entries[len(entries)-1].Version + 1
		}
		if strings.Join(got, "\n") != strings.Join(l.want, "\n") {
			l.Fatalf("in pages of %d the history is\n%s\nwant\n%s", limit, strings.Join(got, "\n"), strings.Join(l.want, "\n"))
		}
	}
}

// TestHistory: what changed a name, and nothing else, from its first claim on, whatever became of that claim, and
// however many changes a batch has.
func TestHistory(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	partition := int32(0)
	for name, live := range map[string]func(l *life, step func()){
		"claimed": func(l *life, step func()) {
			l.became(registrations.Accepted, registrations.Registered, "u-1", uuid.New(), "")
		},
		"rejected before and after": func(l *life, step func()) {
			l.row(registrations.Outcome{Type: registrations.Rejected, Owner: "u-0", Reason: registrations.ReservedWord}, "")
			step()
			l.became(registrations.Accepted, registrations.Registered, "u-1", uuid.New(), "")
			step()
			l.row(registrations.Outcome{Type: registrations.Rejected, Owner: "u-2", Reason: registrations.Taken}, "")
			l.row(registrations.Outcome{Type: registrations.Unchanged}, "")
		},
		"reserved, extended, confirmed twice, released, claimed anew": func(l *life, step func()) {
			claim := uuid.New()
			l.became(registrations.Accepted, registrations.Reserved, "u-1", claim, "")
			step()
			l.became(registrations.Extended, registrations.Reserved, "u-1", claim, "")
			step()
			l.became(registrations.Confirmed, registrations.Registered, "u-1", claim, "")
			step()
			for range 5 {
				l.row(registrations.Outcome{Type: registrations.Confirmed, State: registrations.Registered, Version: 3, ClaimID: claim, Owner: "u-1"}, "")
			}
			step()
			l.became(registrations.Released, registrations.Free, "", uuid.Nil, "ops")
			step()
			l.became(registrations.Accepted, registrations.Registered, "u-2", uuid.New(), "")
			step()
			l.became(registrations.Transferred, registrations.Registered, "u-3", uuid.New(), "ops")
		},
		"confirmed although it was registered, and asked for again": func(l *life, step func()) {
			claim := uuid.New()
			l.became(registrations.Accepted, registrations.Registered, "u-1", claim, "")
			step()
			l.row(registrations.Outcome{Type: registrations.Confirmed, State: registrations.Registered, Version: 1, ClaimID: claim, Owner: "u-1"}, "")
			l.row(registrations.Outcome{Type: registrations.Accepted, State: registrations.Registered, Version: 1, ClaimID: claim, Owner: "u-1"}, "")
			step()
			l.row(registrations.Outcome{Type: registrations.Withdrawn, Version: 1, ClaimID: uuid.New(), Owner: "u-1"}, "")
		},
		"handed over at once": func(l *life, step func()) {
			l.became(registrations.Accepted, registrations.Registered, "u-1", uuid.New(), "")
			step()
			l.became(registrations.Transferred, registrations.Registered, "u-2", uuid.New(), "")
			step()
			l.became(registrations.Transferred, registrations.Registered, "u-3", uuid.New(), "")
		},
		"expired, then claimed": func(l *life, step func()) {
			l.became(registrations.Accepted, registrations.Reserved, "u-1", uuid.New(), "")
			step()
			l.became(registrations.Expired, registrations.Free, "", uuid.Nil, "")
			l.became(registrations.Accepted, registrations.Reserved, "u-2", uuid.New(), "")
			step()
			l.became(registrations.Released, registrations.Free, "", uuid.Nil, "")
		},
		"blocked before anybody had it": func(l *life, step func()) {
			l.became(registrations.Blocked, registrations.StateBlocked, "", uuid.Nil, "ops")
			step()
			l.became(registrations.Unblocked, registrations.Free, "", uuid.Nil, "ops")
			step()
			l.became(registrations.Accepted, registrations.Registered, "u-1", uuid.New(), "")
			step()
			l.became(registrations.Released, registrations.Free, "", uuid.Nil, "")
		},
	} {
		for way, every := range map[string]func(*life) func(){
			"in one batch": func(*life) func() { return func() {} },
			"a batch each": func(l *life) func() { return l.commit },
			"two steps in a batch": func(l *life) func() {
				n := 0
				return func() {
					if n++; n%2 == 0 {
						l.commit()
					}
				}
			},
		} {
			partition += 2
			t.Run(name+", "+way, func(t *testing.T) {
				l := newLife(t, r, partition, name+way)
				// A neighbour whose name differs by a space only, or not even by that.
				neighbour := accepting(acquire(t, r, partition+1), 1, "neighbour of "+name+way)
				neighbour.Changes[0].Ref.Space = "email"
				neighbour.Rows[0].Outcome.Ref.Space = "email"
				commit(t, r, neighbour)
				live(l, every(l))
				l.commit()
				l.check()
			})
		}
	}
	if entries, err := r.History(t.Context(), ref("nobody's"), 0, 10); err != nil || len(entries) != 0 {
		t.Errorf("of a name never held: %+v, %v", entries, err)
	}
	if entries, err := r.History(t.Context(), ref("nobody's"), 0, 0); err != nil || len(entries) != 0 {
		t.Errorf("no entries: %+v, %v", entries, err)
	}
}

// TestHistoryOfAnotherUse: an id that was used for two names tells of each
// only what happened to it.
func TestHistoryOfAnotherUse(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	id := uuid.New()
	a, b := newLife(t, r, 0, "alice"), newLife(t, r, 1, "bob")
	a.became(registrations.Accepted, registrations.Registered, "u-1", id, "")
	b.became(registrations.Accepted, registrations.Registered, "u-2", id, "")
	a.commit()
	b.commit()
	a.check()
	b.check()
}
