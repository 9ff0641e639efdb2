package checker

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// spaceUsername is the space that there is from the start.
const spaceUsername = "username"

// reserved are the words nobody gets: the mailboxes of RFC 2142 (business, network, services) and the design's own.
var reserved = strings.Fields("info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp" +
	" root admin system null undefined")

// Policy is what a space asks of its names.
type Policy struct {
	Space                        string
	Version                      int
	MinLength, MaxLength         int
	Reserved                     []string
	TTL, ShortestTTL, LongestTTL time.Duration
	CoolDown                     time.Duration
	PreviousMayReturn            bool
	// UniqueAmong is "all" or "active".
	UniqueAmong string
	// Unicode is what the policy says of names beyond ASCII, as JSON; empty for nothing.
	Unicode string
	// Pepper is the version of the pepper that the keys of a private space are made with; 0 where the space is not private.
	Pepper int
}

// Private reports whether names are known by their keys alone.
func (p *Policy) Private() bool { return p.Pepper > 0 }

// username is the policy that holds from the start of every log.
func username() Policy {
	return Policy{
		Space: spaceUsername, Version: 1, MinLength: 3, MaxLength: 32, Reserved: reserved,
		TTL: 15 * time.Minute, LongestTTL: 7 * 24 * time.Hour, PreviousMayReturn: true, UniqueAmong: "all",
	}
}

// laws are what holds at one position of a partition.
type laws struct {
	policies map[string]Policy
	// secrets are those of the keys that sign; all asks a signature of every request.
	secrets map[string][]byte
	all     bool
	rules   int64 // the highest that were activated
	forms   func(unicode, name string) (Form, bool)
}

func (h *History) laws() laws {
	l := laws{policies: map[string]Policy{spaceUsername: username()}, secrets: h.Secrets, all: h.SignedAll, forms: h.Forms, rules: 1}
	for _, p := range h.Policies {
		l.policies[p.Space] = p
	}
	return l
}

// canonical is the form of a name in a space, and whether anybody may claim it.
func (l *laws) canonical(space, name string) (Form, bool) {
	p, known := l.policies[space]
	form, ok := l.form(space, name)
	n := utf8.RuneCountInString(form.Canonical)
	if p.Private() {
		return form, ok && form.Fits
	}
	return form, ok && known && form.Fits && n >= p.MinLength && n <= p.MaxLength
}

// form is that of a name that may be held in a space, since some policy or other.
func (l *laws) form(space, name string) (Form, bool) {
	p := l.policies[space]
	if p.Private() {
		version, ok := pepperOf(name)
		return Form{Canonical: name, Key: name, Fits: version == p.Pepper}, ok
	}
	if p.Unicode != "" {
		return p.form(l.forms, name)
	}
	key, ok := keyOf(name)
	return Form{Canonical: key, Key: key, Fits: true}, ok
}

func (p *Policy) form(forms func(unicode, name string) (Form, bool), name string) (Form, bool) {
	if forms == nil {
		return Form{}, false
	}
	form, ok := forms(p.Unicode, name)
	return form, ok && form.Key != "" && len(form.Key) <= maxKey && len(form.Canonical) <= maxKey
}

// pepperOf is the version of the pepper that a private key was made with: h, the version, : and 64 digits.
func pepperOf(key string) (int, bool) {
	var version int
	rest, ok := strings.CutPrefix(key, "h")
	number, digest, _ := strings.Cut(rest, ":")
	for _, c := range number {
		ok = ok && '0' <= c && c <= '9' && version < 1<<31/10
		version = 10*version + int(c-'0')
	}
	ok = ok && number != "" && number[0] != '0' && len(digest) == 64 && strings.Trim(digest, "0123456789abcdef") == ""
	return version, ok
}

// maxKey is how long a key may be, whatever the policy.
const maxKey = 512

// keyOf is the key of a name that may be held, since some policy or other: ASCII letters, digits and . _ -, a letter or
// digit first and last, compared in lower case.
func keyOf(name string) (string, bool) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	key := []byte(name)
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			key[i] = c + 32
		}
		if strings.IndexByte(letters+"._-", key[i]) < 0 {
			return "", false
		}
	}
	n := len(key)
	if n == 0 || n > maxKey || strings.IndexByte(letters, key[0]) < 0 || strings.IndexByte(letters, key[n-1]) < 0 {
		return "", false
	}
	return string(key), true
}

// activation is what a PolicyActivated says.
type activation struct {
	policy Policy
	keys   []string
	rules  int64
	all    bool
}

// policyFields is how many fields a policy has, but for unicode: an unknown one could change what is decided.
const policyFields = 9

// activated reads the value of a PolicyActivated.
func (l *laws) activated(text []byte) (a activation, ok bool) {
	v, err := parse(text)
	if err != nil || v.kind != '{' || len(text) > 8<<10 {
		return a, false
	}
	policy, there := v.member("policy")
	if !there || policy.kind != '{' {
		return a, false
	}
	fields := policyFields
	if unicode, there := policy.member("unicode"); there {
		fields++
		a.policy.Unicode = unicode.json()
	}
	good := true
	if _, there := policy.member("key"); there {
		fields += 4
		a.policy.Pepper, good = pepper(policy)
	}
	if len(policy.members) != fields {
		return a, false
	}
	str := func(of value, name string) string {
		m, there := of.member(name)
		s, isString := m.str()
		good = good && there && isString
		return s
	}
	number := func(of value, name string) int64 {
		m, there := of.member(name)
		n, isNumber := m.integer()
		good = good && there && isNumber && *n >= 0 && *n < 1<<31
		if n == nil {
			return 0
		}
		return *n
	}
	seconds := func(name string) time.Duration {
		n := number(policy, name)
		good = good && n <= maxTTL
		return time.Duration(n) * time.Second
	}
	list := func(of value, name string) (all []string) {
		m, there := of.member(name)
		good = good && there && m.kind == '['
		for _, e := range m.elements {
			good = good && e.kind == '"'
			all = append(all, e.text)
		}
		return all
	}
	p := &a.policy
	p.Space, p.Version = str(v, "space"), int(number(v, "version"))
	p.MinLength, p.MaxLength = int(number(policy, "min_length")), int(number(policy, "max_length"))
	p.Reserved = list(policy, "reserved")
	p.TTL, p.ShortestTTL, p.LongestTTL = seconds("ttl_seconds"), seconds("shortest_ttl_seconds"), seconds("longest_ttl_seconds")
	p.CoolDown, p.UniqueAmong = seconds("cool_down_seconds"), str(policy, "unique_among")
	back, there := policy.member("previous_may_return")
	good = good && there && (back.kind == 't' || back.kind == 'f')
	p.PreviousMayReturn = back.kind == 't'
	a.rules, a.keys = number(v, "rules"), list(v, "keys")
	signatures := str(v, "signatures")
	a.all = signatures == "all"
	good = good && (!p.Private() || len(p.Reserved) == 0)
	for i, word := range p.Reserved {
		key, isKey := keyOf(word)
		if p.Unicode != "" {
			var form Form
			form, isKey = p.form(l.forms, word)
			if key = form.Key; p.byLook() {
				key = form.Look
			}
		}
		good = good && isKey && key == word && !slices.Contains(p.Reserved[:i], word)
	}
	for i, id := range a.keys {
		good = good && printable(id) && len(id) <= 64 && !slices.Contains(a.keys[:i], id)
	}
	good = good && validSpace(p.Space) && p.Space != spaceSignup && p.Version > 0 && 1 <= p.MinLength && p.MinLength <= p.MaxLength && p.MaxLength <= maxKey &&
		p.TTL > 0 && p.ShortestTTL <= p.TTL && p.TTL <= p.LongestTTL && (p.UniqueAmong == "all" || p.UniqueAmong == "active") &&
		a.rules > 0 && (p.Unicode == "" && !p.Private() || a.rules > 1) && (!p.byLook() || a.rules > 2) && len(a.keys) > 0 && len(a.keys) <= 32 && (a.all || signatures == "privileged")
	return a, good
}

// pepper reads what a private policy says of its keys: key, pepper, pepper_check, and form or fields.
func pepper(policy value) (version int, ok bool) {
	kind, _ := policy.member("key")
	number, _ := policy.member("pepper")
	check, _ := policy.member("pepper_check")
	n, ok := number.integer()
	if !ok || *n < 1 || *n >= 1<<31 || kind.text != "hmac" || check.kind != '"' || len(check.text) != 16 || strings.Trim(check.text, "0123456789abcdef") != "" {
		return 0, false
	}
	form, one := policy.member("form")
	fields, several := policy.member("fields")
	if one == several {
		return 0, false
	}
	forms, names := []value{form}, make(map[string]bool)
	if several {
		forms = nil
		if fields.kind != '[' || len(fields.elements) == 0 || len(fields.elements) > 16 {
			return 0, false
		}
		for _, f := range fields.elements {
			name, named := f.member("name")
			form, _ := f.member("form")
			if !named || len(f.members) != 2 || names[name.text] {
				return 0, false
			}
			names[name.text], forms = true, append(forms, form)
		}
	}
	for _, f := range forms {
		if f.kind != '"' || f.text != "name" && f.text != "email" && f.text != "exact" {
			return 0, false
		}
	}
	return int(*n), true
}

// apply lets an activation hold from here on, if its version is higher than what holds.
func (l *laws) apply(a activation, known map[string][]byte) {
	if a.policy.Version <= l.policies[a.policy.Space].Version {
		return
	}
	policies := map[string]Policy{a.policy.Space: a.policy}
	for space, p := range l.policies {
		if space != a.policy.Space {
			policies[space] = p
		}
	}
	l.policies, l.all, l.secrets = policies, a.all, make(map[string][]byte)
	l.rules = max(l.rules, a.rules)
	for _, id := range a.keys {
		if secret, ok := known[id]; ok {
			l.secrets[id] = secret
		}
	}
}

// byLook reports whether reserved words are compared by what names look like, and not by their keys.
func (p *Policy) byLook() bool { return strings.Contains(p.Unicode, `"reserved":"look"`) }

func (p *Policy) isReserved(l *laws, key string) bool {
	if p.byLook() {
		form, _ := p.form(l.forms, key)
		key = form.Look
	}
	return slices.Contains(p.Reserved, key)
}
