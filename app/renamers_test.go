package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func owner(i int) string { return fmt.Sprintf("owner-%d", i) }

// settle registers an owner's first name.
func (c *renaming) settle(i int) {
	c.d.t.Helper()
	name := fmt.Sprintf("own%d.0", i)
	a := c.d.claim(c.api, asked{name: name, owner: owner(i), prefer: "wait=30"})
	if a.status != http.StatusCreated {
		c.d.t.Fatal(a)
	}
	c.wishes[i] = wish{has: name, version: a.claim.Version}
}

// own renames an owner's name again and again: mostly to one that nobody has had, and now and then to one that it had
// before, if nobody has it now.
func (c *renaming) own(i int) {
	former := []string{}
	for n := 1; !over(c.stop); n++ {
		w := c.wish(i)
		w.wants = fmt.Sprintf("own%d.%d", i, n)
		if len(former) > 0 && rand.IntN(4) == 0 {
			if old := former[rand.IntN(len(former))]; old != w.has {
				w.wants = old
			}
		}
		c.setWish(i, w) // and the rivals know
		version, how, err := c.rename(owner(i), w)
		switch {
		case errors.Is(err, errRejected):
			c.did(how + ", rejected")
			continue
		case errors.Is(err, errLeft):
			c.did("reserved and left to expire")
			continue
		case err != nil:
			c.d.t.Errorf("%s renames %s to %s: %v", owner(i), w.has, w.wants, err)
			return
		}
		c.did(how)
		former = append(former, w.has)
		c.setWish(i, wish{has: w.wants, version: version})
		if rand.IntN(4) > 0 { // else it goes on while the old name is still to be released
			if err := c.released(owner(i), w.has); err != nil {
				c.d.t.Error(err)
				return
			}
		}
	}
}

func (c *renaming) wish(i int) wish {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wishes[i]
}

func (c *renaming) setWish(i int, w wish) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wishes[i] = w
}

var (
	errRejected = errors.New("rejected")
	errLeft     = errors.New("left to expire")
)

// rename is one rename, in one of the ways there are. It returns the new name's version.
func (c *renaming) rename(owner string, w wish) (version int64, how string, err error) {
	key := uuid.NewString()
	switch rand.IntN(4) {
	case 0:
		a, err := c.insist("/v1/names/username/"+w.has+"/rename", key, map[string]any{"owner": owner, "to": w.wants})
		return a.claim.Version, "over HTTP", err
	case 1:
		how = "reserved and confirmed over HTTP"
		a, err := c.insist("/v1/claims", key, map[string]any{
			"name": w.wants, "owner": owner, "mode": "reserve", "ttl_seconds": 60, "replaces": map[string]any{"name": w.has},
		})
		if err != nil {
			return 0, how, err
		}
		a, err = c.insist("/v1/claims/"+a.claim.ClaimID+"/confirm", key+"/confirm", map[string]any{"owner": owner})
		return a.claim.Version, how, err
	case 2:
		version, err = c.ask(newRequest(c.d.partitions, "UsernameClaimed", w.wants, map[string]any{
			"owner": owner, "mode": "register", "replaces": map[string]any{"name": w.has, "version": w.version},
		}))
		return version, "produced", err
	}
	how = "reserved and confirmed, produced"
	leaves := rand.IntN(4) == 0
	ttl := 60
	if leaves {
		ttl = 1
	}
	claim := newRequest(c.d.partitions, "UsernameClaimed", w.wants, map[string]any{
		"owner": owner, "mode": "reserve", "ttl_seconds": ttl, "replaces": map[string]any{"name": w.has, "version": w.version},
	})
	switch _, err = c.ask(claim); {
	case err != nil:
		return 0, how, err
	case leaves:
		return 0, how, errLeft
	}
	version, err = c.ask(newRequest(c.d.partitions, "ConfirmRequested", w.wants, map[string]any{"owner": owner, "claim_id": claim.id}))
	return version, how, err
}

// insist makes a call, with the same Idempotency-Key, until the log has answered it.
func (c *renaming) insist(path, key string, body map[string]any) (answer, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {key}, "Prefer": {"wait=2"}}
	for deadline := time.Now().Add(time.Minute); ; {
		a := call(http.MethodPost, c.api.apiAddr(), path, header, text)
		switch {
		case a.err == nil && (a.status == http.StatusOK || a.status == http.StatusCreated):
			return a, nil
		case a.err == nil && a.status == http.StatusConflict && a.claim.Reason == "taken":
			return a, errRejected
		case a.err == nil && a.status != http.StatusAccepted && a.status != http.StatusServiceUnavailable, time.Now().After(deadline):
			return a, fmt.Errorf("%s: %s", path, a)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// newRequest makes a request as a producer of another team writes it.
func newRequest(partitions int, kind, name string, fields map[string]any) produced {
	r := newClaim(partitions, name, "")
	fields["space"], fields["name"] = "username", name
	value, err := json.Marshal(fields)
	if err != nil {
		panic(err) // strings and numbers are always JSON
	}
	r.Value = value
	r.set("ce_type", "dibs."+kind+".v1")
	return r
}

// ask produces a request, now and then twice, and waits for what is decided. It returns the name's version.
func (c *renaming) ask(r produced) (version int64, err error) {
	for more := true; more; more = rand.IntN(8) == 0 {
		if err := c.produce(r); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		var outcome, reason string
		err := c.pool.QueryRow(ctx, `SELECT outcome::text, coalesce(reason, ''), coalesce(version, 0) FROM decisions WHERE request_id = $1 AND kind = 'o'`, r.id).
			Scan(&outcome, &reason, &version)
		switch {
		case err == nil && outcome != "R":
			return version, nil
		case err == nil && reason == "taken":
			return 0, errRejected
		case err == nil:
			return 0, fmt.Errorf("%s: %s %s", r.Value, outcome, reason)
		case !errors.Is(err, pgx.ErrNoRows):
			return 0, fmt.Errorf("await %s: %w", r.Value, err)
		}
		time.Sleep(3 * time.Millisecond)
	}
}

func (c *renaming) produce(r produced) error {
	ctx, cancel := c.d.topic.within()
	defer cancel()
	record := *r.Record
	record.Topic = c.d.topic.claims
	return c.d.topic.client.ProduceSync(ctx, &record).FirstErr()
}

// released waits until an owner has given a name up.
func (c *renaming) released(owner, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		var held bool
		err := c.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM names WHERE space = 'username' AND key = $1 AND owner = $2)`, name, owner).Scan(&held)
		if err != nil {
			return fmt.Errorf("%s still has %s: %w", owner, name, err)
		}
		if !held {
			return nil
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// rival wants what owners have, and what they want: it reserves for a second, or registers and gives up again, and tries
// to have an owner's name released.
func (c *renaming) rival(rival string) {
	var won []string
	for !over(c.end) {
		i := rand.IntN(len(c.wishes))
		w := c.wish(i)
		name := w.has
		if w.wants != "" && rand.IntN(3) == 0 {
			name = w.wants
		} else if n := rand.IntN(8); n > 0 { // one that somebody has just given up, perhaps
			name = fmt.Sprintf("own%d.%d", i, max(0, number(w)-n))
		}
		var r produced
		switch n := rand.IntN(10); {
		case n < 6:
			r = newRequest(c.d.partitions, "UsernameClaimed", name, map[string]any{"owner": rival, "mode": "reserve", "ttl_seconds": 1})
		case n == 6:
			r = newRequest(c.d.partitions, "UsernameClaimed", name, map[string]any{"owner": rival, "mode": "register"})
			won = append(won, name)
		case n == 7:
			r = newRequest(c.d.partitions, "ReleaseRequested", name, map[string]any{"owner": rival})
		case len(won) > 0:
			r = newRequest(c.d.partitions, "ReleaseRequested", won[0], map[string]any{"owner": rival})
			won = won[1:]
		default:
			continue
		}
		if err := c.produce(r); err != nil {
			c.d.t.Errorf("%s: %v", rival, err)
			return
		}
		c.did("requests of rivals")
		time.Sleep(rand.N(20 * time.Millisecond))
	}
}

// number is the number of the name that an owner has or wants.
func number(w wish) (n int) {
	for _, name := range []string{w.has, w.wants} {
		var i, k int
		if _, err := fmt.Sscanf(name, "own%d.%d", &i, &k); err == nil {
			n = max(n, k)
		}
	}
	return n
}
