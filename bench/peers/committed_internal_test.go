package peers

import (
	"slices"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"
)

// TestCommitted: of what a broker gives, the records of transactions that were aborted are passed over, and no others.
func TestCommitted(t *testing.T) {
	t.Parallel()
	batch := func(producer, offset int64, attributes protocol.Attributes, values ...string) *protocol.RecordBatch {
		var records []protocol.Record
		for i, v := range values {
			records = append(records, protocol.Record{Offset: offset + int64(i), Value: protocol.NewBytes([]byte(v))})
		}
		return &protocol.RecordBatch{Attributes: attributes, BaseOffset: offset, ProducerID: producer, Records: protocol.NewRecordReader(records...)}
	}
	marker := func(producer, offset int64, kind int16) *protocol.ControlBatch {
		b := protocol.NewControlBatch(protocol.ControlRecord{Offset: offset, Type: kind})
		b.BaseOffset, b.ProducerID = offset, producer
		return b
	}
	const abort, commit = 0, 1
	part := &fetchapi.ResponsePartition{
		AbortedTransactions: []fetchapi.ResponseTransaction{{ProducerID: 1, FirstOffset: 12}, {ProducerID: 1, FirstOffset: 21}},
		RecordSet: protocol.RecordSet{Records: &protocol.RecordStream{Records: []protocol.RecordReader{
			batch(1, 8, protocol.Transactional, "read before", "a"), // 9 is asked for
			marker(1, 10, commit),
			batch(0, 11, 0, "plain"),
			batch(1, 12, protocol.Transactional, "void 1", "void 2"),
			batch(2, 14, protocol.Transactional, "b"),
			batch(1, 15, protocol.Transactional, "void 3"),
			marker(1, 16, abort),
			marker(2, 17, commit),
			batch(1, 18, protocol.Transactional, "c", "d"),
			marker(1, 20, commit),
			batch(1, 21, protocol.Transactional, "void 4"),
			marker(1, 22, abort),
			batch(1, 23, protocol.Transactional, "e"),
			marker(1, 24, commit),
		}}},
	}
	var got []string
	c := &committed{next: map[int32]int64{0: 9}, take: func(_ int32, value []byte) { got = append(got, string(value)) }}
	if err := c.read(part); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "plain", "b", "c", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c.next[0] != 25 {
		t.Errorf("goes on at %d, not behind the last marker", c.next[0])
	}
}
