package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestMigrateFromVersion3: what version 3 has written stays what it is with sign-ups and erasures beside it. Where there are
// some there is no way back, and nothing is lost by trying; without them there is.
func TestMigrateFromVersion3(t *testing.T) {
	t.Parallel()
	db := dibstest.Postgres(t)
	cfg := postgres.Config{DSN: db.DSN, Schema: db.Schema, Eraser: eraser}
	down := func(to int64, refused string) {
		t.Helper()
		_, err := postgres.MigrateDown(t.Context(), cfg, to)
		if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			t.Fatalf("down to %d: %v, want %q", to, err, refused)
		}
	}
	up := func() {
		t.Helper()
		if _, err := postgres.Migrate(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	up()
	down(3, "")
	c := connect(t, cfg)
	was := schema(t, c)
	const id, writer = "6f0c0000-0000-4000-8000-000000000001", "6f0c0000-0000-4000-8000-000000000003"
	exec(t, c, `INSERT INTO partitions (topic, partition, log_epoch, next_offset, published_through, writer_epoch, writer_id, last_record_offset, last_record_hash, log_time)
		VALUES ('claims', 0, 1, 1, 1, 1, '`+writer+`', 0, 1, '2026-11-21T10:00:00.123Z')`)
	exec(t, c, `INSERT INTO names (version, since, partition, policy_version, state, claim_id, space, key, name, owner)
		VALUES (1, '2026-11-21T10:00:00.123Z', 0, 1, 'r', '`+id+`', 'username', 'old', 'Old', 'u-17')`)
	exec(t, c, `INSERT INTO decisions ("offset", version, log_time, partition, log_epoch, policy_version, seq, kind, outcome, state, request_id, request_hash, space, key, name, owner)
		VALUES (0, 1, '2026-11-21T10:00:00.123Z', 0, 1, 1, 0, 'o', 'A', 'r', '`+id+`', decode(repeat('ab', 32), 'hex'), 'username', 'old', 'Old', 'u-17')`)
	up()

	// A sign-up is decided, and so is one name that is not its own.
	r := open(t, cfg)
	s := acquire(t, r, 0)
	signup := uuid.New()
	ballot := registrations.Ballot{Names: []registrations.Candidate{{Ref: ref("alice"), Name: "Alice", Vote: registrations.VoteYes}}}
	o := registrations.Outcome{
		Type: registrations.Begun, Fact: true, RequestID: signup, ClaimID: signup, Ref: claims.SignupRef(signup), Name: signup.String(), Owner: "u-1", Detail: ballot.Text(),
		State: registrations.Reserved, Version: 1, PolicyVersion: 1, LogTime: logTime, LogEpoch: 1, Offset: 1, ExpiresAt: logTime.Add(time.Minute),
	}
	b := processor.Batch{
		Fence: s.Fence, Next: 2, LogTime: logTime, LastOffset: 1, LastHash: 1, PublishedThrough: 1,
		Rows: []processor.Row{
			{Offset: 1, Kind: processor.KindFact, RequestID: signup, Principal: "gateway", Outcome: o},
			{Offset: 1, Seq: 1, Kind: processor.KindSent, RequestID: uuid.New(), Sent: &processor.Sent{Ref: ref("alice"), Name: "Alice", Owner: "u-1", Claim: uuid.New(), Signup: signup}},
			{Offset: 1, Seq: 2, Kind: processor.KindPending, RequestID: signup, Principal: "gateway"},
		},
		Changes: []processor.Change{{Ref: o.Ref, Holding: registrations.Holding{
			State: registrations.Reserved, Name: o.Name, Owner: o.Owner, ClaimID: signup, Version: 1, PolicyVersion: 1, Since: logTime, Ballot: o.Detail, ExpiresAt: o.ExpiresAt,
		}}},
	}
	commit(t, r, b)
	r.Close()
	full := schema(t, c)
	down(3, "there are sign-ups, which the schema before version 4 cannot keep")
	up()
	r = open(t, cfg)
	if h, err := r.Name(t.Context(), o.Ref); err != nil || h.Ballot != ballot.Text() || h.State != registrations.Reserved {
		t.Errorf("the sign-up is %+v, %v", h, err)
	}
	if rows, err := r.Unpublished(t.Context(), standing(t, r, 0).Fence, 1); err != nil || len(rows) != 3 || rows[1].Sent == nil || rows[1].Sent.Signup != signup {
		t.Errorf("its rows are %+v, %v", rows, err)
	}

	// The old name is erased, and wiped.
	first := accepting(standing(t, r, 0), 1, "old")
	first.Rows[0].Outcome.Ref, first.Rows[0].Outcome.Owner, first.Rows[0].Outcome.RequestID = ref("old"), "u-17", uuid.MustParse(id)
	first.Changes[0].Ref, first.Changes[0].Holding.Owner = ref("old"), "u-17"
	erased := eraseOf(standing(t, r, 0), first)
	erased.PublishedThrough = erased.Next
	commit(t, r, erased)
	if n, err := r.Wipe(t.Context(), []int32{0}); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	r.Close()
	for _, to := range []int64{4, 3, 0} {
		down(to, "names were erased, which the schema before version 5 cannot keep")
	}
	up() // what came later than version 5 had a way back
	if is := schema(t, c); !slices.Equal(is, full) {
		t.Errorf("a refused step has left\n%s\nwant\n%s", strings.Join(is, "\n"), strings.Join(full, "\n"))
	}
	r = open(t, cfg)
	acquire(t, r, 0)
	request := processor.Request{Partition: 0, ID: uuid.MustParse(id)}
	known, err := r.Look(t.Context(), []processor.Fence{standing(t, r, 0).Fence}, []names.Ref{ref("old")}, []processor.Request{request})
	if h := known.Holdings[ref("old")]; err != nil || h.Version != 2 || !h.Hidden() {
		t.Errorf("the erased name is %+v, %v", h, err)
	}
	if o := known.Outcomes[request]; o.Version != 1 || o.Owner != "" || !o.Erased || o.Ref != eraser.Ref(ref("old")) {
		t.Errorf("what was wiped is %+v", o)
	}
	r.Close()

	// Without all that there is a way back, and one up again.
	exec(t, c, `DELETE FROM erasures`)
	exec(t, c, `DELETE FROM names WHERE space = 'signup'`)
	down(3, "")
	if is := schema(t, c); !slices.Equal(is, was) {
		t.Errorf("down has left\n%s\nwant\n%s", strings.Join(is, "\n"), strings.Join(was, "\n"))
	}
	up()
	if is := schema(t, c); !slices.Equal(is, full) {
		t.Errorf("up again is\n%s\nwant\n%s", strings.Join(is, "\n"), strings.Join(full, "\n"))
	}
}
