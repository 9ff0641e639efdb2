package processor

import (
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
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
			out = append(out, Output{ToRegistrations, at.Partition, row.Outcome.Record()})
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
