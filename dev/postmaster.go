package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"

	"github.com/dibs-hq/dibs/dev/child"
)

// errServerGone says that the server ended without being asked to.
var errServerGone = errors.New("postgres ended by itself; the data folder's log says more")

// watch serves until the parent goes or says how to end, or the server goes.
func (s *server) watch(ctx context.Context, db *embedded.EmbeddedPostgres) error {
	pid, err := s.postmaster()
	if err != nil {
		return errors.Join(err, db.Stop())
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return stopServer(db, pid)
		case word, open := <-s.job.Commands:
			switch {
			case !open:
				return stopServer(db, pid)
			case word == commandImmediate:
				return endPostmaster(pid, syscall.SIGQUIT, 20*time.Second)
			case word == child.KillCommand:
				return endPostmaster(pid, syscall.SIGKILL, 20*time.Second)
			}
		case <-tick.C:
			if !alive(pid) {
				return errServerGone
			}
		}
	}
}

// stopServer stops the server also where its data folder, and the pid file with it, has been removed under it.
func stopServer(db *embedded.EmbeddedPostgres, pid int) error {
	err := db.Stop()
	if alive(pid) {
		err = errors.Join(err, endPostmaster(pid, syscall.SIGQUIT, 20*time.Second))
	}
	return err
}

// endOrphan deals with what a killed child of ours has left: it ends a server that still runs on our data, and removes
// a pid file whose process is somebody else by now, which Postgres itself would stop at. The caller holds the folder's
// lock, so whatever runs here has lost its keeper.
func (s *server) endOrphan() error {
	pid, err := s.postmaster()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && alive(pid) && s.serves(pid) {
		s.job.Log("stopping a Postgres that a killed process has left on this data")
		return endPostmaster(pid, syscall.SIGINT, 30*time.Second)
	}
	if err := os.Remove(s.pidFile()); err != nil {
		return fmt.Errorf("remove a stale pid file: %w", err)
	}
	return nil
}

func (s *server) pidFile() string {
	return filepath.Join(s.dataDir(), "postmaster.pid")
}

// postmaster is the process id in the server's pid file.
func (s *server) postmaster() (int, error) {
	raw, err := os.ReadFile(s.pidFile())
	if err != nil {
		return 0, fmt.Errorf("pid file of postgres: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("pid file of postgres: no process id in %q", line)
	}
	return pid, nil
}

// serves says whether a process was started on our data; pids are used again.
func (s *server) serves(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		if line, err = exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output(); err != nil {
			return false
		}
	}
	return bytes.Contains(line, []byte(s.dataDir()))
}

func endPostmaster(pid int, sig syscall.Signal, within time.Duration) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end postgres (pid %d): %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("end postgres (pid %d): still there %s after %s", pid, within, sig)
		case <-tick.C:
		}
	}
	return nil
}

// alive says whether a process runs. One that has ended but was not collected, since the first process of a container
// may collect nobody, does not.
func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil {
		return errors.Is(err, syscall.EPERM)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// pid (name) state …, and a name may hold anything
	_, rest, found := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	return !found || len(rest) == 0 || rest[0] != 'Z'
}
