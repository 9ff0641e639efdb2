package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// fakeStream tells its events once, each with an id, and answers what comes after that with a problem.
type fakeStream struct {
	events []string
	asked  []string
}

func (f *fakeStream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked = append(f.asked, r.URL.RawQuery+" "+r.Header.Get("Last-Event-ID"))
	if f.events == nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, refusal(http.StatusGone, "position_gone", ""))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 0\nid: first\n\n")
	for i, e := range f.events {
		fmt.Fprintf(w, "id: id%d\nevent: x\ndata: %s\n\n", i, e)
	}
	f.events = nil
}

func TestWatchPrintsEvents(t *testing.T) {
	of := func(fields string) string {
		return `{"request_id":"` + requestID + `","space":"username","key":"alice",` + fields + `,"log_time":"2026-11-21T10:00:00.123Z","policy_version":1,"request_hash":"00","partition":0,"log_epoch":1,"offset":0}`
	}
	events := []string{
		of(`"name":"Alice","owner":"u<17>","outcome":"Accepted","state":"registered","version":2`),
		of(`"owner":"u-18","outcome":"Rejected","reason":"taken","detail":"the name is taken"`),
		of(`"outcome":"Blocked","state":"blocked","version":3`),
	}
	api := &fakeStream{events: events}
	server := httptest.NewServer(api)
	defer server.Close()
	code, stdout, stderr := dibs(t, "watch", "--url="+server.URL, "--space=username", "--since=id-before")
	if code != exitFailure || !strings.Contains(stderr, "watch without --since") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if want := []string{"space=username id-before", "space=username id2"}; fmt.Sprint(api.asked) != fmt.Sprint(want) {
		t.Errorf("asked %q", api.asked)
	}
	for i, want := range []string{"  accepted     username/alice", "  rejected     username/alice", "  blocked      username/alice"} {
		line := strings.Split(stdout, "\n")[i]
		if !strings.Contains(line, want) || !strings.HasSuffix(line, []string{"  u<17>, version 2", "  taken", "  version 3"}[i]) {
			t.Errorf("line %d is %q", i, line)
		}
	}

	api.events = events
	_, stdout, _ = dibs(t, "watch", "--url="+server.URL, "-o=json")
	for i, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var got, want client.Event
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if err := json.Unmarshal([]byte(events[i]), &want); err != nil {
			t.Fatal(err)
		}
		if want.ID = fmt.Sprintf("id%d", i); got != want || strings.Contains(line, `\u003c`) {
			t.Errorf("%s\nis %+v, want %+v", line, got, want)
		}
	}

	if code, _, stderr := dibs(t, "watch", "--url=http://"+nowhere(t)); code != exitUnreachable || !strings.Contains(stderr, "cannot reach") {
		t.Errorf("nobody: exit %d, %q", code, stderr)
	}
	if code, _, stderr := dibs(t, "watch", "--since="); code != exitUsage || !strings.Contains(stderr, "--since is empty") {
		t.Errorf("no id: exit %d, %q", code, stderr)
	}
}

// Ctrl-C says where it was, in both modes, beside what is told; also where nothing has been told.
func TestWatchSaysWhereItWas(t *testing.T) {
	for _, output := range []string{"text", "json"} {
		for told, want := range map[string]string{
			"id: first\n\n": "first", "id: first\n\nid: next\ndata: {\"outcome\":\"Blocked\",\"space\":\"username\",\"key\":\"alice\"}\n\nid: later\n\n": "later", "": "before",
		} {
			ctx, cancel := context.WithCancel(t.Context())
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprint(w, told)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			time.AfterFunc(300*time.Millisecond, cancel)
			var out, errs bytes.Buffer
			root := newRoot()
			root.SetArgs([]string{"watch", "--since=before", "--url=" + server.URL, "-o", output})
			root.SetOut(&out)
			root.SetErr(&errs)
			if err := root.ExecuteContext(ctx); err != nil || errs.String() != "to go on from here: --since "+want+"\n" {
				t.Errorf("%s, told %q: %v, %q", output, told, err, errs.String())
			}
			server.CloseClientConnections()
			server.Close()
		}
	}
}
