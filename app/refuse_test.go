package app_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// refuses starts a role that must not start: it ends with that exit code and says why, and what to do.
func (d *deployment) refuses(code int, says ...string) {
	d.t.Helper()
	for _, role := range []string{"serve", "api", "processor"} {
		p, got := d.run(role)
		if got != code {
			d.t.Errorf("dibs %s: exit code %d, want %d", role, got, code)
		}
		for _, text := range says {
			if !strings.Contains(p.errors(), text) {
				d.t.Errorf("dibs %s does not say %q:\n%s", role, text, p.errors())
			}
		}
	}
}

// TestStartRefusesWrongSettings: a process that would break a promise does not start, and names the fix.
func TestStartRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	t.Run("no tables", func(t *testing.T) {
		t.Parallel()
		d := prepare(t, dibstest.Kafka(t), dibstest.Postgres(t), 1)
		d.refuses(1, "dibs migrate up")
	})
	t.Run("no topics", func(t *testing.T) {
		t.Parallel()
		d := prepare(t, dibstest.Kafka(t), dibstest.Postgres(t), 1)
		d.mustRun("migrate", "up")
		d.refuses(1, d.topic.claims+": existence is missing", d.topic.registrations+": existence is missing", "dibs topics create")
	})
	t.Run("settings of topics", func(t *testing.T) {
		t.Parallel()
		d := deploy(t, 1)
		for _, test := range []struct{ topic, setting, wrong, right string }{
			{d.topic.claims, "cleanup.policy", "compact", "delete"},
			{d.topic.registrations, "cleanup.policy", "compact", "delete"},
			{d.topic.claims, "message.timestamp.type", "LogAppendTime", "CreateTime"},
			{d.topic.claims, "message.timestamp.after.max.ms", "3600000", "10000"},
			{d.topic.claims, "retention.ms", "3600000", "604800000"},
		} {
			d.topic.set(test.topic, test.setting, test.wrong)
			d.refuses(1, fmt.Sprintf("%s: %s is %s", test.topic, test.setting, test.wrong),
				fmt.Sprintf("--entity-name %s --add-config %s=%s", test.topic, test.setting, test.right))
			if p, code := d.run("topics", "check"); code != 1 || !strings.Contains(p.output(), test.setting+" is "+test.wrong) {
				t.Errorf("dibs topics check: exit code %d, %s", code, p.output())
			}
			d.topic.set(test.topic, test.setting, test.right)
		}
		d.start("serve").ready() // as told
	})
	t.Run("another partition count", func(t *testing.T) {
		t.Parallel()
		d := deploy(t, 4)
		d.start("api").ready().stop() // pins it
		d.topic.remove(d.topic.claims, d.topic.registrations, d.topic.letters)
		d.mustRun("topics", "create", "--partitions", "2")
		d.refuses(1, d.topic.claims+": partitions is 2, want 4", "Fix: restore the topic")
	})
	t.Run("another deployment's tables", func(t *testing.T) {
		t.Parallel()
		d := deploy(t, 1)
		d.start("api").ready().stop()
		other := prepare(t, dibstest.Kafka(t), d.database, 1)
		other.mustRun("topics", "create", "--partitions", "1")
		other.refuses(1, "one schema is one deployment")
	})
	t.Run("keys", func(t *testing.T) {
		t.Parallel()
		d := deploy(t, 1)
		p := start(t, "serve", append(d.env("serve"), "DIBS_API_AUTH=keys"), "serve")
		if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.errors(), "api.keys_file is not set: make a key with dibs keys new") {
			t.Errorf("without a file of keys: exit code %d\n%s", code, p.errors())
		}
		p = start(t, "serve", append(d.env("serve"), "DIBS_API_ADDR=0.0.0.0:0"), "serve")
		if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.errors(), "loopback") {
			t.Errorf("without keys, for everybody: exit code %d\n%s", code, p.errors())
		}
		p = start(t, "processor", append(d.env("processor"), "DIBS_SECURITY_REQUEST_KEYS_FILE="), "processor")
		if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.errors(), "security.request_keys_file is not set") || !strings.Contains(p.errors(), "dibs keys request") {
			t.Errorf("without a file of request keys: exit code %d\n%s", code, p.errors())
		}
	})
}

// TestUnreachableServersAreExitCode5: after half a minute of patience.
func TestUnreachableServersAreExitCode5(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nobody.Addr().String() // where nobody listens any more
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	var waiting []*process
	for setting, server := range map[string]string{
		"DIBS_KAFKA_BROKERS=" + addr: "Kafka", "DIBS_POSTGRES_DSN=postgres://dibs@" + addr + "/dibs?sslmode=disable": "Postgres",
	} {
		waiting = append(waiting, start(t, server, append(d.env(server), setting), "serve"))
	}
	for _, p := range waiting {
		if code := p.wait(90 * time.Second); code != 5 || !strings.Contains(p.errors(), "dibs: "+p.name+" is out of reach: ") || !strings.Contains(p.errors(), addr) {
			t.Errorf("%s away: exit code %d\n%s", p.name, code, p.errors())
		}
	}
}

// TestExitCodes are those that scripts rely on.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1)
	api, p := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, p)
	url := "http://" + api.apiAddr()
	claim := func(more ...string) (string, int) {
		p, code := d.run(append([]string{"claim", "--url", url}, more...)...)
		return p.output() + p.errors(), code
	}
	if said, code := claim("Alice", "--owner", "u-1"); code != 0 || !strings.HasPrefix(said, "accepted: u-1 has username/alice, version 1") {
		t.Errorf("a free name: exit code %d, %s", code, said)
	}
	if said, code := claim("alice", "--owner", "u-2"); code != 3 || !strings.HasPrefix(said, "rejected: taken") {
		t.Errorf("a name that is taken: exit code %d, %s", code, said)
	}
	if said, code := claim("alice", "--owner", "u-2", "-o", "json"); code != 3 || !strings.HasPrefix(said, "{") {
		t.Errorf("a name that is taken, as JSON: exit code %d, %s", code, said)
	}
	if said, code := claim("bob"); code != 2 || !strings.Contains(said, "--owner") {
		t.Errorf("without an owner: exit code %d, %s", code, said)
	}
	p.stop()
	if said, code := claim("bob", "--owner", "u-1", "--wait", "1s"); code != 4 {
		t.Errorf("without a processor: exit code %d, %s", code, said)
	}
	api.stop()
	if said, code := claim("bob", "--owner", "u-1", "--wait", "1s"); code != 5 {
		t.Errorf("without an API: exit code %d, %s", code, said)
	}

	file := filepath.Join(t.TempDir(), "dibs.yaml")
	for text, want := range map[string]struct {
		code int
		says string
	}{
		"kafka:\n  brokers: [kafka:9092]\n": {0, "ok"},
		"kafka:\n  broker: [kafka:9092]\n":  {2, "did you mean kafka.brokers?"},
		"api:\n  auth: nobody\n":            {2, "use keys or none"},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, "config", nil, "config", "check", "--config", file)
		if code := p.wait(time.Minute); code != want.code || !strings.Contains(p.output()+p.errors(), want.says) {
			t.Errorf("config check of %q: exit code %d, %s%s", text, code, p.output(), p.errors())
		}
	}
	others, wrong := filepath.Join(t.TempDir(), "others"), filepath.Join(t.TempDir(), "wrong")
	if err := errors.Join(os.WriteFile(others, nil, 0o600), os.Chmod(others, 0o644), os.WriteFile(wrong, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"SECURITY_REQUEST_KEYS_FILE", "SECURITY_PEPPERS_FILE", "SECURITY_ERASURE_SECRET_FILE", "API_KEYS_FILE"} {
		for path, says := range map[string]string{filepath.Join(t.TempDir(), "missing"): "no such file", others: "others can use it", wrong: ""} {
			p := start(t, "config", []string{"DIBS_" + setting + "=" + path}, "config", "check")
			if code := p.wait(time.Minute); code != 2 || !strings.Contains(p.errors(), path) || !strings.Contains(p.errors(), says) {
				t.Errorf("config check with %s %s: exit code %d, %s%s", setting, path, code, p.output(), p.errors())
			}
		}
	}
	p = start(t, "config", []string{"DIBS_SECURITY_PEPPERS_FILE=" + others, "DIBS_SECURITY_ERASURE_SECRET_FILE=" + wrong}, "config", "check")
	if code := p.wait(time.Minute); code != 2 || !strings.Contains(p.errors(), "security.peppers_file: ") || !strings.Contains(p.errors(), "security.erasure_secret_file: ") {
		t.Errorf("config check with two files that will not do: exit code %d, %s", code, p.errors())
	}
	p = start(t, "config", []string{"DIBS_KAFKA_BROKER=kafka:9092"}, "config", "check")
	if code := p.wait(time.Minute); code != 2 || !strings.Contains(p.errors(), "did you mean DIBS_KAFKA_BROKERS?") {
		t.Errorf("config check of an unknown variable: exit code %d, %s", code, p.errors())
	}
}
