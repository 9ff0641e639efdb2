package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/names"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The values that must not be written down, all with one word in them.
const (
	canary  = dibstest.Canary
	canaryA = dibstest.CanaryAda
)

var canaryB, canaryC = dibstest.Address("bob"), dibstest.Address("carol")

// TestPrivateValuesAreWrittenNowhere makes everything go wrong that can, with values of private spaces, and looks for them in
// whatever has been written, said or answered since.
func TestPrivateValuesAreWrittenNowhere(t *testing.T) {
	t.Parallel()
	d := deploy(t, 4)
	p := d.start("processor") // which has no pepper, and needs none
	d.withPeppers("email", "member")
	api := d.start("api")
	d.assigned(time.Minute, p.ready())
	api.ready()
	said, asked := make(map[string]string), 0 // by what was asked
	ask := func(status int, method, path, body string) answer {
		t.Helper()
		asked++
		a := call(method, api.apiAddr(), path, http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=20"}, "Idempotency-Key": {fmt.Sprint(canaryA, asked)}, "Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}, []byte(body))
		if a.err != nil || a.status != status {
			t.Errorf("%s %s %s: %d %s %v, want %d", method, path, body, a.status, a.body, a.err, status)
		}
		said[fmt.Sprintf("the answer to %s %s %s", method, path, body)] += fmt.Sprintf("%s %v", a.body, a.header)
		return a
	}
	post := func(status int, path, body string) answer {
		t.Helper()
		return ask(status, http.MethodPost, path, body)
	}
	email := func(name, owner, more string) string {
		return fmt.Sprintf(`{"space":"email","name":%q,"owner":%q%s}`, name, owner, more)
	}

	// Before the space is there.
	post(422, "/v1/claims", email(canaryA, "u-1", ""))
	const spaces = `
spaces:
  email: {version: 1, key: hmac, form: email}
  member: {version: 1, key: hmac, fields: [tenant, email: email]}
`
	d.apply(0, spaces)
	if again := d.apply(0, spaces); !strings.Contains(again, "email: version 1 holds already") {
		t.Errorf("the same again says\n%s", again)
	}
	eventually(t, 10*time.Second, func() error {
		if a := call(http.MethodPost, api.apiAddr(), "/v1/lookups", http.Header{"Content-Type": {"application/json"}}, fmt.Appendf(nil, `{"space":"email","name":%q}`, dibstest.Address("nobody"))); a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})

	// What goes well.
	key := func(name string) string {
		t.Helper()
		return post(200, "/v1/lookups", fmt.Sprintf(`{"space":"email","name":%q}`, name)).claim.Key
	}
	ada, bob, carol := key(canaryA), key(canaryB), key(canaryC)
	if a := post(201, "/v1/claims", email(canaryA, "u-1", "")); a.claim.Key != ada || !strings.HasPrefix(ada, "h1:") {
		t.Errorf("claimed %s, looked up %s", a.claim.Key, ada)
	}
	post(409, "/v1/claims", email(dibstest.CanaryAdaTidy, "u-2", ""))
	post(201, "/v1/claims", email(ada, "u-1", `,"on_conflict":"return_existing"`))
	id := post(201, "/v1/claims", email(canaryB, "u-1", `,"mode":"reserve","ttl_seconds":60,"metadata":{"from":"web"}`)).claim.ClaimID
	post(200, "/v1/claims/"+id+"/extend", `{"owner":"u-1","ttl_seconds":120}`)
	post(200, "/v1/claims/"+id+"/confirm", `{"owner":"u-1"}`)
	post(200, "/v1/names/email/"+bob+"/rename", `{"owner":"u-1","to":"`+canaryC+`"}`)
	post(201, "/v1/claims", email(canaryB, "u-1", `,"replaces":{"name":"`+canaryC+`"}`))
	ask(200, http.MethodGet, "/v1/names/email/"+bob, "")
	ask(200, http.MethodGet, "/v1/names/email/"+bob+"/history", "")
	ask(200, http.MethodGet, "/v1/owners/u-1/names", "")
	ask(200, http.MethodGet, "/v1/claims/"+id, "")
	post(200, "/v1/names/email/"+bob+"/transfer", `{"owner":"u-1","new_owner":"u-3"}`)
	post(200, "/v1/admin/names/email/"+bob+"/block", `{"actor":"ops","reason":"test"}`)
	post(200, "/v1/admin/names/email/"+bob+"/unblock", `{"actor":"ops","reason":"test"}`)
	post(201, "/v1/claims", `{"space":"member","fields":{"tenant":"`+canary+`","email":"`+canaryA+`"},"owner":"u-1"}`)
	post(409, "/v1/claims", `{"space":"member","fields":{"tenant":"`+strings.ToUpper(canary)+`","email":"`+canaryA+`"},"owner":"u-2"}`)
	signup := post(201, "/v1/signups", `{"owner":"u-4","names":[{"name":"dora"},{"space":"email","name":"Dora.`+canaryA+`"},{"space":"member","fields":{"tenant":"`+canary+`","email":"`+canaryC+`"}}]}`)
	if !strings.Contains(string(signup.body), `"key":"h1:`) || value[int](d, `SELECT count(*) FROM names WHERE owner = 'u-4' AND space <> 'signup'`) != 3 {
		t.Errorf("a sign-up of private names: %s", signup.body)
	}
	post(409, "/v1/signups", `{"owner":"u-5","names":[{"name":"emil"},{"space":"email","name":"`+canaryA+`"}]}`)
	short := post(201, "/v1/claims", email(canaryB, "u-9", `,"mode":"reserve","ttl_seconds":2`))

	// What does not.
	for _, body := range []string{
		email(canary, "u-1", ""), email(canaryA+" ", "u-1", ""), email(canaryA+"\\u0000", "u-1", ""), email(canaryA, "", `,"mode":"`+canary+`"`),
		email(canaryA, "u-1", `,"replaces":{"name":"`+canary+`"}`), email(canaryA, "u-1", `,"fields":{"email":"`+canaryA+`"}`),
		`{"space":"member","name":"` + canaryA + `","owner":"u-1"}`, `{"space":"member","fields":{"tenant":"` + canary + `"},"owner":"u-1"}`,
		`{"space":"member","fields":{"tenant":"` + canary + `","email":"` + canary + `"},"owner":"u-1"}`,
		`{"space":"nope","name":"` + canaryA + `","owner":"u-1"}`,
	} {
		status := 422
		if strings.Contains(body, "u0000") {
			status = 400
			body = strings.Replace(body, `\\u`, `\u`, 1)
		}
		post(status, "/v1/claims", body)
	}
	for _, body := range []string{
		`{"space":"email","name":"` + canaryA, `{"space":"email","name":["` + canaryA + `"],"owner":"u-1"}`, `"` + canaryA + `"`, `{"` + canaryA + `":1}`,
		`{"space":"member","fields":{"` + canary + `":7},"owner":"u-1"}`, `{"space":"member","fields":["` + canaryA + `"],"owner":"u-1"}`,
		"{\"space\":\"email\",\"name\":\"" + canaryA + "\xff\",\"owner\":\"u-1\"}",
	} {
		post(400, "/v1/claims", body)
		post(400, "/v1/lookups", body)
	}
	for _, name := range []string{
		`{"space":"email","name":"` + canary + `"}`, `{"space":"email","fields":{"` + canary + `":"` + canaryA + `"}}`, `{"space":"nope","name":"` + canaryA + `"}`,
		`{"space":"member","fields":{"tenant":"` + canary + `"}}`,
	} {
		post(422, "/v1/signups", `{"owner":"u-1","names":[`+name+`]}`)
	}
	post(400, "/v1/signups", `{"owner":"u-1","names":[{"space":"member","fields":{"`+canary+`":7}}]}`)
	post(413, "/v1/claims", email(strings.Repeat(canaryA, 200), "u-1", ""))
	raw := "/v1/names/email/" + url.PathEscape(canaryA)
	ask(422, http.MethodGet, raw, "")
	ask(422, http.MethodGet, raw+"/history", "")
	ask(404, http.MethodGet, raw+"/nope", "")
	ask(405, http.MethodPut, raw, "{}")
	ask(400, http.MethodGet, "/v1/owners/u-1/names?"+url.QueryEscape(canaryA)+"=1", "")
	for _, call := range []string{"/release", "/rename", "/transfer", "/deactivate", "/reactivate"} {
		body := map[string]string{"/rename": `{"owner":"u-1","to":"` + canaryB + `"}`, "/transfer": `{"owner":"u-1","new_owner":"u-2"}`}[call]
		if body == "" {
			body = `{"owner":"u-1"}`
		}
		post(422, raw+call, body)
	}
	post(422, "/v1/admin/names/email/"+url.PathEscape(canaryA)+"/block", `{"actor":"ops","reason":"test"}`)

	// What takes too long, and what is withdrawn for it.
	p.pause()
	for _, more := range []string{"", `,"on_timeout":"withdraw"`} {
		a := call(http.MethodPost, api.apiAddr(), "/v1/claims", http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=1"}}, []byte(email(canaryC, "u-1", more)))
		said["the answer to a claim that takes too long"] += fmt.Sprintf("%s %v", a.body, a.header)
		if a.status != 202 || a.claim.Key != carol {
			t.Errorf("a claim that is not decided: %d %s", a.status, a.body)
		}
	}
	a := call(http.MethodPost, api.apiAddr(), "/v1/claims/8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b3f2/withdraw", http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=1"}},
		[]byte(`{"owner":"u-1","space":"email","name":"`+canaryC+`"}`))
	said["the answer to a withdrawal"] = string(a.body)
	p.resume()

	// A command, and an import.
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"claim", canaryA, "--owner", "u-5"}, 3, "taken"},
		{[]string{"lookup", canaryB}, 0, bob},
		{[]string{"names", canaryA}, 0, ada + ": registered by u-1"},
		{[]string{"history", canaryA}, 0, "accepted  u-1"},
		{[]string{"release", canaryA, "--owner", "u-9"}, 3, "not_owner"},
		{[]string{"rename", canaryA, dibstest.Address("renamed"), "--owner", "u-9"}, 3, "not_owner"},
		{[]string{"names", ada, "-o", "json"}, 0, `"owner":"u-1"`},
	} {
		command, got := d.run(append(c.args, "--space", "email", "--url", "http://"+api.apiAddr())...)
		text := command.output() + command.errors()
		if said["dibs "+c.args[0]] = text; got != c.code || !strings.Contains(text, c.says) {
			t.Errorf("dibs %s: exit code %d, want %d and %q\n%s", c.args[0], got, c.code, c.says, text)
		}
	}
	file := filepath.Join(t.TempDir(), "f.csv")
	if err := os.WriteFile(file, []byte("space,name,owner\nemail,"+dibstest.Address("import")+",u-6\nemail,"+canary+",u-7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.mustRun("import", file)
	if n := value[int](d, `SELECT count(*) FROM names WHERE space = 'email' AND owner = 'u-6'`); n != 1 {
		t.Errorf("%d names are imported", n)
	}

	// Records of other producers: in the wrong place, with another pepper, and one that says what it must not.
	producer := d.topic.connect()
	produce := func(recordKey, value string, on int32) {
		r := newClaim(d.partitions, "x", "u-8")
		r.Key, r.Value, r.Partition = []byte(recordKey), []byte(value), on
		d.topic.append(producer, r.Record)
	}
	other := strings.Replace(carol, "h1:", "h7:", 1)
	right := claims.Partition("email/"+carol, d.partitions)
	produce("email/"+carol, `{"space":"email","key":"`+carol+`","owner":"u-8","mode":"register"}`, (right+1)%4)
	produce("email/"+other, `{"space":"email","key":"`+other+`","owner":"u-8","mode":"register"}`, claims.Partition("email/"+other, d.partitions))
	const mistake = "mistake7f3a91" // on the topic it is, whatever we do; nothing of ours repeats it
	produce("email/x", `{"space":"email","name":"`+mistake+`@example.com","owner":"u-8","mode":"register"}`, claims.Partition("email/x", d.partitions))
	eventually(t, 15*time.Second, func() error { // the reservation that nobody confirms
		if n := value[int](d, `SELECT count(*) FROM names WHERE key = $1 AND state = 'f'`, bob); n != 1 {
			return fmt.Errorf("claim %s holds on to its name", short.claim.ClaimID)
		}
		return nil
	})
	d.settled(time.Minute)

	for _, r := range d.topic.read(d.topic.registrations) {
		if bytes.Contains(recordBytes(r), []byte(mistake)) {
			t.Errorf("a name in a private space is repeated: %s", r.Value)
		}
	}
	if n := value[int](d, `SELECT count(*) FROM decisions d WHERE d::text LIKE '%`+mistake+`%'`); n > 0 || strings.Contains(p.errors(), mistake) {
		t.Errorf("a name in a private space is in %d rows, or in the log", n)
	}
	if n := value[int](d, `SELECT count(*) FROM decisions WHERE space = 'email' AND key = 'x'`); n != 1 {
		t.Errorf("it has %d answers", n)
	}

	// Who comes later finds the same, with another pepper nothing, and a processor needs none.
	if verified, code := d.run("verify"); code != 0 {
		t.Errorf("verify: exit code %d\n%s%s", code, verified.output(), verified.errors())
	}
	d.more = nil
	d.withPeppers("email")
	stranger := d.start("api").ready()
	a = d.post(stranger, "/v1/claims", email(canaryA, "u-1", ""))
	if a.status != 503 || !strings.Contains(string(a.body), `"reason":"not_configured"`) {
		t.Errorf("with another pepper: %d %s", a.status, a.body)
	}
	said["the answer of an API with another pepper"] = string(a.body)
	if text := stranger.errors(); !strings.Contains(text, "the pepper is another one than that of the space") || !strings.Contains(text, "space member, version 1: the pepper is missing") {
		t.Errorf("it does not say so:\n%s", text)
	}
	if text := d.apply(1, `{spaces: {email: {version: 2, key: hmac, form: email}}}`); !strings.Contains(text, "could not be found: keys would be made with another pepper") {
		t.Errorf("apply with another pepper: %s", text)
	}

	d.searched(said, p, api, stranger)
}

// withPeppers gives the processes that are started from now on peppers of these spaces, and has them say all that they can.
func (d *deployment) withPeppers(spaces ...string) {
	d.t.Helper()
	text := "peppers:\n"
	for _, space := range spaces {
		entry, err := auth.NewPepper(names.Space(space), 1)
		if err != nil {
			d.t.Fatal(err)
		}
		text += entry
	}
	d.secret(text)
	path := filepath.Join(d.t.(*testing.T).TempDir(), "peppers.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.more = append(d.more, "DIBS_SECURITY_PEPPERS_FILE="+path, "DIBS_LOG_LEVEL=debug")
}

// searched looks for the canary in what processes and answers said. The topics and the tables are searched when the test
// ends, like those of all tests; here only that something is in them.
func (d *deployment) searched(said map[string]string, processes ...*process) {
	d.t.Helper()
	found := func(what string, text string) {
		d.t.Helper()
		if trace := dibstest.Trace([]byte(text)); trace != "" {
			d.t.Errorf("%s: %s", what, trace)
		}
	}
	for what, text := range said {
		found(what, text)
	}
	for _, p := range processes {
		found("what "+p.name+" says", p.output()+p.errors())
		for _, page := range []string{"/metrics", "/readyz?verbose"} {
			text, err := p.ask(page)
			if err != nil || text == "" {
				d.t.Errorf("%s of %s: %v", page, p.name, err)
			}
			found(page+" of "+p.name, text)
		}
	}
	for _, topic := range []string{d.topic.claims, d.topic.registrations} {
		if len(d.topic.read(topic)) == 0 {
			d.t.Errorf("%s is empty: nothing is looked at", topic)
		}
	}
	if n := value[int](d, `SELECT (SELECT count(*) FROM decisions) + (SELECT count(*) FROM names)`); n < 40 {
		d.t.Errorf("%d rows are looked at", n)
	}
	d.t.Logf("looked at %d answers", len(said))
}

func recordBytes(r *kgo.Record) []byte {
	b := append(append([]byte(nil), r.Key...), r.Value...)
	for _, h := range r.Headers {
		b = append(append(b, h.Key...), h.Value...)
	}
	return b
}
