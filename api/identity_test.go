package api_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
)

func TestIdempotencyKey(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const key = "Idempotency-Key: signup 17"
		first := w.claim(alice, key).is(201, "").heads("Idempotent-Replayed", "")
		id := first.body["claim_id"].(string)
		again := w.claim(`{"owner":"u-17","name":"aLICE","mode":"register"}`, key).is(201, "") // another spelling is no other name
		again.has("claim_id", id, "name", "Alice", "offset", 0).heads("Idempotent-Replayed", "true", "ETag", `"1"`)

		// Also after the name has gone on to somebody else.
		w.memory.set(func(m *memory) { clear(m.ledger.Holdings) })
		w.claim(alice, key).is(201, "").has("claim_id", id, "version", 1).heads("Idempotent-Replayed", "true")

		for _, other := range []string{
			`{"name":"Alice","owner":"u-18"}`, `{"name":"Alice","owner":"u-17","expected_version":0}`,
			`{"name":"Alice","owner":"u-17","on_conflict":"return_existing"}`, `{"name":"Alice","owner":"u-17","metadata":{"a":"b"}}`,
		} {
			a := w.claim(other, key).is(422, "idempotency_mismatch").has("claim_id", id)
			if a.took < 200*time.Millisecond { // no outcome comes for it: Postgres is asked
				t.Errorf("took %s", a.took)
			}
		}
		if n := w.waiter.Counts().Waiting; n != 0 {
			t.Errorf("%d tickets are still out", n)
		}

		// Another name is another claim, and so is another key.
		if b := w.claim(`{"name":"Bob","owner":"u-17"}`, key).is(201, ""); b.body["claim_id"] == id {
			t.Error("two names, one claim")
		}
		w.claim(alice, "Idempotency-Key: other").is(201, "").heads("Idempotent-Replayed", "")
	})
}

// The same key while the first claim is pending joins its wait.
func TestIdempotencyKeyPending(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		const key = "Idempotency-Key: k"
		id := w.claim(alice, key, "Prefer: respond-async").is(202, "").body["claim_id"]
		time.AfterFunc(2*time.Second, w.memory.release)
		a := w.claim(alice, key).is(201, "").has("claim_id", id, "offset", 0).heads("Idempotent-Replayed", "true")
		if a.took != 2*time.Second {
			t.Errorf("took %s", a.took)
		}
	})
}

func TestFiftyTimesAtOnce(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		time.AfterFunc(time.Second, w.memory.release)
		var replayed atomic.Int32
		var ids sync.Map
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				a := w.claim(alice, "Idempotency-Key: k").is(201, "").has("version", 1)
				ids.Store(a.body["claim_id"], true)
				if a.header.Get("Idempotent-Replayed") == "true" {
					replayed.Add(1)
				}
			})
		}
		all.Wait()
		n := 0
		ids.Range(func(any, any) bool { n++; return true })
		if n != 1 || replayed.Load() != 49 {
			t.Errorf("%d claims, %d replays; want 1 and 49", n, replayed.Load())
		}
		if n := len(w.memory.ledger.Outcomes); n != 1 {
			t.Errorf("%d outcomes", n)
		}
		w.published(50)
	})
}

// Fifty that want different things with one key: one of them gets it, the others hear of it.
func TestFiftyDifferentAtOnce(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		var accepted, refused atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				a := w.claim(fmt.Sprintf(`{"name":"Alice","owner":"u-%d"}`, i), "Idempotency-Key: k")
				switch {
				case a.status == 201:
					accepted.Add(1)
				case a.status == 422 && a.body["reason"] == "idempotency_mismatch":
					refused.Add(1)
				}
			})
		}
		all.Wait()
		if accepted.Load() != 1 || refused.Load() != 49 {
			t.Errorf("%d accepted, %d refused", accepted.Load(), refused.Load())
		}
	})
}

func TestClaimID(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		for i, id := range []string{uuid.NewString(), uuid.Must(uuid.NewV7()).String(), strings.ToUpper(uuid.NewString())} {
			body := fmt.Sprintf(`{"name":"name%d","owner":"u","claim_id":%q}`, i, id)
			w.claim(body).is(201, "").has("claim_id", strings.ToLower(id)).heads("Idempotent-Replayed", "")
			w.claim(body).is(201, "").has("claim_id", strings.ToLower(id)).heads("Idempotent-Replayed", "true")
		}
		v1, err := uuid.NewUUID()
		if err != nil {
			t.Fatal(err)
		}
		v4 := uuid.NewString()
		for _, id := range []string{"", "x", uuid.Nil.String(), uuid.Max.String(), v1.String(), uuid.NewSHA1(v1, nil).String(),
			"{" + v4 + "}", "urn:uuid:" + v4, strings.ReplaceAll(v4, "-", ""), v4 + " ", v4[:35] + "g"} {
			w.claim(fmt.Sprintf(`{"name":"Alice","owner":"u","claim_id":%q}`, id)).is(422, "invalid_request").names("claim_id")
		}
		w.claim(fmt.Sprintf(`{"name":"Alice","owner":"u","claim_id":%q}`, v4), "Idempotency-Key: k").is(422, "invalid_request").names("claim_id")
		w.published(6)
	})
}

// One id for two names: on one partition the second is lost, on two it is another claim.
func TestClaimIDOfTwoNames(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		home := claims.Partition("username/alice", partitions)
		var near, far string
		for i := 0; near == "" || far == ""; i++ {
			name := fmt.Sprintf("name%d", i)
			if claims.Partition("username/"+name, partitions) == home {
				near = name
			} else {
				far = name
			}
		}
		id := uuid.NewString()
		ask := func(name string) *answer {
			return w.claim(fmt.Sprintf(`{"name":%q,"owner":"u","claim_id":%q}`, name, id))
		}
		ask("alice").is(201, "").has("claim_id", id)
		ask(near).is(422, "idempotency_mismatch").has("claim_id", id)
		w.get("/v1/claims/"+id).is(200, "").has("name", "alice")
		ask(far).is(201, "").has("claim_id", id, "name", far).heads("Idempotent-Replayed", "")
		w.get("/v1/claims/"+id).is(409, "ambiguous_id")
		ask("alice").is(201, "").has("name", "alice").heads("Idempotent-Replayed", "true")
	})
}
