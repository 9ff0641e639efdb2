package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// fifthTaken are so many claims, a fifth of names that are taken.
func fifthTaken(records int) (rules processor.Rules, known processor.Known, messages []processor.Message) {
	rules = processor.Rules{Partitions: 1, Policies: names.Builtin()}
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	known = processor.Known{
		Holdings: make(map[names.Ref]registrations.Holding),
		Outcomes: make(map[processor.Request]registrations.Outcome),
	}
	messages = make([]processor.Message, records)
	for i := range messages {
		ref := names.Ref{Space: names.Username, Key: names.Key(fmt.Sprintf("raymond.%d", i))}
		claim := claims.UsernameClaimed{Space: ref.Space, Spelling: string(ref.Key), Owner: fmt.Sprintf("owner-1-%07d", i), Mode: claims.ModeRegister}
		messages[i] = processor.Message{Offset: int64(i), Record: claim.Record(
			cloudevents.Event{ID: uuid.New(), Source: "dibs-api", Principal: "gateway", Time: at}, ref)}
		messages[i].Time = at
		if i%5 == 0 {
			known.Holdings[ref] = registrations.Holding{State: registrations.Registered, Owner: "u-1", Version: 1}
		}
	}
	return rules, known, messages
}

// BenchmarkDecide is what a record costs between fetch and commit: read and decided, a fifth of the names being taken.
func BenchmarkDecide(b *testing.B) {
	const records = 2000
	rules, known, messages := fifthTaken(records)
	per := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	}
	received := make([]processor.Received, records)
	b.Run("Receive", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range messages {
				received[i] = processor.Receive(messages[i], rules)
			}
		}
		per(b)
	})
	ledger := processor.Ledger{LogEpoch: 1, Rules: rules, Known: known}
	var decision processor.Decision
	b.Run("Decide", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decision = processor.Decide(ledger, received)
		}
		per(b)
	})
	b.Run("Outputs", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range decision.Rows {
				decision.Rows[i].Outcome.Record()
			}
		}
		per(b)
	})
}
