package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/registrations"
)

const orNotAtAll = `{"name":"Alice","owner":"u-17","on_timeout":"withdraw"}`

func TestOnTimeoutInTime(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(orNotAtAll, "Idempotency-Key: k").is(201, "")
		w.claim(orNotAtAll, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "true")
		w.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "true") // it is no part of what is asked
		w.published(3)
		if r := w.memory.records()[0]; !strings.Contains(string(r.Value), `"deadline":"2026-11-21T10:00:15.123Z"`) {
			t.Errorf("the claim is %s", r.Value)
		}
		for _, prefer := range []string{"Prefer: wait=0", "Prefer: respond-async"} {
			w.claim(orNotAtAll, prefer).is(422, "invalid_request").names("on_timeout")
		}
		w.published(3)
	})
}

// The wait runs out: what settles the claim is its withdrawal, and until that is decided nothing else is told.
func TestOnTimeoutWithdraws(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.set(func(m *memory) { m.held = true })
		a := w.claim(orNotAtAll, "Idempotency-Key: k", "Prefer: wait=3").is(202, "").heads("Retry-After", "1").
			has("state", "withdrawing", "type", "UsernameClaimed", "owner", "u-17", "offset", 1, "version", nil)
		if a.took != 3*time.Second {
			t.Errorf("took %s", a.took)
		}
		w.published(2)
		id, at := a.string("claim_id"), a.header.Get("Location")
		if !strings.HasPrefix(at, "/v1/claims/"+id+"?at=") || !strings.HasSuffix(at, "&on_timeout=withdraw") {
			t.Fatalf("it is at %s", at)
		}
		w.get(at).is(200, "").has("state", "withdrawing", "claim_id", id).heads("Retry-After", "1")
		w.get(at, "Prefer: wait=2").is(200, "").has("state", "withdrawing")
		// The claim alone is decided.
		w.memory.decideNext(t)
		w.get(at).is(200, "").has("state", "withdrawing", "owner", "u-17", "version", nil).heads("ETag", "")
		// A repeated claim does not take that for an answer either.
		again := w.claim(orNotAtAll, "Idempotency-Key: k", "Prefer: wait=2").is(202, "").has("state", "withdrawing", "claim_id", id)
		if again.took != 2*time.Second {
			t.Errorf("again took %s", again.took)
		}

		time.AfterFunc(time.Second, w.memory.release)
		if a := w.get(at, "Prefer: wait=9").is(200, "").has("state", "withdrawn", "claim_id", id, "type", "UsernameClaimed", "version", 2, "name", "Alice"); a.took != time.Second {
			t.Errorf("took %s", a.took)
		}
		w.get("/v1/claims/"+id).is(200, "").has("state", "withdrawn").heads("ETag", `"2"`)
		w.get(nameOfAlice).is(200, "").has("available", true)
		w.claim(orNotAtAll, "Idempotency-Key: k").is(409, "withdrawn").has("claim_id", id).heads("Idempotent-Replayed", "true")
		w.claim(alice, "Idempotency-Key: k").is(409, "withdrawn")
		w.claim(alice, "Idempotency-Key: another").is(201, "")
		if n := w.waiter.Counts().Waiting; n != 0 {
			t.Errorf("%d tickets are still out", n)
		}
	})
}

// decideNext decides one record, of the partition of Alice.
func (m *memory) decideNext(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	var published []registrations.Outcome
	for p := range m.rows {
		if row := &m.rows[p]; row.NextOffset < int64(len(m.logs[p])) {
			published, _ = m.ledger.Decide(row.Partition, row.LogEpoch, row.NextOffset, m.logs[p][row.NextOffset])
			row.NextOffset++
			break
		}
	}
	replicas := m.replicas
	m.mu.Unlock()
	for _, o := range published {
		for _, deliver := range replicas {
			deliver(o)
		}
	}
}

// A claim that is rejected has nothing to withdraw: it reads as what it is.
func TestOnTimeoutRejected(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(`{"name":"Alice","owner":"u-18"}`).is(201, "")
		w.memory.set(func(m *memory) { m.held = true })
		at := w.claim(orNotAtAll, "Idempotency-Key: k", "Prefer: wait=1").is(202, "").has("state", "withdrawing").header.Get("Location")
		w.memory.release()
		w.get(at).is(200, "taken").has("state", "rejected")
		w.claim(orNotAtAll, "Idempotency-Key: k").is(409, "taken")
		w.get(nameOfAlice).is(200, "").has("owner", "u-18")
	})
}

// The log gets the withdrawal first, or the claim too late: nobody has the name, for good.
func TestOnTimeoutTheClaimComesLate(t *testing.T) {
	for name, test := range map[string]struct {
		late   time.Duration
		reason string
	}{"behind its withdrawal": {0, "withdrawn"}, "behind its deadline": {12 * time.Second, "deadline_passed"}} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				w.memory.set(func(m *memory) { m.held = true })
				a := w.claim(orNotAtAll, "Prefer: wait=1").is(202, "").has("state", "withdrawing")
				id, at := a.string("claim_id"), a.header.Get("Location")
				w.memory.set(func(m *memory) {
					for p := range m.logs {
						if log := m.logs[p]; len(log) == 2 {
							log[0], log[1] = log[1], log[0]
							if test.late > 0 {
								log[0], log[1] = log[1], log[0]
								log[0].Time = log[0].Time.Add(test.late)
							}
						}
					}
				})
				if test.late == 0 {
					w.memory.decideNext(t)
					w.get(at).is(200, "").has("state", "withdrawn", "claim_id", id, "name", "Alice", "owner", "u-17")
					w.get("/v1/claims/"+id).is(200, "").has("state", "withdrawn")
				}
				w.memory.release()
				w.get(at).is(200, test.reason).has("state", "rejected", "reason", test.reason)
				w.get(nameOfAlice).is(200, "").has("available", true)
			})
		})
	}
}

// Where the withdrawal is not published, nothing is said that is not so.
func TestOnTimeoutNotPublished(t *testing.T) {
	for _, test := range []struct {
		err            error
		status         int
		reason, state  string
		claims, answer int
	}{
		{api.ErrNotPublished, 202, "", "pending", 1, 1},
		{api.ErrUnknown, 503, "outcome_unknown", "", 1, 1},
	} {
		t.Run(fmt.Sprint(test.err), func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				n := 0
				w.memory.held = true
				w.memory.publish = func(_ context.Context, add func() int64) (int64, error) {
					if n++; n == 1 {
						return add(), nil
					}
					return 0, test.err
				}
				a := w.claim(orNotAtAll, "Prefer: wait=1").is(test.status, test.reason)
				if id := a.string("claim_id"); test.state != "" {
					a.has("state", test.state).heads("Location", "/v1/claims/"+id+fmt.Sprintf("?at=%d-3-0", int(a.body["partition"].(float64))))
				} else if !strings.HasSuffix(a.string("instance"), id) {
					t.Errorf("the problem is about %s", a.string("instance"))
				}
			})
		})
	}
}

// Whoever hangs up withdraws nothing: it may ask again.
func TestOnTimeoutCallerGoesAway(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.askCtx(ctx, "POST", "/v1/claims", orNotAtAll, "Idempotency-Key: k")
		w.published(1)
		w.memory.release()
		w.claim(orNotAtAll, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "true")
	})
}

func TestBadOnTimeoutOfAGet(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const id = "/v1/claims/8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b3f2"
		for _, query := range []string{"?on_timeout=withdraw", "?at=1-3-0&on_timeout=", "?at=1-3-0&on_timeout=x"} {
			w.get(id+query).is(400, "bad_request").names("on_timeout")
		}
		w.get(id+"?at=1-3-0&on_timeout=withdraw").is(200, "").has("state", "withdrawing")
	})
}

// However many repeat what would be withdrawn, the partitions are looked at a few times a second.
func TestOnTimeoutRepeatedByMany(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const key = "Idempotency-Key: k"
		id := w.claim(orNotAtAll, key).is(201, "").string("claim_id")
		w.memory.set(func(m *memory) { m.looks, m.frozen = 0, slices.Clone(m.rows[:]) })
		var all sync.WaitGroup
		start := time.Now()
		for i := range 20 {
			time.Sleep(7 * time.Millisecond)
			all.Go(func() {
				w.claim(orNotAtAll, key, "Prefer: wait=9").is(201, "").has("claim_id", id).heads("Idempotent-Replayed", "true")
			})
			if i == 19 {
				time.AfterFunc(4*time.Second, func() { w.memory.set(func(m *memory) { m.frozen = nil }) })
			}
		}
		all.Wait()
		took := time.Since(start)
		if w.memory.looks > 25 || took < 4*time.Second || took > 5*time.Second {
			t.Errorf("%d looks in %s", w.memory.looks, took)
		}
	})
}
