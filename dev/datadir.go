package dev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// rootDataDir is where root's data lives. It must not be in root's home, which is closed to the uid that Postgres
// runs as.
const rootDataDir = "/var/lib/dibs/dev"

// ErrNoDataDir says that there is no place to keep data by default; the caller has to name one.
var ErrNoDataDir = errors.New("no home directory to keep data in: name a folder with --data-dir")

// DefaultDataDir is the folder for `dibs dev` where none is given: for root one below /var/lib, which a Postgres
// without root's rights can reach, else the user's own data folder.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return rootDataDir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dibs", "dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || home == "/" {
		return "", ErrNoDataDir
	}
	return filepath.Join(home, ".local", "share", "dibs", "dev"), nil
}

// makeDataDir makes dir and what is missing above it, and returns its absolute path.
func makeDataDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no data folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	// The folders above must let another uid pass; the data folder itself is closed by who owns it.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("data folder: %w; name another one with --data-dir", err)
	}
	return dir, nil
}
