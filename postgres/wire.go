package postgres

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
)

// Postgres' binary format, for the statements on every claim's path. A field is its length, or -1 for null, and its
// bytes: the same in a row of COPY and in an array, so that a column is written by one function in both.

// The type ids that our columns have.
const (
	oidBool        = 16
	oidBytea       = 17
	oidChar        = 18
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidTimestamptz = 1184
	oidUUID        = 2950
)

// column is one column of rows T.
type column[T any] struct {
	name string
	oid  uint32
	cast string
	// field appends the row's field.
	field func(b []byte, row *T) []byte
}

func appendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func appendInt2(b []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 2), uint16(v))
}

func appendInt4(b []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
}

func appendInt8(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

func appendChar(b []byte, c byte) []byte { return append(b, 0, 0, 0, 1, c) }

func appendText[T ~string](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func appendUUID(b []byte, id uuid.UUID) []byte { return append(append(b, 0, 0, 0, 16), id[:]...) }

// Each of these writes null for the zero value.

func appendInt4OrNull(b []byte, v int32) []byte {
	if v == 0 {
		return appendNull(b)
	}
	return appendInt4(b, v)
}

func appendInt8OrNull(b []byte, v int64) []byte {
	if v == 0 {
		return appendNull(b)
	}
	return appendInt8(b, v)
}

func appendTrueOrNull(b []byte, v bool) []byte {
	if !v {
		return appendNull(b)
	}
	return append(b, 0, 0, 0, 1, 1)
}

func appendCharOrNull(b []byte, c byte) []byte {
	if c == 0 {
		return appendNull(b)
	}
	return appendChar(b, c)
}

func appendTextOrNull[T ~string](b []byte, s T) []byte {
	if s == "" {
		return appendNull(b)
	}
	return appendText(b, s)
}

func appendUUIDOrNull(b []byte, id uuid.UUID) []byte {
	if id == uuid.Nil {
		return appendNull(b)
	}
	return appendUUID(b, id)
}

// epoch is where Postgres counts microseconds from, in Unix milliseconds: 2000-01-01.
const epoch = 946_684_800_000

// appendTime appends a timestamptz, in milliseconds of precision. A time that Postgres cannot hold is written as one
// that it refuses: the largest but one, for the largest is infinity.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return appendNull(b)
	}
	const bound = math.MaxInt64/1000 - epoch
	ms := t.UnixMilli()
	switch {
	case ms > bound:
		return appendInt8(b, math.MaxInt64-1)
	case ms < -bound:
		return appendInt8(b, math.MinInt64+1)
	}
	return appendInt8(b, (ms-epoch)*1000)
}

// appendArray appends an array of one column of rows, as the value of a parameter.
func appendArray[T any](b []byte, c *column[T], rows []T) []byte {
	if len(rows) == 0 {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // no dimension
		return binary.BigEndian.AppendUint32(b, c.oid)
	}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 1) // one dimension, maybe nulls
	b = binary.BigEndian.AppendUint32(b, c.oid)
	b = binary.BigEndian.AppendUint32(b, uint32(len(rows)))
	b = append(b, 0, 0, 0, 1) // counted from one
	for i := range rows {
		b = c.field(b, &rows[i])
	}
	return b
}

// arrays returns the rows as parameters, one array for each column.
func arrays[T any](columns []column[T], rows []T) [][]byte {
	params := make([][]byte, len(columns))
	var b []byte
	for i := range columns {
		start := len(b)
		b = appendArray(b, &columns[i], rows)
		params[i] = b[start:len(b):len(b)]
	}
	return params
}

// appendCopy appends the rows as the whole input of a COPY … FROM STDIN BINARY.
func appendCopy[T any](b []byte, columns []column[T], rows []T) []byte {
	b = append(b, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for i := range rows {
		b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
		for c := range columns {
			b = columns[c].field(b, &rows[i])
		}
	}
	return append(b, 0xff, 0xff)
}

// fields are those of one row that was read; nil stands for null. They are valid until the next row is read. A null
// reads as the zero value.
type fields [][]byte

func (f fields) int2(i int) int16 {
	if len(f[i]) != 2 {
		return 0
	}
	return int16(binary.BigEndian.Uint16(f[i]))
}

func (f fields) int4(i int) int32 {
	if len(f[i]) != 4 {
		return 0
	}
	return int32(binary.BigEndian.Uint32(f[i]))
}

func (f fields) int8(i int) int64 {
	if len(f[i]) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(f[i]))
}

func (f fields) char(i int) byte {
	if len(f[i]) != 1 {
		return 0
	}
	return f[i][0]
}

func (f fields) bool(i int) bool { return len(f[i]) == 1 && f[i][0] == 1 }

func (f fields) text(i int) string { return string(f[i]) }

func (f fields) uuid(i int) uuid.UUID {
	var id uuid.UUID
	copy(id[:], f[i])
	return id
}

func (f fields) time(i int) time.Time {
	if len(f[i]) != 8 {
		return time.Time{}
	}
	us := f.int8(i)
	return time.UnixMilli(us/1000 + epoch).UTC()
}

// must checks how many fields there are, once per row: the SQL and the code that reads it are written apart.
func (f fields) must(n int) error {
	if len(f) != n {
		return fmt.Errorf("a row has %d fields, not %d", len(f), n)
	}
	return nil
}
