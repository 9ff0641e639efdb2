package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// ErrKeyFile says that the file of keys cannot be used, where and why.
var ErrKeyFile = errors.New("key file")

// maxKeyFile keeps a wrong path from being read into memory.
const maxKeyFile = 4 << 20

// key is an entry of the file, checked.
type key struct {
	id        string
	hash      [sha256.Size]byte
	expires   time.Time // zero: never
	principal *Principal
}

// entry is an entry of the file as written. YAML, or JSON, which is YAML.
type entry struct {
	ID        string    `yaml:"id"`
	SHA256    string    `yaml:"sha256"`
	Principal string    `yaml:"principal"`
	Scopes    list      `yaml:"scopes,flow"`
	Spaces    list      `yaml:"spaces,flow"`
	Owners    list      `yaml:"owners,flow"`
	Expires   *yamlTime `yaml:"expires,omitempty"`
}

// list is a sequence of strings, or one string.
type list []string

func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = list{n.Value}
		return nil
	}
	var many []string
	err := n.Decode(&many)
	*l = many
	return err
}

// yamlTime is an RFC 3339 time or a date, which is its midnight in UTC, in quotes or without.
type yamlTime struct{ time.Time }

func (t *yamlTime) UnmarshalYAML(n *yaml.Node) (err error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t.Time, err = time.Parse(layout, n.Value); err == nil {
			return nil
		}
	}
	return fmt.Errorf("line %d: expires: %q is not a date (2027-01-31) or an RFC 3339 time", n.Line, n.Value)
}

func (t yamlTime) MarshalYAML() (any, error) { return t.Format(time.RFC3339), nil }

// readKeyFile reads a file that only those who may know of the keys can read.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if mode := info.Mode(); !mode.IsRegular() {
		return nil, fmt.Errorf("%w %s is not a regular file", ErrKeyFile, path)
	} else if mode.Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%w %s has mode %04o: others can use it. Fix: chmod %04o %s",
			ErrKeyFile, path, mode.Perm(), mode.Perm()&^0o007, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%w %s is larger than %d bytes", ErrKeyFile, path, maxKeyFile)
	}
	return b, nil
}

// parseKeys reads what a key file says. Its errors name the line and the entry.
func parseKeys(text []byte) (map[string]*key, error) {
	var file struct {
		Keys []yaml.Node `yaml:"keys"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if len(file.Keys) == 0 {
		return nil, fmt.Errorf("%w: there are no keys: it needs a list \"keys\"", ErrKeyFile)
	}
	keys := make(map[string]*key, len(file.Keys))
	lines := make(map[string]int, len(file.Keys))
	for i := range file.Keys {
		n := &file.Keys[i]
		e, err := readEntry(n)
		if err == nil {
			var k *key
			if k, err = e.key(); err == nil {
				if first, ok := lines[k.id]; ok {
					err = fmt.Errorf("id: the key in line %d has it already", first)
				}
				keys[k.id], lines[k.id] = k, n.Line
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d (id %q) in line %d: %w", ErrKeyFile, i+1, e.ID, n.Line, err)
		}
	}
	return keys, nil
}

// readEntry decodes one entry. A node's own Decode does not know KnownFields, so the fields are compared here.
func readEntry(n *yaml.Node) (entry, error) {
	var e entry
	if n.Kind != yaml.MappingNode {
		return e, errors.New("is not a mapping of id, sha256, principal, scopes, spaces, owners and, if wanted, expires")
	}
	err := n.Decode(&e)
	known := []string{"id", "sha256", "principal", "scopes", "spaces", "owners", "expires"}
	for i := 0; i < len(n.Content); i += 2 {
		if field := n.Content[i]; !slices.Contains(known, field.Value) {
			return e, fmt.Errorf("%.40q in line %d: there is no such field", field.Value, field.Line)
		}
	}
	return e, err
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// key checks an entry.
func (e entry) key() (*key, error) {
	k := &key{id: e.ID, principal: &Principal{Name: e.Principal, spaces: e.Spaces, owners: e.Owners}}
	if !idForm.MatchString(e.ID) {
		return nil, errors.New("id: must be 1 to 64 letters, digits, - and _")
	}
	if hash, err := hex.DecodeString(e.SHA256); err != nil || len(hash) != len(k.hash) {
		return nil, errors.New("sha256: must be the SHA-256 of the secret, 64 hexadecimal digits")
	} else if k.hash = [sha256.Size]byte(hash); k.hash == sha256.Sum256(nil) {
		return nil, errors.New("sha256: is that of an empty secret")
	}
	if err := checkPrincipal(e.Principal); err != nil {
		return nil, err
	}
	if len(e.Scopes) == 0 {
		return nil, errors.New("scopes: is missing: a list of claim, read, lookup, admin")
	}
	for _, s := range e.Scopes {
		if !slices.Contains(scopes, Scope(s)) {
			return nil, fmt.Errorf("scopes: there is no scope %.40q; there are claim, read, lookup, admin", s)
		}
		k.principal.scopes = append(k.principal.scopes, Scope(s))
	}
	if err := checkLimit("spaces", "space names", e.Spaces); err != nil {
		return nil, err
	}
	if err := checkLimit("owners", "prefixes", e.Owners); err != nil {
		return nil, err
	}
	if e.Expires != nil {
		k.expires = e.Expires.Time
	}
	return k, nil
}

func checkPrincipal(name string) error {
	if name == reserved {
		return fmt.Errorf("principal: %q is what dibs calls itself", name)
	}
	if name == "" || len(name) > 255 {
		return errors.New("principal: must be 1 to 255 characters; it stays the same when the key is replaced")
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return errors.New("principal: must be printable ASCII")
		}
	}
	return nil
}

// checkLimit checks a list of what a key is limited to. A * that is not the whole entry is a mistake: a limit on owners
// is a prefix already.
func checkLimit(field, what string, limit []string) error {
	if len(limit) == 0 {
		return fmt.Errorf("%s: is missing: a list of %s, or %q for all", field, what, All)
	}
	for _, s := range limit {
		if s == "" || s != All && bytes.Contains([]byte(s), []byte(All)) {
			return fmt.Errorf("%s: %.40q is neither %q nor one of %s", field, s, All, what)
		}
	}
	return nil
}

// makeSecretFile makes a file that its owner alone can read. One that is there is left as it is; the error is os.ErrExist.
func makeSecretFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a file of secrets: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("make a file of secrets: %w", errors.Join(err, f.Close(), os.Remove(path)))
	}
	return f.Close()
}
