package app_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// TestSignupsUnderCrashes: pairs of names that several want at once, while one processor after the other dies: each pair is
// its owner's, or neither of its names is.
func TestSignupsUnderCrashes(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	signupsUnderCrashes(t, 300)
}

// TestCampaignSignupsUnderCrashes has 10,000 pairs.
func TestCampaignSignupsUnderCrashes(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	signupsUnderCrashes(t, 10_000)
}

// pair is a sign-up of two names, and what its client was told.
type pair struct {
	ID     string `json:"signup_id"`
	Claim  string `json:"claim_id"` // of a problem
	Reason string `json:"reason"`
	owner  string
	names  [2]string
	all    bool
}

func signupsUnderCrashes(t *testing.T, pairs int) {
	d := deploy(t, 4)
	d.calm = true
	api := d.start("api").ready()
	life, err := d.incarnate(t.Context(), "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	lives := []*incarnation{life}

	began := time.Now()
	told := make([]pair, pairs)
	var next, repeated atomic.Int64
	var clients sync.WaitGroup
	for range 12 {
		clients.Go(func() {
			for i := int(next.Add(1)) - 1; i < pairs; i = int(next.Add(1)) - 1 {
				told[i] = d.signUp(api.apiAddr(), i, &repeated)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		clients.Wait()
		close(done)
	}()
	for over := false; !over; {
		life.cut(anywhere, 300*time.Millisecond+rand.N(1200*time.Millisecond))
		select {
		case <-done:
			over = true
		case <-life.ctx.Done():
			if life, err = d.incarnate(t.Context(), deaths[rand.IntN(len(deaths))], 1+rand.IntN(3), 0.04); err != nil {
				t.Fatal(err)
			}
			lives = append(lives, life)
		}
	}
	life.kill()
	took := time.Since(began)
	died := len(lives)
	if life, err = d.incarnate(t.Context(), "", 0, 0); err != nil {
		t.Fatal(err)
	}
	lives = append(lives, life)
	d.settled(time.Minute)

	// What there is in the end, by the names alone.
	held := make(map[string]string)
	for _, h := range rows[struct{ Key, Owner, State string }](d, `SELECT key, coalesce(owner, ''), state::text FROM names WHERE space = 'username'`) {
		if h.State != "r" && h.State != "f" {
			t.Errorf("%s is left in the state %s, of %s", h.Key, h.State, h.Owner)
		}
		held[h.Key] = h.Owner
	}
	all := 0
	for i := range told {
		p := &told[i]
		has := 0
		for _, name := range p.names {
			if held[name] == p.owner {
				has++
			}
		}
		if want := map[bool]int{true: 2}[p.all]; has != want {
			t.Errorf("%s was told that it has all: %t (%s), and has %d of %v", p.owner, p.all, p.Reason, has, p.names)
		}
		if p.all {
			all++
		}
		d.readsAs(api.apiAddr(), p)
	}
	if n := value[int](d, `SELECT count(*) FROM names WHERE signup IS NOT NULL OR space = 'signup' AND state = 's'`); n != 0 {
		t.Errorf("%d names are left promised, or sign-ups undecided", n)
	}
	if all == 0 || all == pairs {
		t.Errorf("%d of %d pairs were had: that shows nothing", all, pairs)
	}
	t.Logf("%d pairs in %s, %d had, %d not; %d calls repeated, %d processors died", pairs, took.Round(time.Millisecond), all, pairs-all, repeated.Load(), died)
	life.kill()
	for _, l := range lives {
		<-l.over
	}
	d.check()
	d.verified()
}

// signUp signs a pair up, until the log has answered. The names are of few that several want, in either order.
func (d *deployment) signUp(addr string, i int, repeated *atomic.Int64) pair {
	p := pair{owner: fmt.Sprintf("owner-%d", i)}
	a := i*2/3 + rand.IntN(6)
	b := a + 1 + rand.IntN(5)
	p.names = [2]string{fmt.Sprintf("name-%d", a), fmt.Sprintf("name-%d", b)}
	if rand.IntN(2) == 0 {
		p.names[0], p.names[1] = p.names[1], p.names[0]
	}
	body := fmt.Sprintf(`{"owner":%q,"names":[{"name":%q},{"name":%q}]}`, p.owner, p.names[0], p.names[1])
	header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {p.owner}, "Prefer": {"wait=5"}}
	for began := time.Now(); ; repeated.Add(1) {
		answer := call(http.MethodPost, addr, "/v1/signups", header, []byte(body))
		if answer.err == nil && (answer.status == http.StatusCreated || answer.status == http.StatusConflict) {
			if err := json.Unmarshal(answer.body, &p); err != nil {
				d.t.Errorf("%s: %v", answer.body, err)
			}
			p.all = answer.status == http.StatusCreated
			return p
		}
		if time.Since(began) > 3*time.Minute || answer.status == http.StatusUnprocessableEntity || answer.status == http.StatusBadRequest {
			d.t.Errorf("%s has no answer: %d %s %v", p.owner, answer.status, answer.body, answer.err)
			return p
		}
		time.Sleep(20 * time.Millisecond) // nobody is served by asking faster
	}
}

// readsAs asks for the sign-up again: it reads as was told.
func (d *deployment) readsAs(addr string, p *pair) {
	id := p.ID + p.Claim
	answer := get(addr, "/v1/signups/"+id)
	var read struct {
		State, Owner string
		Names        []struct{ Name, State string }
	}
	if err := json.Unmarshal(answer.body, &read); err != nil || answer.status != http.StatusOK {
		d.t.Errorf("sign-up %q: %d %s", id, answer.status, answer.body)
		return
	}
	state, of := "accepted", "registered"
	if !p.all {
		state, of = "rejected", ""
	}
	if read.State != state || read.Owner != p.owner || len(read.Names) != 2 || of != "" && (read.Names[0].State != of || read.Names[1].State != of) {
		d.t.Errorf("sign-up %s of %s reads %s", id, p.owner, answer.body)
	}
}
