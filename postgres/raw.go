package postgres

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
)

// rawVersion is the first byte of a stored record. What it stands for never changes; another layout is another version.
//
//	version, flags; time in Unix milliseconds (varint) unless zero; key, value; number of headers, each name and value
//
// Bytes are length-prefixed (uvarint) with 0 for null and the length plus one otherwise: a null key is no empty key.
const rawVersion = 1

const rawZeroTime = 1 // flag: the record has no time

var errRaw = errors.New("a stored record cannot be read")

func appendRaw(b []byte, r *cloudevents.Record) []byte {
	if r.Time.IsZero() {
		b = append(b, rawVersion, rawZeroTime)
	} else {
		b = binary.AppendVarint(append(b, rawVersion, 0), r.Time.UnixMilli())
	}
	b = appendNullable(appendNullable(b, r.Key), r.Value)
	b = binary.AppendUvarint(b, uint64(len(r.Headers)))
	for i := range r.Headers {
		b = binary.AppendUvarint(b, uint64(len(r.Headers[i].Name)))
		b = appendNullable(append(b, r.Headers[i].Name...), r.Headers[i].Value)
	}
	return b
}

func appendNullable(b, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(v))+1), v...)
}

// readRaw is the inverse of appendRaw. The record shares b.
func readRaw(b []byte) (r cloudevents.Record, err error) {
	if len(b) < 2 || b[0] != rawVersion {
		return r, errRaw
	}
	rest := rawReader{b: b[2:]}
	if b[1]&rawZeroTime == 0 {
		r.Time = time.UnixMilli(rest.varint()).UTC()
	}
	r.Key = rest.nullable()
	r.Value = rest.nullable()
	n := rest.uvarint()
	if n > uint64(len(rest.b)) {
		return r, errRaw
	}
	if n > 0 {
		r.Headers = make([]cloudevents.Header, n)
	}
	for i := range r.Headers {
		r.Headers[i].Name = string(rest.take(rest.uvarint()))
		r.Headers[i].Value = rest.nullable()
	}
	if rest.failed || len(rest.b) > 0 {
		return r, errRaw
	}
	return r, nil
}

// rawReader reads on after a failure, and says so in the end.
type rawReader struct {
	b      []byte
	failed bool
}

func (r *rawReader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.take(uint64(max(n, 0)))
	r.failed = r.failed || n <= 0
	return v
}

func (r *rawReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.take(uint64(max(n, 0)))
	r.failed = r.failed || n <= 0
	return v
}

func (r *rawReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.failed = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *rawReader) nullable() []byte {
	n := r.uvarint()
	if n == 0 || r.failed {
		return nil
	}
	return r.take(n - 1)
}
