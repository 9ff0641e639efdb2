package dev_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dibstest"
)

// serverFolder is a fresh folder that the server's user can reach: t.TempDir is closed to others.
func serverFolder(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "dibs-dev-")
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	return filepath.Join(base, "postgres")
}

func postgresConfig(t *testing.T, dir string) dev.PostgresConfig {
	t.Helper()
	cache, err := dibstest.CacheDir() // unpacked once for all tests
	if err != nil {
		t.Fatal(err)
	}
	return dev.PostgresConfig{DataDir: dir, BinariesDir: filepath.Join(cache, "postgres-"+dev.PostgresVersion), Logger: testLogger(t)}
}

// testLogger writes to the test's own output.
func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

func start(t *testing.T, cfg dev.PostgresConfig) *dev.Postgres {
	t.Helper()
	p, err := dev.StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	return p
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var out string
	err = conn.QueryRow(ctx, sql).Scan(&out)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func TestPostgresKeepsItsData(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	p := start(t, cfg)
	if got := query(t, p.DSN(), "SHOW server_version"); !strings.HasPrefix(dev.PostgresVersion, got) {
		t.Errorf("server_version %s, want %s", got, dev.PostgresVersion)
	}
	for setting, want := range map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on", "server_encoding": "UTF8",
		"hba_file": filepath.Join(cfg.DataDir, "pg_hba.conf"),
	} {
		if got := query(t, p.DSN(), "SHOW "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	query(t, p.DSN(), "CREATE TABLE kept AS SELECT 'here' AS v; ")
	cfg.Port = p.Port()

	ends := []struct {
		name string
		end  func(*dev.Postgres) error
	}{
		{"Stop", (*dev.Postgres).Stop},
		{"StopImmediate", (*dev.Postgres).StopImmediate},
		{"Kill", (*dev.Postgres).Kill},
	}
	for _, e := range ends {
		if err := e.end(p); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		if left := processesOn(t, cfg.DataDir); len(left) != 0 && e.name != "Kill" {
			t.Fatalf("after %s: processes %v are left", e.name, left)
		}
		began := time.Now()
		p = start(t, cfg)
		t.Logf("start after %s: %s", e.name, time.Since(began).Round(time.Millisecond))
		if got := query(t, p.DSN(), "SELECT v FROM kept"); got != "here" {
			t.Fatalf("after %s the table holds %q", e.name, got)
		}
	}
}

func TestPostgresAsksForThePassword(t *testing.T) {
	t.Parallel()
	p := start(t, postgresConfig(t, serverFolder(t)))
	dsn, err := url.Parse(p.DSN())
	if err != nil {
		t.Fatal(err)
	}
	dsn.User = url.UserPassword(dsn.User.Username(), "wrong")
	if conn, err := pgx.Connect(t.Context(), dsn.String()); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("connected with a wrong password")
	} else if !strings.Contains(err.Error(), "password authentication failed") {
		t.Fatal(err)
	}
}

func TestPostgresFolderInUse(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	start(t, cfg)
	if _, err := dev.StartPostgres(t.Context(), cfg); !errors.Is(err, dev.ErrInUse) {
		t.Fatalf("second start: %v, want ErrInUse", err)
	}
}

func TestPostgresOtherVersionsDataIsNotTouched(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	p := start(t, cfg)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(cfg.DataDir, "data", "PG_VERSION")
	if err := os.WriteFile(version, []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.StartPostgres(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "made by Postgres 12") {
		t.Fatalf("got %v, want an error that names Postgres 12", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "data", "global", "pg_control")); err != nil {
		t.Fatalf("the data is gone: %v", err)
	}
}

func TestPostgresIgnoresAStalePidFile(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	if err := start(t, cfg).Stop(); err != nil {
		t.Fatal(err)
	}
	// A pid that is alive, of our own user, but no Postgres: what a reboot or a new container makes of an old pid file.
	sleeper := exec.Command("sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	stale := fmt.Sprintf("%d\n%s\n1700000000\n5432\n\n127.0.0.1\n", sleeper.Process.Pid, filepath.Join(cfg.DataDir, "data"))
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "data", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
}

func TestPostgresFinishesAnInterruptedFirstStart(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	if err := start(t, cfg).Stop(); err != nil {
		t.Fatal(err)
	}
	// As left by a kill in the middle of initdb: a version file, no catalog, and no mark.
	for _, gone := range []string{"made", "data/global", "data/base"} {
		if err := os.RemoveAll(filepath.Join(cfg.DataDir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	if got := query(t, start(t, cfg).DSN(), "SELECT 'up'"); got != "up" {
		t.Fatal(got)
	}
}

func TestPostgresPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := postgresConfig(t, serverFolder(t))
	cfg.Port = l.Addr().(*net.TCPAddr).Port
	if _, err := dev.StartPostgres(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), strconv.Itoa(cfg.Port)) {
		t.Fatalf("got %v, want an error that names the port", err)
	}
	if left := processesOn(t, cfg.DataDir); len(left) != 0 {
		t.Fatalf("processes %v are left", left)
	}
}

func TestPostgresClosedFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root starts Postgres as somebody else")
	}
	dir := serverFolder(t)
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := dev.StartPostgres(t.Context(), dev.PostgresConfig{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), filepath.Dir(dir)+" is closed") || !strings.Contains(err.Error(), "--data-dir") {
		t.Fatalf("got %v, want an error that names %s and --data-dir", err, filepath.Dir(dir))
	}
}

func TestPostgresRootsOwnFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's folders belong to root")
	}
	dir := serverFolder(t)
	if err := os.MkdirAll(filepath.Join(dir, "something"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.StartPostgres(t.Context(), dev.PostgresConfig{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("got %v, want an error that says the folder is not empty", err)
	}
}

// TestKilledParentLeavesNoProcess kills a parent with SIGKILL and sees its Postgres end, and the next start succeed.
func TestKilledParentLeavesNoProcess(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	parent, dsn := startParent(t, cfg)
	query(t, dsn, "CREATE TABLE kept AS SELECT 'here' AS v")
	if left := processesOn(t, cfg.DataDir); len(left) < 4 {
		t.Fatalf("processes %v on the data folder, want our child, a server and its workers: the check below would see nothing", left)
	}

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = parent.Wait()
	waitUntil(t, 5*time.Second, func() bool { return len(processesOn(t, cfg.DataDir)) == 0 })
	t.Logf("all gone %s after kill -9", time.Since(began).Round(time.Millisecond))

	if got := query(t, start(t, cfg).DSN(), "SELECT v FROM kept"); got != "here" {
		t.Fatalf("the table holds %q", got)
	}
}

// TestKilledParentAndChildAtOnce leaves a server without a keeper, which the next start ends.
func TestKilledParentAndChildAtOnce(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	parent, dsn := startParent(t, cfg)
	query(t, dsn, "CREATE TABLE kept AS SELECT 'here' AS v")
	for _, pid := range childrenOf(t, parent.Process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if len(processesOn(t, cfg.DataDir)) == 0 {
		t.Fatal("no server is left: this test tests nothing")
	}
	p := start(t, cfg)
	if got := query(t, p.DSN(), "SELECT v FROM kept"); got != "here" {
		t.Fatalf("the table holds %q", got)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if left := processesOn(t, cfg.DataDir); len(left) != 0 {
		t.Fatalf("processes %v are left", left)
	}
}

func TestPostgresWhoseFolderIsRemovedStopsAllTheSame(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t, serverFolder(t))
	p := start(t, cfg)
	if err := os.RemoveAll(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	if len(processesOn(t, cfg.DataDir)) < 4 {
		t.Fatal("the server's processes are not seen: the check below would see nothing")
	}
	_ = p.Stop() // says that pg_ctl found no pid file
	waitUntil(t, 5*time.Second, func() bool { return len(processesOn(t, cfg.DataDir)) == 0 })
}

// parentVariable makes TestParentProcess the parent of startParent.
const parentVariable = "DIBS_TEST_DEV_PARENT"

// startParent runs a process that starts Postgres and waits, and returns it with the server's address.
func startParent(t *testing.T, cfg dev.PostgresConfig) (*exec.Cmd, string) {
	t.Helper()
	parent := exec.Command(os.Args[0], "-test.run=^TestParentProcess$")
	parent.Env = append(os.Environ(), parentVariable+"="+cfg.DataDir+":"+cfg.BinariesDir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = parent.Process.Kill(); _ = parent.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if dsn, ok := strings.CutPrefix(lines.Text(), "dsn "); ok {
			return parent, dsn
		}
		t.Log(lines.Text())
	}
	t.Fatal("the parent process ended before its Postgres was up")
	return nil, ""
}

func TestParentProcess(t *testing.T) {
	dirs, set := os.LookupEnv(parentVariable)
	if !set {
		t.Skip("runs as the parent of other tests only")
	}
	data, binaries, _ := strings.Cut(dirs, ":")
	p, err := dev.StartPostgres(t.Context(), dev.PostgresConfig{DataDir: data, BinariesDir: binaries})
	if err != nil {
		fmt.Println(err)
		t.FailNow()
	}
	fmt.Println("dsn " + p.DSN())
	<-p.Done() // until we are killed
}

// processesOn lists the processes that stand in dir: our child, and the server with its workers.
func processesOn(t *testing.T, dir string) []string {
	t.Helper()
	return processes(t, func(pid int, _ []byte) bool {
		at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		return err == nil && strings.HasPrefix(at, dir)
	})
}

// childrenOf lists the child processes of pid.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	processes(t, func(child int, stat []byte) bool {
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			pids = append(pids, child)
		}
		return false
	})
	return pids
}

func processes(t *testing.T, match func(pid int, stat []byte) bool) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Skip("no /proc to look for processes in")
	}
	var found []string
	for _, dir := range dirs {
		cmdline, err1 := os.ReadFile(filepath.Join(dir, "cmdline"))
		stat, err2 := os.ReadFile(filepath.Join(dir, "stat"))
		pid, err3 := strconv.Atoi(filepath.Base(dir))
		if errors.Join(err1, err2, err3) != nil {
			continue // ended meanwhile
		}
		if match(pid, stat) {
			found = append(found, fmt.Sprintf("%d %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func waitUntil(t *testing.T, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s", within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
