package peers

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// request is what peers that decide are asked through Kafka: as short as it can be, without headers. What reads it may take
// the fields by their place, and expects no quotes in names and owners.
func request(id uuid.UUID, name, owner string) cloudevents.Record {
	value := append(make([]byte, 0, 160), `{"request_id":"`...)
	value = cloudevents.AppendUUID(value, id)
	value = append(value, `","name":`...)
	value, _ = jsontext.AppendQuote(value, name)
	value = append(value, `,"owner":`...)
	value, _ = jsontext.AppendQuote(value, owner)
	value = append(value, '}')
	return cloudevents.Record{Key: []byte(strings.ToLower(name)), Value: value}
}

// answer is how they answer it.
func answer(id uuid.UUID, accepted bool) []byte {
	value := append(make([]byte, 0, 80), `{"request_id":"`...)
	value = cloudevents.AppendUUID(value, id)
	return fmt.Appendf(value, `","accepted":%t}`, accepted)
}

// accepted reads an answer.
func accepted(value []byte) registrations.Type {
	if bytes.HasSuffix(value, []byte(`:true}`)) {
		return registrations.Accepted
	}
	return registrations.Rejected
}

// claim asks for a name.
func (w *wires) claim(ctx context.Context, name, owner string) (bool, error) {
	id := uuid.Must(uuid.NewV7())
	t, err := w.ask(ctx, id, request(id, name, owner))
	return t == registrations.Accepted, err
}

// backlog is requests that nobody waits for one by one. Their ids are numbered, so that an answer that comes twice counts
// once.
type backlog struct {
	mark uint64 // the ids begin with it

	mu      sync.Mutex
	seen    []bool
	decided int
	done    chan struct{} // closed when all are decided
}

// fillBacklog publishes n requests, and counts their answers from now on.
func (w *wires) fillBacklog(ctx context.Context, n int, claim func(i int) (name, owner string)) error {
	var mark [8]byte
	_, _ = rand.Read(mark[:]) // it never fails
	b := &backlog{mark: binary.BigEndian.Uint64(mark[:]), seen: make([]bool, n), done: make(chan struct{})}
	w.backlog.Store(b)
	return w.fill(ctx, n, func(i int) cloudevents.Record {
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[:8], b.mark)
		binary.BigEndian.PutUint64(id[8:], uint64(i))
		name, owner := claim(i)
		return request(id, name, owner)
	})
}

// answered notes that a request of the backlog is decided, if it is one.
func (b *backlog) answered(id uuid.UUID) {
	i := binary.BigEndian.Uint64(id[8:])
	if binary.BigEndian.Uint64(id[:8]) != b.mark || i >= uint64(len(b.seen)) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.seen[i] {
		b.seen[i] = true
		if b.decided++; b.decided == len(b.seen) {
			close(b.done)
		}
	}
}

func (b *backlog) progress() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.decided
}

// awaitBacklog returns when all of it is decided.
func (w *wires) awaitBacklog(ctx context.Context, progress func(decided int)) error {
	b := w.backlog.Load()
	if b == nil || len(b.seen) == 0 {
		return nil
	}
	defer w.backlog.Store(nil)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(w.running, func() { cancel(context.Cause(w.running)) })
	defer stop()
	return report(ctx, b.done, progress, b.progress)
}
