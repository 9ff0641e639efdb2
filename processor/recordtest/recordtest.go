// Package recordtest is what every processor.Record must pass: the contract of the port, sentence by sentence.
//
// It uses nothing but the port, so that the record in Postgres and the one in memory are held to the same.
package recordtest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Exercise runs the suite. Open gives a record that is empty and belongs to the test; it may be called in parallel.
func Exercise(t *testing.T, open func(t *testing.T) processor.Record) {
	for _, part := range []struct {
		name string
		run  func(*harness)
	}{
		{"Acquire", acquire},
		{"AcquireAtOnce", acquireAtOnce},
		{"Standings", standings},
		{"Fence", fence},
		{"FormerWriter", formerWriter},
		{"Look", look},
		{"Commit", commit},
		{"CommitNothing", commitNothing},
		{"CommitAgain", commitAgain},
		{"CommitAllOrNone", commitAllOrNone},
		{"CommitAtOnce", commitAtOnce},
		{"CommitSameAtOnce", commitSameAtOnce},
		{"Conflict", conflict},
		{"ConflictAtOnce", conflictAtOnce},
		{"FreedName", freedName},
		{"DecidedTwice", decidedTwice},
		{"Unpublished", unpublished},
		{"EveryOutcome", everyOutcome},
		{"EveryFollowUp", everyFollowUp},
		{"EverySent", everySent},
		{"EveryRawRecord", everyRawRecord},
		{"EveryHolding", everyHolding},
		{"EveryState", everyState},
		{"Marks", marks},
		{"Due", due},
		{"DueInOrder", dueInOrder},
		{"Published", published},
		{"Forget", forget},
		{"ForgetSome", forgetSome},
		{"Halt", halt},
		{"Policies", policies},
		{"Sizes", sizes},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.run(&harness{T: t, record: open(t)})
		})
	}
}

// harness is a record under test, with verbs. Each fails the test where the record does not do as it should.
type harness struct {
	*testing.T
	record processor.Record
}

// at is the log time of everything the suite writes, unless it says otherwise.
var at = time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)

func (h *harness) acquire(partition int32) processor.Standing {
	h.Helper()
	s, err := h.record.Acquire(h.Context(), partition, uuid.New())
	if err != nil {
		h.Fatalf("acquire partition %d: %v", partition, err)
	}
	return s
}

// standing returns the row of a partition, which must be there.
func (h *harness) standing(partition int32) processor.Standing {
	h.Helper()
	all, err := h.record.Standings(h.Context(), []int32{partition})
	if err != nil || len(all) != 1 {
		h.Fatalf("standing of partition %d: %v, %v", partition, all, err)
	}
	return all[0]
}

func (h *harness) commit(batches ...processor.Batch) {
	h.Helper()
	if err := h.record.Commit(h.Context(), batches); err != nil {
		h.Fatalf("commit: %v", err)
	}
}

// refused checks that a commit is refused with a sentinel, and has left nothing.
func (h *harness) refused(want error, batches ...processor.Batch) {
	h.Helper()
	before := h.everything(batches)
	err := h.record.Commit(h.Context(), batches)
	if !errors.Is(err, want) {
		h.Errorf("commit: %v, want %v", err, want)
	}
	for _, other := range []error{processor.ErrFenced, processor.ErrConflict, processor.ErrData} {
		if !errors.Is(other, want) && errors.Is(err, other) {
			h.Errorf("commit: %v is also %v", err, other)
		}
	}
	if after := h.everything(batches); !reflect.DeepEqual(before, after) {
		h.Errorf("a refused commit has left something:\n%+v\nbefore\n%+v", after, before)
	}
}

// all is what the port shows of a record.
type all struct {
	Standings []processor.Standing
	Known     processor.Known
	Rows      [][]processor.Row
}

// everything reads what the batches are about.
func (h *harness) everything(batches []processor.Batch) (a all) {
	h.Helper()
	var refs []names.Ref
	var requests []processor.Request
	var fences []processor.Fence
	for _, b := range batches {
		for _, c := range b.Changes {
			refs = append(refs, c.Ref)
		}
		for _, r := range b.Rows {
			requests = append(requests, processor.Request{Partition: b.Partition, ID: r.RequestID})
		}
		found, err := h.record.Standings(h.Context(), []int32{b.Partition})
		if err != nil {
			h.Fatal(err)
		}
		a.Standings = append(a.Standings, found...)
		for _, s := range found {
			fences = append(fences, s.Fence)
			a.Rows = append(a.Rows, h.unpublished(s.Fence, 0))
		}
	}
	a.Known = h.look(fences, refs, requests)
	return a
}

func (h *harness) look(fences []processor.Fence, refs []names.Ref, requests []processor.Request) processor.Known {
	h.Helper()
	known, err := h.record.Look(h.Context(), fences, refs, requests)
	if err != nil {
		h.Fatalf("look: %v", err)
	}
	return known
}

func (h *harness) holding(s processor.Standing, ref names.Ref) (registrations.Holding, bool) {
	h.Helper()
	holding, ok := h.look([]processor.Fence{s.Fence}, []names.Ref{ref}, nil).Holdings[ref]
	return holding, ok
}

func (h *harness) unpublished(at processor.Fence, from int64) []processor.Row {
	h.Helper()
	rows, err := h.record.Unpublished(h.Context(), at, from)
	if err != nil {
		h.Fatalf("unpublished of partition %d: %v", at.Partition, err)
	}
	return rows
}

// want checks a sentinel.
func (h *harness) want(what string, err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Errorf("%s: %v, want %v", what, err, want)
	}
}

// sameRows checks that rows are read back as they were written, and publish the same bytes.
func (h *harness) sameRows(got, want []processor.Row) {
	h.Helper()
	if len(got) != len(want) {
		h.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := &got[i], &want[i]
		if g.Offset != w.Offset || g.Seq != w.Seq || g.Kind != w.Kind || g.RequestID != w.RequestID || g.Principal != w.Principal || g.Detail != w.Detail {
			h.Fatalf("row %d is\n%+v, want\n%+v", i, *g, *w)
		}
		if g.Actor != w.Actor || g.Why != w.Why {
			h.Fatalf("row %d was done by %q because %q, want %q because %q", i, g.Actor, g.Why, w.Actor, w.Why)
		}
		if !reflect.DeepEqual(g.FollowUp, w.FollowUp) {
			h.Fatalf("row %d is followed by\n%+v, want\n%+v", i, g.FollowUp, w.FollowUp)
		}
		if (g.Raw == nil) != (w.Raw == nil) || w.Raw != nil && !reflect.DeepEqual(*g.Raw, *w.Raw) {
			h.Fatalf("raw record of row %d is\n%+v, want\n%+v", i, g.Raw, w.Raw)
		}
		h.sameOutcome(g.Outcome, w.Outcome)
	}
}

func (h *harness) sameOutcome(got, want registrations.Outcome) {
	h.Helper()
	if !got.LogTime.Equal(want.LogTime) {
		h.Fatalf("log time is %v, want %v", got.LogTime, want.LogTime)
	}
	if !got.ExpiresAt.Equal(want.ExpiresAt) {
		h.Fatalf("expires at %v, want %v", got.ExpiresAt, want.ExpiresAt)
	}
	a, b := got, want
	a.LogTime, b.LogTime = time.Time{}, time.Time{}
	a.ExpiresAt, b.ExpiresAt = time.Time{}, time.Time{}
	if a != b {
		h.Fatalf("outcome is\n%+v, want\n%+v", got, want)
	}
	if want.Type == "" {
		return
	}
	published, again := want.Record(), got.Record()
	if !bytes.Equal(published.Key, again.Key) || !bytes.Equal(published.Value, again.Value) || !published.Time.Equal(again.Time) ||
		!reflect.DeepEqual(published.Headers, again.Headers) {
		h.Fatalf("published again as\n%s\n%+v, want\n%s\n%+v", again.Value, again, published.Value, published)
	}
}

// fenced is a fence that the record refuses, and why.
type fenced struct {
	why   string
	fence processor.Fence
}

// broken returns a fence with each of its fields in turn as it is not in the row.
func broken(f processor.Fence) []fenced {
	epoch, offsetAhead, offsetBehind, writerEpoch, writerBehind, writer, nobody := f, f, f, f, f, f, f
	epoch.LogEpoch++
	offsetAhead.NextOffset++
	offsetBehind.NextOffset--
	writerEpoch.WriterEpoch++
	writerBehind.WriterEpoch--
	writer.WriterID = uuid.New()
	nobody.Partition += 1000
	return []fenced{
		{"another log epoch", epoch},
		{"a higher offset", offsetAhead}, {"a lower offset", offsetBehind},
		{"a higher writer epoch", writerEpoch}, {"a lower writer epoch", writerBehind},
		{"another writer", writer}, {"a partition without a row", nobody},
	}
}

// batch makes a batch of rows, whose offsets are those of the records: what lies behind the last is Next.
func batch(s processor.Standing, rows ...processor.Row) processor.Batch {
	b := processor.Batch{
		Fence: s.Fence, Next: s.NextOffset + 1, LogTime: at, LastOffset: s.LastOffset, LastHash: s.LastHash,
		PublishedThrough: s.PublishedThrough, Rows: rows,
	}
	for i := range rows {
		b.Next, b.LastOffset, b.LastHash = rows[i].Offset+1, rows[i].Offset, 0xdeadbeef
	}
	return b
}

// with adds changes.
func with(b processor.Batch, changes ...processor.Change) processor.Batch {
	b.Changes = append(b.Changes, changes...)
	return b
}

// after is the standing that a committed batch leaves.
func after(s processor.Standing, b processor.Batch) processor.Standing {
	s.NextOffset, s.LogTime, s.LastOffset, s.LastHash = b.Next, b.LogTime, b.LastOffset, b.LastHash
	s.PublishedThrough = max(s.PublishedThrough, b.PublishedThrough)
	if b.InForce != nil {
		s.InForce = b.InForce
	}
	return s
}

func ref(key string) names.Ref { return names.Ref{Space: names.Username, Key: names.Key(key)} }

// accepted is a row that accepts a name, at an offset.
func accepted(s processor.Standing, offset int64, key string) processor.Row {
	id := uuid.New()
	return outcome(s, offset, registrations.Outcome{
		Type: registrations.Accepted, RequestID: id, ClaimID: id, Ref: ref(key), Name: key, Owner: "u-" + key,
		State: registrations.Registered, Version: 1, PolicyVersion: 1,
	})
}

// outcome is the row of an outcome, at an offset.
func outcome(s processor.Standing, offset int64, o registrations.Outcome) processor.Row {
	o.Partition, o.LogEpoch, o.Offset = s.Partition, s.LogEpoch, offset
	if o.LogTime.IsZero() {
		o.LogTime = at
	}
	if o.RequestHash == (claims.Hash{}) {
		o.RequestHash = claims.Hash([]byte(fmt.Sprintf("%-32d", offset))[:32])
	}
	kind := processor.KindOutcome
	if o.Fact {
		kind = processor.KindFact
	}
	return processor.Row{Offset: offset, Seq: o.Seq, Kind: kind, RequestID: o.RequestID, Principal: "gateway", Outcome: o}
}

// duplicate is the row of a record that repeats a request.
func duplicate(offset int64, of processor.Row) processor.Row {
	return processor.Row{Offset: offset, Kind: processor.KindDuplicate, RequestID: of.RequestID, Principal: "another", Outcome: of.Outcome}
}

// registered is the change that goes with an accepted row: from the version that was read to the next.
func registered(row processor.Row, read int64) processor.Change {
	o := row.Outcome
	return processor.Change{Ref: o.Ref, Version: read, Holding: registrations.Holding{
		State: registrations.Registered, Name: o.Name, Owner: o.Owner, ClaimID: o.ClaimID, Version: read + 1, PolicyVersion: 1,
		Since: o.LogTime, Partition: o.Partition,
	}}
}

func raw(key, value string, headers ...cloudevents.Header) *cloudevents.Record {
	return &cloudevents.Record{Key: []byte(key), Value: []byte(value), Headers: headers, Time: at}
}
