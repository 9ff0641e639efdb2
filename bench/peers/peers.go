package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/dibs-hq/dibs/bench"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The names of the peers.
const (
	EchoName       = "raw Kafka echo"
	InsertName     = "direct INSERT"
	InsertHTTPName = "direct INSERT over HTTP"
	AdvisoryName   = "advisory lock"
	VersionName    = "expected version"
	RedisName      = "Redis SET NX"

	ConsumersName        = "kafka-go, message by message"
	ConsumersBatchedName = "kafka-go, in batches"

	StreamsName           = "Kafka Streams, at least once"
	StreamsTunedName      = "Kafka Streams, at least once, tuned"
	StreamsExactName      = "Kafka Streams, exactly once"
	StreamsExactTunedName = "Kafka Streams, exactly once, tuned"
)

// Config says on what the peers run. Without brokers, those that need Kafka are left out; without a DSN, those that need
// Postgres.
type Config struct {
	Brokers []string
	DSN     string
	// Partitions of each topic. Defaults to 12.
	Partitions int
	// Only are the names of the peers that are wanted. Empty for all.
	Only []string
	// Log gets what is wrong. Nil discards.
	Log *slog.Logger
}

// Set is the peers that can run here. Close it.
type Set struct {
	peers []bench.Peer
	left  map[string]string
	pool  *pgxpool.Pool // of all peers that use Postgres; nil before the first
	java  string        // its path; empty before the first peer that needs it

	closing sync.Mutex
	close   []func(context.Context) error // the last one first
}

// errLeft is why a peer cannot run here, which is no fault.
type errLeft string

func (e errLeft) Error() string { return string(e) }

// maker opens one peer. What it has to close it hands to the set as soon as it is there.
type maker struct {
	name string
	open func(ctx context.Context, o *opening) (bench.Peer, error)
}

// makers are all peers, in the order in which they are listed.
var makers = []maker{
	{EchoName, openEcho},
	{InsertName, openInsert},
	{InsertHTTPName, openInsertHTTP},
	{AdvisoryName, openAdvisory},
	{VersionName, openVersion},
	{RedisName, openRedis},
	{ConsumersName, consumersKind{1}.open},
	{ConsumersBatchedName, consumersKind{1000}.open},
	{StreamsName, streamsKind{atLeastOnce, false}.open},
	{StreamsTunedName, streamsKind{atLeastOnce, true}.open},
	{StreamsExactName, streamsKind{exactlyOnce, false}.open},
	{StreamsExactTunedName, streamsKind{exactlyOnce, true}.open},
}

// opening is what a peer is opened with.
type opening struct {
	Config
	id   string // of this set: nobody else's topics and schemas begin with it
	name string
	set  *Set
}

// onClose has f called when the set is closed.
func (o *opening) onClose(f func(context.Context) error) { o.set.close = append(o.set.close, f) }

func (o *opening) needsKafka() error {
	if len(o.Brokers) == 0 {
		return errLeft("no Kafka was given")
	}
	return nil
}

func (o *opening) needsPostgres() error {
	if o.DSN == "" {
		return errLeft("no Postgres was given")
	}
	return nil
}

// Open makes topics and schemas of the peers' own, and starts what is cheap while nobody asks it.
func Open(ctx context.Context, cfg Config) (*Set, error) {
	cfg.Partitions = cmp.Or(cfg.Partitions, 12)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, name := range cfg.Only {
		if !slices.ContainsFunc(makers, func(m maker) bool { return m.name == name }) {
			return nil, fmt.Errorf("there is no peer %q", name)
		}
	}
	s := &Set{left: make(map[string]string)}
	id := "peers-" + uuid.NewString()[:8]
	for _, m := range makers {
		if len(cfg.Only) > 0 && !slices.Contains(cfg.Only, m.name) {
			continue
		}
		p, err := m.open(ctx, &opening{Config: cfg, id: id, name: m.name, set: s})
		var left errLeft
		switch {
		case errors.As(err, &left):
			s.left[m.name] = err.Error()
		case err != nil:
			return nil, errors.Join(fmt.Errorf("open %s: %w", m.name, err), s.Close(context.WithoutCancel(ctx)))
		default:
			s.peers = append(s.peers, p)
		}
	}
	return s, nil
}

// Peers are those that can run here.
func (s *Set) Peers() []bench.Peer { return slices.Clone(s.peers) }

// Left says of each peer that cannot run here why.
func (s *Set) Left() map[string]string { return s.left }

// Close ends all peers and removes what they made.
func (s *Set) Close(ctx context.Context) error {
	s.closing.Lock()
	defer s.closing.Unlock()
	var errs []error
	for _, f := range slices.Backward(s.close) {
		errs = append(errs, f(ctx))
	}
	s.close = nil
	return errors.Join(errs...)
}

// Names are all peers there are, whether they can run here or not.
func Names() []string {
	names := make([]string, len(makers))
	for i := range makers {
		names[i] = makers[i].name
	}
	return names
}
