// Package eventtest keeps records as golden files: one JSON object with the key, the headers in their order, the value
// and the time, all as text, so that a reviewer and the tests of other languages read the contract without us.
//
// It is for tests only, and touches nothing but the files it is pointed at.
package eventtest

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/cloudevents"
)

// golden is a record in a file. Value is text, not nested JSON: its bytes are the contract.
type golden struct {
	Key     string      `json:"key"`
	Headers [][2]string `json:"headers"`
	Value   string      `json:"value"`
	Time    string      `json:"time,omitempty"` // left out where the writer's clock stamps the record
}

// Read reads the record in a golden file.
func Read(t testing.TB, path string) cloudevents.Record {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	r := cloudevents.Record{Key: []byte(g.Key), Value: []byte(g.Value)}
	for _, h := range g.Headers {
		r.Headers = append(r.Headers, cloudevents.Header{Name: h[0], Value: []byte(h[1])})
	}
	if g.Time != "" {
		if r.Time, err = time.Parse(time.RFC3339Nano, g.Time); err != nil {
			t.Fatalf("read %s: %v", path, err)
		}
	}
	return r
}

// Check compares a record with a golden file, byte for byte, or writes the file anew.
func Check(t testing.TB, path string, r cloudevents.Record, update bool) {
	t.Helper()
	got := encode(t, r)
	if update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is a contract and the record differs from it. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

// encode writes a line per header, so that a difference is one of lines.
func encode(t testing.TB, r cloudevents.Record) []byte {
	t.Helper()
	b := append([]byte("{\n  \"key\": "), text(t, r.Key)...)
	b = append(b, ",\n  \"headers\": ["...)
	for i, h := range r.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, "\n    ["...), text(t, []byte(h.Name))...)
		b = append(append(append(b, ", "...), text(t, h.Value)...), ']')
	}
	b = append(append(b, "\n  ],\n  \"value\": "...), text(t, r.Value)...)
	if !r.Time.IsZero() {
		b = append(append(b, ",\n  \"time\": "...), text(t, r.Time.UTC().AppendFormat(nil, time.RFC3339Nano))...)
	}
	return append(b, "\n}\n"...)
}

func text(t testing.TB, b []byte) []byte {
	t.Helper()
	if !utf8.Valid(b) {
		t.Fatalf("%q is not text", b)
	}
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	if err := e.Encode(string(b)); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))
}
