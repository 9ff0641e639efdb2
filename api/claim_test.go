package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

const alice = `{"name":"Alice","owner":"u-17"}`

// The memory decides a claim inside Publish: it is answered because the ticket was taken before.
func TestClaimAccepted(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		a := w.claim(`{"space":"username","name":"Alice","owner":"u-17","mode":"register","expected_version":0,"metadata":{"from":"web"}}`,
			"traceparent: "+parent, "tracestate: vendor=1,other=2").is(201, "")
		id := a.body["claim_id"].(string)
		a.has("type", "UsernameClaimed", "space", "username", "name", "Alice", "key", "alice", "owner", "u-17",
			"state", "accepted", "version", 1, "decided_at", "2026-11-21T10:00:00.123Z", "log_epoch", 3, "offset", 0, "reason", nil).
			heads("Location", "/v1/claims/"+id, "ETag", `"1"`, "Idempotent-Replayed", "", "Preference-Applied", "",
				"Cache-Control", "no-store", "Content-Type", "application/json")
		if v := uuid.MustParse(id).Version(); v != 7 {
			t.Errorf("the id of a claim without a key has version %d", v)
		}
		if a.took != 0 {
			t.Errorf("took %s", a.took)
		}
		w.published(1)
		r := w.memory.records()[0]
		for header, want := range map[string]string{
			"content-type": "application/json", "ce_specversion": "1.0", "ce_id": id, "ce_type": "dibs.UsernameClaimed.v1",
			"ce_source": "dibs/api", "ce_subject": "username/alice", "ce_dibsprincipal": "anonymous",
			"traceparent": parent, "tracestate": "vendor=1,other=2",
		} {
			if got, _ := r.Header(header); string(got) != want {
				t.Errorf("record's header %s is %q, want %q", header, got, want)
			}
		}
		const value = `{"space":"username","name":"Alice","owner":"u-17","mode":"register","expected_version":0,"metadata":{"from":"web"}}`
		if string(r.Key) != "username/alice" || string(r.Value) != value {
			t.Errorf("record is %s %s", r.Key, r.Value)
		}
		if p := claims.Partition("username/alice", partitions); len(w.memory.logs[p]) != 1 || a.body["partition"] != float64(p) {
			t.Errorf("record is not on partition %d", p)
		}
	})
}

func TestClaimTracingNeverCosts(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		for i, trace := range []string{
			"x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
			"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
			"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		} {
			w.claim(fmt.Sprintf(`{"name":"name-%d","owner":"u"}`, i), "traceparent: "+trace, "tracestate: a=1").is(201, "")
		}
		w.claim(`{"name":"future","owner":"u"}`, "traceparent: 01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
			"tracestate: A=1").is(201, "")
		for _, r := range w.memory.records() {
			_, parent := r.Header("traceparent")
			_, state := r.Header("tracestate")
			if future := string(r.Key) == "username/future"; parent != future || state {
				t.Errorf("%s: traceparent %t, tracestate %t", r.Key, parent, state)
			}
		}
	})
}

// Every reason that the log may give, and what becomes of it over HTTP.
func TestClaimRejected(t *testing.T) {
	for reason, status := range map[registrations.Reason]int{
		registrations.Malformed: 409, registrations.NotAllowed: 403, registrations.UnknownSpace: 409,
		registrations.DeadlinePassed: 409, registrations.ClaimWithdrawn: 409, registrations.InvalidName: 409,
		registrations.InvalidRequest: 409, registrations.ReservedWord: 409, registrations.NameBlocked: 409,
		registrations.UnknownClaim: 404, registrations.ReservationExpired: 409, registrations.NotOwner: 403,
		registrations.VersionConflict: 412, registrations.WrongState: 409, registrations.CoolingDown: 409,
		registrations.Confusable: 409, registrations.Taken: 409, registrations.LimitExceeded: 409,
	} {
		t.Run(string(reason), func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				w.memory.ledger.Force["alice"] = reason
				a := w.claim(alice, "Idempotency-Key: k").is(status, string(reason))
				id := a.body["claim_id"].(string)
				a.has("type", "/problems/"+string(reason), "instance", "/v1/claims/"+id, "owner", nil, "errors", nil)
				if reason == registrations.VersionConflict {
					a.has("current_version", 0)
				} else {
					a.has("current_version", nil)
				}
				w.claim(alice, "Idempotency-Key: k", "Prefer: wait=1").is(status, string(reason)).
					heads("Idempotent-Replayed", "true", "Preference-Applied", "wait=1")

				// To read it is no error.
				w.get("/v1/claims/"+id).is(200, string(reason)).
					has("state", "rejected", "claim_id", id, "name", "Alice", "version", nil).heads("ETag", "")
			})
		})
	}
}

func TestClaimTaken(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		first := w.claim(alice).is(201, "")
		a := w.claim(`{"name":"ALICE","owner":"u-18"}`).is(409, "taken").has("detail", "the name is taken")
		if strings.Contains(a.text, "u-17") {
			t.Errorf("the answer names the holder: %s", a.text)
		}
		w.claim(alice).is(409, "taken") // another claim by the same owner
		b := w.claim(`{"name":"alice","owner":"u-17","on_conflict":"return_existing"}`).is(201, "").
			has("version", 1, "claim_id", first.body["claim_id"])
		if b.header.Get("Location") == first.header.Get("Location") {
			t.Error("the second claim has the first one's address")
		}
		w.claim(`{"name":"alice","owner":"u-18","on_conflict":"return_existing"}`).is(409, "taken")
	})
}

func TestClaimVersions(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice, "If-None-Match: *").is(201, "")
		w.claim(alice, "If-None-Match: *").is(412, "version_conflict").has("current_version", 1)
		w.claim(alice, `If-Match: "7"`).is(412, "version_conflict").has("current_version", 1)
		w.claim(alice, `If-Match: "1"`).is(409, "taken")
		w.claim(`{"name":"Alice","owner":"u-17","expected_version":7}`).is(412, "version_conflict")
		w.claim(`{"name":"Alice","owner":"u-17","expected_version":1}`).is(409, "taken")
		for _, header := range []string{"If-Match: 7", `If-Match: *`, `If-Match: W/"7"`, `If-Match: "7", "8"`, `If-Match: "-1"`, `If-Match: "`,
			`If-Match: "99999999999999999999"`, `If-None-Match: "7"`, "If-None-Match: x"} {
			name, _, _ := strings.Cut(header, ":")
			w.claim(alice, header).is(400, "bad_request").names(name)
		}
		w.claim(alice, `If-Match: "1"`, "If-None-Match: *").is(400, "bad_request").names("If-None-Match")
		w.claim(`{"name":"Alice","owner":"u-17","expected_version":1}`, `If-Match: "1"`).is(400, "bad_request").names("If-Match")
		w.claim(`{"name":"Alice","owner":"u-17","expected_version":0}`, `If-None-Match: *`).is(400, "bad_request").names("If-None-Match")
	})
}

func TestClaimPending(t *testing.T) {
	for _, test := range []struct {
		prefer, applied string
		took            time.Duration
	}{
		{"", "", 5 * time.Second},
		{"wait=1", "wait=1", time.Second},
		{"wait=30", "wait=30", 30 * time.Second},
		{"wait=31", "wait=30", 30 * time.Second},
		{"wait=2147483647", "wait=30", 30 * time.Second},
		{"wait=0", "wait=0", 0},
		{"respond-async", "respond-async", 0},
		{"respond-async, wait=10", "wait=10", 10 * time.Second},
		{`return=minimal; x="a,b;c", WAIT = "2" , wait=3`, "wait=2", 2 * time.Second},
		{"handling=lenient", "", 5 * time.Second},
	} {
		t.Run(test.prefer, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				w.memory.held = true
				a := w.claim(alice, "Prefer: "+test.prefer).is(202, "")
				if a.took != test.took {
					t.Errorf("took %s, want %s", a.took, test.took)
				}
				id, p := a.body["claim_id"].(string), a.body["partition"].(float64)
				at := fmt.Sprintf("/v1/claims/%s?at=%d-3-0", id, int(p))
				a.has("state", "pending", "name", "Alice", "key", "alice", "owner", "u-17", "offset", 0, "log_epoch", 3, "version", nil).
					heads("Location", at, "Retry-After", "1", "Preference-Applied", test.applied, "ETag", "")

				w.get(at).is(200, "").has("state", "pending", "claim_id", id).heads("Retry-After", "1")
				w.get("/v1/claims/"+id).is(404, "unknown_claim")
				w.memory.release()
				w.get(at).is(200, "").has("state", "accepted", "version", 1).heads("ETag", `"1"`)
				w.get("/v1/claims/"+id).is(200, "").has("state", "accepted")
				if n := w.waiter.Counts().Waiting; n != 0 {
					t.Errorf("%d tickets are still out", n)
				}
			})
		})
	}
}

// Two lines of Prefer are one list.
func TestPreferInTwoLines(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		if a := w.claim(alice, "Prefer: return=minimal", "Prefer: wait=2").is(202, ""); a.took != 2*time.Second {
			t.Errorf("took %s", a.took)
		}
	})
}

func TestClaimDecidedWithinTheWait(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		time.AfterFunc(3*time.Second, w.memory.release)
		if a := w.claim(alice).is(201, ""); a.took != 3*time.Second {
			t.Errorf("took %s", a.took)
		}
	})
}

// The tail brings nothing: Postgres is asked after 300 ms.
func TestClaimTailLags(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.mute = true
		if a := w.claim(alice).is(201, ""); a.took < 200*time.Millisecond || a.took > 400*time.Millisecond {
			t.Errorf("took %s", a.took)
		}
	})
}

func TestGetClaimLongPoll(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		at := w.claim(alice, "Prefer: respond-async").is(202, "").header.Get("Location")
		plain, _, _ := strings.Cut(at, "?")
		if a := w.get(at, "Prefer: wait=7").is(200, "").has("state", "pending"); a.took != 7*time.Second {
			t.Errorf("took %s", a.took)
		}
		if a := w.get(plain, "Prefer: wait=7").is(404, "unknown_claim"); a.took != 7*time.Second {
			t.Errorf("took %s", a.took)
		}
		time.AfterFunc(4*time.Second, w.memory.release)
		a := w.get(plain, "Prefer: wait=99").is(200, "").has("state", "accepted").heads("Preference-Applied", "wait=30")
		if a.took != 4*time.Second {
			t.Errorf("took %s", a.took)
		}
		if a := w.get(plain, "Prefer: wait=9").is(200, ""); a.took != 0 {
			t.Errorf("a decided claim took %s", a.took)
		}
	})
}

func TestGetClaimAtAPositionThatIsDecided(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		p := int(w.claim(alice).is(201, "").body["partition"].(float64))
		time.Sleep(2 * time.Second) // the API learns that the partition has gone on
		path := "/v1/claims/" + uuid.NewString()
		a := w.get(fmt.Sprintf("%s?at=%d-3-0", path, p), "Prefer: wait=9").is(404, "unknown_claim")
		if a.took != 0 {
			t.Errorf("took %s", a.took)
		}
		w.get(fmt.Sprintf("%s?at=%d-3-1", path, p)).is(200, "").has("state", "pending")
		w.get(fmt.Sprintf("%s?at=%d-2-99", path, p)).is(404, "unknown_claim") // of a log that is gone
		// The database has gone back to before what the API has learnt: nothing is known to be lost.
		w.memory.set(func(m *memory) { m.rows[p].NextOffset = 0 })
		w.get(fmt.Sprintf("%s?at=%d-3-0", path, p)).is(200, "").has("state", "pending")
	})
}

func TestOtherReplicaAnswers(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		other := newWorld(t, func(s *setup) { s.memory = w.memory })
		time.Sleep(time.Second)
		at := w.claim(alice, "Idempotency-Key: k", "Prefer: wait=1").is(202, "").header.Get("Location")
		other.get(at).is(200, "").has("state", "pending")
		time.AfterFunc(2*time.Second, w.memory.release)
		other.get(at, "Prefer: wait=5").is(200, "").has("state", "accepted")
		other.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "true")
	})
}

func TestPublishFails(t *testing.T) {
	const noticed = 200 * time.Millisecond // not before: it is rare, and to wait for it costs each claim that does not fail
	never := func(err error) func(context.Context, func() int64) (int64, error) {
		return func(context.Context, func() int64) (int64, error) { return 0, err }
	}
	for _, test := range []struct {
		name    string
		publish func(ctx context.Context, add func() int64) (int64, error)
		reason  string
		took    time.Duration
		records int
	}{
		{"not published", never(fmt.Errorf("%w: broker-3.internal is away", api.ErrNotPublished)), "unavailable", noticed, 0},
		{"busy", never(fmt.Errorf("%w: %w", api.ErrNotPublished, api.ErrBusy)), "too_busy", noticed, 0},
		{"unknown", never(api.ErrUnknown), "outcome_unknown", 5 * time.Second, 0},
		{"something else", never(errors.New("broker-3.internal said EOF")), "outcome_unknown", 5 * time.Second, 0},
		{"unknown, and in the log, and not decided", func(_ context.Context, add func() int64) (int64, error) { return add(), api.ErrUnknown },
			"outcome_unknown", 5 * time.Second, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				w.memory.held, w.memory.publish = true, test.publish
				a := w.claim(alice, "Idempotency-Key: k").is(503, test.reason).heads("Retry-After", "1")
				if a.took != test.took {
					t.Errorf("took %s, want %s", a.took, test.took)
				}
				if strings.Contains(a.text, "internal\"") || strings.Contains(a.text, ".internal") {
					t.Errorf("the answer tells what is inside: %s", a.text)
				}
				if test.reason == "outcome_unknown" {
					id := a.body["claim_id"].(string)
					if v := uuid.MustParse(id).Version(); v != 5 {
						t.Errorf("claim_id %s has version %d", id, v)
					}
				} else {
					a.has("claim_id", nil)
				}
				w.published(test.records)
				if n := w.waiter.Counts().Waiting; n != 0 {
					t.Errorf("%d tickets are still out", n)
				}
			})
		})
	}
}

// Kafka did not say whether it has the claim, but its outcome comes.
func TestPublishUnknownOutcomeComes(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		w.memory.publish = func(_ context.Context, add func() int64) (int64, error) {
			time.AfterFunc(2*time.Second, func() { add(); w.memory.release() })
			return 0, api.ErrUnknown
		}
		a := w.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "")
		if a.took != 2*time.Second {
			t.Errorf("took %s", a.took)
		}
	})
}

// Nothing is published when this one is not, but an earlier one with the same key has its outcome.
func TestNotPublishedButDecidedBefore(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "")
		o := w.memory.ledger.Outcomes
		w.memory.publish = func(context.Context, func() int64) (int64, error) {
			for _, before := range o {
				w.waiter.Deliver(before)
			}
			return 0, api.ErrNotPublished
		}
		w.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", "true")
		if n := w.count("dibs_claims_replayed_total"); n != 1 {
			t.Errorf("%v replays are counted", n)
		}
		w.published(1)
	})
}

func TestClaimRefusedWhileSomethingIsAway(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.set(func(m *memory) { m.away = errAway })
		time.Sleep(8 * time.Second)
		w.claim(alice).is(503, "unavailable").heads("Retry-After", "1")
		w.get("/v1/claims/"+uuid.NewString()).is(503, "unavailable")
		w.get("/v1/names/username/alice").is(503, "unavailable")
		if err := w.claimer.Ready(); err == nil {
			t.Error("ready without a database")
		}
		w.published(0)
		w.memory.set(func(m *memory) { m.away = nil })
		time.Sleep(2 * time.Second)
		w.claim(alice).is(201, "")
	})
}

func TestClaimRefusedByCheck(t *testing.T) {
	broken := func(int32) bool { return false }
	inTime(t, func(t *testing.T, w *world) {
		alices := claims.Partition("username/alice", partitions)
		broken = func(p int32) bool { return p == alices }
		if a := w.claim(alice).is(503, "unavailable"); strings.Contains(a.text, "13") {
			t.Errorf("the answer tells what is inside: %s", a.text)
		}
		w.published(0)
		elsewhere := 0
		for i := range 20 { // one partition that is away is no other's trouble
			name := fmt.Sprintf("bob%d", i)
			if claims.Partition("username/"+name, partitions) != alices {
				w.claim(fmt.Sprintf(`{"name":%q,"owner":"u"}`, name)).is(201, "")
				elsewhere++
			}
		}
		if elsewhere == 0 {
			t.Error("no name was on another partition")
		}
		if err := w.claimer.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		broken = func(int32) bool { return true }
		if err := w.claimer.Ready(); err == nil {
			t.Error("ready where all claims are refused")
		}
		broken = func(int32) bool { return false }
		w.claim(alice).is(201, "")
	}, func(s *setup) {
		s.claimer.Check = func(p int32) error {
			if broken(p) {
				return errors.New("broker-13 is away")
			}
			return nil
		}
	})
}

func TestClaimRefusedOnAHaltedPartition(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		p := claims.Partition("username/alice", partitions)
		w.memory.set(func(m *memory) { m.rows[p].Halted = "log truncated below 4711" })
		time.Sleep(2 * time.Second)
		a := w.claim(alice).is(503, "partition_halted").heads("Retry-After", "30")
		if strings.Contains(a.text, "4711") {
			t.Errorf("the answer tells what is inside: %s", a.text)
		}
		w.published(0)
		elsewhere := 0
		for i := 0; elsewhere == 0; i++ {
			if name := fmt.Sprintf("name%d", i); claims.Partition("username/"+name, partitions) != p {
				w.claim(fmt.Sprintf(`{"name":%q,"owner":"u"}`, name)).is(201, "")
				elsewhere++
			}
		}
		w.memory.set(func(m *memory) { m.rows[p].Halted = "" })
		time.Sleep(2 * time.Second)
		w.claim(alice).is(201, "")
	})
}

// A partition that nobody has owned yet is in its first log.
func TestClaimBeforeAnybodyOwnsThePartition(t *testing.T) {
	m := newMemory()
	c, err := api.NewClaimer(api.ClaimerConfig{Partitions: partitions, Policies: names.Builtin()}, m, nobody{m}, registrations.NewWaiter(registrations.WaiterConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	ask := api.Request{Space: names.Username, Name: "Alice", Owner: "u", Mode: claims.ModeRegister}
	var refused *api.Refused
	if _, err = c.Claim(t.Context(), "p", ask, 0); !errors.As(err, &refused) || refused.Reason != api.NotAvailable {
		t.Errorf("before the partitions are read: %v", err)
	}
	run(t, c.Run)
	for c.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	r, err := c.Claim(t.Context(), "p", ask, 0)
	if err != nil || r.Position.LogEpoch != 1 || r.Outcome != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

type nobody struct{ *memory }

func (nobody) Partitions(context.Context) ([]api.Partition, error) { return nil, nil }

func TestTooManyWait(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		var waiting sync.WaitGroup
		for i := range 2 {
			waiting.Go(func() { w.claim(fmt.Sprintf(`{"name":"name%d","owner":"u"}`, i), "Prefer: wait=10").is(202, "") })
		}
		time.Sleep(time.Second)
		w.claim(alice).is(503, "too_busy").heads("Retry-After", "1")
		w.get("/v1/claims/"+uuid.NewString(), "Prefer: wait=1").is(503, "too_busy")
		w.published(2)
		waiting.Wait()
		w.claim(alice).is(202, "")
	}, func(s *setup) { s.waiters = 2 })
}

// A caller that hangs up does not keep its ticket, and its claim settles.
func TestCallerGoesAway(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.memory.held = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		id := uuid.NewString()
		body := fmt.Sprintf(`{"name":"Alice","owner":"u-17","claim_id":%q}`, id)
		if a := w.askCtx(ctx, http.MethodPost, "/v1/claims", body); a.took != time.Second {
			t.Errorf("waited %s for a caller that is gone", a.took)
		}
		if n := w.waiter.Counts().Waiting; n != 0 {
			t.Errorf("%d tickets are still out", n)
		}
		w.memory.release()
		w.get("/v1/claims/"+id).is(200, "").has("state", "accepted")

		// It hangs up while Kafka is being asked: the record is written all the same.
		ctx, cancel = context.WithCancel(t.Context())
		w.memory.publish = func(publishing context.Context, add func() int64) (int64, error) {
			cancel()
			if err := publishing.Err(); err != nil {
				return 0, fmt.Errorf("%w: %w", api.ErrNotPublished, err)
			}
			return add(), nil
		}
		w.askCtx(ctx, http.MethodPost, "/v1/claims", `{"name":"Bob","owner":"u"}`)
		w.published(2)
		// It had hung up before: nothing is written.
		w.askCtx(ctx, http.MethodPost, "/v1/claims", `{"name":"Carol","owner":"u"}`)
		w.published(2)
	})
}

// The record is given to Kafka with a deadline of its own, also when the caller waits for less or has none.
func TestPublishHasADeadline(t *testing.T) {
	h := hanging{started: make(chan struct{}, 1)}
	inTime(t, func(t *testing.T, w *world) {
		for wait, want := range map[time.Duration]time.Duration{0: 5 * time.Second, time.Second: 5 * time.Second, 9 * time.Second: 9 * time.Second} {
			start := time.Now()
			_, err := w.claimer.Claim(t.Context(), "p", api.Request{Space: names.Username, Name: "Alice", Owner: "u", Mode: claims.ModeRegister}, wait)
			var refused *api.Refused
			if !errors.As(err, &refused) || refused.Reason != api.OutcomeUnknown || time.Since(start) != want {
				t.Errorf("wait %s: %v after %s, want outcome_unknown after %s", wait, err, time.Since(start), want)
			}
			<-h.started
		}
	}, func(s *setup) { s.claims = h })
}

// hanging is a Claims that does not answer until it is given up.
type hanging struct{ started chan struct{} }

func (h hanging) Start(int32, cloudevents.Record) (api.Publication, error) {
	h.started <- struct{}{}
	return inBackground(func(ctx context.Context) (int64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}), nil
}
