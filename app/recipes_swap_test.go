package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/docs/recipes"
)

func (k *kitchen) swap(t *testing.T) {
	two := func(id string) (a, b client.Name) {
		for _, owner := range []string{"fritz", "gerda"} {
			got(t)(k.dibs.Claim(t.Context(), client.Claim{Name: owner + "." + id, Owner: "u-" + owner, IdempotencyKey: id}))
		}
		return k.name(t, "fritz."+id), k.name(t, "gerda."+id)
	}
	type pair struct{ a, b client.Name }
	pairs := make(map[string]pair)
	swap := func(ctx context.Context, dibs *client.Client, id string) error {
		if _, ok := pairs[id]; !ok {
			a, b := two(id)
			pairs[id] = pair{a, b}
		}
		r, err := recipes.Swap(ctx, dibs, "swap-"+id, pairs[id].a, pairs[id].b)
		if err == nil && r.State != client.Accepted {
			err = fmt.Errorf("%+v", r)
		}
		for _, of := range []string{"fritz.", "gerda."} { // neither is free for a moment
			if n := k.name(t, of+id); n.State != "registered" {
				t.Errorf("%+v", n)
			}
		}
		return err
	}
	k.crashes(t, swap, func(t *testing.T, id string) {
		k.holds(t, "u-gerda", "fritz."+id, "registered")
		k.holds(t, "u-fritz", "gerda."+id, "registered")
	})

	// As renames it is refused: each name is taken.
	ctx := t.Context()
	a, b := two("x")
	refused(t, "taken")(k.dibs.Rename(ctx, "username", a.Name, a.Owner, b.Name))
	refused(t, "taken")(k.dibs.Rename(ctx, "username", b.Name, b.Owner, a.Name))
	// One of them has changed since it was looked at: all is as it was.
	got(t)(k.dibs.Rename(ctx, "username", b.Name, b.Owner, "Gerda.X"))
	for range 2 {
		refused(t, "version_conflict")(recipes.Swap(ctx, k.dibs, "swap-x", a, b))
		k.holds(t, "u-fritz", "fritz.x", "registered")
		k.holds(t, "u-gerda", "gerda.x", "registered")
	}
}

func (k *kitchen) swapByThird(t *testing.T) {
	ctx := t.Context()
	rename := func(owner, from, to string) { t.Helper(); got(t)(k.dibs.Rename(ctx, "username", from, owner, to)) }
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "hans", Owner: "u-61"}))
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "inga", Owner: "u-62"}))
	rename("u-61", "hans", "hans-inga")
	k.free(t, "hans", 10*time.Second) // for whoever comes: a claim of it now would be accepted
	rename("u-62", "inga", "hans")
	k.free(t, "inga", 10*time.Second)
	rename("u-61", "hans-inga", "inga")
	k.holds(t, "u-61", "inga", "registered")
	k.holds(t, "u-62", "hans", "registered")
	k.free(t, "hans-inga", 10*time.Second)

	// Somebody comes: it ends there, and the first goes back to nothing but the third name.
	rename("u-61", "inga", "inga-hans")
	k.free(t, "inga", 10*time.Second)
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "inga", Owner: "u-63"}))
	refused(t, "taken")(k.dibs.Rename(ctx, "username", "hans", "u-62", "inga"))
	k.holds(t, "u-61", "inga-hans", "registered")
}
