package checker

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Check returns the promises that the history breaks, each with a text that says where. None means: kept, as far as the
// history goes.
func Check(h History) []Violation {
	j := &judge{History: &h}
	j.index()
	for _, p := range j.partitions {
		j.partition(p)
	}
	j.uniqueRequests()
	j.holders()
	j.names()
	j.erasures()
	j.registrations()
	j.forwards()
	j.followUps()
	j.signups()
	j.letters()
	j.answers()
	return j.violations
}

// place is where a record of claims is, and a row about it.
type place struct {
	partition int32
	epoch     int64
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%d-%d-%d", p.partition, p.epoch, p.offset) }

func (d *Decision) place() place { return place{d.Partition, d.LogEpoch, d.Offset} }
func (o *Outcome) place() place  { return place{o.Partition, o.LogEpoch, o.Offset} }

// output is a place and the number of what was decided there.
type output struct {
	place
	seq int
}

func (o *Outcome) output() output { return output{o.place(), o.Seq} }

// judge is a check under way.
type judge struct {
	*History
	violations []Violation

	partitions []int32
	claims     map[int32][]*Record
	decisions  map[place][]*Decision
	progress   map[int32]*Progress
	logs       map[int32][]Log

	// What the replay made of the log.
	expected []expected
	held     map[[2]string]Name
	// owed is how many rows want each outcome to be published.
	owed map[output]int
	// What erasures have left: replays by partition, outcomes whose rows are wiped, records that are wiped where they are kept.
	replays  map[int32]*replay
	wipedAt  map[output]bool
	rawWiped []expected
}

func (j *judge) broken(promise int, format string, args ...any) {
	j.violations = append(j.violations, Violation{promise, fmt.Sprintf(format, args...)})
}

func (j *judge) index() {
	j.claims, j.decisions = make(map[int32][]*Record), make(map[place][]*Decision)
	j.progress, j.logs = make(map[int32]*Progress), make(map[int32][]Log)
	j.held, j.owed = make(map[[2]string]Name), make(map[output]int)
	j.replays, j.wipedAt = make(map[int32]*replay), make(map[output]bool)
	j.Decisions = slices.Clone(j.Decisions) // what is wiped of them is restored
	known := make(map[int32]bool)
	for i := range j.Claims {
		r := &j.Claims[i]
		j.claims[r.Partition] = append(j.claims[r.Partition], r)
		known[r.Partition] = true
	}
	for i := range j.Progress {
		j.progress[j.Progress[i].Partition] = &j.Progress[i]
		known[j.Progress[i].Partition] = true
	}
	for _, l := range j.Logs {
		l.LogEpoch = max(1, l.LogEpoch)
		j.logs[l.Partition] = append(j.logs[l.Partition], l)
		known[l.Partition] = true
	}
	for i := range j.Decisions {
		d := &j.Decisions[i]
		j.decisions[d.place()] = append(j.decisions[d.place()], d)
		known[d.Partition] = true
	}
	for p := range known {
		j.partitions = append(j.partitions, p)
	}
	slices.Sort(j.partitions)
}

// partition replays the logs of one partition and compares each record's rows with what they should be.
func (j *judge) partition(p int32) {
	logs := j.logs[p]
	slices.SortFunc(logs, func(a, b Log) int { return cmp.Compare(a.LogEpoch, b.LogEpoch) })
	row := j.progress[p]
	y := newReplay(j.History, p)
	j.replays[p] = y
	checked := make(map[place]bool)
	for i, l := range logs {
		limit := l.End
		if i == len(logs)-1 {
			limit = j.limit(p, l, row)
		}
		j.trust(y, l, checked)
		for _, r := range j.claims[p] {
			if r.epoch() != l.LogEpoch || r.Offset < l.Start || r.Offset >= limit {
				continue
			}
			at := place{p, l.LogEpoch, r.Offset}
			if checked[at] {
				j.broken(2, "%s is twice in the history of the log", at)
			}
			checked[at] = true
			j.compare(at, y.next(r))
		}
	}
	j.unfounded(p, checked)
	for name, h := range y.held {
		if h.hidden() && len(j.ErasureSecret) > 0 {
			name[1] = j.erased("key", name[0], name[1])
		}
		if other, twice := j.held[name]; twice {
			j.broken(1, "%s/%s is held on partitions %d and %d", name[0], name[1], other.Partition, p)
		}
		j.held[name] = Name{
			Space: name[0], Key: name[1], Partition: p, State: h.state, Name: h.name, Owner: h.owner,
			ClaimID: h.claimID, Version: h.version, PolicyVersion: h.policyVersion, Since: h.since, ExpiresAt: h.expires,
			Settled: h.settled, Erased: h.erased, Previous: h.previous, Replaces: h.replaces, ReplacesVersion: h.replacesVersion, Signup: h.signup, Ballot: h.ballot,
		}
	}
}

// limit is the offset before which all of a partition's latest log must be decided.
func (j *judge) limit(p int32, l Log, row *Progress) int64 {
	if row == nil {
		if l.End > l.Start && !j.Running {
			j.broken(5, "partition %d was never owned, and its log has records", p)
		}
		return l.Start
	}
	switch {
	case row.LogEpoch != l.LogEpoch:
		j.broken(5, "partition %d is in log epoch %d, its log in %d", p, row.LogEpoch, l.LogEpoch)
	case row.Halted != "":
	case row.NextOffset > l.End:
		j.broken(5, "partition %d is past the end of its log (next %d, end %d) and is not halted", p, row.NextOffset, l.End)
	case row.NextOffset < l.Start:
		j.broken(5, "partition %d has lost records (next %d, log start %d) and is not halted", p, row.NextOffset, l.Start)
	case row.NextOffset < l.End && !j.Running:
		j.broken(5, "partition %d is not decided to its end (next %d, end %d)", p, row.NextOffset, l.End)
	}
	if row.PublishedThrough > row.NextOffset {
		j.broken(4, "partition %d: published_through %d is above next_offset %d (inv 13)", p, row.PublishedThrough, row.NextOffset)
	}
	if row.PublishedThrough < row.NextOffset && !j.Running {
		j.broken(4, "partition %d: published_through %d has not come to next_offset %d", p, row.PublishedThrough, row.NextOffset)
	}
	return row.NextOffset
}

// trust takes over the decisions below a log's start: their records are gone.
func (j *judge) trust(y *replay, l Log, checked map[place]bool) {
	var gone []*Decision
	for at, rows := range j.decisions {
		if at.partition == l.Partition && at.epoch == l.LogEpoch && at.offset < l.Start {
			gone = append(gone, rows...)
			checked[at] = true
		}
	}
	slices.SortFunc(gone, func(a, b *Decision) int { return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Seq, b.Seq)) })
	for _, d := range gone {
		y.trust(*d)
		j.owe(*d)
	}
}

func (j *judge) owe(d Decision) {
	if d.Outcome != nil && !silent(d.Outcome.Type) {
		j.owed[d.Outcome.output()]++
	}
}

// unfounded finds rows that no record stands behind.
func (j *judge) unfounded(p int32, checked map[place]bool) {
	for i := range j.Decisions {
		if d := &j.Decisions[i]; d.Partition == p && !checked[d.place()] {
			j.broken(5, "there is a decision (%s) at %s, and no record there that is to be decided (inv 3)", d.Kind, d.place())
			checked[d.place()] = true
		}
	}
}

// compare compares what a record left with what it should have.
func (j *judge) compare(at place, want expected) {
	rows := slices.SortedFunc(slices.Values(j.decisions[at]), func(a, b *Decision) int { return cmp.Compare(a.Seq, b.Seq) })
	if len(rows) == 0 {
		j.broken(5, "the record at %s was passed over: it left no row, expected %s (inv 2)", at, describe(want))
		return
	}
	if n := max(1, len(want.rows)); len(rows) != n {
		j.broken(3, "the record at %s left %d rows (%s), expected %d: %s", at, len(rows), kindsOf(rows), n, describe(want))
		return
	}
	last := rows[len(rows)-1]
	if last.Kind != want.kind {
		j.broken(promiseOf(last.Kind, want.kind), "the record at %s left a row %s (request %s), expected %s", at, last.Kind, last.RequestID, describe(want))
		return
	}
	j.expected = append(j.expected, want)
	q := &want.request
	switch want.kind {
	case KindDead, KindForwarded, KindPolicy:
		if last.Erased {
			j.rawWiped = append(j.rawWiped, want)
		}
		return
	case KindDuplicate:
		if last.RequestID != q.id || last.Principal != q.principal {
			j.broken(2, "the row at %s is of request %q by %q, the record of %q by %q", at, last.RequestID, last.Principal, q.id, q.principal)
		}
		j.owed[want.outcome().output()]++
		return
	}
	for i := range want.rows { // of a repeated sign-up there are none
		j.same(at, &want.rows[i], rows[i])
	}
}

// same compares a row with what it should be.
func (j *judge) same(at place, want, is *Decision) {
	if is.Erased {
		was := want
		left := j.wiped(*want)
		want = &left
		defer j.restore(was, is)
	}
	if is.Kind != want.Kind || is.Seq != want.Seq {
		j.broken(2, "row %d at %s is %s, expected %s as number %d", is.Seq, at, is.Kind, want.Kind, want.Seq)
		return
	}
	if is.RequestID != want.RequestID || is.Principal != want.Principal && want.Kind != KindMark {
		j.broken(2, "row %d at %s is of request %q by %q, expected %q by %q", is.Seq, at, is.RequestID, is.Principal, want.RequestID, want.Principal)
	}
	if is.Owner != want.Owner {
		j.broken(2, "the mark at %s is for owner %q, expected %q", at, is.Owner, want.Owner)
	}
	if is.Actor != want.Actor || is.Why != want.Why {
		j.broken(2, "row %d at %s is by actor %q because %q, expected %q because %q", is.Seq, at, is.Actor, is.Why, want.Actor, want.Why)
	}
	if is.FollowKey != want.FollowKey || is.FollowVersion != want.FollowVersion {
		j.broken(2, "row %d at %s leads to the release of %q at version %d, expected %q at version %d", is.Seq, at, is.FollowKey, is.FollowVersion, want.FollowKey, want.FollowVersion)
	}
	if want.Sent != nil && (is.Sent == nil || *is.Sent != *want.Sent) {
		j.broken(2, "row %d at %s leads to %+v, expected %+v", is.Seq, at, is.Sent, *want.Sent)
	}
	if want.Outcome == nil {
		return
	}
	if !silent(want.Outcome.Type) {
		j.owed[want.Outcome.output()]++
	}
	if is.Outcome == nil {
		j.broken(2, "the row at %s has no outcome", at)
	} else if diff := differ(*want.Outcome, *is.Outcome); diff != "" {
		j.broken(2, "the decision at %s is not what the log says: %s (inv 4)", at, diff)
	}
}

// unpublished is the outcome of a question that finds nothing to do.
const unpublished = "Unchanged"

func kindsOf(rows []*Decision) string {
	var all []string
	for _, d := range rows {
		all = append(all, d.Kind)
	}
	return strings.Join(all, ", ")
}

// promiseOf says which promise a row of the wrong kind breaks.
func promiseOf(is, want string) int {
	if is == KindDuplicate || want == KindDuplicate {
		return 3
	}
	return 2
}

func describe(x expected) string {
	s := x.kind
	switch x.kind {
	case KindOutcome, KindDuplicate:
		o := x.outcome()
		s += " " + o.Type + " " + o.Reason + " of request " + x.request.id
	case KindForwarded:
		s += fmt.Sprintf(" to partition %d", x.to)
	case KindDead:
		s += " (" + x.why + ")"
	}
	return s
}

// differ says in what two outcomes differ. The words of a rejection are no part of it; where a request is invalid the
// owner may be what is, and then need not be repeated. The hash of what has no
// key, or cannot be read, is not defined.
func differ(want, is Outcome) string {
	if is.Owner == "" && (want.Reason == "malformed" || want.Reason == "invalid_request" || !printable(want.Owner)) {
		want.Owner = ""
	}
	if want.RequestHash == "" {
		is.RequestHash = ""
	}
	if want.LogTime.Equal(is.LogTime) {
		is.LogTime = want.LogTime
	}
	if want.ExpiresAt.Equal(is.ExpiresAt) {
		is.ExpiresAt = want.ExpiresAt
	}
	if want == is {
		return ""
	}
	return difference(want, is)
}

// difference names the fields that differ.
func difference[T any](want, is T) string {
	var all []string
	w, i := reflect.ValueOf(want), reflect.ValueOf(is)
	for f := range w.NumField() {
		if a, b := w.Field(f).Interface(), i.Field(f).Interface(); a != b {
			all = append(all, fmt.Sprintf("%s is %v, expected %v", w.Type().Field(f).Name, b, a))
		}
	}
	return strings.Join(all, "; ")
}
