package registrations

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/cloudevents"
)

// plainValues are those of the golden files, and how many of them are read the short way.
func plainValues(t testing.TB) (values []string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d golden files: %v", len(files), err)
	}
	short := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var golden struct{ Value string }
		if err := json.Unmarshal(b, &golden); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		values = append(values, golden.Value)
		if _, ok := readPlain([]byte(golden.Value)); ok {
			short++
		}
	}
	if short < 2 {
		t.Errorf("%d golden values are read the short way: accepted and taken must be", short)
	}
	return values
}

// alike checks that what is read the short way is read alike the long way.
func alike(t *testing.T, value []byte) {
	short, ok := readPlain(value)
	if !ok {
		return
	}
	long, err := decode(cloudevents.Record{Value: value})
	if err != nil {
		t.Fatalf("%q is read the short way, and not the long way: %v", value, err)
	}
	if short != long {
		t.Fatalf("%q\nshort %+v\nlong  %+v", value, short, long)
	}
}

// Any one byte is changed, left out or doubled.
func TestPlainIsReadAlike(t *testing.T) {
	for _, v := range plainValues(t) {
		alike(t, []byte(v))
		for i := range v {
			for _, c := range []byte("\"\\\x00\x1f09a-+.eEZ{},: \x7f\xc3\xff") {
				alike(t, []byte(v[:i]+string([]byte{c})+v[i+1:]))
			}
			alike(t, []byte(v[:i]+v[i+1:]))
			alike(t, []byte(v[:i]+v[i:i+1]+v[i:]))
			alike(t, []byte(v[:i]))
		}
	}
}

func TestPlainNumbers(t *testing.T) {
	value := plainValues(t)[0]
	for _, n := range []string{"0", "00", "01", "-1", "1e3", "1.0", "2147483647", "2147483648", "999999999999999999", "9223372036854775807", "9223372036854775808"} {
		for _, field := range []string{`"version":1`, `"policy_version":1`, `"partition":7`, `"log_epoch":1`, `"offset":4711`} {
			name, _, _ := strings.Cut(field, ":")
			alike(t, []byte(strings.Replace(value, field, name+":"+n, 1)))
		}
	}
}

func FuzzPlainIsReadAlike(f *testing.F) {
	for _, v := range plainValues(f) {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		kept := bytes.Clone(value)
		alike(t, value)
		if !bytes.Equal(kept, value) {
			t.Fatal("the value was changed")
		}
	})
}
