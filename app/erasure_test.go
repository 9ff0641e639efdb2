package app_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/client"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// traces says where in the tables one of these texts is: every row of every table, as text, and what is stored as bytes read as
// such.
func (d *deployment) traces(of ...string) (all []string) {
	d.t.Helper()
	err := d.query(func(ctx context.Context, c *pgx.Conn) error {
		rows, _ := c.Query(ctx, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1 AND table_type = 'BASE TABLE'`, d.database.Schema)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, table := range tables {
			bytes := "''"
			rows, _ := c.Query(ctx, `SELECT column_name::text FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 AND data_type = 'bytea'`, d.database.Schema, table)
			columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			for _, column := range columns {
				bytes += fmt.Sprintf(` || coalesce(encode(x.%q, 'escape'), '')`, column)
			}
			rows, _ = c.Query(ctx, fmt.Sprintf(`SELECT x::text || %s FROM %q x`, bytes, table))
			texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			for _, text := range texts {
				for _, one := range of {
					if strings.Contains(strings.ToLower(text), one) {
						all = append(all, fmt.Sprintf("%s in %s: %s", one, table, text))
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// eraseStory leaves traces of an owner of every kind, and returns what they are told by: the owner, and the names that are nobody
// else's.
func (d *deployment) eraseStory(api *process, owner string) (traces []string) {
	d.t.Helper()
	c, err := client.New("http://" + api.apiAddr())
	if err != nil {
		d.t.Fatal(err)
	}
	ctx := d.t.Context()
	result := func(r client.Result, err error) client.Result {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
		return r
	}
	claim := func(name, of string) client.Result {
		d.t.Helper()
		return result(c.Claim(ctx, client.Claim{Name: name, Owner: of}))
	}
	claim("Erased-Held", owner)
	result(c.Reserve(ctx, client.Claim{Name: "erased-reserved", Owner: owner}, time.Minute))
	claim("erased-released", owner)
	result(c.Release(ctx, "username", "erased-released", owner))
	claim("erased-renamed", owner)
	result(c.Rename(ctx, "username", "erased-renamed", owner, "erased-new"))
	claim("erased-left", owner)
	result(c.Deactivate(ctx, "username", "erased-left", owner))
	claim("somebody", "u-else")
	claim("somebody", owner) // which is taken
	claim("erased-passed-on", owner)
	result(c.Transfer(ctx, "username", "erased-passed-on", owner, "u-heir"))
	for second, want := range map[string]client.State{"erased-second": client.Accepted, "somebody": client.Rejected} {
		wanted := []client.WantedName{{Name: "erased-signed-up-" + string(want)}, {Name: second}}
		if s, err := c.SignUp(ctx, client.SignUp{Owner: owner, Names: wanted, IdempotencyKey: string(want)}); err != nil || s.State != want {
			d.t.Fatalf("a sign-up is %+v, %v, want %s", s, err, want)
		}
	}

	// What is malformed, what is for another partition, what is dead, and a withdrawal of what never came.
	k := d.asker()
	produce := func(r *kgo.Record) {
		d.t.Helper()
		d.topic.append(d.topic.client, r)
	}
	about := func(name string) claims.About { return claims.About{Space: "username", Spelling: name} }
	stray := k.record(uuid.New(), &claims.UsernameClaimed{Space: "username", Spelling: "erased-stray", Owner: owner, Mode: claims.ModeRegister}, false)
	stray.Partition = (stray.Partition + 1) % int32(d.partitions)
	produce(stray)
	id := uuid.New()
	produce(k.record(id, &claims.UsernameClaimed{Space: "username", Spelling: "erased-twice", Owner: owner, Mode: claims.ModeRegister}, false))
	produce(k.record(id, &claims.UsernameClaimed{Space: "username", Spelling: "erased-twice", Owner: owner, Mode: claims.ModeRegister, Metadata: map[string]string{"a": "b"}}, false))
	produce(k.record(uuid.New(), &claims.WithdrawRequested{About: about("erased-twice"), ClaimID: uuid.New(), Owner: owner}, false))
	produce(k.record(uuid.New(), &claims.UsernameClaimed{Space: "username", Spelling: "admin", Owner: owner, Mode: claims.ModeRegister}, false))
	produce(k.record(uuid.New(), &claims.UsernameClaimed{Space: "username", Spelling: "erased name", Owner: owner, Mode: claims.ModeRegister}, false))
	produce(k.record(uuid.New(), &claims.UsernameClaimed{Space: "nowhere", Spelling: "erased-nowhere", Owner: owner, Mode: claims.ModeRegister}, false))
	d.settled(30 * time.Second)
	return []string{
		owner, "erased-held", "erased-reserved", "erased-released", "erased-renamed", "erased-new", "erased-left", "erased-signed-up-accepted", "erased-signed-up-rejected", "erased-second", "erased-stray", "erased-twice", "erased name", "erased-nowhere",
	}
}

// TestErasure: an owner is erased. Nothing in any table names the owner, nor a name that is nobody else's; what was decided is still
// what the log says; the names can be claimed, at the version that they have; and an old request is answered as it was.
func TestErasure(t *testing.T) {
	t.Parallel()
	d := deploy(t, 3)
	processor, api := d.start("processor").ready(), d.start("api").ready()
	d.assigned(30*time.Second, processor)
	const owner = "u-to-be-erased"
	first := d.claim(api, asked{name: "erased-first", owner: owner, key: "the first"})
	if first.status != http.StatusCreated {
		t.Fatal(first)
	}
	traces := append(d.eraseStory(api, owner), "erased-first")
	for _, trace := range traces {
		if len(d.traces(trace)) == 0 {
			t.Errorf("there is nothing of %s to be erased: what finds no trace finds none", trace)
		}
	}

	says := d.mustRun("admin", "erase", owner, "--actor=ada", "--reason=request 4711", "--wait=60s", "--url=http://"+api.apiAddr())
	if !strings.Contains(says, owner+" is erased") || !strings.Contains(says, "(2 about sign-ups)") || strings.Count(says, "keeps what names the owner until") != 3 {
		t.Errorf("dibs admin erase says %s", says)
	}
	d.settled(30 * time.Second)
	for _, trace := range d.traces(traces...) {
		t.Errorf("left: %s", trace)
	}
	if v := d.verify(0); v.Erased < 20 || v.Found != 0 {
		t.Errorf("verify: %+v", v)
	}
	without := start(t, "without the secret", slices.DeleteFunc(d.env("without"), func(s string) bool { return strings.HasPrefix(s, "DIBS_SECURITY_ERASURE") }), "verify")
	if code := without.wait(time.Minute); code != 2 || without.output() != "" || !strings.Contains(without.errors(), "names were erased, and there is no secret of security.erasure_secret_file: set it") {
		t.Errorf("verify without the secret reads on: exit code %d\n%s%s", code, without.output(), without.errors())
	}

	// The same request again: the same answer, which names nobody.
	again := d.claim(api, asked{name: "erased-first", owner: owner, key: "the first"})
	if again.status != http.StatusCreated || again.claim.ClaimID != first.claim.ClaimID || again.claim.Version != 1 || again.claim.Owner != "" || strings.Contains(string(again.body), `"name"`) {
		t.Errorf("an old request is answered %s %+v, was %+v", again, again.claim, first.claim)
	}
	other := d.claim(api, asked{name: "erased-first", owner: "u-other", key: "the first"})
	if other.status != http.StatusUnprocessableEntity {
		t.Errorf("other content under its key is answered %s", other)
	}
	read := d.look(api, "/v1/claims/"+first.claim.ClaimID, "")
	if strings.Contains(string(read.body), owner) || strings.Contains(string(read.body), "erased-first") || read.status != http.StatusOK {
		t.Errorf("GET of an erased claim is %s", read)
	}

	// A sign-up is what it was, of whom and of what it does not say; and what it asked for can be asked for again.
	wanted := []client.WantedName{{Name: "erased-signed-up-accepted"}, {Name: "erased-second"}}
	c, err := client.New("http://" + api.apiAddr())
	if err != nil {
		t.Fatal(err)
	}
	signup, err := c.SignUp(t.Context(), client.SignUp{Owner: owner, Names: wanted, IdempotencyKey: "accepted"})
	if err != nil || signup.State != client.Accepted || !signup.Replayed {
		t.Errorf("an old sign-up is answered %+v, %v", signup, err)
	}
	shown := d.look(api, "/v1/signups/"+signup.ID, "")
	if shown.status != http.StatusOK || !strings.Contains(string(shown.body), `"state":"accepted"`) || strings.Contains(string(shown.body), "erased-") || strings.Contains(string(shown.body), owner) {
		t.Errorf("GET of an erased sign-up is %s", shown)
	}
	if s, err := c.SignUp(t.Context(), client.SignUp{Owner: "u-next", Names: wanted[:1]}); err != nil || s.State != client.Accepted {
		t.Errorf("what an erased sign-up had is signed up for: %+v, %v", s, err)
	}

	// Names of others are as they were; the erased ones go to whoever comes, and go on.
	for name, want := range map[string]string{"somebody": "u-else", "erased-passed-on": "u-heir"} {
		if says := d.mustRun("names", name, "--url=http://"+api.apiAddr()); !strings.Contains(says, "registered by "+want) {
			t.Errorf("dibs names %s says %s", name, says)
		}
	}
	for name, version := range map[string]int64{"erased-second": 4, "erased-held": 3, "erased-released": 4, "erased-left": 4} {
		a := d.claim(api, asked{name: name, owner: "u-next"})
		if a.status != http.StatusCreated || a.claim.Version != version {
			t.Errorf("%s is claimed: %s, want version %d", name, a, version)
		}
	}
	// And the owner's own, who is erased again.
	if a := d.claim(api, asked{name: "erased-held2", owner: owner}); a.status != http.StatusCreated {
		t.Error(a)
	}
	d.mustRun("admin", "erase", owner, "--actor=ada", "--reason=request 4711", "--wait=60s", "--url=http://"+api.apiAddr())
	d.settled(30 * time.Second)
	for _, trace := range d.traces(owner, "erased-held2") {
		t.Errorf("left: %s", trace)
	}
	if v := d.verify(0); v.Found != 0 {
		t.Errorf("verify: %+v", v)
	}
}

// TestErasureUnderCrashes: API and processor are killed while an owner is erased. Whatever API is asked next goes on with it; and
// what was to be wiped when the processor died, its next one wipes. What retention has taken from claims afterwards is verified by
// what is left of it in the rows.
func TestErasureUnderCrashes(t *testing.T) {
	t.Parallel()
	d := deploy(t, 3)
	processor, api := d.start("processor").ready(), d.start("api").ready()
	d.assigned(30*time.Second, processor)
	const owner = "u-to-be-erased"
	for i := range 30 {
		name := fmt.Sprintf("erased-%d", i)
		if a := d.claim(api, asked{name: name, owner: owner}); a.status != http.StatusCreated {
			t.Fatal(a)
		}
		if i%3 == 0 {
			if a := d.post(api, "/v1/names/username/"+name+"/release", `{"owner":"`+owner+`"}`); a.status != http.StatusOK {
				t.Fatal(a)
			}
		}
		if i%6 == 0 {
			if a := d.claim(api, asked{name: name, owner: "u-else"}); a.status != http.StatusCreated {
				t.Fatal(a)
			}
		}
	}
	c, err := client.New("http://" + api.apiAddr())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // two of them get nothing: erased-0 and erased-1 are taken
		wanted := []client.WantedName{{Name: fmt.Sprintf("erased-with-%d", i)}, {Name: fmt.Sprintf("erased-%d", []int{0, 1, 100, 101}[i])}}
		if s, err := c.SignUp(t.Context(), client.SignUp{Owner: owner, Names: wanted}); err != nil || (s.State == client.Accepted) != (i > 1) {
			t.Fatalf("a sign-up is %+v, %v", s, err)
		}
	}
	// They die when the requests are written and cannot be decided.
	release := d.hold(`LOCK TABLE erasures IN ACCESS EXCLUSIVE MODE`)
	a := d.post(api, "/v1/admin/owners/"+owner+"/erase", `{"actor":"ada","reason":"request 4711"}`)
	if a.status != http.StatusServiceUnavailable && a.status != http.StatusAccepted {
		t.Fatal(a)
	}
	processor.kill()
	api.kill()
	release()
	api = d.start("api").ready()
	a = d.post(api, "/v1/admin/owners/"+owner+"/erase", `{"actor":"ada","reason":"request 4711"}`)
	location := a.header.Get("Location")
	if a.status != http.StatusAccepted || location == "" {
		t.Fatal(a)
	}
	if again := d.post(api, "/v1/admin/owners/"+owner+"/erase", `{"actor":"ada","reason":"request 4711"}`); again.header.Get("Location") != location {
		t.Errorf("the same erasure is at %s and %s", location, again.header.Get("Location"))
	}
	// They die when everything is decided and nothing can be wiped.
	d.exec(`CREATE FUNCTION unwiped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nothing is wiped now'; END $$;
		CREATE TRIGGER unwiped BEFORE UPDATE ON decisions EXECUTE FUNCTION unwiped()`)
	processor = d.start("processor").ready()
	const pending = `SELECT count(*) FROM erasures WHERE done_at IS NULL`
	eventually(t, 30*time.Second, func() error {
		if n := value[int64](d, pending); n < 30 {
			return fmt.Errorf("%d erasures are decided", n)
		}
		return nil
	})
	processor.kill()
	api.kill()
	if n := value[int64](d, pending); n < 30 || len(d.traces(owner)) < 40 {
		t.Errorf("%d erasures are to be done, and %d rows name the owner", n, len(d.traces(owner)))
	}
	d.exec(`DROP TRIGGER unwiped ON decisions`)
	d.start("processor").ready()
	eventually(t, 30*time.Second, func() error { // nobody asks
		if n := value[int64](d, pending); n > 0 {
			return fmt.Errorf("%d erasures are left", n)
		}
		return nil
	})
	api = d.start("api").ready()
	eventually(t, 60*time.Second, func() error {
		if a := d.look(api, location, ""); !strings.Contains(string(a.body), `"state":"done"`) {
			return fmt.Errorf("not done: %s", a)
		}
		return nil
	})
	d.settled(30 * time.Second)
	var traces []string
	for i := range 30 {
		if i%6 != 0 {
			traces = append(traces, fmt.Sprintf("erased-%d,", i), fmt.Sprintf("erased-%d\"", i))
		}
	}
	for _, trace := range d.traces(append(traces, owner, "erased-with", "erased-100", "erased-101")...) {
		t.Errorf("left: %s", trace)
	}
	whole := d.verify(0)
	if whole.Erased == 0 || whole.Trusted != 0 {
		t.Errorf("verify: %+v", whole)
	}

	// Retention takes the first half of the log: what was wiped of it is trusted, and what was published of it was its outcome.
	for _, s := range d.standings() {
		d.topic.cut(s.Partition, s.Next/2)
	}
	for i := range 10 {
		if a := d.claim(api, asked{name: fmt.Sprintf("erased-%d", i), owner: "u-next"}); a.status != http.StatusCreated && a.status != http.StatusConflict {
			t.Error(a)
		}
	}
	d.settled(30 * time.Second)
	if v := d.verify(0); v.Trusted == 0 || v.Erased == 0 {
		t.Errorf("verify, once retention has taken half of the log: %+v", v)
	}
}
