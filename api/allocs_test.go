//go:build !race

package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/dibstest/allocs"
	"github.com/dibs-hq/dibs/names"
)

// What a claim costs in process, and with HTTP's part but for net/http's own.
func TestAllocations(t *testing.T) {
	c := benchClaimer(t)
	s, err := api.NewServer(api.Config{}, c, auth.None{})
	if err != nil {
		t.Fatal(err)
	}
	post := func(status int, body string, headers ...string) func() {
		r := newRequest(t, http.MethodPost, "/v1/claims", body)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		answer := &thrownAway{header: make(http.Header)}
		return func() {
			clear(answer.header)
			answer.status, r.Body = 0, io.NopCloser(strings.NewReader(body))
			if s.ServeHTTP(answer, r); answer.status != status {
				t.Fatalf("%d, want %d", answer.status, status)
			}
		}
	}
	allocs.Check(t,
		allocs.Case{Name: "claim", Run: func() {
			r, err := c.Claim(t.Context(), "bench", api.Request{Space: names.Username, Name: "Alice", Owner: "u-17", Mode: claims.ModeRegister}, time.Second)
			if err != nil || r.Outcome == nil {
				t.Fatal(r, err)
			}
		}},
		allocs.Case{Name: "http", Run: post(http.StatusCreated, alice)},
		allocs.Case{Name: "http/headers", Run: post(http.StatusCreated, alice, "Prefer: wait=3", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")},
		allocs.Case{Name: "http/metadata", Run: post(http.StatusCreated, `{"name":"Alice","owner":"u-17","metadata":{"from":"web"}}`)},
		allocs.Case{Name: "http/invalid", Run: post(http.StatusUnprocessableEntity, `{"name":"-","owner":"u-17"}`)},
	)
}

// thrownAway is an answer that nobody reads.
type thrownAway struct {
	header http.Header
	status int
}

func (w *thrownAway) Header() http.Header         { return w.header }
func (w *thrownAway) Write(b []byte) (int, error) { return len(b), nil }
func (w *thrownAway) WriteHeader(status int)      { w.status = status }
