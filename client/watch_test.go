package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// chunks is the body of a stream: each piece comes after a pause; then it ends, or hangs until it is closed.
type chunks struct {
	pieces []string
	pause  time.Duration
	hangs  bool
	ended  error
	ctx    context.Context
}

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.pieces) == 0 {
		if c.hangs {
			<-c.ctx.Done()
			return 0, c.ctx.Err()
		}
		if c.ended != nil {
			return 0, c.ended
		}
		return 0, io.EOF
	}
	select {
	case <-time.After(c.pause):
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	}
	n := copy(b, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; c.pieces[0] == "" {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *chunks) Close() error { return nil }

// streaming is an API that answers each request for a stream with the next of these.
type streaming struct {
	answers []any // chunks, a step, or an error; the last one repeats
	start   time.Time
	at      []time.Duration
	asked   []string // Last-Event-ID and query
}

func (s *streaming) RoundTrip(r *http.Request) (*http.Response, error) {
	s.at = append(s.at, time.Since(s.start).Round(100*time.Millisecond))
	s.asked = append(s.asked, r.Header.Get("Last-Event-ID")+"?"+r.URL.RawQuery)
	resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Request: r}
	switch a := s.answers[min(len(s.asked), len(s.answers))-1].(type) {
	case chunks:
		a.ctx, a.pieces = r.Context(), slices.Clone(a.pieces)
		resp.Body = &a
	case step:
		resp.StatusCode, resp.Body = a.status, io.NopCloser(strings.NewReader(a.body))
		resp.Header.Set("Content-Type", "application/problem+json")
		if name, value, ok := strings.Cut(a.headers, ": "); ok {
			resp.Header.Set(name, value)
		}
	case error:
		return nil, a
	}
	return resp, nil
}

func eventText(i int) string {
	return fmt.Sprintf("id: id%d\nevent: Accepted\ndata: {\"request_id\":%q,\"space\":\"username\",\"key\":\"n%d\",\"name\":\"N\",\"owner\":\"u\",\"outcome\":\"Accepted\",\"state\":\"registered\",\"version\":%d,\"log_time\":\"2026-11-21T10:00:00.123Z\",\"policy_version\":1,\"request_hash\":\"00\",\"partition\":7,\"log_epoch\":1,\"offset\":%d,\"later\":true}\n\n", i, id, i, i, i)
}

// watched runs a watch in a bubble until it has so many events, and returns their ids and what ended it.
func watched(t *testing.T, api *streaming, n int, request client.WatchRequest, options ...client.Option) (ids []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api.start = time.Now()
		c, cErr := client.New("http://dibs.test", append([]client.Option{client.WithHTTPClient(&http.Client{Transport: api})}, options...)...)
		if cErr != nil {
			t.Fatal(cErr)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		for event, e := range c.Watch(ctx, request) {
			if e != nil {
				err = e
				continue // it was the last one
			}
			ids = append(ids, event.ID)
			if len(ids) == n {
				break
			}
		}
	})
	return ids, err
}

// Whatever ends a connection, the next one goes on behind the last event that came as a whole.
func TestWatchGoesOn(t *testing.T) {
	half := eventText(3)
	api := &streaming{answers: []any{
		chunks{pieces: []string{"retry: 3000\nid: id0\n\n", eventText(1)[:20], eventText(1)[20:], ":\n\n", eventText(2), half[:len(half)-1]}},
		errors.New("connection reset"),
		step{status: 503, headers: "Retry-After: 7", body: `{"reason":"too_busy","type":"/problems/too_busy","title":"x","status":503}`},
		step{status: 502, body: "a proxy"},
		chunks{pieces: []string{"id: id2\n\n", strings.ReplaceAll(eventText(3), "\n", "\r\n")}, ended: io.ErrUnexpectedEOF},
		chunks{pieces: []string{"id: moved\n\n"}, hangs: true}, // falls silent
		chunks{pieces: []string{eventText(4)}, hangs: true},
	}}
	var moved []string
	ids, err := watched(t, api, 4, client.WatchRequest{Space: "user name", Moved: func(id string) { moved = append(moved, id) }})
	if err != nil || fmt.Sprint(ids) != "[id1 id2 id3 id4]" {
		t.Errorf("%v, %v", ids, err)
	}
	if fmt.Sprint(moved) != "[id0 id1 id2 id3 moved]" {
		t.Errorf("moved to %v", moved)
	}
	want := "[?space=user+name id2?space=user+name id2?space=user+name id2?space=user+name id2?space=user+name id3?space=user+name moved?space=user+name]"
	if fmt.Sprint(api.asked) != strings.ReplaceAll(want, "+", "%20") && fmt.Sprint(api.asked) != want {
		t.Errorf("asked\n%v, want\n%v", api.asked, want)
	}
	if first, retried, silent := api.at[1], api.at[3]-api.at[2], api.at[6]-api.at[5]; first < 3*time.Second || retried < 7*time.Second || silent < 45*time.Second || silent > 51*time.Second {
		t.Errorf("pauses of %s, %s, %s", first, retried, silent)
	}
}

// What trying again would not change ends it, and so does ctx; leaving the loop is no error.
func TestWatchEnds(t *testing.T) {
	for name, test := range map[string]struct {
		answer  any
		is      error
		problem string
	}{
		"gone":        {step{status: 410, body: `{"reason":"position_gone","type":"/problems/position_gone","title":"x","status":410}`}, nil, "position_gone"},
		"bad request": {step{status: 400, body: `{"reason":"bad_request","type":"/problems/bad_request","title":"x","status":400}`}, nil, "bad_request"},
		"no key":      {step{status: 401, body: `{"reason":"unauthenticated","type":"/problems/unauthenticated","title":"x","status":401}`}, nil, "unauthenticated"},
		"other":       {step{status: 200, body: "<html>"}, nil, "-"},
		"no event":    {chunks{pieces: []string{"data: {}\n\n"}}, nil, "-"},
		"nobody":      {refused, client.ErrUnreachable, "-"},
		"ctx":         {chunks{pieces: []string{"id: id1\n\n"}, hangs: true}, context.DeadlineExceeded, "-"},
		"ctx, away":   {errors.New("connection reset"), context.DeadlineExceeded, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			api := &streaming{answers: []any{test.answer}}
			ids, err := watched(t, api, 1, client.WatchRequest{After: "id0"}, client.WithDialTries(3))
			var problem *client.Problem
			if len(ids) > 0 || err == nil || test.is != nil && !errors.Is(err, test.is) ||
				errors.As(err, &problem) != (test.problem != "-") || problem != nil && problem.Reason != test.problem {
				t.Errorf("%v, %v", ids, err)
			}
			if want := map[string]int{"nobody": 3}[name]; want > 0 && len(api.asked) != want {
				t.Errorf("asked %d times", len(api.asked))
			}
		})
	}
}

// An event has what the record has.
func TestWatchedEvent(t *testing.T) {
	api := &streaming{answers: []any{chunks{pieces: []string{eventText(5)}, hangs: true}}}
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New("http://dibs.test", client.WithHTTPClient(&http.Client{Transport: api}), client.WithKey("k.s"))
		if err != nil {
			t.Fatal(err)
		}
		for event, err := range c.Watch(t.Context(), client.WatchRequest{}) {
			want := client.Event{
				ID: "id5", Outcome: "Accepted", RequestID: id, Space: "username", Key: "n5", Name: "N", Owner: "u", State: "registered", Version: 5,
				LogTime: time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC), PolicyVersion: 1, RequestHash: "00", Partition: 7, LogEpoch: 1, Offset: 5,
			}
			if event != want || err != nil {
				t.Errorf("%+v, %v", event, err)
			}
			break
		}
	})
}

// An event in several lines is one text with ends of lines, and is no longer than it may be: what never ends is not kept.
func TestWatchBoundsAnEvent(t *testing.T) {
	for body, want := range map[string]string{
		"id: x\ndata: {\"outcome\":\"Blocked\",\ndata: \"key\":\ndata: \"alice\"}\n\n": "alice",
		"id: x\ndata: {\"outcome\":\"Bl\ndata: ocked\",\"key\":\"alice\"}\n\n":         "not dibs", // in a text there is no end of a line
		"id: x\n" + strings.Repeat("data: "+strings.Repeat(" ", 1<<16)+"\n", 20):       "too long",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte(body))
		}))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		got := ""
		for e, err := range must(client.New(server.URL)).Watch(ctx, client.WatchRequest{}) {
			if got = e.Key; err != nil {
				got = err.Error()
			}
			break
		}
		if !strings.Contains(got, want) {
			t.Errorf("of %.60q there came %q, want %q", body, got, want)
		}
		cancel()
		server.Close()
	}
}
