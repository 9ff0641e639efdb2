// Package names says which names there are: spaces, their policies, and the canonical form that makes two spellings one
// name.
//
// It promises that a canonical form is its own canonical form, and that it is computed from the name and the policy
// alone, so that API, processor, client and command line agree. It does no I/O and knows neither Kafka nor Postgres.
package names

import (
	"fmt"
	"strings"
)

// Space is a family of names with one policy, such as "username".
type Space string

// Username is the space that every deployment has.
const Username Space = "username"

// MaxKey is how many bytes a key may have.
const MaxKey = 512

// Valid reports whether the space is spelt as one: [a-z][a-z0-9-]{0,31}.
func (s Space) Valid() bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Key is what is unique within its space: a name in its canonical form, or what that looks like (see Policy.Key).
type Key string

// Plain reports whether the key is a name as well, of ASCII and in lower case: then it is its own key under every policy
// that it can be a key of.
func (k Key) Plain() bool {
	key, err := asciiKey(string(k), 1, MaxKey)
	return err == nil && key == k
}

// Ref is one unique name: a key and the space it lives in.
type Ref struct {
	Space Space
	Key   Key
}

// String is the key of every record about the name: "<space>/<key>".
func (r Ref) String() string { return string(r.Space) + "/" + string(r.Key) }

// ParseRef takes a record's key apart. What is not "<space>/<key>" comes back whole as the key of no space, so that a
// record that cannot be read is still answered under the key it came with.
func ParseRef(recordKey string) Ref {
	if space, key, ok := strings.Cut(recordKey, "/"); ok && Space(space).Valid() && key != "" {
		return Ref{Space(space), Key(key)}
	}
	return Ref{Key: Key(recordKey)}
}

// RecordKey is the inverse of ParseRef.
func (r Ref) RecordKey() string {
	if r.Space == "" {
		return string(r.Key)
	}
	return r.String()
}

// InvalidError says why a name is none under its space's policy. Its text is for the person who typed the name.
type InvalidError struct {
	// Field is what it is about: empty for the name, else fields or one of them.
	Field, Detail string
}

func (e *InvalidError) Error() string {
	if e.Field != "" {
		return e.Field + " " + e.Detail
	}
	return e.Detail
}

func invalid(format string, args ...any) error {
	return &InvalidError{Detail: fmt.Sprintf(format, args...)}
}
