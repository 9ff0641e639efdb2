package names

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds on what a policy may say.
const (
	MaxVersion  = math.MaxInt32
	MaxDuration = 10 * 366 * 24 * time.Hour
)

// PolicyError says which field of a policy cannot be.
type PolicyError struct{ Field, Detail string }

func (e *PolicyError) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + " " + e.Detail
}

func wrong(field, format string, args ...any) error {
	return &PolicyError{field, fmt.Sprintf(format, args...)}
}

// Validate says what is wrong with a policy. The error is a *PolicyError.
func (p *Policy) Validate() error {
	switch {
	case !p.Space.Valid():
		return wrong("space", "must be 1 to 32 of a to z, digits and -, and begin with a letter")
	case p.Version < 1 || p.Version > MaxVersion:
		return wrong("version", "must be 1 to %d", MaxVersion)
	case p.MinLength < 1 || p.MinLength > MaxKey:
		return wrong("min_length", "must be 1 to %d", MaxKey)
	case p.MaxLength < p.MinLength || p.MaxLength > MaxKey:
		return wrong("max_length", "must be min_length (%d) to %d", p.MinLength, MaxKey)
	}
	if err := p.validPrivate(); err != nil {
		return err
	}
	for word := range p.Reserved {
		if !p.isKey(word) {
			return wrong("reserved", "has %.64q, which is no key of a name: write it as it is compared, in lower case", word)
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"ttl", p.TTL}, {"shortest_ttl", p.ShortestTTL}, {"longest_ttl", p.LongestTTL}, {"cool_down", p.CoolDown},
	} {
		switch {
		case d.value < 0 || d.value > MaxDuration:
			return wrong(d.field, "must be 0 to %d seconds", int64(MaxDuration/time.Second))
		case d.value%time.Second != 0:
			return wrong(d.field, "must be whole seconds")
		}
	}
	switch {
	case p.TTL < time.Second:
		return wrong("ttl", "must be at least a second")
	case p.TTL < p.ShortestTTL:
		return wrong("ttl", "is less than shortest_ttl")
	case p.TTL > p.LongestTTL:
		return wrong("ttl", "is more than longest_ttl")
	case p.UniqueAmong != AmongAll && p.UniqueAmong != AmongActive:
		return wrong("unique_among", `must be "all" or "active"`)
	}
	return nil
}

// isKey reports whether names may have the key, or others that are longer: see ReservedKeys.
func (p *Policy) isKey(word Key) bool {
	if p.Form == nil || p.Private != nil {
		key, err := p.HeldKey(string(word))
		return err == nil && key == word
	}
	if word == "" || len(word) > MaxKey {
		return false
	}
	if p.ReservesLooks() {
		return p.look(word) == word && !hasUnseen(string(word))
	}
	if p.KeepsLookalikesApart() { // it may have capitals, which no canonical form has: 0 looks like O
		return p.Skeleton(word) == word
	}
	_, ok := p.ReservedKeys(string(word))[word]
	return ok
}

// hasUnseen reports whether a text has what neither a name has nor what one looks like.
func hasUnseen(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool {
		return c < ' ' || 0x7f <= c && c < 0xa0 || isSpace(c) || isBidiControl(c) || isIgnorable(c) || isPrivate(c)
	})
}

// AppendJSON appends what the policy asks of names: all of it, in one order, without space and version. Two policies that
// ask the same have the same JSON.
func (p *Policy) AppendJSON(b []byte) []byte {
	b = fmt.Appendf(b, `{"min_length":%d,"max_length":%d,"reserved":[`, p.MinLength, p.MaxLength)
	for i, word := range p.ReservedWords() {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = jsontext.AppendQuote(b, string(word)) // a key is UTF-8
	}
	b = fmt.Appendf(b, `],"ttl_seconds":%d,"shortest_ttl_seconds":%d,"longest_ttl_seconds":%d,"cool_down_seconds":%d,"previous_may_return":%t,"unique_among":"%s"`,
		int64(p.TTL/time.Second), int64(p.ShortestTTL/time.Second), int64(p.LongestTTL/time.Second), int64(p.CoolDown/time.Second), p.PreviousMayReturn, p.UniqueAmong)
	if p.Form != nil {
		b = p.Form.appendJSON(append(b, `,"unicode":`...))
	}
	if p.Private != nil {
		b = p.Private.appendJSON(b)
	}
	return append(b, '}')
}

// ReservedWords lists what is reserved, in order.
func (p *Policy) ReservedWords() []Key {
	words := make([]Key, 0, len(p.Reserved))
	for word := range p.Reserved {
		words = append(words, word)
	}
	slices.Sort(words)
	return words
}

// SameAs reports whether the policies ask the same, whatever their versions.
func (p *Policy) SameAs(other *Policy) bool {
	return p.Space == other.Space && bytes.Equal(p.AppendJSON(nil), other.AppendJSON(nil))
}

// policyFields are what a policy says, all of which it must; one of names beyond ASCII says unicode as well, a private one
// what checkPrivateFields asks for.
var policyFields = []string{
	"min_length", "max_length", "reserved", "ttl_seconds", "shortest_ttl_seconds", "longest_ttl_seconds", "cool_down_seconds",
	"previous_may_return", "unique_among",
}

// ReadPolicy reads the JSON of a policy. It is strict: a field that is missing, unknown or of another type could change
// what is decided. What a later dibs adds comes with a higher version of the rules, which is looked at before this. The
// error is a *PolicyError, or wraps ErrTables.
func ReadPolicy(space Space, version int, text []byte) (*Policy, error) {
	p := &Policy{Space: space, Version: version}
	d := policyReader{jsontext.NewDecoder(bytes.NewReader(text))}
	if err := d.policy(p); err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, wrong("policy", "has something behind it")
	}
	return p, p.Validate()
}

// policyReader reads one policy. Its errors' texts are our own: a dead letter's reason must not depend on a library.
type policyReader struct{ *jsontext.Decoder }

var errPolicyJSON = &PolicyError{"policy", "is not valid JSON in UTF-8, or repeats a field"}

func (d policyReader) policy(p *Policy) error {
	if d.PeekKind() != '{' {
		return wrong("policy", "is not a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return errPolicyJSON
	}
	seen := make(map[string]bool, len(policyFields))
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return errPolicyJSON
		}
		field := strings.Clone(name.String())
		seen[field] = true
		if err := d.field(p, field); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return errPolicyJSON
	}
	for _, field := range policyFields {
		if !seen[field] {
			return wrong(field, "is missing")
		}
	}
	return checkPrivateFields(seen)
}

func (d policyReader) field(p *Policy, field string) (err error) {
	switch field {
	case "min_length":
		p.MinLength, err = d.length(field)
	case "max_length":
		p.MaxLength, err = d.length(field)
	case "reserved":
		p.Reserved, err = d.words(field)
	case "ttl_seconds":
		p.TTL, err = d.seconds(field)
	case "shortest_ttl_seconds":
		p.ShortestTTL, err = d.seconds(field)
	case "longest_ttl_seconds":
		p.LongestTTL, err = d.seconds(field)
	case "cool_down_seconds":
		p.CoolDown, err = d.seconds(field)
	case "previous_may_return":
		p.PreviousMayReturn, err = d.bool(field)
	case "unique_among":
		var s string
		s, err = d.text(field)
		p.UniqueAmong = Among(s)
	case "unicode":
		p.Form, err = d.form()
	default:
		return d.privateField(p, field)
	}
	return err
}

func (d policyReader) length(field string) (int, error) {
	n, err := d.integer(field, math.MaxInt32)
	return int(n), err
}

func (d policyReader) seconds(field string) (time.Duration, error) {
	n, err := d.integer(field, int64(MaxDuration/time.Second))
	return time.Duration(n) * time.Second, err
}

// integer reads a whole number from 0 to most.
func (d policyReader) integer(field string, most int64) (int64, error) {
	if d.PeekKind() != '0' {
		return 0, d.not(field, "a number")
	}
	raw, err := d.ReadValue()
	if err != nil {
		return 0, errPolicyJSON
	}
	n := int64(0)
	for _, c := range raw {
		if c < '0' || c > '9' || n > most {
			return 0, wrong(field, "must be a whole number from 0 to %d", most)
		}
		n = 10*n + int64(c-'0')
	}
	if n > most {
		return 0, wrong(field, "must be a whole number from 0 to %d", most)
	}
	return n, nil
}

func (d policyReader) bool(field string) (bool, error) {
	if k := d.PeekKind(); k != 't' && k != 'f' {
		return false, d.not(field, "true or false")
	}
	t, err := d.ReadToken()
	if err != nil {
		return false, errPolicyJSON
	}
	return t.Bool(), nil
}

func (d policyReader) text(field string) (string, error) {
	if d.PeekKind() != '"' {
		return "", d.not(field, "a string")
	}
	t, err := d.ReadToken()
	if err != nil {
		return "", errPolicyJSON
	}
	return strings.Clone(t.String()), nil
}

func (d policyReader) words(field string) (map[Key]struct{}, error) {
	all, err := d.texts(field)
	if err != nil {
		return nil, err
	}
	words := make(map[Key]struct{}, len(all))
	for _, word := range all {
		if _, twice := words[Key(word)]; twice {
			return nil, wrong(field, "has %.64q twice", word)
		}
		words[Key(word)] = struct{}{}
	}
	return words, nil
}

// not says that the value ahead is of another kind, unless it is no JSON at all.
func (d policyReader) not(field, what string) error {
	if err := d.SkipValue(); err != nil {
		return errPolicyJSON
	}
	return wrong(field, "is not %s", what)
}
