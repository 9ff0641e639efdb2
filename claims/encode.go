package claims

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/go-json-experiment/json/jsontext"
)

// Record writes a claim of the name ref as the record to be produced: see NewRecord.
func (c *UsernameClaimed) Record(e cloudevents.Event, ref names.Ref, extra ...cloudevents.Header) cloudevents.Record {
	return NewRecord(c, e, ref, extra...)
}

// NewRecord writes a request about the name ref as the record to be produced. The event's type and subject are filled in;
// extra headers (trace context) are passed through behind ours. Its Time is left zero: the writer stamps it when it
// sends.
func NewRecord(body Body, e cloudevents.Event, ref names.Ref, extra ...cloudevents.Header) cloudevents.Record {
	e.Type = body.Type()
	e.Subject = ref.String()
	f := body.fields()
	return cloudevents.Record{
		Key:     []byte(e.Subject),
		Value:   f.appendJSON(make([]byte, 0, 160+len(f.Spelling)+len(f.Owner))),
		Headers: append(e.Headers(len(extra)), extra...),
	}
}

// AppendJSON appends the claim as the value of its record.
func (c *UsernameClaimed) AppendJSON(b []byte) []byte {
	f := c.fields()
	return f.appendJSON(b)
}

func appendInt(b []byte, label string, n *int64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(append(b, label...), *n, 10)
}

// appendString appends s as a JSON string. Invalid UTF-8 comes out as U+FFFD; callers check before.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// appendMetadata appends metadata as canonical JSON (RFC 8785).
func appendMetadata(b []byte, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareUTF16)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendString(b, k), ':'), m[k])
	}
	return append(b, '}')
}

// compareUTF16 orders two strings by their UTF-16 code units, as RFC 8785 does. That is the order of their bytes, but
// for what lies beyond the basic plane: its surrogates (lead byte 0xf0 and up) come before U+E000 to U+FFFF (lead byte
// 0xee and 0xef).
func compareUTF16(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if x, y := a[i], b[i]; x != y {
			if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
				x, y = y, x
			}
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}
