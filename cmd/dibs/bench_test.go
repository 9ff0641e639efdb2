package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/peers"
	"github.com/spf13/cobra"
)

// named is a peer with a name.
type named struct {
	bench.Peer
	name string
}

func (p named) Name() string { return p.name }

func TestBenchUsage(t *testing.T) {
	dir := t.TempDir()
	csv := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ args, want string }{
		{"now", "takes no arguments"},
		{"--waiting=16,0", "--waiting is [16 0]: at least 1"},
		{"--waiting=100001", "at most 100000"},
		{"--waiting=many", "invalid argument"},
		{"--rate=0", "--rate is 0: more than 0"},
		{"--rate=1e9", "at most 1000000"},
		{"--rate=NaN", "more than 0"},
		{"--backlog=-1", "--backlog is -1"},
		{"--backlog=10 --rate=0", "--rate is 0: more than 0"},
		{"--backlog=10 --kill --processors=2", "--kill does not go with --backlog"},
		{"--backlog=10 --waiting=5", "--waiting does not go with --backlog"},
		{"--backlog=10 --through=http", "--through does not go with --backlog"},
		{"--runs=0", "--runs is 0"},
		{"--run=0", "--run is 0s: at least 1ms"},
		{"--warmup=-1s", "--warmup is -1s"},
		{"--partitions=0", "1 to 1000"},
		{"--partitions=12,1001", "--partitions is [12 1001]: 1 to 1000"},
		{"--grow=5 --partitions=1,12", "one number with --grow"},
		{"--grow=5 --processors=2", "--processors does not go with --grow"},
		{"--processors=-1", "--processors is [-1]: 0 to 16"},
		{"--processors=1,17", "0 to 16"},
		{"--kill", "--kill goes with --processors of 2 or more"},
		{"--kill --processors=1,2", "--kill goes with --processors of 2 or more"},
		{"--kill --processors=2 --run=19s", "--run is 19s: at least 20s with --kill"},
		{"--kill --processors=4 --partitions=3", "no more of them than --partitions"},
		{"--processors=2,2", "each number once"},
		{"--partitions=12,12", "each number once"},
		{"--through=process,grpc", `--through is "grpc": process, kafka, http`},
		{"--through=http,http", "http twice"},
		{"--through=", "--through is empty"},
		{"--names=zipf --exponent=1", "--exponent is 1: more than 1"},
		{"--names=zipf --universe=0", "--universe is 0"},
		{"--names=zipf --taken=.5", "--taken goes with --names unique"},
		{"--exponent=2", "--exponent goes with --names zipf"},
		{"--taken=1.1", "--taken is 1.1"},
		{"--taken=NaN", "0 to 1"},
		{"--names=/nowhere.csv", "unique, zipf, or a file: open /nowhere.csv"},
		{"--names=" + csv("a.txt", "name,owner\n"), ".csv, .ndjson or .jsonl"},
		{"--names=" + csv("a.csv", "name,colour\n"), `column "colour"`},
		{"--names=" + csv("b.csv", "name,owner\nx,u\nroot,u\n\"\n"), "none of its 3 rows"},
		{"--plot=a.png", "ends in .svg"},
		{"--plot=/nowhere/a.svg", "no such file"},
		{"-o xml", "use text or json"},
		{"--cpuprofile=/nowhere/a", "--cpuprofile"},
	} {
		code, stdout, stderr := dibs(t, append([]string{"bench"}, strings.Fields(c.args)...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("dibs bench %s: exit %d, %q; want exit %d and %q", c.args, code, stderr, exitUsage, c.want)
		}
	}
}

// benchOf is a benchmark that was asked for with some flags.
func benchOf(t *testing.T, args ...string) (*benching, string) {
	t.Helper()
	var stderr strings.Builder
	cmd := &cobra.Command{}
	cmd.SetErr(&stderr)
	b := newBenching(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	return b, stderr.String()
}

// TestBenchVariants: what tells dibs apart is in its name, and nothing is where there is one.
func TestBenchVariants(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--processors=1"}, "dibs, in process, 1 processor"},
		{[]string{"--processors=2,4", "--through=http,kafka"}, "dibs, over HTTP, 2 processors|dibs, through Kafka, 2 processors|dibs, over HTTP, 4 processors|dibs, through Kafka, 4 processors"},
		{[]string{"--partitions=1,64"}, "dibs, in process, 1 partition|dibs, in process, 64 partitions"},
		{[]string{"--processors=3", "--kill"}, "dibs, in process, 3 processors, one killed"},
		{[]string{"--backlog=5"}, "dibs"},
		{[]string{"--backlog=5", "--partitions=3,4"}, "dibs, 3 partitions|dibs, 4 partitions"},
		{[]string{"--backlog=5", "--rate=6", "--processors=0,2"}, "dibs, its own processor|dibs, 2 processors"},
	} {
		b, _ := benchOf(t, c.args...)
		all := b.variants
		if b.cfg.Backlog > 0 {
			all = b.backlogs
		}
		var got []string
		for _, p := range all("id") {
			_, struck := p.(bench.FaultInjected)
			if got = append(got, p.Name()); struck != b.kill {
				t.Errorf("%v: %s is struck: %t", c.args, p.Name(), struck)
			}
			if late, ok := p.(*backlog); ok && (late.arrivals != nil) != (b.cfg.Rate > 0) {
				t.Errorf("%v: claims come: %t", c.args, late.arrivals != nil)
			}
		}
		if got := strings.Join(got, "|"); got != c.want {
			t.Errorf("%v: %s, want %s", c.args, got, c.want)
		}
	}
	if b, _ := benchOf(t, "--backlog=5"); b.processors[0] != 1 {
		t.Errorf("a backlog is worked off by %d processes", b.processors[0])
	}
}

func TestBenchReadsNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.csv")
	if err := os.WriteFile(path, []byte("username,owner_id,space\nAlice,1,\nalice,2,\nroot,3,\nx,4,\na@example.org,5,email\nbob.s,6,username\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, said := benchOf(t, "--names", path)
	if got := strings.Join(b.cfg.Names.List, " "); got != "Alice alice bob.s" || b.cfg.Names.File != "names.csv" || b.cfg.Names.Taken != 0 {
		t.Errorf("got %+v", b.cfg.Names)
	}
	if said != "names.csv: 3 rows have no name that can be claimed; they are left out\n" {
		t.Errorf("it said %q", said)
	}
	if b, said := benchOf(t, "--names", "../../names/testdata/signups.csv"); len(b.cfg.Names.List) < 200 || !strings.Contains(said, "left out") {
		t.Errorf("%d names of the sign-ups, %q", len(b.cfg.Names.List), said)
	}
	if b, _ := benchOf(t, "--names=zipf", "--universe=50"); b.cfg.Names.Universe != 50 || b.cfg.Names.Exponent != 1.1 || b.cfg.Names.Taken != 0 {
		t.Errorf("got %+v", b.cfg.Names)
	}
	if b, _ := benchOf(t); b.cfg.Names.Universe != 0 || b.cfg.Names.Taken != .2 {
		t.Errorf("got %+v", b.cfg.Names)
	}
}

func TestBenchChooses(t *testing.T) {
	all := []bench.Peer{named{name: "dibs, in process"}, named{name: "dibs, over HTTP"}, named{name: peers.InsertName}, named{name: "direct INSERT over HTTP"}, named{name: "raw Kafka echo"}}
	for _, c := range []struct {
		args []string
		want string // names, then the base, or a part of the error
	}{
		{nil, "dibs, in process|dibs, over HTTP|direct INSERT|direct INSERT over HTTP|raw Kafka echo|direct INSERT"},
		{[]string{"--only=echo", "--only=in process"}, "dibs, in process|raw Kafka echo|raw Kafka echo"},
		{[]string{"--only=http"}, "dibs, over HTTP|direct INSERT over HTTP|direct INSERT over HTTP"},
		{[]string{"--only=dibs", "--base=PROCESS"}, "dibs, in process|dibs, over HTTP|dibs, in process"},
		{[]string{"--base=direct INSERT"}, "dibs, in process|dibs, over HTTP|direct INSERT|direct INSERT over HTTP|raw Kafka echo|direct INSERT"},
		{[]string{"--only=redis"}, `nobody's name has that in it; there are "dibs, in process", "dibs, over HTTP"`},
		{[]string{"--base=http"}, "of 2 that are measured"},
		{[]string{"--only=dibs", "--base=echo"}, "of 0 that are measured"},
	} {
		b, _ := benchOf(t, c.args...)
		chosen, err := b.choose(all)
		if err != nil {
			if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v, want %s", c.args, err, c.want)
			}
			continue
		}
		got := ""
		for _, p := range chosen {
			got += p.Name() + "|"
		}
		if got += b.cfg.Base; got != c.want {
			t.Errorf("%v: got %s, want %s", c.args, got, c.want)
		}
	}
	if len(all) != 5 || all[4].Name() != "raw Kafka echo" {
		t.Error("what was chosen from has changed")
	}
}

func TestBenchProgress(t *testing.T) {
	statuses := []bench.Status{
		{Peer: "a", Waiting: 4, Of: 2},
		{Peer: "a", Waiting: 4, Of: 2, Claims: 10, PerSecond: 40},
		{Peer: "a", Waiting: 4, Of: 2, Claims: 20, PerSecond: 41.2, Done: &bench.Figures{}},
		{Peer: "b", Run: 1, Of: 2, Claims: 20, PerSecond: 41.2, Done: &bench.Figures{}},
	}
	for drawn, want := range map[bool]string{
		false: "4 waiting, a, the run that does not count: 41 claims/s\nb, run 1 of 2: 41 claims/s\n",
		true: "\r\x1b[K4 waiting, a, the run that does not count: 0 claims/s\r\x1b[K4 waiting, a, the run that does not count: 40 claims/s" +
			"\r\x1b[K4 waiting, a, the run that does not count: 41 claims/s\n\r\x1b[Kb, run 1 of 2: 41 claims/s\n",
	} {
		var w strings.Builder
		p := benchProgress{&w, drawn}
		for _, s := range statuses {
			p.tell(s)
		}
		if w.String() != want {
			t.Errorf("got %q, want %q", w.String(), want)
		}
	}
}

// TestBenchWants only those peers that it is asked for: the others are not built.
func TestBenchWants(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "direct INSERT"},
		{[]string{"--only=echo"}, ""},
		{[]string{"--peers", "--only=Echo", "--only=dibs"}, "raw Kafka echo"},
		{[]string{"--peers", "--only=dibs"}, ""},
		{[]string{"--peers", "--only=direct insert"}, "direct INSERT|direct INSERT over HTTP"},
	} {
		b, _ := benchOf(t, c.args...)
		if got := strings.Join(b.wanted(), "|"); got != c.want {
			t.Errorf("%v: %q, want %q", c.args, got, c.want)
		}
	}
	if b, _ := benchOf(t, "--peers"); len(b.wanted()) != len(peers.Names()) {
		t.Errorf("--peers: %v", b.wanted())
	}
}
