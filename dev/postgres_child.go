package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"

	"github.com/dibs-hq/dibs/dev/child"
	"github.com/dibs-hq/dibs/dev/filelock"
)

// commandImmediate asks for `pg_ctl stop -m immediate`.
const commandImmediate = "immediate"

// postgresTask is what the parent asks of the child.
type postgresTask struct {
	Dir         string
	Port        int
	InstallDir  string // "" for binaries of our own
	BinariesDir string
	Version     string // of our own binaries
	UID, GID    int    // 0: stay who we are
}

// postgresStarted is the child's answer. The password travels over the pipe only.
type postgresStarted struct {
	Port     int
	Password string
	Version  string
}

// server is the child's view of one data folder. What is in the folder:
//
//	data/         the cluster, made once
//	made          exists once the cluster has served: a cluster without it is a first start that was cut off
//	password      of the one account
//	pg_hba.conf   who may connect: written at each start
//	binaries/     Postgres itself, where it is our own: archive/, unpacked/, and complete once all of it is there
//	log/          output of the server since its last start
//	run/          emptied at each start
type server struct {
	task     postgresTask
	job      *child.Job
	version  string
	password string
}

// servePostgres is the role rolePostgres: the whole life of one server.
func servePostgres(ctx context.Context, job *child.Job) error {
	s := &server{job: job}
	if err := job.Task(&s.task); err != nil {
		return err
	}
	if err := becomeServerUser(s.task); err != nil {
		return err
	}
	if err := reachable(s.task.Dir); err != nil {
		return err
	}
	lock, err := s.takeFolder(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	if err := s.prepare(); err != nil {
		return err
	}
	db, port, err := s.start(ctx)
	if err != nil {
		return err
	}
	if err := job.Ready(postgresStarted{Port: port, Password: s.password, Version: s.version}); err != nil {
		return errors.Join(err, db.Stop())
	}
	return s.watch(ctx, db)
}

// becomeServerUser gives up root for good, in every thread. It happens here and not at exec, because the program's
// own file may lie where only root can reach it, as what `go run` and `go test` build does.
func becomeServerUser(task postgresTask) error {
	if task.UID == 0 {
		return nil
	}
	err := syscall.Setgroups([]int{task.GID})
	if err == nil {
		err = syscall.Setgid(task.GID)
	}
	if err == nil {
		err = syscall.Setuid(task.UID)
	}
	if err != nil {
		return fmt.Errorf("postgres can't run as root, and this root may not become uid %d: %w; run dibs as a plain user", task.UID, err)
	}
	return nil
}

// reachable says which folder on the way to dir is closed to us, if one is.
func reachable(dir string) error {
	const searchable = 1 // X_OK
	if syscall.Access(dir, searchable) == nil {
		return nil
	}
	at := dir
	for above := filepath.Dir(at); above != at && syscall.Access(above, searchable) != nil; above = filepath.Dir(at) {
		at = above
	}
	return fmt.Errorf("postgres runs as uid %d, and %s is closed to it: name a data folder elsewhere with --data-dir", os.Geteuid(), at)
}

// takeFolder waits for the child of a parent that has just been killed to finish with the folder.
func (s *server) takeFolder(ctx context.Context) (*filelock.Lock, error) {
	path := filepath.Join(s.task.Dir, "server.lock")
	lock, err := filelock.Try(path)
	if !errors.Is(err, filelock.ErrHeld) {
		return lock, err
	}
	s.job.Log("waiting for the last Postgres in this data folder to stop")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	lock, err = filelock.Wait(ctx, path)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, s.task.Dir)
	}
	return lock, err
}

// prepare makes the folder ready for a start: nothing of an interrupted one is left, and nothing of value is lost.
func (s *server) prepare() error {
	dir := s.task.Dir
	// The server and its tools must not take settings from the environment of whoever runs dibs.
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") {
			_ = os.Unsetenv(name)
		}
	}
	env := []struct{ name, value string }{{"LC_ALL", "C"}, {"HOME", dir}, {"TMPDIR", filepath.Join(dir, "log")}} // the library logs to a temporary file
	for _, e := range env {
		if err := os.Setenv(e.name, e.value); err != nil {
			return fmt.Errorf("environment of postgres: %w", err)
		}
	}
	log := filepath.Join(dir, "log")
	if err := errors.Join(os.RemoveAll(log), os.MkdirAll(log, 0o700)); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	var err error
	if s.version, err = s.installedVersion(); err != nil {
		return err
	}
	if err := s.checkCluster(); err != nil {
		return err
	}
	if s.password, err = s.takePassword(); err != nil {
		return err
	}
	// Loopback only, and a password all the same: other users of this machine reach loopback too.
	const hba = "host all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(dir, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return s.endOrphan()
}

func (s *server) installedVersion() (string, error) {
	if s.task.InstallDir == "" {
		return s.task.Version, nil
	}
	out, err := exec.Command(filepath.Join(s.task.InstallDir, "bin", "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("version of the postgres in %s: %w", s.task.InstallDir, err)
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	words := strings.Fields(string(out))
	if len(words) < 3 {
		return "", fmt.Errorf("version of the postgres in %s: unknown form %q", s.task.InstallDir, out)
	}
	return words[2], nil
}

// checkCluster removes a cluster that never served, and refuses one of another major version: the library would
// replace that by an empty one.
func (s *server) checkCluster() error {
	if !s.made() {
		if err := os.RemoveAll(s.dataDir()); err != nil {
			return fmt.Errorf("remove an unfinished cluster: %w", err)
		}
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(s.dataDir(), "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("data folder %s is damaged: %w; remove it to start anew", s.task.Dir, err)
	}
	have := strings.TrimSpace(string(raw))
	if major, _, _ := strings.Cut(s.version, "."); major != have {
		return fmt.Errorf("data folder %s was made by Postgres %s, and this is %s: name another folder, or remove this one", s.task.Dir, have, s.version)
	}
	return nil
}

func (s *server) takePassword() (string, error) {
	path := filepath.Join(s.task.Dir, "password")
	raw, err := os.ReadFile(path)
	switch {
	case err == nil && len(raw) > 0:
		return string(raw), nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("password of postgres: %w", err)
	case s.made():
		return "", fmt.Errorf("the password of the data in %s is gone; remove the folder to start anew", s.task.Dir)
	}
	password := rand.Text()
	if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
		return "", fmt.Errorf("password of postgres: %w", err)
	}
	return password, nil
}

func (s *server) dataDir() string  { return filepath.Join(s.task.Dir, "data") }
func (s *server) madeMark() string { return filepath.Join(s.task.Dir, "made") }

func (s *server) made() bool {
	_, err := os.Stat(s.madeMark())
	return err == nil
}

// start runs the library's start until it succeeds; it tries again where only the moment was wrong.
func (s *server) start(ctx context.Context) (*embedded.EmbeddedPostgres, int, error) {
	release, err := s.takeBinaries(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	deadline := time.Now().Add(15 * time.Second)
	for {
		port := s.task.Port
		if port == 0 {
			if port, err = freePort(); err != nil {
				return nil, 0, err
			}
		}
		db := embedded.NewDatabase(s.config(port))
		err := db.Start()
		if err == nil {
			if err := s.markStarted(); err != nil {
				return nil, 0, errors.Join(err, db.Stop())
			}
			return db, port, nil
		}
		again := strings.Contains(err.Error(), "pre-existing shared memory block") || // a killed server's last backends
			s.task.Port == 0 && (strings.Contains(err.Error(), "already listening") || strings.Contains(err.Error(), "could not bind"))
		if !again || time.Now().After(deadline) {
			return nil, 0, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *server) config(port int) embedded.Config {
	binaries := s.task.InstallDir
	if binaries == "" {
		binaries = s.unpackedDir()
	}
	return embedded.DefaultConfig().
		Version(embedded.PostgresVersion(s.version)).
		Port(uint32(port)).
		Username(postgresUser).
		Password(s.password).
		Database(postgresDatabase).
		BinariesPath(binaries).
		CachePath(filepath.Join(s.task.BinariesDir, "archive")).
		RuntimePath(filepath.Join(s.task.Dir, "run")).
		DataPath(s.dataDir()).
		Locale("C").
		Encoding("UTF8").
		StartTimeout(30 * time.Second).
		Logger(io.Discard).
		StartParameters(map[string]string{
			"listen_addresses":        "127.0.0.1",
			"unix_socket_directories": "",
			"hba_file":                "pg_hba.conf", // beside data/, where we stand
			"max_connections":         "200",
		})
}

// markStarted records what a first start has brought about, now that it is known to be whole.
func (s *server) markStarted() error {
	marks := []string{s.madeMark()}
	if s.task.InstallDir == "" {
		marks = append(marks, s.completeMark())
	}
	for _, mark := range marks {
		if err := os.WriteFile(mark, []byte(s.version+"\n"), 0o600); err != nil {
			return fmt.Errorf("mark the start of postgres: %w", err)
		}
	}
	return nil
}

func (s *server) unpackedDir() string {
	return filepath.Join(s.task.BinariesDir, "unpacked")
}

func (s *server) completeMark() string {
	return filepath.Join(s.task.BinariesDir, "complete")
}

// takeBinaries makes sure that one process at a time unpacks, and that none runs what another has half unpacked.
func (s *server) takeBinaries(ctx context.Context) (release func(), err error) {
	nothing := func() {}
	if s.task.InstallDir != "" || s.complete() {
		return nothing, nil
	}
	dir := s.task.BinariesDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder for postgres' binaries: %w", err)
	}
	lock, err := filelock.Wait(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("folder for postgres' binaries: %w", err)
	}
	release = func() { _ = lock.Release() }
	if s.complete() { // by whom we waited for
		release()
		return nothing, nil
	}
	if err := os.RemoveAll(s.unpackedDir()); err != nil {
		release()
		return nil, fmt.Errorf("remove half unpacked binaries: %w", err)
	}
	s.job.Log("downloading and unpacking Postgres " + s.version + ", once; this can take a minute")
	return release, nil
}

// complete says whether the binaries of this very version are there.
func (s *server) complete() bool {
	raw, err := os.ReadFile(s.completeMark())
	return err == nil && strings.TrimSpace(string(raw)) == s.version
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
