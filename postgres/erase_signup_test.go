package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestWipeSignup: of an erased sign-up nothing is left that says who asked for what: not its ballot, nor what it led to, nor that
// it was under way. What names sent to it is found with the names, what it sent with the sign-up.
func TestWipeSignup(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	cfg.Eraser = eraser
	r := open(t, cfg)
	c := connect(t, cfg)
	s := acquire(t, r, 0)
	id, claim, other := uuid.New(), uuid.New(), uuid.New()
	ref := claims.SignupRef(id)
	alice := names.Ref{Space: names.Username, Key: "alice"}
	ballot := registrations.Ballot{Names: []registrations.Candidate{{Ref: alice, Name: "Alice", Vote: registrations.VoteYes}}}
	sent := func(offset int64, seq int, what string, of names.Ref, signup uuid.UUID, owner string) processor.Row {
		x := processor.Sent{Request: what, Ref: of, Owner: owner, Claim: claim, Signup: signup}
		if what == "" {
			x.Name = "Alice"
		}
		return processor.Row{Offset: offset, Seq: seq, Kind: processor.KindSent, RequestID: uuid.New(), Sent: &x}
	}
	o := registrations.Outcome{
		Type: registrations.Begun, Fact: true, RequestID: id, ClaimID: id, Ref: ref, Name: id.String(), Owner: "u-1", Detail: ballot.Text(),
		State: registrations.Reserved, Version: 1, PolicyVersion: 1, LogTime: logTime, LogEpoch: 1, ExpiresAt: logTime.Add(time.Minute),
	}
	b := processor.Batch{
		Fence: s.Fence, Next: 3, LogTime: logTime, LastOffset: 2, LastHash: 1,
		Rows: []processor.Row{
			{Offset: 0, Kind: processor.KindFact, RequestID: id, Principal: "gateway", Outcome: o},
			sent(0, 1, "", alice, id, "u-1"),
			{Offset: 0, Seq: 2, Kind: processor.KindPending, RequestID: id, Principal: "gateway"},
			sent(1, 0, "ConfirmRequested", alice, id, "u-1"),
			{Offset: 1, Seq: 1, Kind: processor.KindPending, RequestID: id, Principal: "gateway"},
			sent(2, 0, "SignupVoted", alice, other, "u-1"), // of another sign-up, about a name of this partition
			sent(2, 1, "SignupVoted", names.Ref{Space: names.Username, Key: "bob"}, other, "u-2"),
			{Offset: 2, Seq: 2, Kind: processor.KindPending, RequestID: other, Principal: "gateway"},
		},
		Changes: []processor.Change{{Ref: ref, Holding: registrations.Holding{
			State: registrations.Reserved, Name: o.Name, Owner: o.Owner, ClaimID: id, Version: 1, PolicyVersion: 1, Since: logTime, Ballot: o.Detail, ExpiresAt: o.ExpiresAt,
		}}},
	}
	commit(t, r, b)
	trace := func() (all []string) {
		t.Helper()
		named, err := r.Named(t.Context(), "u-1")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range named {
			all = append(all, n.RecordKey())
		}
		return all
	}
	if got, want := trace(), []string{ref.RecordKey(), alice.RecordKey()}; !slices.Equal(got, want) {
		t.Errorf("the owner's traces are %q, want %q", got, want)
	}

	first := b
	first.Rows = b.Rows[:1]
	erased := eraseOf(standing(t, r, 0), first)
	erased.PublishedThrough = erased.Next
	commit(t, r, erased)
	if n, err := r.Wipe(t.Context(), []int32{0}); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	if h, err := r.Name(t.Context(), ref); err != nil || h.Version != 2 || h.Ballot != "" || !h.Hidden() {
		t.Errorf("the sign-up is %+v, %v", h, err)
	}
	left := collect(t, c, `SELECT d::text FROM decisions d WHERE request_id NOT IN (SELECT request_id FROM decisions WHERE outcome = 'Z') AND "offset" < 2
		UNION ALL SELECT n::text FROM names n UNION ALL SELECT e::text FROM erasures e`)
	for _, row := range left {
		for _, trace := range []string{"u-1", "lice", "gateway", "signup/"} {
			if strings.Contains(row, trace) {
				t.Errorf("%s is left in %s", trace, row)
			}
		}
	}
	if others := collect(t, c, `SELECT kind::text || ' ' || coalesce(key, principal) || ' ' || coalesce(owner, '') FROM decisions WHERE "offset" = 2 ORDER BY seq`); !slices.Equal(others, []string{"s alice u-1", "s bob u-2", "g gateway "}) {
		t.Errorf("of other sign-ups there is %q", others)
	}
	if got, want := trace(), []string{alice.RecordKey()}; !slices.Equal(got, want) {
		t.Errorf("the owner's traces are %q, want %q", got, want)
	}
}
