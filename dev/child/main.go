package child

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// roleVariable names the role to the child. It is taken out of the environment before the role runs.
const roleVariable = "DIBS_DEV_CHILD"

// maxLine bounds one line of the pipe, either way.
const maxLine = 1 << 20

// prepared says that Main has been called in this process. Without it a child would run the whole program (or all
// tests) again, and start children in turn.
var prepared atomic.Bool

// Role is what a child does. It calls [Job.Ready] once it serves, and returns soon after ctx ends, which is when the
// parent has gone or asked it to stop.
type Role func(ctx context.Context, job *Job) error

// Job is a child's side of the pipe.
type Job struct {
	// Commands carries what the parent sends. It is closed when the parent has gone.
	Commands <-chan string

	task json.RawMessage

	mu  sync.Mutex // guards out
	out *json.Encoder
}

// message is one line from child to parent; one of the fields is set.
type message struct {
	Ready json.RawMessage `json:"ready,omitempty"`
	Log   string          `json:"log,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Main runs a role and exits where this process was started as a child; otherwise it returns at once.
func Main(roles map[string]Role) {
	name, isChild := os.LookupEnv(roleVariable)
	if !isChild {
		prepared.Store(true)
		return
	}
	_ = os.Unsetenv(roleVariable)
	if err := serve(roles[name], name); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(role Role, name string) error {
	// The parent decides when we stop, by closing the pipe. SIGPIPE would end us in the middle of stopping, when the
	// parent that read our output has been killed. Caught, not ignored: ignored signals are inherited over exec, and
	// what we start must still listen to SIGTERM.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGPIPE, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	commands := make(chan string, 8)
	job := &Job{Commands: commands, out: json.NewEncoder(os.Stdout)}

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLine)
	err := job.readTask(lines)
	if err == nil && role == nil {
		err = fmt.Errorf("this program has no child role %q", name)
	}
	if err == nil {
		go func() {
			defer cancel()
			defer close(commands)
			for lines.Scan() {
				select {
				case commands <- lines.Text():
				default: // a role that reads no commands must not keep us from seeing the end of the pipe
				}
			}
		}()
		err = role(ctx, job)
	}
	if err != nil {
		job.send(message{Error: err.Error()})
	}
	return err
}

func (j *Job) readTask(lines *bufio.Scanner) error {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return fmt.Errorf("read the child's task: %w", err)
		}
		return io.ErrUnexpectedEOF
	}
	j.task = append(json.RawMessage(nil), lines.Bytes()...)
	return nil
}

// Task decodes what the parent asked for into v.
func (j *Job) Task(v any) error {
	if err := json.Unmarshal(j.task, v); err != nil {
		return fmt.Errorf("child's task: %w", err)
	}
	return nil
}

// Ready tells the parent that the child serves, with what the parent needs to know of it.
func (j *Job) Ready(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("child's answer: %w", err)
	}
	j.send(message{Ready: raw})
	return nil
}

// Log hands a line to the parent's logger.
func (j *Job) Log(text string) {
	j.send(message{Log: text})
}

// send drops what can't be written: then the parent has gone, and the end of the pipe says so.
func (j *Job) send(m message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.out.Encode(m)
}
