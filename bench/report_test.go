package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// reported is a report of two peers, one with a name that XML has to escape.
func reported(t *testing.T, change func(*Config)) *Report {
	t.Helper()
	r := &Report{At: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Version: "v1.2.3", Left: map[string]string{"Redis": "no redis-server"}}
	synctest.Test(t, func(t *testing.T) {
		r.Config = Config{Waiting: []int{1, 4}, Runs: 3, Warmup: time.Second, Run: 10 * time.Second, Names: Names{Taken: .25}, Meter: clockMeter{time.Now()}}
		change(&r.Config)
		a := &fake{name: "a <&> \"b\"", delay: func(n int) time.Duration { return time.Duration(10+n%5) * time.Millisecond }}
		b := &fake{name: "base", delay: always(20 * time.Millisecond)}
		r.Config.Base = b.name
		r.Tables = measure(t, r.Config, a, b)
	})
	r.Machine = &Machine{OS: "plan9/mips", Cores: 2, GOMAXPROCS: 2, Go: "go1.26.0", Servers: map[string]Server{
		Postgres: {Version: "18.1", Settings: map[string]string{"synchronous_commit": "on"}}, Kafka: {Version: "4.3.1", PID: 17, Command: "java"},
	}}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestGoldenReports(t *testing.T) {
	r := reported(t, func(*Config) {})
	var text, asJSON bytes.Buffer
	if err := errors.Join(r.Write(&text), r.WriteJSON(&asJSON)); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", text.Bytes())
	golden(t, "report.json", asJSON.Bytes())
	r = reported(t, func(c *Config) { c.Rate, c.Waiting, c.Grace = 100, []int{1}, 10*time.Second })
	r.BrokenOff = "the disk is full"
	text.Reset()
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "open.txt", text.Bytes())
}

// elements counts an SVG's elements by their names, and fails where it is no XML.
func elements(t *testing.T, svg []byte) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			n[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestPlots(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*Config)
		count  string
		want   int
	}{
		"lines in three panels":   {func(*Config) {}, "polyline", 6},
		"bars and percentiles":    {func(c *Config) { c.Waiting = []int{1} }, "polyline", 2},
		"a dot for each value":    {func(*Config) {}, "circle", 12},
		"an open loop":            {func(c *Config) { c.Waiting, c.Rate = []int{2}, 100 }, "polyline", 2},
		"bars, background, peers": {func(c *Config) { c.Waiting = []int{1} }, "rect", 5},
	} {
		var svg bytes.Buffer
		if err := reported(t, c.change).WriteSVG(&svg); err != nil {
			t.Fatal(err)
		}
		if got := elements(t, svg.Bytes()); got[c.count] != c.want {
			t.Errorf("%s: %d of %s, want %d, in\n%s", what, got[c.count], c.count, c.want, &svg)
		}
	}
	// A run in which nothing was decided, a table that was broken off, and none at all.
	for _, tables := range [][]Table{
		{{Waiting: 1, Results: []Result{{Peer: "a", Runs: []Figures{{}}}}}},
		{{Waiting: 1, Results: []Result{{Peer: "a", Runs: []Figures{{}}}}}, {Waiting: 2, Results: []Result{{Peer: "b", Runs: []Figures{{PerSecond: 5}}}}}},
		nil,
	} {
		var svg bytes.Buffer
		if err := (&Report{Tables: tables}).WriteSVG(&svg); err != nil {
			t.Fatal(err)
		}
		elements(t, svg.Bytes())
	}
}
