package api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
)

// Place is how far somebody has read registrations: what the id of an event says.
type Place struct {
	// Log tells the topic of one cluster from that of another.
	Log [4]byte
	// Offsets has, for each partition, the next one to read.
	Offsets []int64
	// Last is a record that was read on the way here. Where the log does not have it any more it is another log, though
	// it may be as long.
	Last Landmark
}

// Landmark is a record by which a log is known again. The zero Landmark is none.
type Landmark struct {
	Partition int32
	Offset    int64
	Hash      uint32
	Known     bool
}

// LandmarkOf makes a landmark of a record.
func LandmarkOf(partition int32, offset int64, value []byte) Landmark {
	return Landmark{Partition: partition, Offset: offset, Hash: crc32.Checksum(value, castagnoli), Known: true}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoPlace says that a text is not the id of an event.
var errNoPlace = errors.New("is not the id of an event")

const (
	placeVersion = 1
	// maxPlace is how long an id may be: a thousand partitions fit, and it fits into a header.
	maxPlace = 7 << 10
	// maxOffset is above all that Kafka has; what adds up to more is no id.
	maxOffset = 1 << 62
)

// passed moves the place behind a record.
func (p *Place) passed(partition int32, offset int64, value []byte) {
	for int(partition) >= len(p.Offsets) { // it was added
		p.Offsets = append(p.Offsets, 0)
	}
	p.Offsets[partition] = offset + 1
	p.Last = LandmarkOf(partition, offset, value)
}

func (p *Place) clone() Place {
	c := *p
	c.Offsets = slices.Clone(p.Offsets)
	return c
}

// appendTo appends the place as the text of an id: version, log, offsets, landmark and a checksum, in base64 for URLs and
// headers. scratch is used and returned.
func (p *Place) appendTo(b, scratch []byte) (text, used []byte) {
	s := append(append(scratch[:0], placeVersion), p.Log[:]...)
	s = binary.AppendUvarint(s, uint64(len(p.Offsets)))
	for _, offset := range p.Offsets {
		s = binary.AppendUvarint(s, uint64(offset))
	}
	if l := p.Last; l.Known { // counted back from its partition's offset, from which it is not far
		s = binary.AppendUvarint(s, uint64(p.Offsets[l.Partition]-l.Offset))
		s = binary.AppendUvarint(s, uint64(l.Partition))
		s = binary.BigEndian.AppendUint32(s, l.Hash)
	} else {
		s = append(s, 0)
	}
	s = sealed(s)
	return base64.RawURLEncoding.AppendEncode(b, s), s
}

// sealed appends the checksum: an id that was cut off or mistyped is told from one that is of another log.
func sealed(s []byte) []byte { return binary.BigEndian.AppendUint32(s, crc32.Checksum(s, castagnoli)) }

func (p *Place) String() string {
	text, _ := p.appendTo(nil, nil)
	return string(text)
}

// ParsePlace reads the id of an event. Whether the place is in the log is not known then.
func ParsePlace(text string) (Place, error) {
	if len(text) > maxPlace {
		return Place{}, errNoPlace
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 1+4+1+1+4 || b[0] != placeVersion {
		return Place{}, errNoPlace
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return Place{}, errNoPlace
	}
	p := Place{Log: [4]byte(body[1:5])}
	in := numbers{b: body[5:]}
	n := in.next()
	if n == 0 || n > uint64(len(in.b)) { // each takes a byte at least
		return Place{}, errNoPlace
	}
	p.Offsets = make([]int64, n)
	for i := range p.Offsets {
		p.Offsets[i] = int64(in.next())
	}
	if back := in.next(); back > 0 {
		partition := in.next()
		if in.bad || partition >= n || back > uint64(p.Offsets[partition]) || len(in.b) < 4 {
			return Place{}, errNoPlace
		}
		p.Last = Landmark{
			Partition: int32(partition), Offset: p.Offsets[partition] - int64(back), Hash: binary.BigEndian.Uint32(in.b), Known: true,
		}
		in.b = in.b[4:]
	}
	if in.bad || len(in.b) != 0 {
		return Place{}, errNoPlace
	}
	return p, nil
}

// numbers reads one number after the other. Once one is wrong it gives zeros.
type numbers struct {
	b   []byte
	bad bool
}

func (n *numbers) next() uint64 {
	v, size := binary.Uvarint(n.b)
	if size <= 0 || v > maxOffset {
		n.bad, n.b = true, nil
		return 0
	}
	n.b = n.b[size:]
	return v
}
