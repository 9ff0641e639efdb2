package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
)

// Kafka's record batch, format version 2: this header, then the records, each with its length before it. All numbers
// are big endian; in the records they are zigzag varints.
const (
	batchBaseOffset      = 0  // int64
	batchLength          = 8  // int32, of what follows it
	batchLeaderEpoch     = 12 // int32
	batchMagic           = 16 // int8
	batchCRC             = 17 // uint32, CRC-32C of what follows it
	batchAttributes      = 21 // int16
	batchLastOffsetDelta = 23 // int32
	batchFirstTimestamp  = 27 // int64, milliseconds
	batchMaxTimestamp    = 35 // int64
	batchProducerID      = 43 // int64
	batchProducerEpoch   = 51 // int16
	batchBaseSequence    = 53 // int32
	batchRecordCount     = 57 // int32
	batchHeader          = 61

	batchPrefix = batchLeaderEpoch // what batchLength does not count
)

// The bits of a batch's attributes.
const (
	attributeCompression   = 0x07
	attributeLogAppendTime = 0x08
	attributeControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendBatch appends records, at least one, as one uncompressed batch of no idempotent producer. A record with the zero
// time gets now.
//
// kafka-go's encoder for the same takes a Record with two io.Readers for each record and copies them through 32-byte
// buffers: see BenchmarkEncode.
func appendBatch(b []byte, records []*pending, now time.Time) []byte {
	start := len(b)
	b = append(b, make([]byte, batchHeader)...)
	first := millis(&records[0].record, now)
	last := first
	for i, p := range records {
		t := millis(&p.record, now)
		last = max(last, t)
		b = appendRecord(b, &p.record, t-first, int64(i))
	}
	h := b[start:]
	binary.BigEndian.PutUint32(h[batchLength:], uint32(len(h)-batchPrefix))
	binary.BigEndian.PutUint32(h[batchLeaderEpoch:], 0xffffffff) // the leader's business
	h[batchMagic] = 2
	binary.BigEndian.PutUint32(h[batchLastOffsetDelta:], uint32(len(records)-1))
	binary.BigEndian.PutUint64(h[batchFirstTimestamp:], uint64(first))
	binary.BigEndian.PutUint64(h[batchMaxTimestamp:], uint64(last))
	for i := batchProducerID; i < batchRecordCount; i++ {
		h[i] = 0xff // no producer id, epoch and sequence
	}
	binary.BigEndian.PutUint32(h[batchRecordCount:], uint32(len(records)))
	binary.BigEndian.PutUint32(h[batchCRC:], crc32.Checksum(h[batchAttributes:], castagnoli))
	return b
}

func millis(r *cloudevents.Record, now time.Time) int64 {
	if r.Time.IsZero() {
		return now.UnixMilli()
	}
	return r.Time.UnixMilli()
}

func appendRecord(b []byte, r *cloudevents.Record, timestampDelta, offsetDelta int64) []byte {
	n := 1 + varintSize(timestampDelta) + varintSize(offsetDelta) + bytesSize(r.Key) + bytesSize(r.Value) +
		varintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintSize(int64(len(h.Name))) + len(h.Name) + bytesSize(h.Value)
	}
	b = binary.AppendVarint(b, int64(n))
	b = append(b, 0) // attributes: none are defined
	b = binary.AppendVarint(b, timestampDelta)
	b = binary.AppendVarint(b, offsetDelta)
	b = appendBytes(b, r.Key)
	b = appendBytes(b, r.Value)
	b = binary.AppendVarint(b, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		b = binary.AppendVarint(b, int64(len(h.Name)))
		b = append(b, h.Name...)
		b = appendBytes(b, h.Value)
	}
	return b
}

// appendBytes keeps null and empty apart.
func appendBytes(b, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(b, -1)
	}
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

func bytesSize(v []byte) int {
	if v == nil {
		return varintSize(-1)
	}
	return varintSize(int64(len(v))) + len(v)
}

func varintSize(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
