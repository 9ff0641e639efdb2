package kafka

import (
	"errors"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The age of a partition that nobody leads grows and grows: while its leader is looked for, when that is given up, and
// when it begins anew. So does that of every partition while nobody says who leads it.
func TestTailAgeWithoutALeader(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm  func(*kfake.Cluster) (heal func())
		other bool // the partition beside it is read on
	}{
		"no leader": {func(cluster *kfake.Cluster) func() {
			// Its metadata names node 0, which is no more.
			h := cluster.Fault(
				kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: registrationsName, Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: -1},
				kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: registrationsName, Partitions: []int32{1}, Err: kerr.NotLeaderForPartition, Count: -1},
			)
			return h.Remove
		}, true},
		"nobody tells who leads": {func(cluster *kfake.Cluster) func() {
			h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: registrationsName, Err: kerr.NotLeaderForPartition, Count: -1})
			healed := make(chan struct{})
			cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
				select {
				case <-healed:
					return nil, nil, false
				default:
					cluster.KeepControl()
					return nil, nil, true // no answer
				}
			})
			return func() {
				close(healed)
				h.Remove()
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, 2, kfake.NumBrokers(2))
			if err := cluster.RemoveNode(0); err != nil {
				t.Fatal(err)
			}
			c := connectFake(t, cluster)
			var seen outcomes
			tail := NewTail(c, seen.handle)
			run(t, tail)
			<-tail.Ready()
			heal := test.harm(cluster)
			began := time.Now()
			away := func() time.Duration { return time.Since(began) - time.Second } // at least: an answer may be under way
			var last time.Duration
			// Past the time for which a leader is looked for, to where it is sought again.
			await(t, "the age grows", patience+5*time.Second, func() bool {
				age := tail.Age(1)
				if age < last && last > time.Second { // before that the last answer may come yet
					t.Fatalf("the age falls from %v to %v, %v after the leader has gone", last, age, time.Since(began))
				}
				if age < away() {
					t.Fatalf("the age is %v, %v after the leader has gone", age, time.Since(began))
				}
				if beside := tail.Age(0); test.other && beside > 3*time.Second {
					t.Fatalf("the partition beside it was last read %v ago", beside)
				}
				last = age
				return age > patience+2*time.Second
			})
			if _, err := c.metadata.current().leader(registrationsName, 1); test.other && !errors.Is(err, kafkago.LeaderNotAvailable) {
				t.Errorf("the metadata says %v about the leader", err)
			}
			heal()
			await(t, "the age falls", 10*time.Second, func() bool { return tail.Age(1) < time.Second && tail.Age(0) < time.Second })
		})
	}
}
