package api_test

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// ledger is what the records so far have come to, by the very rule that a processor decides by: no test here has an opinion
// of its own about that. It is not safe for concurrent use.
type ledger struct {
	processor.Known
	// Force rejects every request about a key for a reason.
	Force map[names.Key]registrations.Reason

	rules   processor.Rules
	signing claims.SigningKey
	logTime map[int32]time.Time
}

// newLedger makes an empty one.
func newLedger(partitions int, policies names.Policies) *ledger {
	signing := claims.SigningKey{ID: "test", Secret: []byte("of a test")}
	return &ledger{
		Known: processor.Known{
			Holdings: make(map[names.Ref]registrations.Holding), Outcomes: make(map[processor.Request]registrations.Outcome),
			Marks: make(map[processor.Mark]struct{}),
		},
		Force:   make(map[names.Key]registrations.Reason),
		rules:   processor.Rules{Partitions: partitions, Policies: policies, Keys: claims.Keys{signing.ID: signing.Secret}},
		signing: signing, logTime: make(map[int32]time.Time),
	}
}

// sent is a record on its way to a partition.
type sent struct {
	Partition int32
	Record    cloudevents.Record
}

// Sign makes a request of somebody who may write to the topic, signed where it must be.
func (l *ledger) Sign(body claims.Body, id uuid.UUID, principal string) sent {
	space, name := body.Name()
	key, err := l.rules.Policies[space].Canonical(name)
	if err != nil {
		panic(fmt.Sprintf("%s is no name: %v", name, err))
	}
	ref := names.Ref{Space: space, Key: key}
	r := claims.NewRecord(body, cloudevents.Event{ID: id, Source: "test", Principal: principal}, ref)
	return sent{claims.Partition(ref.String(), l.rules.Partitions), l.signing.Sign(r)}
}

// Decide decides the record at a place. It returns what is published, and what follows.
func (l *ledger) Decide(partition int32, logEpoch, offset int64, r cloudevents.Record) (published []registrations.Outcome, follows []sent) {
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
		switch row.Kind {
		case processor.KindOutcome:
			if force != "" {
				o.Type, o.Reason, o.Detail, o.State, o.Version, o.ExpiresAt = registrations.Rejected, force, "", "", 0, time.Time{}
			}
			l.Outcomes[processor.Request{Partition: partition, ID: row.RequestID}] = o
			published = append(published, o)
		case processor.KindFact, processor.KindDuplicate:
			published = append(published, o)
		case processor.KindMark:
			l.Marks[processor.Mark{Partition: partition, Claim: row.RequestID, Owner: o.Owner}] = struct{}{}
		case processor.KindForwarded:
			panic("a record was published on another partition than its own")
		}
		if f := row.FollowUp; f != nil && force == "" {
			follows = append(follows, l.Sign(&claims.ReleaseRequested{
				About: claims.About{Space: f.Ref.Space, Spelling: string(f.Ref.Key)}, Owner: f.Owner, ExpectedVersion: &f.Version,
			}, claims.ReleaseID(f.Claim, o.Ref), claims.Principal))
		}
	}
	return published, follows
}

// Decided returns the outcomes of those requests that are decided.
func (l *ledger) Decided(ids []uuid.UUID) []registrations.Outcome {
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
