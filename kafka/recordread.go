package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// errCorrupt: bytes that came from a broker are not what the protocol says. Nothing behind them can be told, so reading
// stops there.
var errCorrupt = errors.New("corrupt data from the broker")

// recordReader turns the batches of one partition into messages. Keys, values and headers of uncompressed batches are
// slices of the answer: a message keeps its answer in memory.
type recordReader struct {
	from     int64 // records below it are passed over: a batch is sent whole
	next     int64 // the offset behind everything read so far
	limit    int   // how many bytes may be inflated before reading stops early
	bare     bool  // headers are passed over
	inflated int
	messages []processor.Message
	headers  []cloudevents.Header // what is left of an allocation shared by many records
}

// read reads as many whole batches as there are. What is cut off at the end comes again with the next answer. With an
// error, what was read before it is good: next is where the trouble starts.
func (r *recordReader) read(b []byte) error {
	r.next = r.from
	for len(b) >= batchHeader {
		n := int(int32(binary.BigEndian.Uint32(b[batchLength:])))
		if n < batchHeader-batchPrefix {
			return fmt.Errorf("%w: batch at offset %d is %d bytes long", errCorrupt, r.next, n)
		}
		if n > len(b)-batchPrefix {
			return nil
		}
		full, err := r.batch(b[:batchPrefix+n])
		if err != nil || full {
			return err
		}
		b = b[batchPrefix+n:]
	}
	return nil
}

// batch reads one batch. It reports whether the limit was reached inside it.
func (r *recordReader) batch(b []byte) (full bool, err error) {
	if b[batchMagic] != 2 {
		return false, fmt.Errorf("%w: batch behind offset %d has format %d, not 2", errCorrupt, r.next, b[batchMagic])
	}
	if sum := crc32.Checksum(b[batchAttributes:], castagnoli); sum != binary.BigEndian.Uint32(b[batchCRC:]) {
		return false, fmt.Errorf("%w: checksum of the batch behind offset %d does not match", errCorrupt, r.next)
	}
	base := int64(binary.BigEndian.Uint64(b[batchBaseOffset:]))
	lastDelta := int32(binary.BigEndian.Uint32(b[batchLastOffsetDelta:]))
	end := base + int64(lastDelta) + 1
	count := int(int32(binary.BigEndian.Uint32(b[batchRecordCount:])))
	if base < 0 || lastDelta < 0 || end <= base || count < 0 {
		return false, fmt.Errorf("%w: batch of %d records covers offsets from %d to before %d", errCorrupt, count, base, end)
	}
	if end <= r.from {
		return false, nil // an answer may begin with a batch that ends before what was asked for
	}
	if base < r.next && r.next != r.from {
		return false, fmt.Errorf("%w: batch begins at offset %d, inside the one before it, which ends at %d", errCorrupt, base, r.next)
	}
	attributes := binary.BigEndian.Uint16(b[batchAttributes:])
	if attributes&attributeControl != 0 {
		r.next = end // a transaction's marker
		return false, nil
	}
	run := recordRun{
		base: base, end: end, count: count,
		first: int64(binary.BigEndian.Uint64(b[batchFirstTimestamp:])),
	}
	if attributes&attributeLogAppendTime != 0 {
		run.appended, run.stamp = true, int64(binary.BigEndian.Uint64(b[batchMaxTimestamp:]))
	}
	if codec := attributes & attributeCompression; codec != 0 {
		full, err = r.compressed(&run, codec, b[batchHeader:])
	} else {
		err = r.uncompressed(&run, b[batchHeader:])
	}
	if err != nil {
		return false, fmt.Errorf("%w: batch at offsets %d to %d: %w", errCorrupt, base, end-1, err)
	}
	if !full {
		r.next = end // also where compaction took the batch's tail, or all of it
	}
	return full, nil
}

// recordRun is what all records of a batch share.
type recordRun struct {
	base, end int64
	count     int // of records that are still to come
	first     int64
	appended  bool // LogAppendTime: all records have the stamp
	stamp     int64
	last      int64 // the offset of the record before, +1
}

var errShort = errors.New("ends inside a record")

func (r *recordReader) uncompressed(run *recordRun, b []byte) error {
	if least := 7; run.count > 0 && run.count <= len(b)/least && r.messages == nil {
		r.messages = make([]processor.Message, 0, run.count)
	}
	for ; run.count > 0; run.count-- {
		body, rest, ok := cutRecord(b)
		if !ok {
			return errShort
		}
		if err := r.record(run, body); err != nil {
			return err
		}
		b = rest
	}
	if len(b) != 0 {
		return errors.New("record count does not match")
	}
	return nil
}

// cutRecord takes the first record's body off b, if it is there as a whole.
func cutRecord(b []byte) (body, rest []byte, ok bool) {
	n, w := binary.Varint(b)
	if w <= 0 || n < 0 || n > int64(len(b)-w) {
		return nil, b, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}

// record reads one record's body and keeps it, unless it lies before what was asked for.
func (r *recordReader) record(run *recordRun, b []byte) error {
	c := cursor{b: b}
	c.skip(1) // attributes
	timestampDelta := c.varint()
	offset, err := run.offset(c.varint())
	if err != nil {
		return err
	}
	if offset < r.from {
		return nil
	}
	m := processor.Message{Offset: offset}
	m.Key = c.bytes()
	m.Value = c.bytes()
	n := c.varint()
	if n < 0 || n > int64(len(c.b)/2) { // a header takes two bytes at least
		return errShort
	}
	if r.bare {
		c.skip(len(c.b))
	} else {
		m.Headers = r.takeHeaders(int(n), run.count)
	}
	for i := range m.Headers {
		name := c.bytes()
		m.Headers[i] = cloudevents.Header{Name: headerName(name), Value: c.bytes()}
	}
	if c.short || len(c.b) != 0 {
		return errShort
	}
	m.Time = run.time(timestampDelta)
	r.messages = append(r.messages, m)
	return nil
}

// offset checks that offsets rise and stay inside the batch.
func (run *recordRun) offset(delta int64) (int64, error) {
	offset := run.base + delta
	if delta < 0 || offset >= run.end || offset < run.last {
		return 0, fmt.Errorf("a record has offset %d", offset)
	}
	run.last = offset + 1
	return offset, nil
}

func (run *recordRun) time(delta int64) time.Time {
	if run.appended {
		return time.UnixMilli(run.stamp)
	}
	return time.UnixMilli(run.first + delta)
}

// takeHeaders allocates for many records at once: most records of a batch have as many headers as its first one.
func (r *recordReader) takeHeaders(n, records int) []cloudevents.Header {
	if n == 0 {
		return nil
	}
	if n > len(r.headers) {
		r.headers = make([]cloudevents.Header, n*max(1, min(records, 4096/n)))
	}
	h := r.headers[:n:n]
	r.headers = r.headers[n:]
	return h
}

// knownHeaders are the names that dibs itself and OpenTelemetry write: no allocation for them.
var knownHeaders = func() map[string]string {
	m := make(map[string]string)
	for _, name := range []string{
		cloudevents.ContentType, cloudevents.SpecVersion, cloudevents.ID, cloudevents.Type, cloudevents.Source,
		cloudevents.Time, cloudevents.Subject, cloudevents.Principal, "ce_dibssig", "ce_datacontenttype", "traceparent",
		"tracestate",
	} {
		m[name] = name
	}
	return m
}()

func headerName(b []byte) string {
	if s, ok := knownHeaders[string(b)]; ok {
		return s
	}
	return string(b)
}

// cursor reads a record's fields. Once it runs short it stays so.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) skip(n int) {
	if n > len(c.b) {
		c.short, n = true, len(c.b)
	}
	c.b = c.b[n:]
}

func (c *cursor) varint() int64 {
	v, w := binary.Varint(c.b)
	if w <= 0 {
		c.short = true
		return 0
	}
	c.b = c.b[w:]
	return v
}

// bytes is nil for null.
func (c *cursor) bytes() []byte {
	n := c.varint()
	switch {
	case n < 0:
		return nil
	case n > int64(len(c.b)):
		c.short = true
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}
