package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

var now = time.UnixMilli(1_795_000_000_123)

// someRecords are n records with everything that may differ between two: null and empty, many and no headers, times
// that go back.
func someRecords(n int) []cloudevents.Record {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	bytes := func() []byte {
		switch rnd.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		b := make([]byte, rnd.IntN(300))
		for i := range b {
			b[i] = byte(rnd.IntN(256))
		}
		return b
	}
	records := make([]cloudevents.Record, n)
	for i := range records {
		r := cloudevents.Record{Key: bytes(), Value: bytes(), Time: now.Add(time.Duration(rnd.IntN(2000)-1000) * time.Millisecond)}
		for range rnd.IntN(4) {
			r.Headers = append(r.Headers, cloudevents.Header{Name: string(bytes()), Value: bytes()})
		}
		if rnd.IntN(3) == 0 {
			r.Headers = append(r.Headers, cloudevents.Header{Name: cloudevents.ID, Value: []byte("x")})
		}
		records[i] = r
	}
	return records
}

func asPending(records []cloudevents.Record) []*pending {
	out := make([]*pending, len(records))
	for i := range records {
		out[i] = &pending{record: records[i]}
	}
	return out
}

// placed puts a batch at an offset, as a broker does.
func placed(batch []byte, base int64) []byte {
	b := bytes.Clone(batch)
	binary.BigEndian.PutUint64(b[batchBaseOffset:], uint64(base))
	return b
}

// changed edits a batch and makes its checksum right again.
func changed(batch []byte, edit func([]byte)) []byte {
	b := bytes.Clone(batch)
	edit(b)
	binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchAttributes:], castagnoli))
	return b
}

// compressed is the batch with its records compressed.
func compressed(t testing.TB, batch []byte, codec compress.Compression) []byte {
	var b bytes.Buffer
	w := codec.Codec().NewWriter(&b)
	if _, err := w.Write(batch[batchHeader:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return changed(append(bytes.Clone(batch[:batchHeader]), b.Bytes()...), func(b []byte) {
		binary.BigEndian.PutUint32(b[batchLength:], uint32(len(b)-batchPrefix))
		binary.BigEndian.PutUint16(b[batchAttributes:], uint16(codec))
	})
}

func messages(records []cloudevents.Record, base int64) []processor.Message {
	out := make([]processor.Message, len(records))
	for i, r := range records {
		out[i] = processor.Message{Offset: base + int64(i), Record: r}
	}
	return out
}

// same fails at the first difference.
func same[T any](t testing.TB, want, got []T) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("got %d, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(want[i], got[i]) {
			t.Fatalf("number %d is\n%.500s\nnot\n%.500s", i, fmt.Sprintf("%+v", got[i]), fmt.Sprintf("%+v", want[i]))
		}
	}
}

var codecs = []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd}

func TestBatchReadsBack(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			records := someRecords(1000)
			a, b := appendBatch(nil, asPending(records[:300]), now), appendBatch(nil, asPending(records[300:]), now)
			if codec != compress.None {
				a, b = compressed(t, a, codec), compressed(t, b, codec)
			}
			log := append(placed(a, 40), placed(b, 340)...)
			for _, from := range []int64{0, 40, 41, 339, 340, 341, 1039} {
				in := recordReader{from: from, limit: 1 << 20}
				if err := in.read(log); err != nil {
					t.Fatal(err)
				}
				want := messages(records, 40)[max(0, from-40):]
				same(t, want, in.messages)
				if in.next != 1040 {
					t.Errorf("next is %d", in.next)
				}
			}
		})
	}
}

// What we write is what kafka-go reads, and the other way round.
func TestBatchAgreesWithKafkaGo(t *testing.T) {
	records := someRecords(200)
	ours := appendBatch(nil, asPending(records), now)
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(ours))), ours...)
	var set protocol.RecordSet
	if _, err := set.ReadFrom(bytes.NewReader(framed)); err != nil {
		t.Fatal(err)
	}
	for i := range records {
		r, err := set.Records.ReadRecord()
		if err != nil {
			t.Fatal(err)
		}
		same(t, records[i:i+1], []cloudevents.Record{fromKafkaGo(t, r)})
	}
	if _, err := set.Records.ReadRecord(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last record: %v", err)
	}

	theirs := byKafkaGo(t, records)
	in := recordReader{}
	if err := in.read(theirs[4:]); err != nil {
		t.Fatal(err)
	}
	same(t, messages(records, 0), in.messages)
}

func fromKafkaGo(t testing.TB, r *protocol.Record) cloudevents.Record {
	out := cloudevents.Record{Time: r.Time}
	var err error
	if out.Key, err = protocol.ReadAll(r.Key); err != nil {
		t.Fatal(err)
	}
	if out.Value, err = protocol.ReadAll(r.Value); err != nil {
		t.Fatal(err)
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, cloudevents.Header{Name: h.Key, Value: h.Value})
	}
	return out
}

func byKafkaGo(t testing.TB, records []cloudevents.Record) []byte {
	out := make([]protocol.Record, len(records))
	for i, r := range records {
		out[i] = protocol.Record{Time: r.Time, Key: protocol.NewBytes(r.Key), Value: protocol.NewBytes(r.Value)}
		for _, h := range r.Headers {
			out[i].Headers = append(out[i].Headers, protocol.Header{Key: h.Name, Value: h.Value})
		}
	}
	var b bytes.Buffer
	set := protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(out...)}
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRecordWithoutTimeGetsTheClock(t *testing.T) {
	batch := appendBatch(nil, asPending([]cloudevents.Record{{Value: []byte("a")}, {Time: now.Add(-time.Hour)}}), now)
	in := recordReader{}
	if err := in.read(batch); err != nil {
		t.Fatal(err)
	}
	if !in.messages[0].Time.Equal(now) || !in.messages[1].Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("times are %v and %v", in.messages[0].Time, in.messages[1].Time)
	}
}

// K17: kafka-go returns the producer's clock here.
func TestLogAppendTimeIsTheBrokers(t *testing.T) {
	batch := changed(appendBatch(nil, asPending(someRecords(3)), now), func(b []byte) {
		b[batchAttributes+1] |= attributeLogAppendTime
		binary.BigEndian.PutUint64(b[batchMaxTimestamp:], uint64(now.UnixMilli()+99))
	})
	in := recordReader{}
	if err := in.read(batch); err != nil {
		t.Fatal(err)
	}
	for _, m := range in.messages {
		if !m.Time.Equal(now.Add(99 * time.Millisecond)) {
			t.Errorf("time is %v", m.Time)
		}
	}
}

// K16: the next offset lies behind what compaction and transactions left, though no record says so.
func TestNextIsBehindWhatHasNoRecord(t *testing.T) {
	batch := placed(appendBatch(nil, asPending(someRecords(5)), now), 10)
	tailGone := changed(batch, func(b []byte) { binary.BigEndian.PutUint32(b[batchLastOffsetDelta:], 8) })
	allGone := changed(batch[:batchHeader], func(b []byte) {
		binary.BigEndian.PutUint32(b[batchLength:], batchHeader-batchPrefix)
		binary.BigEndian.PutUint32(b[batchRecordCount:], 0)
	})
	marker := changed(batch, func(b []byte) { b[batchAttributes+1] |= attributeControl })
	for name, tt := range map[string]struct {
		log      []byte
		from     int64
		messages int
		next     int64
	}{
		"nothing":              {nil, 10, 0, 10},
		"compacted tail":       {tailGone, 10, 5, 19},
		"inside the tail":      {tailGone, 16, 0, 19},
		"compacted altogether": {allGone, 12, 0, 15},
		"transaction marker":   {marker, 10, 0, 15},
		"marker, then records": {append(bytes.Clone(marker), placed(batch, 15)...), 10, 5, 20},
		"gap before the batch": {batch, 3, 5, 15},
		"ends before":          {batch, 15, 0, 15},
		"cut off":              {append(bytes.Clone(batch), placed(batch, 15)[:80]...), 10, 5, 15},
		"header cut off":       {append(bytes.Clone(batch), 0, 0, 0), 10, 5, 15},
	} {
		in := recordReader{from: tt.from}
		if err := in.read(tt.log); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(in.messages) != tt.messages || in.next != tt.next {
			t.Errorf("%s: %d messages, next %d; want %d and %d", name, len(in.messages), in.next, tt.messages, tt.next)
		}
	}
}

// K30: nothing behind something that cannot be read is handed out, and next never passes it.
func TestCorruptBatchStopsReading(t *testing.T) {
	good := appendBatch(nil, asPending(someRecords(20)), now)
	for name, bad := range map[string][]byte{
		"bit flipped":        flip(good, batchHeader+17),
		"old format":         changed(good, func(b []byte) { b[batchMagic] = 1 }),
		"no length":          changed(good, func(b []byte) { binary.BigEndian.PutUint32(b[batchLength:], 3) }),
		"negative length":    changed(good, func(b []byte) { binary.BigEndian.PutUint32(b[batchLength:], 0x80000000) }),
		"too few records":    changed(good, func(b []byte) { b[batchRecordCount+3]++ }),
		"too many records":   changed(good, func(b []byte) { b[batchRecordCount+3]-- }),
		"negative count":     changed(good, func(b []byte) { b[batchRecordCount] = 0x80 }),
		"offset outside":     changed(good, func(b []byte) { b[batchLastOffsetDelta+3]-- }),
		"no offsets":         changed(good, func(b []byte) { b[batchLastOffsetDelta] = 0xff }),
		"unknown codec":      changed(good, func(b []byte) { b[batchAttributes+1] |= 7 }),
		"not gzip":           changed(good, func(b []byte) { b[batchAttributes+1] |= 1 }),
		"not snappy":         changed(good, func(b []byte) { b[batchAttributes+1] |= 2 }),
		"inside its earlier": nil,
	} {
		log := append(placed(good, 100), placed(good, 120)...)
		if bad != nil {
			log = append(log, placed(bad, 140)...)
		} else {
			log = append(log, placed(good, 130)...)
		}
		log = append(log, placed(good, 160)...)
		in := recordReader{from: 105}
		if err := in.read(log); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if in.next != 140 || len(in.messages) < 35 {
			t.Errorf("%s: next is %d, %d messages", name, in.next, len(in.messages))
		}
		for _, m := range in.messages {
			if m.Offset >= 160 {
				t.Errorf("%s: handed out offset %d", name, m.Offset)
			}
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A small batch that inflates to much more than the limit is read a piece at a time, to the end.
func TestInflatingIsBounded(t *testing.T) {
	t.Parallel()
	records := make([]cloudevents.Record, 80)
	for i := range records {
		records[i] = cloudevents.Record{Value: bytes.Repeat([]byte{byte(i)}, 100_000), Time: now}
	}
	plain := appendBatch(nil, asPending(records), now)
	for _, codec := range codecs[1:] {
		batch := placed(compressed(t, plain, codec), 7)
		var got []processor.Message
		rounds := 0
		for from := int64(0); from < 87; rounds++ {
			in := recordReader{from: from, limit: 1 << 20}
			if err := in.read(batch); err != nil {
				t.Fatal(codec, err)
			}
			if in.next <= from || in.inflated > 1<<20+200_000 {
				t.Fatalf("%v: from %d to %d, %d bytes", codec, from, in.next, in.inflated)
			}
			got = append(got, in.messages...)
			from = in.next
		}
		if rounds < 6 {
			t.Errorf("%v: read in %d rounds", codec, rounds)
		}
		same(t, messages(records, 7), got)
	}
}

// A record that is larger than anybody could answer keeps its place, its time and its neighbours.
func TestOversizedRecordKeepsItsPlace(t *testing.T) {
	t.Parallel()
	records := []cloudevents.Record{
		{Key: []byte("a"), Time: now}, {Key: []byte("big"), Value: make([]byte, maxRecordBytes), Time: now.Add(time.Second)},
		{Key: []byte("c"), Time: now},
	}
	plain := appendBatch(nil, asPending(records), now)
	want := messages(records, 0)
	want[1].Key, want[1].Value = nil, nil
	for _, codec := range codecs[1:] {
		for _, from := range []int64{0, 2} {
			in := recordReader{from: from, limit: 1 << 30}
			if err := in.read(compressed(t, plain, codec)); err != nil {
				t.Fatal(codec, err)
			}
			same(t, want[from:], in.messages)
		}
	}
}

// The sizes that decide how much goes into a batch are never too small.
func TestRecordSizeIsAnUpperBound(t *testing.T) {
	for _, r := range append(someRecords(500), cloudevents.Record{Value: make([]byte, 1<<20), Time: now.Add(1e6 * time.Hour)}) {
		n := len(appendRecord(nil, &r, r.Time.UnixMilli()-now.UnixMilli(), 1<<20))
		if n > r.Size() {
			t.Fatalf("record takes %d bytes, Size says %d", n, r.Size())
		}
	}
}

func FuzzReadBatches(f *testing.F) {
	batch := appendBatch(nil, asPending(someRecords(5)), now)
	f.Add(batch, int64(0))
	for _, codec := range codecs[1:] {
		f.Add(compressed(f, batch, codec), int64(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, from int64) {
		if len(b) >= batchHeader { // or next to nothing comes past the checksum
			b = changed(b, func([]byte) {})
		}
		in := recordReader{from: from, limit: 1 << 20}
		err := in.read(b)
		last := from - 1
		for _, m := range in.messages {
			if m.Offset <= last {
				t.Fatalf("offset %d after %d", m.Offset, last)
			}
			last = m.Offset
		}
		if in.next < from || err == nil && in.next <= last {
			t.Fatalf("next is %d, from %d, last %d", in.next, from, last)
		}
	})
}

func FuzzFetchAnswer(f *testing.F) {
	f.Add(int16(11), []byte(strings.Repeat("\x00", 100)))
	f.Fuzz(func(_ *testing.T, version int16, b []byte) {
		_, _ = decodeFetch(version, b)
	})
}

// benchRecords look like claims.
func benchRecords(n int) []cloudevents.Record {
	e := cloudevents.Event{Type: "dibs.UsernameClaimed.v1", Source: "gateway", Subject: "username/alice", Principal: "gateway", Time: now}
	records := make([]cloudevents.Record, n)
	for i := range records {
		records[i] = cloudevents.Record{
			Key: []byte("username/alice"), Headers: e.Headers(0), Time: now,
			Value: []byte(`{"space":"username","name":"Alice","owner":"u-17","mode":"register"}`),
		}
	}
	return records
}

func BenchmarkEncode(b *testing.B) {
	records := benchRecords(1000)
	size := int64(len(appendBatch(nil, asPending(records), now)))
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		p := asPending(records)
		var buf []byte
		for b.Loop() {
			buf = appendBatch(buf[:0], p, now)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
	})
	b.Run("kafka-go", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			byKafkaGo(b, records)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
	})
}

func BenchmarkDecode(b *testing.B) {
	records := benchRecords(1000)
	batch := appendBatch(nil, asPending(records), now)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(batch)))
		b.ReportAllocs()
		for b.Loop() {
			in := recordReader{}
			if err := in.read(batch); err != nil || len(in.messages) != 1000 {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
	})
	b.Run("kafka-go", func(b *testing.B) {
		framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(batch))), batch...)
		b.SetBytes(int64(len(batch)))
		b.ReportAllocs()
		for b.Loop() {
			var set protocol.RecordSet
			if _, err := set.ReadFrom(bytes.NewBuffer(framed)); err != nil {
				b.Fatal(err)
			}
			for range records {
				r, err := set.Records.ReadRecord()
				if err != nil {
					b.Fatal(err)
				}
				fromKafkaGo(b, r)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
	})
}
