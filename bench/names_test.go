package bench

import (
	"testing"

	"github.com/dibs-hq/dibs/names"
)

func allNames(n Names, serial, round, count int) []string {
	d := n.deal(serial, round)
	all := make([]string, count)
	for i := range all {
		all[i] = d.name(i)
	}
	return all
}

// TestNamesAreNames of the default policy, for hours on end, and different from run to run.
func TestNamesAreNames(t *testing.T) {
	policy := names.Builtin()[names.Username]
	long := "A.name.of.thirty-two.characters1"
	for what, n := range map[string]Names{
		"unique": {Taken: .2},
		"zipf":   {Universe: 1000, Exponent: 1.1},
		"list":   {List: []string{"Bob", long, "a.name.of.thirty-two.characters2"}},
	} {
		seen := make(map[names.Key]int)
		for _, serial := range []int{0, 1, 2000} {
			d := n.deal(serial, 0)
			for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 1_000_000, 10_000_000, 100_000_000} {
				key, err := policy.Key(d.name(i))
				if err != nil || policy.IsReserved(key) {
					t.Fatalf("%s: %q: %v", what, d.name(i), err)
				}
				if other, again := seen[key]; again && other != serial {
					t.Errorf("%s: %s is in two runs", what, key)
				}
				seen[key] = serial
				if owner := d.owner(i); len(owner) < 3 || len(owner) > 32 {
					t.Errorf("owner %q", owner)
				}
			}
		}
	}
}

func TestTakenNames(t *testing.T) {
	for taken, want := range map[float64]int{0: 10_000, .2: 8_000, .5: 5_000, 1: 1} {
		seen, again := make(map[string]bool), 0
		for i, name := range allNames(Names{Taken: taken}, 1, 1, 10_000) {
			if seen[name] {
				again++
			} else if taken == 1 && i > 0 {
				t.Errorf("the %d-th name is new", i)
			}
			seen[name] = true
		}
		if len(seen) < want || len(seen) > want+1 || again != 10_000-len(seen) {
			t.Errorf("%v taken: %d different names, want %d", taken, len(seen), want)
		}
	}
}

func TestZipf(t *testing.T) {
	often := make(map[string]int)
	for _, name := range allNames(Names{Universe: 1000, Exponent: 1.5}, 1, 1, 20_000) {
		often[name]++
	}
	most, d := 0, Names{}.deal(1, 1)
	for _, n := range often {
		most = max(most, n)
	}
	first, second := often[d.numbered(0)], often[d.numbered(1)]
	// rand.Zipf's v is 1: the k-th is as often as 1/(1+k)^1.5.
	if first != most || float64(first)/float64(second) < 2.4 || float64(first)/float64(second) > 3.3 || len(often) > 1000 {
		t.Errorf("the first is there %d times, the second %d, the most frequent %d, of %d names", first, second, most, len(often))
	}
}

// TestListedNames collide as they do in the list, each time round.
func TestListedNames(t *testing.T) {
	policy := names.Builtin()[names.Username]
	d := Names{List: []string{"Alice", "bob", "alice", "A.name.of.twenty-three.", "a.NAME.of.twenty-three."}}.deal(7, 1)
	key := func(i int) names.Key {
		k, err := policy.Canonical(d.name(i))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for lap := range 3 {
		at := 5 * lap
		if key(at) != key(at+2) || key(at+3) != key(at+4) || key(at) == key(at+1) || key(at) == key(at+5) || key(at+3) == key(at+8) {
			t.Errorf("lap %d: %q %q %q %q %q", lap, d.name(at), d.name(at+1), d.name(at+2), d.name(at+3), d.name(at+4))
		}
	}
}
