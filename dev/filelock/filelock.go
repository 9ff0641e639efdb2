// Package filelock keeps two processes from using one folder at a time.
//
// A lock is an advisory flock on a file: the kernel gives it back when the process that holds it ends, however it
// ends, so a kill -9 leaves nothing to clean up. The file itself stays; only the lock on it means anything.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrHeld says that another holder has the lock, in this process or in another.
var ErrHeld = errors.New("locked by another process")

// pollEvery is how often Wait asks again; flock has no wait that a context could end.
const pollEvery = 50 * time.Millisecond

// Lock is a held lock.
type Lock struct {
	file *os.File
}

// Try takes the lock on path, creating the file where there is none, or returns ErrHeld at once.
func Try(path string) (*Lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", path, ErrHeld)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file: file}, nil
}

// Wait takes the lock on path as soon as it is free. When ctx ends first, its error wraps ErrHeld and ctx's own.
func Wait(ctx context.Context, path string) (*Lock, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		lock, err := Try(path)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-tick.C:
		}
	}
}

// Release gives the lock back. It may be called once.
func (l *Lock) Release() error {
	return l.file.Close()
}
