package child_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dev/child"
)

const parentVariable = "DIBS_TEST_CHILD_PARENT"

func TestMain(m *testing.M) {
	child.Main(map[string]child.Role{
		"echo":    echo,
		"fail":    func(context.Context, *child.Job) error { return errors.New("no luck") },
		"panic":   func(context.Context, *child.Job) error { panic("at the disco") },
		"never":   func(ctx context.Context, _ *child.Job) error { <-ctx.Done(); return nil },
		"command": child.RunCommand,
	})
	os.Exit(m.Run())
}

// echo answers its task, and writes the commands it gets to the file the task names, "end" when the parent is gone.
func echo(ctx context.Context, job *child.Job) error {
	var file string
	if err := job.Task(&file); err != nil {
		return err
	}
	if err := job.Ready(file); err != nil {
		return err
	}
	for word := range job.Commands {
		if err := appendLine(file, word); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return appendLine(file, "end "+os.Getenv("DIBS_DEV_CHILD"))
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

func TestTaskCommandsAndEnd(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "heard")
	var answer string
	p, err := child.Start(t.Context(), "echo", file, &answer, child.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if answer != file {
		t.Errorf("answer %q, want %q", answer, file)
	}
	if err := errors.Join(p.Send("one"), p.Send("two"), p.Stop(), p.Stop()); err != nil {
		t.Fatal(err)
	}
	if heard, _ := os.ReadFile(file); string(heard) != "one\ntwo\nend \n" {
		t.Errorf("the child heard %q", heard)
	}
	if !errors.Is(p.Failure(), child.ErrEnded) {
		t.Errorf("failure %v", p.Failure())
	}
}

func TestFailedStarts(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]string{"fail": "no luck", "panic": "at the disco", "unknown": `no child role "unknown"`} {
		if _, err := child.Start(t.Context(), role, nil, nil, child.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", role, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := child.Start(ctx, "never", nil, nil, child.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("never ready: %v, want DeadlineExceeded", err)
	}
}

// sleeper starts a program under the role "command" that reacts to nothing but signals.
func sleeper(t testing.TB) (*child.Process, int, error) {
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	var started child.CommandStarted
	p, err := child.Start(t.Context(), "command", child.Command{
		Path: path, Args: []string{"600"}, LogFile: filepath.Join(t.TempDir(), "log"), Grace: 5 * time.Second,
	}, &started, child.Options{})
	return p, started.PID, err
}

func TestCommandEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*child.Process, int) error{
		"stop": func(p *child.Process, _ int) error { return p.Stop() },
		"stop paused": func(p *child.Process, pid int) error {
			return errors.Join(syscall.Kill(pid, syscall.SIGSTOP), p.Stop())
		},
		"kill": func(p *child.Process, _ int) error { return errors.Join(p.Send(child.KillCommand), wait(p)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, pid, err := sleeper(t)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("the program does not run: %v", err)
			}
			began := time.Now()
			if err := end(p, pid); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("took %s: the grace was waited out", took)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Fatalf("the program is still there: %v", err)
			}
		})
	}
}

func wait(p *child.Process) error {
	<-p.Done()
	return p.Stop()
}

func TestCommandThatEndsByItself(t *testing.T) {
	t.Parallel()
	p, pid, err := sleeper(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Failure(); !strings.Contains(err.Error(), "ended by itself") {
		t.Fatal(err)
	}
}

// TestKilledParent kills a parent with SIGKILL, once while its child is stopped, and sees all of them gone.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused=%t", paused), func(t *testing.T) {
			t.Parallel()
			parent := exec.Command(os.Args[0], "-test.run=^TestParentProcess$")
			parent.Env = append(os.Environ(), parentVariable+"=1")
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = parent.Process.Kill(); _ = parent.Wait() })
			var pids []int
			lines := bufio.NewScanner(out)
			for len(pids) < 2 && lines.Scan() {
				if pid, err := strconv.Atoi(lines.Text()); err == nil {
					pids = append(pids, pid)
				}
			}
			if len(pids) < 2 {
				t.Fatal("the parent did not start its child")
			}
			if paused {
				if err := syscall.Kill(pids[0], syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				// A signal takes its time, and the kernel wakes what has stopped, not what is about to.
				for deadline := time.Now().Add(5 * time.Second); !stopped(t, pids[0]); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the child does not stop on SIGSTOP")
					}
				}
			}
			if err := parent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait()
			deadline := time.Now().Add(5 * time.Second)
			for _, pid := range pids {
				for running(pid) {
					if time.Now().After(deadline) {
						_ = syscall.Kill(pid, syscall.SIGKILL)
						t.Fatalf("process %d of %v is there 5 s after its parent was killed", pid, pids)
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
}

// running says whether a process is there and not just waiting to be collected: these are not our own children.
func running(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z")
}

// stopped says whether all threads of a process are stopped.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		t.Skip("no /proc to look at threads in")
	}
	return !slices.ContainsFunc(stats, func(path string) bool {
		stat, err := os.ReadFile(path)
		return err == nil && !strings.Contains(string(stat), ") T ")
	})
}

func TestParentProcess(t *testing.T) {
	if os.Getenv(parentVariable) == "" {
		t.Skip("runs as the parent of TestKilledParent only")
	}
	p, pid, err := sleeper(t)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%d\n%d\n", p.PID(), pid)
	<-p.Done()
}
