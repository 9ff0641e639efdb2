package names

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/names/uts39"
	"golang.org/x/text/secure/bidirule"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// maxMarks is how many combining marks may follow one another, and none twice in a row: what UTS 39, section 5.4, names
// as more than any language writes. More of them climb out of their line.
const maxMarks = 4

// canonical is UsernameCaseMapped of RFC 8265, with what UTS 39 adds for names that people read: nothing that cannot be
// seen, no mixed scripts, no heaps of marks.
func (f *Form) canonical(p *Policy, name string) (Key, error) {
	if name == "" {
		return "", invalid("is empty")
	}
	// No mapping makes one character of more than four.
	if len(name) > 4*utf8.UTFMax*p.MaxLength || utf8.RuneCountInString(name) > 4*p.MaxLength {
		return "", invalid("is too long: at most %d characters", p.MaxLength)
	}
	if isASCIIName(name) {
		canonical := lowerASCII(name)
		if err := f.checkASCII(p, canonical); err != nil {
			return "", err
		}
		return Key(canonical), nil
	}
	if err := f.checkVisible(name); err != nil {
		return "", err
	}
	canonical, err := settle(name)
	if err != nil {
		return "", explain(name, err)
	}
	if err := f.checkCanonical(p, canonical); err != nil {
		return "", err
	}
	if canonical != name {
		if err := f.checkSpelling(name, canonical); err != nil {
			return "", err
		}
	}
	return Key(canonical), nil
}

// usernameCaseMapped is the profile of that name in RFC 8265, section 3.3, but for its bidi rule, see mapped.
var usernameCaseMapped = precis.NewIdentifier(precis.FoldWidth, precis.LowerCase(), precis.Norm(norm.NFC))

// settled is the canonical form of what may be held as a name, whatever the policy allows of scripts, characters and length.
func (f *Form) settled(name string) (string, error) {
	switch {
	case name == "":
		return "", invalid("is empty")
	case len(name) > 4*MaxKey: // the longest spelling has 3.5 bytes for each of its canonical form, as Ｕ and two marks for ǖ
		return "", invalid("is too long: at most %d bytes", MaxKey)
	case isASCIIName(name):
		name = lowerASCII(name)
	default:
		if err := f.checkVisible(name); err != nil {
			return "", err
		}
		canonical, err := settle(name)
		if err != nil {
			return "", explain(name, err)
		}
		name = canonical
	}
	if len(name) > MaxKey {
		return "", invalid("is too long: it has %d bytes, and may have %d", len(name), MaxKey)
	}
	return name, nil
}

// mapped applies the profile once. The bidi rule of RFC 5893 is for texts with right-to-left characters; the ready-made
// profile of x/text holds all that is not ASCII to it (golang/go#17383), and would refuse 1é, _é and é- while it has 1e,
// _e and e-.
func mapped(name string) (string, error) {
	s, err := usernameCaseMapped.String(name)
	if err == nil && bidirule.DirectionString(s) != bidi.LeftToRight && !bidirule.ValidString(s) {
		return "", bidirule.ErrInvalid
	}
	return s, err
}

// errUnsettled says that a text has no canonical form that is its own. None is known.
var errUnsettled = errors.New("has no form that stays when it is made again")

// settle maps a text by RFC 8265 until the result is its own: that once is enough, RFC 8265 does not promise.
func settle(name string) (string, error) {
	if isASCIIName(name) {
		return lowerASCII(name), nil
	}
	for range 4 {
		next, err := mapped(name)
		if err != nil {
			return "", err
		}
		if next == name {
			return name, nil
		}
		name = next
	}
	return "", errUnsettled
}

// isASCIIName reports whether a text is ASCII that RFC 8265 has in usernames: all but control characters and the space.
func isASCIIName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			lower := []byte(s)
			for ; i < len(s); i++ {
				if 'A' <= s[i] && s[i] <= 'Z' {
					lower[i] += 'a' - 'A'
				}
			}
			return string(lower)
		}
	}
	return s
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// at is how errors name a character: by its code point, since it may not be seen, and by its place in the name.
func at(c rune, n int) string { return fmt.Sprintf("%U (character %d)", c, n) }

// checkVisible refuses what nobody can have meant to type into a name, each with its own reason.
func (f *Form) checkVisible(name string) error {
	n := 0
	for i, c := range name {
		n++
		switch {
		case c > ' ' && c < 0x7f:
		case c == utf8.RuneError && isInvalid(name[i:]):
			return invalid("is not valid UTF-8: byte %d begins no character", i+1)
		case c < ' ' || 0x7f <= c && c < 0xa0:
			return invalid("may not have control characters such as %s: leave it out", at(c, n))
		case isSpace(c):
			return invalid("may not have spaces such as %s: leave it out, or write . _ or -", at(c, n))
		case isBidiControl(c):
			return invalid("may not have %s: it turns the direction of writing and cannot be seen; leave it out", at(c, n))
		case isIgnorable(c):
			return invalid("may not have %s: it cannot be seen; leave it out", at(c, n))
		case isPrivate(c):
			return invalid("may not have %s: it is for private use and means something else to everyone", at(c, n))
		case isUnsettled(c):
			return invalid("may not have %s: what Unicode says of it has changed between versions", at(c, n))
		case !f.tables.uts39().Assigned(c):
			return invalid("may not have %s: it is no character of Unicode %s", at(c, n), f.tables.unicode)
		}
	}
	return nil
}

func isInvalid(s string) bool {
	_, size := utf8.DecodeRuneInString(s)
	return size == 1
}

func isSpace(c rune) bool {
	return c == ' ' || c == 0xa0 || c == 0x1680 || 0x2000 <= c && c <= 0x200a || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000
}

func isBidiControl(c rune) bool {
	return c == 0x61c || c == 0x200e || c == 0x200f || 0x202a <= c && c <= 0x202e || 0x2066 <= c && c <= 0x2069
}

// isIgnorable reports whether c has Unicode's property Default_Ignorable_Code_Point: joiners, selectors, fillers, tags,
// and places kept for more of them. PRECIS would have the joiners U+200C and U+200D in some places; a name has no need of
// them that the eye could see in all fonts.
func isIgnorable(c rune) bool {
	switch {
	case c < 0x34f:
		return c == 0xad
	case c < 0x2000:
		return c == 0x34f || c == 0x61c || c == 0x115f || c == 0x1160 || c == 0x17b4 || c == 0x17b5 || 0x180b <= c && c <= 0x180f
	case c < 0x10000:
		return 0x200b <= c && c <= 0x200f || 0x202a <= c && c <= 0x202e || 0x2060 <= c && c <= 0x206f || c == 0x3164 ||
			0xfe00 <= c && c <= 0xfe0f || c == 0xfeff || c == 0xffa0 || 0xfff0 <= c && c <= 0xfff8
	default:
		return 0x1bca0 <= c && c <= 0x1bca3 || 0x1d173 <= c && c <= 0x1d17a || 0xe0000 <= c && c <= 0xe0fff
	}
}

// isUnsettled reports whether Unicode has changed its mind about c since it came: U+1171E, a vowel sign of Ahom, was of
// another bidirectional class before 16.0. It is refused, so that a key does not hang on what is linked.
func isUnsettled(c rune) bool { return c == 0x1171e }

func isPrivate(c rune) bool {
	return 0xe000 <= c && c <= 0xf8ff || 0xf0000 <= c && c <= 0xffffd || 0x100000 <= c && c <= 0x10fffd
}

// explain says of a name that RFC 8265 refuses which character is to blame.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, errUnsettled):
		return invalid("%s", err)
	case errors.Is(err, bidirule.ErrInvalid):
		return invalid("mixes letters written from right to left with others in a way that is read in two orders: write it in one script, without digits at its beginning")
	}
	n, contextual, contextualAt := 0, rune(0), 0
	for _, c := range name {
		n++
		if isContextual(c) {
			contextual, contextualAt = c, n
		} else if _, err := mapped(string(c)); err != nil && !errors.Is(err, bidirule.ErrInvalid) {
			return invalid("may not have %s: it is no letter, digit or mark that RFC 8265 has in usernames", at(c, n))
		}
	}
	if contextual == 0 {
		return invalid("is refused by RFC 8265: characters that are not written together stand beside one another")
	}
	return invalid("may not have %s there: RFC 8265 has it only beside letters of its own script", at(contextual, contextualAt))
}

// isContextual reports whether RFC 5892, appendix A, has a rule for where c may stand. The joiners are refused before.
func isContextual(c rune) bool {
	return c == 0xb7 || c == 0x375 || c == 0x5f3 || c == 0x5f4 || c == 0x30fb || 0x660 <= c && c <= 0x669 || 0x6f0 <= c && c <= 0x6f9
}

// checkASCII is checkCanonical for ASCII, which has no marks and is all in common use.
func (f *Form) checkASCII(p *Policy, canonical string) error {
	if err := checkLength(p, canonical); err != nil {
		return err
	}
	if f.any || f.restrictive {
		return nil // ASCII's letters are of one script
	}
	return f.checkScripts(canonical)
}

func checkLength(p *Policy, canonical string) error {
	length := utf8.RuneCountInString(canonical)
	if length < p.MinLength {
		return invalid("is too short: at least %d characters", p.MinLength)
	}
	if length > p.MaxLength {
		return invalid("is too long: at most %d characters", p.MaxLength)
	}
	if len(canonical) > MaxKey {
		return invalid("is too long: it has %d bytes, and may have %d", len(canonical), MaxKey)
	}
	if canonical == "." || canonical == ".." {
		return invalid("may not be . or ..: in a path these are places")
	}
	return nil
}

// checkCanonical holds for a canonical form, so that it is its own. Places are counted in it.
func (f *Form) checkCanonical(p *Policy, canonical string) error {
	if err := checkLength(p, canonical); err != nil {
		return err
	}
	if err := checkMarks(canonical); err != nil {
		return err
	}
	if rare := f.uncommon(canonical); rare != 0 {
		before, _, _ := strings.Cut(canonical, string(rare))
		return invalid("may not have %s: it is not among the characters that are in common use in names", at(rare, utf8.RuneCountInString(before)+1))
	}
	if f.any {
		return nil
	}
	return f.checkScripts(canonical)
}

// checkMarks refuses marks without a letter and heaps of them.
func checkMarks(canonical string) error {
	if c, _ := utf8.DecodeRuneInString(canonical); isMark(c) || unicode.Is(unicode.Mc, c) {
		return invalid("may not begin with %s: it is a mark that stands on a letter", at(c, 1))
	}
	marks, previous := 0, rune(0)
	for _, c := range norm.NFD.String(canonical) {
		switch {
		case !isMark(c):
			marks = 0
		case c == previous:
			return invalid("may not have the mark %U twice in a row", c)
		default:
			marks++
		}
		if previous = c; marks > maxMarks {
			return invalid("may not have more than %d marks in a row: %U is one too many", maxMarks, c)
		}
	}
	return nil
}

func isMark(c rune) bool { return unicode.In(c, unicode.Mn, unicode.Me) }

// checkScripts refuses a name in scripts that are not written together: UTS 39, section 5.2.
func (f *Form) checkScripts(text string) error {
	shared, n := uts39.All(), 0
	mixed, mixedAt := rune(0), 0 // the first character that shares no script with those before it, or else the last
	for _, c := range text {
		n++
		of := f.tables.uts39().ScriptsOf(c)
		if !f.restrictive && of.Intersect(f.scripts).Empty() {
			return invalid("may not have %s: names here are written in %s", at(c, n), f.scripts)
		}
		if !shared.Empty() {
			shared, mixed, mixedAt = shared.Intersect(of), c, n
		}
	}
	if f.restrictive && !shared.Empty() {
		return nil
	}
	for _, mix := range f.mixes {
		if f.covers(mix, text) {
			return nil
		}
	}
	return invalid("mixes scripts: %s is of another one than those before it; write the name in one script", at(mixed, mixedAt))
}

// covers reports whether every character belongs to the mix.
func (f *Form) covers(mix uts39.Scripts, text string) bool {
	for _, c := range text {
		if f.tables.uts39().ScriptsOf(c).Intersect(mix).Empty() {
			return false
		}
	}
	return true
}
