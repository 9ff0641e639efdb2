package uts39

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Scripts is a set of writing systems, resolved as section 5.1 says: a character of all scripts is in every set, and a
// Han character counts as Japanese, Korean and Chinese with Bopomofo, too.
type Scripts [3]uint64

// every is the set of what belongs to any script: digits, punctuation, most combining marks.
var every = Scripts{^uint64(0), ^uint64(0), ^uint64(0)}

// writingSystems are the scripts that are written together, by the code that stands for them.
var writingSystems = map[string][]string{
	"Hani": {"Hanb", "Jpan", "Kore"},
	"Hira": {"Jpan"},
	"Kana": {"Jpan"},
	"Hang": {"Kore"},
	"Bopo": {"Hanb"},
}

// Codes are the ISO 15924 codes of all scripts there are, and of the three writing systems made of several.
var Codes = sync.OnceValue(func() []string { return slices.Sorted(maps.Keys(bits())) })

// bits gives every code its place in a set.
var bits = sync.OnceValue(func() map[string]int {
	m := map[string]int{"Hanb": 0, "Jpan": 1, "Kore": 2}
	scripts, err := files.ReadDir(".")
	if err != nil {
		panic(err)
	}
	for _, file := range scripts {
		if !strings.HasPrefix(file.Name(), "scripts-") {
			continue
		}
		err := lines(file.Name(), func(line string) error {
			_, codes, _ := strings.Cut(line, " ")
			for code := range strings.FieldsSeq(codes) {
				if _, known := m[code]; !known && !anyScript(code) {
					m[code] = len(m)
				}
			}
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	if len(m) > 64*len(Scripts{}) {
		panic(fmt.Sprintf("%d scripts do not fit a set", len(m)))
	}
	return m
})

// anyScript reports whether the code says "of any script": common, or inherited from the character before.
func anyScript(code string) bool { return code == "Zyyy" || code == "Zinh" }

// resolved returns the set that a script's code stands for.
func resolved(code string) Scripts {
	if anyScript(code) {
		return every
	}
	s := single(code)
	for _, system := range writingSystems[code] {
		s = s.Union(single(system))
	}
	return s
}

// single returns the set of one code alone.
func single(code string) Scripts {
	bit := bits()[code]
	var s Scripts
	s[bit/64] |= 1 << (bit % 64)
	return s
}

// ParseScripts returns the set of the codes in a text such as "Latn+Jpan".
func ParseScripts(combination string) (Scripts, error) {
	var s Scripts
	for code := range strings.SplitSeq(combination, "+") {
		if _, ok := bits()[code]; !ok {
			return Scripts{}, fmt.Errorf("there is no script %q: it takes codes of ISO 15924 such as Latn, Cyrl or Jpan", code)
		}
		s = s.Union(single(code))
	}
	return s, nil
}

// Union returns what either set has.
func (s Scripts) Union(o Scripts) Scripts {
	for i := range s {
		s[i] |= o[i]
	}
	return s
}

// Intersect returns what both sets have.
func (s Scripts) Intersect(o Scripts) Scripts {
	for i := range s {
		s[i] &= o[i]
	}
	return s
}

// Every reports whether the set is that of characters of any script.
func (s Scripts) Every() bool { return s == every }

// Empty reports whether nothing is in the set.
func (s Scripts) Empty() bool { return s == Scripts{} }

// All starts the search for a script that all characters of a text have.
func All() Scripts { return every }

// String lists the set's codes.
func (s Scripts) String() string {
	if s.Every() {
		return "any"
	}
	var codes []string
	for _, code := range Codes() {
		if !s.Intersect(single(code)).Empty() {
			codes = append(codes, code)
		}
	}
	return strings.Join(codes, "+")
}

// Minus returns what s has and o has not.
func (s Scripts) Minus(o Scripts) Scripts {
	for i := range s {
		s[i] &^= o[i]
	}
	return s
}
