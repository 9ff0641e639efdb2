package names

import (
	"maps"
	"time"
)

// Among says whom names are unique among.
type Among string

// The ways in which names are unique.
const (
	AmongAll    Among = "all"    // a deactivated owner keeps the name
	AmongActive Among = "active" // a deactivated owner's name is free, and comes back if it still is
)

// Policy is what a space asks of its names. Policies become valid through the log, so that a decision depends on
// nothing else; a Policy is never changed once it is in use.
type Policy struct {
	Space   Space
	Version int
	// MinLength and MaxLength bound the canonical form, in characters.
	MinLength, MaxLength int
	// Reserved holds the keys that nobody gets: see ReservedKeys.
	Reserved map[Key]struct{}
	// TTL is how long a reservation holds that does not say, ShortestTTL the least one can ask for, and LongestTTL how long
	// one can hold, extensions included.
	TTL, ShortestTTL, LongestTTL time.Duration
	// CoolDown is how long a released name is nobody else's; in that time its previous owner may claim it, if
	// PreviousMayReturn.
	CoolDown          time.Duration
	PreviousMayReturn bool
	UniqueAmong       Among
	// Form is how names are written and what makes two of them one. Defaults to nil: ASCII, compared in lower case.
	Form *Form
	// Private is how keys are made of what must not be written down. Defaults to nil: they are made of names, which are. In a
	// private space what is asked for is the key itself.
	Private *Private
}

// Policies are the policies that hold at one position of a partition, by space. They are never changed once they are in
// use: see With.
type Policies map[Space]*Policy

// With returns the policies with another one in place of its space's.
func (ps Policies) With(p *Policy) Policies {
	next := make(Policies, len(ps)+1)
	maps.Copy(next, ps)
	next[p.Space] = p
	return next
}

// Version is that of a space's policy; 0 for a space that there is not.
func (ps Policies) Version(s Space) int {
	if p := ps[s]; p != nil {
		return p.Version
	}
	return 0
}

// Builtin returns the policies that hold from the start of every log: the space username, version 1.
func Builtin() Policies { return Policies{Username: usernameV1} }

var usernameV1 = &Policy{
	Space: Username, Version: 1,
	MinLength: 3, MaxLength: 32,
	Reserved: reservedSet(
		// The mailboxes of RFC 2142, sections 3 to 5.
		"info", "marketing", "sales", "support",
		"abuse", "noc", "security",
		"postmaster", "hostmaster", "usenet", "news", "webmaster", "www", "uucp", "ftp",
		// Names that programs take for somebody or nobody.
		"root", "admin", "system", "null", "undefined",
	),
	TTL: 15 * time.Minute, LongestTTL: 7 * 24 * time.Hour,
	PreviousMayReturn: true,
	UniqueAmong:       AmongAll,
}

func reservedSet(words ...Key) map[Key]struct{} {
	m := make(map[Key]struct{}, len(words))
	for _, w := range words {
		m[w] = struct{}{}
	}
	return m
}

// Canonical returns the canonical form of a name that somebody may ask for, or an *InvalidError that says what is wrong
// with it: its key, unless the policy keeps look-alikes apart (see Key). Whether the key is reserved is another question:
// see IsReserved.
func (p *Policy) Canonical(name string) (Key, error) {
	if p.Private != nil {
		return p.activeKey(name)
	}
	if p.Form != nil && p.Form.chars != CharactersASCII {
		return p.Form.canonical(p, name)
	}
	return asciiKey(name, p.MinLength, p.MaxLength)
}

// asciiKey is the canonical form of names of ASCII that have so many characters.
func asciiKey(name string, least, most int) (Key, error) {
	if name == "" {
		return "", invalid("is empty")
	}
	upper := false
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return "", invalid("may have the letters a to z, digits and . _ - only; character %d is something else", i+1) // all before it is ASCII
		}
	}
	if len(name) < least {
		return "", invalid("is too short: at least %d characters", least)
	}
	if len(name) > most {
		return "", invalid("is too long: at most %d characters", most)
	}
	if !alphanumeric(name[0]) || !alphanumeric(name[len(name)-1]) {
		return "", invalid("must start and end with a letter or a digit")
	}
	if !upper {
		return Key(name), nil
	}
	lower := []byte(name)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + ('a' - 'A')
		}
	}
	return Key(lower), nil
}

// IsReserved reports whether nobody may have the key.
func (p *Policy) IsReserved(k Key) bool {
	if len(p.Reserved) == 0 {
		return false
	}
	_, ok := p.Reserved[p.look(k)]
	return ok
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
