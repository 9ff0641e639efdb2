package recipes

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/client"
)

// Page is a row of the manager's own table, by space and key: what it has seen of a name, and done for it.
type Page struct {
	Version int64
	Owner   string // empty: there is no page
}

// Pages is that table. A key that is not there is the zero Page. Beside it is how far the manager has come: the id of an
// event, empty at first.
type Pages interface {
	Load(ctx context.Context, space, key string) (Page, error)
	Save(ctx context.Context, space, key string, p Page) error
	Place(ctx context.Context) (string, error)
	SavePlace(ctx context.Context, id string) error
}

// Manager keeps a page for each registered name. Open and Close may be called again with the same owner and version: the
// version is what makes that one call of two.
type Manager struct {
	Pages       Pages
	Open, Close func(ctx context.Context, key, owner string, version int64) error
}

// Apply does what an event asks for. Copies, and what comes late, it passes over: a version is applied if it is higher
// than the last one seen of that key.
func (m *Manager) Apply(ctx context.Context, e client.Event) error {
	page, err := m.Pages.Load(ctx, e.Space, e.Key)
	if err != nil {
		return fmt.Errorf("page of %s/%s: %w", e.Space, e.Key, err)
	}
	if e.Version <= page.Version { // a rejection has no version
		return nil
	}
	holder := ""
	if e.State == "registered" {
		holder = e.Owner
	}
	if holder != page.Owner {
		if page.Owner != "" {
			if err := m.Close(ctx, e.Key, page.Owner, e.Version); err != nil {
				return fmt.Errorf("close the page of %s/%s: %w", e.Space, e.Key, err)
			}
		}
		if holder != "" {
			if err := m.Open(ctx, e.Key, holder, e.Version); err != nil {
				return fmt.Errorf("open the page of %s/%s: %w", e.Space, e.Key, err)
			}
		}
	}
	return m.Pages.Save(ctx, e.Space, e.Key, Page{e.Version, holder})
}

// Follow applies what is decided, from where the last run stopped, until ctx ends or something fails: run it again then.
func (m *Manager) Follow(ctx context.Context, dibs *client.Client) error {
	place, err := m.Pages.Place(ctx)
	if err != nil {
		return err
	}
	for e, err := range dibs.Watch(ctx, client.WatchRequest{Space: "username", After: place}) {
		if err != nil {
			return err
		}
		if err := m.Apply(ctx, e); err != nil {
			return err
		}
		if err := m.Pages.SavePlace(ctx, e.ID); err != nil {
			return fmt.Errorf("keep the place: %w", err)
		}
	}
	return nil
}
