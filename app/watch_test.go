package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/twmb/franz-go/pkg/kadm"
)

// balancer sends requests to whichever API is first in line.
type balancer struct {
	apis *crew
	use  http.RoundTripper
}

func (b balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = b.apis.at(0).apiAddr()
	return b.use.RoundTrip(r)
}

// watching is a watcher, and what it has been told.
type watching struct {
	mu     sync.Mutex
	events []client.Event
	ids    []string
	err    error
	ended  chan struct{}
}

func (d *deployment) watch(ctx context.Context, apis *crew, after string) *watching {
	d.t.Helper()
	own := &http.Transport{}
	d.t.Cleanup(own.CloseIdleConnections)
	c, err := client.New("http://dibs.test", client.WithHTTPClient(&http.Client{Transport: balancer{apis, own}}))
	if err != nil {
		d.t.Fatal(err)
	}
	w := &watching{ended: make(chan struct{})}
	request := client.WatchRequest{After: after, Moved: func(id string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ids = append(w.ids, id)
	}}
	go func() {
		defer close(w.ended)
		for event, err := range c.Watch(ctx, request) {
			w.mu.Lock()
			if w.err = err; err == nil {
				w.events = append(w.events, event)
			}
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *watching) seen() (events, ids int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events), len(w.ids)
}

func (w *watching) await(t testing.TB, events int) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if n, _ := w.seen(); n < events {
			return fmt.Errorf("%d events of %d", n, events)
		}
		return nil
	})
}

// compare checks that a watcher was told all that is on registrations, each partition in its order.
func (d *deployment) compare(events []client.Event) error {
	want := make(map[int32][]client.Event)
	for _, r := range d.topic.read(d.topic.registrations) {
		var e client.Event
		if err := json.Unmarshal(r.Value, &e); err != nil {
			return err
		}
		want[r.Partition] = append(want[r.Partition], e)
	}
	for i, e := range events {
		if e.ID == "" {
			return fmt.Errorf("event %d has no id", i)
		}
		e.ID = ""
		next := want[e.Partition]
		if len(next) == 0 || next[0] != e {
			return fmt.Errorf("event %d is\n%+v\nand on the topic comes\n%+v", i, e, next[:min(1, len(next))])
		}
		want[e.Partition] = next[1:]
	}
	for p, missing := range want {
		if len(missing) > 0 {
			return fmt.Errorf("%d events of partition %d are missing, first\n%+v", len(missing), p, missing[0])
		}
	}
	return nil
}

// A watcher goes on at another API when its own dies, and nothing is missed: while names are claimed, APIs are killed
// and others started.
func TestWatchGoesOnElsewhere(t *testing.T) {
	d := deploy(t, 4)
	d.start("processor").ready()
	apis := &crew{processes: []*process{d.start("api").ready(), d.start("api").ready()}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := d.watch(ctx, apis, "")
	eventually(t, 10*time.Second, func() error {
		if _, ids := w.seen(); ids == 0 {
			return errors.New("the watch has not begun")
		}
		return nil
	})
	byHand := d.start("watch", "--url", "http://"+apis.at(1).apiAddr(), "-o", "json")
	eventually(t, 10*time.Second, func() error {
		if n := apis.at(1).metrics()["dibs_streams"]; n != 1 {
			return fmt.Errorf("%g streams", n)
		}
		return nil
	})

	callers := d.call(&crew{processes: []*process{apis.at(1)}}, 8)
	for i := range 3 {
		n, _ := w.seen()
		w.await(t, n+300)
		first := apis.at(0)
		if i == 1 { // one that is told to stop ends its streams at once
			began := time.Now()
			if code := first.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s to stop", took)
			}
		} else {
			first.kill()
		}
		if i == 0 { // some of the time there is nobody, and then somebody
			w.settle(200 * time.Millisecond)
		}
		apis.replace(0, d.start("api").ready())
	}
	n, _ := w.seen()
	w.await(t, n+300)
	callers.finish()
	d.settled(30 * time.Second)
	w.await(t, d.outcomes())
	w.mu.Lock()
	events, first := w.events, w.ids[0]
	w.mu.Unlock()
	if err := d.compare(events); err != nil {
		t.Error(err)
	}
	t.Logf("%d events over 3 ends of an API", len(events))

	eventually(t, 10*time.Second, func() error {
		if lines := strings.Count(byHand.output(), "\n"); lines != len(events) {
			return fmt.Errorf("dibs watch has printed %d lines of %d", lines, len(events))
		}
		return nil
	})
	byHand.signal(syscall.SIGINT)
	if code := byHand.wait(5 * time.Second); code != 0 {
		t.Errorf("dibs watch ended with %d: %s", code, byHand.errors())
	}
	var printed []client.Event
	for line := range strings.Lines(byHand.output()) {
		var e client.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		printed = append(printed, e)
	}
	if err := d.compare(printed); err != nil {
		t.Errorf("dibs watch: %v", err)
	}

	// From the very first id everything comes again; when retention has passed it, that is said.
	again := d.watch(ctx, apis, first)
	again.await(t, len(events))
	var to kadm.Offsets
	ends, err := d.topic.admin.ListEndOffsets(ctx, d.topic.registrations)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { to.AddOffset(o.Topic, o.Partition, o.Offset, -1) })
	if cut, err := d.topic.admin.DeleteRecords(ctx, to); err != nil || cut.Error() != nil {
		t.Fatal(err, cut.Error())
	}
	late := d.watch(ctx, apis, first)
	<-late.ended
	var problem *client.Problem
	if !errors.As(late.err, &problem) || problem.Status != http.StatusGone || problem.Reason != "position_gone" {
		t.Errorf("%v", late.err)
	}
	if code := d.start("watch", "--url", "http://"+apis.at(0).apiAddr(), "--since", first).wait(10 * time.Second); code != 1 {
		t.Errorf("dibs watch --since what is gone: exit code %d", code)
	}
	// Who has seen everything misses nothing by that.
	if n, _ := again.seen(); n != len(events) {
		t.Errorf("%d events came again, of %d", n, len(events))
	}
	last := events[len(events)-1].ID
	caughtUp := d.watch(ctx, apis, last)
	if a := d.claim(apis.at(0), asked{name: "afterwards", owner: "u"}); a.status != http.StatusCreated {
		t.Fatal(a)
	}
	caughtUp.await(t, 1)
	cancel()
	for _, w := range []*watching{w, again, caughtUp} {
		<-w.ended
		if !errors.Is(w.err, context.Canceled) {
			t.Errorf("%v", w.err)
		}
	}
}

// settle lets what is under way fail for a while, on purpose.
func (w *watching) settle(d time.Duration) {
	select {
	case <-w.ended:
	case <-time.After(d):
	}
}

// outcomes counts the records on registrations.
func (d *deployment) outcomes() int { return len(d.topic.read(d.topic.registrations)) }

// A hundred streams that see nothing leave nothing behind when they go, and claims go on meanwhile.
func TestIdleStreamsOfAnAPI(t *testing.T) {
	d := deploy(t, 4)
	api := d.start("serve", "--api-max-streams", "100").ready()
	if a := d.claim(api, asked{name: "before", owner: "u"}); a.status != http.StatusCreated {
		t.Fatal(a)
	}
	before := api.metrics()["go_goroutines"]
	own := &http.Transport{}
	var streams []*http.Response
	open := func() (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+api.apiAddr()+"/v1/registrations", nil)
		if err != nil {
			return nil, err
		}
		return own.RoundTrip(r)
	}
	for range 100 {
		resp, err := open()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		streams = append(streams, resp)
	}
	resp, err := open()
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	t.Logf("%g goroutines before, %g with 100 streams", before, api.metrics()["go_goroutines"])
	a := d.claim(api, asked{name: "meanwhile", owner: "u"})
	if a.status != http.StatusCreated || a.took > 2*time.Second {
		t.Errorf("%s after %s", a, a.took)
	}
	for i, resp := range streams { // each of them is told
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() && lines.Text() != "event: Accepted" {
		}
		if lines.Text() != "event: Accepted" {
			t.Errorf("stream %d: %v", i, lines.Err())
		}
		_ = resp.Body.Close()
	}
	own.CloseIdleConnections()
	eventually(t, time.Minute, func() error { // connections to Kafka that nobody uses are kept for half a minute
		if now := api.metrics()["go_goroutines"]; now > before+5 {
			return fmt.Errorf("%g goroutines, %g before", now, before)
		}
		return nil
	})
}
