package names

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/names/uts39"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// A name has one key, but two looks where its capitals look like other letters than its small ones: a Greek Ν looks like
// N, its small ν like v. The key is what the small letters look like; a spelling whose looks are somebody else's to have
// is refused. So no two names that are held look alike as they were typed.
//
// Not every such spelling can do harm: Виктор, with a capital that looks like B, has the look of no other name, since
// nobody may mix Latin and Cyrillic. What has to be known is in which scripts a look can be written.

// look is what some characters look like, and the scripts that they belong to: small has those of the characters that are
// their own canonical form, typed those of all.
type look struct {
	letters      []letter
	small, typed uts39.Scripts
}

// letter is a character and the marks on it, of which only which they are counts: their order is not that of typing.
type letter struct {
	base  rune
	marks []rune
}

// letters takes a text apart. Marks before the first letter stand on nothing, and are left out.
func letters(text string) []letter {
	var all []letter
	for _, c := range text {
		if !isMark(c) {
			all = append(all, letter{base: c})
		} else if len(all) > 0 {
			last := &all[len(all)-1]
			last.marks = append(last.marks, c)
		}
	}
	return all
}

// within reports whether the letter is, with some more marks, the other.
func (l letter) within(other letter) bool {
	for _, mark := range l.marks {
		if !slices.Contains(other.marks, mark) {
			return false
		}
	}
	return l.base == other.base
}

// findLooks fills in what the characters look like that names may have, except for those that look like themselves, and
// which capitals look like another character of their script: such as З and Ӡ, or some of Warang Citi.
func (f *Form) findLooks() {
	type scripts struct{ small, typed uts39.Scripts }
	type capital struct {
		c       rune
		scripts uts39.Scripts
		key     string
	}
	by, capitals := make(map[string]scripts), make(map[string][]capital) // by what they look like, and by their skeletons
	table := f.tables.uts39()
	table.EachAssigned(func(c rune) {
		typed := string(c)
		looks := f.tables.alike(width.Fold.String(typed), f.confusables)
		if looks == typed {
			return
		}
		canonical, err := settle(typed)
		if err != nil || f.uncommon(canonical) != 0 {
			return
		}
		s := by[looks]
		s.typed = s.typed.Union(table.ScriptsOf(c))
		if canonical == typed {
			s.small = s.small.Union(table.ScriptsOf(c))
		}
		by[looks] = s
		if key := f.tables.alike(canonical, f.confusables); key != looks {
			skeleton := f.tables.skeletonOf(width.Fold.String(typed))
			capitals[skeleton] = append(capitals[skeleton], capital{c, table.ScriptsOf(c), key})
		}
	})
	f.looks, f.doubles = make(map[rune][]look), make(map[rune]bool)
	for text, s := range by {
		if l := letters(text); len(l) > 0 {
			f.looks[l[0].base] = append(f.looks[l[0].base], look{l, s.small, s.typed})
		}
	}
	table.EachAssigned(func(c rune) {
		alike := capitals[f.tables.skeletonOf(string(c))]
		if len(alike) == 0 {
			return
		}
		canonical, err := settle(string(c))
		if err != nil || f.uncommon(canonical) != 0 {
			return
		}
		key := f.tables.alike(canonical, f.confusables)
		for _, one := range alike {
			if one.key != key && !one.scripts.Intersect(table.ScriptsOf(c)).Empty() {
				f.doubles[one.c] = true
			}
		}
	})
}

// checkSpelling refuses a spelling whose looks another name may have, under another key.
func (f *Form) checkSpelling(name, canonical string) error {
	if f.confusables != ConfusablesAsTyped {
		return nil
	}
	spelt := width.Fold.String(name)
	looks := f.tables.alike(spelt, f.confusables)
	if looks == f.tables.alike(canonical, f.confusables) || !f.any && !f.hasDouble(spelt) && !f.elsewhere(looks, canonical) {
		return nil
	}
	n := 0
	for _, c := range spelt {
		n++
		small := string(unicode.ToLower(c))
		if f.tables.alike(string(c), f.confusables) != f.tables.alike(small, f.confusables) {
			return invalid("may not have %s as a capital letter: with it the name looks like %.40q, and in small letters like another; write %s", at(c, n), looks, small)
		}
	}
	return invalid("looks like %.40q as it is written, and like another name in small letters: write it in small letters", looks)
}

// elsewhere reports whether a text can be the looks of a name other than the one with this canonical form: one in another
// script, in any letters, or one in the same, in small letters. What two capitals of one script can do is hasDouble's.
func (f *Form) elsewhere(text, canonical string) bool {
	own := uts39.All()
	for _, c := range canonical {
		own = own.Intersect(f.tables.uts39().ScriptsOf(c))
	}
	looks := letters(text)
	if f.restrictive {
		small := f.writtenIn(looks, func(l look) uts39.Scripts { return l.small })
		typed := f.writtenIn(looks, func(l look) uts39.Scripts { return l.typed })
		if !small.Empty() || !typed.Minus(own).Empty() {
			return true
		}
	}
	for _, mix := range f.mixes {
		in := func(l look) uts39.Scripts {
			of := l.small
			if !mix.Minus(own).Empty() {
				of = l.typed
			}
			if of.Intersect(mix).Empty() {
				return uts39.Scripts{}
			}
			return uts39.All()
		}
		if !f.writtenIn(looks, in).Empty() {
			return true
		}
	}
	return false
}

// hasDouble reports whether a text has a capital that looks like a character of its script with another key.
func (f *Form) hasDouble(spelt string) bool {
	double := func(c rune) bool { return f.doubles[c] }
	return strings.ContainsFunc(spelt, double) || strings.ContainsFunc(norm.NFC.String(spelt), double) || strings.ContainsFunc(norm.NFD.String(spelt), double)
}

// writtenIn returns the scripts in which there are characters that together have these looks. Marks that are left over
// are in all scripts.
func (f *Form) writtenIn(looks []letter, of func(look) uts39.Scripts) uts39.Scripts {
	from := make([]uts39.Scripts, len(looks)+1) // the scripts for all from there on
	from[len(looks)] = uts39.All()
	for i := len(looks) - 1; i >= 0; i-- {
		base := looks[i].base
		if f.uncommon(string(base)) == 0 {
			itself := f.tables.uts39().ScriptsOf(base)
			from[i] = of(look{small: itself, typed: itself}).Intersect(from[i+1])
		}
		for _, l := range f.looks[base] {
			end := i + len(l.letters)
			if end <= len(looks) && slices.EqualFunc(l.letters, looks[i:end], letter.within) {
				from[i] = from[i].Union(of(l).Intersect(from[end]))
			}
		}
	}
	return from[0]
}

// uncommon returns the first character that a name of this form may not have for being rare, and 0 if there is none.
func (f *Form) uncommon(canonical string) rune {
	if f.chars != CharactersRecommended {
		return 0
	}
	for _, c := range canonical {
		if c >= utf8.RuneSelf && !f.tables.uts39().Recommended(c) {
			return c
		}
	}
	return 0
}
