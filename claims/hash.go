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
	b := append(make([]byte, 0, 256), '{')
	// In the order of RFC 8785, which is alphabetical; what is absent is left out.
	b = appendInt(b, `"expected_version":`, c.ExpectedVersion)
	if c.ExpectedVersion != nil {
		b = append(b, ',')
	}
	b = appendString(append(b, `"key":`...), string(ref.Key))
	if len(c.Metadata) > 0 {
		b = appendMetadata(append(b, `,"metadata":`...), c.Metadata)
	}
	b = appendString(append(b, `,"mode":`...), string(c.Mode))
	if c.OnConflict != OnConflictReject {
		b = appendString(append(b, `,"on_conflict":`...), string(c.OnConflict))
	}
	b = appendString(append(b, `,"owner":`...), c.Owner)
	if principal != "" {
		b = appendString(append(b, `,"principal":`...), principal)
	}
	if r := c.Replaces; r != nil {
		old := r.Name
		if p := policies[ref.Space]; p != nil {
			if key, err := p.Canonical(old); err == nil {
				old = string(key)
			}
		}
		b = appendString(append(b, `,"replaces":{"name":`...), old)
		b = append(appendInt(b, `,"version":`, &r.Version), '}')
	}
	b = appendString(append(b, `,"space":`...), string(ref.Space))
	b = appendInt(b, `,"ttl_seconds":`, c.TTLSeconds)
	b = appendString(append(b, `,"type":`...), TypeUsernameClaimed)
	return sha256.Sum256(append(b, '}'))
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
