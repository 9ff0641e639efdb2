//go:build !race

package client_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/dibstest/allocs"
)

// always is an API that accepts.
type always struct{ body string }

func (a always) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusCreated, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// What a claim costs whoever makes it, but for net/http's own part.
func TestAllocations(t *testing.T) {
	api := always{`{"claim_id":"6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a","request_id":"6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a","type":"UsernameClaimed",` +
		`"space":"username","key":"alice","name":"Alice","owner":"u-17","state":"accepted","version":1,"decided_at":"2026-11-21T10:00:00.123Z","partition":7,"log_epoch":1,"offset":4711}`}
	c, err := client.New("http://localhost", client.WithHTTPClient(&http.Client{Transport: api}))
	if err != nil {
		t.Fatal(err)
	}
	allocs.Check(t, allocs.Case{Name: "claim", Run: func() {
		if r, err := c.Claim(t.Context(), client.Claim{Name: "Alice", Owner: "u-17"}); err != nil || r.State != client.Accepted {
			t.Fatal(r, err)
		}
	}})
}
