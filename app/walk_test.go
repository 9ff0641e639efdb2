package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	walkRequests = flag.Int("walk.requests", 200_000, "how many requests TestCampaignRandomWalk makes")
	walkSeed     = flag.Uint64("walk.seed", 0, "the seed of a random walk; 0: another one each time")
)

// A walk is clients that ask for everything there is, of few names, over HTTP and straight on the topic, rightly and
// wrongly. Who asks what is drawn from a seed; when it comes is not, so a seed gives the same mix, not the same history.
// That is what the checker is for: it decides the log as it has become.
type walk struct {
	d       *deployment
	apis    *crew
	keys    auth.RequestKeys
	client  *client.Client
	kafka   *kgo.Client
	seed    uint64
	most    int64
	made    atomic.Int64 // requests
	book    *book
	left    atomic.Int64 // calls that ended without an answer
	refused atomic.Int64 // calls that the API refused beforehand

	mu      sync.Mutex
	recent  []produced        // for copies
	signups [][2]string       // ids and owners
	late    []produced        // that others have withdrawn already
	asked   map[string]string // request ids by name, to ask about
}

// What the names and clients of a walk are.
const (
	walkNames   = 500
	walkHot     = 12 // that everybody wants
	walkClients = 8
	walkOwners  = 4  // of a client
	walkAtOnce  = 48 // requests of a client
)

// newWalk makes the clients of a walk. They reach whichever API there is.
func newWalk(d *deployment, apis *crew, most int) *walk {
	w := &walk{d: d, apis: apis, seed: *walkSeed, most: int64(most), asked: make(map[string]string)}
	if w.seed == 0 {
		w.seed = rand.Uint64()
	}
	d.t.Logf("walk of %d requests, seed %d (-walk.seed)", most, w.seed)
	var err error
	if w.keys, err = auth.ReadRequestKeys(d.keys); err != nil {
		d.t.Fatal(err)
	}
	var turn atomic.Int64
	dialer := net.Dialer{Timeout: time.Second}
	transport := &http.Transport{
		MaxIdleConnsPerHost: walkClients * walkAtOnce, IdleConnTimeout: 5 * time.Second,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			addr := apis.at(int(turn.Add(1))).apiAddr()
			if addr == "" { // it is only coming up
				addr = apis.at(int(turn.Add(1))).apiAddr()
			}
			return dialer.DialContext(ctx, network, addr)
		},
	}
	d.t.Cleanup(transport.CloseIdleConnections)
	if w.client, err = client.New("http://dibs", client.WithHTTPClient(&http.Client{Transport: transport}), client.WithTimeout(40*time.Second)); err != nil {
		d.t.Fatal(err)
	}
	w.kafka = d.topic.connect()
	w.book = d.follow()
	return w
}

// walker is one of many that a client is at once. It has a chance of its own.
type walker struct {
	*walk
	r      *rand.Rand
	client int
}

// run makes all requests, and returns when each has its answer or is given up.
func (w *walk) run() {
	var running sync.WaitGroup
	for i := range walkClients * walkAtOnce {
		walker := &walker{w, rand.New(rand.NewPCG(w.seed, uint64(i))), i / walkAtOnce}
		running.Go(func() {
			for n := w.made.Add(1); n <= w.most && !w.d.t.Failed(); n = w.made.Add(1) {
				if quarter := w.most / 4; n == quarter || n == 2*quarter {
					walker.activate(1 + int(n/quarter))
				}
				if n == w.most/8 {
					walker.stroll()
				}
				walker.step()
			}
		})
	}
	running.Wait()
}

func (w *walker) chance(percent int) bool { return w.r.IntN(100) < percent }

func pick[T any](w *walker, of ...T) T { return of[w.r.IntN(len(of))] }

// name is one of the client's own, or one that everybody wants.
func (w *walker) name() string {
	if w.chance(25) {
		return fmt.Sprintf("hot.%d", w.r.IntN(walkHot))
	}
	own := (walkNames - walkHot) / walkClients
	return fmt.Sprintf("name-%d", w.client*own+w.r.IntN(own))
}

func (w *walker) owner() string {
	if w.chance(6) {
		return w.leaver(0)
	}
	of := w.client
	if w.chance(10) {
		of = w.r.IntN(walkClients)
	}
	return fmt.Sprintf("owner-%d-%d", of, w.r.IntN(walkOwners))
}

// spelt is a name as somebody may spell it.
func (w *walker) spelt(name string) string {
	switch w.r.IntN(6) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return strings.ToUpper(name[:1]) + name[1:]
	}
	return name
}

// step is one request: what can be done with the name as it stands, or something else.
func (w *walker) step() {
	name := w.name()
	h := w.book.at(name)
	for tries := w.r.IntN(2) * 10; tries > 0 && (h.state == "" || h.state == "free" || h.state == "registered"); tries-- {
		name = w.name() // most names are one or the other, and what else there is goes by
		h = w.book.at(name)
	}
	if w.chance(8) { // somebody else's business
		h.owner = w.owner()
	}
	if w.chance(8) {
		h.claim = w.book.some(w.r)
	}
	switch n := w.r.IntN(100); {
	case n < 12:
		w.trick(name, h)
	case n < 16:
		w.look()
	case n < 26:
		w.privileged(name, h)
	case n < 62:
		w.ask(h.way(w), name, h)
	case n < 66:
		w.signUp(name)
	case n < 67:
		if w.chance(50) { // each reads a partition from one end to the other
			w.erase(name, h)
		}
	default:
		w.ask(pick(w, everything...), name, h)
	}
}

// everything is what anybody may ask.
var everything = []string{
	"claim", "claim", "reserve", "rename", "respell", "existing", "confirm", "extend", "release", "withdraw", "transfer", "deactivate", "reactivate",
}

// way is something that can be done with a name in that state.
func (h *noted) way(w *walker) string {
	switch h.state {
	case "reserved":
		return pick(w, "confirm", "confirm", "confirm", "extend", "release", "withdraw", "")
	case "registered":
		return pick(w, "release", "transfer", "deactivate", "deactivate", "rename", "rename", "respell", "existing", "withdraw", "confirm")
	case "inactive":
		return pick(w, "reactivate", "reactivate", "claim", "release")
	case "blocked":
		return pick(w, "claim", "withdraw", "unblock")
	}
	return pick(w, "claim", "claim", "reserve", "reserve", "rename", "confirm", "reactivate")
}

// ask asks for something over HTTP or on the topic.
func (w *walker) ask(what, name string, h noted) {
	switch what {
	case "": // it may expire
		return
	case "unblock":
		w.unblock(name)
		return
	}
	if w.chance(45) {
		w.produceRequest(what, name, h)
	} else {
		w.call(what, name, h)
	}
}

// version is what somebody expects a name to have: nothing, what is noted, or something else.
func (w *walker) version(h noted) *int64 {
	switch w.r.IntN(8) {
	case 0, 1:
		return &h.version
	case 2:
		return new(w.r.Int64N(5))
	}
	return nil
}

// other is a name that its owner can rename, and its version.
func (w *walker) other() (string, noted) {
	for range 20 {
		if name := w.name(); w.book.at(name).state == "registered" {
			return name, w.book.at(name)
		}
	}
	name := w.name()
	return name, w.book.at(name)
}

// call asks for something over HTTP, waits for the outcome or does not, and notes what it is told.
func (w *walker) call(what, name string, h noted) {
	ctx, cancel := context.WithTimeout(w.d.t.Context(), pick(w, 800*time.Millisecond, 2*time.Second, 2*time.Second, 30*time.Second))
	defer cancel()
	c, name := w.walk.client, w.spelt(name)
	var options []client.RequestOption
	if v := w.version(h); v != nil {
		options = append(options, client.IfVersion(*v))
	}
	claim := client.Claim{Name: name, Owner: w.owner()}
	if w.chance(15) {
		claim.ExpectedVersion = w.version(h)
	}
	if w.chance(10) {
		claim.Metadata = map[string]string{"walk": "1"}
	}
	var r client.Result
	var err error
	switch what {
	case "existing":
		claim.Owner, claim.ReturnExisting = h.owner, true
		r, err = w.claim(ctx, claim)
	case "respell":
		claim.Owner, claim.Replaces = h.owner, &client.Replaces{Name: strings.ToLower(name), Version: h.version}
		r, err = w.claim(ctx, claim)
	case "claim":
		claim.WithdrawOnTimeout = w.chance(10)
		r, err = w.claim(ctx, claim)
	case "reserve":
		r, err = c.Reserve(ctx, claim, time.Duration(pick(w, 2, 2, 3, 5, 600))*time.Second)
	case "rename":
		old, of := w.other()
		if w.chance(50) {
			r, err = c.Rename(ctx, "username", old, of.owner, name, options...)
			break
		}
		claim.Owner, claim.Replaces = of.owner, &client.Replaces{Name: old, Version: of.version}
		if w.chance(40) {
			r, err = c.Reserve(ctx, claim, time.Duration(pick(w, 2, 600))*time.Second)
		} else {
			r, err = w.claim(ctx, claim)
		}
	case "confirm":
		r, err = c.Confirm(ctx, h.claim, h.owner)
	case "extend":
		r, err = c.Extend(ctx, h.claim, h.owner, time.Duration(2+w.r.IntN(9))*time.Second)
	case "withdraw":
		r, err = c.Withdraw(ctx, h.claim, h.owner, client.Undecided("username", name))
	case "release":
		r, err = c.Release(ctx, "username", name, h.owner, options...)
	case "transfer":
		r, err = c.Transfer(ctx, "username", name, h.owner, w.owner(), options...)
	case "deactivate":
		r, err = c.Deactivate(ctx, "username", name, h.owner, options...)
	case "reactivate":
		r, err = c.Reactivate(ctx, "username", name, h.owner, options...)
	}
	if r.RequestID == "" && !strings.Contains("existing respell claim reserve rename", what) {
		r.ID = "" // that of the claim it is about, not of what was asked
	}
	w.told(r, err)
}

// claim claims, and waits or leaves it.
func (w *walker) claim(ctx context.Context, claim client.Claim) (client.Result, error) {
	if !claim.WithdrawOnTimeout && w.chance(40) {
		return w.walk.client.Submit(ctx, claim)
	}
	return w.walk.client.Claim(ctx, claim)
}

// look asks what became of a request.
func (w *walker) look() {
	w.mu.Lock()
	id := ""
	for id = range w.asked { // some one
		break
	}
	delete(w.asked, id)
	w.mu.Unlock()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(w.d.t.Context(), 30*time.Second)
	defer cancel()
	w.told(w.walk.client.Get(ctx, id))
}

// told notes an answer for the checker.
func (w *walk) told(r client.Result, err error) {
	var p *client.Problem
	switch {
	case errors.As(err, &p) && p.Status >= http.StatusBadRequest && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests:
		w.refused.Add(1)
		return
	case err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrUndecided):
		w.d.t.Errorf("a call ended with %v", err)
		return
	}
	id := r.RequestID
	if id == "" {
		id = r.ID
	}
	if id == "" { // what the API foresaw, or nobody knows
		w.refused.Add(1)
		return
	}
	if err != nil || r.State == client.Pending || r.State == client.Withdrawing {
		w.left.Add(1)
		w.mu.Lock()
		w.asked[id] = r.Name
		w.mu.Unlock()
		return
	}
	w.d.heard(id, r)
}

// book is what the topic registrations says of each name: whoever follows it applies an event whose version is higher.
type book struct {
	mu     sync.Mutex
	names  map[string]noted // by key
	claims []string
}

// noted is the last that is known of a name. Who had it stays noted when it is free.
type noted struct {
	state, owner, claim string
	version             int64
}

func (b *book) at(name string) noted {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.names[name]
	if h.owner == "" {
		h.owner = "nobody"
	}
	if h.claim == "" {
		h.claim = "00000000-0000-4000-8000-000000000000"
	}
	return h
}

// some is a claim that somebody made.
func (b *book) some(r *rand.Rand) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.claims) == 0 {
		return "00000000-0000-4000-8000-000000000000"
	}
	return b.claims[r.IntN(len(b.claims))]
}

// follow reads registrations until the test ends.
func (d *deployment) follow() *book {
	b := &book{names: make(map[string]noted)}
	reader := d.topic.connect(kgo.ConsumeTopics(d.topic.registrations))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			reader.PollFetches(ctx).EachRecord(b.note)
		}
	}()
	d.t.Cleanup(func() { cancel(); <-done })
	return b
}

func (b *book) note(r *kgo.Record) {
	var o struct {
		Space, Key, State, Owner string
		ClaimID                  string `json:"claim_id"`
		Version                  int64
	}
	if json.Unmarshal(r.Value, &o) != nil || o.State == "" || o.Space != "username" || strings.HasPrefix(o.Key, "erased ") {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.names[o.Key]; o.Version > h.version {
		is := noted{o.State, o.Owner, o.ClaimID, o.Version}
		if is.owner == "" {
			is.owner, is.claim = h.owner, h.claim
		}
		b.names[o.Key] = is
		if len(b.claims) < 1000 {
			b.claims = append(b.claims, o.ClaimID)
		} else {
			b.claims[o.Version%1000] = o.ClaimID
		}
	}
}

// TestRandomWalk is a short walk, over two kills of each role.
func TestRandomWalk(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	walkUnderKills(t, 3000, func(ctx context.Context, w *walk, round func()) {
		for i := int64(1); i <= 2; i++ {
			eventually(t, time.Minute, func() error {
				if n := w.made.Load(); n < i*w.most/3 && ctx.Err() == nil {
					return fmt.Errorf("%d requests are made", n)
				}
				return nil
			})
			round()
		}
	})
}

// TestCampaignRandomWalk is the long one, with a kill of each role every 4 s.
func TestCampaignRandomWalk(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	walkUnderKills(t, *walkRequests, func(ctx context.Context, _ *walk, round func()) {
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

// walkUnderKills walks while kill calls round again and again: each kills one processor and one API, by turns, restarts
// them, and pauses the other processor for a moment. The context of kill ends with the walk.
func walkUnderKills(t *testing.T, requests int, kill func(ctx context.Context, w *walk, round func())) {
	d := deploy(t, 12)
	processors := &crew{processes: []*process{d.start("processor"), d.start("processor")}}
	apis := &crew{processes: []*process{d.start("api"), d.start("api")}}
	for _, p := range append(apis.all(), processors.all()...) {
		p.ready()
	}
	d.assigned(time.Minute, processors.all()...)

	w := newWalk(d, apis, requests)
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	kills := 0
	go func() {
		defer cancel()
		w.run()
	}()
	kill(ctx, w, func() {
		for _, c := range []*crew{processors, apis} {
			p := c.at(kills)
			p.kill()
			c.replace(kills, d.again(p))
			other := c.at(kills + 1)
			other.pause()
			time.Sleep(time.Duration(100+300*(kills%5)) * time.Millisecond) // as long as the pause is to be
			other.resume()
		}
		kills++
	})
	<-ctx.Done()
	w.flush()
	took := time.Since(began)
	for _, p := range append(apis.all(), processors.all()...) {
		p.ready()
	}
	w.gone()
	h := w.settle()
	t.Logf("%d requests in %s (%.0f/s) under %d × kill -9 of a processor and of an API; %d calls refused beforehand, %d ended open",
		requests, took.Round(time.Second), float64(requests)/took.Seconds(), kills, w.refused.Load(), w.left.Load())
	w.summary(h)
	d.judge(h)
	d.verified()
}
