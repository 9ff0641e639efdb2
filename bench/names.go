package bench

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
)

// Names says which names are claimed, and how often one that is taken. The zero value claims new names only.
type Names struct {
	// Taken is the part of the claims whose name was claimed before, 0 to 1.
	Taken float64 `json:"taken"`
	// Universe, if set, is out of how many names all claims are, the n-th as often as 1/n^Exponent says: as people choose
	// names. Exponent is more than 1.
	Universe int     `json:"universe,omitempty"`
	Exponent float64 `json:"exponent,omitempty"`
	// List, if set, is the names themselves, in order, each of 3 to 32 letters, digits and . _ -; behind the last one it
	// begins again with other names that are taken as often.
	List []string `json:"-"`
	// File is where the list is from.
	File string `json:"file,omitempty"`
}

func (n *Names) validate() error {
	switch {
	case !(n.Taken >= 0 && n.Taken <= 1):
		return fmt.Errorf("%v of the names are taken: 0 to 1", n.Taken)
	case n.Universe < 0:
		return fmt.Errorf("%d names to choose from", n.Universe)
	case n.Universe > 0 && (!(n.Exponent > 1) || math.IsInf(n.Exponent, 1)):
		return fmt.Errorf("exponent %v: more than 1", n.Exponent)
	case n.Universe > 0 && n.List != nil, n.Taken > 0 && (n.Universe > 0 || n.List != nil):
		return errors.New("names are new ones, out of a universe, or listed: one of these")
	case n.List != nil && len(n.List) == 0:
		return errors.New("the list of names is empty")
	}
	return nil
}

// dealt deals out the names of one run. It is a function of the claim's number alone, so all peers get the same, whoever
// asks first. It is safe for concurrent use.
type dealt struct {
	Names
	prefix string // sets the run's names apart from those of all others
	seed   uint64
	zipfs  sync.Pool
}

// zipf is a source of numbers that can be set to where the i-th begins.
type zipf struct {
	pcg   *rand.PCG
	ranks *rand.Zipf
}

// deal deals out names that no other serial gets. Those of one round differ in their prefix alone.
func (n Names) deal(serial, round int) *dealt {
	d := &dealt{Names: n, prefix: "r" + strconv.FormatInt(int64(serial)+36*36, 36) + ".", seed: uint64(round)}
	if n.Universe > 0 {
		d.zipfs.New = func() any {
			pcg := rand.NewPCG(0, 0)
			return &zipf{pcg, rand.NewZipf(rand.New(pcg), n.Exponent, 1, uint64(n.Universe-1))}
		}
	}
	return d
}

// name is that of the i-th claim.
func (d *dealt) name(i int) string {
	switch {
	case d.List != nil:
		return d.listed(d.List[i%len(d.List)], i/len(d.List))
	case d.Universe > 0:
		z := d.zipfs.Get().(*zipf)
		defer d.zipfs.Put(z)
		z.pcg.Seed(d.seed, uint64(i))
		return d.numbered(z.ranks.Uint64())
	}
	// As many of the claims before it had a new name, and this one has one if that makes one more.
	before := math.Floor(float64(i) * (1 - d.Taken))
	if before > 0 && math.Floor(float64(i+1)*(1-d.Taken)) == before {
		pcg := rand.NewPCG(d.seed, uint64(i))
		return d.numbered(rand.New(pcg).Uint64N(uint64(before)))
	}
	return d.numbered(uint64(before))
}

// numbered spreads consecutive numbers over the key space, as real names are.
func (d *dealt) numbered(n uint64) string {
	var b [32]byte
	text := append(b[:0], d.prefix...)
	const digits = "0123456789abcdef"
	for spread, shift := n*0x9E3779B97F4A7C15>>20, 40; shift >= 0; shift -= 4 {
		text = append(text, digits[spread>>shift&15])
	}
	return string(text)
}

// longest is how much of a listed name fits beside a prefix and a lap.
const longest = 20

// listed is a name of the list: the same one for the same key, as long as the key is the name in lower case.
func (d *dealt) listed(name string, lap int) string {
	prefix := d.prefix
	if lap > 0 {
		prefix += strconv.FormatInt(int64(lap), 36) + "."
	}
	if len(name) > longest {
		h := fnv.New64a()
		for i := range len(name) {
			c := name[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			_, _ = h.Write([]byte{c}) // it never fails
		}
		name = "h" + strconv.FormatUint(h.Sum64(), 36)
	}
	return prefix + name
}

// owner is that of the i-th claim: everybody claims once.
func (d *dealt) owner(i int) string {
	var b [32]byte
	return string(strconv.AppendInt(append(append(b[:0], "o-"...), d.prefix...), int64(i), 10))
}
