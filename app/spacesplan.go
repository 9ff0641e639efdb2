package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
)

// SpacesPlan is what is to be done to make policies hold in every partition.
type SpacesPlan struct {
	Changes []SpaceChange
	// Keys are the ids of the keys that signatures may be made with from then on: dibs signs with the first that holds
	// everywhere. New and Retired is what is different about them.
	Keys, New, Retired []string
	// SignedOnly: every request must be signed from then on. Dropped: it has to be now, and not any more.
	SignedOnly, Dropped bool

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
	remade  bool // all keys, in some partition: those of a private space
}

// Signatures is what must be signed from then on, in the words of security.require_signatures.
func (p *SpacesPlan) Signatures() string {
	if p.SignedOnly {
		return config.SignAll
	}
	return config.SignPrivileged
}

// Done reports whether all of it holds already.
func (p *SpacesPlan) Done() bool {
	return !slices.ContainsFunc(p.Changes, func(c SpaceChange) bool { return len(c.Pending) > 0 })
}

// planSpaces compares policies with what holds in so many partitions.
func (d *Deployment) planSpaces(rows []processor.Standing, partitions int, policies []*names.Policy) (*SpacesPlan, error) {
	if len(d.Keys.All) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnsigned, errNoRequestKeys)
	}
	plan := &SpacesPlan{Keys: d.Keys.Order, SignedOnly: d.Config.Security.RequireSignatures == config.SignAll}
	if len(plan.Keys) > claims.MaxKeys {
		return nil, fmt.Errorf("%w: security.request_keys_file has %d keys: %d may be valid at once", ErrUnsigned, len(plan.Keys), claims.MaxKeys)
	}
	if err := d.planKeys(plan, rows); err != nil {
		return nil, err
	}
	for _, p := range policies {
		change, err := d.planSpace(rows, partitions, p)
		if err != nil {
			return nil, err
		}
		p = change.Policy
		if _, err := (&claims.PolicyActivated{Space: p.Space, Version: p.Version, Policy: p, Rules: claims.Rules, Keys: plan.Keys}).Record("", time.Time{}, plan.signing); err != nil {
			return nil, fmt.Errorf("space %s: %w", p.Space, err)
		}
		plan.Changes = append(plan.Changes, change)
	}
	if p, otherwise := plan.holdsOtherwise(rows); otherwise {
		return nil, fmt.Errorf("%w: the policies hold already in partition %d, but not with the keys %s and security.require_signatures %s: raise the version of one space and apply again",
			ErrNotRaised, p, strings.Join(plan.Keys, ", "), plan.Signatures())
	}
	return plan, nil
}

// planKeys finds a key that every partition takes a policy from, and what becomes of the others.
func (d *Deployment) planKeys(plan *SpacesPlan, rows []processor.Standing) error {
	valid := maps.Clone(d.Keys.All) // everywhere
	held := make(map[string]bool)   // somewhere
	var order [][]string            // in each
	for _, row := range rows {
		f := row.InForce
		if f == nil {
			continue
		}
		if f.Unreadable != "" {
			return fmt.Errorf("%w: what holds in partition %d cannot be read: %s", ErrUnsigned, row.Partition, f.Unreadable)
		}
		if f.Rules > claims.Rules {
			return fmt.Errorf("%w: partition %d goes by rules %d, and this dibs knows rules %d: run a newer one", ErrUnsigned, row.Partition, f.Rules, claims.Rules)
		}
		if err := f.Lacking(); err != nil {
			return fmt.Errorf("%w: in partition %d a policy holds that this dibs cannot follow: %w: run one that has them", ErrUnsigned, row.Partition, err)
		}
		order = append(order, f.Keys)
		for _, id := range f.Keys {
			held[id] = true
		}
		plan.Dropped = plan.Dropped || f.SignedOnly && !plan.SignedOnly
		maps.DeleteFunc(valid, func(id string, _ []byte) bool { return !slices.Contains(f.Keys, id) })
	}
	if len(valid) == 0 {
		return fmt.Errorf("%w: no key of security.request_keys_file holds in every partition: dibs spaces shows which do. A new one comes beside one that holds", ErrUnsigned)
	}
	plan.signing = valid.Signing(d.Keys.Signing, order...)
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
	// What processors ask each other is signed with the first key that holds everywhere, and lost where it is retired.
	all := make(claims.Keys, len(held))
	for id := range held {
		all[id] = nil
	}
	if signs := all.Signing(claims.SigningKey{}, order...).ID; slices.Contains(plan.Retired, signs) {
		return fmt.Errorf("%w: dibs signs with %s, which would be retired: put it back into security.request_keys_file, behind %s, raise a version and apply; then retire it",
			ErrTooEarly, signs, sortedKeys(valid)[0])
	}
	return nil
}

// SettleKeys is how long everybody takes to sign with another key once it holds, twice over.
const SettleKeys = 10 * time.Second

// planSpace compares one policy with what holds.
func (d *Deployment) planSpace(rows []processor.Standing, partitions int, p *names.Policy) (SpaceChange, error) {
	byPartition := make(map[int32]*processor.InForce, len(rows))
	for _, row := range rows {
		byPartition[row.Partition] = row.InForce
	}
	for n := range int32(partitions) { // first: no pepper makes a space private that is not
		if holds := byPartition[n].Over(d.Policies)[p.Space]; holds != nil && (holds.Private == nil) != (p.Private == nil) {
			return SpaceChange{Policy: p}, fmt.Errorf("%w: space %s is private or it is not, from its first version on, and version %d holds in partition %d. That needs a new space",
				ErrMovesKeys, p.Space, holds.Version, n)
		}
	}
	p, err := d.peppered(rows, p)
	if err != nil {
		return SpaceChange{Policy: p}, err
	}
	change, older := SpaceChange{Policy: p}, int32(-1)
	for n := range int32(partitions) {
		holds := byPartition[n].Over(d.Policies)[p.Space]
		version := 0
		if holds != nil {
			version = holds.Version
		}
		change.Before = max(change.Before, version)
		switch {
		case version > p.Version:
			return change, fmt.Errorf("%w: space %s has version %d in partition %d, and this is %d", ErrNotRaised, p.Space, version, n, p.Version)
		case version == p.Version && !holds.SameAs(p) && holds.ReservingLooks().SameAs(p): // an older dibs has applied it
			older = n
		case version == p.Version && !holds.SameAs(p):
			return change, fmt.Errorf("%w: version %d of space %s holds in partition %d and asks something else: make this %d", ErrNotRaised, version, p.Space, n, version+1)
		case version < p.Version:
			change.mayMove = change.mayMove || holds != nil && holds.MayMoveKeys(p)
			change.remade = change.remade || holds != nil && !holds.SameKeys(p)
			change.Pending = append(change.Pending, n)
		}
	}
	if older >= 0 && len(change.Pending) > 0 { // else one version would ask two things
		return change, fmt.Errorf("%w: version %d of space %s holds in partition %d as an older dibs has applied it, and is not everywhere yet: make this %d", ErrNotRaised, p.Version, p.Space, older, p.Version+1)
	}
	return change, nil
}

// peppered gives a private policy its pepper: the version that the file says, else the one that holds, else the latest
// that there is.
func (d *Deployment) peppered(rows []processor.Standing, p *names.Policy) (*names.Policy, error) {
	if p.Private == nil {
		return p, nil
	}
	version := p.Private.Pepper
	if version == 0 {
		for _, row := range rows {
			if holds := row.InForce.Over(d.Policies)[p.Space]; holds != nil && holds.Private != nil {
				version = max(version, holds.Private.Pepper)
			}
		}
	}
	if version == 0 {
		version = max(1, d.Peppers.Latest(p.Space))
	}
	secret := d.Peppers[p.Space][version]
	if secret == nil {
		return p, fmt.Errorf("%w: security.peppers_file has no version %d for space %s; dibs keys pepper FILE --space %s makes a first one", ErrNoPepper, version, p.Space, p.Space)
	}
	return p.WithPepper(version, secret), nil
}

// holdsOtherwise finds a partition that nothing is to be published to, and where keys or signatures are not what the plan
// says.
func (p *SpacesPlan) holdsOtherwise(rows []processor.Standing) (int32, bool) {
	for _, row := range rows {
		pending := slices.ContainsFunc(p.Changes, func(c SpaceChange) bool { return slices.Contains(c.Pending, row.Partition) })
		if !pending && row.InForce != nil && !p.signedAs(row.InForce) {
			return row.Partition, true
		}
	}
	return 0, false
}

// signedAs reports whether signatures are made where f holds as the plan says.
func (p *SpacesPlan) signedAs(f *processor.InForce) bool {
	return f.SignedOnly == p.SignedOnly && slices.Equal(f.Keys, p.Keys)
}

// taken reports whether a partition has come to a change that lies in its log at an offset. The error says that it never
// will: nothing lies there that would make it hold.
func (p *SpacesPlan) taken(c SpaceChange, start names.Policies, row processor.Standing, offset int64) (bool, error) {
	space, want, f := c.Policy.Space, c.Policy.Version, row.InForce
	holds := f.Over(start)
	switch version := holds.Version(space); {
	case version < want && row.Halted != "":
		return false, fmt.Errorf("%w: partition %d is halted: %s", ErrNotTaken, row.Partition, row.Halted)
	case version < want && row.NextOffset > offset:
		return false, fmt.Errorf("%w: partition %d has passed offset %d and left version %d of space %s as it was: see its dead letters for the reason",
			ErrNotTaken, row.Partition, offset, version, space)
	case version < want:
		return false, nil
	case version > want:
		return false, fmt.Errorf("%w: version %d of space %s holds in partition %d by now, and this is %d: somebody else has applied it meanwhile",
			ErrNotTaken, version, space, row.Partition, want)
	case !holds[space].SameAs(c.Policy):
		return false, fmt.Errorf("%w: version %d of space %s holds in partition %d with other content: somebody else has published it, or an earlier run that was broken off. Make this %d and apply again",
			ErrNotTaken, version, space, row.Partition, version+1)
	case f == nil || f.Rules != claims.Rules || !p.signedAs(f):
		return false, fmt.Errorf("%w: version %d of space %s holds in partition %d, and not with rules %d, the keys %s and security.require_signatures %s: somebody else has published it, or an earlier run that was broken off. Make this %d and apply again",
			ErrNotTaken, version, space, row.Partition, claims.Rules, strings.Join(p.Keys, ", "), p.Signatures(), version+1)
	}
	return true, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
