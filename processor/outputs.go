package processor

import (
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// The headers that a dead letter carries besides its own.
const (
	DeadTopic     = "dibs-dead-topic"
	DeadPartition = "dibs-dead-partition"
	DeadLogEpoch  = "dibs-dead-log-epoch"
	DeadOffset    = "dibs-dead-offset"
	DeadReason    = "dibs-dead-reason"
)

// pending is a run of committed rows, and how far the partition is published once their outputs are acknowledged.
type pending struct {
	at      Fence
	rows    []Row
	through int64
}

// outputs appends the records that rows publish, in their order. It depends on the rows alone: what is published again
// after a take-over is what was published before.
func (l *lane) outputs(out []Output, at Fence, rows []Row) []Output {
	for i := range rows {
		row := &rows[i]
		switch row.Kind {
		case KindOutcome, KindFact, KindDuplicate:
			if row.Outcome.Type.Published() {
				out = append(out, Output{ToRegistrations, at.Partition, row.Outcome.Record()})
			}
			if row.FollowUp != nil {
				out = append(out, l.release(row.FollowUp, row.Outcome.Ref))
			}
		case KindSent:
			body, ref := row.Sent.Body()
			out = append(out, l.own(body, row.RequestID, ref, time.Time{}))
		case KindForwarded:
			to := claims.Partition(string(row.Raw.Key), l.rules.Partitions)
			out = append(out, Output{ToClaims, to, *row.Raw})
		case KindDead:
			// A partition beyond the pinned count has no place of its own among the dead letters.
			to := at.Partition % int32(l.rules.Partitions)
			out = append(out, Output{ToDeadLetters, to, l.deadLetter(at, row)})
		}
	}
	return out
}

// release is the request that gives up what a claim of a name replaces.
func (l *lane) release(f *FollowUp, of names.Ref) Output {
	body := &claims.ReleaseRequested{About: claims.AboutKey(f.Ref), Owner: f.Owner, ExpectedVersion: &f.Version}
	return l.own(body, claims.ReleaseID(f.Claim, of), f.Ref, time.Time{})
}

// isQuestion reports whether an output is what a sweeper asks. It is the only one of ours on claims that has a time of its
// own, which its topic may refuse; and no row stands behind it, so that it may be given up.
func (o *Output) isQuestion() bool { return o.Topic == ToClaims && !o.Time.IsZero() }

// own is a request that a processor makes itself: under a derived id, signed. Without a time the writer stamps it.
func (l *lane) own(body claims.Body, id uuid.UUID, ref names.Ref, at time.Time) Output {
	event := cloudevents.Event{ID: id, Source: registrations.Source, Principal: claims.Principal, Time: at}
	r := l.signer.Load().Sign(claims.NewRecord(body, event, ref))
	r.Time = at
	return Output{ToClaims, claims.Partition(ref.String(), l.rules.Partitions), r}
}

// signWith has our own requests signed with a key that holds in every partition: they go to any of them, and one whose
// signature does not hold where it arrives is lost. Who retires a key waits until everybody has looked at the rows.
func (l *lane) signWith(rows []Standing) {
	held := make([][]string, 0, len(rows))
	for i := range rows {
		if f := rows[i].InForce; f != nil {
			held = append(held, f.Keys)
		}
	}
	key := l.rules.Keys.Signing(l.signing, held...)
	l.signer.Store(&key)
}

// rerouted is a record as it is forwarded: under the name it is about, marked, everything else as it was. Its time is
// left to the writer: the topic refuses records that are old.
func rerouted(r cloudevents.Record, ref names.Ref) cloudevents.Record {
	r.Key = []byte(ref.RecordKey())
	r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], cloudevents.Header{Name: claims.Rerouted, Value: []byte("1")})
	r.Time = time.Time{}
	return r
}

func (l *lane) deadLetter(at Fence, row *Row) cloudevents.Record {
	r := *row.Raw
	text := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)],
		cloudevents.Header{Name: DeadTopic, Value: []byte(l.topic)},
		cloudevents.Header{Name: DeadPartition, Value: text(int64(at.Partition))},
		cloudevents.Header{Name: DeadLogEpoch, Value: text(at.LogEpoch)},
		cloudevents.Header{Name: DeadOffset, Value: text(row.Offset)},
		cloudevents.Header{Name: DeadReason, Value: []byte(row.Detail)},
	)
	r.Time = time.Time{}
	return r
}
