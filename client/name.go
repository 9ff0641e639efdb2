package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// Name is what is recorded of a name: advice, true when it was read. Only a claim decides.
type Name struct {
	Space     string `json:"space"`
	Name      string `json:"name,omitempty"` // none in a private space
	Key       string `json:"key"`
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"` // why it is not available
	State     string `json:"state"`
	Owner     string `json:"owner,omitempty"` // where the key may know
	Version   int64  `json:"version"`         // 0 for a name never held
	ClaimID   string `json:"claim_id,omitempty"`
	// ExpiresAt is until when it is reserved, or cools down.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Name reads who holds a name.
func (c *Client) Name(ctx context.Context, space, name string) (Name, error) {
	var n wire.Name
	err := c.page(ctx, &n, func(ctx context.Context) (*http.Response, error) { return c.wire.GetName(ctx, space, name) })
	if err != nil {
		return Name{}, fmt.Errorf("get name: %w", err)
	}
	return nameOf(&n), nil
}

func nameOf(n *wire.Name) Name {
	return Name{
		Space: n.Space, Name: value(n.Name), Key: n.Key, Available: n.Available, Reason: string(value(n.Reason)), State: string(n.State),
		Owner: value(n.Owner), Version: n.Version, ClaimID: value(n.ClaimID), ExpiresAt: value(n.ExpiresAt),
	}
}

// Key is the key of a name, and where its records belong: what a producer needs.
type Key struct {
	Space     string `json:"space"`
	Key       string `json:"key"`
	RecordKey string `json:"record_key"`
	Partition int32  `json:"partition"`
}

// Lookup computes the key of a name; in a private space, of the value or of the fields that it stands for, one of which is
// left out. It needs the scope lookup.
func (c *Client) Lookup(ctx context.Context, space, name string, fields map[string]string) (Key, error) {
	body := wire.LookupRequest{Space: optional(space), Name: optional(name)}
	if fields != nil {
		body.Fields = (*wire.Fields)(&fields)
	}
	var k wire.NameKey
	err := c.page(ctx, &k, func(ctx context.Context) (*http.Response, error) { return c.wire.CreateLookup(ctx, body) })
	if err != nil {
		return Key{}, fmt.Errorf("look up a key: %w", err)
	}
	return Key{Space: k.Space, Key: k.Key, RecordKey: k.RecordKey, Partition: k.Partition}, nil
}
