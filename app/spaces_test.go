package app_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/twmb/franz-go/pkg/kgo"
)

// spacesFile writes a file of spaces.
func spacesFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spaces.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// apply applies a file of spaces, and fails the test for another exit code.
func (d *deployment) apply(code int, text string, flags ...string) string {
	d.t.Helper()
	file := spacesFile(d.t.(*testing.T), text)
	p, got := d.run(append([]string{"spaces", "apply", file}, flags...)...)
	if said := p.output() + p.errors(); got != code {
		d.t.Fatalf("spaces apply: exit code %d, want %d\n%s\n%s", got, code, text, said)
	}
	return p.output() + p.errors()
}

// ask posts JSON to an API, and reads what it answers.
func (d *deployment) ask(api *process, path, body string) (int, map[string]any) {
	d.t.Helper()
	a := d.post(api, path, body)
	var read map[string]any
	if err := json.Unmarshal(a.body, &read); err != nil {
		d.t.Fatalf("POST %s: %d %q: %v", path, a.status, a.body, err)
	}
	return a.status, read
}

// must is a post that is answered with a status, and a reason where it is a refusal.
func (d *deployment) must(api *process, status int, reason, path, body string) map[string]any {
	d.t.Helper()
	got, read := d.ask(api, path, body)
	if why, _ := read["reason"].(string); got != status || why != reason {
		d.t.Fatalf("POST %s %s: %d %v, want %d %s\n%v", path, body, got, read["reason"], status, reason, read)
	}
	return read
}

// soon is must for what the API hears of within a second or two.
func (d *deployment) soon(api *process, status int, reason, path, body string) {
	d.t.Helper()
	eventually(d.t, 10*time.Second, func() error {
		if got, read := d.ask(api, path, body); got != status || reason != "" && read["reason"] != reason {
			return fmt.Errorf("POST %s %s: %d %v, want %d %s", path, body, got, read["reason"], status, reason)
		}
		return nil
	})
}

// TestPoliciesThroughTheLog changes what holds while everything runs: nothing is started again.
func TestPoliciesThroughTheLog(t *testing.T) {
	t.Parallel()
	d := deploy(t, 6)
	p, api := d.start("processor"), d.start("api")
	d.assigned(time.Minute, p.ready())
	api.ready()
	claim := func(space, name, owner string) string {
		return fmt.Sprintf(`{"space":%q,"name":%q,"owner":%q}`, space, name, owner)
	}

	d.must(api, 201, "", "/v1/claims", claim("username", "carol", "u-3"))
	d.must(api, 201, "", "/v1/claims", claim("username", "dave", "u-4"))
	d.must(api, 422, "unknown_space", "/v1/claims", claim("invoice-number", "2026-0001", "acme"))

	const first = `
spaces:
  username: {version: 2, cool_down: 720h, unique_among: active}
  invoice-number: {version: 1, reserved: [], min_length: 1}
`
	if said := d.apply(0, first, "--dry-run"); !strings.Contains(said, "username: version 2 would be published to partitions 0-5, where at most version 1 holds") {
		t.Errorf("--dry-run says\n%s", said)
	}
	if n := value[int](d, `SELECT count(*) FROM spaces`); n != 0 {
		t.Errorf("--dry-run has made %d policies hold", n)
	}
	if said := d.apply(0, first); !strings.Contains(said, "username: holds in 6 of 6 partitions") || !strings.Contains(said, "invoice-number: holds in 6 of 6 partitions") {
		t.Errorf("apply says\n%s", said)
	}
	written := d.written()
	if said := d.apply(0, first); !strings.Contains(said, "username: version 2 holds already") || d.written() != written {
		t.Errorf("the same again says\n%s\nand the log has %d records, before %d", said, d.written(), written)
	}
	if said := d.mustRun("spaces"); !strings.Contains(said, "username        2        0-5") || !strings.Contains(said, "invoice-number  1        0-5") || !strings.Contains(said, "k1") {
		t.Errorf("spaces says\n%s", said)
	}

	// A new space, without a restart.
	d.soon(api, 201, "", "/v1/claims", claim("invoice-number", "2026-0001", "acme"))
	d.must(api, 409, "taken", "/v1/claims", claim("invoice-number", "2026-0001", "other"))

	// Unique among the active: a deactivated owner's name is free, and comes back if it still is.
	d.must(api, 200, "", "/v1/names/username/carol/deactivate", `{"owner":"u-3"}`)
	if s := value[string](d, `SELECT state::text FROM names WHERE key = 'carol'`); s != "f" {
		t.Errorf("carol is %s once deactivated", s)
	}
	d.must(api, 200, "", "/v1/names/username/carol/reactivate", `{"owner":"u-3"}`)
	d.must(api, 200, "", "/v1/names/username/carol/deactivate", `{"owner":"u-3"}`)
	d.must(api, 201, "", "/v1/claims", claim("username", "carol", "u-9"))
	d.must(api, 409, "taken", "/v1/names/username/carol/reactivate", `{"owner":"u-3"}`)
	// A cool-down: nobody else gets it.
	d.must(api, 200, "", "/v1/names/username/dave/release", `{"owner":"u-4"}`)
	d.must(api, 409, "cooling_down", "/v1/claims", claim("username", "dave", "u-9"))
	back := d.must(api, 201, "", "/v1/claims", claim("username", "dave", "u-4"))
	if v := value[int](d, `SELECT policy_version FROM names WHERE key = 'dave'`); v != 2 || back["state"] != "accepted" {
		t.Errorf("dave came back under policy version %d: %v", v, back)
	}

	// What is not raised, and who is concerned.
	if said := d.apply(1, `{spaces: {username: {version: 2}}}`); !strings.Contains(said, "make this 3") {
		t.Errorf("other content under the same version: %s", said)
	}
	if said := d.apply(1, `{spaces: {username: {version: 1}}}`); !strings.Contains(said, "must be raised") {
		t.Errorf("a lower version: %s", said)
	}
	const longer = `{spaces: {username: {version: 3, min_length: 5, reserved: [carol]}}}`
	check, code := d.run("spaces", "check", spacesFile(t, longer))
	if said := check.output(); code != 3 || !strings.Contains(said, "username/carol  registered of u-9: is reserved") ||
		!strings.Contains(said, "username/dave  registered of u-4: is too short: at least 5 characters") || !strings.Contains(said, "2 held names are concerned") {
		t.Errorf("check: exit code %d\n%s%s", code, said, check.errors())
	}

	// The processor is killed right behind the apply: what holds is in the rows, and whoever comes goes on under it.
	d.apply(0, longer)
	p.kill()
	p = d.start("processor")
	d.assigned(time.Minute, p.ready())
	d.soon(api, 422, "invalid_name", "/v1/claims", claim("username", "erin", "u-5"))
	d.must(api, 422, "reserved_word", "/v1/claims", claim("username", "carol", "u-9"))
	d.must(api, 200, "", "/v1/names/username/dave/release", `{"owner":"u-4"}`) // who holds it keeps it, and may give it up
	if s := value[string](d, `SELECT state::text || policy_version FROM names WHERE key = 'dave'`); s != "f3" {
		t.Errorf("dave is %s, want free under version 3: without a cool-down", s)
	}
	d.settled(time.Minute)
	if n := value[int](d, `SELECT count(*) FROM decisions WHERE kind = 'p'`); n != 18 {
		t.Errorf("%d rows of kind policy, want 3 in each of 6 partitions", n)
	}
	if n := value[int](d, `SELECT count(*) FROM spaces`); n != 3 {
		t.Errorf("%d policies are kept, want 3", n)
	}
}

// TestPolicyBySomebody: an activation that is not signed by a key of the deployment is dead, and changes nothing.
func TestPolicyBySomebody(t *testing.T) {
	t.Parallel()
	d := deploy(t, 2)
	p := d.start("processor")
	d.assigned(time.Minute, p.ready())
	d.apply(0, `{spaces: {invoice-number: {version: 1}}}`)
	real := d.topic.read(d.topic.claims)
	if len(real) != 2 {
		t.Fatalf("%d records on claims, want one in each partition", len(real))
	}
	forged := func(change func(r *kgo.Record)) *kgo.Record {
		r := *real[0]
		r.Topic, r.Headers = d.topic.claims, append([]kgo.RecordHeader(nil), r.Headers...)
		r.Value = []byte(strings.Replace(string(r.Value), `"version":1`, `"version":2`, 1))
		change(&r)
		return &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	d.topic.append(d.topic.client,
		forged(func(*kgo.Record) {}),
		forged(func(r *kgo.Record) { r.Headers = r.Headers[:len(r.Headers)-1] }),
		forged(func(r *kgo.Record) {
			for i := range r.Headers {
				if r.Headers[i].Key == claims.Signature {
					r.Headers[i].Value = []byte("k1:" + hex.EncodeToString(make([]byte, 32)))
				}
			}
		}),
		&kgo.Record{Topic: d.topic.claims, Partition: real[0].Partition, Key: real[0].Key, Value: real[0].Value, Headers: real[0].Headers}, // a copy is none
	)
	d.settled(time.Minute)
	if n := value[int](d, `SELECT count(*) FROM dead_letters WHERE reason LIKE '%not signed as one%'`); n != 3 {
		t.Errorf("%d dead letters, want 3", n)
	}
	if s := value[string](d, `SELECT string_agg(space || version, ' ') FROM spaces`); s != "invoice-number1" {
		t.Errorf("active were %s", s)
	}
}

// TestRetiredKey takes a deployment from one signature key to the next one, and halts who lacks it.
func TestRetiredKey(t *testing.T) {
	t.Parallel()
	d := deploy(t, 2)
	old := d.keys
	next := filepath.Join(t.TempDir(), "next.yaml")
	if err := auth.MakeRequestKeys(next, "k2"); err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(t.TempDir(), "both.yaml")
	a, _ := os.ReadFile(old)
	b, _ := os.ReadFile(next)
	if err := os.WriteFile(both, append(a, strings.TrimPrefix(string(b), "keys:\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	turned := filepath.Join(t.TempDir(), "turned.yaml")
	if err := os.WriteFile(turned, append(b, strings.TrimPrefix(string(a), "keys:\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	p := d.start("processor")
	d.assigned(time.Minute, p.ready())
	d.apply(0, `{spaces: {invoice-number: {version: 1}}}`)

	// The command's file has a key that the processor has not got: it halts, and says what to do.
	d.keys = both
	if said := d.apply(1, `{spaces: {invoice-number: {version: 2}}}`); !strings.Contains(said, "New: k2") || !strings.Contains(said, "no such key: add it to security.request_keys_file") {
		t.Errorf("apply says\n%s", said)
	}
	p.stop()
	p = d.start("processor") // with both
	d.assigned(time.Minute, p.ready())
	for n := range 2 {
		if value[int](d, `SELECT count(*) FROM partitions WHERE halted IS NOT NULL AND partition = $1`, n) == 1 {
			d.mustRun("partitions", "resume", strconv.Itoa(n), "--actor", "ada", "--reason", "the key is handed out")
		}
	}
	d.apply(0, `{spaces: {invoice-number: {version: 2}}}`)
	// Whoever starts without it is told so.
	d.keys = old
	if lacking, code := d.run("processor"); code == 0 || !strings.Contains(lacking.errors(), "k2") {
		t.Errorf("a processor without k2: exit code %d\n%s", code, lacking.errors())
	}
	d.keys = next
	if said := d.apply(1, `{spaces: {invoice-number: {version: 3}}}`, "--retire-keys"); !strings.Contains(said, "dibs signs with k1, which would be retired") {
		t.Errorf("apply says\n%s", said)
	}
	d.keys = turned
	d.apply(0, `{spaces: {invoice-number: {version: 3}}}`)
	d.keys = next
	if said := d.apply(1, `{spaces: {invoice-number: {version: 4}}}`); !strings.Contains(said, "Not any more: k1") || !strings.Contains(said, "--retire-keys") {
		t.Errorf("apply says\n%s", said)
	}
	if said := d.apply(0, `{spaces: {invoice-number: {version: 4}}}`, "--retire-keys"); !strings.Contains(said, "in 10s, when nobody signs with k1 any more") {
		t.Errorf("apply says\n%s", said)
	}
	if said := d.mustRun("spaces"); strings.Contains(said, "k1") || !strings.Contains(said, "k2") {
		t.Errorf("spaces says\n%s", said)
	}
	// What k1 signs is nobody's from here on.
	d.keys = old
	if late, code := d.run("api"); code == 0 || !strings.Contains(late.errors(), "what this process signs is rejected") {
		t.Errorf("an API with the retired key only: exit code %d\n%s", code, late.errors())
	}
	if said := d.apply(1, `{spaces: {invoice-number: {version: 5}}}`, "--retire-keys"); !strings.Contains(said, "no key of security.request_keys_file holds") {
		t.Errorf("apply with the retired key says\n%s", said)
	}
}

// TestEverythingSigned: the API signs all that it publishes, also before the record that asks for it, and where its own
// settings do not: nothing of it is rejected behind that record.
func TestEverythingSigned(t *testing.T) {
	t.Parallel()
	d := deploy(t, 2)
	p, api := d.start("processor"), d.start("api")
	d.assigned(time.Minute, p.ready())
	api.ready()
	d.must(api, 201, "", "/v1/claims", `{"name":"alice","owner":"u-1"}`)
	d.apply(0, `{spaces: {username: {version: 2}}}`, "--security-require-signatures", "all")
	unsigned := newClaim(2, "mallory", "u-6")
	unsigned.Topic = d.topic.claims
	d.topic.append(d.topic.client, unsigned.Record)
	d.must(api, 201, "", "/v1/claims", `{"name":"bobby","owner":"u-2"}`)
	d.must(api, 200, "", "/v1/names/username/alice/release", `{"owner":"u-1"}`)
	d.settled(time.Minute)
	if why := value[string](d, `SELECT reason FROM decisions WHERE request_id = $1`, unsigned.id); why != "not_allowed" {
		t.Errorf("an unsigned claim is answered %q", why)
	}
	// Who applies with other settings is asked whether that is what is meant.
	written := d.written()
	if said := d.apply(1, `{spaces: {username: {version: 3}}}`); !strings.Contains(said, "--drop-signatures") || d.written() != written {
		t.Errorf("apply without signatures says\n%s", said)
	}
	if said := d.apply(0, `{spaces: {username: {version: 3}}}`, "--drop-signatures"); !strings.Contains(said, "not every request must be signed any more") || !strings.Contains(said, "keys from then on: k1") {
		t.Errorf("apply with --drop-signatures says\n%s", said)
	}
	if said := d.apply(0, `{spaces: {username: {version: 4}}}`, "--security-require-signatures", "all"); !strings.Contains(said, "all: every request must be signed") {
		t.Errorf("apply with signatures says\n%s", said)
	}
	d.keys = ""
	if keyless, code := d.run("api"); code == 0 || !strings.Contains(keyless.errors(), "must be signed") {
		t.Errorf("an API without keys: exit code %d\n%s", code, keyless.errors())
	}
	if keyless, code := d.run("api", "--security-require-signatures", "all"); code == 0 || !strings.Contains(keyless.errors(), "security.require_signatures is all") {
		t.Errorf("an API told to sign without keys: exit code %d\n%s", code, keyless.errors())
	}
}

// TestAppliedTwice: of two policies under the same version one holds, and who has published the other is told so: behind
// an apply that was broken off, and beside one that still waits.
func TestAppliedTwice(t *testing.T) {
	t.Parallel()
	d := deploy(t, 2)
	d.apply(4, `{spaces: {username: {version: 2, min_length: 4}}}`, "--wait", "1s")
	var waiting []*process
	for _, shortest := range []int{8, 4} {
		file := spacesFile(t, fmt.Sprintf(`{spaces: {username: {version: 2, min_length: %d}}}`, shortest))
		p := d.start("spaces", "apply", file, "--wait", "50s")
		eventually(t, time.Minute, func() error {
			if !strings.Contains(p.output(), "holds in 0 of 2") {
				return fmt.Errorf("says %q", p.output())
			}
			return nil
		})
		waiting = append(waiting, p)
	}
	p := d.start("processor")
	d.assigned(time.Minute, p.ready())
	if code := waiting[0].wait(55 * time.Second); code != 1 || !strings.Contains(waiting[0].errors(), "with other content") || strings.Contains(waiting[0].output(), "holds in 2 of 2") {
		t.Errorf("min_length 8 behind 4: exit code %d\n%s\n%s", code, waiting[0].output(), waiting[0].errors())
	}
	if code := waiting[1].wait(55 * time.Second); code != 0 || !strings.Contains(waiting[1].output(), "holds in 2 of 2") {
		t.Errorf("min_length 4, which holds: exit code %d\n%s\n%s", code, waiting[1].output(), waiting[1].errors())
	}
	if s := value[string](d, `SELECT string_agg(DISTINCT policies #>> '{spaces,username,policy,min_length}', ' ') FROM partitions`); s != "4" {
		t.Errorf("min_length is %s", s)
	}
}

// TestAppliedToAGrownTopic: partitions that were added to the topic take policies as well, and keep no policy from the API.
func TestAppliedToAGrownTopic(t *testing.T) {
	t.Parallel()
	const pinned, grown = 2, 4
	d := deploy(t, pinned)
	fresh, code := d.run("spaces", "check", spacesFile(t, `{spaces: {username: {version: 2}}}`)) // nothing is pinned yet
	if code != 0 || !strings.Contains(fresh.output(), "version 2 would hold after at most version 1") {
		t.Errorf("check of a fresh deployment: exit code %d\n%s%s", code, fresh.output(), fresh.errors())
	}
	p := d.start("processor")
	d.assigned(time.Minute, p.ready())
	d.topic.grow(grown-pinned, d.topic.claims)
	p.stop()
	d.start("processor").ready()
	eventually(t, time.Minute, func() error {
		if n := value[int](d, `SELECT count(*) FROM partitions`); n != grown {
			return fmt.Errorf("%d partitions have an owner, want %d", n, grown)
		}
		return nil
	})
	api := d.start("api").ready()
	const file = `{spaces: {invoice-number: {version: 1}}}`
	if said := d.apply(0, file); !strings.Contains(said, "to partitions 0-3,") || !strings.Contains(said, "holds in 2 of 2 partitions") {
		t.Errorf("apply says\n%s", said)
	}
	d.soon(api, 201, "", "/v1/claims", `{"space":"invoice-number","name":"2026-1","owner":"acme"}`)
	eventually(t, 30*time.Second, func() error {
		if n := value[int](d, `SELECT count(*) FROM partitions WHERE policies #>> '{spaces,invoice-number,version}' = '1'`); n != grown {
			return fmt.Errorf("it holds in %d of %d partitions", n, grown)
		}
		return nil
	})
	if said := d.apply(0, file); !strings.Contains(said, "invoice-number: version 1 holds already") {
		t.Errorf("apply says\n%s", said)
	}
	d.settled(time.Minute)
	d.mustRun("verify")
}

// TestApplyWithoutProcessors ends in time, says that it is undecided, and is gone on with.
func TestApplyWithoutProcessors(t *testing.T) {
	t.Parallel()
	d := deploy(t, 2)
	const file = `{spaces: {invoice-number: {version: 1}}}`
	if said := d.apply(4, file, "--wait", "2s"); !strings.Contains(said, "is a processor running?") {
		t.Errorf("apply says\n%s", said)
	}
	apply := d.start("spaces", "apply", spacesFile(t, file))
	eventually(t, time.Minute, func() error {
		if !strings.Contains(apply.output(), "holds in 0 of 2") {
			return fmt.Errorf("says %q", apply.output())
		}
		return nil
	})
	if code := apply.interrupt(); code != 4 {
		t.Errorf("interrupted: exit code %d\n%s", code, apply.errors())
	}
	p := d.start("processor")
	d.assigned(time.Minute, p.ready())
	d.apply(0, file)
	d.settled(time.Minute)
	if n := value[int](d, `SELECT count(*) FROM decisions WHERE kind = 'p'`); n < 4 {
		t.Errorf("%d rows of kind policy: each copy leaves one", n)
	}
}
