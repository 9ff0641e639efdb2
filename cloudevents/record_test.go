package cloudevents_test

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"pgregory.net/rapid"
)

// The hash is stored with the offset and compared by later versions: its value is fixed. These were computed with
// another implementation of CRC-32C over the big-endian lengths and bytes of key, value, and each header's name and value.
func TestHashIsFixed(t *testing.T) {
	for name, test := range map[string]struct {
		record cloudevents.Record
		want   uint32
	}{
		"null":  {cloudevents.Record{}, 0x48674bc7},
		"empty": {cloudevents.Record{Key: []byte{}, Value: []byte{}}, 0x8c28b28a},
		"text":  {cloudevents.Record{Key: []byte("username/alice"), Value: []byte("{}"), Headers: headers("ce_id", "1", "x", "")}, 0x76bb8ca4},
	} {
		if got := test.record.Hash(); got != test.want {
			t.Errorf("%s: %#08x, want %#08x", name, got, test.want)
		}
	}
}

func TestHashTellsRecordsApart(t *testing.T) {
	seen := make(map[uint32]string)
	for name, r := range map[string]cloudevents.Record{
		"nothing":               {},
		"empty key":             {Key: []byte{}},
		"empty value":           {Value: []byte{}},
		"key":                   {Key: []byte("ab")},
		"value":                 {Value: []byte("ab")},
		"key and value":         {Key: []byte("a"), Value: []byte("b")},
		"header":                {Headers: headers("a", "b")},
		"header without value":  {Headers: []cloudevents.Header{{Name: "ab"}}},
		"header, empty value":   {Headers: headers("ab", "")},
		"headers":               {Headers: headers("a", "b", "c", "d")},
		"headers, other order":  {Headers: headers("c", "d", "a", "b")},
		"headers, run together": {Headers: headers("a", "bcd")},
	} {
		if other, ok := seen[r.Hash()]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[r.Hash()] = name
	}
}

func TestHashLeavesTheTimeOut(t *testing.T) {
	a := cloudevents.Record{Key: []byte("k")}
	b := a
	b.Time = time.Now()
	if a.Hash() != b.Hash() {
		t.Error("the time is part of the hash") // with LogAppendTime or a forwarded copy it would change
	}
}

func TestHeader(t *testing.T) {
	r := cloudevents.Record{Headers: headers("a", "1", "b", "2", "a", "3")}
	if v, ok := r.Header("a"); !ok || string(v) != "1" {
		t.Errorf("a = %q, %v: the first one counts", v, ok)
	}
	if v, ok := r.Header("A"); ok {
		t.Errorf("A = %q, and there is none", v)
	}
}

// What a batch takes is added up from Size: it must never be too little.
func TestSizeIsEnough(t *testing.T) {
	varint := func(n int) int { // zigzag, as in Kafka's record format
		size := 1
		for u := uint64(n) << 1; u >= 0x80; u >>= 7 {
			size++
		}
		return size
	}
	rapid.Check(t, func(t *rapid.T) {
		r := cloudevents.Record{Key: make([]byte, rapid.IntRange(0, 600).Draw(t, "key")), Value: make([]byte, rapid.IntRange(0, 1<<20).Draw(t, "value"))}
		n := varint(len(r.Key)) + len(r.Key) + varint(len(r.Value)) + len(r.Value)
		for range rapid.IntRange(0, 20).Draw(t, "headers") {
			h := cloudevents.Header{Name: "abcdefgh", Value: make([]byte, rapid.IntRange(0, 9000).Draw(t, "header"))}
			r.Headers = append(r.Headers, h)
			n += varint(len(h.Name)) + len(h.Name) + varint(len(h.Value)) + len(h.Value)
		}
		n += varint(len(r.Headers)) + 1 + 10 + 5 // attributes, timestamp delta, offset delta
		n += varint(n)
		if r.Size() < n {
			t.Fatalf("Size is %d, the wire takes %d", r.Size(), n)
		}
	})
}
