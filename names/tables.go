package names

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/names/uts39"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// Tables names a set of tables, and the version of the rules that this package makes of them: whatever may give some
// name another key has another name. The tables of a policy say how its keys were made, so those that were in use
// stay in the build.
type Tables string

// TablesUnicode15 are the characters of Unicode 15.0.0 and the look-alikes of UTS 39 as of 17.0.0, rules 1.
const TablesUnicode15 Tables = "unicode-15.0.0/confusables-17.0.0/1"

// TablesLatest are those to begin a new policy with.
const TablesLatest = TablesUnicode15

// ErrTables says that this build does not make the keys that a policy asks for: it lacks the tables, or what it links
// gives another result than they do. Whoever decides by that policy must stop.
var ErrTables = errors.New("this build lacks the Unicode tables of the policy")

// tables are one set of tables, and the digest of what they make of all characters.
type tables struct {
	name    Tables
	unicode string
	uts39   func() *uts39.Table
	extra   map[rune]string // look-alikes besides those of uts39
	want    string          // digest of what this build must make of them
	check   sync.Once
	err     error
	like    [2]map[rune]string       // what characters look like: as typed, and in lower case
	ascii   [2][utf8.RuneSelf]string // the same for all of ASCII
	looks   [2]looks                 // of the recommended characters, and of all
}

// looks are what findLooks has found: every form with these tables and characters has the same.
type looks struct {
	find    sync.Once
	looks   map[rune][]look
	doubles map[rune]bool
}

// known are the tables that policies may name.
var known = map[Tables]*tables{
	TablesUnicode15: {
		name: TablesUnicode15, unicode: "15.0.0", uts39: uts39.Unicode15,
		want: "0d06519682a6e92e03a3327d7944f50764012045ac648f3b707595f8b86e5f9f",
	},
}

// tablesOf returns tables by their name, once it is clear that with what is linked they still give what they gave when
// they were named.
func tablesOf(name Tables) (*tables, error) {
	t, ok := known[name]
	if !ok {
		have := make([]string, 0, len(known))
		for name := range known {
			have = append(have, string(name))
		}
		slices.Sort(have)
		return nil, fmt.Errorf("%w: it has no %q, but %s", ErrTables, name, strings.Join(have, ", "))
	}
	t.check.Do(func() {
		t.prepare()
		if got := t.digest(); got != t.want {
			t.err = fmt.Errorf("%w: with %s, %s gives other keys (%.12s, not %.12s) than when it was named", ErrTables, linked(), name, got, t.want)
		}
	})
	if t.err != nil {
		return nil, t.err
	}
	return t, nil
}

// digest says in one value what this build makes of every character: its canonical form and what that looks like, alone,
// taken apart, after a letter written from right to left, and twice after one from left to right. What it makes of texts follows from that, but for the
// rules of RFC 5892's appendix A, which name their characters. A Go or x/text with other tables shows here.
func (t *tables) digest() string {
	f := &Form{tables: t, chars: CharactersAll, confusables: ConfusablesAllowed, any: true}
	p := &Policy{MinLength: 1, MaxLength: MaxKey, Form: f}
	h := sha256.New()
	one := func(name string) {
		canonical, err := f.canonical(p, name)
		if err != nil {
			fmt.Fprint(h, "\x00-")
			return
		}
		fmt.Fprint(h, "\x00", canonical)
		if !isASCII(string(canonical)) {
			fmt.Fprint(h, "\x00", t.alike(string(canonical), ConfusablesLowerCase))
		}
		fmt.Fprint(h, "\x00", t.alike(name, ConfusablesAsTyped))
	}
	t.uts39().EachAssigned(func(c rune) {
		s := string(c)
		one(s)
		if nfd := norm.NFD.String(s); nfd != s {
			one(nfd)
		}
		if 0x3400 <= c && c < 0xa000 || 0xac00 <= c && c < 0xd7a4 || 0x20000 <= c {
			return // ideographs and Hangul, four characters in five, are all the same to their neighbours
		}
		one("א" + s)
		one("a" + s + s)
	})
	return hex.EncodeToString(h.Sum(nil))
}

// linked names what the tables are made with, for an error.
func linked() string {
	return fmt.Sprintf("%s and the Unicode %s of golang.org/x/text", runtime.Version(), precis.UnicodeVersion)
}
