package child

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// ErrNotPrepared says that the program can't be its own child, because its main does not call Main first.
var ErrNotPrepared = errors.New("this program does not call dev.ChildMain (or dibstest.Main) first thing, so it can't start a child")

// ErrEnded says that a child is gone that nobody stopped.
var ErrEnded = errors.New("the child process ended by itself")

// Options of a child.
type Options struct {
	// Dir is the child's working directory. Defaults to the parent's.
	Dir string
	// StopWithin is how long Stop waits before it kills the child. Defaults to 30 s.
	StopWithin time.Duration
	// Logger takes what the child reports. Defaults to discarding it.
	Logger *slog.Logger
}

// Process is a running child, seen from its parent. Its methods may be called from any goroutine.
type Process struct {
	cmd        *exec.Cmd
	stdin      io.WriteCloser
	stderr     tail
	stopWithin time.Duration
	logger     *slog.Logger

	ready chan json.RawMessage // one answer, from the reader
	done  chan struct{}        // closed by the reader, after failure is set
	// failure is the child's own last word, else how it exited. Owned by the reader until done is closed.
	failure error

	stopping sync.Once
}

// Start starts the role with its task and returns when the child says it is ready, with its answer decoded into
// answer. When ctx ends before that, or the child fails, nothing is left running. Later ctx has no meaning.
func Start(ctx context.Context, role string, task, answer any, opts Options) (*Process, error) {
	if !prepared.Load() {
		return nil, ErrNotPrepared
	}
	if opts.StopWithin == 0 {
		opts.StopWithin = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	line, err := json.Marshal(task)
	if err != nil {
		return nil, fmt.Errorf("task of child %s: %w", role, err)
	}
	p, err := launch(role, opts)
	if err != nil {
		return nil, fmt.Errorf("start child %s: %w", role, err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(fmt.Errorf("hand child %s its task: %w", role, err), p.Stop())
	}
	select {
	case raw := <-p.ready:
		if err := json.Unmarshal(raw, answer); err != nil {
			return nil, errors.Join(fmt.Errorf("answer of child %s: %w", role, err), p.Stop())
		}
		return p, nil
	case <-p.done:
		return nil, p.failure
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("child %s was not ready in time: %w", role, ctx.Err()), p.Stop())
	}
}

func launch(role string, opts Options) (*Process, error) {
	path, err := executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Args = []string{"dibs-child-" + role}
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Dir = opts.Dir
	// A group of its own, in our session: Ctrl-C passes it by, and where we die while it is stopped (SIGSTOP), the
	// kernel wakes it, because its group is orphaned then.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second

	p := &Process{
		cmd:        cmd,
		stopWithin: opts.StopWithin,
		logger:     opts.Logger,
		ready:      make(chan json.RawMessage, 1),
		done:       make(chan struct{}),
	}
	cmd.Stderr = &p.stderr
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.read(stdout)
	return p, nil
}

// executable is the path to start ourselves by. On Linux it is the running program itself, even where its file has
// been replaced or removed since, as after a new build.
func executable() (string, error) {
	if runtime.GOOS == "linux" {
		const self = "/proc/self/exe"
		if _, err := os.Stat(self); err == nil {
			return self, nil
		}
	}
	return os.Executable()
}

// read takes the child's messages until it ends, then collects it.
func (p *Process) read(stdout io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxLine)
	var last string
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			p.logger.Warn("child process said something unreadable", "line", lines.Text())
			continue
		}
		switch {
		case m.Ready != nil:
			select {
			case p.ready <- m.Ready:
			default: // a second answer: the first one stands
			}
		case m.Error != "":
			last = m.Error
		case m.Log != "":
			p.logger.Info(m.Log)
		}
	}
	err := p.cmd.Wait()
	switch {
	case last != "":
		p.failure = errors.New(last)
	case err != nil:
		p.failure = fmt.Errorf("%w: %w\n%s", ErrEnded, err, p.stderr.String())
	default:
		p.failure = ErrEnded
	}
}

// PID is the child's process id.
func (p *Process) PID() int {
	return p.cmd.Process.Pid
}

// Send gives the child a one-word command.
func (p *Process) Send(command string) error {
	if _, err := io.WriteString(p.stdin, command+"\n"); err != nil {
		return fmt.Errorf("tell the child to %s: %w", command, err)
	}
	return nil
}

// Signal sends the child itself a signal.
func (p *Process) Signal(sig os.Signal) error {
	return p.cmd.Process.Signal(sig)
}

// Done is closed when the child is gone, for whatever reason. Failure then says why.
func (p *Process) Done() <-chan struct{} {
	return p.done
}

// Failure is why a child is gone, once Done is closed. It is never nil: a child that nobody stopped should not end.
func (p *Process) Failure() error {
	<-p.done
	return p.failure
}

// Stop closes the pipe and waits until the child has stopped what it runs; what the child complained of last is the
// error. A child that does not manage to in time is killed, and the error says that what it ran may still be there.
// It may be called more than once, and after the child is gone.
func (p *Process) Stop() error {
	p.stopping.Do(func() { _ = p.stdin.Close() })
	timer := time.NewTimer(p.stopWithin)
	defer timer.Stop()
	select {
	case <-p.done:
		if errors.Is(p.failure, ErrEnded) {
			return nil
		}
		return p.failure
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("child process did not stop within %s and was killed; what it ran may be left", p.stopWithin)
}

// tail keeps the end of what is written to it: enough for the message of a panic.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append([]byte(nil), t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
