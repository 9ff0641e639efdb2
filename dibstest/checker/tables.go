package checker

import (
	"fmt"
	"slices"
)

// uniqueRequests: a request, an id within its partition, is decided once.
func (j *judge) uniqueRequests() {
	type request struct {
		partition int32
		id        string
	}
	first := make(map[request]place)
	for i := range j.Decisions {
		d := &j.Decisions[i]
		if d.Kind != KindOutcome {
			continue
		}
		q := request{d.Partition, d.RequestID}
		if at, twice := first[q]; twice {
			j.broken(3, "request %s is decided twice: at %s and at %s", d.RequestID, at, d.place())
		}
		first[q] = d.place()
	}
}

// names: the table is the fold of the log.
func (j *judge) names() {
	rows := make(map[[2]string]bool)
	for _, is := range j.Names {
		name := [2]string{is.Space, is.Key}
		if rows[name] {
			j.broken(8, "names has two rows of %s/%s", is.Space, is.Key)
		}
		rows[name] = true
		want, ok := j.held[name]
		if !ok {
			j.broken(1, "names says that %q holds %s/%s; the log knows of no holder", is.Owner, is.Space, is.Key)
			continue
		}
		if want.Since.Equal(is.Since) {
			is.Since = want.Since
		}
		if want.ExpiresAt.Equal(is.ExpiresAt) {
			is.ExpiresAt = want.ExpiresAt
		}
		if want != is {
			j.broken(1, "names differs from the log in %s/%s: %s", is.Space, is.Key, difference(want, is))
		}
	}
	for name, want := range j.held {
		if !rows[name] {
			j.broken(1, "names has no row of %s/%s, which %q holds", name[0], name[1], want.Owner)
		}
	}
}

// answers: what clients were told is what was decided.
func (j *judge) answers() {
	decided := make(map[string][]*Outcome)
	withdrawn := make(map[string]bool) // claims
	for i := range j.Decisions {
		d := &j.Decisions[i]
		if d.Kind != KindOutcome || d.Outcome == nil {
			continue
		}
		decided[d.RequestID] = append(decided[d.RequestID], d.Outcome)
		if d.Outcome.Type == "Withdrawn" {
			withdrawn[d.Outcome.ClaimID] = true
		}
	}
	for _, a := range j.Answers {
		if a.Outcome == "" {
			continue
		}
		var fits bool
		var others []string
		for _, o := range decided[a.RequestID] {
			if a.RecordKey != "" && a.RecordKey != o.recordKey() {
				if left := j.wipedOutcome(*o); !j.wipedAt[o.output()] || a.RecordKey != left.recordKey() {
					continue
				}
			}
			others = append(others, fmt.Sprintf("%s %s version %d", o.Type, o.Reason, o.Version))
			fits = fits || a.says(o, withdrawn[a.RequestID])
		}
		switch {
		case fits:
		case len(others) == 0:
			j.broken(3, "a client was told %s %s for request %s (%s), which is not decided (inv 8)", a.Outcome, a.Reason, a.RequestID, a.RecordKey)
		default:
			j.broken(3, "a client was told %s %s version %d for request %s, decided is %v (inv 8)", a.Outcome, a.Reason, a.Version, a.RequestID, others)
		}
	}
}

// says reports whether an answer is that outcome, of a claim that was withdrawn or not.
func (a *Answer) says(o *Outcome, withdrawn bool) bool {
	switch a.Outcome {
	case "withdrawn":
		return o.Type == "Accepted" && withdrawn || o.Reason == "withdrawn"
	case "accepted":
		if o.Type == "Rejected" {
			return false
		}
	default:
		if a.Outcome == "Rejected" && a.Reason == "withdrawn" && o.Type == "Accepted" && withdrawn { // to a repeated call
			return true
		}
		if o.Type != a.Outcome {
			return false
		}
	}
	return a.Reason == o.Reason && (a.Version == 0 || a.Version == o.Version)
}

func (o *Outcome) recordKey() string {
	if o.Space == "" {
		return o.Key
	}
	return o.Space + "/" + o.Key
}

// Regressed compares two readings of the table partitions, the second taken later and with no loss of transactions in
// between: what never goes back must not have.
func Regressed(before, after []Progress) []Violation {
	j := &judge{}
	for _, b := range before {
		i := slices.IndexFunc(after, func(a Progress) bool { return a.Partition == b.Partition })
		if i < 0 {
			j.broken(5, "partition %d has lost its row", b.Partition)
			continue
		}
		a := after[i]
		newLog := a.LogEpoch > b.LogEpoch
		if a.LogEpoch < b.LogEpoch || a.WriterEpoch < b.WriterEpoch || a.LogTime.Before(b.LogTime) ||
			!newLog && (a.NextOffset < b.NextOffset || a.PublishedThrough < b.PublishedThrough) {
			j.broken(5, "partition %d went back: from %+v to %+v (inv 10)", b.Partition, b, a)
		}
	}
	return j.violations
}
