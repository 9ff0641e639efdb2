package app_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/google/uuid"
)

// fields are those of a request beside space and name.
type fields map[string]any

// request is a record of claims as a backend service writes it.
func (w *walk) request(kind, name string, more fields) produced {
	q := fields{"space": "username", "name": name}
	for k, v := range more {
		q[k] = v
	}
	value, err := json.Marshal(q)
	if err != nil {
		panic(err) // nothing in it is not JSON
	}
	r := newClaim(w.d.partitions, name, "")
	r.Value = value
	r.set("ce_type", "dibs."+kind+".v1")
	r.set("ce_dibsprincipal", "backend")
	return r
}

// signed signs a record with a key of the deployment, or with another.
func (r produced) signed(key claims.SigningKey) produced {
	is := cloudevents.Record{Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		is.Headers = append(is.Headers, cloudevents.Header{Name: h.Key, Value: h.Value})
	}
	sig, _ := key.Sign(is).Header(claims.Signature)
	r.set(claims.Signature, string(sig))
	return r
}

// produce appends a record to claims, by somebody's clock.
func (w *walker) produce(r produced) {
	is := *r.Record
	is.Topic = w.d.topic.claims
	if w.chance(5) {
		is.Timestamp = time.Now().Add(time.Duration(w.r.IntN(1900)-1000) * time.Millisecond) // the topic takes a second ahead
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.kafka.ProduceSync(ctx, &is).FirstErr(); err != nil {
		w.d.t.Errorf("produce: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.recent) < 200 {
		w.recent = append(w.recent, r)
	} else {
		w.recent[w.r.IntN(len(w.recent))] = r
	}
	if w.r.IntN(10) == 0 && !w.d.t.Failed() {
		w.asked[r.id] = ""
	}
}

// produceRequest asks for something straight on the topic.
func (w *walker) produceRequest(what, name string, h noted) {
	name = w.spelt(name)
	kind, more := map[string]string{
		"confirm": "ConfirmRequested", "extend": "ExtendRequested", "release": "ReleaseRequested", "withdraw": "WithdrawRequested",
		"transfer": "TransferRequested", "deactivate": "DeactivateRequested", "reactivate": "ReactivateRequested",
	}[what], fields{"owner": h.owner}
	switch what {
	case "confirm", "withdraw":
		more["claim_id"] = h.claim
	case "extend":
		more["claim_id"], more["ttl_seconds"] = h.claim, pick(w, 0, 1, 2, 5, 604800, 604800)
	case "transfer":
		more["new_owner"] = w.owner()
	}
	if v := w.version(h); v != nil {
		more["expected_version"] = *v
	}
	if kind == "" {
		kind = "UsernameClaimed"
		more = w.claimed(what, name, h)
	}
	if w.chance(12) {
		more["deadline"] = time.Now().Add(time.Duration(w.r.IntN(6000)-1500) * time.Millisecond).UTC().Format(time.RFC3339Nano)
	}
	r := w.request(kind, name, more)
	switch {
	case w.chance(3): // it is withdrawn before it comes
		w.produce(w.request("WithdrawRequested", name, fields{"claim_id": r.id, "owner": more["owner"]}))
		w.mu.Lock()
		w.late = append(w.late, r)
		w.mu.Unlock()
	case w.chance(5):
		r.Partition = w.r.Int32N(int32(w.d.partitions))
		fallthrough
	default:
		w.produce(r)
	}
}

// claimed is what a claim says.
func (w *walker) claimed(what, name string, h noted) fields {
	more := fields{"owner": w.owner(), "mode": "register"}
	reserve := func() {
		more["mode"] = "reserve"
		if !w.chance(10) {
			more["ttl_seconds"] = pick(w, 1, 1, 1, 2, 3, 600, 604800)
		}
	}
	switch what {
	case "reserve":
		reserve()
	case "existing":
		more["owner"], more["on_conflict"] = h.owner, "return_existing"
	case "respell":
		more["owner"], more["replaces"] = h.owner, fields{"name": strings.ToLower(name), "version": h.version}
	case "rename":
		old, of := w.other()
		more["owner"], more["replaces"] = of.owner, fields{"name": old, "version": max(1, of.version+int64(w.r.IntN(12)/11))}
		if w.chance(40) {
			reserve()
		}
		if w.chance(10) {
			more["on_conflict"] = "return_existing"
		}
	}
	if v := w.version(h); v != nil && w.chance(50) {
		more["expected_version"] = *v
	}
	return more
}

// privileged is what an actor asks, mostly signed as it must be.
func (w *walker) privileged(name string, h noted) {
	more := fields{"actor": pick(w, "ada", "bea"), "reason": "on a walk"}
	kind := pick(w, "BlockRequested", "ReleaseRequested", "ReleaseRequested", "TransferRequested", "TransferRequested", "ExpiryDue")
	switch {
	case h.state == "blocked" && w.chance(80):
		w.unblock(name)
		return
	case kind == "BlockRequested" && w.chance(50): // too many would have all names
		kind = "UnblockRequested"
	case kind == "TransferRequested":
		more["new_owner"] = w.owner()
	case kind == "ExpiryDue":
		more = fields{"claim_id": h.claim, "expires_at": time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)}
	}
	if v := w.version(h); v != nil && kind != "BlockRequested" && w.chance(50) {
		more["expected_version"] = *v
	}
	r := w.request(kind, w.spelt(name), more)
	switch w.r.IntN(12) {
	case 0: // nobody's
	case 1:
		r = r.signed(claims.SigningKey{ID: w.keys.Signing.ID, Secret: []byte("a guess")})
	case 2:
		r = r.signed(claims.SigningKey{ID: "k9", Secret: w.keys.Signing.Secret})
	case 3: // and then changed
		r = r.signed(w.keys.Signing)
		r.Value = append(slices.Clone(r.Value), ' ')
	default:
		r = r.signed(w.keys.Signing)
	}
	w.produce(r)
}

func (w *walker) unblock(name string) {
	w.produce(w.request("UnblockRequested", name, fields{"actor": "ada", "reason": "on a walk"}).signed(w.keys.Signing))
}

// stroll is a walk along the rare outcomes, in order and with names that nobody else asks for: a short walk may miss them.
func (w *walker) stroll() {
	ask := func(kind, name string, more fields) string {
		r := w.request(kind, "sure."+name, more)
		if _, actor := more["actor"]; actor {
			r = r.signed(w.keys.Signing)
		}
		w.produce(r)
		return r.id
	}
	claim := func(name string, more fields) string {
		more["owner"] = "u-1"
		if more["mode"] == nil {
			more["mode"] = "register"
		}
		return ask("UsernameClaimed", name, more)
	}
	first := claim("a", fields{})
	claim("A", fields{"replaces": fields{"name": "sure.a", "version": 1}})
	claim("a", fields{"on_conflict": "return_existing"})
	ask("WithdrawRequested", "a", fields{"claim_id": first, "owner": "u-1"})
	ask("TransferRequested", "a", fields{"owner": "u-1", "new_owner": "u-2"})
	ask("DeactivateRequested", "a", fields{"owner": "u-2"})
	ask("ReactivateRequested", "a", fields{"owner": "u-2"})
	ask("ReleaseRequested", "a", fields{"owner": "u-2", "expected_version": 99})
	ask("TransferRequested", "a", fields{"actor": "ada", "reason": "on a walk", "new_owner": "u-3"})
	ask("BlockRequested", "a", fields{"actor": "ada", "reason": "on a walk"})
	ask("UnblockRequested", "a", fields{"actor": "ada", "reason": "on a walk"})

	claim("b", fields{})
	for i, version := range []int{7, 1, 1} { // rejected for the version, released, rejected for the owner
		claim(fmt.Sprintf("b%d", i), fields{"replaces": fields{"name": "sure.b", "version": version}})
	}

	long := claim("c", fields{"mode": "reserve", "ttl_seconds": 604800})
	ask("ExtendRequested", "c", fields{"claim_id": long, "owner": "u-1", "ttl_seconds": 604800})
	ask("WithdrawRequested", "c", fields{"claim_id": long, "owner": "u-1"})
	short := claim("d", fields{"mode": "reserve", "ttl_seconds": 300})
	ask("ExtendRequested", "d", fields{"claim_id": short, "owner": "u-1", "ttl_seconds": 600})
	ask("ConfirmRequested", "d", fields{"claim_id": short, "owner": "u-2"})
	ask("ConfirmRequested", "d", fields{"claim_id": short, "owner": "u-1"})
	ask("ExtendRequested", "d", fields{"claim_id": short, "owner": "u-1", "ttl_seconds": 600})
	w.strollOfOwners(ask)
}

// activate makes another policy hold from here on, in each partition: first with a cool-down, then for names that are unique
// among the active only.
func (w *walker) activate(version int) {
	value := fmt.Appendf(nil, `{"space":"username","version":%d,"policy":{"min_length":3,"max_length":32,"reserved":["admin","postmaster","root"],`+
		`"ttl_seconds":900,"shortest_ttl_seconds":1,"longest_ttl_seconds":604800,"cool_down_seconds":2,"previous_may_return":true,"unique_among":%q},`+
		`"rules":%d,"keys":[%q],"signatures":"privileged"}`, version, map[bool]string{true: "all", false: "active"}[version == 2], version-1, w.keys.Signing.ID)
	sum := sha256.Sum256(append([]byte("dibs/policy\x00"), value...))
	id := uuid.UUID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	for p := range int32(w.d.partitions) {
		r := w.request("PolicyActivated", "", nil)
		r.Key, r.Value, r.Partition, r.id = []byte("username/"), value, p, id.String()
		r.set("ce_id", r.id)
		r.set("ce_dibsprincipal", claims.Principal)
		w.produce(r.signed(w.keys.Signing))
	}
}

// trick is something that no client should do, or that only a network does.
func (w *walker) trick(name string, h noted) {
	w.mu.Lock()
	var again, late *produced
	if n := len(w.recent); n > 0 {
		again = &w.recent[w.r.IntN(n)]
		r := *again
		again = &r
	}
	if n := len(w.late); n > 0 && w.r.IntN(2) == 0 {
		r := w.late[n-1]
		late, w.late = &r, w.late[:n-1]
	}
	w.mu.Unlock()
	if late != nil {
		w.produce(*late)
		return
	}
	r := w.request("UsernameClaimed", name, fields{"owner": w.owner(), "mode": "register"})
	if again == nil {
		again = &r
	}
	copied := *again.Record
	copied.Headers = slices.Clone(copied.Headers)
	again.Record = &copied
	switch w.r.IntN(20) {
	case 0, 1, 2, 3: // the same once more
		again.set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		w.produce(*again)
	case 4: // something else under the same id
		again.set("ce_dibsprincipal", "somebody")
		w.produce(*again)
	case 5:
		again.Value = []byte(`{"space":"username"`)
		w.produce(*again)
	case 6:
		r.Value = []byte(pick(w, "", "nonsense", `{"space":"username","name":"x"}`, string(r.Value)+"x", strings.Replace(string(r.Value), `"owner":"`, `"owner":"\u0000`, 1)))
		w.produce(r)
	case 7: // nobody could be told
		r.set(pick(w, "ce_id", "ce_type", "ce_specversion", "content-type"), pick(w, "17", "application/cloudevents+json"))
		w.produce(r)
	case 8: // to a wrong place, twice
		r.Partition = (r.Partition + 1) % int32(w.d.partitions)
		r.set("dibs-rerouted", "1")
		w.produce(r)
	case 9:
		r.Partition, r.Key = w.r.Int32N(int32(w.d.partitions)), []byte(pick(w, "", "username/somebody", "x"))
		w.produce(r)
	case 10: // an id of dibs' own
		r = w.request("ReleaseRequested", name, fields{"owner": h.owner, "expected_version": h.version})
		id := uuid.New()
		id[6] = id[6]&0x0f | 0x80
		r.set("ce_id", id.String())
		r.set("ce_dibsprincipal", pick(w, "dibs", "backend"))
		if w.chance(50) {
			r = r.signed(claims.SigningKey{ID: w.keys.Signing.ID, Secret: []byte("a guess")})
		}
		w.produce(r)
	case 11:
		w.produce(w.request("UsernameClaimed", pick(w, "ab", "-dash", "with space", "naïve", ""), fields{"owner": w.owner(), "mode": "register"}))
	case 12:
		w.produce(w.request("UsernameClaimed", pick(w, "root", "Admin", "postmaster"), fields{"owner": w.owner(), "mode": "register"}))
	case 13:
		r = w.request("UsernameClaimed", name, fields{"owner": w.owner(), "mode": "register", "space": "planet"})
		r.Key = []byte("planet/" + name)
		r.Partition = claims.Partition(string(r.Key), w.d.partitions)
		w.produce(r)
	case 14:
		w.produce(w.request("UsernameClaimed", name, pick(w,
			fields{"owner": w.owner(), "mode": "borrow"}, fields{"owner": "new\nline", "mode": "register"}, fields{"owner": w.owner(), "mode": "register", "ttl_seconds": 5},
			fields{"owner": w.owner(), "mode": "register", "expected_version": -1}, fields{"owner": w.owner(), "mode": "register", "replaces": fields{"name": "-", "version": 1}},
		)))
	case 15:
		w.produce(w.request("ReleaseRequested", name, fields{"owner": h.owner, "reason": "I say so"}))
	case 16, 17:
		w.longest()
	case 18:
		w.produce(w.request("BlockRequested", name, fields{"actor": "ada", "reason": "on a walk"}).signed(w.keys.Signing))
		w.unblock(name)
	default:
		if h.state == "registered" {
			w.produce(w.request("DeactivateRequested", name, fields{"owner": h.owner}))
			w.produce(w.request("ReactivateRequested", name, fields{"owner": h.owner}))
		}
	}
}

// longest reserves a name for as long as can be, and asks for more.
func (w *walker) longest() {
	name := w.name()
	for range 20 {
		if state := w.book.at(name).state; state == "" || state == "free" {
			break
		}
		name = w.name()
	}
	owner := w.owner()
	claim := w.request("UsernameClaimed", name, fields{"owner": owner, "mode": "reserve", "ttl_seconds": 604800})
	w.produce(claim)
	w.produce(w.request("ExtendRequested", name, fields{"claim_id": claim.id, "owner": owner, "ttl_seconds": 604800}))
	w.produce(w.request("WithdrawRequested", name, fields{"claim_id": claim.id, "owner": owner}))
}

// flush sends what is still held back.
func (w *walk) flush() {
	for _, r := range w.late {
		w.d.topic.append(w.kafka, r.Record)
	}
	w.late = nil
}

// settle waits until everything is decided and published, what it led to as well, and nothing is left to expire soon; and
// returns the history as it is then.
func (w *walk) settle() (h checker.History) {
	w.d.t.Helper()
	w.d.settled(2 * time.Minute)
	w.askAll()
	eventually(w.d.t, 3*time.Minute, func() error {
		if n := value[int](w.d, `SELECT count(*) FROM names WHERE expires_at < now() + interval '3 seconds'`); n > 0 {
			return fmt.Errorf("%d names have still to expire", n)
		}
		before := w.d.written()
		w.d.settled(time.Minute)
		w.wiped()
		if h = w.d.history(); w.d.written() != before {
			return errors.New("there is more on the topic by now")
		}
		return nil
	})
	return h
}

// most is how many calls are asked about that were left open.
const most = 2000

// askAll asks what became of what was left open.
func (w *walk) askAll() {
	w.d.t.Helper()
	n := 0
	for id := range w.asked {
		if n++; n > most {
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		r, err := w.client.Get(ctx, id)
		cancel()
		if err == nil && r.State != client.Pending && r.State != client.Withdrawing {
			w.d.heard(id, r)
		}
	}
}

// heard keeps what a client was told of a request, for the checker.
func (d *deployment) heard(id string, r client.Result) {
	told := checker.Answer{RequestID: id}
	if r.Key != "" && r.Space != "" {
		told.RecordKey = r.Space + "/" + r.Key
	}
	switch r.State {
	case client.Accepted:
		if told.Outcome, told.Version = "accepted", r.Version; r.Type == "UsernameClaimed" {
			told.Outcome = "Accepted"
		}
	case client.Rejected:
		told.Outcome, told.Reason = "Rejected", r.Reason
	case client.Withdrawn:
		told.Outcome = "withdrawn"
	}
	d.mu.Lock()
	d.answers = append(d.answers, told)
	d.mu.Unlock()
}

// surely is how many requests a walk has in which everything happens. In a shorter one now and then a rare thing doesn't.
const surely = 50_000

// must is what a walk makes happen, or it does not show what it claims to: the requests and the outcomes of the design's
// table, and the reasons that the log knows under the built-in policy.
var must = strings.Split(strings.TrimSpace(`
UsernameClaimed Accepted registered
UsernameClaimed Accepted reserved
UsernameClaimed Accepted what is held
UsernameClaimed Accepted spelt anew
UsernameClaimed Rejected taken
UsernameClaimed Rejected blocked
UsernameClaimed Rejected withdrawn
UsernameClaimed Rejected version_conflict
UsernameClaimed Rejected deadline_passed
UsernameClaimed Rejected invalid_name
UsernameClaimed Rejected invalid_request
UsernameClaimed Rejected reserved_word
UsernameClaimed Rejected unknown_space
UsernameClaimed Rejected malformed
ConfirmRequested Confirmed registered
ConfirmRequested Rejected unknown_claim
ConfirmRequested Rejected reservation_expired
ConfirmRequested Rejected not_owner
ExtendRequested Extended reserved
ExtendRequested Rejected limit_exceeded
ExtendRequested Rejected wrong_state
ReleaseRequested Released free
ReleaseRequested Released free by an actor
ReleaseRequested Rejected not_owner
ReleaseRequested Rejected version_conflict
ReleaseRequested Rejected not_allowed
WithdrawRequested Withdrawn free
WithdrawRequested Withdrawn
WithdrawRequested Rejected wrong_state
DeactivateRequested Deactivated inactive
ReactivateRequested Reactivated registered
TransferRequested Transferred registered
TransferRequested Transferred registered by an actor
BlockRequested Blocked blocked by an actor
UnblockRequested Unblocked free by an actor
ExpiryDue Expired free
ExpiryDue Unchanged
fact Expired
fact Released
follow-up Released
follow-up Rejected not_owner
follow-up Rejected version_conflict
row duplicate
row forwarded
row dead
row mark
row policy
ReleaseRequested Released cooling
UsernameClaimed Rejected cooling_down
SignupRequested Accepted registered
SignupRequested Rejected taken
SignupRequested Rejected reserved_word
SignupRequested Rejected invalid_name
SignupVoted Voted reserved
SignupVoted Unchanged
fact Begun
fact Abandoned
row sent
row pending
ErasureRequested Erased by an actor
ErasureRequested Erased free by an actor
ErasureRequested Rejected not_allowed
row that is wiped
DeactivateRequested Deactivated free`), "\n")

// summary counts what happened, and fails the test for what never did.
func (w *walk) summary(h checker.History) {
	w.d.t.Helper()
	count := make(map[string]int)
	versions := make(map[string]int64)
	for _, d := range h.Decisions {
		o := d.Outcome
		if d.Erased {
			count["row that is wiped"]++
		}
		switch {
		case d.Kind == checker.KindFact:
			count["fact "+o.Type]++
			continue
		case d.Kind != checker.KindOutcome:
			count["row "+d.Kind]++
			continue
		}
		what := o.Request
		if what == "" {
			what = "UsernameClaimed"
		}
		switch {
		case o.Request == "ReleaseRequested" && d.Principal == claims.Principal:
			what = strings.TrimSpace("follow-up " + o.Type + " " + o.Reason)
		case o.Type == "Accepted" && o.ClaimID != o.RequestID:
			what = "UsernameClaimed Accepted what is held"
			if o.Version > versions[o.Key] {
				what = "UsernameClaimed Accepted spelt anew"
			}
		default:
			what = strings.Join(slices.DeleteFunc([]string{what, o.Type, o.Reason, o.State}, func(s string) bool { return s == "" }), " ")
			if d.Actor != "" && o.Type != "Rejected" {
				what += " by an actor"
			}
		}
		count[what]++
		versions[o.Key] = max(versions[o.Key], o.Version)
	}
	var b strings.Builder
	for _, what := range sorted(count) {
		fmt.Fprintf(&b, "\n%8d %s", count[what], what)
	}
	w.d.t.Logf("what happened, by row of decisions:%s", &b)
	never := slices.DeleteFunc(slices.Clone(must), func(what string) bool { return count[what] > 0 })
	if w.most < surely && len(never) <= len(must)/10 {
		w.d.t.Logf("it never happened in this short walk: %q", never)
		return
	}
	for _, what := range never {
		w.d.t.Errorf("it never happened: %s", what)
	}
}
