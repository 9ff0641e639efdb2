package app_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestManyExpireAtOnce has 1,000 reservations expire at one moment, beside few claims. What a claim takes meanwhile is not
// judged here: others run on this machine.
func TestManyExpireAtOnce(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	d := deploy(t, 12)
	manyExpireAtOnce(d, 1000, 5*time.Second, 2*time.Second, func(float64) float64 { return 50 })
}

// TestCampaignManyExpireAtOnce has 10,000, beside a third of the claims that the machine can answer.
func TestCampaignManyExpireAtOnce(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	d := deploy(t, 12)
	usual, meanwhile := manyExpireAtOnce(d, 10_000, 45*time.Second, 25*time.Second, func(most float64) float64 { return most / 3 })
	if meanwhile > 2*usual {
		t.Errorf("p99 is %s while reservations expire, want at most twice the usual %s", meanwhile, usual)
	}
}

// freeWithin is how long after their expiry the last of many reservations may be held.
const freeWithin = 5 * time.Second

// manyExpireAtOnce reserves n names, all until the same millisecond, which is after a while, and claims others at a steady
// rate, chosen by what the machine can answer. It returns the p99 of a claim in the usual time before, and between the
// expiry and the moment when the last name was free.
func manyExpireAtOnce(d *deployment, n int, after, usually time.Duration, rate func(most float64) float64) (usual, meanwhile time.Duration) {
	t := d.t
	t.Helper()
	d.calm = true
	api, processor := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, processor)
	expiry := d.reserveUntil(n, time.Now().Truncate(time.Second), after)
	d.settled(time.Until(expiry))
	if got := value[int](d, `SELECT count(*) FROM names WHERE state = 's' AND expires_at = $1`, expiry); got != n {
		t.Fatalf("%d of %d names are reserved until %s", got, n, expiry)
	}

	most := d.closedLoop(api, 64, min(8*time.Second, time.Until(expiry)-usually-time.Second))
	load := d.openLoop(api, rate(most))
	from := time.Now().Add(time.Second) // it has settled by then
	if room := time.Until(expiry); room < usually {
		t.Fatalf("%s are left until the expiry, want %s", room, usually)
	}
	time.Sleep(time.Until(expiry))
	var freed time.Time
	eventually(t, 6*freeWithin, func() error {
		if value[bool](d, `SELECT EXISTS (SELECT 1 FROM names WHERE partition = ANY ($1) AND expires_at <= $2)`, d.all(), expiry) {
			return fmt.Errorf("%d names are reserved", value[int](d, `SELECT count(*) FROM names WHERE state = 's' AND expires_at = $1`, expiry))
		}
		freed = time.Now()
		return nil
	})
	<-time.After(2 * time.Second) // and what comes behind it
	load.end()

	free := value[int](d, `SELECT count(*) FROM names WHERE state = 'f' AND version = 2`)
	expired := value[int](d, `SELECT count(*) FROM decisions WHERE outcome = 'E'`)
	if free != n || expired != n {
		t.Errorf("%d names are free, by %d expiries, want %d", free, expired, n)
	}
	before, during := load.between(from, expiry), load.between(expiry, freed)
	behind := load.between(freed, freed.Add(2*time.Second))
	usual, meanwhile = at(before, .99), at(during, .99)
	t.Logf("the machine (load average %s) answers %.0f claims/s; asked for %.0f/s", loadAverage(), most, rate(most))
	t.Logf("%d reservations expired at once, the last was free after %s", n, freed.Sub(expiry).Round(time.Millisecond))
	for _, w := range []struct {
		when string
		took []time.Duration
	}{{"usually", before}, {"until all were free", during}, {"in the 2 s behind", behind}} {
		t.Logf("a claim %s: p50 %s, p99 %s, at most %s (%d claims)", w.when, at(w.took, .5), at(w.took, .99), at(w.took, 1), len(w.took))
	}
	t.Logf("p99 is %.2f times the usual", float64(meanwhile)/float64(usual))
	if took := freed.Sub(expiry); took > freeWithin {
		t.Errorf("the last name was free %s after its expiry, want %s at most", took, freeWithin)
	}
	d.settled(30 * time.Second)
	return usual, meanwhile
}

// reserveUntil reserves n names on a log that has nothing else yet: log time is that of the records, and all end together.
func (d *deployment) reserveUntil(n int, now time.Time, after time.Duration) time.Time {
	d.t.Helper()
	reserved := make([]*kgo.Record, n)
	for i := range reserved {
		r := newRequest(d.partitions, "UsernameClaimed", fmt.Sprintf("expires.%d", i), map[string]any{
			"owner": fmt.Sprintf("u-%d", i), "mode": "reserve", "ttl_seconds": int(after.Seconds()),
		})
		r.Timestamp = now
		reserved[i] = r.Record
	}
	d.topic.append(d.topic.client, reserved...)
	return now.Add(after)
}

// all lists the partitions.
func (d *deployment) all() (all []int32) {
	for p := range d.partitions {
		all = append(all, int32(p))
	}
	return all
}

// closedLoop measures how many claims of so many at once are answered in a second.
func (d *deployment) closedLoop(api *process, callers int, run time.Duration) (perSecond float64) {
	d.t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	answered, until := 0, time.Now().Add(run)
	for i := range callers {
		running.Go(func() {
			n := 0
			for ; time.Now().Before(until); n++ {
				if a := claimFresh(api, fmt.Sprintf("closed.%d.%d", i, n)); a.status != http.StatusCreated {
					d.t.Errorf("claim: %s", a)
					return
				}
			}
			mu.Lock()
			answered += n
			mu.Unlock()
		})
	}
	running.Wait()
	return float64(answered) / run.Seconds()
}

func claimFresh(api *process, name string) answer {
	header := http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=30"}}
	return call(http.MethodPost, api.apiAddr(), "/v1/claims", header, []byte(`{"name":"`+name+`","owner":"meter"}`))
}

// steady is a load of claims that come at their time, however long others take.
type steady struct {
	stop    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	timed []timed
}

// timed is one claim: when it was due, and how long after that it was answered.
type timed struct {
	due  time.Time
	took time.Duration
}

func (d *deployment) openLoop(api *process, rate float64) *steady {
	s := &steady{stop: make(chan struct{})}
	began, every := time.Now(), time.Duration(float64(time.Second)/rate)
	s.running.Go(func() {
		for n := 0; ; n++ {
			due := began.Add(time.Duration(n) * every)
			select {
			case <-time.After(time.Until(due)): // at once, where it is late
			case <-s.stop:
				return
			}
			if over(s.stop) {
				return
			}
			s.running.Go(func() {
				a := claimFresh(api, fmt.Sprintf("open.%d", n))
				took := time.Since(due)
				if a.status != http.StatusCreated {
					d.t.Errorf("claim: %s", a)
				}
				s.mu.Lock()
				s.timed = append(s.timed, timed{due, took})
				s.mu.Unlock()
			})
		}
	})
	return s
}

func (s *steady) end() {
	close(s.stop)
	s.running.Wait()
}

// between returns how long the claims took that were due in that time, sorted.
func (s *steady) between(from, to time.Time) (took []time.Duration) {
	for _, c := range s.timed {
		if !c.due.Before(from) && c.due.Before(to) {
			took = append(took, c.took)
		}
	}
	if len(took) == 0 {
		took = []time.Duration{0}
	}
	slices.Sort(took)
	return took
}

// loadAverage is what the kernel says of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}
