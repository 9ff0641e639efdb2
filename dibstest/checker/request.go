package checker

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// request is a record of claims, read by the checker's own rules.
type request struct {
	record *Record
	// dead says why it gets no outcome; then nothing else is set, but for the id where it can be read.
	dead      string
	malformed bool
	id        string
	principal string
	rerouted  bool
	// space and key are of the name it is about: computed, else taken from the record's key.
	space, key string
	nameOK     bool // computed: a known space and a valid name

	name, owner, mode, onConflict string
	ttl, expectedVersion          *int64
	replaces                      *replaces
	deadline                      time.Time
	metadata                      map[string]string
	// hash is the request hash, as far as it is defined: of a claim whose name has a key.
	hash string
	// print tells requests with one id apart.
	print string
}

type replaces struct {
	name    string
	version int64
}

// read reads a record of claims.
func read(r *Record) request {
	q := request{record: r}
	id, _ := r.header("ce_id")
	validID := false
	q.id, validID = uuidOf(id)
	contentType, _ := r.header("content-type")
	version, _ := r.header("ce_specversion")
	kind, _ := r.header("ce_type")
	switch {
	case strings.HasPrefix(strings.ToLower(contentType), "application/cloudevents"):
		q.dead = "structured mode"
	case !validID:
		q.dead = "no id"
	case version != "1.0":
		q.dead = "spec version"
	case kind != "dibs.UsernameClaimed.v1":
		q.dead = "type"
	case q.id[14] != '4' && q.id[14] != '5' && q.id[14] != '7' || strings.IndexByte("89ab", q.id[19]) < 0:
		q.dead = "version of the id"
	}
	if q.dead != "" {
		return q
	}
	_, q.rerouted = r.header("dibs-rerouted")
	principal, _ := r.header("ce_dibsprincipal")
	q.principal = principal
	q.malformed = len(r.Key)+len(r.Value) > 8<<10 || !q.claim(r.Value)
	if q.principal != "" && !printable(q.principal) {
		q.principal, q.malformed = "", true
	}
	if !q.malformed && q.space == spaceUsername {
		q.key, q.nameOK = canonical(q.name)
	}
	if !q.nameOK {
		if len(r.Key) == 0 || len(r.Key) > 512 || !utf8.Valid(r.Key) || strings.IndexByte(string(r.Key), 0) >= 0 {
			q.dead = "record key"
			return q
		}
	}
	switch {
	case q.malformed:
		q.print = strings.Join([]string{"unread", kind, principal, string(r.Key), string(r.Value)}, "\x00")
	case q.nameOK:
		q.hash = q.requestHash()
		q.print = q.hash
	default: // there is no key that could stand for the name
		q.print = strings.Join([]string{"unnamed", q.requestHash(), q.name}, "\x00")
	}
	return q
}

// recordKey is the key under which the request is decided.
func (q *request) recordKey() string {
	if q.nameOK {
		return q.space + "/" + q.key
	}
	return string(q.record.Key)
}

// split is the space and key of a record key: the space is empty where it has none.
func split(recordKey string) (space, key string) {
	if s, k, ok := strings.Cut(recordKey, "/"); ok && validSpace(s) && k != "" {
		return s, k
	}
	return "", recordKey
}

func (q *request) claim(text []byte) bool {
	v, err := parse(text)
	if err != nil || v.kind != '{' {
		return false
	}
	missing := map[string]bool{"space": true, "name": true, "owner": true, "mode": true}
	for _, m := range v.members {
		if m.value.kind == 'n' {
			continue
		}
		ok := true
		switch delete(missing, m.name); m.name {
		case "space":
			q.space, ok = m.value.str()
		case "name":
			q.name, ok = m.value.str()
		case "owner":
			q.owner, ok = m.value.str()
		case "mode":
			q.mode, ok = m.value.str()
		case "ttl_seconds":
			q.ttl, ok = m.value.integer()
		case "expected_version":
			q.expectedVersion, ok = m.value.integer()
		case "on_conflict":
			q.onConflict, ok = m.value.str()
		case "deadline":
			q.deadline, ok = m.value.time()
		case "metadata":
			q.metadata, ok = m.value.strings()
		case "replaces":
			q.replaces, ok = m.value.replaces()
		}
		if !ok {
			return false
		}
	}
	return len(missing) == 0
}

func (v value) str() (string, bool) { return v.text, v.kind == '"' }

func (v value) integer() (*int64, bool) {
	n, err := strconv.ParseInt(v.text, 10, 64)
	return &n, v.kind == '0' && err == nil
}

func (v value) time() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, v.text)
	return t, v.kind == '"' && err == nil
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
	return &r, v.kind == '{' && name && version
}

// invalid reports whether a readable claim asks for something that cannot be had.
func (q *request) invalid() bool {
	return !printable(q.owner) || q.mode != "register" ||
		q.onConflict != "" && q.onConflict != "return_existing" ||
		q.expectedVersion != nil && *q.expectedVersion < 0 ||
		q.ttl != nil || q.replaces != nil ||
		len(q.metadata) > 0 && len(canonicalStrings(nil, q.metadata)) > 1<<10
}

// printable: 1 to 255 printable ASCII characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// requestHash is SHA-256 over the canonical JSON of what is asked.
func (q *request) requestHash() string {
	asked := map[string]string{
		"type": quoted("dibs.UsernameClaimed.v1"), "space": quoted(q.space), "owner": quoted(q.owner), "mode": quoted(q.mode),
	}
	_, key := split(q.recordKey())
	asked["key"] = quoted(key)
	number := func(name string, n *int64) {
		if n != nil {
			asked[name] = strconv.FormatInt(*n, 10)
		}
	}
	number("ttl_seconds", q.ttl)
	number("expected_version", q.expectedVersion)
	if q.onConflict != "" {
		asked["on_conflict"] = quoted(q.onConflict)
	}
	if q.principal != "" {
		asked["principal"] = quoted(q.principal)
	}
	if len(q.metadata) > 0 {
		asked["metadata"] = string(canonicalStrings(nil, q.metadata))
	}
	if r := q.replaces; r != nil {
		old := r.name
		if key, ok := canonical(old); ok && q.space == spaceUsername {
			old = key
		}
		asked["replaces"] = string(canonicalObject(nil, map[string]string{"name": quoted(old), "version": strconv.FormatInt(r.version, 10)}))
	}
	sum := sha256.Sum256(canonicalObject(nil, asked))
	return hex.EncodeToString(sum[:])
}

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

// uuidOf is a UUID in lower case, and whether the text is one in its 36-character form.
func uuidOf(text string) (string, bool) {
	text = strings.ToLower(text)
	if len(text) != 36 {
		return "", false
	}
	for i := range len(text) {
		if c := text[i]; i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return "", false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return text, true
}
