package verify

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// names compares what the replay has left of every name with the table. The holdings are used up by it.
func (c *checking) names(ctx context.Context) error {
	if err := c.hide(); err != nil {
		return err
	}
	err := c.snapshot.Names(ctx, func(stored StoredName) error {
		c.counts.Names++
		if c.state.isOlder(stored.Ref) {
			return nil
		}
		h, there := c.state.holdings[stored.Ref]
		if eraser := c.state.base.Eraser; !there && eraser != nil && !stored.Ref.Key.Erased() { // its rows may be wiped already
			c.state.known(eraser.Ref(stored.Ref), stored.Ref)
			h, there = c.state.holdings[stored.Ref]
		}
		if !there {
			c.nameDiffers(stored.Ref, stored.ClaimID, Field{"row", "nothing", "a name"})
			return nil
		}
		delete(c.state.holdings, stored.Ref)
		return c.sameName(h, &stored)
	})
	if err != nil {
		return err
	}
	listed := 0
	for ref, h := range c.state.holdings {
		c.counts.Names++
		if listed++; listed > c.cfg.MaxDifferences { // only counted, however many
			c.found.more(1)
			continue
		}
		c.nameDiffers(ref, h.ClaimID, Field{"row", fmt.Sprintf("%s at version %d", h.State, h.Version), "nothing"})
	}
	c.state.holdings = nil
	return nil
}

// hide puts those names under the key that they are stored with of which nothing else is kept.
func (c *checking) hide() error {
	for ref, h := range c.state.holdings {
		if !h.Hidden() || ref.Key.Erased() {
			continue
		}
		if c.state.base.Eraser == nil {
			return ErrSecret
		}
		hidden := c.state.base.Eraser.Ref(ref)
		delete(c.state.holdings, ref)
		c.state.holdings[hidden] = h
		if first, other := c.state.first[ref]; other {
			c.state.first[hidden] = first
		}
	}
	return nil
}

func (c *checking) sameName(h registrations.Holding, stored *StoredName) error {
	// A reservation from before the start of the log: what it replaces only its row says.
	if claim, ok := c.state.unsure[stored.Ref]; ok && h.State == registrations.Reserved && h.ClaimID == claim {
		h.Replaces, h.ReplacesVersion = stored.Replaces, stored.ReplacesVersion
	}
	first, other := c.state.first[stored.Ref]
	if other && first == uuid.Nil {
		first = stored.First // no claim made the first version: then it is nothing that anybody looks up
	}
	wire, err := c.snapshot.AppendName(c.wire[:0], stored.Ref, h, first)
	c.wire = wire[:0]
	if err != nil {
		return fmt.Errorf("%s: what would be stored: %w", stored.Ref, err)
	}
	if string(wire) == string(stored.Bytes) {
		return nil
	}
	for _, f := range c.snapshot.NameDiff(wire, stored.Bytes) {
		c.nameDiffers(stored.Ref, h.ClaimID, f)
	}
	return nil
}

func (c *checking) nameDiffers(ref names.Ref, claim uuid.UUID, f Field) {
	d := Difference{
		Partition: c.partition, LogEpoch: c.standing.LogEpoch, Offset: -1, Where: inNames, Name: ref.String(),
		Field: f.Name, Expected: f.Expected, Found: f.Found,
	}
	if claim != uuid.Nil {
		d.RequestID = &claim
	}
	c.found.differ(d)
}
