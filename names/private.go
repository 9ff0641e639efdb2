package names

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Private is how the keys of a private space are made: with a secret, its pepper, of a value that is written nowhere. It
// is read-only.
type Private struct {
	// Pepper is the version of the secret, and Check tells whether one has it: see PepperCheck. Both are missing in a policy
	// that has not been given its pepper: see WithPepper.
	Pepper int
	Check  string
	// Form is that of the one value; empty where there are Fields.
	Form ValueForm
	// Fields are the values that are unique together, in the order in which they go into the key.
	Fields []Field
}

// Field is one of the values that are unique together.
type Field struct {
	Name string
	Form ValueForm
}

// ValueForm is what makes two spellings of a value one.
type ValueForm string

// The forms of values.
const (
	FormName  ValueForm = "name"  // as a name of the policy would be: ASCII in lower case, or as its unicode says
	FormEmail ValueForm = "email" // the domain in lower case, everything else as it is
	FormExact ValueForm = "exact" // as it is, byte for byte
)

// Value is what a private key is made of: one text, or one for each field.
type Value struct {
	Name   string
	Fields map[string]string
}

// MaxFields is how many fields a policy may have.
const MaxFields = 16

// Errors of making a private key, beside that of a value, an *InvalidError.
var (
	// ErrNoPepper: the secret of the policy's pepper is not there.
	ErrNoPepper = errors.New("the pepper is missing")
	// ErrOtherPepper: there is a secret of that version, and it is not the one that the space's keys are made with.
	ErrOtherPepper = errors.New("the pepper is another one than that of the space")
)

// Peppers are secrets by space and version.
type Peppers map[Space]map[int][]byte

// Of returns the secret that a private policy asks for. The error wraps ErrNoPepper or ErrOtherPepper: with another secret
// there would be a second key for one value.
func (ps Peppers) Of(p *Policy) ([]byte, error) {
	secret := ps[p.Space][p.Private.Pepper]
	switch {
	case len(secret) == 0:
		return nil, fmt.Errorf("space %s, version %d: %w", p.Space, p.Private.Pepper, ErrNoPepper)
	case !hmac.Equal([]byte(PepperCheck(secret, p.Space)), []byte(p.Private.Check)):
		return nil, fmt.Errorf("space %s, version %d: %w", p.Space, p.Private.Pepper, ErrOtherPepper)
	}
	return secret, nil
}

// Latest is the highest version of a space's pepper; 0 where it has none.
func (ps Peppers) Latest(s Space) int {
	latest := 0
	for version := range ps[s] {
		latest = max(latest, version)
	}
	return latest
}

// Key makes the key of a value under a private policy. The error wraps ErrNoPepper or ErrOtherPepper, or is an
// *InvalidError, which says nothing of what the value is.
func (ps Peppers) Key(p *Policy, v Value) (Key, error) {
	secret, err := ps.Of(p)
	if err != nil {
		return "", err
	}
	return p.PrivateKey(secret, v)
}

// Lacking says which of the private policies cannot be followed with these peppers, and why.
func (ps Peppers) Lacking(policies Policies) error {
	var all []error
	for _, space := range slices.Sorted(maps.Keys(policies)) {
		if p := policies[space]; p.Private != nil {
			if _, err := ps.Of(p); err != nil {
				all = append(all, err)
			}
		}
	}
	return errors.Join(all...)
}

// What a pepper's HMAC is of begins with one of these, so that none of them can be taken for another.
const (
	purposeKey   = "key"
	purposeCheck = "check"
)

// peppered is HMAC-SHA-256 over parts, each with its length before it: four bytes, the highest first.
func peppered(secret []byte, purpose string, space Space, values ...string) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, part := range append([]string{purpose, string(space)}, values...) {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}

// PepperCheck tells one secret from another without telling what it is: the first eight bytes of an HMAC, in hexadecimal
// digits.
func PepperCheck(secret []byte, space Space) string {
	return hex.EncodeToString(peppered(secret, purposeCheck, space)[:8])
}

// WithPepper returns the policy with a pepper.
func (p *Policy) WithPepper(version int, secret []byte) *Policy {
	next, private := *p, *p.Private
	private.Pepper, private.Check = version, PepperCheck(secret, p.Space)
	next.Private = &private
	return &next
}

// PrivateKey makes the key of a value with the secret of the policy's pepper, which nobody checks here: see Peppers. The
// error is an *InvalidError that says nothing of what the value is.
func (p *Policy) PrivateKey(secret []byte, v Value) (Key, error) {
	values, err := p.values(v)
	if err != nil {
		return "", err
	}
	return Key("h" + strconv.Itoa(p.Private.Pepper) + ":" + hex.EncodeToString(peppered(secret, purposeKey, p.Space, values...))), nil
}

// values returns the canonical forms of a value, in the order of the policy.
func (p *Policy) values(v Value) ([]string, error) {
	if len(p.Private.Fields) == 0 {
		if v.Fields != nil {
			return nil, &InvalidError{Field: "fields", Detail: "is not possible in this space: it has one value, which is the name"}
		}
		one, err := p.value(p.Private.Form, v.Name)
		return []string{one}, err
	}
	if v.Fields == nil {
		return nil, &InvalidError{Field: "fields", Detail: "is missing: this space needs " + p.Private.fieldNames()}
	}
	values := make([]string, len(p.Private.Fields))
	for i, f := range p.Private.Fields {
		text, ok := v.Fields[f.Name]
		if !ok {
			return nil, &InvalidError{Field: "fields." + f.Name, Detail: "is missing"}
		}
		var err error
		if values[i], err = p.value(f.Form, text); err != nil {
			return nil, &InvalidError{Field: "fields." + f.Name, Detail: err.Error()}
		}
	}
	if len(v.Fields) > len(values) { // what they are called may be anything: it is not repeated
		return nil, &InvalidError{Field: "fields", Detail: "has one that is unknown: this space needs " + p.Private.fieldNames()}
	}
	return values, nil
}

func (p *Private) fieldNames() string {
	all := make([]string, len(p.Fields))
	for i, f := range p.Fields {
		all[i] = f.Name
	}
	return strings.Join(all, ", ")
}

// value returns the canonical form of one value.
func (p *Policy) value(form ValueForm, text string) (string, error) {
	switch form {
	case FormName:
		if p.Form == nil || p.Form.chars == CharactersASCII {
			key, err := asciiKey(text, p.MinLength, p.MaxLength)
			return string(key), err
		}
		key, err := p.Form.canonical(p, text)
		if err != nil {
			return "", invalid("is no name by the policy of this space") // why would repeat some of it
		}
		return string(key), nil
	case FormEmail:
		canonical, err := emailAddress(text)
		if err != nil {
			return "", err
		}
		return canonical, p.checkLength(canonical)
	}
	if err := plainText(text); err != nil {
		return "", err
	}
	return text, p.checkLength(text)
}

func (p *Policy) checkLength(text string) error {
	switch n := utf8.RuneCountInString(text); {
	case n < p.MinLength:
		return invalid("is too short: at least %d characters", p.MinLength)
	case n > p.MaxLength:
		return invalid("is too long: at most %d characters", p.MaxLength)
	}
	return nil
}

func plainText(text string) error {
	switch {
	case text == "":
		return invalid("is empty")
	case !utf8.ValidString(text):
		return invalid("is not UTF-8")
	case strings.ContainsFunc(text, unicode.IsControl):
		return invalid("has a control character")
	}
	return nil
}

// emailAddress returns an address with its domain in lower case. The domain is of ASCII, so that it has one spelling: one
// of other letters has its form of ASCII, too (xn--...). The part before the @ is its server's business, and stays as it
// is, with capitals, dots and tags.
func emailAddress(text string) (string, error) {
	if err := plainText(text); err != nil {
		return "", err
	}
	local, domain, ok := strings.Cut(text, "@")
	switch {
	case !ok || local == "" || strings.Contains(domain, "@"):
		return "", invalid("is no e-mail address: it needs one @, with something on both sides")
	case strings.ContainsFunc(local, unicode.IsSpace):
		return "", invalid("is no e-mail address: it has a space")
	case len(local) > 64 || len(domain) > 253:
		return "", invalid("is no e-mail address: 64 bytes before the @ and 253 behind it at most")
	}
	domain = lowerASCII(domain)
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", invalid("is no e-mail address: its domain is none")
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return "", invalid("is no e-mail address: its domain may have the letters a to z, digits, - and . only; one of other letters is written as xn--...")
			}
		}
	}
	return local + "@" + domain, nil
}

// privateKey returns a key as it is if it may be one of a private space, and the version of its pepper.
func privateKey(text string) (key Key, pepper int, err error) {
	version, digest, ok := strings.Cut(text, ":")
	if ok = ok && len(version) > 1 && len(version) <= 11 && version[0] == 'h' && version[1] != '0' && len(digest) == 2*sha256.Size; ok {
		for i := 1; i < len(version); i++ {
			ok = ok && '0' <= version[i] && version[i] <= '9'
		}
		for i := range len(digest) {
			ok = ok && ('0' <= digest[i] && digest[i] <= '9' || 'a' <= digest[i] && digest[i] <= 'f')
		}
	}
	if ok {
		pepper, err = strconv.Atoi(version[1:])
		ok = err == nil && pepper <= MaxVersion
	}
	if !ok {
		return "", 0, invalid("is no key: this space is private, and a key of it is h, the version of its pepper, : and 64 digits of 0 to 9 and a to f; POST /v1/lookups tells it")
	}
	return Key(text), pepper, nil
}

// IsPrivateKey reports whether a text is spelt as the key of a private space.
func IsPrivateKey(text string) bool {
	_, _, err := privateKey(text)
	return err == nil
}

// activeKey returns a key that is made with the pepper of the policy.
func (p *Policy) activeKey(text string) (Key, error) {
	key, pepper, err := privateKey(text)
	if err == nil && pepper != p.Private.Pepper {
		err = invalid("is a key of another pepper: the one of this space has version %d", p.Private.Pepper)
	}
	if err != nil {
		return "", err
	}
	return key, nil
}

// SameKeys reports whether both policies make the same keys of the same values: neither is private, or both are, alike.
func (p *Policy) SameKeys(other *Policy) bool {
	if p.Private == nil || other.Private == nil {
		return p.Private == other.Private
	}
	of := func(p *Policy) string {
		b := p.Private.appendJSON(nil)
		if p.Form != nil {
			b = p.Form.appendJSON(b)
		}
		return string(b)
	}
	return of(p) == of(other)
}
