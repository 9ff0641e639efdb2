package postgres_test

import (
	"fmt"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// gives notes that the last row gave up another name.
func (l *life) gives(key string) {
	row := &l.batch.Rows[len(l.batch.Rows)-1]
	row.FollowUp = &processor.FollowUp{Claim: row.Outcome.ClaimID, Ref: ref(key), Owner: row.Outcome.Owner, Version: 7}
}

// outcome is the last one.
func (l *life) outcome() registrations.Outcome { return l.batch.Rows[len(l.batch.Rows)-1].Outcome }

// TestSequel: what came of a claim, whatever was done to its name before and behind.
func TestSequel(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	partition := int32(0)
	const nothing = "withdrawn by nothing, follows nothing"
	for name, test := range map[string]struct {
		live func(l *life, claim uuid.UUID) registrations.Outcome
		want string
	}{
		"nothing": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Registered, "u-1", claim, "")
			return l.outcome()
		}, nothing},
		"withdrawn": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Registered, "u-1", claim, "")
			o := l.outcome()
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			return o
		}, "withdrawn by 2, follows nothing"},
		"withdrawn after all, and claimed and withdrawn by the next": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Registered, "u-0", uuid.New(), "")
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			l.became(registrations.Accepted, registrations.Reserved, "u-1", claim, "")
			o := l.outcome()
			l.became(registrations.Extended, registrations.Reserved, "u-1", claim, "")
			l.became(registrations.Extended, registrations.Reserved, "u-1", claim, "")
			l.became(registrations.Confirmed, registrations.Registered, "u-1", claim, "")
			l.row(registrations.Outcome{Type: registrations.Confirmed, State: registrations.Registered, Version: 6, ClaimID: claim, Owner: "u-1"}, "")
			l.row(registrations.Outcome{Type: registrations.Accepted, State: registrations.Registered, Version: 6, ClaimID: claim, Owner: "u-1"}, "")
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			l.became(registrations.Accepted, registrations.Registered, "u-1", uuid.New(), "")
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			return o
		}, "withdrawn by 7, follows nothing"},
		"released, and the next was withdrawn": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Registered, "u-1", claim, "")
			o := l.outcome()
			l.became(registrations.Released, registrations.Free, "", uuid.Nil, "")
			l.became(registrations.Accepted, registrations.Registered, "u-1", uuid.New(), "")
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			return o
		}, nothing},
		"expired, and the next was withdrawn": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Reserved, "u-1", claim, "")
			o := l.outcome()
			l.became(registrations.Expired, registrations.Free, "", uuid.Nil, "")
			l.became(registrations.Accepted, registrations.Reserved, "u-1", uuid.New(), "")
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			return o
		}, nothing},
		"a rename": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Registered, "u-1", claim, "")
			l.gives("old")
			return l.outcome()
		}, "withdrawn by nothing, follows old at 7, which is not decided"},
		"a rename that was confirmed": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Reserved, "u-1", claim, "")
			o := l.outcome()
			l.became(registrations.Extended, registrations.Reserved, "u-1", claim, "")
			l.became(registrations.Confirmed, registrations.Registered, "u-1", claim, "")
			l.gives("old")
			l.row(registrations.Outcome{Type: registrations.Confirmed, State: registrations.Registered, Version: 3, ClaimID: claim, Owner: "u-1"}, "")
			l.became(registrations.Released, registrations.Free, "", uuid.Nil, "")
			return o
		}, "withdrawn by nothing, follows old at 7, which is not decided"},
		"the confirmation": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Reserved, "u-1", claim, "")
			l.became(registrations.Confirmed, registrations.Registered, "u-1", claim, "")
			l.gives("old")
			return l.outcome()
		}, "withdrawn by nothing, follows old at 7, which is not decided"},
		"a rename of the next": {func(l *life, claim uuid.UUID) registrations.Outcome {
			l.became(registrations.Accepted, registrations.Reserved, "u-1", claim, "")
			o := l.outcome()
			l.became(registrations.Withdrawn, registrations.Free, "", uuid.Nil, "")
			l.became(registrations.Accepted, registrations.Reserved, "u-2", uuid.New(), "")
			l.became(registrations.Confirmed, registrations.Registered, "u-2", uuid.New(), "")
			l.gives("old")
			return o
		}, "withdrawn by 2, follows nothing"},
	} {
		partition += 2
		t.Run(name, func(t *testing.T) {
			l := newLife(t, r, partition, name)
			of := test.live(l, uuid.New())
			l.commit()
			wantSequel(t, r, of, test.want)
		})
	}
}

// TestSequelOfARelease: a release on another partition is found, whatever came of it, and that of another name is not.
func TestSequelOfARelease(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	claim := uuid.New()
	l := newLife(t, r, 0, "new")
	l.became(registrations.Accepted, registrations.Registered, "u-1", claim, "")
	l.gives("old")
	of := l.outcome()
	l.commit()
	other := newLife(t, r, 1, "old")
	other.row(registrations.Outcome{Type: registrations.Released, State: registrations.Free, RequestID: claims.ReleaseID(claim, ref("other")), Version: 8}, "")
	other.commit()
	wantSequel(t, r, of, "withdrawn by nothing, follows old at 7, which is not decided")
	other.row(registrations.Outcome{Type: registrations.Rejected, Reason: registrations.VersionConflict, RequestID: claims.ReleaseID(claim, of.Ref), CurrentVersion: 9}, "")
	other.commit()
	wantSequel(t, r, of, "withdrawn by nothing, follows old at 7, which is Rejected version_conflict")
}

func wantSequel(t *testing.T, r *postgres.Record, of registrations.Outcome, want string) {
	t.Helper()
	s, err := r.Sequel(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	got := "withdrawn by nothing"
	if s.Withdrawal != nil {
		got = fmt.Sprintf("withdrawn by %d", s.Withdrawal.Version)
	}
	switch f := s.FollowUp; {
	case f == nil:
		got += ", follows nothing"
	case f.Outcome == nil:
		got += fmt.Sprintf(", follows %s at %d, which is not decided", f.Ref.Key, f.Version)
	default:
		got += fmt.Sprintf(", follows %s at %d, which is %s %s", f.Ref.Key, f.Version, f.Outcome.Type, f.Outcome.Reason)
	}
	if got != want {
		t.Errorf("it was %s; want %s", got, want)
	}
	if f := s.FollowUp; f != nil && f.Request != claims.ReleaseID(of.ClaimID, of.Ref) {
		t.Errorf("the release is %s", f.Request)
	}
}
