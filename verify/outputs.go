package verify

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"strconv"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// outputs are what a replayed log publishes on registrations: a hash of each record, and whether it was found there. An
// offset has one outcome as a rule, and seldom facts; or that of a sign-up, and of what came too late for it.
type outputs struct {
	logEpoch, from int64
	seed           maphash.Seed
	hash           []uint64         // of the outcome of each offset; 0 where it has none
	found          []uint64         // a bit for each
	facts          map[int64][]fact // and further outcomes
	buffer         []byte
}

type fact struct {
	hash  uint64
	found bool
}

func newOutputs(logEpoch, from, to int64) *outputs {
	n := max(0, to-from)
	return &outputs{
		logEpoch: logEpoch, from: from, seed: maphash.MakeSeed(),
		hash: make([]uint64, n), found: make([]uint64, (n+63)/64), facts: make(map[int64][]fact),
	}
}

func (x *outputs) covers(at Position) bool {
	return at.LogEpoch == x.logEpoch && at.Offset >= x.from && at.Offset < x.from+int64(len(x.hash))
}

// expect notes what a replayed row publishes.
func (x *outputs) expect(row *processor.Row) {
	if row.Kind != processor.KindOutcome && row.Kind != processor.KindFact || !row.Outcome.Type.Published() {
		return
	}
	h := x.sum(row.Outcome.Record())
	if row.Kind == processor.KindFact || x.hash[row.Offset-x.from] != 0 {
		x.facts[row.Offset] = append(x.facts[row.Offset], fact{hash: h})
		return
	}
	x.hash[row.Offset-x.from] = h
}

// sum is a hash over all of a record, never 0. Its seed is another one each time, so nobody makes two records that share
// one.
func (x *outputs) sum(r cloudevents.Record) uint64 {
	b := x.buffer[:0]
	part := func(p []byte) { b = append(binary.AppendUvarint(b, uint64(len(p))), p...) }
	part(r.Key)
	part(r.Value)
	for i := range r.Headers {
		b = append(binary.AppendUvarint(b, uint64(len(r.Headers[i].Name))), r.Headers[i].Name...)
		part(r.Headers[i].Value)
	}
	b = binary.AppendVarint(b, r.Time.UnixMilli())
	x.buffer = b
	return max(1, maphash.Bytes(x.seed, b))
}

// match looks for a record among what its offset publishes. It reports whether it is there, and whether it was found before.
func (x *outputs) match(offset int64, r cloudevents.Record) (expected, again bool) {
	h, i := x.sum(r), offset-x.from
	if x.hash[i] == h {
		again = x.isFound(i)
		x.found[i/64] |= 1 << (i % 64)
		return true, again
	}
	facts := x.facts[offset]
	for k := range facts {
		if facts[k].hash == h {
			again = facts[k].found
			facts[k].found = true
			return true, again
		}
	}
	return false, false
}

func (x *outputs) isFound(i int64) bool { return x.found[i/64]&(1<<(i%64)) != 0 }

// missing hands out the offsets in [from, to) of which something was not found, and how many things.
func (x *outputs) missing(to int64, each func(offset int64, n int)) {
	for i := range min(int64(len(x.hash)), to-x.from) {
		n := 0
		if x.hash[i] != 0 && !x.isFound(i) {
			n++
		}
		for _, f := range x.facts[x.from+i] {
			if !f.found {
				n++
			}
		}
		if n > 0 {
			each(x.from+i, n)
		}
	}
}

// count is how many outputs there are from an offset on.
func (x *outputs) count(from int64) (n int64) {
	for i := max(0, from-x.from); i < int64(len(x.hash)); i++ {
		if x.hash[i] != 0 {
			n++
		}
		n += int64(len(x.facts[x.from+i]))
	}
	return n
}

var positionLabels = [3][]byte{[]byte(`,"partition":`), []byte(`,"log_epoch":`), []byte(`,"offset":`)}

// whereDecided reads where an outcome says that it was decided: what its value ends with. It reports false for a value that no
// processor of ours wrote.
func whereDecided(value []byte) (partition int32, at Position, ok bool) {
	var n [3]int64
	i := bytes.LastIndex(value, positionLabels[0])
	if i < 0 {
		return 0, at, false
	}
	rest := value[i:]
	for k, label := range positionLabels {
		if rest, ok = bytes.CutPrefix(rest, label); !ok {
			return 0, at, false
		}
		end := bytes.IndexAny(rest, ",}")
		if end < 0 {
			return 0, at, false
		}
		var err error
		if n[k], err = strconv.ParseInt(string(rest[:end]), 10, 64); err != nil {
			return 0, at, false
		}
		rest = rest[end:]
	}
	return int32(n[0]), Position{n[1], n[2]}, n[0] == int64(int32(n[0])) && string(rest) == "}"
}
