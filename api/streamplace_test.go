package api

import (
	"encoding/base64"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func somePlace(r *rand.Rand, partitions int, highest int64) Place {
	p := Place{Log: [4]byte{byte(r.Uint32()), 2, 3, 255}, Offsets: make([]int64, partitions)}
	for i := range p.Offsets {
		p.Offsets[i] = r.Int64N(highest + 1)
	}
	if i := r.IntN(partitions); p.Offsets[i] > 0 && r.IntN(4) > 0 {
		p.Last = LandmarkOf(int32(i), p.Offsets[i]-1-r.Int64N(min(3, p.Offsets[i])), []byte("value"))
	}
	return p
}

func TestPlaceThereAndBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := somePlace(r, 1+r.IntN(50), []int64{0, 1, 200, 1 << 20, maxOffset}[r.IntN(5)])
		text := p.String()
		if !idPattern.MatchString(text) {
			t.Fatalf("%q is not for headers and URLs", text)
		}
		back, err := ParsePlace(text)
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v is read as %+v, %v", p, back, err)
		}
	}
	if n := len(new(somePlace(r, 12, 1<<24)).String()); n > 90 {
		t.Errorf("the id of 12 partitions has %d characters", n)
	}
	large := somePlace(r, 1000, 1<<34)
	if text := large.String(); len(text) > maxPlace {
		t.Errorf("the id of 1000 partitions has %d characters", len(text))
	} else if _, err := ParsePlace(text); err != nil {
		t.Error(err)
	}
}

// Whatever is not an id as a whole is none: cut off, changed, or of a version to come.
func TestPlaceFromGarbage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := somePlace(r, 12, 1<<24)
	text := p.String()
	bad := []string{"", "1", "garbage", "AAAA", text + "A", text + "=", " " + text, text[1:], strings.Repeat("A", 10_000), "4711", "7-1-4711"}
	for i := range len(text) {
		bad = append(bad, text[:i])
		if text[i] != 'B' {
			bad = append(bad, text[:i]+"B"+text[i+1:])
		}
	}
	for _, s := range bad {
		if got, err := ParsePlace(s); err == nil {
			t.Errorf("%q is read as %+v", s, got)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	p := somePlace(rand.New(rand.NewPCG(5, 6)), 3, 1000)
	f.Add([]byte(nil))
	raw, _ := base64.RawURLEncoding.DecodeString(p.String())
	f.Add(raw[:len(raw)-4])
	f.Add([]byte{1, 0, 0, 0, 0, 1, 5, 3, 200, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		sealed := base64.RawURLEncoding.EncodeToString(sealed(body))
		place, err := ParsePlace(sealed)
		if err != nil {
			return
		}
		again, err := ParsePlace(place.String())
		if err != nil || !reflect.DeepEqual(place, again) {
			t.Errorf("%q: %+v, then %+v, %v", sealed, place, again, err)
		}
		for _, o := range place.Offsets {
			if o < 0 || o > maxOffset {
				t.Errorf("%q has the offset %d", sealed, o)
			}
		}
		if l := place.Last; l.Known && (l.Offset < 0 || l.Offset >= place.Offsets[l.Partition]) {
			t.Errorf("%q has a landmark at %d", sealed, l.Offset)
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	p := somePlace(rand.New(rand.NewPCG(7, 8)), 12, 1<<24)
	var text, scratch []byte
	b.ReportAllocs()
	for b.Loop() {
		text, scratch = p.appendTo(text[:0], scratch)
	}
}
