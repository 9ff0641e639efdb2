package app_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/client"
	"github.com/google/uuid"
)

// leaver is an owner who comes late in the walk and is erased soon: what is to be searched for is little. There is another one
// every walkStay requests.
func (w *walk) leaver(ago int64) string {
	return fmt.Sprintf("leaver-%d", max(0, w.made.Load()/walkStay-ago))
}

const walkStay = 300

// signUp asks for several names at once, over HTTP or on the topic.
func (w *walker) signUp(name string) {
	owner := w.owner()
	wanted := []string{name}
	for range 1 + w.r.IntN(3) {
		wanted = append(wanted, pick(w, w.name(), w.name(), w.name(), w.name(), "root", "no name"))
	}
	if w.chance(50) {
		w.produceSignUp(owner, pick(w, 60, 60, 1, 0), wanted...)
		return
	}
	ctx, cancel := context.WithTimeout(w.d.t.Context(), pick(w, 800*time.Millisecond, 30*time.Second))
	defer cancel()
	s := client.SignUp{Owner: owner, TTL: time.Duration(pick(w, 0, 0, 1, 30)) * time.Second}
	for _, n := range wanted {
		s.Names = append(s.Names, client.WantedName{Name: w.spelt(n)})
	}
	r, err := w.walk.client.SignUp(ctx, s)
	var p *client.Problem
	if errors.As(err, &p) && p.Reason == "not_configured" { // by rules 1
		w.refused.Add(1)
		return
	}
	w.told(client.Result{RequestID: r.ID, Type: "SignupRequested", State: r.State, Reason: r.Reason}, err)
}

// produceSignUp writes a sign-up as a backend service does.
func (w *walker) produceSignUp(owner string, ttl int, wanted ...string) (id string) {
	var names []fields
	for _, n := range wanted {
		names = append(names, fields{"space": "username", "name": w.spelt(n)})
	}
	id = uuid.NewString()
	r := w.request("SignupRequested", id, fields{"space": claims.Signup, "owner": owner, "names": names, "ttl_seconds": ttl})
	r.id = id
	r.set("ce_id", id)
	r.Key = []byte("signup/" + id)
	r.Partition = claims.Partition(string(r.Key), w.d.partitions)
	if w.chance(10) {
		r.Partition = w.r.Int32N(int32(w.d.partitions))
	}
	w.produce(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signups = append(w.signups, [2]string{id, owner})
	return id
}

// erase has an owner erased: all of one who has left, or what is recorded of a name.
func (w *walker) erase(name string, h noted) {
	if w.chance(20) {
		w.eraseOwner(w.leaver(1 + w.r.Int64N(3)))
		return
	}
	if w.chance(25) {
		w.mu.Lock()
		n := len(w.signups)
		var of [2]string
		if n > 0 {
			of = w.signups[w.r.IntN(n)]
		}
		w.mu.Unlock()
		if n > 0 {
			r := w.erasure(of[0], of[1], string(claims.Signup))
			r.Key = []byte("signup/" + of[0])
			r.Partition = claims.Partition(string(r.Key), w.d.partitions)
			w.produce(r.signed(w.keys.Signing))
		}
		return
	}
	owner := h.owner
	if w.chance(20) {
		owner = w.owner()
	}
	r := w.erasure(w.spelt(name), owner, "username")
	if !w.chance(8) {
		r = r.signed(w.keys.Signing)
	}
	w.produce(r)
}

func (w *walker) erasure(name, owner, space string) produced {
	return w.request("ErasureRequested", name, fields{"space": space, "owner": owner, "actor": "ada", "reason": "on a walk"})
}

// eraseOwner asks an API for it, and leaves it at that: whoever asks next goes on with it.
func (w *walker) eraseOwner(owner string) {
	a := call(http.MethodPost, w.apis.at(w.r.IntN(2)).apiAddr(), "/v1/admin/owners/"+owner+"/erase",
		http.Header{"Content-Type": {"application/json"}}, []byte(`{"actor":"ada","reason":"on a walk"}`))
	if a.err == nil && !slices.Contains([]int{http.StatusAccepted, http.StatusServiceUnavailable, http.StatusTooManyRequests}, a.status) {
		w.d.t.Errorf("POST …/%s/erase: %s", owner, a)
	}
}

// strollOfOwners is a walk along what else must happen: sign-ups and erasures, with names and owners of their own.
func (w *walker) strollOfOwners(ask func(kind, name string, more fields) string) {
	register := func(name, owner string) { ask("UsernameClaimed", name, fields{"owner": owner, "mode": "register"}) }
	erase := func(name, owner string) {
		ask("ErasureRequested", name, fields{"owner": owner, "actor": "ada", "reason": "on a walk"})
	}
	register("e1", "u-9")
	erase("e1", "u-8") // not theirs
	w.produce(w.erasure("sure.e1", "u-9", "username"))
	erase("e1", "u-9")
	erase("e1", "u-9")
	ask("ReleaseRequested", "e1", fields{"owner": "u-9"})
	register("e1", "u-7")
	w.produceSignUp("u-9", 60, "sure.s1", "sure.s2")
	w.produceSignUp("u-9", 60, "sure.s3", "sure.a") // has been somebody's
}

// goneOwner is erased when the walk is over, by the command line.
const goneOwner = "owner-1-1"

// gone erases an owner who has been there all the time, and looks that nothing in any table is of him any more.
func (w *walk) gone() {
	w.d.t.Helper()
	w.d.settled(2 * time.Minute)
	w.d.mustRun("admin", "erase", goneOwner, "--actor=ada", "--reason=on a walk", "--wait=100s", "--url=http://"+w.apis.at(0).apiAddr())
	w.d.settled(2 * time.Minute)
	w.wiped()
	left := w.d.traces(`"` + goneOwner + `"`)
	for _, before := range []string{",", "("} {
		left = append(left, w.d.traces(before+goneOwner+",")...)
	}
	for i, trace := range left {
		if i == 5 {
			break
		}
		w.d.t.Errorf("left of who is erased: %s", trace)
	}
}

// wiped waits until everything is wiped that is to be.
func (w *walk) wiped() {
	w.d.t.Helper()
	eventually(w.d.t, 2*time.Minute, func() error {
		if n := value[int](w.d, `SELECT count(*) FROM erasures WHERE done_at IS NULL`); n > 0 {
			return fmt.Errorf("%d erasures are left", n)
		}
		return nil
	})
	if value[int](w.d, `SELECT count(*) FROM erasures`) == 0 {
		w.d.t.Error("nobody was erased")
	}
}
