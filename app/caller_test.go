package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/dibstest/checker"
)

// transport holds as many connections open as a test has callers.
var transport = &http.Transport{MaxIdleConnsPerHost: 600, IdleConnTimeout: 5 * time.Second}

// asked is a claim as a client makes it.
type asked struct {
	name, owner string
	key         string // Idempotency-Key
	id          string // claim_id
	prefer      string
}

// answer is what came back: err, or the rest.
type answer struct {
	err    error
	status int
	header http.Header
	body   []byte
	// claim has the fields of a claim and of a problem.
	claim struct {
		ClaimID                                  string `json:"claim_id"`
		State, Reason, Space, Key, Owner, Detail string
		Version, Offset                          int64
		Partition                                int32
		LogEpoch                                 int32 `json:"log_epoch"`
	}
	took time.Duration
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %.300s", a.status, a.body)
}

// decided reports whether the answer is that of the log.
func (a answer) decided() bool {
	return a.status == http.StatusCreated || a.status == http.StatusConflict && a.claim.ClaimID != ""
}

// claim claims a name at an API, and keeps what the client was told for the checker.
func (d *deployment) claim(api *process, c asked) answer {
	body := map[string]string{"name": c.name, "owner": c.owner}
	if c.id != "" {
		body["claim_id"] = c.id
	}
	text, err := json.Marshal(body)
	if err != nil {
		return answer{err: err}
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if c.key != "" {
		header.Set("Idempotency-Key", c.key)
	}
	if c.prefer != "" {
		header.Set("Prefer", c.prefer)
	}
	a := call(http.MethodPost, api.apiAddr(), "/v1/claims", header, text)
	d.told(a)
	return a
}

// look asks an API for a path, such as the Location of an answer.
func (d *deployment) look(api *process, path, prefer string) answer {
	header := http.Header{}
	if prefer != "" {
		header.Set("Prefer", prefer)
	}
	a := call(http.MethodGet, api.apiAddr(), path, header, nil)
	if a.claim.ClaimID != "" {
		d.told(a)
	}
	return a
}

// told keeps an answer about a claim.
func (d *deployment) told(a answer) {
	told := checker.Answer{RequestID: a.claim.ClaimID}
	if a.claim.Key != "" {
		told.RecordKey = a.claim.Space + "/" + a.claim.Key
	}
	switch {
	case told.RequestID == "":
		return
	case a.claim.State == "accepted":
		told.Outcome, told.Version = "Accepted", a.claim.Version
	case a.claim.State == "rejected", a.status == http.StatusConflict:
		told.Outcome, told.Reason = "Rejected", a.claim.Reason
	}
	d.mu.Lock()
	d.answers = append(d.answers, told)
	d.mu.Unlock()
}

func get(addr, path string) answer { return call(http.MethodGet, addr, path, nil, nil) }

func call(method, addr, path string, header http.Header, body []byte) (a answer) {
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	if header != nil {
		r.Header = header
	}
	began := time.Now()
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return answer{err: err, took: time.Since(began)}
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	a.body, a.err = io.ReadAll(response.Body)
	a.took = time.Since(began)
	if a.err == nil && len(a.body) > 0 && a.body[0] == '{' {
		a.err = json.Unmarshal(a.body, &a.claim)
	}
	if trace := dibstest.Trace(fmt.Appendf(nil, "%s\n%v", a.body, a.header)); trace != "" {
		a.err = fmt.Errorf("a private value is in the answer: %s", trace)
	}
	return a
}

func mustJSON(t testing.TB, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%.300q: %v", text, err)
	}
}
