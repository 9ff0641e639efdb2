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
	Name      string `json:"name"`
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
		Space: n.Space, Name: n.Name, Key: n.Key, Available: n.Available, Reason: string(value(n.Reason)), State: string(n.State),
		Owner: value(n.Owner), Version: n.Version, ClaimID: value(n.ClaimID), ExpiresAt: value(n.ExpiresAt),
	}
}
