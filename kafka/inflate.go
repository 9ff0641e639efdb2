package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dibs-hq/dibs/processor"
	"github.com/segmentio/kafka-go/compress"
)

// maxRecordBytes is how large an inflated record may be to be handed on. No record of dibs comes near it, and no topic
// would take one uncompressed; it keeps a small batch that inflates to gigabytes from taking the memory.
const maxRecordBytes = 16 << 20

const snappy = 2 // Kafka's number for the codec

// compressed reads a compressed batch, at most r.limit bytes of records at a time: it reports whether it stopped there.
// The batch then comes again, and reading goes on at r.next. A record above maxRecordBytes is handed on without key,
// value and headers: it cannot be answered, but it is not passed over.
func (r *recordReader) compressed(run *recordRun, codec uint16, b []byte) (full bool, err error) {
	c := compress.Compression(codec).Codec()
	if c == nil {
		return false, fmt.Errorf("unknown compression %d", codec)
	}
	if codec == snappy {
		if err := checkSnappy(b); err != nil {
			return false, err
		}
	}
	in := c.NewReader(bytes.NewReader(b))
	defer func() { _ = in.Close() }() // it has been read as far as it is needed

	var buffer []byte // inflated and not read yet; records that are kept point into it
	end := false      // of in
	for run.count > 0 {
		body, rest, ok := cutRecord(buffer)
		switch {
		case recordTooLarge(buffer): // first: it depends on the record alone, not on how much is inflated by now
			if buffer, err = r.oversized(run, buffer, in); err != nil {
				return false, err
			}
			run.count--
		case ok:
			before := len(r.messages)
			if err := r.record(run, body); err != nil {
				return false, err
			}
			run.count--
			buffer = rest
			r.inflated += len(body) * (len(r.messages) - before) // what was passed over is free again
			if r.inflated > r.limit && len(r.messages) > 0 && run.count > 0 {
				r.next = max(r.from, run.last)
				return true, nil
			}
		case end:
			return false, errShort
		default:
			if buffer, end, err = inflateMore(buffer, in); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// inflateMore returns what is left and as much again, in an array of its own: records point into the old one.
func inflateMore(left []byte, in io.Reader) (more []byte, end bool, err error) {
	more = make([]byte, max(64<<10, 2*len(left)))
	n := copy(more, left)
	m, err := io.ReadFull(in, more[n:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return more[:n+m], true, nil
	case err != nil:
		return nil, false, fmt.Errorf("inflate: %w", err)
	}
	return more, false, nil
}

// recordTooLarge reports whether b begins with a record that is not to be read into memory.
func recordTooLarge(b []byte) bool {
	n, w := binary.Varint(b)
	return w > 0 && n > maxRecordBytes
}

// oversized passes the bytes of a record by and keeps its place. It returns what is left of the buffer.
func (r *recordReader) oversized(run *recordRun, b []byte, in io.Reader) ([]byte, error) {
	n, w := binary.Varint(b)
	b = b[w:]
	c := cursor{b: b}
	c.skip(1)
	timestampDelta, offsetDelta := c.varint(), c.varint()
	if c.short {
		return nil, errShort // cannot be: more than that is inflated at once
	}
	offset, err := run.offset(offsetDelta)
	if err != nil {
		return nil, err
	}
	if offset >= r.from {
		m := processor.Message{Offset: offset}
		m.Time = run.time(timestampDelta)
		r.messages = append(r.messages, m)
	}
	if have := int64(len(b)); have < n {
		if _, err := io.CopyN(io.Discard, in, n-have); err != nil {
			return nil, fmt.Errorf("inflate: %w", err)
		}
		return nil, nil
	}
	return b[n:], nil
}

// checkSnappy looks at the lengths that snappy's frames claim before the codec allocates by them.
func checkSnappy(b []byte) error {
	xerial := []byte{130, 'S', 'N', 'A', 'P', 'P', 'Y', 0}
	if !bytes.HasPrefix(b, xerial) {
		return checkSnappyFrame(b)
	}
	if len(b) < 16 {
		return errShort
	}
	for b = b[16:]; len(b) > 0; {
		if len(b) < 4 {
			return errShort
		}
		n := int64(binary.BigEndian.Uint32(b))
		if n > int64(len(b)-4) {
			return errShort
		}
		if err := checkSnappyFrame(b[4 : 4+n]); err != nil {
			return err
		}
		b = b[4+n:]
	}
	return nil
}

func checkSnappyFrame(b []byte) error {
	// A frame begins with its inflated length, and snappy does not shrink anything to less than a 21st part.
	if n, w := binary.Uvarint(b); w <= 0 || n > 32*uint64(len(b))+64 {
		return errors.New("snappy frame claims an impossible length")
	}
	return nil
}
