package processor

import (
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
)

// warnEvery is how often a lane says that records come to the wrong partition: once is enough to mend a producer.
const warnEvery = time.Minute

// misrouted are the records that a lane has forwarded since it last said so.
type misrouted struct {
	count int
	said  time.Time
}

// Why a record is where it does not belong, and what its producer has to change.
const (
	fixKey         = "the key of its records must be <space>/<key>, with the key of the name"
	fixPartitioner = "set partitioner=murmur2_random in that producer: librdkafka hashes keys by CRC32 unless it is told"
	fixPartition   = "that producer must use the partitioner of the Java client: (murmur2(key) & 0x7fffffff) % partitions"
)

// fix says how a record gets to its place without being forwarded.
func (r *Received) fix(partition int32, partitions int) string {
	switch {
	case string(r.Key) != r.Ref.RecordKey():
		return fixKey
	case int32(crc32.ChecksumIEEE(r.Key)%uint32(partitions)) == partition:
		return fixPartitioner
	}
	return fixPartition
}

// warn says now and then that records of a run were forwarded, and how to mend the producer of one of them. Where
// look-alikes are kept apart nobody is to blame for the key.
func (l *lane) warn(r *run, b *Batch) {
	var last *Received
	count := 0
	for i := range b.Rows {
		if b.Rows[i].Kind != KindForwarded {
			continue
		}
		at, ok := slices.BinarySearchFunc(r.records, b.Rows[i].Offset, func(r Received, offset int64) int { return int(r.Offset - offset) })
		if !ok {
			continue
		}
		if rec := &r.records[at]; rec.Policy == nil || !rec.Policy.KeepsLookalikesApart() || string(rec.Key) == rec.Ref.RecordKey() {
			count++
			last = rec
		}
	}
	if last == nil {
		return
	}
	now := l.clock.Now()
	l.mu.Lock()
	l.misrouted.count += count
	was := l.misrouted
	quiet := !was.said.IsZero() && now.Sub(was.said) < warnEvery
	if !quiet {
		l.misrouted = misrouted{said: now}
	}
	l.mu.Unlock()
	if !quiet {
		l.log.Warn("records came to the wrong partition and were forwarded",
			"records", was.count, "partition", b.Fence.Partition, "belongs", claims.Partition(last.Ref.RecordKey(), l.rules.Partitions),
			"source", shortened(last.Request.Source), "fix", last.fix(b.Fence.Partition, l.rules.Partitions))
	}
}

// shortened is what a stranger wrote, for the log.
func shortened(text string) string { return strings.ToValidUTF8(text[:min(len(text), 64)], "?") }
