package app_test

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/dibstest"
)

// meter is one client for each partition, which claims a fresh name there as soon as the last one is decided.
type meter struct {
	d       *deployment
	stop    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	decided [][]time.Time // of each partition, when its claims were decided
}

// namesOf makes names that are routed to a partition, each another one.
func namesOf(prefix string, partition, partitions int) func() string {
	n := 0
	return func() string {
		for {
			n++
			if name := fmt.Sprintf("%s.%d.%d", prefix, partition, n); claims.Partition("username/"+name, partitions) == int32(partition) {
				return name
			}
		}
	}
}

func (d *deployment) measure(api *process, prefix string) *meter {
	m := &meter{d: d, stop: make(chan struct{}), decided: make([][]time.Time, d.partitions)}
	for p := range d.partitions {
		m.running.Go(func() {
			next := namesOf(prefix, p, d.partitions)
			for {
				select {
				case <-m.stop:
					return
				default:
				}
				a := d.claim(api, asked{name: next(), owner: "meter", prefer: "wait=30"})
				if a.status != http.StatusCreated {
					d.t.Errorf("partition %d: %s", p, a)
					return
				}
				m.mu.Lock()
				m.decided[p] = append(m.decided[p], time.Now())
				m.mu.Unlock()
			}
		})
	}
	return m
}

// after waits until every partition has decided n claims after a time.
func (m *meter) after(at time.Time, n int) {
	m.d.t.Helper()
	eventually(m.d.t, time.Minute, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for p, times := range m.decided {
			if len(times) < n || times[len(times)-n].Before(at) {
				return fmt.Errorf("partition %d has not decided %d claims since", p, n)
			}
		}
		return nil
	})
}

// gap is the longest time in which a partition decided nothing, at or after a time.
func (m *meter) gap(since time.Time) (longest time.Duration, partition int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, times := range m.decided {
		for i := 1; i < len(times); i++ {
			if d := times[i].Sub(times[i-1]); times[i].After(since) && d > longest {
				longest, partition = d, p
			}
		}
	}
	return longest, partition
}

func (m *meter) end() {
	close(m.stop)
	m.running.Wait()
}

// TestTakeOver measures, at the client, how long a partition decides nothing when its processor goes. It runs alone: what
// it measures is the machine's when others run beside it.
func TestTakeOver(t *testing.T) {
	dibstest.NeedRealKafka(t)
	d := deploy(t, 12)
	d.calm = true
	api := d.start("api").ready()
	crew := []*process{d.start("processor").ready(), d.start("processor").ready()}
	d.assigned(time.Minute, crew...)
	for i, test := range []struct {
		name  string
		end   syscall.Signal
		bound time.Duration
	}{
		{"SIGTERM", syscall.SIGTERM, 2 * time.Second},
		{"kill -9", syscall.SIGKILL, 10 * time.Second},
		{"SIGTERM", syscall.SIGTERM, 2 * time.Second},
		{"kill -9", syscall.SIGKILL, 10 * time.Second},
	} {
		m := d.measure(api, fmt.Sprintf("take-over-%d", i))
		m.after(time.Now(), 5)
		ending := crew[i%2]
		owned := d.owned(ending)
		began := time.Now()
		ending.signal(test.end)
		m.after(began, 5)
		gap, partition := m.gap(began)
		t.Logf("%s of the owner of %d partitions: decided nothing for %s at most (partition %d)", test.name, owned, gap.Round(time.Millisecond), partition)
		if gap > test.bound {
			t.Errorf("take-over after %s took %s, want at most %s", test.name, gap, test.bound)
		}
		if code := ending.wait(10 * time.Second); test.end == syscall.SIGTERM && code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}

		joined := time.Now()
		crew[i%2] = d.again(ending).ready()
		d.assigned(time.Minute, crew...)
		m.after(time.Now(), 1)
		gap, partition = m.gap(joined)
		t.Logf("another processor joins: decided nothing for %s at most (partition %d)", gap.Round(time.Millisecond), partition)
		m.end()
	}
	d.settled(30 * time.Second)
	d.check()
}
