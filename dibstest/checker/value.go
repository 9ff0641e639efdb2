package checker

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// value reads the value of a request, and reports whether it is one. A field of another type of request must be one of its
// kind as well, and is then passed over.
func (q *request) value(text []byte) bool {
	v, err := parse(text)
	if err != nil || v.kind != '{' {
		return false
	}
	must, may, _ := strings.Cut(fieldsOf[q.kind], "|")
	missing := map[string]bool{"space": true, "name": true}
	for _, name := range strings.Fields(must) {
		missing[name] = true
	}
	has := append(strings.Fields(must+may), "space", "name", "deadline")
	for _, m := range v.members {
		if m.value.kind == 'n' {
			continue
		}
		if later(m.name) {
			if !q.laterField(m.name, m.value) {
				return false
			}
			delete(missing, m.name)
			continue
		}
		into, space := &q.asked, &q.space
		if !slices.Contains(has, m.name) {
			into, space = new(asked), new(string)
		}
		var ok bool
		if m.name == "space" {
			*space, ok = m.value.str()
		} else {
			ok = into.field(m.name, m.value)
		}
		if !ok {
			return false
		}
		delete(missing, m.name)
	}
	if key, _ := v.member("key"); missing["name"] && key.kind == '"' && 0 < len(key.text) && len(key.text) <= maxKey {
		q.key, q.byKey = key.text, true
		delete(missing, "name")
	}
	return len(missing) == 0
}

// field reads one field, and reports whether its value is of the right kind.
func (a *asked) field(name string, v value) (ok bool) {
	switch name {
	case "name":
		a.name, ok = v.str()
	case "owner":
		a.owner, ok = v.str()
	case "new_owner":
		a.newOwner, ok = v.str()
	case "mode":
		a.mode, ok = v.str()
	case "on_conflict":
		a.onConflict, ok = v.str()
	case "actor":
		a.actor, ok = v.str()
	case "reason":
		a.reason, ok = v.str()
	case "claim_id":
		var text string
		if text, ok = v.str(); ok {
			a.claimID, ok = uuidOf(text)
			ok = ok && strings.Trim(a.claimID, "0-") != ""
		}
	case "ttl_seconds":
		a.ttl, ok = v.integer()
	case "expected_version":
		a.expectedVersion, ok = v.integer()
	case "expires_at":
		a.expiresAt, ok = v.time()
	case "deadline":
		a.deadline, ok = v.time()
	case "metadata":
		a.metadata, ok = v.strings()
	case "replaces":
		a.replaces, ok = v.replaces()
	default:
		ok = true
	}
	return ok
}

// json is the value as JSON again, without white space.
func (v value) json() string {
	all := make([]string, 0, len(v.members)+len(v.elements))
	for _, m := range v.members {
		all = append(all, quoted(m.name)+":"+m.value.json())
	}
	for _, e := range v.elements {
		all = append(all, e.json())
	}
	switch v.kind {
	case '{':
		return "{" + strings.Join(all, ",") + "}"
	case '[':
		return "[" + strings.Join(all, ",") + "]"
	case '"':
		return quoted(v.text)
	case '0':
		return v.text
	}
	return map[byte]string{'t': "true", 'f': "false", 'n': "null"}[v.kind]
}

func (v value) member(name string) (value, bool) {
	for _, m := range v.members {
		if m.name == name {
			return m.value, true
		}
	}
	return value{}, false
}

func (v value) str() (string, bool) { return v.text, v.kind == '"' }

func (v value) integer() (*int64, bool) {
	n, err := strconv.ParseInt(v.text, 10, 64)
	return &n, v.kind == '0' && err == nil
}

// rfc3339 is a time by the letter.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func (v value) time() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, v.text)
	t = t.UTC().Truncate(time.Millisecond)
	return t, v.kind == '"' && err == nil && rfc3339.MatchString(v.text) && 1 <= t.Year() && t.Year() <= 9999
}

func (v value) strings() (map[string]string, bool) {
	all := make(map[string]string)
	for _, m := range v.members {
		if m.value.kind == 'n' {
			continue
		}
		if m.value.kind != '"' {
			return nil, false
		}
		all[m.name] = m.value.text
	}
	return all, v.kind == '{'
}

func (v value) replaces() (*replaces, bool) {
	var r replaces
	var name, version bool
	key, _ := v.member("key")
	for _, m := range v.members {
		switch {
		case m.value.kind == 'n':
		case m.name == "name":
			if r.name, name = m.value.str(); !name {
				return nil, false
			}
		case m.name == "version":
			n, ok := m.value.integer()
			if !ok {
				return nil, false
			}
			r.version, version = *n, true
		}
	}
	if !name && key.kind == '"' && 0 < len(key.text) && len(key.text) <= maxKey {
		r.key, name = key.text, true
	}
	return &r, v.kind == '{' && name && version
}

// requestHash is SHA-256 over the canonical JSON of what is asked.
func (q *request) requestHash(recordKey string) string {
	_, key := split(recordKey)
	asked := map[string]string{"type": quoted("dibs." + q.kind + ".v1"), "space": quoted(q.space), "key": quoted(key)}
	if q.kind == typeClaim { // always has them
		asked["owner"], asked["mode"] = quoted(q.owner), quoted(q.mode)
	}
	if form, ok := q.laws.form(q.space, q.name); ok && !q.byKey && form.Key == key && form.Canonical != key {
		asked["name"] = quoted(form.Canonical)
	}
	for name, s := range map[string]string{
		"owner": q.owner, "new_owner": q.newOwner, "claim_id": q.claimID, "on_conflict": q.onConflict, "actor": q.actor, "reason": q.reason, "principal": q.principal,
	} {
		if s != "" {
			asked[name] = quoted(s)
		}
	}
	for name, n := range map[string]*int64{"ttl_seconds": q.ttl, "expected_version": q.expectedVersion} {
		if n != nil {
			asked[name] = strconv.FormatInt(*n, 10)
		}
	}
	q.hashSignup(asked)
	if !q.expiresAt.IsZero() {
		asked["expires_at"] = quoted(timeText(q.expiresAt))
	}
	if len(q.metadata) > 0 {
		asked["metadata"] = string(canonicalStrings(nil, q.metadata))
	}
	if r := q.replaces; r != nil {
		old := r.asked()
		if form, ok := q.laws.form(q.space, old); ok {
			old = form.Canonical
		}
		asked["replaces"] = string(canonicalObject(nil, map[string]string{"name": quoted(old), "version": strconv.FormatInt(r.version, 10)}))
	}
	sum := sha256.Sum256(canonicalObject(nil, asked))
	return hex.EncodeToString(sum[:])
}

// timeText is how dibs writes a time.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func quoted(s string) string { return string(quote(nil, s)) }

func canonicalStrings(b []byte, m map[string]string) []byte {
	all := make(map[string]string, len(m))
	for k, v := range m {
		all[k] = quoted(v)
	}
	return canonicalObject(b, all)
}

// canonicalObject writes an object as RFC 8785 does: its members are JSON already, and come in the order of their
// names' UTF-16.
func canonicalObject(b []byte, members map[string]string) []byte {
	type named struct {
		name  string
		order []uint16
	}
	all := make([]named, 0, len(members))
	for k := range members {
		all = append(all, named{k, utf16.Encode([]rune(k))})
	}
	slices.SortFunc(all, func(x, y named) int { return slices.Compare(x.order, y.order) })
	b = append(b, '{')
	for i, m := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(quote(b, m.name), ':'), members[m.name]...)
	}
	return append(b, '}')
}
