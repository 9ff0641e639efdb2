package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/docs/recipes"
)

// kitchen is a deployment on which recipes are tried.
type kitchen struct {
	*deployment
	api  *process
	dibs *client.Client
	page *page
}

// cook starts a deployment with one process that is everything.
func cook(t *testing.T) *kitchen {
	t.Helper()
	k := &kitchen{deployment: deploy(t, 3)}
	k.calm = true
	k.api = k.start("serve").ready()
	k.assigned(time.Minute, k.api)
	k.dibs = k.client(transport)
	return k
}

// elapse moves the time of the log to that moment, where a name has its place: it is the time of the latest record, and
// this one is from the future. Waiting would do the same.
func (k *kitchen) elapse(t *testing.T, name string, to time.Time) {
	t.Helper()
	at := claims.Partition("username/"+strings.ToLower(name), k.partitions)
	r := newClaim(k.partitions, "future", "nobody")
	for i := 0; r.Partition != at; i++ {
		r = newClaim(k.partitions, fmt.Sprintf("future-%d", i), "nobody")
	}
	r.Timestamp = to
	k.topic.append(k.topic.client, r.Record)
	eventually(t, 10*time.Second, func() error {
		if !value[bool](k.deployment, `SELECT log_time >= $1 FROM partitions WHERE partition = $2`, to, at) {
			return fmt.Errorf("the log of partition %d is not at %s", at, to)
		}
		return nil
	})
}

func (k *kitchen) client(over http.RoundTripper) *client.Client {
	k.t.Helper()
	c, err := client.New("http://"+k.api.apiAddr(), client.WithHTTPClient(&http.Client{Transport: over}))
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// name is what is recorded of a name.
func (k *kitchen) name(t *testing.T, name string) client.Name {
	t.Helper()
	n, err := k.dibs.Name(t.Context(), "username", name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// free waits until nobody has a name.
func (k *kitchen) free(t *testing.T, name string, within time.Duration) {
	t.Helper()
	eventually(t, within, func() error {
		if n := k.name(t, name); !n.Available {
			return fmt.Errorf("%s is %s: %+v", name, n.State, n)
		}
		return nil
	})
}

// holds fails the test where an owner does not have a name in that state.
func (k *kitchen) holds(t *testing.T, owner, name, state string) {
	t.Helper()
	if n := k.name(t, name); n.Owner != owner || n.State != state {
		t.Errorf("%s is %s, of %q; want %s, of %q", name, n.State, n.Owner, state, owner)
	}
}

// got is the result of a call that must be accepted.
func got(t *testing.T) func(client.Result, error) client.Result {
	return func(r client.Result, err error) client.Result {
		t.Helper()
		if err != nil || r.State != client.Accepted {
			t.Fatalf("%+v, %v; want it accepted", r, err)
		}
		return r
	}
}

// refused fails the test where the result is no rejection for that reason.
func refused(t *testing.T, reason string) func(client.Result, error) {
	return func(r client.Result, err error) {
		t.Helper()
		if err != nil || r.State != client.Rejected || r.Reason != reason {
			t.Fatalf("%+v, %v; want it rejected: %s", r, err, reason)
		}
	}
}

// crash ends a caller at one of its requests: before it is sent, or when it has been, with the answer on its way.
type crash struct {
	at   int64
	sent bool
	die  context.CancelFunc

	requests atomic.Int64
}

func (c *crash) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.requests.Add(1) != c.at {
		return transport.RoundTrip(r)
	}
	if c.sent {
		if a, err := transport.RoundTrip(r); err == nil {
			_ = a.Body.Close()
		}
	}
	c.die()
	return nil, errors.New("the caller has crashed")
}

// crashes runs a recipe with a crash at each of its requests in turn, before and behind it, and each time once more by
// another caller: then done says whether all is as it should be. Each time has an id of its own.
func (k *kitchen) crashes(t *testing.T, recipe func(ctx context.Context, dibs *client.Client, id string) error, done func(t *testing.T, id string)) {
	t.Helper()
	for at := int64(1); ; at++ {
		for _, sent := range []bool{false, true} {
			id := fmt.Sprintf("at%d%t", at, sent)
			ctx, die := context.WithCancel(t.Context())
			c := &crash{at: at, sent: sent, die: die}
			err := recipe(ctx, k.client(c), id)
			die()
			if c.requests.Load() < at {
				if err != nil || at == 1 {
					t.Fatalf("without a crash: %v after %d requests", err, at-1)
				}
				t.Logf("crashed at each of %d requests, before and behind it", at-1)
				return
			}
			if err == nil {
				t.Fatalf("request %d has failed, and nobody says so", at)
			}
			if err := recipe(t.Context(), k.dibs, id); err != nil {
				t.Fatalf("after a crash at request %d (sent: %t): %v", at, sent, err)
			}
			done(t, id)
		}
	}
}

// TestRecipes cooks what docs/recipes.md says, by its own code.
func TestRecipes(t *testing.T) {
	t.Parallel()
	k := cook(t)
	k.page = k.open(t, "../docs/recipes.md", "localhost:8080", k.api.apiAddr(),
		"dibs.", "", "'job-7'", "'anonymous'", "'2026-11-21 10:00Z'", "now() - interval '1 hour'") // as the SQL is to be here
	t.Cleanup(k.page.done)
	if err := os.WriteFile(filepath.Join(k.page.dir, "spaces.yaml"), []byte(k.page.block("yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	k.page.play("spaces")
	k.topic.set(k.topic.claims, "message.timestamp.after.max.ms", "3600000") // for elapse; with that, nothing more would start
	t.Cleanup(func() {                                                       // when all are done
		k.settled(30 * time.Second)
		k.check()
	})
	for _, recipe := range []struct {
		name string
		test func(*testing.T)
	}{
		{"SignUp", k.signUp}, {"Change", k.change}, {"Number", k.number}, {"ActiveOnly", k.activeOnly}, {"CleanUp", k.cleanUp},
		{"ExternalCheck", k.externalCheck}, {"Manager", k.manager}, {"Swap", k.swap}, {"SwapByThird", k.swapByThird}, {"HandOver", k.handOver},
	} {
		t.Run(recipe.name, func(t *testing.T) {
			t.Parallel()
			recipe.test(t)
		})
	}
}

// shortest is the least a reservation can last: twice as long as a producer's clock may run ahead.
const shortest = 20 * time.Second

// mails counts mails by the claim in their link.
type mails map[string]int

func (m mails) send(_ context.Context, _, claim string) error {
	m[claim]++
	return nil
}

func (k *kitchen) signUp(t *testing.T) {
	ctx, sent := t.Context(), mails{}
	s := recipes.SignUp{ID: "u-1", Name: "Anna", Address: "anna@example.org"}
	claim := got(t)(recipes.StartSignUp(ctx, k.dibs, s, time.Hour, sent.send)).ID
	refused(t, "taken")(recipes.StartSignUp(ctx, k.dibs, recipes.SignUp{ID: "u-2", Name: "anna"}, time.Hour, sent.send))
	got(t)(recipes.StartSignUp(ctx, k.dibs, s, time.Hour, sent.send)) // nobody knew whether the mail was sent
	until := k.name(t, "anna").ExpiresAt
	if later := got(t)(recipes.MailAgain(ctx, k.dibs, s, claim, 2*time.Hour, sent.send)); !later.ExpiresAt.After(until) || sent[claim] != 3 || len(sent) != 1 {
		t.Errorf("until %s, then %s; mails: %v", until, later.ExpiresAt, sent)
	}
	for range 2 { // people click twice
		got(t)(recipes.FinishSignUp(ctx, k.dibs, s, claim))
	}
	k.holds(t, "u-1", "anna", "registered")
	refused(t, "wrong_state")(recipes.StartSignUp(ctx, k.dibs, s, time.Hour, sent.send)) // it is through: no more mails
	if sent[claim] != 3 {
		t.Errorf("mails: %v", sent)
	}

	// Nobody clicks: the late click is refused, also where nobody has taken the name.
	late := recipes.SignUp{ID: "u-3", Name: "Berta"}
	reserved := got(t)(recipes.StartSignUp(ctx, k.dibs, late, shortest, sent.send))
	claim = reserved.ID
	k.elapse(t, "berta", reserved.ExpiresAt)
	refused(t, "reservation_expired")(recipes.FinishSignUp(ctx, k.dibs, late, claim))
	refused(t, "reservation_expired")(recipes.MailAgain(ctx, k.dibs, late, claim, time.Hour, sent.send))
	// The same sign-up is the same claim, and that one is over: nobody is mailed. Another sign-up gets the name.
	refused(t, "reservation_expired")(recipes.StartSignUp(ctx, k.dibs, late, shortest, sent.send))
	if sent[claim] != 1 {
		t.Errorf("mailed %d times", sent[claim])
	}
	k.free(t, "berta", time.Second)
	got(t)(recipes.StartSignUp(ctx, k.dibs, recipes.SignUp{ID: "u-4", Name: "berta"}, time.Hour, sent.send))
}

func (k *kitchen) change(t *testing.T) {
	done := make(map[string]int) // what the logic has done, by owner
	recipe := func(ctx context.Context, dibs *client.Client, id string) error {
		r, err := recipes.ChangeName(ctx, dibs, recipes.Change{ID: "change-" + id, Owner: "u-" + id, From: "old." + id, To: "new." + id}, time.Hour,
			func(context.Context) error { done[id]++; return nil }, func(context.Context) error { t.Errorf("%s is undone", id); return nil })
		if err == nil && r.State != client.Accepted {
			err = fmt.Errorf("%+v", r)
		}
		return err
	}
	owned := func(ctx context.Context, dibs *client.Client, id string) error {
		got(t)(k.dibs.Claim(t.Context(), client.Claim{Name: "old." + id, Owner: "u-" + id, IdempotencyKey: id}))
		err := recipe(ctx, dibs, id)
		// Whatever it has crashed at, the owner has a name, and nobody else gets the new one while it is reserved.
		if o, n := k.name(t, "old."+id), k.name(t, "new."+id); o.Owner != "u-"+id && n.Owner != "u-"+id || n.Owner == "" && !n.Available {
			t.Errorf("%s: after %v, the old name %+v, the new one %+v", id, err, o, n)
		}
		return err
	}
	k.crashes(t, owned, func(t *testing.T, id string) {
		k.holds(t, "u-"+id, "new."+id, "registered")
		k.free(t, "old."+id, 10*time.Second)
		if done[id] == 0 {
			t.Errorf("%s: the logic was never run", id)
		}
		got(t)(k.dibs.Claim(t.Context(), client.Claim{Name: "old." + id, Owner: "somebody"}))
		if err := recipe(t.Context(), k.dibs, id); err != nil { // and again, when the old name has gone on
			t.Error(err)
		}
		k.holds(t, "u-"+id, "new."+id, "registered")
	})

	// A crash in the logic is what one sees between reserve and confirm.
	ctx, c := t.Context(), recipes.Change{ID: "change-1", Owner: "u-11", From: "caesar", To: "cleo"}
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: c.From, Owner: c.Owner}))
	broken := errors.New("broken")
	fails := func(context.Context) error { return broken }
	moved := false
	logic, undo := func(context.Context) error { moved = true; return nil }, func(context.Context) error { moved = false; return nil }
	r, err := recipes.ChangeName(ctx, k.dibs, c, time.Hour, fails, undo)
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	k.holds(t, "u-11", "caesar", "registered")
	k.holds(t, "u-11", "cleo", "reserved")
	for range 2 {
		got(t)(recipes.GiveUpChange(ctx, k.dibs, c, r.ID))
	}
	k.holds(t, "u-11", "caesar", "registered")
	k.free(t, "cleo", time.Second)

	// Nobody comes back: the reservation ends by itself. Who comes too late does nothing. The old name was never touched.
	c.ID, c.To = "change-2", "carla"
	if r, err = recipes.ChangeName(ctx, k.dibs, c, shortest, fails, undo); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	k.elapse(t, "carla", r.ExpiresAt)
	never := func(context.Context) error { t.Error("the logic is run, though it is over"); return nil }
	for _, over := range []http.RoundTripper{transport, ahead{}} {
		refused(t, "reservation_expired")(recipes.ChangeName(ctx, k.client(over), c, shortest, never, undo))
	}
	k.holds(t, "u-11", "caesar", "registered")
	k.free(t, "carla", time.Second)

	// It has done it by then, and has crashed, or has not: it is undone.
	for i, err := range []error{nil, broken} {
		c.ID, c.To = fmt.Sprint("change-over-", i), fmt.Sprint("conny-", i)
		slow := func(ctx context.Context) error {
			if n := k.name(t, c.To); n.State == "reserved" { // else another recipe has moved the time that far
				k.elapse(t, c.To, n.ExpiresAt)
			}
			return errors.Join(logic(ctx), err)
		}
		if r, got := recipes.ChangeName(ctx, k.dibs, c, shortest, slow, undo); err == nil {
			refused(t, "reservation_expired")(r, got)
		} else if !errors.Is(got, err) || !moved {
			t.Errorf("%v, moved: %t", got, moved)
		}
		refused(t, "reservation_expired")(recipes.ChangeName(ctx, k.dibs, c, shortest, never, undo))
		if k.holds(t, "u-11", "caesar", "registered"); moved {
			t.Errorf("%s is moved, and the name is not", c.ID)
		}
	}

	// The reservation is held, whatever the caller's clock says and however long it is: no confirmation without the logic.
	for i, ttl := range []time.Duration{time.Hour, 7 * 24 * time.Hour} {
		c.ID, c.To = fmt.Sprint("change-ahead-", i), fmt.Sprint("cuno-", i)
		c.Owner, moved = fmt.Sprint("u-12-", i), false
		c.From = fmt.Sprint("clara-", i)
		got(t)(k.dibs.Claim(ctx, client.Claim{Name: c.From, Owner: c.Owner}))
		r, err := recipes.ChangeName(ctx, k.dibs, c, ttl, fails, undo)
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		k.elapse(t, c.To, r.ExpiresAt.Add(time.Second-ttl)) // since it was made
		got(t)(recipes.ChangeName(ctx, k.client(ahead{}), c, ttl, logic, undo))
		if k.holds(t, c.Owner, c.To, "registered"); !moved {
			t.Errorf("%s: the name is changed, and the logic has not been run", ttl)
		}
	}
}

// ahead is a caller whose clock is far ahead: to it, what is answered is over. Nor is it told what is an old answer, like
// one whose wait has run out and who reads the claim.
type ahead struct{}

var expiresAt = regexp.MustCompile(`"expires_at":"[^"]*"`)

func (ahead) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a.Header.Del("Idempotent-Replayed")
	body, err := io.ReadAll(a.Body)
	_ = a.Body.Close()
	body = expiresAt.ReplaceAll(body, []byte(`"expires_at":"2026-01-01T00:00:00Z"`))
	a.Body, a.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return a, err
}

func (k *kitchen) number(t *testing.T) {
	// Two invoices of the year are there. Whatever the third crashes at, it has one number, which the next call finds.
	years := make(map[string]int)
	k.crashes(t, func(ctx context.Context, dibs *client.Client, id string) error {
		if years[id] == 0 {
			years[id] = 2000 + len(years)
			for i := 1; i <= 2; i++ {
				got(t)(k.dibs.Claim(t.Context(), client.Claim{Name: fmt.Sprintf("%d-%06d", years[id], i), Owner: "another"}))
			}
		}
		number, err := recipes.Number(ctx, dibs, "invoice-"+id, years[id], 1)
		if err == nil && number != fmt.Sprintf("%d-000003", years[id]) {
			err = fmt.Errorf("the number is %s", number)
		}
		return err
	}, func(t *testing.T, id string) {
		k.holds(t, "invoice-"+id, fmt.Sprintf("%d-000003", years[id]), "registered")
	})

	// An invoice that is never written leaves a gap, which says whose it was. Who begins behind it does not fill it.
	ctx := t.Context()
	for i, want := range []string{"2026-000001", "2026-000002", "2026-000003"} {
		if number, err := recipes.Number(ctx, k.dibs, fmt.Sprintf("invoice-%d", i+1), 2026, i+1); err != nil || number != want {
			t.Fatalf("%s, %v; want %s", number, err, want)
		}
	}
	k.holds(t, "invoice-2", "2026-000002", "registered")
	// Released, it is had by who begins before it: behind number 3, so numbers do not say what was first.
	got(t)(k.dibs.Release(ctx, "username", "2026-000002", "invoice-2"))
	if number, err := recipes.Number(ctx, k.dibs, "invoice-4", 2026, 1); err != nil || number != "2026-000002" {
		t.Errorf("%s, %v", number, err)
	}
	if number, err := recipes.Number(ctx, k.dibs, "invoice-2", 2026, 2); err != nil || number != "2026-000002" {
		t.Errorf("the claim of invoice-2 is what it was: %s, %v", number, err)
	}
}

// activeOnly runs the code in a space where an owner who is not active loses the name, and in one where that is not so.
func (k *kitchen) activeOnly(t *testing.T) {
	ctx := t.Context()
	nick := client.Claim{Space: "nickname", Name: "Nora", Owner: "u-31", IdempotencyKey: "nora"}
	eventually(t, 10*time.Second, func() error { // the API hears of it a little later
		_, err := k.dibs.Claim(ctx, nick)
		return err
	})
	back := func(owner string, want bool) {
		t.Helper()
		if got, err := recipes.ComeBack(ctx, k.dibs, "nickname", "nora", owner, "opening-"+owner); err != nil || got != want {
			t.Errorf("%s comes back: %t, %v; want %t", owner, got, err, want)
		}
	}
	got(t)(recipes.Leave(ctx, k.dibs, "nickname", "nora", "u-31", "closing-31"))
	nick.Owner, nick.IdempotencyKey = "u-32", ""
	got(t)(k.dibs.Claim(ctx, nick))
	back("u-31", false)
	got(t)(recipes.Leave(ctx, k.dibs, "nickname", "nora", "u-32", "closing-32"))
	back("u-32", true)

	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "dora", Owner: "u-31"}))
	for range 2 {
		got(t)(recipes.Leave(ctx, k.dibs, "username", "dora", "u-31", "closing-1"))
	}
	k.holds(t, "u-31", "dora", "inactive")
	refused(t, "taken")(k.dibs.Claim(ctx, client.Claim{Name: "Dora", Owner: "u-32"}))
	for range 2 {
		if back, err := recipes.ComeBack(ctx, k.dibs, "username", "dora", "u-31", "opening-1"); err != nil || !back {
			t.Errorf("%t, %v", back, err)
		}
	}
	k.holds(t, "u-31", "dora", "registered")
}

func (k *kitchen) cleanUp(t *testing.T) {
	ctx := t.Context()
	var wrong []string // a job has claimed these
	for i := range 3 {
		name := fmt.Sprintf("import-test-%d", i)
		wrong = append(wrong, name)
		got(t)(k.dibs.Claim(ctx, client.Claim{Name: name, Owner: "job-7"}))
	}
	type found struct {
		Key, Owner string
		Version    int64
	}
	n := 0
	for _, f := range rows[found](k.deployment, k.page.block("sql")) {
		if f.Owner == "job-7" && f.Version == 1 && slices.Contains(wrong, f.Key) {
			n++
		}
	}
	if n != len(wrong) {
		t.Errorf("%d of %d names are found", n, len(wrong))
	}
	const asked = `{"actor":"anna","reason":"incident 42: an import that was a test"}`
	header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"incident 42"}}
	for range 2 { // the script is run again
		for _, name := range wrong {
			if a := call(http.MethodPost, k.api.apiAddr(), "/v1/admin/names/username/"+name+"/release", header, []byte(asked)); a.status != http.StatusOK {
				t.Fatalf("%s: %s", name, a)
			}
		}
	}
	for _, name := range wrong {
		k.free(t, name, time.Second)
	}
	k.page.playWith("curl", "release")
}

func (k *kitchen) externalCheck(t *testing.T) {
	ctx := t.Context()
	ttl := time.Hour
	application := func(name, owner string) *recipes.Application {
		a := &recipes.Application{ID: "application-" + owner, Name: name, Owner: owner}
		for range 2 { // a repeated one is the same
			if err := recipes.Apply(ctx, k.dibs, a, ttl); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	passes, fails := application("emil", "u-41"), application("emma", "u-42")
	for range 2 {
		got(t)(recipes.Settle(ctx, k.dibs, passes, true))
		got(t)(recipes.Settle(ctx, k.dibs, fails, false))
	}
	k.holds(t, "u-41", "emil", "registered")
	k.free(t, "emma", time.Second)
	// Taken: there is nothing to confirm, whatever the check says.
	refused(t, "taken")(recipes.Settle(ctx, k.dibs, application("Emil", "u-43"), true))
	k.holds(t, "u-41", "emil", "registered")
	refused(t, "unknown_claim")(recipes.Settle(ctx, k.dibs, application("Emil", "u-44"), false))
	k.holds(t, "u-41", "emil", "registered")

	// The check takes longer than the reservation: its answer is too late, also where the application is made again.
	ttl = shortest
	slow := application("enno", "u-45")
	k.elapse(t, "enno", got(t)(k.dibs.Await(ctx, slow.Claim)).ExpiresAt)
	for _, passed := range []bool{true, false} {
		refused(t, "reservation_expired")(recipes.Settle(ctx, k.dibs, slow, passed))
		refused(t, "reservation_expired")(recipes.Settle(ctx, k.dibs, application("enno", "u-45"), passed))
	}
	k.free(t, "enno", time.Second)
	slow.ID = "application-u-45/2" // another row
	if err := recipes.Apply(ctx, k.dibs, slow, time.Hour); err != nil {
		t.Fatal(err)
	}
	got(t)(recipes.Settle(ctx, k.dibs, slow, true))
}

func (k *kitchen) handOver(t *testing.T) {
	ctx := t.Context()
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "jobs-page", Owner: "u-71"}))
	asked := 0
	meanwhile := func(change func()) func(client.Name) bool {
		return func(client.Name) bool {
			if asked++; asked == 1 { // somebody is faster
				change()
			}
			return true
		}
	}
	got(t)(recipes.HandOver(ctx, k.dibs, "jobs-page", "u-79", meanwhile(func() {
		got(t)(k.dibs.Rename(ctx, "username", "jobs-page", "u-71", "Jobs-Page"))
	})))
	if asked != 2 {
		t.Errorf("asked %d times: the name has been at two versions", asked)
	}
	k.holds(t, "u-79", "jobs-page", "registered")
	// Another owner's is not what was asked about.
	asked = 0
	refused(t, "not_owner")(recipes.HandOver(ctx, k.dibs, "jobs-page", "u-71", meanwhile(func() {
		got(t)(k.dibs.Transfer(ctx, "username", "jobs-page", "u-79", "u-72"))
	})))
	// Where it is not wanted any more nothing is asked for.
	if r, err := recipes.HandOver(ctx, k.dibs, "jobs-page", "u-71", func(client.Name) bool { return false }); err != nil || r.State != "" {
		t.Errorf("%+v, %v", r, err)
	}
	k.holds(t, "u-72", "jobs-page", "registered")
}
