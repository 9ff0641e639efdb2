package verify_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// walk asks a rig for everything that can be asked of it, at random, about a few names.
type walk struct {
	*rig
	r     *rand.Rand
	clock time.Time // of the producers; it runs ahead of ours
	sent  []sentRecord
	asked []askedClaim
	// policies: the one of the space username changes now and then.
	policies bool
	version  int
	keys     []string // that hold then; nil for k1
}

type sentRecord struct {
	partition int32
	cloudevents.Record
}

type askedClaim struct {
	id    uuid.UUID
	space names.Space
	name  string
	owner string
}

func (g *rig) walk(seed uint64, requests int) {
	w := &walk{rig: g, r: rand.New(rand.NewPCG(seed, 7)), clock: time.Now().UTC().Truncate(time.Millisecond)}
	for range requests {
		w.step()
	}
}

// activate makes another policy hold in every partition; or less than the one that holds, which changes nothing.
func (w *walk) activate() {
	if w.version = max(1, w.version) + 1; w.r.IntN(6) == 0 {
		w.version = max(1, w.version-2)
	}
	p := *names.Builtin()[names.Username]
	p.Version, p.MinLength, p.CoolDown = w.version, pick(w, 1, 3, 4), pick(w, 0, 20*time.Second)
	p.UniqueAmong = pick(w, names.AmongAll, names.AmongActive)
	if w.keys == nil {
		w.keys = []string{testSigning.ID}
	}
	a := claims.PolicyActivated{
		Space: p.Space, Version: p.Version, Policy: &p, Rules: claims.Rules, Keys: w.keys, SignedOnly: w.r.IntN(8) == 0,
	}
	r, err := a.Record("test", w.clock, testSigning)
	if err != nil {
		w.t.Fatal(err)
	}
	for partition := range w.claims {
		w.write(int32(partition), r)
	}
}

func (w *walk) id() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.r.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func pick[T any](w *walk, of ...T) T { return of[w.r.IntN(len(of))] }

func (w *walk) space() names.Space { return pick(w, names.Username, names.Username, spaceHandle) }
func (w *walk) name() string {
	return pick(w, "alice", "Alice", "bob", "carol", "dave", "erin", "frank", "root", "x", "grace", "heidi", "ivan", "judy")
}
func (w *walk) owner() string { return pick(w, "u-1", "u-2", "u-3") }

// known is a claim that was made before, mostly one of the last.
func (w *walk) known() askedClaim {
	if len(w.asked) == 0 || w.r.IntN(12) == 0 {
		return askedClaim{w.id(), w.space(), w.name(), w.owner()}
	}
	if n := len(w.asked); w.r.IntN(3) > 0 {
		return w.asked[max(0, n-1-w.r.IntN(6))]
	}
	return pick(w, w.asked...)
}

func (w *walk) step() {
	w.clock = w.clock.Add(time.Duration(w.r.IntN(4000)) * time.Millisecond)
	k := w.known()
	about := claims.About{Space: k.space, Spelling: k.name}
	if w.r.IntN(20) == 0 {
		about.Deadline = w.clock.Add(-time.Minute)
	}
	var version *int64
	if w.r.IntN(3) == 0 {
		n := w.r.Int64N(5)
		version = &n
	}
	if w.policies && w.r.IntN(50) == 0 {
		w.activate()
	}
	switch n := w.r.IntN(100); {
	case n < 8:
		w.signUp()
	case n < 30:
		w.claim()
	case n < 40:
		w.ask(&claims.ConfirmRequested{About: about, ClaimID: k.id, Owner: k.owner}, false)
	case n < 45:
		w.ask(&claims.ExtendRequested{About: about, ClaimID: k.id, Owner: k.owner, TTLSeconds: 60 + w.r.Int64N(60)}, false)
	case n < 52:
		w.ask(&claims.ReleaseRequested{About: about, Owner: k.owner, ExpectedVersion: version}, false)
	case n < 57:
		w.ask(&claims.WithdrawRequested{About: about, ClaimID: k.id, Owner: k.owner}, false)
	case n < 61:
		w.ask(&claims.DeactivateRequested{About: about, Owner: k.owner}, false)
	case n < 66:
		w.ask(&claims.ReactivateRequested{About: about, Owner: k.owner, ExpectedVersion: version}, false)
	case n < 70:
		w.ask(&claims.TransferRequested{About: about, Owner: k.owner, NewOwner: w.owner()}, false)
	case n < 73:
		w.ask(&claims.TransferRequested{About: about, Actor: "root", Reason: "bought", NewOwner: w.owner()}, true)
	case n < 76:
		w.ask(&claims.ReleaseRequested{About: about, Actor: "root", Reason: "a bug"}, w.r.IntN(4) > 0)
	case n < 79:
		w.ask(&claims.BlockRequested{About: about, Actor: "root", Reason: "trademark"}, true)
	case n < 84:
		w.ask(&claims.UnblockRequested{About: about, Actor: "root", Reason: "settled"}, true)
	case n < 88 && len(w.sent) > 0: // a copy, maybe of one that was forwarded
		s := pick(w, w.sent...)
		w.write(s.partition, s.Record)
	case n < 91 && len(w.sent) > 0: // the same id, another content
		s := pick(w, w.sent...)
		s.Value = append(slices.Clone(s.Value), ' ', 'x')
		w.write(s.partition, s.Record)
	case n < 94: // nonsense, with an id or without
		r := cloudevents.Record{Key: []byte("username/alice"), Value: []byte("nonsense")}
		if w.r.IntN(2) == 0 {
			r.Headers = cloudevents.Event{ID: w.id(), Source: "test", Type: claims.TypeReleaseRequested}.Headers(0)
		}
		w.write(claims.Partition("username/alice", len(w.claims)), r)
	case n < 97 && len(w.sent) > 0: // in the wrong place
		s := pick(w, w.sent...)
		w.write(int32(w.r.IntN(len(w.claims))), s.Record)
	default: // withdrawn before it comes
		c := askedClaim{w.id(), w.space(), w.name(), w.owner()}
		w.ask(&claims.WithdrawRequested{About: claims.About{Space: c.space, Spelling: c.name}, ClaimID: c.id, Owner: c.owner}, false)
		if w.r.IntN(2) == 0 {
			w.as(c, &claims.UsernameClaimed{Space: c.space, Spelling: c.name, Owner: c.owner, Mode: claims.ModeRegister}, false)
		}
	}
}

func (w *walk) claim() {
	c := askedClaim{w.id(), w.space(), w.name(), w.owner()}
	body := &claims.UsernameClaimed{Space: c.space, Spelling: c.name, Owner: c.owner, Mode: pick(w, claims.ModeRegister, claims.ModeReserve)}
	if body.Mode == claims.ModeReserve {
		ttl := 20 + w.r.Int64N(100)
		body.TTLSeconds = &ttl
	}
	if held := w.held(c.space); len(held) > 0 && w.r.IntN(3) == 0 {
		h := pick(w, held...)
		body.Owner, body.Replaces = h.Owner, &claims.Replaces{Name: h.Name, Version: h.Version}
		c.owner = h.Owner
		if w.r.IntN(4) == 0 && body.Mode == claims.ModeRegister {
			body.Spelling, c.name = strings.ToUpper(h.Name), h.Name
		}
	}
	if w.r.IntN(8) == 0 {
		body.OnConflict = claims.OnConflictReturn
	}
	w.asked = append(w.asked, c)
	w.as(c, body, false)
}

// signUp asks for two names at once.
func (w *walk) signUp() {
	id := w.id()
	body := &claims.SignupRequested{About: claims.About{Space: claims.Signup, Spelling: id.String()}, Owner: w.owner()}
	for range 2 {
		body.Names = append(body.Names, claims.SignupName{Space: w.space(), Spelling: w.name()})
	}
	if w.r.IntN(2) == 0 {
		body.TTLSeconds = new(1 + w.r.Int64N(10))
	}
	w.as(askedClaim{id: id, space: claims.Signup, name: id.String()}, body, false)
}

// held lists what is registered by now, as an API shows it.
func (w *walk) held(space names.Space) (all []registrations.Holding) {
	for ref, h := range w.mem.Names() {
		if ref.Space == space && h.State == registrations.Registered {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b registrations.Holding) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (w *walk) ask(body claims.Body, signed bool) {
	space, name := body.Name()
	w.as(askedClaim{id: w.id(), space: space, name: name}, body, signed)
}

func (w *walk) as(c askedClaim, body claims.Body, signed bool) {
	ref := names.Ref{Space: c.space, Key: names.Key(strings.ToLower(c.name))}
	r := claims.NewRecord(body, cloudevents.Event{ID: c.id, Source: "test", Principal: "gateway"}, ref)
	if signed {
		r = testSigning.Sign(r)
	}
	w.write(claims.Partition(ref.String(), len(w.claims)), r)
}

func (w *walk) write(partition int32, r cloudevents.Record) {
	r.Time = w.clock.Add(-time.Duration(w.r.IntN(2000)) * time.Millisecond).Truncate(time.Millisecond)
	w.sent = append(w.sent, sentRecord{partition, r})
	w.send(partition, r)
	if w.r.IntN(10) == 0 { // let the processor come to it, so that some of it is many batches
		w.settle()
	}
}

// settle waits until everything that was sent is decided.
func (w *walk) settle() {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		waits := w.waitsToDecide()
		if waits == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatal(waits)
		}
	}
}

func (g *rig) waitsToDecide() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.claims {
		if s, _ := g.mem.Standing(int32(p)); s.NextOffset != g.claims[p].end {
			return fmt.Sprintf("partition %d: next is %d, the log ends at %d", p, s.NextOffset, g.claims[p].end)
		}
	}
	return ""
}
