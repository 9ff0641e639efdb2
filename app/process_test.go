package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

func TestMain(m *testing.M) { dibstest.Main(m) }

// campaign skips what takes too long for every commit, so that it is seen.
func campaign(t *testing.T) {
	t.Helper()
	if !campaigning() {
		t.Skip("SKIPPED, NOT TESTED: a long campaign; run it with DIBS_TEST_CAMPAIGN=1")
	}
}

func campaigning() bool { return os.Getenv("DIBS_TEST_CAMPAIGN") != "" }

// binary builds the real command once, beside the test binary: where go test has put that one, it removes both.
var binary = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "dibs-under-test")
	return path, build(path)
})

// build builds the command, perhaps with flags that change it.
func build(path string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	if raceFlag != "" {
		args = append(args, raceFlag)
	}
	cmd := exec.Command("go", append(args, "github.com/dibs-hq/dibs/cmd/dibs")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// launches starts processes from one thread that lives as long as we do: the kernel kills a child when the thread that
// started it ends.
var launches = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func launch(cmd *exec.Cmd) error {
	started := make(chan error)
	launches() <- func() { started <- cmd.Start() }
	return <-started
}

// process is a dibs that a test has started.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	// never are what it may not say.
	never []string

	done chan struct{} // closed when it has ended and its output is read
	up   chan struct{} // closed when it has said that it is ready

	mu     sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
	// api and ops are the addresses it listens on, once up.
	api, ops string
}

// start starts dibs with nothing but the given environment beside what every program needs. It ends with the test.
func start(t testing.TB, name string, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, path, name, env, args...)
}

// startProgram starts a dibs that is not as it is here.
func startProgram(t testing.TB, path, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{
		t: t, name: name, cmd: exec.Command(path, args...), done: make(chan struct{}), up: make(chan struct{}),
		never: []string{"WARNING: DATA RACE", "panic: ", "fatal error: "},
	}
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "DIBS_") }), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C at the tests is not Ctrl-C at it
	dieWithUs(p.cmd.SysProcAttr)
	p.cmd.WaitDelay = 10 * time.Second
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launch(p.cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	var read sync.WaitGroup
	read.Go(func() { p.read(stdout, &p.stdout) })
	read.Go(func() { p.read(stderr, &p.stderr) })
	go func() {
		read.Wait()
		_ = p.cmd.Wait() // how it ended is in its state
		close(p.done)
	}()
	t.Cleanup(p.bury)
	return p
}

// read keeps what the process says, and listens for where it can be reached.
func (p *process) read(from io.Reader, into *bytes.Buffer) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		into.Write(line)
		p.mu.Unlock()
		var said struct{ Msg, API, Ops string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "ready" {
			p.mu.Lock()
			p.api, p.ops = said.API, said.Ops
			p.mu.Unlock()
			close(p.up)
		}
		if err != nil {
			return
		}
	}
}

// bury ends the process, and fails the test for what it should never have said.
func (p *process) bury() {
	pages := p.pages()
	p.kill()
	text := p.errors()
	for what, said := range map[string]string{"its output": p.output(), "its log": text, "its pages": pages} {
		if trace := dibstest.Trace([]byte(said)); trace != "" {
			p.t.Errorf("a private value is in %s of %s: %s", what, p.name, trace)
		}
	}
	for _, never := range p.never {
		if strings.Contains(p.output(), never) {
			p.t.Errorf("%s said %s", p.name, never)
		}
		if at := strings.Index(text, never); at >= 0 {
			line := strings.LastIndexByte(text[:at], '\n') + 1
			p.t.Errorf("%s said: %.4000s", p.name, text[line:])
		}
	}
	if p.t.Failed() {
		p.t.Logf("%s (%s) ended its log with:\n%s", p.name, p.cmd.ProcessState, text[max(0, len(text)-6000):])
	}
}

// pages are what a process that still answers says of itself.
func (p *process) pages() string {
	addr := p.opsAddr()
	if addr == "" || !p.alive() {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // it may be paused
	defer cancel()
	var all strings.Builder
	for _, page := range []string{"/metrics", "/readyz?verbose"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+page, http.NoBody)
		if err != nil {
			continue
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			continue
		}
		_, _ = io.Copy(&all, answer.Body)
		_ = answer.Body.Close()
	}
	return all.String()
}

// ready waits until the process has said that it is.
func (p *process) ready() *process {
	p.t.Helper()
	select {
	case <-p.up:
		return p
	case <-p.done:
		select {
		case <-p.up: // and is gone again
			return p
		default:
		}
		p.t.Fatalf("%s ended before it was ready: %s\n%s", p.name, p.cmd.ProcessState, p.errors())
	case <-time.After(time.Minute):
		p.t.Fatalf("%s is not ready after a minute\n%s", p.name, p.errors())
	}
	return p
}

// alive reports whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends the process a signal; one that is gone does not mind.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("send %s to %s: %v", s, p.name, err)
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop is SIGTERM, and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.wait(30 * time.Second)
}

// pause is SIGSTOP: the process keeps its connections and does nothing. It returns when all its threads have stopped, as
// far as there is a /proc to ask.
func (p *process) pause() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, 5*time.Second, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if err != nil {
				continue // it has ended
			}
			// pid (name) state …, and a name may hold anything
			if i := bytes.LastIndex(text, []byte(") ")); i >= 0 && text[i+2] != 'T' {
				return fmt.Errorf("%s does not stop on SIGSTOP", p.name)
			}
		}
		return nil
	})
}

// resume is SIGCONT.
func (p *process) resume() { p.signal(syscall.SIGCONT) }

// wait returns the exit code of a process that is to end by itself within that time.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("%s has not ended after %s\n%s", p.name, within, p.errors())
	}
	return p.cmd.ProcessState.ExitCode()
}

// output is what it has written to standard output so far.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// errors is what it has written to standard error so far.
func (p *process) errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (p *process) apiAddr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.api
}

func (p *process) opsAddr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ops
}

// eventually waits until f is content, and fails the test with its last complaint.
func eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %s: %v", within, err)
		}
		<-tick.C
	}
}
