package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	kafkago "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// consumers are services as tutorials on kafka-go write them: a Reader with a group id, an INSERT, a Writer for the outcome,
// then the commit of the offset. There are as many as the topic has partitions, which is the most that a group can use.
// They run while they are started.
//
// A message may come again, so whoever holds a name already is told that it is theirs: what tutorials leave out.
type consumers struct {
	*wires
	*table
	name    string
	brokers []string
	group   string
	log     *slog.Logger
	most    int // messages at once
	insert  string
	look    string // in batches only

	mu   sync.Mutex // held while they start or stop
	stop func()     // nil while they do not run
	runs atomic.Bool
}

// consumersKind says how many messages a consumer takes at once: 1, or as many as there are up to a bound.
type consumersKind struct{ most int }

func (k consumersKind) open(ctx context.Context, o *opening) (bench.Peer, error) {
	if err := o.needsKafka(); err != nil {
		return nil, err
	}
	t, err := openTable(ctx, o, columns)
	if err != nil {
		return nil, err
	}
	w, err := openWires(ctx, o)
	if err != nil {
		return nil, err
	}
	c := &consumers{
		wires: w, table: t, name: o.name, brokers: o.Brokers, group: o.id + "." + word(o.name), most: k.most, log: o.Log,
		insert: "INSERT INTO " + t.name + " AS u (key, name, owner) VALUES (lower($1), $1, $2) ON CONFLICT (key) DO UPDATE SET name = u.name WHERE u.owner = $2",
	}
	if k.most > 1 {
		c.insert = "INSERT INTO " + t.name + " (key, name, owner) SELECT DISTINCT ON (lower(n)) lower(n), n, o" +
			" FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a (n, o, i) ORDER BY lower(n), i ON CONFLICT DO NOTHING RETURNING key, owner"
		c.look = "SELECT key, owner FROM " + t.name + " WHERE key = ANY($1)"
	}
	if err := w.tail(ctx, accepted); err != nil {
		return nil, err
	}
	o.onClose(c.Stop)
	return c, nil
}

// Name implements bench.Peer.
func (c *consumers) Name() string { return c.name }

// Claim implements bench.Peer.
func (c *consumers) Claim(ctx context.Context, name, owner string) (bool, error) {
	if !c.runs.Load() {
		if err := c.Start(ctx); err != nil {
			return false, err
		}
	}
	return c.claim(ctx, name, owner)
}

// Start implements bench.Starter. It returns when somebody answers on every partition.
func (c *consumers) Start(ctx context.Context) error {
	if c.runs.Load() {
		return nil
	}
	c.start()
	asked := make(map[int32]bool)
	var answers errgroup.Group
	for len(asked) < c.partitions {
		name := "start-" + uuid.NewString()
		if p := claims.Partition(name, c.partitions); !asked[p] {
			asked[p] = true
			answers.Go(func() error {
				_, err := c.claim(ctx, name, "nobody")
				return err
			})
		}
	}
	return answers.Wait()
}

// start returns at once: each consumer joins the group in its own time.
func (c *consumers) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.running)
	transport := &kafkago.Transport{MetadataTTL: time.Second, MetadataTopics: []string{c.client.Registrations()}}
	writer := &kafkago.Writer{
		Addr: kafkago.TCP(c.brokers...), Topic: c.client.Registrations(), Balancer: kafkago.Murmur2Balancer{},
		RequiredAcks: kafkago.RequireAll, BatchTimeout: time.Millisecond, // 1 s unless one says otherwise
		BatchSize: max(100, c.most), Transport: transport,
	}
	var all sync.WaitGroup
	for range c.partitions {
		all.Go(func() {
			if err := c.consume(ctx, writer); err != nil && ctx.Err() == nil {
				c.fail(err)
			}
		})
	}
	c.stop = func() {
		cancel()
		all.Wait()
		_ = writer.Close() // nothing is left in it
		transport.CloseIdleConnections()
	}
	c.runs.Store(true)
}

// Stop implements bench.Starter.
func (c *consumers) Stop(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs.Store(false)
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
	return nil
}

// Fill implements bench.Drainer.
func (c *consumers) Fill(ctx context.Context, n int, claim func(i int) (name, owner string)) error {
	if err := c.Stop(ctx); err != nil {
		return err
	}
	if err := c.empty(ctx); err != nil {
		return err
	}
	return c.fillBacklog(ctx, n, claim)
}

// Drain implements bench.Drainer.
func (c *consumers) Drain(ctx context.Context, progress func(decided int)) error {
	c.start() // the backlog is what waits for it
	return c.awaitBacklog(ctx, progress)
}

// consume is one consumer.
func (c *consumers) consume(ctx context.Context, writer *kafkago.Writer) error {
	reader := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: c.brokers, GroupID: c.group, Topic: c.client.Claims(), StartOffset: kafkago.FirstOffset,
		MaxBytes: 10 << 20, MaxWait: 500 * time.Millisecond, QueueCapacity: max(100, c.most),
		HeartbeatInterval: time.Second, JoinGroupBackoff: time.Second, // defaults 3 s and 5 s, which only make the start longer
	})
	defer func() { _ = reader.Close() }() // what it has not committed comes again
	for {
		first, err := reader.FetchMessage(ctx)
		if err != nil {
			return fmt.Errorf("read a message: %w", err)
		}
		messages, err := c.more(ctx, reader, first)
		if err != nil {
			return err
		}
		answers, err := c.decide(ctx, messages)
		if err != nil {
			return err
		}
		for err := writer.WriteMessages(ctx, answers...); err != nil; err = writer.WriteMessages(ctx, answers...) {
			c.log.WarnContext(ctx, "outcomes are not written; trying again", "err", err) // a new topic is not known everywhere at once
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := reader.CommitMessages(ctx, messages...); err != nil && ctx.Err() == nil {
			c.log.DebugContext(ctx, "offsets are not committed: the messages come again", "err", err) // the group is shared out anew
		}
	}
}

// more takes what has been read already. When the group is shared out anew some of that is dropped: it is not waited for.
func (c *consumers) more(ctx context.Context, reader *kafkago.Reader, first kafkago.Message) ([]kafkago.Message, error) {
	messages := []kafkago.Message{first}
	if c.most == 1 {
		return messages, nil
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	for n := min(int(reader.Stats().QueueLength), c.most-1); n > 0; n-- {
		m, err := reader.FetchMessage(soon)
		if soon.Err() != nil && ctx.Err() == nil && err != nil {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// asking is a request, read.
type asking struct {
	RequestID uuid.UUID `json:"request_id"`
	Name      string    `json:"name"`
	Owner     string    `json:"owner"`
}

func (c *consumers) decide(ctx context.Context, messages []kafkago.Message) ([]kafkago.Message, error) {
	asked := make([]asking, len(messages))
	for i, m := range messages {
		if err := json.Unmarshal(m.Value, &asked[i]); err != nil {
			return nil, fmt.Errorf("read a request: %w", err)
		}
	}
	accepted, err := c.write(ctx, asked)
	if err != nil {
		return nil, fmt.Errorf("insert: %w", err)
	}
	answers := make([]kafkago.Message, len(messages))
	for i, m := range messages {
		answers[i] = kafkago.Message{Key: m.Key, Value: answer(asked[i].RequestID, accepted[i])}
	}
	return answers, nil
}

// write inserts, and reports who has the name.
func (c *consumers) write(ctx context.Context, asked []asking) ([]bool, error) {
	accepted := make([]bool, len(asked))
	if c.most == 1 {
		tag, err := c.pool.Exec(ctx, c.insert, asked[0].Name, asked[0].Owner)
		accepted[0] = tag.RowsAffected() == 1
		return accepted, err
	}
	names, owners := make([]string, len(asked)), make([]string, len(asked))
	for i, a := range asked {
		names[i], owners[i] = a.Name, a.Owner
	}
	holders := make(map[string]string, len(asked))
	if err := c.read(ctx, holders, c.insert, names, owners); err != nil {
		return nil, err
	}
	var taken []string
	for _, name := range names {
		if key := strings.ToLower(name); holders[key] == "" {
			taken = append(taken, key)
		}
	}
	if len(taken) > 0 {
		if err := c.read(ctx, holders, c.look, taken); err != nil {
			return nil, err
		}
	}
	for i, a := range asked {
		accepted[i] = holders[strings.ToLower(a.Name)] == a.Owner
	}
	return accepted, nil
}

// read runs a statement that returns keys and owners.
func (c *consumers) read(ctx context.Context, holders map[string]string, sql string, arguments ...any) error {
	rows, err := c.pool.Query(ctx, sql, arguments...)
	if err != nil {
		return err
	}
	var key, owner string
	_, err = pgx.ForEachRow(rows, []any{&key, &owner}, func() error {
		holders[key] = owner
		return nil
	})
	return err
}
