package peers

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// echo is dibs without the decision and without the database: produce, consume, produce, consume, by dibs' own clients,
// one reader per core, where dibs has one and a transaction per core. It is the floor: no claim through the log can be faster.
// Its records are as large as those of dibs, and nothing of them is encoded or decoded but the id. It says yes to everybody.
type echo struct {
	*wires
	headers, answerHeaders []cloudevents.Header
	request, answer        int // how long the values are
}

func openEcho(ctx context.Context, o *opening) (bench.Peer, error) {
	w, err := openWires(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &echo{wires: w}
	e.sizes()
	if err := w.tail(ctx, func([]byte) registrations.Type { return registrations.Accepted }); err != nil {
		return nil, err
	}
	lanes := min(runtime.GOMAXPROCS(0), o.Partitions)
	for lane := range lanes {
		reader := kafka.NewReader(w.client, kafka.ReaderConfig{})
		for p := lane; p < o.Partitions; p += lanes {
			reader.Seek(int32(p), 0)
		}
		w.run(reader.Run)
		w.run(func(ctx context.Context) error { return e.lane(ctx, reader) })
	}
	return e, nil
}

// sizes makes headers of dibs' kind, and measures values of it.
func (e *echo) sizes() {
	const name, owner = "r1.00000000000", "o-1-100-1000"
	ref := names.Ref{Space: names.Username, Key: name}
	id := uuid.Must(uuid.NewV7())
	request := (&claims.UsernameClaimed{Space: ref.Space, Spelling: name, Owner: owner, Mode: claims.ModeRegister}).
		Record(cloudevents.Event{ID: id, Source: "dibs-api", Principal: "bench", Time: time.Now()}, ref)
	request = claims.SigningKey{ID: "in-process", Secret: make([]byte, 32)}.Sign(request)
	answer := (&registrations.Outcome{
		Type: registrations.Accepted, RequestID: id, ClaimID: id, Ref: ref, Name: name, Owner: owner, State: registrations.Registered,
		Version: 1, LogTime: time.Now(), PolicyVersion: 1, Offset: 100_000,
	}).Record()
	e.headers, e.request = request.Headers, len(request.Value)
	e.answerHeaders, e.answer = answer.Headers, len(answer.Value)
}

// Name implements bench.Peer.
func (*echo) Name() string { return EchoName }

// Claim implements bench.Peer.
func (e *echo) Claim(ctx context.Context, name, owner string) (bool, error) {
	id := uuid.Must(uuid.NewV7())
	value := append(make([]byte, 0, e.answer), `{"request_id":"`...)
	value = cloudevents.AppendUUID(value, id)
	value = append(value, `","name":"`...)
	value = append(value, name...)
	value = append(value, `","owner":"`...)
	value = append(value, owner...)
	value = append(value, `"}`...)
	_, err := e.ask(ctx, id, cloudevents.Record{
		Key: []byte("username/" + strings.ToLower(name)), Value: padded(value, e.request), Headers: e.headers,
	})
	return err == nil, err
}

// padded makes a value as long as one of dibs.
func padded(value []byte, to int) []byte {
	for len(value) < to {
		value = append(value, ' ')
	}
	return value
}

// batch is how many records dibs decides at once.
const batch = 8000

// lane answers what comes in. While an answer is on its way the next ones are read.
func (e *echo) lane(ctx context.Context, reader *kafka.Reader) error {
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		fetched, err := reader.Poll(ctx, processor.Beside{}, batch, time.Second)
		if err != nil {
			return nil // ctx has ended
		}
		var outputs []processor.Output
		for _, f := range fetched {
			switch {
			case errors.Is(f.Err, processor.ErrInterrupted):
				reader.Seek(f.Partition, f.Next)
			case f.Err != nil:
				return fmt.Errorf("read partition %d: %w", f.Partition, f.Err)
			}
			for i := range f.Messages {
				m := &f.Messages[i]
				value := append(make([]byte, 0, e.answer), m.Value...)
				outputs = append(outputs, processor.Output{Topic: processor.ToRegistrations, Partition: f.Partition, Record: cloudevents.Record{
					Key: m.Key, Value: padded(value, e.answer), Headers: e.answerHeaders, Time: m.Time,
				}})
			}
		}
		if len(outputs) == 0 {
			continue
		}
		answers.Go(func() {
			if err := e.producer.Publisher().Publish(ctx, outputs); err != nil && ctx.Err() == nil {
				e.fail(err)
			}
		})
	}
}
