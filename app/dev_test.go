package app_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dibstest"
)

// devDir is a data folder of a test's own. Postgres' binaries are those of the harness, where it has them.
func devDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dibs-dev-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dibstest.SweepFiles(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	server := filepath.Join(dir, "postgres")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(server, 0o700)); err != nil { // where Postgres runs as somebody else
		t.Fatal(err)
	}
	cache, err := dibstest.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "postgres-"+dev.PostgresVersion)
	info, err := os.Stat(cache)
	if _, missing := os.Stat(filepath.Join(cache, "complete")); err != nil || missing != nil {
		return dir // it is downloaded, as for everybody
	}
	if err := os.Symlink(cache, filepath.Join(server, "binaries")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(server, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var printedCurl = regexp.MustCompile(`(?m)^  (curl -i http://(127\.0\.0\.1:\d+)(/v1/claims) -H 'content-type: application/json' -d '(.*)')$`)

// develop runs `dibs dev`, and returns when its banner is there, with the command that it says to try.
func develop(t *testing.T, dir string, more ...string) (p *process, curl []string) {
	t.Helper()
	p = start(t, "dev", []string{"DIBS_TEST_MARK=" + dir}, append([]string{"dev", "--data-dir", dir,
		"--kafka-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0"}, more...)...)
	eventually(t, 5*time.Minute, func() error { // the first time it may be a download
		if !p.alive() {
			t.Fatalf("dibs dev has ended: %s\n%s%s", p.cmd.ProcessState, p.output(), p.errors())
		}
		if curl = printedCurl.FindStringSubmatch(p.output()); curl == nil {
			return fmt.Errorf("there is no banner: %s", p.output())
		}
		return nil
	})
	if !strings.Contains(p.output(), "NOT FOR PRODUCTION") {
		t.Errorf("the banner does not say what this is not for:\n%s", p.output())
	}
	p.mu.Lock()
	p.api = curl[2]
	p.mu.Unlock()
	return p, curl
}

// noneLeft waits until no process of a `dibs dev` with that data folder is left, as far as there is a /proc to ask.
func noneLeft(t *testing.T, dir string, within time.Duration) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	began := time.Now()
	eventually(t, within, func() error {
		if left := processesOf(t, dir); len(left) > 0 {
			return fmt.Errorf("processes are left: %s", strings.Join(left, "; "))
		}
		return nil
	})
	t.Logf("no process is left %s later", time.Since(began).Round(time.Millisecond))
}

// processesOf lists the processes that belong to a data folder: those that were started with it in their environment or
// arguments, and those that work in it, as Postgres does, which writes over its environment.
func processesOf(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		command, err := os.ReadFile(p + "/cmdline")
		if err != nil || len(command) == 0 { // it has ended
			continue
		}
		environ, _ := os.ReadFile(p + "/environ") // not ours, then
		cwd, _ := os.Readlink(p + "/cwd")
		if bytes.Contains(command, []byte(dir)) || bytes.Contains(environ, []byte("DIBS_TEST_MARK="+dir)) || strings.HasPrefix(cwd, dir) {
			found = append(found, filepath.Base(p)+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte(" "))))
		}
	}
	return found
}

// tryIt does what the banner says.
func tryIt(t *testing.T, curl []string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err == nil {
		out, err := exec.Command("sh", "-c", curl[1]).Output() // its progress goes to standard error
		if err != nil {
			t.Fatalf("%s: %v", curl[1], err)
		}
		return string(out)
	}
	a := call(http.MethodPost, curl[2], curl[3], http.Header{"Content-Type": {"application/json"}}, []byte(curl[4]))
	return fmt.Sprintf("HTTP/1.1 %d\n%s", a.status, a.body)
}

// interrupt is Ctrl-C: the terminal sends it to the whole group.
func (p *process) interrupt() int {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(30 * time.Second)
}

func TestDev(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	p, curl := develop(t, dir)
	if said := tryIt(t, curl); !strings.HasPrefix(said, "HTTP/1.1 201") || !strings.Contains(said, `"state":"accepted"`) {
		t.Fatalf("%s\n%s", curl[1], said)
	}
	eventually(t, 5*time.Second, func() error {
		if !regexp.MustCompile(`accepted +username/alice +u-17, version 1\n`).MatchString(p.output()) {
			return fmt.Errorf("the decision is no line of the output:\n%s", p.output())
		}
		return nil
	})
	// The private space is there, and keeps its pepper: the same address has the same key after a restart.
	ada := fmt.Sprintf(`{"space":"email","name":%q,"owner":"u-17"}`, dibstest.Address("ada"))
	header := http.Header{"Content-Type": {"application/json"}}
	var key string
	eventually(t, 5*time.Second, func() error {
		a := call(http.MethodPost, p.apiAddr(), "/v1/claims", header, []byte(ada))
		if key = a.claim.Key; a.status != http.StatusCreated {
			return fmt.Errorf("a claim in the space email: %s", a)
		}
		return nil
	})
	if claimed := start(t, "claim", nil, "claim", "--url", "http://"+p.apiAddr(), "--space", "email", strings.Replace(dibstest.Address("ada"), "example", "EXAMPLE", 1), "--owner", "u-17", "--return-existing"); claimed.wait(time.Minute) != 0 || !strings.Contains(claimed.output(), key) {
		t.Errorf("dibs claim --space email: %s%s, want %s", claimed.output(), claimed.errors(), key)
	}
	if said := p.output(); !strings.Contains(said, "email/"+key) || dibstest.Trace([]byte(said)) != "" {
		t.Errorf("the decision is a line with its key:\n%s", said)
	}
	if n := len(processesOf(t, dir)); runtime.GOOS == "linux" && n < 3 {
		t.Fatalf("%d processes are seen while it runs: looking for what is left would find nothing", n)
	}
	if code := p.interrupt(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C\n%s", code, p.errors())
	}
	noneLeft(t, dir, time.Second)

	holds := func(p *process, name string) {
		t.Helper()
		if a := get(p.apiAddr(), "/v1/names/username/"+name); a.status != http.StatusOK || a.claim.Owner != "u-17" {
			t.Errorf("after a restart, of %s: %s", name, a)
		}
	}
	p, _ = develop(t, dir)
	holds(p, "alice")
	claim := func(name, owner string) answer {
		return call(http.MethodPost, p.apiAddr(), "/v1/claims", http.Header{"Content-Type": {"application/json"}},
			fmt.Appendf(nil, `{"name":%q,"owner":%q}`, name, owner))
	}
	if a := claim("ALICE", "u-18"); a.status != http.StatusConflict || a.claim.Reason != "taken" {
		t.Errorf("the same name after a restart: %s", a)
	}
	if a := call(http.MethodPost, p.apiAddr(), "/v1/lookups", header, []byte(ada[:strings.Index(ada, `,"owner"`)]+"}")); a.claim.Key != key {
		t.Errorf("the key after a restart: %s, before %s", a, key)
	}
	if a := claim("bob", "u-17"); a.status != http.StatusCreated {
		t.Errorf("another name after a restart: %s", a)
	}
	p.kill()
	noneLeft(t, dir, 5*time.Second)

	p, _ = develop(t, dir)
	holds(p, "alice")
	holds(p, "bob")
	if code := p.interrupt(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C\n%s", code, p.errors())
	}
	noneLeft(t, dir, time.Second)
}

// TestDevSpaces: a file of spaces holds from the start, again at the next one, and a change of it with a higher version.
func TestDevSpaces(t *testing.T) {
	dir := devDir(t)
	file := spacesFile(t, "spaces: {invoice-number: {version: 1}}")
	d := &deployment{t: t}
	run := func(body string, status int, reason string) {
		t.Helper()
		p, _ := develop(t, dir, "--spaces", file)
		d.soon(p, status, reason, "/v1/claims", body)
		if code := p.interrupt(); code != 0 {
			t.Fatalf("exit code %d\n%s", code, p.errors())
		}
	}
	run(`{"space":"invoice-number","name":"2026-1","owner":"acme"}`, 201, "")
	run(`{"space":"invoice-number","name":"2026-1","owner":"other"}`, 409, "taken")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("spaces: {invoice-number: {version: 2, min_length: 8}}")
	run(`{"space":"invoice-number","name":"2026-2","owner":"acme"}`, 422, "invalid_name")

	write("spaces: {invoice-number: {version: 2}}")
	p := start(t, "dev", nil, "dev", "--data-dir", dir, "--spaces", file, "--kafka-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0")
	if code := p.wait(2 * time.Minute); code != 1 || !strings.Contains(p.errors(), "make this 3") {
		t.Errorf("a version that is not raised: exit code %d\n%s", code, p.errors())
	}
	write("spaces: {invoice-number: {vrsion: 2}}")
	p = start(t, "dev", nil, "dev", "--data-dir", dir, "--spaces", file)
	if code := p.wait(time.Minute); code != 2 || !strings.Contains(p.errors(), "did you mean version?") {
		t.Errorf("a typo: exit code %d\n%s", code, p.errors())
	}
}
