package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
)

// Why policies are not applied. Nothing was published then.
var (
	// ErrNotRaised: a version holds already, or a higher one, with other content.
	ErrNotRaised = errors.New("the version must be raised")
	// ErrRetires: keys would not be valid any more, and nobody said that they should not.
	ErrRetires = errors.New("keys would be retired")
	// ErrMovesKeys: names that are held would get another key, or none, and nobody could find them any more.
	ErrMovesKeys = errors.New("names would get another key")
	// ErrUnsigned: there is no key that the partitions would take the policies from.
	ErrUnsigned = errors.New("the policies cannot be signed")
)

// ErrNotTaken says that a partition has passed over a policy that was published, or is halted.
var ErrNotTaken = errors.New("a partition has not taken a policy")

// ErrNotYet says that policies are published, and not all partitions have them yet.
var ErrNotYet = errors.New("published, and not decided everywhere yet")

// SpacesPlan is what is to be done to make policies hold in every partition.
type SpacesPlan struct {
	Changes []SpaceChange
	// Keys are the ids of the keys that signatures may be made with from then on, New and Retired what is different about
	// them, SignedOnly whether every request must be signed.
	Keys, New, Retired []string
	SignedOnly         bool

	signing claims.SigningKey
}

// SpaceChange is one policy, and where it does not hold yet.
type SpaceChange struct {
	Policy *names.Policy
	// Before is the highest version that holds somewhere; 0 for a space that there was not.
	Before int
	// Pending are the partitions that do not have it.
	Pending []int32

	mayMove bool // keys, in some partition
}

// Done reports whether all of it holds already.
func (p *SpacesPlan) Done() bool {
	return !slices.ContainsFunc(p.Changes, func(c SpaceChange) bool { return len(c.Pending) > 0 })
}

// ApplyOptions say how policies are applied.
type ApplyOptions struct {
	DryRun     bool
	RetireKeys bool
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
	plan, err := d.planSpaces(rows, policies)
	if err != nil {
		return err
	}
	if o.Planned != nil {
		o.Planned(plan)
	}
	if len(plan.Retired) > 0 && !o.RetireKeys {
		return fmt.Errorf("%w: %s of those that hold are not in security.request_keys_file: with --retire-keys that is what is meant", ErrRetires, strings.Join(plan.Retired, ", "))
	}
	for _, c := range plan.Changes {
		if err := d.keepsKeys(ctx, c); err != nil {
			return err
		}
	}
	if o.DryRun || plan.Done() {
		return nil
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
			if offsets[p], err = d.Claims.Publish(ctx, p, r); err != nil {
				return fmt.Errorf("publish the policy of space %s to partition %d: Kafka is %w: %w", c.Policy.Space, p, ErrUnreachable, err)
			}
		}
		published[c.Policy.Space] = offsets
	}
	for _, c := range plan.Changes {
		if err := d.awaitSpace(ctx, c, published[c.Policy.Space], o.Progress); err != nil {
			return err
		}
	}
	return nil
}

// planSpaces compares policies with what holds.
func (d *Deployment) planSpaces(rows []processor.Standing, policies []*names.Policy) (*SpacesPlan, error) {
	if len(d.Keys.All) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnsigned, errNoRequestKeys)
	}
	plan := &SpacesPlan{Keys: sortedKeys(d.Keys.All), SignedOnly: d.Config.Security.RequireSignatures == config.SignAll}
	if len(plan.Keys) > claims.MaxKeys {
		return nil, fmt.Errorf("%w: security.request_keys_file has %d keys: %d may be valid at once", ErrUnsigned, len(plan.Keys), claims.MaxKeys)
	}
	if err := d.planKeys(plan, rows); err != nil {
		return nil, err
	}
	for _, p := range policies {
		change, err := d.planSpace(rows, p)
		if err != nil {
			return nil, err
		}
		if _, err := (&claims.PolicyActivated{Space: p.Space, Version: p.Version, Policy: p, Rules: claims.Rules, Keys: plan.Keys}).Record("", time.Time{}, plan.signing); err != nil {
			return nil, fmt.Errorf("space %s: %w", p.Space, err)
		}
		plan.Changes = append(plan.Changes, change)
	}
	if plan.Done() && d.holdsOtherwise(rows, plan) {
		return nil, fmt.Errorf("%w: the policies hold already, but not with the keys %s and security.require_signatures %s: raise the version of one space and apply again",
			ErrNotRaised, strings.Join(plan.Keys, ", "), d.Config.Security.RequireSignatures)
	}
	return plan, nil
}

// planKeys finds a key that every partition takes a policy from, and what becomes of the others.
func (d *Deployment) planKeys(plan *SpacesPlan, rows []processor.Standing) error {
	valid := maps.Clone(d.Keys.All) // everywhere
	held := make(map[string]bool)   // somewhere
	for _, row := range rows {
		f := row.InForce
		if f == nil {
			continue
		}
		if f.Rules > claims.Rules {
			return fmt.Errorf("%w: partition %d goes by rules %d, and this dibs knows rules %d: run a newer one", ErrUnsigned, row.Partition, f.Rules, claims.Rules)
		}
		if err := f.Lacking(); err != nil {
			return fmt.Errorf("%w: in partition %d a policy holds that this dibs cannot follow: %w: run one that has them", ErrUnsigned, row.Partition, err)
		}
		for _, id := range f.Keys {
			held[id] = true
		}
		maps.DeleteFunc(valid, func(id string, _ []byte) bool { return !slices.Contains(f.Keys, id) })
	}
	if len(valid) == 0 {
		return fmt.Errorf("%w: no key of security.request_keys_file holds in every partition: dibs spaces shows which do", ErrUnsigned)
	}
	plan.signing = valid.Signing(d.Keys.Signing)
	for _, id := range plan.Keys {
		if len(held) > 0 && !held[id] {
			plan.New = append(plan.New, id)
		}
	}
	for _, id := range sortedKeys(held) {
		if !slices.Contains(plan.Keys, id) {
			plan.Retired = append(plan.Retired, id)
		}
	}
	return nil
}

// planSpace compares one policy with what holds.
func (d *Deployment) planSpace(rows []processor.Standing, p *names.Policy) (SpaceChange, error) {
	change := SpaceChange{Policy: p}
	byPartition := make(map[int32]*processor.InForce, len(rows))
	for _, row := range rows {
		byPartition[row.Partition] = row.InForce
	}
	for n := range int32(d.Contract.Partitions) {
		holds := inForce(d.Policies, byPartition[n])[p.Space]
		version := 0
		if holds != nil {
			version = holds.Version
		}
		change.Before = max(change.Before, version)
		switch {
		case version > p.Version:
			return change, fmt.Errorf("%w: space %s has version %d in partition %d, and this is %d", ErrNotRaised, p.Space, version, n, p.Version)
		case version == p.Version && !holds.SameAs(p):
			return change, fmt.Errorf("%w: version %d of space %s holds in partition %d and asks something else: make this %d", ErrNotRaised, version, p.Space, n, version+1)
		case version < p.Version:
			change.mayMove = change.mayMove || holds != nil && holds.MayMoveKeys(p)
			change.Pending = append(change.Pending, n)
		}
	}
	return change, nil
}

// holdsOtherwise reports whether keys or signatures are not what a plan says, where something was activated.
func (d *Deployment) holdsOtherwise(rows []processor.Standing, plan *SpacesPlan) bool {
	for _, row := range rows {
		if f := row.InForce; f != nil && (f.SignedOnly != plan.SignedOnly || !slices.Equal(slices.Sorted(slices.Values(f.Keys)), plan.Keys)) {
			return true
		}
	}
	return false
}

// inForce is what holds where f does.
func inForce(start names.Policies, f *processor.InForce) names.Policies {
	if f == nil {
		return start
	}
	all := maps.Clone(start)
	maps.Copy(all, f.Policies)
	return all
}

// awaitSpace waits until a policy holds in the partitions that it was published to.
func (d *Deployment) awaitSpace(ctx context.Context, c SpaceChange, offsets map[int32]int64, progress func(names.Space, int, int)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	said := -1
	var waiting []string
	for {
		rows, err := d.Record.Standings(ctx, c.Pending)
		if err == nil {
			done := 0
			waiting = nil
			known := make(map[int32]bool)
			for _, row := range rows {
				known[row.Partition] = true
				switch version := inForce(d.Policies, row.InForce).Version(c.Policy.Space); {
				case version >= c.Policy.Version:
					done++
				case row.Halted != "":
					return fmt.Errorf("%w: partition %d is halted: %s", ErrNotTaken, row.Partition, row.Halted)
				case row.NextOffset > offsets[row.Partition]:
					return fmt.Errorf("%w: partition %d has passed offset %d and left version %d of space %s as it was: see its dead letters for the reason",
						ErrNotTaken, row.Partition, offsets[row.Partition], version, c.Policy.Space)
				default:
					waiting = append(waiting, fmt.Sprint(row.Partition))
				}
			}
			for _, p := range c.Pending {
				if !known[p] {
					waiting = append(waiting, fmt.Sprint(p))
				}
			}
			if done != said && progress != nil {
				progress(c.Policy.Space, done, len(c.Pending))
			}
			if said = done; done == len(c.Pending) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, ErrNotYet) || err == nil {
				return fmt.Errorf("%w: space %s waits for partitions %s: is a processor running? The same command goes on from here", ErrNotYet, c.Policy.Space, strings.Join(waiting, ", "))
			}
			return err
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
func moved(p *names.Policy, o *api.Owned) string {
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
		if why := moved(c.Policy, &o); why != "" {
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
	d.Contract = pinned
	rows, err := d.Record.All(ctx)
	if err != nil {
		return SpaceChange{}, err
	}
	change, err := d.planSpace(rows, p)
	if err != nil {
		return change, err
	}
	m := moves{space: p.Space}
	err = d.Record.UsedNames(ctx, p.Space, func(o api.Owned) error {
		if why := moved(p, &o); change.mayMove && why != "" {
			m.add(&o, why)
			found(Unfit{o, why})
			return nil
		}
		if !o.Held() {
			return nil
		}
		switch _, err := p.Key(o.Name); {
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
