package processor_test

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// The keys that requests are signed with in a simulated deployment, and one that it does not know.
var (
	simKeys    = claims.Keys{"k1": []byte("first secret"), "k2": []byte("second secret"), lateKey: []byte("late secret")}
	simSigning = claims.SigningKey{ID: "k1", Secret: simKeys["k1"]}
	wrongKey   = claims.SigningKey{ID: "k1", Secret: []byte("a guess")}
	strangeKey = claims.SigningKey{ID: "k3", Secret: []byte("first secret")}
)

// lateKey is the key that processes have only once operators have handed it out.
const lateKey = "k4"

// The spaces beside username: names unique among active users, with a cool-down in which the previous owner may return,
// names with a cool-down for everybody, and names of which one is held of those that look alike.
const (
	spaceHandle = names.Space("handle")
	spaceVanity = names.Space("vanity")
	spaceAlike  = names.Space("alike")
	spaceSecret = names.Space("secret") // private: what is asked for is a key
)

// alikeForm keeps look-alikes apart.
var alikeForm = func() *names.Form {
	f, err := names.Precis{Tables: names.TablesLatest, Confusables: names.ConfusablesAsTyped}.Form()
	if err != nil {
		panic(err)
	}
	return f
}()

// simPolicies are the built-in policy with times that fit into a simulation, and three more.
func simPolicies() names.Policies {
	policies := make(names.Policies)
	for _, space := range []names.Space{names.Username, spaceHandle, spaceVanity, spaceAlike, spaceSecret} {
		p := *names.Builtin()[names.Username]
		p.Space, p.ShortestTTL, p.TTL, p.LongestTTL = space, time.Second, 4*time.Second, 9*time.Second
		switch space {
		case spaceHandle:
			p.CoolDown, p.PreviousMayReturn, p.UniqueAmong = 2*time.Second, true, names.AmongActive
		case spaceVanity:
			p.CoolDown, p.PreviousMayReturn = 3*time.Second, false
		case spaceAlike:
			p.CoolDown, p.Form = time.Second, alikeForm
			p.Reserved = p.ReservedKeys("root", "admin")
		case spaceSecret:
			p.CoolDown, p.Reserved, p.Private = time.Second, nil, &names.Private{Pepper: 1, Check: "0123456789abcdef", Form: names.FormEmail}
		}
		policies[space] = &p
	}
	return policies
}

// field reads a field of a request by its name; nil where it has none.
func field(body claims.Body, name string) any {
	if body == nil {
		return nil
	}
	if f := reflect.ValueOf(body).Elem().FieldByName(name); f.IsValid() {
		return f.Interface()
	}
	return nil
}

// with is the request with another value in one of its fields; the same one where it has no such field.
func (q sent) with(name string, v any) sent {
	was := reflect.ValueOf(q.body).Elem()
	is := reflect.New(was.Type())
	is.Elem().Set(was)
	if f := is.Elem().FieldByName(name); f.IsValid() {
		f.Set(reflect.ValueOf(v).Convert(f.Type()))
	}
	q.body = is.Interface().(claims.Body)
	return q
}

// seal signs the record of a request that asks for it, or does it wrong.
func (q *sent) seal(r cloudevents.Record) cloudevents.Record {
	switch q.signing {
	case signedWell:
		return simSigning.Sign(r)
	case signedByOther:
		return claims.SigningKey{ID: "k2", Secret: simKeys["k2"]}.Sign(r)
	case signedWrong:
		return wrongKey.Sign(r)
	case signedStrange:
		return strangeKey.Sign(r)
	case signedBefore: // and then changed
		r = simSigning.Sign(r)
		r.Value = append(slices.Clone(r.Value), ' ')
	}
	return r
}

// signing says how a request is signed.
type signing int

const (
	unsigned signing = iota
	signedWell
	signedByOther
	signedWrong
	signedStrange
	signedBefore
)

// lookedUp is a name as an API shows it.
type lookedUp struct {
	ref names.Ref
	registrations.Holding
}

// lookUp lists the names that somebody holds.
func (c *clients) lookUp() []lookedUp {
	return c.names(func(h registrations.Holding) bool { return h.Held() })
}

// names lists some of the names, in order.
func (c *clients) names(which func(registrations.Holding) bool) []lookedUp {
	var all []lookedUp
	for ref, h := range c.w.db.mem.Names() {
		if which(h) {
			all = append(all, lookedUp{ref, h})
		}
	}
	slices.SortFunc(all, func(a, b lookedUp) int { return cmp.Compare(a.ref.String(), b.ref.String()) })
	return all
}

func one[T any](w *world, of ...T) T { return of[w.r.IntN(len(of))] }

func (c *clients) owner() string { return one(c.w, "u-0", "u-1", "u-2", "u-3") }

// space is that of most requests, or another.
func (c *clients) space() names.Space {
	return one(c.w, names.Username, names.Username, spaceHandle, spaceVanity, spaceAlike, spaceSecret)
}

// secretly makes a request one about the key of what it names, where the space is private; now and then with another pepper,
// or by its name all the same.
func (c *clients) secretly(q sent) sent {
	space, spelling := q.body.Name()
	if space != spaceSecret || claims.KeyOf(q.body) != "" {
		return q
	}
	w := c.w
	if b, ok := q.body.(*claims.UsernameClaimed); ok && b.Replaces != nil && b.Replaces.Key == "" && w.r.IntN(12) > 0 {
		r := *b.Replaces
		r.Name, r.Key = "", c.secret(r.Name)
		q = q.with("Replaces", &r)
	}
	if w.r.IntN(16) == 0 {
		w.sometimes("asked: by its name in a private space")
		return q.addressed()
	}
	return q.with("Spelling", "").with("Key", c.secret(spelling)).addressed()
}

// secret is the key of a name, with a pepper that holds or one that does not; a key stays itself.
func (c *clients) secret(spelling string) names.Key {
	if names.IsPrivateKey(spelling) {
		return names.Key(spelling)
	}
	sum := sha256.Sum256([]byte(strings.ToLower(spelling)))
	pepper := one(c.w, 1, 1, 1, 1, 1, 1, 2)
	if pepper == 2 {
		c.w.sometimes("asked: by a key of another pepper")
	}
	return names.Key(fmt.Sprintf("h%d:%x", pepper, sum))
}

// named makes a spelling one of the space. Where names look alike, there are few that do not; some of their keys are names
// of ASCII, and some are none.
func (c *clients) named(space names.Space, spelling string) string {
	if space != spaceAlike {
		return spelling
	}
	return one(c.w, "office", "OFFICE", "0ffice", "off1ce", "_lol_", "_l0l_", "_1ol_", "m1x", "rnix", "MIX", "Adm1n")
}

// typed is how somebody asks about a name: as its holder writes it, or wrongly.
func (c *clients) typed(h lookedUp) string {
	switch {
	case h.ref.Space != spaceAlike:
		return string(h.ref.Key)
	case h.Name == "" || c.w.r.IntN(4) == 0:
		return c.named(spaceAlike, "")
	}
	return h.Name
}

func (c *clients) new(body claims.Body) sent {
	q := sent{id: c.w.newID(one[byte](c.w, 4, 7, 5)), body: body}
	q.event = cloudevents.Event{ID: q.id, Source: "test", Principal: one(c.w, "", "gateway")}
	return c.secretly(q.addressed())
}

func (c *clients) about(space names.Space, spelling string) claims.About {
	a := claims.About{Space: space, Spelling: spelling}
	if c.w.r.IntN(6) == 0 {
		a.Deadline = c.w.clock().Add(c.w.upTo(20 * time.Second))
	}
	return a
}

// version is what a caller expects: nothing, what is shown, or something else.
func (c *clients) version(shown int64) *int64 {
	switch c.w.r.IntN(6) {
	case 0:
		return &shown
	case 1:
		n := c.w.r.Int64N(4)
		return &n
	}
	return nil
}

// deed is one request of somebody who knows what there is: mostly about a name that is held, by its owner.
func (c *clients) deed() sent {
	w := c.w
	held := c.lookUp()
	if w.rates.signups && w.r.IntN(5) < 2 {
		return c.signup()
	}
	if len(held) == 0 || w.r.IntN(100) < 35 {
		return c.claim(held)
	}
	h := one(w, held...)
	if w.r.IntN(6) == 0 { // somebody else's business
		h.Owner = c.owner()
	}
	if w.r.IntN(8) == 0 {
		space := c.space()
		h.Name = c.named(space, c.spelling())
		h.ref, h.ClaimID = names.Ref{Space: space, Key: names.Key(strings.ToLower(h.Name))}, c.someClaim(h.ClaimID)
	}
	about := c.about(h.ref.Space, c.typed(h))
	n := w.r.IntN(65)
	if h.State == registrations.Reserved && w.r.IntN(2) == 0 {
		n = w.r.IntN(20)
	}
	switch {
	case n < 15:
		return c.new(&claims.ConfirmRequested{About: about, ClaimID: c.someClaim(h.ClaimID), Owner: h.Owner})
	case n < 20:
		return c.new(&claims.ExtendRequested{About: about, ClaimID: c.someClaim(h.ClaimID), Owner: h.Owner, TTLSeconds: one[int64](w, 1, 3, 9, 9, 12, 12, 0, 1<<62)})
	case n < 31:
		return c.new(&claims.ReleaseRequested{About: about, Owner: h.Owner, ExpectedVersion: c.version(h.Version)})
	case n < 36:
		return c.new(&claims.WithdrawRequested{About: about, ClaimID: c.someClaim(h.ClaimID), Owner: h.Owner})
	case n < 42:
		return c.new(&claims.TransferRequested{About: about, Owner: h.Owner, NewOwner: c.owner(), ExpectedVersion: c.version(h.Version)})
	case n < 48:
		return c.new(&claims.DeactivateRequested{About: about, Owner: h.Owner, ExpectedVersion: c.version(h.Version)})
	case n < 54:
		return c.reactivate()
	default:
		return c.privileged(h, about)
	}
}

// claim asks for a name: at once or for a while, and maybe for another one that is held.
func (c *clients) claim(held []lookedUp) sent {
	w := c.w
	q := c.fresh()
	b := *q.body.(*claims.UsernameClaimed)
	b.Space = c.space()
	b.Spelling = c.named(b.Space, b.Spelling)
	if w.r.IntN(5) < 2 {
		b.Mode = claims.ModeReserve
		if w.r.IntN(3) > 0 {
			ttl := one[int64](w, 1, 2, 3, 5, 8, 10)
			b.TTLSeconds = &ttl
		}
	}
	held = slices.DeleteFunc(held, func(h lookedUp) bool { return h.State != registrations.Registered })
	if len(held) > 0 && w.r.IntN(2) == 0 {
		h := one(w, held...)
		b.Space, b.Replaces = h.ref.Space, &claims.Replaces{Name: c.typed(h), Version: h.Version}
		b.Spelling = c.named(b.Space, b.Spelling)
		if w.r.IntN(8) > 0 {
			b.Owner = h.Owner
		}
		if w.r.IntN(8) > 0 {
			b.ExpectedVersion, b.Deadline = nil, time.Time{}
		}
		if w.r.IntN(6) == 0 {
			b.Spelling = strings.ToUpper(c.typed(h))
		}
		if w.r.IntN(8) == 0 {
			b.Replaces.Version += w.r.Int64N(3) - 1
		}
		w.sometimes("asked: a rename")
	}
	q.body = &b
	return c.secretly(q.addressed())
}

// someClaim is the claim that is looked at, or another one that somebody made.
func (c *clients) someClaim(id uuid.UUID) uuid.UUID {
	if c.w.r.IntN(5) == 0 && len(c.asked) > 0 {
		return c.asked[c.w.r.IntN(len(c.asked))].id
	}
	return id
}

// reactivate takes back what somebody deactivated.
func (c *clients) reactivate() sent {
	back := c.names(func(h registrations.Holding) bool {
		return h.State == registrations.Inactive || h.State == registrations.Free && h.Previous != ""
	})
	b := &claims.ReactivateRequested{About: c.about(spaceHandle, c.spelling()), Owner: c.owner()}
	if len(back) > 0 && c.w.r.IntN(5) > 0 {
		h := one(c.w, back...)
		b.About, b.Owner, b.ExpectedVersion = c.about(h.ref.Space, c.typed(h)), h.Owner+h.Previous, c.version(h.Version)
	}
	return c.new(b)
}

// privileged is what an administrator asks for, or somebody who would like to be one.
func (c *clients) privileged(h lookedUp, about claims.About) sent {
	w := c.w
	var q sent
	switch w.r.IntN(7) {
	case 0:
		q = c.new(&claims.BlockRequested{About: about, Actor: "root", Reason: "trademark"})
	case 1:
		if blocked := c.names(func(h registrations.Holding) bool { return h.State == registrations.StateBlocked }); len(blocked) > 0 {
			h = one(w, blocked...)
			about = c.about(h.ref.Space, c.typed(h))
		}
		q = c.new(&claims.UnblockRequested{About: about, Actor: "root", Reason: "settled"})
	case 2:
		q = c.new(&claims.ReleaseRequested{About: about, Actor: "root", Reason: "a bug", ExpectedVersion: c.version(h.Version)})
	case 3:
		q = c.new(&claims.TransferRequested{About: about, Actor: "root", Reason: "bought", NewOwner: c.owner(), ExpectedVersion: c.version(h.Version)})
	case 4, 5: // mostly of who has it, or had it last
		if left := c.names(func(h registrations.Holding) bool { return !h.Held() && h.State != registrations.StateBlocked }); len(left) > 0 && w.r.IntN(2) == 0 {
			h = one(w, left...)
			about = c.about(h.ref.Space, c.typed(h))
			if h.Owner = h.Previous; h.Owner == "" || w.r.IntN(3) == 0 {
				h.Owner = c.owner()
			}
		}
		if all := c.names(func(h registrations.Holding) bool { return h.Ballot != "" }); len(all) > 0 && w.r.IntN(3) == 0 {
			h = one(w, all...)
			about = c.about(claims.Signup, string(h.ref.Key))
			h.Owner = cmp.Or(h.Owner, c.owner())
		}
		q = c.new(&claims.ErasureRequested{About: about, Owner: h.Owner, Actor: "root", Reason: "asked for"})
		if w.r.IntN(3) == 0 { // as an API asks: by its key
			q.id = w.newID(8)
			q.event.Principal, q.event.ID = claims.Principal, q.id
			q = q.with("Key", h.ref.Key).with("Spelling", "").addressed()
		}
	default: // as a processor would ask, too early or about another claim
		q = c.new(&claims.ExpiryDue{About: about, ClaimID: c.someClaim(h.ClaimID), ExpiresAt: w.clock().Add(w.upTo(5 * time.Second))})
		if w.r.IntN(2) == 0 {
			q.id = w.newID(8)
			q.event.Principal, q.event.ID = claims.Principal, q.id
		}
		if w.r.IntN(3) == 0 { // by its key, which only dibs may
			q = q.with("Key", h.ref.Key).with("Spelling", "").addressed()
		}
	}
	q.signing = one(w, signedWell, signedWell, signedWell, signedWell, signedByOther, unsigned, signedWrong, signedStrange, signedBefore)
	return q
}

// earlyWithdraw withdraws a claim that is still on its way.
func (c *clients) earlyWithdraw(sent) {
	w := c.w
	q := c.claim(c.lookUp())
	c.asked = append(c.asked, q)
	r := q.record()
	r.Time = c.stamp()
	w.limbo = append(w.limbo, func() { c.write(q.partition(), r) })
	space, _ := q.body.Name()
	spelling := claims.Asked(q.body)
	owner := ownerOf(q.body)
	if w.r.IntN(8) == 0 {
		owner = c.owner()
	}
	if w.r.IntN(6) == 0 {
		spelling = c.named(space, c.spelling())
	}
	b := c.new(&claims.WithdrawRequested{About: c.about(space, spelling), ClaimID: q.id, Owner: owner})
	c.asked = append(c.asked, b)
	c.send(b.partition(), b.record())
	w.sometimes("asked: a withdrawal before its claim")
}

// lastMoment asks something of a reservation in the very instant in which it is over, or in the one before.
func (c *clients) lastMoment(sent) {
	w := c.w
	reserved := c.names(func(h registrations.Holding) bool { return h.State == registrations.Reserved })
	if len(reserved) == 0 {
		return
	}
	h := one(w, reserved...)
	about := claims.About{Space: h.ref.Space, Spelling: c.typed(h)}
	q := c.new(&claims.ConfirmRequested{About: about, ClaimID: h.ClaimID, Owner: h.Owner})
	if w.r.IntN(3) == 0 {
		q = c.new(&claims.ExtendRequested{About: about, ClaimID: h.ClaimID, Owner: h.Owner, TTLSeconds: 2})
	}
	c.asked = append(c.asked, q)
	r := q.record()
	if r.Time = h.ExpiresAt; w.r.IntN(2) == 0 {
		r.Time = r.Time.Add(-time.Millisecond)
	}
	c.write(q.partition(), r)
	w.sometimes("asked: in the last moment")
}

// forged is one of dibs' own ids, taken in advance by somebody.
func (c *clients) forged(q sent) {
	w := c.w
	id := claims.ReleaseID(q.id, q.ref)
	if held := c.lookUp(); w.r.IntN(2) == 0 && len(held) > 0 {
		h := one(w, held...)
		id = claims.ExpiryID(h.ClaimID, h.ExpiresAt)
	}
	q.event.ID = id
	if w.r.IntN(2) == 0 {
		q.event.Principal = claims.Principal
	}
	q.signing = one(w, unsigned, signedWrong, signedStrange)
	if q.event.Principal != claims.Principal {
		q.signing = one(w, unsigned, signedWell)
	}
	c.send(q.partition(), q.record())
	w.sometimes("asked: under an id of dibs' own, forged")
}
