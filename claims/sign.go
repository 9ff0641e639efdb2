package claims

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"sync"

	"github.com/dibs-hq/dibs/cloudevents"
)

// Signature is the header that says who made a privileged request: the id of a key, a colon, and in hex the
// HMAC-SHA-256 under that key.
const Signature = "ce_dibssig"

// Keys are the secrets that signatures may be made with, by id.
type Keys map[string][]byte

// Only returns the keys with these ids, and the ids that there is no key of.
func (ks Keys) Only(ids []string) (some Keys, lacking []string) {
	some = make(Keys, len(ids))
	for _, id := range ids {
		if secret, ok := ks[id]; ok {
			some[id] = secret
		} else {
			lacking = append(lacking, id)
		}
	}
	return some, lacking
}

// Signing returns the key to sign with what may go anywhere, where these ids hold in one place each, in order of preference;
// nil stands for any. It is the first of ours that holds in all of them. Where nothing is said, or none does, it is the
// wanted one.
func (ks Keys) Signing(wanted SigningKey, held ...[]string) SigningKey {
	lacking := func(id string) bool {
		return slices.ContainsFunc(held, func(ids []string) bool { return ids != nil && !slices.Contains(ids, id) })
	}
	for _, ids := range held {
		for _, id := range ids {
			if secret, ours := ks[id]; ours && !lacking(id) {
				return SigningKey{id, secret}
			}
		}
	}
	return wanted
}

// SigningKey is the one of the Keys that a process signs with.
type SigningKey struct {
	ID     string
	Secret []byte
}

// Sign returns the record with a signature, in place of any other it has. It is over the key, the value, and of the
// headers over what changes the meaning: id, type and principal. A forwarded record keeps a signature that holds.
func (k SigningKey) Sign(r cloudevents.Record) cloudevents.Record {
	headers := make([]cloudevents.Header, 0, len(r.Headers)+1)
	if signed := func(h cloudevents.Header) bool { return h.Name == Signature }; slices.ContainsFunc(r.Headers, signed) {
		headers = slices.DeleteFunc(append(headers, r.Headers...), signed)
	} else {
		headers = append(headers, r.Headers...)
	}
	r.Headers = headers
	value := append(make([]byte, 0, len(k.ID)+1+hex.EncodedLen(sha256.Size)), k.ID...)
	value = hex.AppendEncode(append(value, ':'), mac(k.Secret, r))
	r.Headers = append(r.Headers, cloudevents.Header{Name: Signature, Value: value})
	return r
}

// Signed reports whether the record has a signature that holds under one of the keys.
func (ks Keys) Signed(r cloudevents.Record) bool {
	value, ok := r.Header(Signature)
	if !ok {
		return false
	}
	id, sum, ok := bytes.Cut(value, []byte{':'})
	if !ok {
		return false
	}
	secret, known := ks[string(id)]
	claimed, err := hex.DecodeString(string(sum))
	return known && err == nil && hmac.Equal(claimed, mac(secret, r))
}

// signer is an HMAC with its secret in it, and room for what it is over. To begin anew is a fraction of what making one is.
type signer struct {
	secret []byte
	hash   hash.Hash
	text   []byte
}

// signers are of the secret that was last used: nearly always there is but one.
var signers sync.Pool

func mac(secret []byte, r cloudevents.Record) []byte {
	s, _ := signers.Get().(*signer)
	if s == nil || !hmac.Equal(s.secret, secret) {
		s = &signer{secret: bytes.Clone(secret), hash: hmac.New(sha256.New, secret)}
	}
	part := func(b []byte) { s.text = append(binary.AppendUvarint(s.text, uint64(len(b))), b...) }
	part(r.Key)
	part(r.Value)
	for _, name := range [...]string{cloudevents.ID, cloudevents.Type, cloudevents.Principal} {
		v, _ := r.Header(name)
		part(v)
	}
	s.hash.Write(s.text)
	sum := s.hash.Sum(make([]byte, 0, sha256.Size))
	s.hash.Reset()
	if clear(s.text); cap(s.text) > mostSigned {
		s.text = nil
	}
	s.text = s.text[:0]
	signers.Put(s)
	return sum
}

// mostSigned is how much room a signer may keep: a large request is rare.
const mostSigned = 4 << 10
