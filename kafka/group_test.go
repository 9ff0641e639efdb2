package kafka

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/processor"
)

// participant is a member of a group in a test.
type participant struct {
	*Group
	leave func()
	has   processor.Assignment
}

func join(t testing.TB, c *Client) *participant {
	t.Helper()
	g := NewGroup(c, GroupConfig{})
	return &participant{Group: g, leave: run(t, g)}
}

// settled waits until the members have so many partitions, in one generation, and returns how long that took.
func settled(t testing.TB, within time.Duration, want map[*participant]int) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), began.Add(within))
	defer cancel()
	for done := false; !done; {
		done = true
		for p, n := range want {
			for len(p.has.Partitions) != n || p.has.Live == nil || over(p.has.Live) {
				a, err := p.Next(ctx)
				if ctx.Err() != nil {
					t.Fatalf("not within %v: %d partitions; there are %d of generation %d", within, n, len(p.has.Partitions), p.has.Generation)
				}
				if err == nil {
					p.has = a
					done = false // look at the others again
				}
			}
		}
	}
	return time.Since(began)
}

func TestGroup(t *testing.T) {
	dibstest.Kafka(t)
	noLeaks(t)
	c := broker(t, 12)
	a := join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 12})
	alone := a.has
	b := join(t, c)
	took := settled(t, 20*time.Second, map[*participant]int{a: 6, b: 6})
	t.Logf("the second member has its share after %v", took)
	select {
	case <-alone.Live:
	default:
		t.Error("the first generation lives on")
	}
	if both := slices.Concat(a.has.Partitions, b.has.Partitions); len(both) != 12 {
		t.Errorf("partitions are %v and %v", a.has.Partitions, b.has.Partitions)
	}
	before := slices.Clone(b.has.Partitions)
	d := join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 4, b: 4, d: 4})
	for _, p := range b.has.Partitions {
		if !slices.Contains(before, p) {
			t.Errorf("partition %d moved to a member that had to give some away", p)
		}
	}

	if err := b.Commit(map[int32]int64{b.has.Partitions[0]: 42}); err != nil {
		t.Fatal(err)
	}
	offsets, err := kadm.NewClient(other(t, c)).FetchOffsets(t.Context(), c.cfg.TopicPrefix+"dibs-processor")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := offsets.Lookup(c.Claims(), b.has.Partitions[0]); o.At != 42 {
		t.Errorf("committed offset is %d", o.At)
	}

	// Take-over after a clean stop.
	began := time.Now()
	d.leave()
	left := time.Since(began)
	settled(t, 20*time.Second, map[*participant]int{a: 6, b: 6})
	t.Logf("left after %v, taken over after %v", left, time.Since(began))
	if took := time.Since(began); took > 5*time.Second { // a death is missed after 6
		t.Errorf("take-over after a clean stop took %v", took)
	}
	// Take-over after a death: nobody says goodbye.
	began = time.Now()
	b.sever()
	settled(t, 20*time.Second, map[*participant]int{a: 12})
	t.Logf("taken over after %v from a member that died", time.Since(began))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("take-over after a death took %v", took)
	}
	select {
	case <-b.has.Live:
	default:
		t.Error("the generation of the dead lives on")
	}
	if err := (&Group{client: c}).Commit(nil); err == nil {
		t.Error("offsets are committed without a generation")
	}
}

// K33, K22: leaving in the middle of a rebalance that waits for somebody else does not take long, and the others do not
// wait for us.
func TestLeaveInARebalance(t *testing.T) {
	t.Parallel()
	c := broker(t, 6)
	a, b := join(t, c), join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 3, b: 3})
	// A third member that joins and never comes back keeps the next rebalance waiting for it.
	lazy := join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 2, b: 2, lazy: 2})
	lazy.sever()
	d := join(t, c) // begins a rebalance that waits for lazy
	for _, p := range []*participant{a, b} {
		select {
		case <-p.has.Live:
		case <-time.After(5 * time.Second):
			t.Fatal("no rebalance")
		}
	}
	pause(t.Context(), 300*time.Millisecond) // by now they wait for lazy
	began := time.Now()
	b.leave()
	left := time.Since(began)
	if left > 4*time.Second {
		t.Errorf("leaving took %v", left)
	}
	settled(t, 9*time.Second, map[*participant]int{a: 3, d: 3})
	t.Logf("left after %v, settled after %v", left, time.Since(began))
}

// A fresh broker answers that it is no coordinator, or not yet.
func TestCoordinatorIsNotReady(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 4, kfake.NumBrokers(2))
	for _, err := range []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress} {
		cluster.Fault(
			kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: err},
			kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: err},
			kfake.Fault{Keys: []kmsg.Key{kmsg.SyncGroup}, Err: err},
		)
	}
	a := join(t, connectFake(t, cluster))
	settled(t, 20*time.Second, map[*participant]int{a: 4})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.NotCoordinator})
	select {
	case <-a.has.Live:
	case <-time.After(5 * time.Second):
		t.Fatal("the generation lives on")
	}
	settled(t, 20*time.Second, map[*participant]int{a: 4})
}

// Partitions that are added are shared out, too.
func TestGroupGrows(t *testing.T) {
	before := growthCheck
	growthCheck = 300 * time.Millisecond
	t.Cleanup(func() { growthCheck = before })
	c := broker(t, 2)
	a := join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 2})
	r, err := kadm.NewClient(other(t, c)).UpdatePartitions(t.Context(), 5, c.Claims())
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	settled(t, 20*time.Second, map[*participant]int{a: 5})

	b := dibstest.Kafka(t)
	late := connect(t, Config{Brokers: b.Addrs, TopicPrefix: "late-" + b.Prefix})
	t.Cleanup(func() { _ = late.DeleteTopics(context.Background()) })
	early := join(t, late)
	settled(t, 20*time.Second, map[*participant]int{early: 0})
	created(t, late, 3)
	settled(t, 20*time.Second, map[*participant]int{early: 3})
}

// K21: a generation that ended before anybody asked for it is not handed out.
func TestDeadGenerationIsPassedOver(t *testing.T) {
	g := NewGroup(connectFake(t, fake(t, 1)), GroupConfig{})
	ended, live := make(chan struct{}), make(chan struct{})
	close(ended)
	g.next = &processor.Assignment{Generation: 1, Live: ended}
	_, err := g.Next(within(t, 50*time.Millisecond))
	wantIs(t, err, context.DeadlineExceeded)
	g.next = &processor.Assignment{Generation: 2, Live: live}
	if a, err := g.Next(t.Context()); err != nil || a.Generation != 2 {
		t.Errorf("assignment is %+v, %v", a, err)
	}
}

// Leaving a broker that does not answer does not hang.
func TestLeaveWithoutABroker(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 2)
	a := join(t, connectFake(t, cluster))
	settled(t, 20*time.Second, map[*participant]int{a: 2})
	cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, nil, true // nothing is ever answered
	})
	began := time.Now()
	a.leave()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("leaving took %v", took)
	}
}

// Nor does leaving brokers that cannot be connected to, however many there are.
func TestLeaveWhileConnecting(t *testing.T) {
	t.Parallel()
	c := connectFake(t, fake(t, 2, kfake.NumBrokers(3)))
	var away atomic.Bool
	connecting := make(chan struct{}, 1)
	dial := c.dialer.DialFunc
	c.dialer.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !away.Load() {
			return dial(ctx, network, address)
		}
		wake(connecting)
		<-ctx.Done() // nobody says no
		return nil, context.Cause(ctx)
	}
	a := join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 2})
	away.Store(true)
	a.mu.Lock()
	for conn := range a.open {
		_ = conn.(*trackedConn).Conn.Close() // the test goes by how it connects again
	}
	a.mu.Unlock()
	select {
	case <-connecting:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not connect again")
	}
	began := time.Now()
	a.leave()
	took := time.Since(began)
	t.Logf("left after %v", took)
	if took > closeWithin+leaveWithin+severAfter+3*time.Second {
		t.Errorf("leaving took %v", took)
	}
}

// A commit that is not answered does not last: the processor makes it every few seconds, and waits for it at the end.
func TestCommitWithoutABroker(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 2)
	c := connect(t, Config{Brokers: cluster.ListenAddrs()})
	a := join(t, c)
	settled(t, 20*time.Second, map[*participant]int{a: 2})
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	began := time.Now()
	err := a.Commit(map[int32]int64{0: 1})
	took := time.Since(began)
	t.Logf("gave up after %v: %v", took, err)
	if err == nil {
		t.Error("what nobody answered is no error")
	}
	if took > 7*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestNextEnds(t *testing.T) {
	g := NewGroup(connectFake(t, fake(t, 1)), GroupConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.Next(ctx)
	wantIs(t, err, context.Canceled)
}

// Whatever members come and go: every partition has one owner, nobody has two more than another, and no more move than
// must.
func TestBalancer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const topic = "claims"
		balancers := map[string]*balancer{}
		held := map[string][]int32{}
		ids := 0
		partitions := rapid.IntRange(1, 30).Draw(t, "partitions")
		for generation := range int32(rapid.IntRange(1, 8).Draw(t, "rebalances")) {
			for _, id := range slices.Sorted(maps.Keys(balancers)) {
				if rapid.IntRange(0, 3).Draw(t, "leaves") == 0 {
					delete(balancers, id)
					delete(held, id)
				}
			}
			for range rapid.IntRange(0, 3).Draw(t, "joins") {
				balancers[fmt.Sprintf("%c%d", 'a'+rune(rapid.IntRange(0, 25).Draw(t, "letter")), ids)] = new(balancer)
				ids++
			}
			if len(balancers) == 0 {
				continue
			}
			partitions += rapid.IntRange(0, 1).Draw(t, "growth")
			all := make([]kafkago.Partition, partitions)
			for i := range all {
				all[i] = kafkago.Partition{Topic: topic, ID: i}
			}
			var members []kafkago.GroupMember
			for id, b := range balancers {
				data, err := b.UserData()
				if err != nil {
					t.Fatal(err)
				}
				members = append(members, kafkago.GroupMember{ID: id, Topics: []string{topic}, UserData: data})
			}
			given := new(balancer).AssignGroups(members, all)
			owner := map[int]string{}
			most := (partitions + len(members) - 1) / len(members)
			kept, could := 0, 0
			for id := range balancers {
				mine := given[id][topic]
				if len(mine) > most || len(mine) < partitions/len(members) {
					t.Fatalf("%s has %d of %d partitions; there are %d members", id, len(mine), partitions, len(members))
				}
				var has []int32
				for _, p := range mine {
					if owner[p] != "" {
						t.Fatalf("partition %d is given to %s and %s", p, owner[p], id)
					}
					owner[p] = id
					has = append(has, int32(p))
					if slices.Contains(held[id], int32(p)) {
						kept++
					}
				}
				could += min(len(held[id]), partitions/len(members))
				held[id] = has
				balancers[id].has(generation, has)
			}
			if len(owner) != partitions {
				t.Fatalf("%d of %d partitions are given away", len(owner), partitions)
			}
			if kept < could {
				t.Fatalf("%d partitions stay where they were; %d could", kept, could)
			}
		}
	})
}

// Two members that both think they have a partition, and one whose data is garbage, are put right.
func TestBalancerSettlesDisputes(t *testing.T) {
	late, early := new(balancer), new(balancer)
	early.has(1, []int32{0, 1, 2, 3})
	late.has(2, []int32{0, 1})
	a, _ := early.UserData()
	b, _ := late.UserData()
	var all []kafkago.Partition
	for i := range 6 {
		all = append(all, kafkago.Partition{Topic: "t", ID: i})
	}
	given := new(balancer).AssignGroups([]kafkago.GroupMember{
		{ID: "a", UserData: a}, {ID: "b", UserData: b}, {ID: "c", UserData: []byte("garbage")},
	}, all)
	want := kafkago.GroupMemberAssignments{"a": {"t": {2, 3}}, "b": {"t": {0, 1}}, "c": {"t": {4, 5}}}
	if fmt.Sprint(given) != fmt.Sprint(want) {
		t.Errorf("%v, not %v", given, want)
	}
}
