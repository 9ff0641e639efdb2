package kafka

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"
)

// place is where to read a partition on.
type place struct {
	partition int32
	offset    int64
}

// fetchRequest asks a leader for records of several partitions of one topic. The order of the places matters: the first
// one that has something gets at least one batch, however large it is.
func fetchRequest(topic string, places []place, wait time.Duration, maxBytes, partitionMax int) *fetchapi.Request {
	partitions := make([]fetchapi.RequestPartition, len(places))
	for i, p := range places {
		partitions[i] = fetchapi.RequestPartition{
			Partition: p.partition, CurrentLeaderEpoch: -1, FetchOffset: p.offset, LogStartOffset: -1,
			PartitionMaxBytes: int32(partitionMax),
		}
	}
	return &fetchapi.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: int32(maxBytes),
		SessionEpoch: -1, // no session: every request names its partitions, so a lost answer loses nothing
		Topics:       []fetchapi.RequestTopic{{Topic: topic, Partitions: partitions}},
	}
}

// fetchAnswer is the answer with the batches as they came. kafka-go's decoder drops the last offset of a batch, takes a
// batch that it could read only in part for a whole one, and has no LogAppendTime.
type fetchAnswer struct {
	err        error // of the whole request
	size       int
	partitions []fetchedPartition
}

type fetchedPartition struct {
	partition     int32
	err           error
	highWatermark int64
	logStart      int64 // -1 where the broker does not say
	batches       []byte
}

// ApiKey implements protocol.Message.
func (*fetchAnswer) ApiKey() protocol.ApiKey { //nolint:staticcheck // kafka-go's name
	return protocol.Fetch
}

// decodeFetch reads the body of an answer, versions 4 to 11.
func decodeFetch(version int16, b []byte) (protocol.Message, error) {
	if version < 4 || version > 11 {
		return nil, fmt.Errorf("fetch version %d is not supported", version)
	}
	d := wireReader{b: b}
	a := &fetchAnswer{size: len(b)}
	d.take(4) // throttle time
	if version >= 7 {
		a.err = codeError(d.int16())
		d.take(4) // session id
	}
	for range d.count(6) {
		d.take(int(d.int16())) // the topic: we ask for one
		for range d.count(26) {
			p := fetchedPartition{partition: d.int32(), err: codeError(d.int16()), highWatermark: d.int64(), logStart: -1}
			d.take(8) // last stable offset
			if version >= 5 {
				p.logStart = d.int64()
			}
			for range d.count(16) {
				d.take(16) // an aborted transaction
			}
			if version >= 11 {
				d.take(4) // preferred read replica
			}
			if n := d.int32(); n > 0 {
				p.batches = d.take(int(n))
			}
			a.partitions = append(a.partitions, p)
		}
	}
	if d.short || len(d.b) != 0 {
		return nil, fmt.Errorf("%w: fetch answer of %d bytes does not add up", errCorrupt, len(b))
	}
	return a, nil
}

// wireReader reads the fixed-width encoding of old protocol versions. Once it runs short it gives zeros.
type wireReader struct {
	b     []byte
	short bool
}

func (d *wireReader) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.short, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *wireReader) int16() int16 {
	if v := d.take(2); v != nil {
		return int16(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (d *wireReader) int32() int32 {
	if v := d.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (d *wireReader) int64() int64 {
	if v := d.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

// count reads an array's length, where each element takes at least size bytes. Null is empty.
func (d *wireReader) count(size int) int {
	n := int(d.int32())
	if n > len(d.b)/size {
		d.short, d.b = true, nil
		return 0
	}
	return max(n, 0)
}
