// Package ledgertest is what a log comes to, in memory, for tests of whatever asks dibs for names.
//
// It promises that everything is decided by the very rule that a processor decides by. It does no I/O.
package ledgertest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Ledger is what the records so far have come to. It is not safe for concurrent use.
type Ledger struct {
	processor.Known
	// Force rejects every request about a key for a reason.
	Force map[names.Key]registrations.Reason

	// Signing is what privileged requests are signed with.
	Signing claims.SigningKey

	rules   processor.Rules
	logTime map[int32]time.Time
	rows    []processor.Row // outcomes and facts, in the order of their partition
}

// New makes an empty one.
func New(partitions int, policies names.Policies) *Ledger {
	signing := claims.SigningKey{ID: "test", Secret: []byte("of a test")}
	return &Ledger{
		Known: processor.Known{
			Holdings: make(map[names.Ref]registrations.Holding), Outcomes: make(map[processor.Request]registrations.Outcome),
			Marks: make(map[processor.Mark]struct{}),
		},
		Force:   make(map[names.Key]registrations.Reason),
		rules:   processor.Rules{Partitions: partitions, Policies: policies, Keys: claims.Keys{signing.ID: signing.Secret}},
		Signing: signing, logTime: make(map[int32]time.Time),
	}
}

// Hold makes a policy hold from here on.
func (l *Ledger) Hold(p *names.Policy) { l.rules.Policies = l.rules.Policies.With(p) }

// Sent is a record on its way to a partition.
type Sent struct {
	Partition int32
	Record    cloudevents.Record
}

// Sign makes a request of somebody who may write to the topic, signed where it must be.
func (l *Ledger) Sign(body claims.Body, id uuid.UUID, principal string) Sent {
	space, name := body.Name()
	key := claims.KeyOf(body)
	if key == "" {
		var err error
		if key, err = l.rules.Policies[space].HeldKey(name); err != nil {
			panic(fmt.Sprintf("%s is no name: %v", name, err))
		}
	}
	ref := names.Ref{Space: space, Key: key}
	r := claims.NewRecord(body, cloudevents.Event{ID: id, Source: "test", Principal: principal}, ref)
	return Sent{claims.Partition(ref.String(), l.rules.Partitions), l.Signing.Sign(r)}
}

// Decide decides the record at a place. It returns what is published, and what follows.
func (l *Ledger) Decide(partition int32, logEpoch, offset int64, r cloudevents.Record) (published []registrations.Outcome, follows []Sent) {
	received := processor.Receive(processor.Message{Offset: offset, Record: r}, l.rules)
	d := processor.Decide(processor.Ledger{
		Partition: partition, LogEpoch: logEpoch, LogTime: l.logTime[partition], Rules: l.rules, Known: l.Known,
	}, []processor.Received{received})
	l.logTime[partition] = d.LogTime
	force := l.Force[received.Ref.Key]
	if force == "" {
		for _, c := range d.Changes {
			l.Holdings[c.Ref] = c.Holding
		}
	}
	for _, row := range d.Rows {
		o := row.Outcome
		if force == "" && (row.Kind == processor.KindOutcome || row.Kind == processor.KindFact) {
			l.rows = append(l.rows, row)
		}
		switch row.Kind {
		case processor.KindOutcome:
			if force != "" {
				o.Type, o.Reason, o.Detail, o.State, o.Version, o.ExpiresAt = registrations.Rejected, force, "", "", 0, time.Time{}
			}
			l.Outcomes[processor.Request{Partition: partition, ID: row.RequestID}] = o
			published = append(published, o)
		case processor.KindFact, processor.KindDuplicate:
			published = append(published, o)
		case processor.KindSent:
			body, ref := row.Sent.Body()
			event := cloudevents.Event{ID: row.RequestID, Source: registrations.Source, Principal: claims.Principal}
			follows = append(follows, Sent{claims.Partition(ref.String(), l.rules.Partitions), l.Signing.Sign(claims.NewRecord(body, event, ref))})
		case processor.KindMark:
			l.Marks[processor.Mark{Partition: partition, Claim: row.RequestID, Owner: o.Owner}] = struct{}{}
		case processor.KindForwarded:
			panic("a record was published on another partition than its own")
		}
		if f := row.FollowUp; f != nil && force == "" {
			follows = append(follows, l.Sign(&claims.ReleaseRequested{
				About: claims.AboutKey(f.Ref), Owner: f.Owner, ExpectedVersion: &f.Version,
			}, claims.ReleaseID(f.Claim, o.Ref), claims.Principal))
		}
	}
	published = slices.DeleteFunc(published, func(o registrations.Outcome) bool { return !o.Type.Published() })
	return published, follows
}

// Decided returns the outcomes of those requests that are decided.
func (l *Ledger) Decided(ids []uuid.UUID) []registrations.Outcome {
	var found []registrations.Outcome
	for at, o := range l.Outcomes {
		for _, id := range ids {
			if at.ID == id {
				found = append(found, o)
			}
		}
	}
	return found
}

// History returns what changed a name, from a version on: the first row of each.
func (l *Ledger) History(ref names.Ref, from int64) []processor.Row {
	var found []processor.Row
	for i := range l.rows {
		o := &l.rows[i].Outcome
		n := len(found)
		if o.Ref == ref && o.State != "" && o.Version >= from && (n == 0 || found[n-1].Outcome.Version < o.Version) {
			found = append(found, l.rows[i])
		}
	}
	return found
}

// ByOwner returns the names that an owner holds, by space and key.
func (l *Ledger) ByOwner(owner string) []names.Ref {
	var refs []names.Ref
	for ref, h := range l.Holdings {
		if h.Owner == owner {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, Compare)
	return refs
}

// Compare orders names by space and key.
func Compare(a, b names.Ref) int {
	return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Key, b.Key))
}

// Sequel returns what came of a claim, or of its confirmation: what withdrew it, and what it gave up; nil for nothing.
func (l *Ledger) Sequel(of registrations.Outcome) (withdrawal *registrations.Outcome, followUp *processor.FollowUp) {
	for i := range l.rows {
		row := &l.rows[i]
		if o := &row.Outcome; o.ClaimID == of.ClaimID && o.Ref == of.Ref {
			if o.Type == registrations.Withdrawn && o.State != "" {
				withdrawal = o
			}
			if row.FollowUp != nil {
				followUp = row.FollowUp
			}
		}
	}
	return withdrawal, followUp
}
