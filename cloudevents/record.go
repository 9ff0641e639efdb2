// Package cloudevents is the envelope of both topics: a Kafka record in the binary mode of the CloudEvents 1.0 Kafka
// binding, independent of any Kafka client.
//
// It promises that what it writes is a valid event and that hashing a record gives the same value wherever the record
// was read. It knows nothing of names, claims or outcomes, and imports nothing but the standard library and uuid.
package cloudevents

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Header is one record header. A name may occur more than once; the first one counts.
type Header struct {
	Name  string
	Value []byte
}

// Record is one record of a topic, as read or to be written. Its slices are shared, never changed in place.
type Record struct {
	Key     []byte
	Value   []byte
	Headers []Header
	// Time is the record's CreateTime, in milliseconds of precision. A record that is written with the zero Time
	// gets the writer's clock.
	Time time.Time
}

// Header returns the first value of the named header, and whether there is one.
func (r Record) Header(name string) ([]byte, bool) {
	for i := range r.Headers {
		if r.Headers[i].Name == name {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}

// Size is about what the record takes on the wire, uncompressed.
func (r Record) Size() int {
	n := len(r.Key) + len(r.Value) + recordOverhead
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value) + headerOverhead
	}
	return n
}

// What lengths, offset and timestamp deltas take at most, per record and per header, in Kafka's record format v2.
const (
	recordOverhead = 32
	headerOverhead = 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Hash is the CRC-32C of key, value and headers, each with its length before it. It tells whether the log still holds
// the record that was read (design: log identity); it guards against accident, not against an adversary.
func (r Record) Hash() uint32 {
	h := hashBytes(0, r.Key)
	h = hashBytes(h, r.Value)
	for i := range r.Headers {
		h = crc32.Update(hashLen(h, len(r.Headers[i].Name)), castagnoli, []byte(r.Headers[i].Name))
		h = hashBytes(h, r.Headers[i].Value)
	}
	return h
}

func hashBytes(h uint32, b []byte) uint32 {
	if b == nil {
		return hashLen(h, -1) // a null key is not an empty key
	}
	return crc32.Update(hashLen(h, len(b)), castagnoli, b)
}

func hashLen(h uint32, n int) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(int32(n)))
	return crc32.Update(h, castagnoli, b[:])
}
