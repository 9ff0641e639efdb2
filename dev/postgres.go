package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/dibs-hq/dibs/dev/child"
	"github.com/dibs-hq/dibs/dev/filelock"
)

// PostgresVersion is the release that is unpacked where no installation is given.
const PostgresVersion = "18.6.0"

// nobody is the user and group that Postgres runs as when we are root.
const nobody = 65534

// The one account and database of an embedded Postgres.
const (
	postgresUser     = "dibs"
	postgresDatabase = "dibs"
)

// PostgresConfig says where the embedded Postgres keeps its data and what it runs.
type PostgresConfig struct {
	// DataDir keeps data, password and server log over restarts. One process at a time may use it. As root, a new
	// folder is given to uid 65534, and one that belongs to another user is used as that user.
	DataDir string
	// Port on 127.0.0.1. 0 takes a free one.
	Port int
	// InstallDir is an installed Postgres, the folder above its bin. Defaults to PostgresVersion, downloaded at the
	// first start.
	InstallDir string
	// BinariesDir keeps what was downloaded; several data folders may share it. Defaults to a folder in DataDir.
	BinariesDir string
	// StartWithin bounds a start, download included. Defaults to 5 minutes.
	StartWithin time.Duration
	// Logger takes a line about anything that takes its time. Defaults to discarding it.
	Logger *slog.Logger
}

// Postgres is a running embedded server.
type Postgres struct {
	process *child.Process
	started postgresStarted
	lock    *filelock.Lock
	unlock  sync.Once
}

// StartPostgres starts the server and returns when it answers. When ctx ends before that, nothing is left running;
// later ctx has no meaning. The server stops at Stop, or when this process ends, however it ends.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	p, err := startPostgres(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start embedded postgres: %w", err)
	}
	return p, nil
}

func startPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.StartWithin == 0 {
		cfg.StartWithin = 5 * time.Minute
	}
	dir, err := makeDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	task := postgresTask{Dir: dir, Port: cfg.Port, InstallDir: cfg.InstallDir, Version: PostgresVersion}
	if task.UID, task.GID, err = serverIdentity(dir); err != nil {
		return nil, err
	}
	if task.BinariesDir, err = binariesDir(cfg, dir); err != nil {
		return nil, err
	}
	lock, err := lockFor(filepath.Join(dir, "lock"), task)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartWithin)
	defer cancel()
	p := &Postgres{lock: lock}
	p.process, err = child.Start(ctx, rolePostgres, task, &p.started, child.Options{
		Dir:        dir,
		StopWithin: time.Minute, // a fast shutdown writes a checkpoint
		Logger:     cfg.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// DSN is the address of the server's database, with its password.
func (p *Postgres) DSN() string {
	dsn := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(postgresUser, p.started.Password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.started.Port)),
		Path:     postgresDatabase,
		RawQuery: "sslmode=disable",
	}
	return dsn.String()
}

// Port is the port on 127.0.0.1.
func (p *Postgres) Port() int {
	return p.started.Port
}

// Version is the server's version, such as 18.6.0.
func (p *Postgres) Version() string {
	return p.started.Version
}

// Done is closed when the server is gone, for whatever reason.
func (p *Postgres) Done() <-chan struct{} {
	return p.process.Done()
}

// Stop stops the server cleanly. It may be called more than once.
func (p *Postgres) Stop() error {
	return p.end(p.process.Stop())
}

// StopImmediate stops the server as `pg_ctl stop -m immediate` does: the next start recovers from the log.
func (p *Postgres) StopImmediate() error {
	return p.endBy(commandImmediate)
}

// Kill kills the server with SIGKILL.
func (p *Postgres) Kill() error {
	return p.endBy(child.KillCommand)
}

func (p *Postgres) endBy(command string) error {
	if err := p.process.Send(command); err != nil {
		return fmt.Errorf("end embedded postgres: %w", err)
	}
	select {
	case <-p.process.Done():
		return p.Stop()
	case <-time.After(30 * time.Second):
		return fmt.Errorf("end embedded postgres: it did not %s in time: %w", command, p.Stop())
	}
}

func (p *Postgres) end(err error) error {
	if err = errors.Join(err, p.release()); err != nil {
		return fmt.Errorf("stop embedded postgres: %w", err)
	}
	return nil
}

func (p *Postgres) release() error {
	var err error
	p.unlock.Do(func() { err = p.lock.Release() })
	return err
}

// serverIdentity is the user that the server runs as, 0 for ourselves. Only root has to choose: it gives a fresh
// folder to nobody, and leaves one that has an owner to that owner.
func serverIdentity(dir string) (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return 0, 0, nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("data folder: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
		return int(stat.Uid), int(stat.Gid), nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("data folder: %w", err)
	}
	if len(entries) > 0 {
		return 0, 0, fmt.Errorf("data folder %s belongs to root and is not empty, and postgres can't run as root: name an empty one, or give this one to uid %d", dir, nobody)
	}
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, nobody, nobody)); err != nil {
		return 0, 0, fmt.Errorf("give the data folder to uid %d: %w", nobody, err)
	}
	return nobody, nobody, nil
}

func binariesDir(cfg PostgresConfig, dataDir string) (string, error) {
	if cfg.InstallDir != "" {
		return "", nil
	}
	if cfg.BinariesDir == "" {
		return filepath.Join(dataDir, "binaries"), nil
	}
	dir, err := makeDataDir(cfg.BinariesDir)
	if err != nil {
		return "", err
	}
	if _, _, err := serverIdentity(dir); err != nil {
		return "", err
	}
	return dir, nil
}

// lockFor takes the lock, and leaves its file to the server's user, so that this user can start without root later.
func lockFor(path string, task postgresTask) (*filelock.Lock, error) {
	lock, err := filelock.Try(path)
	if err != nil {
		return nil, err
	}
	if task.UID != 0 {
		if err := os.Chown(path, task.UID, task.GID); err != nil {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), lock.Release())
		}
	}
	return lock, nil
}
