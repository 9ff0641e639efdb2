// Package allocs holds what a claim costs in memory to a baseline that is committed: allocations and bytes, which are the
// same on every machine, as times are not.
//
// A package's baseline is its testdata/allocs.baseline. `make allocs` compares, `make allocs-update` writes the files anew. The
// race detector allocates for itself: the tests that use this package are built without it only.
package allocs

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

var update = flag.Bool("allocs.update", false, "write testdata/allocs.baseline anew")

// Case is one part of a claim's way.
type Case struct {
	Name string
	// Claims is how many of them one Run is about; 0 for one.
	Claims int
	// Runs is how often it runs; 0 for 1,000 times.
	Runs int
	Run  func()
}

// Figures are what a claim costs.
type Figures struct {
	Allocs, Bytes float64
}

// What a claim may cost more than the baseline: less than one allocation, so that none comes unseen. Bytes are rounded up
// to sizes by the allocator, and tables grow by chance.
const (
	moreAllocs = 0.5
	moreBytes  = 16
	moreShare  = 0.05 // of the bytes
)

const file = "allocs.baseline"

// Check measures the cases and compares them with the baseline of the package that is tested.
func Check(t *testing.T, cases ...Case) {
	t.Helper()
	now := make(map[string]Figures, len(cases))
	for _, c := range cases {
		now[c.Name] = measure(c)
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := write(path, cases, now); err != nil {
			t.Fatal(err)
		}
		return
	}
	baseline, err := read(path)
	if err != nil {
		t.Fatalf("%v\nmake allocs-update writes it", err)
	}
	faults := compare(t.Logf, cases, now, baseline)
	for _, fault := range faults {
		t.Error(fault)
	}
	if len(faults) > 0 {
		t.Log("To see where it comes from: go test -run '^$' -bench X -benchtime 20000x -memprofile mem -memprofilerate 512, then\n" +
			"go tool pprof -sample_index=alloc_objects -top mem. What a claim must cost: run make allocs-update, commit " + path + ", and say why.")
	}
}

// compare says what costs more than the baseline, and what only one of them knows. What costs less is told, to be kept.
func compare(logf func(string, ...any), cases []Case, now, baseline map[string]Figures) (faults []string) {
	for _, c := range cases {
		is := now[c.Name]
		was, ok := baseline[c.Name]
		switch {
		case !ok:
			faults = append(faults, fmt.Sprintf("%s: has no baseline; it costs %s", c.Name, is))
		case is.Allocs > was.Allocs+moreAllocs || is.Bytes > was.Bytes*(1+moreShare)+moreBytes:
			faults = append(faults, fmt.Sprintf("%s: a claim costs %s; the baseline is %s", c.Name, is, was))
		case is.Allocs < was.Allocs-moreAllocs || is.Bytes < was.Bytes*(1-moreShare)-moreBytes:
			logf("%s: a claim costs %s, less than the baseline of %s: make allocs-update keeps it so", c.Name, is, was)
		}
	}
	for name := range baseline {
		if _, ok := now[name]; !ok {
			faults = append(faults, name+": is in the baseline, and is not measured")
		}
	}
	return faults
}

func (f Figures) String() string {
	return fmt.Sprintf("%.2f allocations, %.0f bytes", f.Allocs, f.Bytes)
}

// measure takes the least of three: what others do meanwhile only adds to it.
func measure(c Case) Figures {
	c.Claims = max(c.Claims, 1)
	if c.Runs == 0 {
		c.Runs = 1000
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// A collection empties what is kept for the next one, when it happens to come.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range c.Runs/10 + 1 {
		c.Run() // fills what is made once
	}
	var best Figures
	for i := range 3 {
		runtime.GC()
		c.Run() // fills what the collection has emptied
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range c.Runs {
			c.Run()
		}
		runtime.ReadMemStats(&after)
		n := float64(c.Runs) * float64(c.Claims)
		f := Figures{float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n}
		if i == 0 {
			best = f
		}
		best = Figures{min(best.Allocs, f.Allocs), min(best.Bytes, f.Bytes)}
	}
	return best
}

const heading = `# What a claim costs in memory, part by part: allocations and bytes. make allocs compares, make allocs-update writes it anew.
`

func write(path string, cases []Case, now map[string]Figures) error {
	var b bytes.Buffer
	b.WriteString(heading)
	for _, c := range cases {
		fmt.Fprintf(&b, "%-24s %8.2f %8.0f\n", c.Name, now[c.Name].Allocs, now[c.Name].Bytes)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func read(path string) (map[string]Figures, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no baseline %s", path)
	} else if err != nil {
		return nil, err
	}
	baseline := make(map[string]Figures)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		var name string
		var f Figures
		if _, err := fmt.Sscan(line, &name, &f.Allocs, &f.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		baseline[name] = f
	}
	return baseline, nil
}
