package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/dibs-hq/dibs/verify"
	"github.com/google/uuid"
)

// everything makes a batch with a row of each kind, and the name that it leaves.
func everything(s processor.Standing) processor.Batch {
	b := accepting(s, 1, "alice")
	b.Next, b.LastOffset = s.NextOffset+5, s.NextOffset+4
	at := func(i int64) int64 { return s.NextOffset + i }
	raw := cloudevents.Record{Key: []byte("k"), Value: []byte{0}, Headers: []cloudevents.Header{{Name: "h"}}, Time: logTime}
	row := &b.Rows[0]
	row.FollowUp = &processor.FollowUp{Claim: row.RequestID, Ref: ref("old"), Owner: "u-1", Version: 3}
	row.Actor, row.Why, row.Outcome.ExpiresAt, row.Outcome.Request = "root", "because", logTime.Add(time.Hour), "Nothing"
	fact := row.Outcome
	fact.Offset, fact.Fact, fact.Type, fact.RequestID = at(1), true, registrations.Expired, uuid.New()
	b.Rows = append(b.Rows,
		processor.Row{Offset: at(1), Kind: processor.KindFact, RequestID: fact.RequestID, Principal: "gateway", Outcome: fact},
		processor.Row{Offset: at(1), Seq: 1, Kind: processor.KindMark, RequestID: uuid.New(), Outcome: registrations.Outcome{Owner: "u-2"}},
		processor.Row{Offset: at(2), Kind: processor.KindForwarded, RequestID: uuid.New(), Principal: "a\x00b", Raw: &raw},
		processor.Row{Offset: at(3), Kind: processor.KindDead, Principal: "\xff", Raw: &raw, Detail: "it is \x00 dead"},
		processor.Row{Offset: at(4), Kind: processor.KindDuplicate, RequestID: row.RequestID, Principal: "gateway", Outcome: row.Outcome},
	)
	return b
}

// snapshot takes one, and closes it at the end of the test.
func snapshot(t *testing.T, r *postgres.Record, partition int32) verify.Snapshot {
	t.Helper()
	s, err := r.Verification().Snapshot(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestVerificationOfRows: what is read of a row is what would be written of it, in every column, and is read as it was.
func TestVerificationOfRows(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	r := open(t, cfg)
	st := acquire(t, r, 3)
	b := everything(st)
	commit(t, r, b)
	snap := snapshot(t, r, 3)

	// What comes behind it is not of its moment.
	commit(t, r, accepting(standing(t, r, 3), 4, "later"))
	if s, ok := snap.Standing(); !ok || s.NextOffset != b.Next || s.LogTime != logTime || s.LastOffset != b.LastOffset {
		t.Errorf("standing is %+v, %t", s, ok)
	}
	var all []verify.Stored
	for {
		page, err := snap.Rows(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	if len(all) != len(b.Rows) {
		t.Fatalf("%d rows, want %d", len(all), len(b.Rows))
	}
	for i, stored := range all {
		row := &b.Rows[i]
		if stored.Offset != row.Offset || stored.Seq != row.Seq || stored.Kind != row.Kind || stored.RequestID != row.RequestID || stored.LogEpoch != 1 {
			t.Errorf("row %d is %+v", i, stored)
		}
		wire, err := snap.AppendRow(nil, 1, row, false)
		if err != nil || string(wire) != string(stored.Bytes) {
			t.Errorf("%s: %v, %v", row.Kind, snap.RowDiff(wire, stored.Bytes), err)
		}
		read, err := snap.Row(stored)
		if err != nil {
			t.Errorf("%s: %v", row.Kind, err)
		}
		if again, err := snap.AppendRow(nil, 1, &read, false); err == nil && row.Kind != processor.KindDead && string(again) != string(stored.Bytes) {
			t.Errorf("%s is not read as it was written: %v", row.Kind, snap.RowDiff(again, stored.Bytes))
		}
	}
	if read, err := snap.Row(all[4]); err != nil || read.Detail != "it is \uFFFD dead" {
		t.Errorf("the dead row says %q, %v", read.Detail, err)
	}

	o := b.Rows[0].Outcome
	for before, want := range map[verify.Position]int{{LogEpoch: 1, Offset: o.Offset}: 0, {LogEpoch: 1, Offset: o.Offset + 1}: 1, {LogEpoch: 2}: 1} {
		found, err := snap.Decided(t.Context(), []uuid.UUID{o.RequestID, uuid.New()}, before)
		if err != nil || len(found) != want || want > 0 && found[0] != o {
			t.Errorf("decided before %+v: %+v, %v", before, found, err)
		}
	}
	at := []verify.Position{{LogEpoch: 1, Offset: o.Offset + 1}, {LogEpoch: 1, Offset: o.Offset}, {LogEpoch: 1, Offset: o.Offset}, {LogEpoch: 2, Offset: 0}}
	if found, err := snap.Outcomes(t.Context(), at); err != nil || !slices.Equal(found, []registrations.Outcome{o, b.Rows[1].Outcome}) {
		t.Errorf("outcomes: %+v, %v", found, err)
	}
	if partitions, err := r.Verification().Partitions(t.Context()); err != nil || !slices.Equal(partitions, []int32{3}) {
		t.Errorf("partitions: %v, %v", partitions, err)
	}
	c := connect(t, cfg)
	exec(t, c, `INSERT INTO decisions (partition, log_epoch, "offset", seq, kind) VALUES (77, 1, 0, 0, 'x'), (5, 1, 0, 0, 'x'), (5, 1, 1, 0, 'x')`)
	if partitions, err := r.Verification().Partitions(t.Context()); err != nil || !slices.Equal(partitions, []int32{3, 5, 77}) {
		t.Errorf("partitions: %v, %v", partitions, err)
	}
}

// TestVerificationOfNames: the same of names.
func TestVerificationOfNames(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	b := accepting(acquire(t, r, 1), 3, "n")
	reserved := &b.Changes[1].Holding
	reserved.State, reserved.ExpiresAt, reserved.Replaces, reserved.ReplacesVersion = registrations.Reserved, logTime.Add(time.Hour), "old", 7
	cooling := &b.Changes[2].Holding
	*cooling = registrations.Holding{State: registrations.Cooling, ClaimID: uuid.New(), Previous: "u-1", ExpiresAt: logTime, Version: 2, PolicyVersion: 1, Since: logTime, Partition: 1}
	commit(t, r, b)
	commit(t, r, accepting(acquire(t, r, 2), 1, "of-another-partition"))
	first := b.Rows[2].RequestID // it has lost the name again in the same batch
	snap := snapshot(t, r, 1)
	found := 0
	err := snap.Names(t.Context(), func(n verify.StoredName) error {
		found++
		i := slices.IndexFunc(b.Changes, func(c processor.Change) bool { return c.Ref == n.Ref })
		h := b.Changes[i].Holding
		lost := uuid.Nil
		if i == 2 {
			lost = first
		}
		wire, err := snap.AppendName(nil, n.Ref, h, lost)
		if err != nil || string(wire) != string(n.Bytes) {
			t.Errorf("%s: %v, %v", n.Ref, snap.NameDiff(wire, n.Bytes), err)
		}
		if n.ClaimID != h.ClaimID || n.First != lost || n.Replaces != h.Replaces || n.ReplacesVersion != h.ReplacesVersion {
			t.Errorf("%s is %+v", n.Ref, n)
		}
		h.Owner = "somebody else"
		other, err := snap.AppendName(nil, n.Ref, h, lost)
		diff := snap.NameDiff(n.Bytes, other)
		if err != nil || len(diff) != 1 || diff[0].Name != "owner" || diff[0].Found != `"somebody else"` {
			t.Errorf("another owner: %+v, %v", diff, err)
		}
		return nil
	})
	if err != nil || found != 3 {
		t.Errorf("%d names, %v", found, err)
	}
	if more, err := snap.Outcomes(t.Context(), []verify.Position{{LogEpoch: 1}}); err != nil || len(more) != 1 {
		t.Errorf("behind the names: %v, %v", more, err)
	}
}

// TestVerificationOfAnotherLog: where the present log began, and that rows of both logs come in order.
func TestVerificationOfAnotherLog(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	st := acquire(t, r, 0)
	b := accepting(st, 3, "old")
	b.PublishedThrough = b.Next
	commit(t, r, b)
	st = standing(t, r, 0)
	if err := r.Halt(t.Context(), st.Fence, "another log"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.AcceptGap(t.Context(), 0, 1, "ops", "lost"); err != nil {
		t.Fatal(err)
	}
	commit(t, r, accepting(standing(t, r, 0), 2, "new"))
	snap := snapshot(t, r, 0)
	if snap.Began() != 1 {
		t.Errorf("the log began at %d", snap.Began())
	}
	var at []string
	for {
		page, err := snap.Rows(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		at = append(at, fmt.Sprint(page[0].Position))
	}
	if want := []string{"{1 0}", "{1 1}", "{1 2}", "{2 1}", "{2 2}"}; !slices.Equal(at, want) {
		t.Errorf("rows are at %v, want %v", at, want)
	}
	if s, ok := snapshot(t, r, 9).Standing(); ok {
		t.Errorf("partition 9 is %+v", s)
	}
}
