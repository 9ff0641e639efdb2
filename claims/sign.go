package claims

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

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
	for _, h := range r.Headers {
		if h.Name != Signature {
			headers = append(headers, h)
		}
	}
	r.Headers = headers
	value := hex.AppendEncode(append([]byte(k.ID), ':'), mac(k.Secret, r))
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

func mac(secret []byte, r cloudevents.Record) []byte {
	h := hmac.New(sha256.New, secret)
	part := func(b []byte) {
		var n [binary.MaxVarintLen64]byte
		h.Write(n[:binary.PutUvarint(n[:], uint64(len(b)))])
		h.Write(b)
	}
	part(r.Key)
	part(r.Value)
	for _, name := range []string{cloudevents.ID, cloudevents.Type, cloudevents.Principal} {
		v, _ := r.Header(name)
		part(v)
	}
	return h.Sum(nil)
}
