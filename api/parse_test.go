package api

import (
	"strings"
	"testing"
	"time"
)

func FuzzParsePrefer(f *testing.F) {
	for _, s := range []string{"wait=1", "respond-async, wait=10", `a="b\"c,d";e=f;g, wait = "3"`, ",,;", `x="`, "wait=1;", "wait=00000000000000000000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := parsePrefer(&header, 5*time.Second, 30*time.Second)
		if err != nil {
			return
		}
		if p.wait < 0 || p.wait > 30*time.Second {
			t.Errorf("%q: a wait of %s", header, p.wait)
		}
		if strings.ContainsAny(p.applied, "\r\n") {
			t.Errorf("%q: applied is %q", header, p.applied)
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"7-1-4711", "0-1-0", "a-b-c", "--", "11-9223372036854775807-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := parsePosition(s, 12)
		if !ok {
			return
		}
		if again, ok := parsePosition(p.String(), 12); !ok || again != p {
			t.Errorf("%q is %v, which reads as %v", s, p, again)
		}
	})
}

func FuzzCheckJSON(f *testing.F) {
	f.Add([]byte(`{"name":"Alice","owner":"u","metadata":{"a":"b"},"expected_version":1}`))
	f.Add([]byte(`{"name":"Alice","Name":"Bob"}`))
	f.Add([]byte("{\"\xff\":null}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c ClaimRequest
		if err := checkJSON(data, &c); err != nil {
			if asRefused(err).Reason != BadRequest400 {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		name := valueOf(c.Name, c.Fields).Name
		if strings.IndexByte(name+c.Owner, 0) >= 0 || !text(name) || !text(c.Owner) {
			t.Errorf("%q was let through", data)
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	data := []byte(`{"name":"Alice","owner":"u-17","metadata":{"from":"web"},"expected_version":1}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := checkJSON(data, new(ClaimRequest)); err != nil {
			b.Fatal(err)
		}
	}
}
