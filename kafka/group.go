package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/processor"
	kafkago "github.com/segmentio/kafka-go"
)

var _ processor.Group = (*Group)(nil)

// GroupConfig says which group of processors this one belongs to.
type GroupConfig struct {
	// ID is the group's name. Defaults to the topic prefix + "dibs-processor".
	ID string
	// HeartbeatInterval is how soon a member notices that partitions are shared out anew. Defaults to 500 ms.
	HeartbeatInterval time.Duration
	// SessionTimeout is how long a member may be silent before its partitions go to others. Defaults to 6 s, which is
	// the least that brokers allow unless they are told to.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the others wait for a member to come back. Defaults to 10 s.
	RebalanceTimeout time.Duration
}

func (c GroupConfig) withDefaults(client *Client) GroupConfig {
	if c.ID == "" {
		c.ID = client.cfg.TopicPrefix + "dibs-processor"
	}
	defaults := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	defaults(&c.HeartbeatInterval, 500*time.Millisecond)
	defaults(&c.SessionTimeout, groupSession)
	defaults(&c.RebalanceTimeout, 10*time.Second)
	return c
}

// growthCheck is how often we look for partitions that were added. Tests cannot wait for it.
var growthCheck = 10 * time.Second

// Group is a member of the consumer group that shares out the partitions of claims. It uses nothing else of the group:
// offsets that it commits are for dashboards, and safety does not depend on it.
//
// It implements processor.Group. Next and Commit are safe for concurrent use; it is a member while Run runs.
type Group struct {
	client   *Client
	cfg      GroupConfig
	balancer balancer

	mu      sync.Mutex // guards what follows
	current *kafkago.Generation
	next    *processor.Assignment // not handed out yet
	err     error                 // not handed out yet
	changed chan struct{}         // closed when next or err is set
	open    map[net.Conn]struct{} // the member's connections
	severed bool
	cut     chan struct{} // closed when severed
}

// NewGroup prepares a member.
func NewGroup(client *Client, cfg GroupConfig) *Group {
	return &Group{
		client: client, cfg: cfg.withDefaults(client),
		changed: make(chan struct{}), open: make(map[net.Conn]struct{}), cut: make(chan struct{}),
	}
}

// Run is a member of the group until ctx ends, then it leaves, so that the others take over at once. Stop the workers
// first: nobody else gets the partitions before Run ends. It runs once.
func (g *Group) Run(ctx context.Context) error {
	log := g.client.log
	dialer := *g.client.dialer
	dialer.DialFunc = g.dial(dialer.DialFunc)
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: g.cfg.ID, Brokers: g.client.cfg.Brokers, Dialer: &dialer, Topics: []string{g.client.Claims()},
		// The second one is what a later version with another balancer of its own will have in common with this one.
		GroupBalancers:    []kafkago.GroupBalancer{&g.balancer, kafkago.RangeGroupBalancer{}},
		HeartbeatInterval: g.cfg.HeartbeatInterval, SessionTimeout: g.cfg.SessionTimeout, RebalanceTimeout: g.cfg.RebalanceTimeout,
		JoinGroupBackoff: 300 * time.Millisecond,
		Timeout:          min(g.client.cfg.RequestTimeout, g.cfg.SessionTimeout*5/6), // a heartbeat fails before the session does
		ErrorLogger: kafkago.LoggerFunc(func(format string, args ...any) {
			log.DebugContext(ctx, "consumer group: "+fmt.Sprintf(format, args...))
		}),
	})
	if err != nil {
		return fmt.Errorf("consumer group %s: %w", g.cfg.ID, err)
	}
	// Errors are taken as soon as they come: one that waits would keep a closing group from leaving.
	var said time.Time // when an error was logged last
	for ctx.Err() == nil {
		generation, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, kafkago.RebalanceInProgress): // somebody else was faster to ask for a new generation
		case err != nil:
			if time.Since(said) > 10*time.Second {
				said = time.Now()
				log.WarnContext(ctx, "could not join the consumer group; trying again", "group", g.cfg.ID, "err", err)
			}
			g.failed(err)
		default:
			said = time.Time{}
			g.began(generation)
		}
	}
	g.leave(group)
	return nil
}

// began hands a generation to Next.
func (g *Group) began(generation *kafkago.Generation) {
	live := make(chan struct{})
	a := processor.Assignment{Generation: generation.ID, Live: live}
	for _, p := range generation.Assignments[g.client.Claims()] {
		a.Partitions = append(a.Partitions, int32(p.ID))
	}
	slices.Sort(a.Partitions)
	g.balancer.has(a.Generation, a.Partitions)
	g.client.metrics.generations.Inc()
	g.client.metrics.assigned.Set(float64(len(a.Partitions)))
	g.client.log.Info("partitions are assigned", "group", g.cfg.ID, "generation", a.Generation, "partitions", a.Partitions)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current, g.next, g.err = generation, &a, nil
	g.wake()
	generation.Start(func(ctx context.Context) { // its return ends the generation
		defer close(live)
		g.watch(ctx)
	})
}

// failed hands an error to Next.
func (g *Group) failed(err error) {
	g.client.metrics.failed("group", err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	g.wake()
}

// wake wakes Next. The caller holds mu.
func (g *Group) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// watch returns when the generation is over, or should be because there are new partitions.
func (g *Group) watch(ctx context.Context) {
	count := func() (int, error) {
		n, err := g.client.Partitions(ctx, g.client.Claims())
		if errors.Is(err, processor.ErrOutOfLog) {
			return 0, nil // no topic: the generation has been given none either
		}
		return n, err
	}
	before, err := count()
	tick := time.NewTicker(growthCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err != nil {
			before, err = count()
			continue
		}
		if now, err := count(); err == nil && now > before {
			g.client.log.WarnContext(ctx, "the topic has more partitions than before; sharing them out anew", "topic", g.client.Claims(), "before", before, "now", now)
			return
		}
	}
}

// Next implements processor.Group. It passes over generations that have ended meanwhile.
func (g *Group) Next(ctx context.Context) (processor.Assignment, error) {
	for {
		g.mu.Lock()
		a, err, changed := g.next, g.err, g.changed
		g.next, g.err = nil, nil
		g.mu.Unlock()
		if a != nil && !over(a.Live) {
			return *a, nil
		}
		if err != nil {
			return processor.Assignment{}, fmt.Errorf("consumer group %s: %w", g.cfg.ID, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return processor.Assignment{}, ctx.Err()
		}
	}
}

func over(live <-chan struct{}) bool {
	select {
	case <-live:
		return true
	default:
		return false
	}
}

// errNoGeneration: there is nothing to commit offsets in.
var errNoGeneration = errors.New("not in the group yet")

// Commit implements processor.Group.
func (g *Group) Commit(offsets map[int32]int64) error {
	g.mu.Lock()
	generation := g.current
	g.mu.Unlock()
	if generation == nil {
		return fmt.Errorf("commit offsets: %w", errNoGeneration)
	}
	partitions := make(map[int]int64, len(offsets))
	for p, offset := range offsets {
		partitions[int(p)] = offset
	}
	if err := generation.CommitOffsets(map[string]map[int]int64{g.client.Claims(): partitions}); err != nil {
		g.client.metrics.failed("commit", err)
		return fmt.Errorf("commit offsets: %w", err)
	}
	return nil
}

// How long each way to leave may take.
const (
	closeWithin = 500 * time.Millisecond
	leaveWithin = 2 * time.Second
	severAfter  = time.Second
)

// leave ends the membership. kafka-go's way does not always tell the coordinator, and can hang in a rebalance that
// waits for somebody else, or in connecting to brokers that are away; the others would wait for our session to run out.
// It takes no longer than all three together.
func (g *Group) leave(group *kafkago.ConsumerGroup) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = group.Close() // always nil
	}()
	select {
	case <-closed:
	case <-time.After(closeWithin):
	}
	g.leaveMyself()
	select {
	case <-closed:
	case <-time.After(severAfter):
		g.sever()
		<-closed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current = nil
	g.client.metrics.assigned.Set(0)
}

// leaveMyself tells the coordinator, whether kafka-go has or not.
func (g *Group) leaveMyself() {
	g.mu.Lock()
	generation := g.current
	g.mu.Unlock()
	if generation == nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.client.transport.Context, leaveWithin)
	defer cancel()
	api := kafkago.Client{Addr: g.client.addr, Transport: g.client.transport, Timeout: leaveWithin}
	r, err := api.LeaveGroup(ctx, &kafkago.LeaveGroupRequest{
		GroupID: g.cfg.ID, Members: []kafkago.LeaveGroupRequestMember{{ID: generation.MemberID}},
	})
	if err == nil {
		err = r.Error
	}
	if err != nil && !errors.Is(err, kafkago.UnknownMemberId) { // that one says that we have left
		g.client.metrics.failed("group", err)
		g.client.log.Warn("could not leave the consumer group; the others wait for the session to run out", "group", g.cfg.ID, "err", err)
	}
}

// errSevered: the group's connections are being closed, or are closed.
var errSevered = errors.New("the group has been left")

// dial makes connections that can be closed, and gives up one that is not made yet when the group's are. kafka-go tries
// every broker, each for as long as a connection may take, and then tries them all again to say goodbye.
func (g *Group) dial(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-g.cut:
				cancel(errSevered)
			case <-ctx.Done():
			}
		}()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return g.track(conn)
	}
}

// track keeps a connection where it can be closed.
func (g *Group) track(conn net.Conn) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.severed {
		return nil, errors.Join(errSevered, conn.Close())
	}
	t := &trackedConn{Conn: conn, group: g}
	g.open[t] = struct{}{}
	return t, nil
}

// sever closes all connections, and lets nobody make another.
func (g *Group) sever() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.severed {
		g.severed = true
		close(g.cut)
	}
	for conn := range g.open {
		_ = conn.(*trackedConn).Conn.Close() // whoever uses it gets the error
	}
}

type trackedConn struct {
	net.Conn
	group *Group
}

// Close implements net.Conn.
func (t *trackedConn) Close() error {
	t.group.mu.Lock()
	delete(t.group.open, t)
	t.group.mu.Unlock()
	return t.Conn.Close()
}
