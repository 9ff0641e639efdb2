package filelock_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dev/filelock"
)

func TestOneHolderAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := filelock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Try(path); !errors.Is(err, filelock.ErrHeld) {
		t.Fatalf("second Try: %v, want ErrHeld", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = filelock.Wait(ctx, path)
	if !errors.Is(err, filelock.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait on a held lock: %v, want ErrHeld and DeadlineExceeded", err)
	}

	got := make(chan error, 1)
	go func() {
		second, err := filelock.Wait(context.Background(), path)
		if err == nil {
			err = second.Release()
		}
		got <- err
	}()
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatalf("Wait after Release: %v", err)
	}
}

func TestAFolderThatIsNotThere(t *testing.T) {
	if _, err := filelock.Try(filepath.Join(t.TempDir(), "none", "lock")); err == nil || errors.Is(err, filelock.ErrHeld) {
		t.Fatalf("got %v, want an error that is not ErrHeld", err)
	}
}
