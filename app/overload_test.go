package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// TestHalfHangUp has half of 512 callers hang up while nothing is decided: nothing of them is left in the API, and the
// others get their answers.
func TestHalfHangUp(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	const callers = 512
	d := deploy(t, 12)
	api, processor := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, processor)
	c := newCrowd(api, callers)
	c.claim(t, "warm", nil) // so that it is known what the API keeps
	c.transport.CloseIdleConnections()
	time.Sleep(time.Second) // for the connections to go: what is left of them only makes the test weaker
	before := api.metrics()

	processor.pause()
	gone, leave := context.WithCancel(t.Context())
	answered := make(chan crowded)
	go func() { answered <- c.claim(t, "paused", gone) }()
	waiters := func(want float64) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			if n := api.metrics()["dibs_http_waiters"]; n != want {
				return fmt.Errorf("%.0f wait, want %.0f", n, want)
			}
			return nil
		})
	}
	waiters(callers)
	leave()
	waiters(callers / 2)
	processor.resume()
	got := <-answered
	if len(got.stayed) != callers/2 || got.left != callers/2 {
		t.Errorf("%d were answered and %d have left, want %d of each", len(got.stayed), got.left, callers/2)
	}
	waiters(0)
	c.transport.CloseIdleConnections()
	eventually(t, 20*time.Second, func() error {
		for _, m := range []string{"go_goroutines", "process_open_fds"} {
			if is, was := api.metrics()[m], before[m]; is > was+32 {
				return fmt.Errorf("%s is %.0f, and was %.0f", m, is, was)
			}
		}
		return nil
	})
	d.settled(30 * time.Second)
	if n := value[int](d, `SELECT count(*) FROM names WHERE state = 'r'`); n != 2*callers {
		t.Errorf("%d names are registered, want %d: who hangs up withdraws nothing", n, 2*callers)
	}
}

// TestCampaignHalfHangUp has 4,096 callers at once, half of whom hang up in the middle, beside as many of whom nobody does:
// p99 of those who stay is compared.
func TestCampaignHalfHangUp(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	const callers, rounds = 4096, 7
	d := deploy(t, 12)
	api, processor := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, processor)
	c := newCrowd(api, callers)
	for i := range 3 {
		c.claim(t, fmt.Sprint("warm", i), nil)
	}
	var ratios []float64
	for i := range rounds {
		usual := c.claim(t, fmt.Sprint("usual", i), nil)
		gone, leave := context.WithTimeout(t.Context(), at(usual.stayed, .5)/2)
		meanwhile := c.claim(t, fmt.Sprint("leaving", i), gone)
		leave()
		if len(usual.stayed) != callers/2 || len(meanwhile.stayed) != callers/2 || meanwhile.left < callers/4 {
			t.Errorf("%d and %d were answered, and %d have left", len(usual.stayed), len(meanwhile.stayed), meanwhile.left)
		}
		ratios = append(ratios, float64(at(meanwhile.stayed, .99))/float64(at(usual.stayed, .99)))
		t.Logf("with everybody: %s; where %d have left: %s", spread(usual.stayed), meanwhile.left, spread(meanwhile.stayed))
		eventually(t, 10*time.Second, func() error {
			if n := api.metrics()["dibs_http_waiters"]; n != 0 {
				return fmt.Errorf("%.0f wait still", n)
			}
			return nil
		})
	}
	slices.Sort(ratios)
	if median := ratios[rounds/2]; median > 1.25 {
		t.Errorf("p99 of those who stay is %.2f times the usual, want at most 1.25 (the median of %.2f)", median, ratios)
	}
	d.settled(time.Minute)
}

// crowd are callers who each have a connection.
type crowd struct {
	addr      string
	callers   int
	transport *http.Transport
}

func newCrowd(api *process, callers int) *crowd {
	return &crowd{api.apiAddr(), callers, &http.Transport{MaxIdleConnsPerHost: callers}}
}

// crowded is what came of a claim of each: how long those with odd numbers waited, sorted, and how many of the others left.
type crowded struct {
	stayed []time.Duration
	left   int
}

// claim has everybody claim a name at once. Those with even numbers leave when ctx ends; nil for never.
func (c *crowd) claim(t testing.TB, names string, ctx context.Context) (all crowded) { //nolint:revive // nil is the usual one
	var mu sync.Mutex
	var waiting sync.WaitGroup
	for i := range c.callers {
		own := context.Background()
		if i%2 == 0 && ctx != nil {
			own = ctx
		}
		waiting.Go(func() {
			began := time.Now()
			status, err := c.one(own, fmt.Sprintf("%s.%d", names, i))
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && own.Err() != nil:
				all.left++
			case err != nil || status != http.StatusCreated:
				t.Errorf("%s.%d: %d, %v", names, i, status, err)
			case i%2 == 1:
				all.stayed = append(all.stayed, took)
			}
		})
	}
	waiting.Wait()
	slices.Sort(all.stayed)
	return all
}

func (c *crowd) one(ctx context.Context, name string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.addr+"/v1/claims", strings.NewReader(`{"name":"`+name+`","owner":"crowd"}`))
	if err != nil {
		return 0, err
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=30"}}
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// TestCampaignOverload asks for twice what the machine can answer, for a minute: whoever is not answered is told to come
// back, the memory is bounded, and 5 seconds later all is as before.
func TestCampaignOverload(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	d := deploy(t, 12)
	d.calm = true
	api, processor := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, processor)
	const usually, minute, calm = 10 * time.Second, time.Minute, 5 * time.Second
	flood := newFlood(api.apiAddr())
	most := flood.most(1024, 12*time.Second)
	before := flood.run("before", most/3, usually)()
	rushed := flood.run("rush", 2*most, minute)
	behind := flood.run("behind", most/3, calm) // it has that long to get back
	after := flood.run("after", most/3, usually)()
	rush, _ := rushed(), behind()
	peak := rssOf(api)
	flood.end()

	t.Logf("the machine (load average %s) answers %.0f claims/s; the API had %d MB at most", loadAverage(), most, peak>>20)
	t.Logf("before: %s", before)
	t.Logf("rush:   %s", rush)
	t.Logf("after:  %s", after)
	for status, n := range rush.statuses {
		switch status {
		case http.StatusCreated, http.StatusAccepted, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		default:
			t.Errorf("%d answers of the rush are %d", n, status)
		}
	}
	if rush.failed > 0 || before.failed > 0 || after.failed > 0 {
		t.Errorf("%d, %d and %d calls got no answer", before.failed, rush.failed, after.failed)
	}
	if n := rush.statuses[http.StatusServiceUnavailable]; n != rush.retry {
		t.Errorf("%d of %d refusals say when to come back", rush.retry, n)
	}
	if len(after.statuses) != 1 || after.statuses[http.StatusCreated] == 0 {
		t.Errorf("5 s behind the rush the answers are %v", after.statuses)
	}
	if before.skipped+after.skipped > 0 {
		t.Errorf("%d and %d claims were not asked for", before.skipped, after.skipped)
	}
	// By the second they were due in: something stalls one now and then, also long behind a rush, and is seen in p99 of all ten.
	was, is := before.p99s(), after.p99s()
	t.Logf("p99 of those due in each second: %s before, %s behind it", was, is)
	slices.Sort(was)
	slices.Sort(is)
	if at(is, .5) > at(was, .5)*3/2+10*time.Millisecond || is[len(is)-3] > 2*at(was, .5)+20*time.Millisecond {
		t.Errorf("5 s behind the rush p99 of a second is %s, and was %s; want 1.5 times that in the middle, and at most two seconds above twice that", is, was)
	}
	if most := int64(2 << 30); peak > most { // what waits is bounded, and what a connection costs
		t.Errorf("the API had %d MB, want %d at most", peak>>20, most>>20)
	}
	d.settled(time.Minute)
}

// rssOf is how much memory a process has had at most; 0 where there is no /proc.
func rssOf(p *process) (bytes int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, hwm, _ := strings.Cut(string(text), "VmHWM:")
	if fields := strings.Fields(hwm); len(fields) > 0 {
		bytes, _ = strconv.ParseInt(fields[0], 10, 64)
	}
	return bytes << 10
}

// flood asks for claims at their time, over as many connections as it takes, but for what the machine has ports for.
type flood struct {
	addr      string
	transport *http.Transport
	room      chan struct{}
	asked     atomic.Int64
}

// connections are a few more than may wait, so that some are refused: files and ports are scarce.
const connections = 12_000

func newFlood(addr string) *flood {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	// Without MaxConnsPerHost the transport dials for each request that finds all connections in use, and keeps what it then
	// does not need: twice as many as may be in use, more than the API takes.
	transport := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, DialContext: dialer.DialContext}
	return &flood{addr, transport, make(chan struct{}, connections), atomic.Int64{}}
}

func (f *flood) end() { f.transport.CloseIdleConnections() }

// flooded is what came of a load.
type flooded struct {
	asked    int
	skipped  int               // for want of a connection
	took     [][]time.Duration // of those that were accepted, from when they were due, by the second that was in; sorted
	statuses map[int]int
	retry    int // answers with Retry-After among the 503s
	failed   int // calls without an answer
	why      error
}

func (f flooded) String() string {
	s := fmt.Sprintf("%d asked, %d not for want of connections; %v; %d without an answer", f.asked, f.skipped, f.statuses, f.failed)
	if took := slices.Concat(f.took...); len(took) > 0 {
		slices.Sort(took)
		s += "; accepted: " + spread(took)
	}
	if f.why != nil {
		s += "; " + f.why.Error()
	}
	return s
}

// p99s is p99 of each second; a minute where nothing of it was accepted.
func (f flooded) p99s() []time.Duration {
	all := make([]time.Duration, len(f.took))
	for i, took := range f.took {
		if all[i] = time.Minute; len(took) > 0 {
			all[i] = at(took, .99)
		}
	}
	return all
}

// most is how many claims a second are accepted of so many callers, each of whom claims one after the other.
func (f *flood) most(callers int, length time.Duration) float64 {
	var accepted atomic.Int64
	var running sync.WaitGroup
	for end := time.Now().Add(length); callers > 0; callers-- {
		running.Go(func() {
			for time.Now().Before(end) {
				if status, _, err := f.one(fmt.Sprintf("most.%d", f.asked.Add(1))); err == nil && status == http.StatusCreated {
					accepted.Add(1)
				}
			}
		})
	}
	running.Wait()
	return float64(accepted.Load()) / length.Seconds()
}

// run asks so often for so long; what it returns waits for the answers.
func (f *flood) run(names string, rate float64, length time.Duration) func() flooded {
	all := flooded{statuses: make(map[int]int), took: make([][]time.Duration, int(length/time.Second))}
	var mu sync.Mutex
	var running sync.WaitGroup
	began, total := time.Now(), int(rate*length.Seconds())
	for n := 0; n < total; {
		due := int(time.Since(began).Seconds() * rate)
		for ; n < min(due, total); n++ {
			at := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
			select {
			case f.room <- struct{}{}:
			default:
				all.skipped++
				continue
			}
			all.asked++
			running.Go(func() {
				defer func() { <-f.room }()
				status, retry, err := f.one(fmt.Sprintf("%s.%d", names, f.asked.Add(1)))
				took := time.Since(at)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					all.failed++
					all.why = err
					return
				}
				all.statuses[status]++
				if status == http.StatusCreated {
					second := int(at.Sub(began) / time.Second)
					all.took[second] = append(all.took[second], took)
				}
				if status == http.StatusServiceUnavailable && retry {
					all.retry++
				}
			})
		}
		time.Sleep(time.Millisecond)
	}
	return func() flooded {
		running.Wait()
		for _, took := range all.took {
			slices.Sort(took)
		}
		return all
	}
}

func (f *flood) one(name string) (status int, retry bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.addr+"/v1/claims", bytes.NewReader([]byte(`{"name":"`+name+`","owner":"flood"}`)))
	if err != nil {
		return 0, false, err
	}
	// Under a key it may be asked again, which the transport does where a kept connection was closed before it was used.
	r.Header = http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {name}}
	resp, err := f.transport.RoundTrip(r)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After") != "", err
}
