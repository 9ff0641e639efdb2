package app_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

// point is where an incarnation of a processor dies.
type point string

// The points of a processor's life, in the order in which it comes by.
const (
	beforeEpoch     point = "take-over: before the epoch is taken"
	epochTaken      point = "take-over: the epoch is taken, nothing else"
	leftRead        point = "take-over: what the last one left is read"
	republishing    point = "take-over: published again in part"
	compared        point = "take-over: the log is compared"
	fetched         point = "records are fetched"
	lookedUp        point = "names are looked up"
	beforeCommit    point = "decided, not committed"
	inCommit        point = "the connection is cut in the commit"
	committed       point = "committed, the answer is lost"
	beforePublish   point = "committed, nothing is published"
	partPublished   point = "published in part"
	inPublish       point = "the connection is cut while outputs are on their way"
	afterPublish    point = "published, nobody is told"
	beforeFollowUp  point = "the rename's outcome is published, its follow-up not"
	inFollowUp      point = "the connection is cut with a follow-up on its way"
	afterFollowUp   point = "the follow-up is on claims, nobody is told"
	beforeCursor    point = "all is published, the cursor is not saved"
	afterCursor     point = "the cursor is saved"
	dueFound        point = "sweeper: it has found what has expired"
	beforeQuestions point = "sweeper: nothing is asked yet"
	partQuestions   point = "sweeper: asked in part"
	afterQuestions  point = "sweeper: asked, nobody is told"
	anywhere        point = "at any moment"
)

// deaths are all points.
var deaths = []point{
	beforeEpoch, epochTaken, leftRead, republishing, compared, fetched, lookedUp, beforeCommit, inCommit, committed, beforePublish,
	partPublished, inPublish, afterPublish, beforeFollowUp, inFollowUp, afterFollowUp, beforeCursor, afterCursor, dueFound, beforeQuestions,
	partQuestions, afterQuestions, anywhere,
}

var (
	errDead = errors.New("this incarnation is dead")
	errLost = errors.New("the answer is lost")
)

// incarnation is one life of a processor: the real one, on the real record, publisher and readers, which are its own. Only
// between them stands what a kill -9 would do: from its death on no call of it reaches anything, and no answer comes back.
// What is under way is cut off, and may or may not arrive.
type incarnation struct {
	ctx   context.Context // ends with its life
	kill  context.CancelFunc
	began time.Time
	over  chan struct{} // closed when nothing of it is left
	lost  float64       // how many of its commits and publications are not answered

	mu       sync.Mutex
	at       point // where it is to die, after so many times of coming by
	passes   int
	died     point // "" while it lives
	when     time.Time
	left     map[int32]bool // partitions with something of the former one to be published
	survived int            // calls without an answer
}

// incarnate brings a processor to life that owns all partitions.
func (d *deployment) incarnate(ctx context.Context, at point, passes int, lost float64) (*incarnation, error) {
	m := &incarnation{began: time.Now(), over: make(chan struct{}), lost: lost, at: at, passes: passes, left: make(map[int32]bool)}
	m.ctx, m.kill = context.WithCancel(ctx)
	keys, err := auth.ReadRequestKeys(d.keys)
	if err != nil {
		return nil, err
	}
	record, err := postgres.New(postgres.Config{DSN: d.database.DSN, Schema: d.database.Schema, Topic: d.topic.claims, Application: "incarnation"})
	if err != nil {
		return nil, err
	}
	client, err := kafka.New(kafka.Config{Brokers: d.kafka.Addrs, TopicPrefix: d.kafka.Prefix}, nil, nil)
	if err != nil {
		return nil, err
	}
	producer := kafka.NewProducer(client, kafka.ProducerConfig{})
	var parts sync.WaitGroup
	parts.Go(func() { _ = producer.Run(m.ctx) })
	reader := kafka.NewReader(client, kafka.ReaderConfig{})
	parts.Go(func() { _ = reader.Run(m.ctx) })
	p, err := processor.New(processor.Config{
		Rules:   processor.Rules{Partitions: d.partitions, Policies: names.Builtin(), Keys: keys.All},
		Signing: keys.Signing, Topic: d.topic.claims, Limits: processor.Limits{Drain: time.Millisecond, Transactions: 2, Beside: 1},
	}, &sole{m: m, partitions: d.partitions}, mortalRecord{m, record}, mortalPublisher{m, producer.Publisher()}, mortalSource{m, reader})
	if err != nil {
		return nil, err
	}
	parts.Go(func() { _ = p.Run(m.ctx) })
	go func() {
		parts.Wait()
		client.Close()
		record.Close()
		close(m.over)
	}()
	return m, nil
}

// here reports whether the incarnation is to die at this point, now. Whoever is told so sees to it, once.
func (m *incarnation) here(at point) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at != at || m.died != "" {
		return false
	}
	m.passes--
	return m.passes == 0
}

// die ends the life.
func (m *incarnation) die(at point) error {
	m.mu.Lock()
	if m.died == "" {
		m.died, m.when = at, time.Now()
	}
	m.mu.Unlock()
	m.kill()
	return errDead
}

// cut ends the life a moment from now, while a call is under way.
func (m *incarnation) cut(at point, within time.Duration) {
	time.AfterFunc(rand.N(within), func() { _ = m.die(at) })
}

// call runs a real call for as long as the incarnation lives. What comes back to a dead one is not heard.
func (m *incarnation) call(ctx context.Context, f func(context.Context) error) error {
	if m.ctx.Err() != nil {
		return errDead
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	err := f(ctx)
	if m.ctx.Err() != nil {
		return errDead
	}
	return err
}

// callThenDie is a call that is done, and not answered. One that fails is answered, and lived through.
func (m *incarnation) callThenDie(ctx context.Context, at point, f func(context.Context) error) error {
	if err := m.call(ctx, f); err != nil {
		return err
	}
	return m.die(at)
}

// callOrNot runs a real call. Now and then its answer is lost, or the call is lost before it is done, and nobody can tell
// which; the incarnation lives on.
func (m *incarnation) callOrNot(ctx context.Context, f func(context.Context) error) error {
	lost := rand.Float64() < m.lost
	if lost {
		m.mu.Lock()
		m.survived++
		m.mu.Unlock()
		if rand.IntN(2) == 0 {
			return errLost
		}
	}
	if err := m.call(ctx, f); err != nil || !lost {
		return err
	}
	return errLost
}

// sole gives all partitions to the one processor there is.
type sole struct {
	m          *incarnation
	partitions int
	given      bool
}

func (s *sole) Next(ctx context.Context) (processor.Assignment, error) {
	if s.given {
		<-ctx.Done()
		return processor.Assignment{}, ctx.Err()
	}
	s.given = true
	a := processor.Assignment{Generation: 1, Live: s.m.ctx.Done()}
	for p := range s.partitions {
		a.Partitions = append(a.Partitions, int32(p))
	}
	return a, nil
}

func (*sole) Commit(map[int32]int64) error { return nil }

// mortalRecord is an incarnation's database.
type mortalRecord struct {
	m *incarnation
	processor.Record
}

func (r mortalRecord) Acquire(ctx context.Context, partition int32, writer uuid.UUID) (st processor.Standing, err error) {
	acquire := func(ctx context.Context) (err error) {
		st, err = r.Record.Acquire(ctx, partition, writer)
		return err
	}
	switch {
	case r.m.here(beforeEpoch):
		return st, r.m.die(beforeEpoch)
	case r.m.here(epochTaken):
		return processor.Standing{}, r.m.callThenDie(ctx, epochTaken, acquire)
	}
	err = r.m.call(ctx, acquire)
	return st, err
}

func (r mortalRecord) Unpublished(ctx context.Context, at processor.Fence, from int64) (rows []processor.Row, err error) {
	err = r.m.call(ctx, func(ctx context.Context) (err error) {
		rows, err = r.Record.Unpublished(ctx, at, from)
		return err
	})
	if err == nil && len(rows) > 0 {
		if r.m.here(leftRead) {
			return nil, r.m.die(leftRead)
		}
		r.m.mu.Lock()
		r.m.left[at.Partition] = true
		r.m.mu.Unlock()
	}
	return rows, err
}

func (r mortalRecord) Standings(ctx context.Context, partitions []int32) (all []processor.Standing, err error) {
	err = r.m.call(ctx, func(ctx context.Context) (err error) {
		all, err = r.Record.Standings(ctx, partitions)
		return err
	})
	return all, err
}

func (r mortalRecord) Look(ctx context.Context, fences []processor.Fence, refs []names.Ref, requests []processor.Request) (known processor.Known, err error) {
	look := func(ctx context.Context) (err error) {
		known, err = r.Record.Look(ctx, fences, refs, requests)
		return err
	}
	if r.m.here(lookedUp) {
		return processor.Known{}, r.m.callThenDie(ctx, lookedUp, look)
	}
	err = r.m.call(ctx, look)
	return known, err
}

func (r mortalRecord) Due(ctx context.Context, partitions []int32, at time.Time, most int) (due []processor.Due, err error) {
	err = r.m.call(ctx, func(ctx context.Context) (err error) {
		due, err = r.Record.Due(ctx, partitions, at, most)
		return err
	})
	if err == nil && len(due) > 0 && r.m.here(dueFound) {
		return nil, r.m.die(dueFound)
	}
	return due, err
}

func (r mortalRecord) Commit(ctx context.Context, batches []processor.Batch) error {
	commit := func(ctx context.Context) error { return r.Record.Commit(ctx, batches) }
	switch {
	case r.m.here(beforeCommit):
		return r.m.die(beforeCommit)
	case r.m.here(inCommit):
		r.m.cut(inCommit, 4*time.Millisecond)
	case r.m.here(committed):
		return r.m.callThenDie(ctx, committed, commit)
	}
	return r.m.callOrNot(ctx, commit)
}

func (r mortalRecord) Published(ctx context.Context, cursors []processor.Cursor) error {
	save := func(ctx context.Context) error { return r.Record.Published(ctx, cursors) }
	switch {
	case r.m.here(beforeCursor):
		return r.m.die(beforeCursor)
	case r.m.here(afterCursor):
		return r.m.callThenDie(ctx, afterCursor, save)
	}
	return r.m.call(ctx, save)
}

func (r mortalRecord) Halt(ctx context.Context, at processor.Fence, reason string) error {
	return r.m.call(ctx, func(ctx context.Context) error { return r.Record.Halt(ctx, at, reason) })
}

// mortalPublisher is an incarnation's way to the topics.
type mortalPublisher struct {
	m *incarnation
	processor.Publisher
}

func (p mortalPublisher) Publish(ctx context.Context, outputs []processor.Output) error {
	part := func(n int) func(context.Context) error {
		return func(ctx context.Context) error { return p.Publisher.Publish(ctx, outputs[:n]) }
	}
	outcome := slices.IndexFunc(outputs, func(o processor.Output) bool { return o.Topic == processor.ToRegistrations })
	followUp, question := slices.IndexFunc(outputs, isFollowUp), slices.IndexFunc(outputs, isQuestion)
	all := len(outputs)
	switch {
	case outcome >= 0 && p.again(outputs[outcome].Partition) && p.m.here(republishing):
		return p.m.callThenDie(ctx, republishing, part(rand.IntN(all)))
	case outcome >= 0 && p.m.here(beforePublish):
		return p.m.die(beforePublish)
	case outcome >= 0 && all > 1 && p.m.here(partPublished):
		return p.m.callThenDie(ctx, partPublished, part(1+rand.IntN(all-1)))
	case outcome >= 0 && p.m.here(inPublish):
		p.m.cut(inPublish, 3*time.Millisecond)
	case outcome >= 0 && p.m.here(afterPublish):
		return p.m.callThenDie(ctx, afterPublish, part(all))
	case followUp >= 0 && p.m.here(beforeFollowUp):
		return p.m.callThenDie(ctx, beforeFollowUp, part(followUp))
	case followUp >= 0 && p.m.here(inFollowUp):
		p.m.cut(inFollowUp, 3*time.Millisecond)
	case followUp >= 0 && p.m.here(afterFollowUp):
		return p.m.callThenDie(ctx, afterFollowUp, part(followUp+1))
	case question >= 0 && p.m.here(beforeQuestions):
		return p.m.callThenDie(ctx, beforeQuestions, part(question))
	case question >= 0 && question+1 < all && p.m.here(partQuestions):
		return p.m.callThenDie(ctx, partQuestions, part(question+1+rand.IntN(all-question-1)))
	case question >= 0 && p.m.here(afterQuestions):
		return p.m.callThenDie(ctx, afterQuestions, part(all))
	}
	return p.m.callOrNot(ctx, part(all))
}

// again reports whether a partition's first publication is of what the former incarnation has left.
func (p mortalPublisher) again(partition int32) bool {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	left := p.m.left[partition]
	delete(p.m.left, partition)
	return left
}

func isFollowUp(o processor.Output) bool {
	return o.Topic == processor.ToClaims && ceType(o.Record) == claims.TypeReleaseRequested
}

func isQuestion(o processor.Output) bool {
	return o.Topic == processor.ToClaims && ceType(o.Record) == claims.TypeExpiryDue
}

func ceType(r cloudevents.Record) string {
	for _, h := range r.Headers {
		if h.Name == "ce_type" {
			return string(h.Value)
		}
	}
	return ""
}

// mortalSource is an incarnation's reader of one lane.
type mortalSource struct {
	m *incarnation
	processor.Source
}

func (s mortalSource) Seek(partition int32, offset int64) {
	if s.m.ctx.Err() == nil {
		s.Source.Seek(partition, offset)
	}
}

func (s mortalSource) Drop(partition int32) {
	if s.m.ctx.Err() == nil {
		s.Source.Drop(partition)
	}
}

func (s mortalSource) Poll(ctx context.Context, b processor.Beside, most int, wait time.Duration) (all []processor.Fetched, err error) {
	err = s.m.call(ctx, func(ctx context.Context) (err error) {
		all, err = s.Source.Poll(ctx, b, most, wait)
		return err
	})
	read := slices.ContainsFunc(all, func(f processor.Fetched) bool { return len(f.Messages) > 0 })
	if err == nil && read && s.m.here(fetched) {
		return nil, s.m.die(fetched)
	}
	return all, err
}

func (s mortalSource) Bounds(ctx context.Context, partition int32) (start, end int64, err error) {
	err = s.m.call(ctx, func(ctx context.Context) (err error) {
		start, end, err = s.Source.Bounds(ctx, partition)
		return err
	})
	return start, end, err
}

func (s mortalSource) At(ctx context.Context, partition int32, offset int64) (r cloudevents.Record, ok bool, err error) {
	at := func(ctx context.Context) (err error) {
		r, ok, err = s.Source.At(ctx, partition, offset)
		return err
	}
	if s.m.here(compared) {
		return cloudevents.Record{}, false, s.m.callThenDie(ctx, compared, at)
	}
	err = s.m.call(ctx, at)
	return r, ok, err
}
