package claims

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
)

// Hash is the request hash: SHA-256 over the canonical JSON (RFC 8785) of what is asked. Two requests with one id and
// one hash are the same request; deadline, times, tracing and the spelling of the name are no part of it.
type Hash [sha256.Size]byte

// Hash computes the hash of a claim of the name ref, made by principal.
func (c *UsernameClaimed) Hash(ref names.Ref, principal string, policies names.Policies) Hash {
	return HashOf(c, ref, principal, policies)
}

// HashOf computes the hash of a request about the name ref, made by principal.
func HashOf(body Body, ref names.Ref, principal string, policies names.Policies) Hash {
	f := body.fields()
	return f.hash(body.Type(), ref, principal, policies)
}

// HashUnread is the hash of a record whose value cannot be read: over its bytes and its principal as they are, so that a
// copy of it gets the same answer and anything else under its id does not.
func HashUnread(e cloudevents.Event, r cloudevents.Record) Hash {
	principal, _ := r.Header(cloudevents.Principal)
	b := make([]byte, 0, len(e.Type)+len(r.Key)+len(principal)+len(r.Value)+3*binary.MaxVarintLen32)
	for _, part := range [][]byte{[]byte(e.Type), r.Key, principal} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	return sha256.Sum256(append(b, r.Value...))
}
