package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// sibling is another name on the partition of alice.
func sibling() (name string, partition int32) {
	partition = claims.Partition("username/alice", partitions)
	for i := 0; ; i++ {
		if name = fmt.Sprintf("name%d", i); claims.Partition("username/"+name, partitions) == partition {
			return name, partition
		}
	}
}

// remade is a world whose partition of alice has got another log, in which a claim was acknowledged before anybody knew:
// under the old log's epoch, at an offset that was decided there a moment ago. It returns where the caller is told to look.
func remade(w *world) (location, name string, p int32) {
	time.Sleep(1100 * time.Millisecond) // the API has just read how far the partition is
	w.claim(alice).is(201, "")
	w.claim(alice).is(409, "taken")
	name, p = sibling()
	w.memory.set(func(m *memory) { m.logs[p], m.held = nil, true })
	a := w.claim(fmt.Sprintf(`{"name":%q,"owner":"u-1"}`, name), "Prefer: respond-async", "Idempotency-Key: k").is(202, "")
	w.memory.set(func(m *memory) { m.rows[p].Halted = "the log was replaced" })
	return a.header.Get("Location"), name, p
}

// accept is what dibs partitions resume --accept-gap does.
func (m *memory) accept(p int32) {
	m.rows[p] = api.Partition{Partition: p, LogEpoch: m.rows[p].LogEpoch + 1}
}

// While the partition is halted nobody can say that the claim is not to be decided. Behind the halt what the API says is
// true whatever became of the record, and how to go on.
func TestGetClaimOfALogThatWasReplaced(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		location, name, p := remade(w)
		if !strings.HasSuffix(location, fmt.Sprintf("?at=%d-3-0", p)) {
			t.Fatalf("the claim is at %s", location)
		}
		for range 3 { // as soon as the record says so, and when the API has learnt it
			w.get(location).is(200, "").has("state", "pending", "partition", int(p), "offset", 0)
			time.Sleep(time.Second)
		}
		w.get(location, "Prefer: wait=3").is(200, "").has("state", "pending")

		w.memory.set(func(m *memory) { m.accept(p) })
		time.Sleep(2 * time.Second)
		detail := w.get(location).is(404, "unknown_claim").heads("Retry-After", "1").body["detail"].(string)
		for _, want := range []string{"replaced", "not decided", "again", "Idempotency-Key or claim_id"} {
			if !strings.Contains(detail, want) {
				t.Errorf("the detail does not say %q: %s", want, detail)
			}
		}
		if again := w.get(location, "Prefer: wait=3").is(404, "unknown_claim"); again.took != 3*time.Second {
			t.Errorf("a claim that may still be decided was waited for %s", again.took)
		}
		w.memory.set(func(m *memory) { m.rows[p].Halted = "once more" })
		w.get(location).is(200, "").has("state", "pending")
		w.memory.set(func(m *memory) { m.rows[p].Halted = "" })

		time.AfterFunc(2*time.Second, w.memory.release) // it was in the new log
		if a := w.get(location, "Prefer: wait=9").is(200, "").has("state", "accepted", "log_epoch", 4); a.took != 2*time.Second {
			t.Errorf("took %s", a.took)
		}
		w.claim(fmt.Sprintf(`{"name":%q,"owner":"u-1"}`, name), "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "true")
	})
}

// Where the record was lost with the old log, sending it again, as the detail says, settles it.
func TestClaimAgainThatWasLostWithItsLog(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		location, name, p := remade(w)
		w.memory.set(func(m *memory) { m.logs[p], m.held = nil, false; m.accept(p) })
		time.Sleep(2 * time.Second)
		w.get(location).is(404, "unknown_claim")
		w.claim(fmt.Sprintf(`{"name":%q,"owner":"u-1"}`, name), "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "")
		w.get(location).is(200, "").has("state", "accepted", "log_epoch", 4)
	})
}

// Until the halt is known the position looks decided: the answer leaves open what that means.
func TestGetClaimBeforeTheHaltIsKnown(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		location, _, p := remade(w)
		w.memory.set(func(m *memory) { m.rows[p].Halted = "" })
		time.Sleep(2 * time.Second)
		detail := w.get(location).is(404, "unknown_claim").body["detail"].(string)
		if !strings.Contains(detail, "or the log was replaced") || !strings.Contains(detail, "again with the same Idempotency-Key") {
			t.Errorf("the detail is %q", detail)
		}
	})
}

// Where the API knows that the log was further, it says at once that it does not know what becomes of the claim.
func TestClaimInALogThatIsShorter(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.claim(alice).is(409, "taken")
		time.Sleep(2 * time.Second) // the API learns that the partition has gone on
		name, p := sibling()
		w.memory.set(func(m *memory) { m.logs[p], m.held = nil, true })
		for _, prefer := range []string{"Prefer: respond-async", "Prefer: wait=2"} {
			w.claim(fmt.Sprintf(`{"name":%q,"owner":"u-1"}`, name), prefer, "Idempotency-Key: k").is(503, "outcome_unknown").heads("Retry-After", "1")
		}
	})
}

// unread is a record whose partitions are not read within any time.
type unread struct {
	*memory
	hangs atomic.Bool
}

func (h *unread) Partitions(ctx context.Context) ([]api.Partition, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.memory.Partitions(ctx)
}

// Two reads of the partitions in a row may run into their timeout: claims are taken all the same, as they are decided all
// the same. With the third the database counts as away.
func TestStandingsMayBeReadLate(t *testing.T) {
	for hangs, ready := range map[time.Duration]bool{5*time.Second + 500*time.Millisecond: true, 8 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			h := &unread{memory: newMemory()}
			c, err := api.NewClaimer(api.ClaimerConfig{Partitions: partitions, Policies: names.Builtin()}, h, h, registrations.NewWaiter(registrations.WaiterConfig{}))
			if err != nil {
				t.Fatal(err)
			}
			run(t, c.Run)
			synctest.Wait()
			h.hangs.Store(true)
			time.Sleep(hangs)
			synctest.Wait()
			if err := c.Ready(); (err == nil) != ready {
				t.Errorf("after %s: %v", hangs, err)
			}
			h.hangs.Store(false)
			time.Sleep(3 * time.Second)
			if err := c.Ready(); err != nil {
				t.Errorf("not ready again: %v", err)
			}
		})
	}
}
