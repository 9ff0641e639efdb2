// Package uts39 holds what Unicode Technical Standard 39, "Unicode Security Mechanisms", knows of characters: which look
// alike, which scripts they belong to, and which it recommends for identifiers.
//
// It promises that what a Table says never changes: tables lie here in files of one version each, and another version is
// another Table. It knows nothing of names.
package uts39

import (
	"embed"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

//go:embed confusables-*.txt scripts-*.txt recommended-*.txt
var files embed.FS

// Table is one version of the tables. It is read-only.
type Table struct {
	prototypes map[rune]string // of characters that have one other than themselves
	ascii      [utf8.RuneSelf]bool
	runs       []run // ascending, without overlap
	// recommended is ascending, without overlap; of its runs the scripts are not set.
	recommended []run
}

// run is characters that follow one another and have the same scripts.
type run struct {
	first, last rune
	scripts     Scripts
}

// Unicode15 has the characters of Unicode 15.0.0, and what UTS 39 said of them with Unicode 17.0.0: a later list of
// look-alikes knows more of the same characters.
var Unicode15 = sync.OnceValue(func() *Table { return mustLoad("15.0.0", "17.0.0") })

// mustLoad panics where an embedded file cannot be read: that is a build nobody can have tested.
func mustLoad(unicode, security string) *Table {
	t := &Table{prototypes: make(map[rune]string)}
	err := errors.Join(
		t.readScripts("scripts-"+unicode+".txt"),
		t.readConfusables("confusables-"+security+".txt"),
		t.readRecommended("recommended-"+security+".txt"),
	)
	if err != nil {
		panic(err)
	}
	return t
}

func (t *Table) readConfusables(name string) error {
	return lines(name, func(line string) error {
		prototype, sources, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("no colon in %q", line)
		}
		var like strings.Builder
		for hex := range strings.FieldsSeq(prototype) {
			c, err := codePoint(hex)
			if err != nil {
				return err
			}
			like.WriteRune(c)
		}
		for hex := range strings.FieldsSeq(sources) {
			c, err := codePoint(hex)
			if err != nil {
				return err
			}
			t.prototypes[c] = like.String()
			if c < utf8.RuneSelf {
				t.ascii[c] = true
			}
		}
		return nil
	})
}

func (t *Table) readScripts(name string) error {
	return lines(name, func(line string) error {
		points, codes, _ := strings.Cut(line, " ")
		r, err := readRun(points)
		if err != nil {
			return err
		}
		for code := range strings.FieldsSeq(codes) {
			r.scripts = r.scripts.Union(resolved(code))
		}
		t.runs = append(t.runs, r)
		return nil
	})
}

func (t *Table) readRecommended(name string) error {
	return lines(name, func(line string) error {
		r, err := readRun(line)
		t.recommended = append(t.recommended, r)
		return err
	})
}

// readRun reads "0041..005A".
func readRun(points string) (r run, err error) {
	first, last, _ := strings.Cut(points, "..")
	if r.first, err = codePoint(first); err != nil {
		return run{}, err
	}
	r.last, err = codePoint(last)
	return r, err
}

// lines calls f for every line of an embedded file that is no comment.
func lines(name string, f func(line string) error) error {
	text, err := files.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("read table %s: %w", name, err)
		}
	}
	return nil
}

func codePoint(hex string) (rune, error) {
	c, err := strconv.ParseUint(hex, 16, 21)
	return rune(c), err
}

// Skeleton returns the internal form of section 4: of two texts that look alike to UTS 39, the same. Default-ignorable
// characters are the caller's to refuse or to take out.
func (t *Table) Skeleton(s string) string {
	if t.plain(s) {
		return s
	}
	var out strings.Builder
	out.Grow(len(s) + 8)
	for _, c := range norm.NFD.String(s) {
		if like, ok := t.prototypes[c]; ok {
			out.WriteString(like)
		} else {
			out.WriteRune(c)
		}
	}
	return norm.NFD.String(out.String())
}

// plain reports whether s is ASCII and every character of it its own prototype.
func (t *Table) plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf || t.ascii[s[i]] {
			return false
		}
	}
	return true
}

// Prototypes calls f for every character that looks like something else, in no order.
func (t *Table) Prototypes(f func(c rune, like string)) {
	for c, like := range t.prototypes {
		f(c, like)
	}
}

// ScriptsOf returns the scripts that c is written in, and the empty set for what is no character yet, or for private
// use.
func (t *Table) ScriptsOf(c rune) Scripts {
	if r := find(t.runs, c); r != nil {
		return r.scripts
	}
	return Scripts{}
}

// Assigned reports whether c is a character in this version of Unicode.
func (t *Table) Assigned(c rune) bool { return find(t.runs, c) != nil }

// Recommended reports whether UTS 39 would have c in identifiers: not what is obsolete, technical or of limited use.
func (t *Table) Recommended(c rune) bool { return find(t.recommended, c) != nil && t.Assigned(c) }

func find(runs []run, c rune) *run {
	i := sort.Search(len(runs), func(i int) bool { return runs[i].last >= c })
	if i == len(runs) || runs[i].first > c {
		return nil
	}
	return &runs[i]
}

// EachAssigned calls f for every character, in order.
func (t *Table) EachAssigned(f func(c rune)) {
	for _, r := range t.runs {
		for c := r.first; c <= r.last; c++ {
			f(c)
		}
	}
}
