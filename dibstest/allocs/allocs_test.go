//go:build !race

package allocs

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var sink []byte

// allocate makes n pieces of memory of a size.
func allocate(n, size int) func() {
	return func() {
		for range n {
			sink = make([]byte, size)
		}
	}
}

func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		n, size, claims int
		want            Figures
	}{{0, 0, 1, Figures{}}, {1, 64, 1, Figures{1, 64}}, {3, 64, 1, Figures{3, 192}}, {30, 64, 10, Figures{3, 192}}} {
		got := measure(Case{Claims: c.claims, Run: allocate(c.n, c.size)})
		if got.Allocs < c.want.Allocs || got.Allocs > c.want.Allocs+.1 || got.Bytes < c.want.Bytes || got.Bytes > c.want.Bytes+8 {
			t.Errorf("%d of %d bytes for %d: %s, want %s", c.n, c.size, c.claims, got, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	baseline := map[string]Figures{"a": {28, 1000}}
	for _, c := range []struct {
		now     Figures
		fault   string
		praised bool
	}{
		{Figures{28, 1000}, "", false},
		{Figures{28.4, 1060}, "", false},
		{Figures{29, 1000}, "a: a claim costs 29.00 allocations, 1000 bytes; the baseline is 28.00 allocations, 1000 bytes", false},
		{Figures{28, 1080}, "a: a claim costs 28.00 allocations, 1080 bytes", false},
		{Figures{27, 1080}, "a: a claim costs 27.00", false},
		{Figures{27, 1000}, "", true},
		{Figures{28, 900}, "", true},
	} {
		praised := false
		faults := strings.Join(compare(func(string, ...any) { praised = true }, []Case{{Name: "a"}}, map[string]Figures{"a": c.now}, baseline), "\n")
		if (faults == "") != (c.fault == "") || !strings.HasPrefix(faults, c.fault) || praised != c.praised {
			t.Errorf("%s: %q, %t, want %q, %t", c.now, faults, praised, c.fault, c.praised)
		}
	}
	faults := compare(t.Logf, []Case{{Name: "b"}}, map[string]Figures{"b": {1, 2}}, baseline)
	if want := []string{"b: has no baseline; it costs 1.00 allocations, 2 bytes", "a: is in the baseline, and is not measured"}; !reflect.DeepEqual(faults, want) {
		t.Errorf("%q, want %q", faults, want)
	}
}

func TestBaseline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "testdata", file)
	if _, err := read(path); err == nil || !strings.Contains(err.Error(), "there is no baseline") {
		t.Errorf("read what is not there: %v", err)
	}
	now := map[string]Figures{"a/b": {28.25, 1000}, "c": {0, 0}}
	if err := write(path, []Case{{Name: "a/b"}, {Name: "c"}}, now); err != nil {
		t.Fatal(err)
	}
	if got, err := read(path); err != nil || !reflect.DeepEqual(got, now) {
		t.Errorf("%v, %v; want %v", got, err, now)
	}
}
