package processor_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/processor"
)

// spoken is a log.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *spoken) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(line)
}

// warnings returns what was said of records on the wrong partition, and forgets it.
func (s *spoken) warnings() (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.text.String()) {
		if _, of, ok := strings.Cut(line, `msg="records came to the wrong partition and were forwarded" `); ok {
			lines = append(lines, strings.TrimSpace(of))
		}
	}
	s.text.Reset()
	return lines
}

// put appends a claim to a partition as a producer would that has its own idea of keys and partitions.
func (s *riggedLogs) put(p int32, label, name, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := asking{id: label, name: name, owner: "u-1"}.message(int64(len(s.records[p])))
	m.Time, m.Key = time.Now(), []byte(key)
	s.records[p] = append(s.records[p], m)
}

// TestMisroutedProducersAreNamed: the log says which producer puts records on the wrong partition, and how to mend it;
// once a minute is enough.
func TestMisroutedProducersAreNamed(t *testing.T) {
	byCRC := func(name string) int32 { return int32(crc32.ChecksumIEEE([]byte("username/"+name)) % pinned) }
	right := func(name string) int32 { return claims.Partition("username/"+name, pinned) }
	find := func(ok func(name string, p int32) bool) (string, int32) {
		for i := 0; ; i++ {
			name := fmt.Sprintf("name%d", i)
			for p := range int32(pinned) {
				if p != right(name) && ok(name, p) {
					return name, p
				}
			}
		}
	}
	librdkafka, crcPartition := find(func(name string, p int32) bool { return p == byCRC(name) })
	other, otherPartition := find(func(name string, p int32) bool { return p != byCRC(name) })
	var log spoken
	withRig(t, func(r *rig) { r.log = slog.New(slog.NewTextHandler(&log, nil)) }, func(r *rig) {
		says := func(want string) {
			t.Helper()
			r.pass(2 * time.Second)
			if got := strings.Join(log.warnings(), "\n"); got != want {
				t.Errorf("the log says\n%s\nwant\n%s", got, want)
			}
		}
		line := func(n int, p int32, name, fix string) string {
			return fmt.Sprintf(`records=%d partition=%d belongs=%d source=test fix=%q`, n, p, right(name), fix)
		}
		const fixCRC = "set partitioner=murmur2_random in that producer: librdkafka hashes keys by CRC32 unless it is told"
		r.logs.put(right(other), "a", other, "username/"+other)
		says("")
		r.logs.put(crcPartition, "b", librdkafka, "username/"+librdkafka)
		says(line(1, crcPartition, librdkafka, fixCRC))
		for i := range 20 {
			r.logs.put(crcPartition, fmt.Sprint("c", i), librdkafka, "username/"+librdkafka)
			r.pass(time.Second)
		}
		says("")
		r.pass(time.Minute)
		r.logs.put(otherPartition, "d", other, "username/"+other)
		says(line(21, otherPartition, other, "that producer must use the partitioner of the Java client: (murmur2(key) & 0x7fffffff) % partitions"))
		r.pass(time.Minute)
		r.logs.put(otherPartition, "e", other, strings.ToUpper(other))
		says(line(1, otherPartition, other, "the key of its records must be <space>/<key>, with the key of the name"))
		if n := r.metricOf("dibs_rows_total", string(processor.KindForwarded)); n != 23 {
			t.Errorf("%v records are counted as forwarded, want 23", n)
		}
	})
}

// metricOf is a metric's value for a label.
func (r *rig) metricOf(name, label string) (value float64) {
	r.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				value += m.GetCounter().GetValue()
			}
		}
	}
	return value
}
