package api_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/names"
)

// activated is a version of a space's policy, and another shortest name.
func activated(space names.Space, version, shortest int) names.Policies {
	p := *names.Builtin()[names.Username]
	p.Space, p.Version, p.MinLength, p.Reserved = space, version, shortest, nil
	return names.Policies{space: &p}
}

// hold makes policies hold: in the partitions from one to another, and in the log.
func (w *world) hold(from, to int, policies names.Policies) {
	w.memory.set(func(m *memory) {
		for i := from; i < to; i++ {
			m.rows[i].Policies = policies
		}
		for _, p := range policies {
			m.ledger.Hold(p)
		}
	})
	time.Sleep(2 * time.Second) // in the bubble: the rows are read every second
}

// TestPolicyInEveryPartition: a space is there, and a policy holds, once every partition that takes claims has it.
func TestPolicyInEveryPartition(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const invoice = `{"space":"invoice-number","name":"2026-1","owner":"u-17"}`
		w.claim(invoice).is(422, "unknown_space")
		w.hold(0, partitions-1, activated("invoice-number", 1, 1))
		w.claim(invoice).is(422, "unknown_space")
		w.memory.set(func(m *memory) { m.rows[partitions-1].Halted = "why" })
		time.Sleep(2 * time.Second)
		if v := w.claimer.Policies().Version("invoice-number"); v != 1 {
			t.Errorf("a halted partition keeps the others at version %d", v)
		}
		w.memory.set(func(m *memory) { m.rows[partitions-1].Halted = "" })
		w.hold(partitions-1, partitions, activated("invoice-number", 1, 1))
		w.claim(invoice).is(201, "").has("space", "invoice-number")

		w.hold(0, 1, activated("invoice-number", 2, 7))
		if v := w.claimer.Policies().Version("invoice-number"); v != 1 {
			t.Errorf("version %d holds where one of %d partitions has 2", v, partitions)
		}
		w.hold(1, partitions, activated("invoice-number", 2, 7))
		w.claim(`{"space":"invoice-number","name":"2026-2","owner":"u-17"}`).is(422, "invalid_name")
		w.memory.set(func(m *memory) { // all of them: what was known stays
			for i := range m.rows {
				m.rows[i].Halted = "why"
			}
		})
		time.Sleep(2 * time.Second)
		if v := w.claimer.Policies().Version("invoice-number"); v != 2 || w.claimer.Policies().Version(names.Username) != 1 {
			t.Errorf("with all halted, version %d holds", v)
		}
	})
}

// TestNameOfAnEarlierPolicy: who holds a name that is too short by now can see it and give it up; nobody can claim it, and
// one that nobody ever held is no name at all.
func TestNameOfAnEarlierPolicy(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.claim(alice).is(201, "")
		w.claim(`{"name":"bobby","owner":"u-18"}`).is(201, "")
		w.claim(`{"name":"carol","owner":"u-19","mode":"reserve","ttl_seconds":900}`).is(201, "")
		id := w.get("/v1/names/username/carol").is(200, "").body["claim_id"].(string)
		w.hold(0, partitions, activated(names.Username, 2, 8))

		w.claim(`{"name":"alice","owner":"u-1"}`).is(422, "invalid_name")
		w.get("/v1/names/username/alice").is(200, "").has("state", "registered", "owner", "u-17")
		w.get("/v1/names/username/nobody").is(422, "invalid_name")
		w.post("/v1/names/username/nobody/release", `{"owner":"u-17"}`).is(422, "invalid_name")
		w.post("/v1/claims/"+id+"/confirm", `{"owner":"u-19"}`).is(200, "")
		w.post("/v1/names/username/alice/release", `{"owner":"u-18"}`).is(403, "not_owner")
		w.post("/v1/names/username/ALICE/release", `{"owner":"u-17"}`).is(200, "")
		w.post("/v1/names/username/nobody/rename", `{"owner":"u-18","to":"robert.the.bold"}`).is(422, "invalid_name").names("name")
		w.post("/v1/names/username/bobby/rename", `{"owner":"u-18","to":"bob"}`).is(422, "invalid_name").names("to")
		w.post("/v1/names/username/bobby/rename", `{"owner":"u-18","to":"robert.the.bold"}`).is(200, "")
		w.get("/v1/names/username/bobby").is(200, "").has("state", "free")
	})
}

// TestLookalikes: what is asked about a name leaves alone what looks like it.
func TestLookalikes(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		apart := activated("handle", 1, 3)
		form, err := names.Precis{Tables: names.TablesLatest, Confusables: names.ConfusablesAsTyped}.Form()
		if err != nil {
			t.Fatal(err)
		}
		apart["handle"].Form = form
		apart["handle"].Reserved = apart["handle"].ReservedKeys("admin")
		w.hold(0, partitions, apart)

		first := w.claim(`{"space":"handle","name":"PayPal","owner":"u-1"}`).is(201, "").has("key", "paypal")
		id := first.body["claim_id"].(string)
		w.claim(`{"space":"handle","name":"paypa1","owner":"u-2"}`).is(409, "confusable")
		w.claim(`{"space":"handle","name":"paypa1","owner":"u-1","on_conflict":"return_existing"}`).is(409, "confusable")
		w.claim(`{"space":"handle","name":"paypal","owner":"u-2"}`).is(409, "taken")
		w.claim(`{"space":"handle","name":"раyраl","owner":"u-2"}`).is(422, "invalid_name")
		w.claim(`{"space":"handle","name":"Adm1n","owner":"u-2"}`).is(422, "reserved_word")

		w.get("/v1/names/handle/PAYPAL").is(200, "").has("state", "registered", "owner", "u-1", "available", false, "reason", "taken")
		alike := w.get("/v1/names/handle/paypa1").is(200, "").has("name", "paypa1", "state", "free", "available", false, "reason", "confusable")
		if owner, told := alike.body["owner"]; told {
			t.Errorf("paypa1 is said to be of %v", owner)
		}
		w.post("/v1/names/handle/paypa1/release", `{"owner":"u-1"}`).is(403, "not_owner")
		w.post("/v1/names/handle/paypa1/rename", `{"owner":"u-1","to":"bobby"}`).is(403, "not_owner")
		w.post("/v1/names/handle/paypal/rename", `{"owner":"u-1","to":"paypa1"}`).is(409, "confusable")
		w.post("/v1/names/handle/paypal/rename", `{"owner":"u-1","to":"PAYPAL"}`).is(200, "").has("name", "PAYPAL")
		w.post("/v1/claims/"+id+"/withdraw", `{"owner":"u-1","space":"handle","name":"paypa1"}`).is(404, "unknown_claim")
		w.get("/v1/names/handle/paypal").is(200, "").has("state", "registered", "owner", "u-1")

		w.post("/v1/names/handle/paypal/release", `{"owner":"u-1"}`).is(200, "")
		w.claim(`{"space":"handle","name":"paypa1","owner":"u-2"}`).is(201, "").has("key", "paypal", "name", "paypa1")
		w.get("/v1/names/handle/paypal").is(200, "").has("available", false, "reason", "confusable")
	})
}

// TestKeysThatHold: those that do in all partitions.
func TestKeysThatHold(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		if h := w.claimer.Holding(); h.Keys != nil {
			t.Errorf("from the start: %+v", h)
		}
		w.memory.set(func(m *memory) {
			m.rows[1] = api.Partition{Partition: 1, LogEpoch: 3, Keys: []string{"k1", "k2"}}
			m.rows[2] = api.Partition{Partition: 2, LogEpoch: 3, Keys: []string{"k2", "k3"}}
		})
		time.Sleep(2 * time.Second)
		if h := w.claimer.Holding(); !slices.Equal(h.Keys, []string{"k2"}) {
			t.Errorf("holding is %+v", h)
		}
	})
}

// TestPartitionBeyondThePinnedCount: a topic that was grown has partitions that no request is meant for. What holds there,
// or does not, keeps nothing back.
func TestPartitionBeyondThePinnedCount(t *testing.T) {
	rows := make([]api.Partition, 6)
	for n := range rows {
		rows[n] = api.Partition{Partition: int32(n), Policies: activated("invoice-number", 1, 1), Keys: []string{"k1", "k2"}}
	}
	beyond := api.Partition{Partition: 6, Keys: []string{"k2"}}
	h := api.Hold(names.Builtin(), 6, append(rows, beyond))
	if v := h.Policies.Version("invoice-number"); v != 1 || !slices.Equal(h.Keys, []string{"k1", "k2"}) {
		t.Errorf("with a partition beyond six: %+v", h)
	}
	if v := api.Hold(names.Builtin(), 7, append(rows, beyond)).Policies.Version("invoice-number"); v != 0 {
		t.Errorf("version %d holds, and one of seven has none", v)
	}
	inTime(t, func(t *testing.T, w *world) {
		w.hold(0, partitions, activated("invoice-number", 1, 1))
		w.memory.set(func(m *memory) {
			for i := range m.rows {
				m.rows[i].Halted = "why"
			}
			m.rows[partitions-1] = api.Partition{Partition: partitions, LogEpoch: 1}
		})
		time.Sleep(2 * time.Second)
		if v := w.claimer.Policies().Version("invoice-number"); v != 1 {
			t.Errorf("version %d holds once all that count are halted: what was known stays", v)
		}
	})
}
