package names

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
	"sync"
)

// Eraser gives what is kept of erased names and owners: an HMAC under a secret that is in no database, so that who reads
// the tables cannot try names out, and who has the secret still finds what is kept of a name that is asked for again.
//
// Its methods are pure, and safe for concurrent use. A nil Eraser has no secret; none of its methods may be called.
type Eraser struct {
	// macs are of *mac: every claim in a partition where something was erased asks for a sum, and to begin with the secret costs
	// more than all the rest.
	macs sync.Pool
}

type mac struct {
	hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

// NewEraser returns an Eraser with a secret.
func NewEraser(secret []byte) *Eraser {
	secret = append([]byte(nil), secret...)
	return &Eraser{macs: sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, secret)} }}}
}

// erasedPrefix begins the keys of erased names. No name has a space in it, so none is taken for one.
const erasedPrefix = "erased "

// Erased reports whether the key stands for a name that was erased.
func (k Key) Erased() bool { return isErased(string(k)) }

func isErased(form string) bool {
	sum, ok := strings.CutPrefix(form, erasedPrefix)
	if !ok || len(sum) != 2*sha256.Size {
		return false
	}
	for i := range len(sum) {
		if c := sum[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Ref is the form that an erased name is kept in. It is its own.
func (e *Eraser) Ref(ref Ref) Ref {
	if !ref.Key.Erased() {
		ref.Key = Key(e.form("key", string(ref.Space), string(ref.Key)))
	}
	return ref
}

// Owner is the form that an erased owner is kept in. It is its own.
func (e *Eraser) Owner(owner string) string {
	if isErased(owner) {
		return owner
	}
	return e.form("owner", owner)
}

// Check tells one secret from another, and nothing else of it.
func (e *Eraser) Check() []byte {
	sum := e.sum("check")
	return sum[:8]
}

// Derive is a key for another purpose, which says nothing about the secret.
func (e *Eraser) Derive(purpose string) []byte {
	sum := e.sum("derived", purpose)
	return sum[:]
}

// form is that of what is erased.
func (e *Eraser) form(parts ...string) string {
	var b [len(erasedPrefix) + 2*sha256.Size]byte
	sum := e.sum(parts...)
	hex.Encode(b[copy(b[:], erasedPrefix):], sum[:])
	return string(b[:])
}

// sum is over the parts, each with its length.
func (e *Eraser) sum(parts ...string) [sha256.Size]byte {
	m := e.macs.Get().(*mac)
	defer e.macs.Put(m)
	m.text = m.text[:0]
	for _, part := range parts {
		m.text = append(binary.AppendUvarint(m.text, uint64(len(part))), part...)
	}
	m.Reset()
	m.Write(m.text)
	m.Hash.Sum(m.sum[:0])
	clear(m.text) // it is what is to be forgotten
	return m.sum
}
