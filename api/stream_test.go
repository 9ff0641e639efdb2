package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const streamPath = "/v1/registrations"

// inOrder reports whether two lists have the same, and each partition's in one order: byPartition is in the order of the
// partitions.
func inOrder(t *testing.T, what string, got, byPartition []string) {
	t.Helper()
	partition := func(s string) string {
		_, rest, _ := strings.Cut(s, `"partition":`)
		n, _, _ := strings.Cut(rest, ",")
		return n
	}
	sorted := slices.Clone(got)
	slices.SortStableFunc(sorted, func(a, b string) int { return strings.Compare(partition(a), partition(b)) })
	if !slices.Equal(sorted, byPartition) {
		t.Errorf("%s: there came\n%s\nwant, by partition,\n%s", what, strings.Join(sorted, "\n"), strings.Join(byPartition, "\n"))
	}
}

// A stream tells everything from the moment it begins, as it is on the topic; and from the id of any event, what came
// behind that event.
func TestStream(t *testing.T) {
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		w.claim(`{"name":"before","owner":"u"}`).is(201, "")
		time.AfterFunc(time.Second, func() {
			for i := range 20 {
				w.claim(fmt.Sprintf(`{"name":"name%d","owner":"u-%d"}`, i, i)).is(201, "")
				w.claim(fmt.Sprintf(`{"name":"NAME%d","owner":"else"}`, i)).is(409, "taken")
			}
			w.ask("POST", "/v1/names/username/name1/release", `{"owner":"u-1"}`).is(200, "")
		})
		a, all := w.stream(3*time.Second, streamPath)
		a.heads("Content-Type", "text/event-stream", "Cache-Control", "no-store")
		if all.retry == "" || len(all.ids) == 0 || !strings.HasPrefix(a.text, "retry: ") {
			t.Errorf("it begins %.200q", a.text)
		}
		want := topic.all()
		before := slices.IndexFunc(want, func(s string) bool { return strings.Contains(s, `"before"`) })
		want = slices.Delete(want, before, before+1)
		if len(want) != 41 {
			t.Fatalf("%d outcomes", len(want))
		}
		inOrder(t, "live", all.data(), want)

		_, again := w.stream(time.Second, streamPath, "Last-Event-ID: "+all.ids[0])
		inOrder(t, "from the beginning's id", again.data(), want)
		for i, e := range all.events {
			_, rest := w.stream(time.Second, streamPath+"?last_event_id="+e.id)
			got := append(all.data()[:i+1], rest.data()...)
			inOrder(t, fmt.Sprintf("from event %d", i), got, want)
			// An address that a browser was given once does not hold it back for ever.
			_, rest = w.stream(time.Second, streamPath+"?last_event_id="+all.ids[0], "Last-Event-ID: "+e.id)
			inOrder(t, "from the header", append(all.data()[:i+1], rest.data()...), want)
		}
		if n := topic.opened(); n != 0 {
			t.Errorf("%d streams are open", n)
		}
		w.ask("HEAD", streamPath, "").is(200, "").heads("Content-Type", "text/event-stream")
		w.ask("HEAD", streamPath+"?last_event_id=x", "").is(400, "bad_request")
	}, streamsOf(topic))
}

// Where there is nothing to tell it says so, and how far it is.
func TestStreamHeartbeat(t *testing.T) {
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		time.AfterFunc(20*time.Second, func() { w.claim(alice).is(201, "") })
		_, s := w.stream(61*time.Second, streamPath+"?space=handle")
		if len(s.events) != 0 || len(s.comments) != 4 {
			t.Errorf("%d events, %d comments in a minute", len(s.events), len(s.comments))
		}
		if len(s.ids) != 2 {
			t.Fatalf("the place is told %d times", len(s.ids))
		}
		_, s = w.stream(time.Second, streamPath, "Last-Event-ID: "+s.ids[1])
		if len(s.events) != 0 {
			t.Errorf("a heartbeat's id is before what was passed over: %s", s.brief())
		}
		// What is told is a sign of life as well.
		for i := range 6 { // not at once: the stream begins where it is opened
			time.AfterFunc(time.Duration(5+10*i)*time.Second, func() { w.claim(fmt.Sprintf(`{"name":"name%d","owner":"u"}`, i)).is(201, "") })
		}
		if _, s = w.stream(61*time.Second, streamPath); len(s.events) != 6 || len(s.comments) != 0 {
			t.Errorf("%d events, %d comments", len(s.events), len(s.comments))
		}
	}, streamsOf(topic))
}

// A key sees what it may: its spaces, its owners.
func TestStreamIsLimited(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "all", Principal: "all", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "handle", Principal: "handle", Scopes: []string{"read"}, Spaces: []string{"handle"}, Owners: all},
		auth.KeySpec{ID: "half", Principal: "half", Scopes: []string{"read"}, Spaces: all, Owners: []string{"v-"}},
		auth.KeySpec{ID: "writer", Principal: "writer", Scopes: []string{"claim"}, Spaces: all, Owners: all},
	)
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		_, s := w.stream(time.Second, streamPath, headers[0])
		from := "Last-Event-ID: " + s.ids[0]
		for _, c := range []string{`"Alice","owner":"u-1"`, `"alice","owner":"v-1"`, `"Bob","owner":"v-1"`} {
			w.claim(`{"name":`+c+`}`, headers[0])
			w.claim(`{"space":"handle","name":`+c+`}`, headers[0])
		}
		for path, want := range map[string][4]int{streamPath: {6, 3, 4}, streamPath + "?space=handle": {3, 3, 2}, streamPath + "?space=username": {3, -1, 2}, streamPath + "?space=staff": {0, -1, 0}} {
			for i, n := range want[:3] {
				a, s := w.stream(time.Second, path, headers[i], from)
				if n < 0 {
					a.is(403, "not_allowed").names("space")
					continue
				}
				if a.is(200, ""); len(s.events) != n {
					t.Errorf("%s with key %d: %s", path, i, s.brief())
				}
				for _, e := range s.events {
					if i == 1 && !strings.Contains(e.data, `"space":"handle"`) || i == 2 && !strings.Contains(e.data, `"owner":"v-1"`) {
						t.Errorf("key %d is told of %s", i, e.data)
					}
					if i == 2 && strings.Contains(e.data, "u-1") {
						t.Errorf("a rejection tells who holds the name: %s", e.data)
					}
				}
			}
		}
		w.get(streamPath, headers[3]).is(403, "not_allowed")
		w.get(streamPath, "Authorization: Bearer all.wrong").is(401, "unauthenticated")
	}, keys, streamsOf(topic))
}

func TestStreamRefusals(t *testing.T) {
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		_, s := w.stream(time.Second, streamPath)
		id := s.ids[0]
		for _, bad := range []string{"x", "4711", id[1:], id + "A", strings.Repeat("A", 6000), "%20", "é"} {
			w.get(streamPath+"?last_event_id="+bad).is(400, "bad_request").names("last_event_id")
		}
		w.get(streamPath, "Last-Event-ID: x").is(400, "bad_request").names("Last-Event-ID")
		w.get(streamPath+"?last_event_id=").is(400, "bad_request").names("last_event_id")
		w.get(streamPath+"?last_event_id="+id+"&last_event_id="+id).is(400, "bad_request").names("last_event_id")
		w.get(streamPath, "Last-Event-ID: "+id, "Last-Event-ID: "+id).is(400, "bad_request").names("Last-Event-ID")
		w.get(streamPath+"?space=a&space=b").is(400, "bad_request").names("space")
		w.get(streamPath+"?space=nothing").is(422, "unknown_space").names("space")
		w.get(streamPath+"?space=").is(422, "unknown_space").names("space")

		place, err := api.ParsePlace(id)
		if err != nil {
			t.Fatal(err)
		}
		other := place
		other.Log[0]++
		w.get(streamPath+"?last_event_id="+other.String()).is(410, "position_gone")
		other = place
		other.Offsets = []int64{1 << 40, 0, 0, 0}
		w.get(streamPath+"?last_event_id="+other.String()).is(410, "position_gone")
		if a, _ := w.stream(time.Second, streamPath+"?last_event_id="+id); a.status != 200 {
			t.Errorf("a good id: %s", a.text)
		}
		topic.set(func(f *published) { f.start = [partitions]int64{1, 1, 1, 1} })
		w.get(streamPath+"?last_event_id="+id).is(410, "position_gone")

		topic.set(func(f *published) { f.away = errors.New("connection refused to kafka-3.internal") })
		if a := w.get(streamPath).is(503, "unavailable").heads("Retry-After", "1"); strings.Contains(a.text, "kafka-3") {
			t.Errorf("the answer tells what is inside: %s", a.text)
		}
		w.ask("POST", streamPath, "{}").is(405, "method_not_allowed")
	}, streamsOf(topic))
	inTime(t, func(t *testing.T, w *world) { w.get(streamPath).is(503, "unavailable") })
}

// What goes from the log under an open stream ends it, and it is told where to look.
func TestStreamEndsWhereTheLogIsGone(t *testing.T) {
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		time.AfterFunc(3*time.Second, func() { topic.set(func(f *published) { f.start[0] = 9 }) })
		a, s := w.stream(time.Minute, streamPath)
		if a.took > 5*time.Second || len(s.comments) != 1 || !strings.Contains(s.comments[0], "not in the log") {
			t.Errorf("after %s: %q", a.took, a.text)
		}
		w.get(streamPath+"?last_event_id="+s.ids[0]).is(410, "position_gone")
	}, streamsOf(topic))
}

// A stream counts once, and there are so many at most.
func TestStreamsAreBounded(t *testing.T) {
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(context.Background())
		var open sync.WaitGroup
		for range 3 {
			open.Go(func() { w.askCtx(ctx, "GET", streamPath, "").is(200, "") })
		}
		synctest.Wait()
		if n := topic.opened(); n != 3 {
			t.Fatalf("%d streams are open", n)
		}
		w.get(streamPath).is(503, "too_busy").heads("Retry-After", "5")
		want := "# HELP dibs_streams Streams of registrations that are open.\n# TYPE dibs_streams gauge\ndibs_streams 3\n"
		if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(want), "dibs_streams"); err != nil {
			t.Error(err)
		}
		w.claim(alice).is(201, "")
		synctest.Wait()
		want = "# HELP dibs_stream_events_total Events sent to those who watch registrations.\n# TYPE dibs_stream_events_total counter\ndibs_stream_events_total 3\n"
		if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(want), "dibs_stream_events_total"); err != nil {
			t.Error(err)
		}
		cancel()
		open.Wait()
		for range 4 { // there is room again
			a, _ := w.stream(time.Second, streamPath)
			a.is(200, "")
		}
		if n := topic.opened(); n != 0 {
			t.Errorf("%d streams are open", n)
		}
	}, streamsOf(topic), func(s *setup) { s.server.MaxStreams = 3 })
}

// askSoon asks for a stream, and ends it soon if it gets one.
func (w *world) askSoon(header string) *answer {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return w.askCtx(ctx, "GET", streamPath, "", header)
}

// One principal, whatever its keys, has half of the streams at most, and leaves the rest to others.
func TestStreamsArePerPrincipal(t *testing.T) {
	spec := func(id, principal string) auth.KeySpec {
		return auth.KeySpec{ID: id, Principal: principal, Scopes: []string{"read"}, Spaces: []string{auth.All}, Owners: []string{auth.All}}
	}
	headers, keys := withKeys(t, spec("one", "one"), spec("one2", "one"), spec("two", "two"), spec("three", "three"))
	for most, share := range map[int]int{1: 1, 2: 1, 5: 2, 6: 3} {
		topic := newTopic()
		inTime(t, func(t *testing.T, w *world) {
			ctx, cancel := context.WithCancel(context.Background())
			var streams sync.WaitGroup
			open := 0
			begin := func(header string) {
				t.Helper()
				streams.Go(func() { w.askCtx(ctx, "GET", streamPath, "", header).is(200, "") })
				open++
				synctest.Wait()
				if n := topic.opened(); n != open {
					t.Fatalf("of %d: %d streams are open, want %d", most, n, open)
				}
			}
			for i := range share {
				begin(headers[i%2])
			}
			for _, own := range headers[:2] {
				if a := w.askSoon(own).is(503, "too_busy").heads("Retry-After", "5"); most > 1 && !strings.Contains(a.text, fmt.Sprintf("at most %d of them are for one principal", share)) {
					t.Errorf("it says %s", a.text)
				}
			}
			for i := open; i < most; i++ {
				begin(headers[2+i%2])
			}
			a := w.askSoon(headers[2]).is(503, "too_busy")
			if b := w.askSoon(headers[3]).is(503, "too_busy"); strings.Contains(a.text, "for one principal") && strings.Contains(b.text, "for one principal") {
				t.Errorf("it says %s", b.text)
			}
			cancel()
			streams.Wait()
			for range share + 1 {
				a, _ := w.stream(time.Second, streamPath, headers[0])
				a.is(200, "")
			}
		}, keys, streamsOf(topic), func(s *setup) { s.server.MaxStreams = most })
	}
}

// A key that is taken out of the file, or that expires, ends its streams; one that is narrowed narrows them.
func TestStreamEndsWithItsKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.yaml")
	spec := func(id string) auth.KeySpec {
		return auth.KeySpec{ID: id, Principal: id, Scopes: []string{"claim", "read"}, Spaces: []string{auth.All}, Owners: []string{auth.All}}
	}
	expiring := spec("expiring")
	var tokens, entries []string
	topic := newTopic()
	synctest.Test(t, func(t *testing.T) {
		expiring.Expires = time.Now().Add(30 * time.Second)
		for _, s := range []auth.KeySpec{spec("stays"), spec("goes"), spec("narrows"), expiring} {
			token, entry, err := auth.NewKey(s)
			if err != nil {
				t.Fatal(err)
			}
			tokens, entries = append(tokens, "Authorization: Bearer "+token), append(entries, entry)
		}
		write := func(entries ...string) {
			if err := os.WriteFile(path, []byte("keys:\n"+strings.Join(entries, "")), 0o600); err != nil {
				t.Error(err)
			}
		}
		write(entries...)
		keys := auth.NewKeys(auth.KeysConfig{Path: path})
		if err := keys.Load(); err != nil {
			t.Fatal(err)
		}
		run(t, keys.Run)
		w := newWorld(t, streamsOf(topic), func(s *setup) { s.keys = keys })
		synctest.Wait()
		var got [4]*answer
		var all sync.WaitGroup
		for i := range tokens {
			all.Go(func() { got[i], _ = w.stream(time.Minute, streamPath, tokens[i]) })
		}
		time.Sleep(5 * time.Second)
		write(entries[0], strings.Replace(entries[2], "owners: ['*']", "owners: [v-]", 1), entries[3])
		time.Sleep(13 * time.Second)
		w.claim(alice, tokens[0]).is(201, "") // too late for the one, and not for the other
		all.Wait()
		for i, want := range []struct {
			seconds int
			says    string
			events  int
		}{{60, "", 1}, {11, "key is not valid", 0}, {60, "", 0}, {31, "key is not valid", 1}} {
			s := heard(t, got[i].text)
			if took := got[i].took.Round(time.Second); took > time.Duration(want.seconds)*time.Second || took < time.Duration(want.seconds-2)*time.Second ||
				!strings.Contains(strings.Join(s.comments, "\n"), want.says) || len(s.events) != want.events {
				t.Errorf("key %d: after %s, %s, %q; want %+v", i, took, s.brief(), s.comments, want)
			}
		}
	})
}

// open begins a stream over the network.
func (s *served) open(path string) *http.Response {
	s.t.Helper()
	resp, err := s.client.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s", resp.Status)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// A stop ends streams at once, long before it ends the waits of claims.
func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	s := serve(t, streamsOf(newTopic()))
	var streams []*http.Response
	for range 5 {
		streams = append(streams, s.open(streamPath))
	}
	began := time.Now()
	s.stop()
	for _, resp := range streams {
		text, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(text), "the server stops") {
			t.Errorf("%v, %q", err, text)
		}
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.ended <- nil
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

// A stream outlives the time that requests and answers have. (It is told of a claim after that.)
func TestStreamIsNotCut(t *testing.T) {
	t.Parallel()
	s := serve(t, streamsOf(newTopic()), func(s *setup) {
		s.server.WaitMax, s.server.WaitDefault = time.Millisecond, time.Millisecond
		s.claimer.PublishTimeout = time.Millisecond
	})
	resp := s.open(streamPath)
	time.Sleep(16 * time.Second) // a write deadline of 15 s and a millisecond, a read deadline of 5 s
	s.memory.set(func(m *memory) { m.publish = nil })
	s.post(alice, "Prefer: wait=1")
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "event: Accepted") {
	}
	if err := lines.Err(); err != nil || !strings.HasPrefix(lines.Text(), "event: Accepted") {
		t.Errorf("%v, %q", err, lines.Text())
	}
}

// Who reads slowly is not cut, however much there is: he takes a third of what is held for him, some 85 kB, well within ten
// seconds. Unbounded, that third would take half a minute.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	topic := newTopic()
	s := serve(t, streamsOf(topic))
	resp := s.open(streamPath)
	for i := range 40_000 {
		topic.append(int32(i%partitions), fmt.Appendf(nil, `{"request_id":"6f0c1a52-6e0b-4a0e-9c67-0a3a2f6f5a10","space":"username","key":"n%d","name":"%0300d","owner":"u","outcome":"Accepted","log_time":"2026-11-21T10:00:00Z","request_hash":"%064d"}`, i, i, i))
	}
	for began := time.Now(); time.Since(began) < 14*time.Second; time.Sleep(time.Second / 4) {
		if _, err := io.CopyN(io.Discard, resp.Body, 10_000); err != nil {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		if topic.opened() == 0 {
			t.Fatalf("cut after %s", time.Since(began))
		}
	}
}

// Who does not read is cut, and keeps nobody waiting meanwhile; who has gone is missed at once.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	topic := newTopic()
	s := serve(t, streamsOf(topic))
	s.open(streamPath) // and never read
	began := time.Now()
	for i := range 40_000 {
		topic.append(int32(i%partitions), fmt.Appendf(nil, `{"request_id":"6f0c1a52-6e0b-4a0e-9c67-0a3a2f6f5a10","space":"username","key":"n%d","name":"%0300d","owner":"u","outcome":"Accepted","log_time":"2026-11-21T10:00:00Z","request_hash":"%064d"}`, i, i, i))
	}
	for i := range 20 {
		if a := s.post(fmt.Sprintf(`{"name":"name%d","owner":"u"}`, i)).is(201, ""); a.took > 3*time.Second {
			t.Errorf("a claim took %s", a.took)
		}
	}
	waitAtMost(t, 20*time.Second, func() bool { return topic.opened() == 0 })
	if took := time.Since(began); took < 9*time.Second {
		t.Errorf("cut after %s", took)
	}
	ended := func(reason string) string {
		return fmt.Sprintf(`dibs_streams_ended_total{reason=%q} 1`, reason)
	}
	if got := metricsText(t, s.world); !strings.Contains(got, ended("slow")) || strings.Contains(got, ended("client")) {
		t.Errorf("%s", got)
	}
	s.open(streamPath).Body.Close() //nolint:errcheck // to be gone
	waitFor(t, func() bool { return topic.opened() == 0 })
	if got := metricsText(t, s.world); !strings.Contains(got, ended("client")) {
		t.Errorf("%s", got)
	}
}

func waitAtMost(t *testing.T, most time.Duration, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come about within %s", most)
		}
	}
}

// metricsText is the metrics as Prometheus reads them.
func metricsText(t *testing.T, w *world) string {
	t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range families {
		for _, m := range f.Metric {
			if len(m.Label) == 1 && m.Counter != nil {
				fmt.Fprintf(&all, "%s{%s=%q} %g\n", f.GetName(), m.Label[0].GetName(), m.Label[0].GetValue(), m.Counter.GetValue())
			}
		}
	}
	return all.String()
}

// A hundred streams that idle leave nothing behind when they go.
func TestIdleStreamsLeaveNothing(t *testing.T) {
	topic := newTopic()
	s := serve(t, streamsOf(topic), func(s *setup) { s.server.MaxStreams = 100 })
	_ = s.open(streamPath).Body.Close() // everything that serves is there
	waitFor(t, func() bool { return topic.opened() == 0 })
	s.client.CloseIdleConnections()
	before := runtime.NumGoroutine()
	var streams []*http.Response
	for range 100 {
		streams = append(streams, s.open(streamPath))
	}
	if n := topic.opened(); n != 100 {
		t.Fatalf("%d are open", n)
	}
	for _, resp := range streams {
		_ = resp.Body.Close()
	}
	waitFor(t, func() bool { return topic.opened() == 0 })
	s.client.CloseIdleConnections()
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before })
}

// What is not ours is passed over, and cannot break the framing.
func TestStreamPassesOverWhatIsNotOurs(t *testing.T) {
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		_, s := w.stream(time.Second, streamPath)
		w.claim(alice).is(201, "")
		good := topic.all()[0]
		bent := func(old, replaced string) []byte { return []byte(strings.Replace(good, old, replaced, 1)) }
		for _, value := range [][]byte{
			nil, []byte("{}"), []byte("no JSON\n\nevent: Accepted\ndata: {}\n\n"), bent(`"outcome":"Accepted",`, ""),
			bent(`{`, "{\n\n"), // the one that can be read
		} {
			topic.append(0, value)
		}
		topic.append(0, bent(`"outcome":"Accepted"`, `"outcome":"a\n\nid: x"`))
		_, s = w.stream(time.Second, streamPath, "Last-Event-ID: "+s.ids[0])
		var kinds []string
		for _, e := range s.events {
			if kinds = append(kinds, e.kind); e.kind == "Accepted" && e.data != good {
				t.Errorf("%s, want %s", e.data, good)
			}
		}
		slices.Sort(kinds)
		if got := strings.Join(kinds, " "); got != "Accepted Accepted message" {
			t.Errorf("there came %s", got)
		}
	}, streamsOf(topic))
}

// A space that came through the log is one to ask for, as soon as it holds everywhere.
func TestStreamOfAnAppliedSpace(t *testing.T) {
	all := []string{auth.All}
	headers, keys := withKeys(t,
		auth.KeySpec{ID: "all", Principal: "all", Scopes: []string{"claim", "read"}, Spaces: all, Owners: all},
		auth.KeySpec{ID: "tag", Principal: "tag", Scopes: []string{"read"}, Spaces: []string{"tag"}, Owners: all},
	)
	topic := newTopic()
	inTime(t, func(t *testing.T, w *world) {
		const tags = streamPath + "?space=tag"
		w.get(tags, headers[0]).is(422, "unknown_space").names("space")
		w.hold(0, partitions-1, tagged(1, nil))
		w.get(tags, headers[0]).is(422, "unknown_space").names("space")
		w.hold(partitions-1, partitions, tagged(1, nil))
		w.claim(alice, headers[0]).is(201, "")
		for i, key := range headers {
			time.AfterFunc(time.Second, func() {
				w.claim(fmt.Sprintf(`{"space":"tag","name":"a%d","owner":"u-1"}`, i), headers[0]).is(201, "")
				w.claim(fmt.Sprintf(`{"name":"alice%d","owner":"u-1"}`, i), headers[0]).is(201, "")
			})
			a, s := w.stream(3*time.Second, tags, key)
			if a.is(200, ""); len(s.events) != 1 || !strings.Contains(s.events[0].data, `"space":"tag"`) {
				t.Errorf("it tells %s", s.brief())
			}
		}
		w.get(streamPath+"?space=username", headers[1]).is(403, "not_allowed").names("space")
	}, keys, streamsOf(topic))
}
