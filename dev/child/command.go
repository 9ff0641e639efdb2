package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Command is the task of the role [RunCommand]: a server program that is not ours.
type Command struct {
	Path string
	Args []string
	Dir  string
	// LogFile takes its output, appended.
	LogFile string
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration
}

// CommandStarted is the answer of the role [RunCommand].
type CommandStarted struct {
	PID int
}

// KillCommand makes RunCommand kill its program with SIGKILL, without grace.
const KillCommand = "kill"

// RunCommand is the role that runs a program, in a process group of its own, until the parent goes. It ends with the
// program, and is never ready in the sense of the program's own service: the parent has to ask that itself.
func RunCommand(ctx context.Context, job *Job) error {
	var task Command
	if err := job.Task(&task); err != nil {
		return err
	}
	log, err := os.OpenFile(task.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("log of %s: %w", task.Path, err)
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(task.Path, task.Args...)
	cmd.Dir = task.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", task.Path, err)
	}
	var exit error // how the program ended; read after ended is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit = cmd.Wait()
	}()
	if err := job.Ready(CommandStarted{PID: cmd.Process.Pid}); err != nil {
		endGroup(cmd, ended, 0)
		return err
	}
	for {
		select {
		case <-ended:
			if exit == nil {
				exit = errors.New("exit status 0")
			}
			return fmt.Errorf("%s ended by itself: %w; see %s", task.Path, exit, task.LogFile)
		case <-ctx.Done():
			endGroup(cmd, ended, task.Grace)
			return nil
		case word, open := <-job.Commands:
			if open && word == KillCommand {
				endGroup(cmd, ended, 0)
				return nil
			}
			if !open {
				endGroup(cmd, ended, task.Grace)
				return nil
			}
		}
	}
}

// endGroup ends the program and all it started. SIGCONT goes along, since a program stopped by SIGSTOP can't take
// SIGTERM. How the program exited says nothing here: we ended it.
func endGroup(cmd *exec.Cmd, ended <-chan struct{}, grace time.Duration) {
	group := -cmd.Process.Pid
	if grace > 0 {
		_ = syscall.Kill(group, syscall.SIGTERM)
		_ = syscall.Kill(group, syscall.SIGCONT)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
		}
	}
	// Also after a clean end: the program may have left children of its own in the group. That there is no group any
	// more is no error, and anything else shows in ended.
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-ended
}
