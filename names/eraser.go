package names

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// Eraser gives what is kept of erased names and owners: an HMAC under a secret that is in no database, so that who reads
// the tables cannot try names out, and who has the secret still finds what is kept of a name that is asked for again.
//
// Its methods are pure. A nil Eraser has no secret; none of its methods may be called.
type Eraser struct{ secret []byte }

// NewEraser returns an Eraser with a secret.
func NewEraser(secret []byte) *Eraser { return &Eraser{append([]byte(nil), secret...)} }

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
		ref.Key = Key(erasedPrefix + hex.EncodeToString(e.sum("key", string(ref.Space), string(ref.Key))))
	}
	return ref
}

// Owner is the form that an erased owner is kept in. It is its own.
func (e *Eraser) Owner(owner string) string {
	if isErased(owner) {
		return owner
	}
	return erasedPrefix + hex.EncodeToString(e.sum("owner", owner))
}

// Check tells one secret from another, and nothing else of it.
func (e *Eraser) Check() []byte { return e.sum("check")[:8] }

// Derive is a key for another purpose, which says nothing about the secret.
func (e *Eraser) Derive(purpose string) []byte { return e.sum("derived", purpose) }

// sum is over the parts, each with its length.
func (e *Eraser) sum(parts ...string) []byte {
	h := hmac.New(sha256.New, e.secret)
	var n [binary.MaxVarintLen64]byte
	for _, part := range parts {
		h.Write(n[:binary.PutUvarint(n[:], uint64(len(part)))])
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}
