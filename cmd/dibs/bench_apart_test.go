package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/dibstest"
)

func TestMain(m *testing.M) {
	childMain()
	dibstest.Main(m)
}

// benchOn runs the benchmark on the servers of the tests.
func benchOn(t *testing.T, args ...string) bench.Report {
	t.Helper()
	if testing.Short() {
		t.Skip("its runs take seconds each")
	}
	for name, value := range map[string]string{
		"DIBS_KAFKA_BROKERS": strings.Join(dibstest.Kafka(t).Addrs, ","), "DIBS_POSTGRES_DSN": dibstest.Postgres(t).DSN,
	} {
		t.Setenv(name, value)
	}
	code, stdout, stderr := dibs(t, append([]string{"bench", "--runs=1", "--only=dibs", "--log-level=error", "-o=json"}, args...)...)
	if code != exitOK {
		t.Fatalf("dibs bench %v: exit %d, %s", args, code, stderr)
	}
	var r bench.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Tables); n != 1 {
		t.Fatalf("%d tables", n)
	}
	if left := processorsLeft(t); len(left) > 0 {
		t.Errorf("processors are left: %q", left)
	}
	return r
}

// processorsLeft are those that this process has started and that run, where the system tells.
func processorsLeft(t *testing.T) (all []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || runtime.GOOS == "linux" && len(stats) == 0 {
		t.Fatalf("no processes: %v", err)
	}
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // an error: it has just ended
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		_, behind, _ := strings.Cut(string(stat), ") ") // the name is before
		if fields := strings.Fields(behind); len(fields) > 1 && fields[1] == processID() && strings.Contains(string(line), "dibs-child-"+roleProcessor) {
			all = append(all, string(line))
		}
	}
	return all
}

func processID() string { return strconv.Itoa(os.Getpid()) }

// TestBenchApart: processors of their own decide where they are asked for, and what they use is counted.
func TestBenchApart(t *testing.T) {
	r := benchOn(t, "--processors=0,2", "--partitions=3", "--waiting=16", "--warmup=1s", "--run=2s")
	var all []string
	for _, p := range r.Tables[0].Results {
		all = append(all, p.Peer)
		if p.Median.Claims == 0 {
			t.Errorf("%s decided nothing", p.Peer)
		}
		// Where they were started by this process, the servers are its children, too.
		alone := dibstest.Postgres(t).Kind == dibstest.Environment && dibstest.Kafka(t).Kind == dibstest.Environment
		if used, apart := p.Median.CPU[bench.ChildrenCPU] > 0, strings.Contains(p.Peer, "2 processors"); runtime.GOOS == "linux" && used != apart && (alone || apart) {
			t.Errorf("%s: CPU %v", p.Peer, p.Median.CPU)
		}
	}
	if got, want := strings.Join(all, "|"), "dibs, in process, its own processor|dibs, in process, 2 processors"; got != want {
		t.Errorf("measured %s, want %s", got, want)
	}
}

// TestBenchOutage: what had piled up is decided, and what comes meanwhile, by processors in other processes than this one.
func TestBenchOutage(t *testing.T) {
	f := benchOn(t, "--backlog=3000", "--rate=200", "--partitions=3", "--processors=2").Tables[0].Results[0].Median
	if f.Arrivals == 0 || f.Claims < 3000 || f.Claims > 3000+f.Arrivals || f.P99 == 0 || f.First == 0 || f.Took < f.First {
		t.Errorf("got %+v", f)
	}
	if runtime.GOOS == "linux" && (f.PeakRSS == 0 || f.CPU[bench.ChildrenCPU] == 0) {
		t.Errorf("nothing is told of the processors: %+v", f)
	}
}

// TestBenchGrown: claims are made on the filled tables and on empty ones.
func TestBenchGrown(t *testing.T) {
	r := benchOn(t, "--grow=500", "--partitions=3", "--waiting=16", "--warmup=100ms", "--run=500ms")
	var all []string
	for _, p := range r.Tables[0].Results {
		all = append(all, p.Peer)
		if m := p.Median; m.Accepted == 0 || m.Accepted == m.Claims {
			t.Errorf("%s: %d of %d claims got their names, and one in five is taken", p.Peer, m.Accepted, m.Claims)
		}
	}
	if got, want := strings.Join(all, "|"), "dibs, 500 names|dibs, empty tables"; got != want {
		t.Errorf("measured %s, want %s", got, want)
	}
}

// TestProcesses: each has its part of the partitions, whoever is killed is missed by nobody but the group, and one that ends by
// itself is told of.
func TestProcesses(t *testing.T) {
	b, _ := benchOf(t)
	b.settings.Kafka.Brokers, b.settings.Postgres.DSN = dibstest.Kafka(t).Addrs, dibstest.Postgres(t).DSN
	b.settings.Postgres.MaxConns, b.settings.Postgres.Timeout = 4, 10*time.Second
	b.settings.Processor.Group, b.settings.Processor.BatchMax = "dibs", 100
	b.settings.Log.Level = "error"
	r := perRun{deployed: b.deployment("bench-"+processID()+"-processes", 4), quiet: b.quiet(), processors: 3, runs: &b.runs}
	err := r.run(t.Context(), func(ctx context.Context) error {
		c := r.processes
		if err := errors.Join(c.start(ctx), c.await(ctx, 4)); err != nil {
			return err
		}
		if n := len(c.pids()); n != 3 || runtime.GOOS == "linux" && len(processorsLeft(t)) != 3 {
			t.Errorf("%d processes, and there are %q", n, processorsLeft(t))
		}
		if err := c.unassigned(ctx, 5); err == nil {
			t.Error("a partition that nobody has is not missed")
		}
		gone := c.present()[0]
		if err := c.kill(); err != nil {
			return err
		}
		<-gone.Done()
		if n := len(c.pids()); n != 2 || ctx.Err() != nil {
			t.Errorf("%d are left, %v", n, context.Cause(ctx))
		}
		other := c.present()[0]
		if err := other.Signal(os.Kill); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Error("one that ended by itself is not told of")
		}
		return context.Cause(ctx)
	})
	if err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
}

// TestMakeBench hands on arguments with blanks in them as they were given.
func TestMakeBench(t *testing.T) {
	dir := t.TempDir()
	stand := filepath.Join(dir, "go")
	script := "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n"
	told := filepath.Join(dir, "dibs")
	for path, text := range map[string]string{stand: script, told: "#!/bin/sh\necho \"$DIBS_KAFKA_BROKERS\" \"$DIBS_POSTGRES_DSN\"\nprintf '%s;' \"$@\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil { //nolint:gosec // they are run
			t.Fatal(err)
		}
	}
	make, err := exec.LookPath("make")
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), make, "-s", "-C", "../..", "bench", "GO="+stand, "BIN="+dir, `BENCH_ARGS=--only 'direct INSERT' --runs 2`)
	cmd.Env = append(os.Environ(), "DIBS_TEST_KAFKA=k:1", "DIBS_TEST_POSTGRES=a b")
	out, err := cmd.CombinedOutput()
	if want := "k:1 a b\nbench;--only;direct INSERT;--runs;2;"; err != nil || !strings.HasSuffix(string(out), want) {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}
