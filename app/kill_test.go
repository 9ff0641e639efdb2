package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// summary is what `dibs import -o json` says at its end.
type summary struct {
	Rows, Done, Accepted int
	Rejected             map[string]int
	Complete             bool
	Seconds              float64
}

// importing starts an import. It waits for few outcomes at once where it is to last.
func (d *deployment) importing(s *signups, waiting int) *process {
	d.t.Helper()
	return d.start("import", s.file, "--waiting", strconv.Itoa(waiting), "-o", "json")
}

// imported waits for the end of an import, and fails the test where the file did not become what it must.
func (d *deployment) imported(p *process, s *signups, within time.Duration) summary {
	d.t.Helper()
	if code := p.wait(within); code != 0 {
		d.t.Fatalf("import: exit code %d\n%s", code, p.errors())
	}
	var got summary
	if err := json.Unmarshal([]byte(p.output()), &got); err != nil {
		d.t.Fatalf("import said %q: %v", p.output(), err)
	}
	want := map[string]int{"invalid_name": s.invalid, "reserved_word": s.reserved, "taken": s.taken()}
	maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
	if !got.Complete || got.Rows != s.rows || got.Done != s.rows || got.Accepted != len(s.keys) || !maps.Equal(got.Rejected, want) {
		d.t.Fatalf("import of %d rows: %+v\nwant %d accepted (the distinct valid keys), rejected %v", s.rows, got, len(s.keys), want)
	}
	return got
}

// decided counts the outcomes stored so far.
func (d *deployment) decided() int {
	d.t.Helper()
	return value[int](d, `SELECT count(*) FROM decisions WHERE kind = 'o'`)
}

// contents is what a second import must leave as it is: how many outcomes there are, and all of names.
func (d *deployment) contents() string {
	d.t.Helper()
	return value[string](d, `SELECT (SELECT count(*) || ' ' || count(DISTINCT request_id) FROM decisions WHERE kind = 'o') || ' ' ||
		(SELECT count(*) || ' ' || coalesce(md5(string_agg(n::text, '|' ORDER BY space, key)), '') FROM names n)`)
}

// published counts the requests on the topic registrations, each with all its copies. That the copies of one say the same
// is the checker's to find.
func (d *deployment) published() int {
	d.t.Helper()
	ids := make(map[string]bool)
	for _, r := range d.topic.read(d.topic.registrations) {
		var o struct {
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal(r.Value, &o); err != nil || o.RequestID == "" {
			d.t.Fatalf("registrations %d@%d: %q", r.Partition, r.Offset, r.Value)
		}
		ids[o.RequestID] = true
	}
	return len(ids)
}

// crew is a set of processes of which some die and are replaced while clients talk to them.
type crew struct {
	mu        sync.Mutex
	processes []*process
}

func (c *crew) at(i int) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.processes[i%len(c.processes)]
}

func (c *crew) replace(i int, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes[i%len(c.processes)] = p
}

// all returns the processes there are now.
func (c *crew) all() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.processes)
}

// callers are clients that claim names over HTTP while everything goes on: each name by two of them, and each claim until
// it has its answer, with the same Idempotency-Key at whichever API there is.
type callers struct {
	d        *deployment
	stop     chan struct{}
	running  sync.WaitGroup
	names    atomic.Int64 // accepted
	claims   atomic.Int64 // decided
	repeated atomic.Int64 // calls without an answer of the log, made again
}

func (d *deployment) call(apis *crew, n int) *callers {
	c := &callers{d: d, stop: make(chan struct{})}
	for i := range n {
		c.running.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-c.stop:
					return
				default:
				}
				// Neighbours want the same name; no sign-up has one like it.
				c.claim(apis, i, asked{
					name: fmt.Sprintf("Caller.%d.%d", i/2, round), owner: fmt.Sprintf("caller-%d", i),
					key: fmt.Sprintf("%d-%d", i, round), prefer: "wait=5",
				})
			}
		})
	}
	return c
}

func (c *callers) claim(apis *crew, i int, a asked) {
	for attempt := 0; ; attempt++ {
		got := c.d.claim(apis.at(i+attempt), a)
		switch {
		case got.status == http.StatusCreated:
			c.names.Add(1)
			c.claims.Add(1)
			return
		case got.decided() && got.claim.Reason == "taken":
			c.claims.Add(1)
			return
		case got.err == nil && got.status != http.StatusAccepted && got.status != http.StatusServiceUnavailable:
			c.d.t.Errorf("claim of %s: %s", a.name, got)
			return
		}
		c.repeated.Add(1)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-c.d.t.Context().Done():
			return
		}
	}
}

// finish lets every caller get its last answer.
func (c *callers) finish() {
	c.d.t.Helper()
	close(c.stop)
	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		c.d.t.Fatal("callers have no answer, a minute after the last kill")
	}
}

// TestImportUnderKills: two processors and two APIs, of which one each is killed with -9 and restarted, while sign-ups are
// imported and clients claim.
func TestImportUnderKills(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	s := makeSignups(t, 1, 6000)
	// Three rounds, when a part of the file is decided, however fast that goes.
	importUnderKills(t, s, 16, func(ctx context.Context, d *deployment, round func()) {
		for i := 1; i <= 3; i++ {
			eventually(t, 2*time.Minute, func() error {
				if n := d.decided(); n < i*s.rows/5 && ctx.Err() == nil {
					return fmt.Errorf("%d rows are decided", n)
				}
				return nil
			})
			round()
		}
	})
}

// TestCampaignImportUnderKills is the same for 100,000 sign-ups, or for the file that DIBS_TEST_SIGNUPS names, and a kill
// every 4 s: a processor that is killed so often holds its partitions for longer than it works on them.
func TestCampaignImportUnderKills(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	var s *signups
	if path := os.Getenv("DIBS_TEST_SIGNUPS"); path != "" {
		s = givenSignups(t, path)
	} else {
		s = makeSignups(t, 1, 100_000)
	}
	importUnderKills(t, s, 2048, func(ctx context.Context, _ *deployment, round func()) {
		tick := time.NewTicker(4 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				round()
			case <-ctx.Done():
				return
			}
		}
	})
}

// importUnderKills imports s while kill calls round again and again: each kills one processor and one API, by turns, and
// restarts them. The context of kill ends with the import.
func importUnderKills(t *testing.T, s *signups, waiting int, kill func(ctx context.Context, d *deployment, round func())) {
	d := deploy(t, 12)
	d.calm = true
	d.audit()
	processors := &crew{processes: []*process{d.start("processor"), d.start("processor")}}
	apis := &crew{processes: []*process{d.start("api"), d.start("api")}}
	for _, p := range append(apis.all(), processors.all()...) {
		p.ready()
	}
	d.assigned(time.Minute, processors.all()...)

	clients := d.call(apis, 4)
	began := time.Now()
	running := d.importing(s, waiting)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-running.done
		cancel()
	}()
	kills := 0
	kill(ctx, d, func() {
		if !running.alive() {
			return
		}
		for _, c := range []*crew{processors, apis} {
			p := c.at(kills)
			p.kill()
			c.replace(kills, d.again(p))
		}
		kills++
	})
	got := d.imported(running, s, 20*time.Minute)
	took := time.Since(began)
	clients.finish()
	if kills < 3 {
		t.Errorf("only %d rounds of kills before the import had ended", kills)
	}

	d.settled(time.Minute)
	outcomes := s.rows - s.invalid + int(clients.claims.Load())
	if n := d.decided(); n != outcomes {
		t.Errorf("%d outcomes are stored, want one for each of %d claims", n, outcomes)
	}
	if n := d.published(); n != outcomes {
		t.Errorf("%d claims have an outcome on the topic, want %d", n, outcomes)
	}
	if n, want := value[int](d, `SELECT count(*) FROM names`), len(s.keys)+int(clients.names.Load()); n != want {
		t.Errorf("%d names are held, want %d", n, want)
	}
	t.Logf("%d rows in %s under %d × kill -9 of a processor and of an API: %d accepted = distinct valid keys, rejected %v; %d claims of %d callers besides, %d calls repeated",
		s.rows, took.Round(time.Second), kills, got.Accepted, got.Rejected, clients.claims.Load(), 4, clients.repeated.Load())

	before := d.contents()
	d.imported(d.importing(s, 2048), s, 10*time.Minute)
	d.settled(time.Minute)
	if after := d.contents(); after != before {
		t.Errorf("a second import changed something: outcomes and names were %s, are %s", before, after)
	}
	d.oneWriter()
	d.check()
}
