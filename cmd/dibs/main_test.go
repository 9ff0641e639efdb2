package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dibs runs the program and returns its exit code and what it wrote.
func dibs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// nowhere is an address that nobody listens on.
func nowhere(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // it is to be closed
	return ln.Addr().String()
}

func TestUsageErrorsSayWhatToDo(t *testing.T) {
	csv := filepath.Join(t.TempDir(), "names.txt")
	if err := os.WriteFile(csv, []byte("name,owner\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"clam"}, `unknown command "clam"`},
		{[]string{"serve", "now"}, "takes no arguments"},
		{[]string{"serve", "--api-adr=:1"}, "--help"},
		{[]string{"serve", "--kafka-brokers=a"}, "host:port"},
		{[]string{"claim"}, "takes a name"},
		{[]string{"claim", "alice"}, "--owner is needed"},
		{[]string{"claim", "alice", "--owner=u", "--url=ftp://x"}, "http://host:port"},
		{[]string{"claim", "alice", "--owner=u", "-o", "xml"}, "use text or json"},
		{[]string{"claim", "alice", "--owner=u", "--wait=-1s"}, "--wait is -1s: "},
		{[]string{"names", "alice", "--wait=0"}, "--wait is 0s: "},
		{[]string{"claim", "alice", "--owner=u", "--ttl=1m"}, "--ttl goes with --reserve"},
		{[]string{"claim", "alice", "--owner=u", "--reserve", "--ttl=1ms"}, "at least 1s"},
		{[]string{"confirm"}, "takes the id of a claim"},
		{[]string{"confirm", "x"}, "--owner is needed"},
		{[]string{"confirm", "x", "--owner=u", "--expected-version=1"}, "unknown flag"},
		{[]string{"extend", "x", "--owner=u"}, "--ttl is needed"},
		{[]string{"extend", "x", "--owner=u", "--ttl=soon"}, "invalid argument"},
		{[]string{"withdraw", "x", "--owner=u", "--space=email"}, "--space goes with --name"},
		{[]string{"release", "alice"}, "--owner is needed"},
		{[]string{"rename", "alice", "--owner=u"}, "takes a name and the new one"},
		{[]string{"transfer", "alice", "--owner=u"}, "takes a name and the new owner"},
		{[]string{"deactivate", "alice"}, "--owner is needed"},
		{[]string{"reactivate", "--owner=u"}, "takes a name"},
		{[]string{"admin", "release"}, "takes a name"},
		{[]string{"admin", "release", "alice"}, "--actor and --reason are needed"},
		{[]string{"admin", "block", "alice", "--actor=ada"}, "--actor and --reason are needed"},
		{[]string{"admin", "unblock", "alice", "--reason=x"}, "--actor and --reason are needed"},
		{[]string{"admin", "block", "alice", "--actor=ada", "--reason=x", "--expected-version=1"}, "unknown flag"},
		{[]string{"admin", "transfer", "alice", "--actor=ada", "--reason=x"}, "takes a name and the new owner"},
		{[]string{"names"}, "takes a name, or --owner"},
		{[]string{"names", "alice", "--owner=u"}, "takes a name, or --owner"},
		{[]string{"names", "alice", "-o", "xml"}, "use text or json"},
		{[]string{"names", "alice", "--url=ftp://x"}, "http://host:port"},
		{[]string{"history"}, "takes a name"},
		{[]string{"history", "alice", "--from=first"}, "invalid argument"},
		{[]string{"topics", "create", "--clock-bound=0"}, "1ms to 10s"},
		{[]string{"topics", "create", "--clock-bound=11s"}, "1ms to 10s"},
		{[]string{"import", "/nowhere.csv"}, "no such file"},
		{[]string{"import", csv}, ".csv, .ndjson or .jsonl"},
		{[]string{"import", csv, "--waiting=0"}, "1 to 20000"},
		{[]string{"import", csv, "--patience=0"}, "at least 1s"},
		{[]string{"migrate", "up"}, "DIBS_POSTGRES_DSN"},
		{[]string{"partitions", "resume", "x"}, "no partition"},
		{[]string{"partitions", "resume", "1"}, "--actor and --reason"},
		{[]string{"bench", "--waiting=0"}, "at least 1"},
		{[]string{"dev", "--partitions=0"}, "1 to 1000"},
		{[]string{"keys", "new", "a b"}, "letters, digits"},
		{[]string{"config", "print", "--config=/nowhere.yaml"}, "/nowhere.yaml"},
	} {
		code, _, stderr := dibs(t, c.args...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("dibs %s: exit %d, %q; want exit %d and %q", strings.Join(c.args, " "), code, stderr, exitUsage, c.want)
		}
	}
}

func TestEveryCommandHelps(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		code, stdout, stderr := dibs(t, cmd.Name(), "--help")
		if code != exitOK || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("dibs %s --help: exit %d, %q", cmd.Name(), code, stderr)
		}
		if cmd.Short == "" {
			t.Errorf("dibs --help says nothing about %s", cmd.Name())
		}
	}
}

func TestConfigPrintMasksSecrets(t *testing.T) {
	t.Setenv("DIBS_POSTGRES_DSN", "postgres://u:canary@h/d")
	t.Setenv("DIBS_KAFKA_TOPIC_PREFIX", "eu.")
	code, stdout, stderr := dibs(t, "config", "print", "--show-source")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	if strings.Contains(stdout, "canary") || !strings.Contains(stdout, "********") || !strings.Contains(stdout, "eu.") {
		t.Errorf("got %s", stdout)
	}
}

func TestOutOfReach(t *testing.T) {
	// Who has mistyped an address hears of it long before --wait is over.
	for _, wait := range []string{"--wait=20s", "--wait=300ms"} {
		address, began := "http://"+nowhere(t), time.Now()
		code, _, stderr := dibs(t, "claim", "alice", "--owner=u-1", "--url="+address, wait)
		if took := time.Since(began); code != exitUnreachable || !strings.Contains(stderr, "cannot reach "+address+": connection refused\n") || took > 2*time.Second {
			t.Errorf("claim %s: exit %d, %q after %s", wait, code, stderr, took)
		}
	}
	t.Setenv("DIBS_POSTGRES_DSN", "postgres://u@"+nowhere(t)+"/d?connect_timeout=1")
	if code, _, stderr := dibs(t, "migrate", "up"); code != exitUnreachable {
		t.Errorf("migrate up: exit %d, %q", code, stderr)
	}
	if code, _, stderr := dibs(t, "topics", "check", "--kafka-brokers="+nowhere(t)); code != exitUnreachable {
		t.Errorf("topics check: exit %d, %q", code, stderr)
	}
}

// TestClaimTellsTheOutcome: in words, as JSON, and by the exit code.
func TestClaimTellsTheOutcome(t *testing.T) {
	var key string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key = r.Header.Get("Authorization")
		var body struct{ Name, Owner string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		const id = "0190a5a0-0000-7000-8000-000000000001"
		if body.Owner == "late" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"type":"/problems/taken","title":"The name is taken","status":409,"reason":"taken","detail":"the name is taken","claim_id":"` + id + `"}`))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"claim_id":"` + id + `","type":"UsernameClaimed","space":"username","name":"Alice","key":"alice","owner":"u-17","state":"accepted","version":1,"partition":0,"log_epoch":1,"offset":0}`))
	}))
	defer api.Close()
	t.Setenv("DIBS_API_KEY", "gateway.secret")
	if code, stdout, stderr := dibs(t, "claim", "Alice", "--owner=u-17", "--url="+api.URL); code != exitOK || !strings.Contains(stdout, "accepted: u-17 has username/alice, version 1") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if key != "Bearer gateway.secret" {
		t.Errorf("sent %q", key)
	}
	if code, stdout, stderr := dibs(t, "claim", "Alice", "--owner=late", "--url="+api.URL); code != exitRejected || !strings.Contains(stdout, "rejected: taken") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ := dibs(t, "claim", "Alice", "--owner=u-17", "--url="+api.URL, "-o", "json")
	var result map[string]any
	if err := json.Unmarshal([]byte(stdout), &result); code != exitOK || err != nil {
		t.Errorf("exit %d, %q, %v", code, stdout, err)
	}
}

func TestKeysRequestMakesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "request-keys.yaml")
	if code, stdout, stderr := dibs(t, "keys", "request", path); code != exitOK || stdout != "" || !strings.Contains(stderr, "DIBS_SECURITY_REQUEST_KEYS_FILE") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	made, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(made), "id: k1") {
		t.Fatalf("%q, %v", made, err)
	}
	if code, _, stderr := dibs(t, "keys", "request", path); code != exitFailure || !strings.Contains(stderr, "exists") {
		t.Errorf("over a file that is there: exit %d, %q", code, stderr)
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, made) {
		t.Errorf("the file that was there has changed: %v", err)
	}
}

func TestKeysNewGivesAnEntryForTheFile(t *testing.T) {
	code, stdout, stderr := dibs(t, "keys", "new", "gateway", "--scopes=claim")
	if code != exitOK || !strings.Contains(stdout, "id: gateway") || !strings.Contains(stderr, "Bearer gateway.") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

// TestSpaceOfSignups: a file that gives the space of sign-ups a policy is wrong before any server is asked.
func TestSpaceOfSignups(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spaces.yaml")
	if err := os.WriteFile(file, []byte("spaces:\n  signup: {version: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "apply"} {
		code, _, stderr := dibs(t, "spaces", command, file, "--kafka-brokers=127.0.0.1:1")
		if code != exitUsage || !strings.Contains(stderr, "spaces.signup is the space of sign-ups") {
			t.Errorf("%s: exit %d, %q", command, code, stderr)
		}
	}
}
