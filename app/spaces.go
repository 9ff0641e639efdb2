package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
)

// Why policies are not applied. Nothing was published then.
var (
	// ErrNotRaised: a version holds already, or a higher one, with other content.
	ErrNotRaised = errors.New("the version must be raised")
	// ErrRetires: keys would not be valid any more, and nobody said that they should not.
	ErrRetires = errors.New("keys would be retired")
	// ErrMovesKeys: names that are held would get another key, or none, and nobody could find them any more.
	ErrMovesKeys = errors.New("names would get another key")
	// ErrTooEarly: a key that dibs signs with is to be retired.
	ErrTooEarly = errors.New("another key must come first")
	// ErrDrops: requests would not have to be signed any more, and nobody said that they should not.
	ErrDrops = errors.New("signatures would be dropped")
	// ErrNoPepper: the pepper of a private space is not there.
	ErrNoPepper = errors.New("the pepper is missing")
	// ErrUnsigned: there is no key that the partitions would take the policies from.
	ErrUnsigned = errors.New("the policies cannot be signed")
)

// ErrNotTaken says that a partition has passed over a policy that was published, or is halted.
var ErrNotTaken = errors.New("a partition has not taken a policy")

// ErrNotYet says that policies are published, and not all partitions have them yet.
var ErrNotYet = errors.New("published, and not decided everywhere yet")

// ApplyOptions say how policies are applied.
type ApplyOptions struct {
	DryRun bool
	// RetireKeys: keys that hold and are not in the file are not to hold any more.
	RetireKeys bool
	// DropSignatures: where every request must be signed, it need not be any more.
	DropSignatures bool
	// Wait is how long to wait until every partition has them.
	Wait time.Duration
	// Planned is told what is to be done, before it is.
	Planned func(*SpacesPlan)
	// Progress is told in how many partitions a space's policy holds by now, of how many that are waited for.
	Progress func(space names.Space, done, of int)
}

// ApplySpaces makes policies hold in every partition, through the log, and waits until they do. Where all of it holds
// already it does nothing. What was begun and broken off is gone on with.
func ApplySpaces(ctx context.Context, cfg config.Config, log *slog.Logger, policies []*names.Policy, o ApplyOptions) error {
	return WithClaims(ctx, cfg, log, 1, func(ctx context.Context, d *Deployment) error {
		return d.applySpaces(ctx, policies, o)
	})
}

func (d *Deployment) applySpaces(ctx context.Context, policies []*names.Policy, o ApplyOptions) error {
	rows, err := d.Record.All(ctx)
	if err != nil {
		return err
	}
	// Partitions that were added to the topic take policies as well: processors read them.
	partitions, err := d.Kafka.Partitions(ctx, d.Kafka.Claims())
	if err != nil {
		return fmt.Errorf("count the partitions: Kafka is %w: %w", ErrUnreachable, err)
	}
	plan, err := d.planSpaces(rows, partitions, policies)
	if err != nil {
		return err
	}
	for _, c := range plan.Changes { // before it is said what is published
		if err := d.keepsKeys(ctx, c); err != nil {
			return err
		}
	}
	if o.Planned != nil {
		o.Planned(plan)
	}
	if len(plan.Retired) > 0 && !o.RetireKeys {
		return fmt.Errorf("%w: %s of those that hold are not in security.request_keys_file: with --retire-keys that is what is meant", ErrRetires, strings.Join(plan.Retired, ", "))
	}
	if plan.Dropped && !o.DropSignatures && !plan.Done() {
		return fmt.Errorf("%w: every request must be signed now, and security.require_signatures is %s: set it to all, or with --drop-signatures that is what is meant", ErrDrops, plan.Signatures())
	}
	if o.DryRun || plan.Done() {
		return nil
	}
	if len(plan.Retired) > 0 {
		select {
		case <-time.After(SettleKeys): // everybody signs with another key by then
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Wait, ErrNotYet)
	defer cancel()
	published := make(map[names.Space]map[int32]int64) // the offset in each partition
	for _, c := range plan.Changes {
		a := claims.PolicyActivated{Space: c.Policy.Space, Version: c.Policy.Version, Policy: c.Policy, Rules: claims.Rules, Keys: plan.Keys, SignedOnly: plan.SignedOnly}
		offsets := make(map[int32]int64, len(c.Pending))
		for _, p := range c.Pending {
			r, err := a.Record("dibs/spaces", time.Now(), plan.signing)
			if err != nil {
				return fmt.Errorf("space %s: %w", c.Policy.Space, err)
			}
			offsets[p], err = d.Claims.Publish(ctx, p, r)
			switch {
			case err != nil && ctx.Err() != nil:
				return fmt.Errorf("%w: broken off at partition %d of space %s. The same command goes on from here", ErrNotYet, p, c.Policy.Space)
			case err != nil:
				return fmt.Errorf("publish the policy of space %s to partition %d: Kafka is %w: %w", c.Policy.Space, p, ErrUnreachable, err)
			}
		}
		published[c.Policy.Space] = offsets
	}
	for _, c := range plan.Changes {
		if err := d.awaitSpace(ctx, plan, c, published[c.Policy.Space], o.Progress); err != nil {
			return err
		}
	}
	return nil
}

// awaitSpace waits until a policy holds in the partitions that it was published to and that requests are routed to: of one
// beyond the pinned count nobody waits for anything.
func (d *Deployment) awaitSpace(ctx context.Context, plan *SpacesPlan, c SpaceChange, offsets map[int32]int64, progress func(names.Space, int, int)) error {
	pending := slices.DeleteFunc(slices.Clone(c.Pending), func(p int32) bool { return int(p) >= d.Contract.Partitions })
	if len(pending) == 0 {
		return nil
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	said := -1
	var waiting []string
	for {
		rows, err := d.Record.Standings(ctx, pending)
		if err == nil {
			done := 0
			waiting = nil
			known := make(map[int32]bool)
			for _, row := range rows {
				known[row.Partition] = true
				switch taken, err := plan.taken(c, d.Policies, row, offsets[row.Partition]); {
				case err != nil:
					return err
				case taken:
					done++
				default:
					waiting = append(waiting, fmt.Sprint(row.Partition))
				}
			}
			for _, p := range pending {
				if !known[p] {
					waiting = append(waiting, fmt.Sprint(p))
				}
			}
			if done != said && progress != nil {
				progress(c.Policy.Space, done, len(pending))
			}
			if said = done; done == len(pending) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: space %s waits for partitions %s: is a processor running? The same command goes on from here", ErrNotYet, c.Policy.Space, strings.Join(waiting, ", "))
		case <-tick.C:
		}
	}
}

// Unfit is a name that is held and could not be claimed under a policy, or one that is not free and would get another key.
type Unfit struct {
	api.Owned
	Why string
}

// moved says how a policy changes the key of a name that is not free; empty for not at all.
func moved(c *SpaceChange, o *api.Owned) string {
	p := c.Policy
	if c.remade {
		return "could not be found: keys would be made with another pepper, of another form or of other fields"
	}
	switch key, err := p.KeyAfter(o.Key, o.Name); {
	case err != nil:
		return "would be no name: " + err.Error()
	case key != o.Key:
		return fmt.Sprintf("would have the key %s", key)
	}
	return ""
}

// mostMoved is how many names an error lists.
const mostMoved = 10

// moves collects the names whose keys a policy changes.
type moves struct {
	space names.Space
	first []string
	count int
}

func (m *moves) add(o *api.Owned, why string) {
	if m.count++; m.count <= mostMoved {
		m.first = append(m.first, fmt.Sprintf("%s %s", o.Key, why))
	}
}

// refusal is nil where there are none.
func (m *moves) refusal() error {
	if m.count == 0 {
		return nil
	}
	more := ""
	if m.count > len(m.first) {
		more = fmt.Sprintf(", and %d more", m.count-len(m.first))
	}
	return fmt.Errorf("%w: in space %s %s%s. That needs a new space", ErrMovesKeys, m.space, strings.Join(m.first, "; "), more)
}

// keepsKeys refuses a change by which some name that is not free would get another key.
func (d *Deployment) keepsKeys(ctx context.Context, c SpaceChange) error {
	if !c.mayMove {
		return nil
	}
	m := moves{space: c.Policy.Space}
	err := d.Record.UsedNames(ctx, c.Policy.Space, func(o api.Owned) error {
		if why := moved(&c, &o); why != "" {
			m.add(&o, why)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.refusal()
}

// CheckSpace compares a policy with what holds and with the names that are held: found is called for each that nobody
// could claim any more. Their holders keep them. ErrMovesKeys, behind all of them, says that some would get another key.
func (d *Deployment) CheckSpace(ctx context.Context, p *names.Policy, found func(Unfit)) (SpaceChange, error) {
	pinned, _, err := d.Record.Pinned(ctx)
	if err != nil {
		return SpaceChange{}, err
	}
	partitions := max(1, pinned.Partitions) // where nothing is pinned yet, there will be some
	rows, err := d.Record.All(ctx)
	if err != nil {
		return SpaceChange{}, err
	}
	for _, row := range rows {
		partitions = max(partitions, int(row.Partition)+1) // of a topic that was grown
	}
	change, err := d.planSpace(rows, partitions, p)
	if err != nil {
		return change, err
	}
	p = change.Policy
	m := moves{space: p.Space}
	err = d.Record.UsedNames(ctx, p.Space, func(o api.Owned) error {
		if why := moved(&change, &o); change.mayMove && why != "" {
			m.add(&o, why)
			found(Unfit{o, why})
			return nil
		}
		if !o.Held() {
			return nil
		}
		asked := o.Name
		if p.Private != nil {
			asked = string(o.Key)
		}
		switch _, err := p.Key(asked); {
		case err != nil:
			found(Unfit{o, err.Error()})
		case p.IsReserved(o.Key):
			found(Unfit{o, "is reserved"})
		}
		return nil
	})
	if err != nil {
		return change, err
	}
	return change, m.refusal()
}
