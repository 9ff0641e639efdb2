package api_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
)

// Two replicas that have seen the same answer the same, whether they go the short way of a claim or that of the generated
// code: the status, every header and every byte.
func TestCreateIsAnsweredAlike(t *testing.T) {
	inTime(t, func(t *testing.T, short *world) {
		long := newWorld(t)
		for long.claimer.Ready() != nil {
			time.Sleep(time.Millisecond)
		}
		r := rand.New(rand.NewPCG(1, 2))
		seldom := func(times int, of ...string) string { // something once in so many times
			if r.IntN(times) > 0 {
				return ""
			}
			return of[r.IntN(len(of))]
		}
		statuses := make(map[int]int)
		for _, w := range []*world{short, long} {
			w.memory.set(func(m *memory) { m.held = true })
		}
		for i := range 2000 {
			if i == 100 { // those so far are answered with 202
				short.memory.release()
				long.memory.release()
			}
			body := fmt.Sprintf(`{"name":"%s","owner":"%s"%s%s%s%s%s}`,
				cmp.Or(seldom(4, "alice", "Alice", "bob", "Zoë", "root", "a", "", "x<y", fmt.Sprint("new", i-1)), fmt.Sprint("new", i)), "u-1"+seldom(4, "2", "<&>", "ü"),
				seldom(4, `,"mode":"reserve","ttl_seconds":600`, `,"mode":"register"`, `,"mode":"reserve"`, `,"mode":"other"`, `,"ttl_seconds":999999999999999999`),
				seldom(4, `,"expected_version":0`, `,"expected_version":1`), seldom(4, `,"on_conflict":"return_existing"`, `,"on_conflict":""`),
				seldom(4, `,"space":"username"`, `,"space":"handle"`, `,"space":"nowhere"`),
				seldom(4, `,"on_timeout":"withdraw"`, `,"metadata":{"a":"<b>"}`, `,"replaces":{"name":"bob","version":1}`))
			h := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"k" + seldom(8, "", " ", "ä") + fmt.Sprint(i-r.IntN(9)/8)}}
			for _, name := range []string{"Prefer", "If-Match", "If-None-Match", "Traceparent", "Tracestate"} {
				if value := seldom(6, "wait=2", "wait=99", "respond-async", "respond-async", `"1"`, "*", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "ä"); value != "" {
					h.Add(name, value)
				}
			}
			if r.IntN(20) == 0 {
				h.Add("Idempotency-Key", "again")
			}
			ask := func(answer func(http.ResponseWriter, *http.Request)) *httptest.ResponseRecorder {
				q := httptest.NewRequest(http.MethodPost, "/v1/claims", bytes.NewReader([]byte(body)))
				q.Header = h.Clone()
				rec := httptest.NewRecorder()
				answer(rec, q)
				return rec
			}
			got := ask(short.server.ServeHTTP)
			if err := api.CheckLong([]byte(body)); err != nil {
				continue
			}
			want := ask(func(w http.ResponseWriter, r *http.Request) { long.server.Generated(w, r, anonymous(t)) })
			statuses[got.Code]++
			if got.Code != want.Code || got.Body.String() != want.Body.String() || !reflect.DeepEqual(got.Header(), want.Header()) {
				t.Fatalf("%s\n%v\n%d %v\n%s, want\n%d %v\n%s", body, h, got.Code, got.Header(), got.Body, want.Code, want.Header(), want.Body)
			}
		}
		t.Log(statuses)
		for _, status := range []int{201, 202, 400, 409, 412, 422} {
			if statuses[status] == 0 {
				t.Errorf("nothing was answered with %d: %v", status, statuses)
			}
		}
	})
}

func anonymous(t *testing.T) *auth.Principal {
	t.Helper()
	p, err := auth.None{}.Authenticate("")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
