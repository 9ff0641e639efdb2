package app_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/docs/recipes"
)

// pages is a table of the manager's, and what it has done.
type pages struct {
	mu    sync.Mutex
	place string
	rows  map[string]recipes.Page
	calls map[string]int
	open  map[string]string
	fails bool // the next Save
}

func (p *pages) Load(_ context.Context, space, key string) (recipes.Page, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rows[space+"/"+key], nil
}

func (p *pages) Place(context.Context) (string, error) { return p.place, nil }

func (p *pages) SavePlace(_ context.Context, id string) error {
	p.place = id
	return nil
}

func (p *pages) Save(_ context.Context, space, key string, page recipes.Page) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails {
		p.fails = false
		return errors.New("the table is away")
	}
	p.rows[space+"/"+key] = page
	return nil
}

func (p *pages) call(what string, change func(key, owner string)) func(context.Context, string, string, int64) error {
	return func(_ context.Context, key, owner string, version int64) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls[fmt.Sprintf("%s %s of %s, version %d", what, key, owner, version)]++
		change(key, owner)
		return nil
	}
}

func (k *kitchen) manager(t *testing.T) {
	p := &pages{rows: make(map[string]recipes.Page), calls: make(map[string]int), open: make(map[string]string)}
	manager := func() *recipes.Manager { // a restart
		return &recipes.Manager{
			Pages: p, Open: p.call("open", func(key, owner string) { p.open[key] = owner }), Close: p.call("close", func(key, _ string) { delete(p.open, key) }),
		}
	}
	// follow reads the topic from its start, as after a restart that has lost its offsets. It returns the events of ours.
	follow := func(m *recipes.Manager) (ours []client.Event) {
		t.Helper()
		for _, r := range k.topic.read(k.topic.registrations) {
			var e client.Event
			mustJSON(t, r.Value, &e)
			if !strings.HasPrefix(e.Key, "page-") { // other recipes are being cooked
				continue
			}
			ours = append(ours, e)
			if err := m.Apply(t.Context(), e); err != nil {
				if err = m.Apply(t.Context(), e); err != nil { // its offset is not committed: it comes again
					t.Fatal(err)
				}
			}
		}
		return ours
	}
	ctx := t.Context()
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "page-a", Owner: "u-51"}))
	reserved := got(t)(k.dibs.Reserve(ctx, client.Claim{Name: "page-b", Owner: "u-52"}, time.Hour))
	refused(t, "taken")(k.dibs.Claim(ctx, client.Claim{Name: "Page-A", Owner: "u-53"}))
	p.fails = true
	follow(manager())
	got(t)(k.dibs.Confirm(ctx, reserved.ID, "u-52"))
	got(t)(k.dibs.Transfer(ctx, "username", "page-b", "u-52", "u-51"))
	got(t)(k.dibs.Release(ctx, "username", "page-a", "u-51"))
	got(t)(k.dibs.Claim(ctx, client.Claim{Name: "page-a", Owner: "u-54"}))
	events := follow(manager())
	want := map[string]int{
		"open page-a of u-51, version 1": 2, // its Save has failed
		"open page-b of u-52, version 2": 1, "close page-b of u-52, version 3": 1, "open page-b of u-51, version 3": 1,
		"close page-a of u-51, version 2": 1, "open page-a of u-54, version 3": 1,
	}
	if !maps.Equal(p.calls, want) || !maps.Equal(p.open, map[string]string{"page-a": "u-54", "page-b": "u-51"}) {
		t.Errorf("called %v\nwant %v\nopen: %v", p.calls, want, p.open)
	}
	follow(manager())
	if !maps.Equal(p.calls, want) {
		t.Errorf("a restart that reads all once more has called %v", p.calls)
	}
	// In any order, it ends as it is.
	rows := maps.Clone(p.rows)
	for range 20 {
		p.rows, p.open = make(map[string]recipes.Page), make(map[string]string)
		m := manager()
		for _, i := range rand.Perm(len(events)) {
			if err := m.Apply(ctx, events[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(p.rows, rows) || !maps.Equal(p.open, map[string]string{"page-a": "u-54", "page-b": "u-51"}) {
			t.Fatalf("in another order: %v, open: %v", p.rows, p.open)
		}
	}

	// The stream: it goes on where it was, over a restart of the manager in the midst of claims.
	p = &pages{rows: make(map[string]recipes.Page), calls: make(map[string]int), open: make(map[string]string)}
	opened := func(name string) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.open[name] != "u-55" {
			return fmt.Errorf("%s has no page", name)
		}
		return nil
	}
	for run := range 2 {
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- manager().Follow(ctx, k.dibs) }()
		i := 0
		eventually(t, 10*time.Second, func() error {
			if run == 1 {
				return opened("page-away")
			}
			i++ // it begins now, and nobody says when that is: claim until one is seen
			got(t)(k.dibs.Claim(ctx, client.Claim{Name: fmt.Sprintf("page-stream-%d", i), Owner: "u-55"}))
			return opened(fmt.Sprintf("page-stream-%d", i-1))
		})
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("following ended with %v", err)
		}
		if run == 0 {
			got(t)(k.dibs.Claim(t.Context(), client.Claim{Name: "page-away", Owner: "u-55"}))
		}
	}
	for call, n := range p.calls {
		if n != 1 {
			t.Errorf("%s: %d times", call, n)
		}
	}
}
