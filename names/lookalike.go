package names

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Key returns the key of a name that somebody may ask for: what is unique in the space and what records are routed by.
// Where look-alikes are kept apart, that is not the canonical form but what it looks like: names that look alike must meet
// in one partition, since nothing else could tell the second from a free name. Whether the holder's name is the same or
// only looks the same, Same says.
func (p *Policy) Key(name string) (Key, error) {
	canonical, err := p.Canonical(name)
	if err != nil {
		return "", err
	}
	return p.keyOf(canonical)
}

// HeldKey returns the key of a name that may be held, whether or not anybody could ask for it now: a name keeps its key
// when a later policy does not allow its length, its scripts or its characters any more, and its holder can still give it
// up. Of a name that Key has a key for it is that.
func (p *Policy) HeldKey(name string) (Key, error) {
	if p.Private != nil { // it may be held since an earlier pepper
		key, _, err := privateKey(name)
		return key, err
	}
	if p.Form == nil || p.Form.chars == CharactersASCII {
		canonical, err := asciiKey(name, 1, MaxKey)
		if err != nil {
			return "", err
		}
		return p.keyOf(canonical)
	}
	canonical, err := p.Form.settled(name)
	if err != nil {
		return "", err
	}
	return p.keyOf(Key(canonical))
}

func (p *Policy) keyOf(canonical Key) (Key, error) {
	if p.Form == nil || p.Private != nil {
		return canonical, nil
	}
	key := p.Skeleton(canonical)
	if len(key) > MaxKey {
		return "", invalid("is too long: its key has %d bytes, and may have %d", len(key), MaxKey)
	}
	return key, nil
}

// KeepsLookalikesApart reports whether a key may stand for several names that look alike.
func (p *Policy) KeepsLookalikesApart() bool {
	return p.Private == nil && p.Form != nil && p.Form.confusables != ConfusablesAllowed
}

// KeyAfter returns the key that a name gets under this policy which has the given one under another; typed is how its
// holder wrote it, empty where nobody has it. The error says that it is no name any more.
func (p *Policy) KeyAfter(key Key, typed string) (Key, error) {
	switch {
	case p.Private != nil:
		return p.Key(string(key))
	case typed != "":
		return p.HeldKey(typed)
	case p.isKey(key):
		return key, nil
	case p.Form == nil:
		return p.HeldKey(string(key))
	}
	return p.keyOf(Key(p.fold(string(key))))
}

// MayMoveKeys reports whether some name that is held under the policy may have another key under the next one, or none:
// then it could not be found any more.
func (p *Policy) MayMoveKeys(next *Policy) bool {
	ascii := func(p *Policy) bool { return p.Form == nil || p.Form.chars == CharactersASCII }
	looks := func(p *Policy) Confusables {
		if p.Form == nil {
			return ConfusablesAllowed
		}
		return p.Form.confusables
	}
	switch {
	case p.Private != nil || next.Private != nil:
		return !p.SameKeys(next)
	case looks(p) != looks(next), !ascii(p) && ascii(next):
		return true
	case ascii(p) && looks(p) == ConfusablesAllowed: // RFC 8265 makes the same of ASCII, in all versions
		return false
	}
	return p.Form.spec.Tables != next.Form.spec.Tables
}

// Skeleton returns the key of a canonical form: what it looks like, where look-alikes are kept apart, else the same. It
// is its own skeleton.
func (p *Policy) Skeleton(canonical Key) Key {
	if p.Form == nil || p.Form.confusables == ConfusablesAllowed {
		return canonical
	}
	return Key(p.Form.tables.alike(string(canonical), p.Form.confusables))
}

// Same reports whether two names with one key are the same name, or else only look alike. Either may have come under
// another version of the policy, and need not be a name by this one.
func (p *Policy) Same(a, b string) bool { return a == b || p.fold(a) == p.fold(b) }

// ReservedKeys returns the keys that words stand for, for Policy.Reserved. A word need not be a name: one that is too
// short keeps its look-alikes from those who may be longer.
func (p *Policy) ReservedKeys(words ...string) map[Key]struct{} {
	m := make(map[Key]struct{}, len(words))
	for _, word := range words {
		m[p.look(p.Skeleton(Key(p.fold(word))))] = struct{}{}
	}
	return m
}

// ReservesLooks reports whether reserved words are compared by what names look like although look-alikes are allowed.
func (p *Policy) ReservesLooks() bool { return p.Form != nil && p.Form.spec.Reserved == ReservedByLook }

// ReservingLooks is the policy as it is written now: policies that rules 2 applied compare reserved words by their canonical form.
func (p *Policy) ReservingLooks() *Policy {
	if p.Form == nil || p.Form.confusables != ConfusablesAllowed || p.ReservesLooks() {
		return p
	}
	next, form := *p, *p.Form
	form.spec.Reserved, next.Form = ReservedByLook, &form
	words := make([]string, 0, len(p.Reserved))
	for word := range p.Reserved {
		words = append(words, string(word))
	}
	next.Reserved = next.ReservedKeys(words...)
	return &next
}

// look is what a key is compared with reserved words by.
func (p *Policy) look(k Key) Key {
	if !p.ReservesLooks() {
		return k
	}
	return Key(p.Form.tables.alike(string(k), ConfusablesAsTyped))
}

// CanReserve says why a word is in no name, so that to reserve it would be to no purpose. It need not be one: it may be too
// short, or in another script.
func (p *Policy) CanReserve(word string) error {
	if p.Form == nil || p.Form.chars == CharactersASCII {
		_, err := asciiKey(word, 1, MaxKey)
		return err
	}
	_, err := p.Form.settled(word)
	return err
}

// Asked is the canonical form of a name as far as it tells names with one key apart: empty where it is the key itself.
func (p *Policy) Asked(name string, key Key) string {
	if !p.KeepsLookalikesApart() {
		return ""
	}
	if canonical := p.fold(name); canonical != string(key) && p.Skeleton(Key(canonical)) == key {
		return canonical
	}
	return ""
}

// fold returns the canonical form of a word without asking whether it is a name.
func (p *Policy) fold(word string) string {
	if p.Form == nil || p.Form.chars == CharactersASCII {
		return lowerASCII(word)
	}
	if mapped, err := settle(word); err == nil {
		return mapped
	}
	return word
}

// alike returns what a text looks like: its skeleton by UTS 39, each character of it again until it stays, so that what
// it looks like looks like itself. As typed, a letter looks like what it looks like in capitals or in small letters; so
// what it looks like is taken in small letters, and i, whose capital looks like l, is one with l.
//
// Whatever has the same skeleton looks alike here, too: alike sees of a text its skeleton alone.
func (t *tables) alike(s string, c Confusables) string {
	if isASCII(s) {
		return t.asciiAlike(s, c)
	}
	s = t.skeletonOf(s)
	like := t.like[column(c)]
	if !strings.ContainsFunc(s, func(r rune) bool { _, ok := like[r]; return ok }) {
		return undotted(s, c)
	}
	var out strings.Builder
	out.Grow(len(s) + 8)
	for _, r := range s {
		if to, ok := like[r]; ok {
			out.WriteString(to)
		} else {
			out.WriteRune(r)
		}
	}
	return undotted(norm.NFD.String(out.String()), c)
}

// dotAbove is the mark that fonts show in place of the dot which i and j have: nobody sees that it is there.
const dotAbove = 0x307

// undotted leaves out the dots that are set upon letters which have one, of which UTS 39 does not speak: admi̇n, with a
// U+0307, looks like admin. An l with a dot looks like i. It takes what is taken apart (NFD).
func undotted(s string, c Confusables) string {
	if !strings.ContainsRune(s, dotAbove) {
		return s
	}
	out := make([]rune, 0, len(s))
	base := -1 // where the letter is that marks stand on
	for _, r := range s {
		if r == dotAbove && base >= 0 {
			switch out[base] {
			case 'i', 'j', 'ʝ', 'ᶖ', '\U0001df1a':
				continue
			case 'ȷ':
				out[base] = 'j'
				continue
			case 'l':
				if c == ConfusablesLowerCase {
					out[base] = 'i'
				}
				continue
			}
		}
		if !isMark(r) {
			base = len(out)
		}
		out = append(out, r)
	}
	return string(out)
}

// settled returns what one character looks like in the end. None takes more than three steps.
func (t *tables) settled(r rune, c Confusables) string {
	s := string(r)
	for {
		next := t.step(s, c)
		if next == s {
			return s
		}
		s = next
	}
}

// step is one round of settled.
func (t *tables) step(s string, c Confusables) string {
	s = strings.Map(listed, t.skeletonOf(s))
	if c == ConfusablesAsTyped {
		s = strings.Map(t.lowerLetter, s)
	}
	return s
}

// listed makes good what UTS 39 lists and its own algorithm, or ours, does not come to: Ơ looks like O', but is taken
// apart into O and a horn before it is looked up; the wide ［ looks like ( and － like 一, but they are [ and - by then.
func listed(c rune) rune {
	switch c {
	case 0x31b:
		return '\''
	case '[':
		return '('
	case ']':
		return ')'
	case 'ー':
		return '-'
	}
	return c
}

func (t *tables) skeletonOf(s string) string {
	for c, like := range t.extra {
		s = strings.ReplaceAll(s, string(c), like)
	}
	return t.uts39().Skeleton(s)
}

// lowerLetter returns the small letter of c, and one for all that look like l in some case. What is no character yet may
// become a capital one day, and is left alone: a prototype may be newer than these tables.
func (t *tables) lowerLetter(c rune) rune {
	if c < utf8.RuneSelf || t.uts39().Assigned(c) {
		c = unicode.ToLower(c)
	}
	if c == 'i' {
		return 'l'
	}
	return c
}

// asciiAlike is alike without a search: every character of ASCII has its answer ready.
func (t *tables) asciiAlike(s string, c Confusables) string {
	like := &t.ascii[column(c)]
	for i := 0; i < len(s); i++ {
		if one := like[s[i]]; len(one) == 1 && one[0] == s[i] {
			continue
		}
		var out strings.Builder
		out.Grow(len(s) + 8)
		out.WriteString(s[:i])
		for ; i < len(s); i++ {
			out.WriteString(like[s[i]])
		}
		return out.String()
	}
	return s
}

func column(c Confusables) int {
	if c == ConfusablesLowerCase {
		return 1
	}
	return 0
}

// prepare fills in what every character looks like.
func (t *tables) prepare() {
	for _, c := range []Confusables{ConfusablesAsTyped, ConfusablesLowerCase} {
		like := make(map[rune]string)
		fill := func(r rune) {
			if looks := t.settled(r, c); looks != string(r) {
				like[r] = looks
			}
		}
		t.uts39().Prototypes(func(r rune, _ string) { fill(r) })
		t.uts39().EachAssigned(func(r rune) {
			if _, ok := t.extra[r]; ok || unicode.ToLower(r) != r || listed(r) != r || r < utf8.RuneSelf {
				fill(r)
			}
		})
		t.like[column(c)] = like
		for b := range t.ascii[0] {
			t.ascii[column(c)][b] = string(rune(b))
			if looks, ok := like[rune(b)]; ok {
				t.ascii[column(c)][b] = looks
			}
		}
	}
}
