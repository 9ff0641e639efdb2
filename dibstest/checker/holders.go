package checker

import (
	"cmp"
	"slices"
)

// standing is what the decisions so far say of a name.
type standing struct {
	state, owner, claim string
	version             int64
}

func (s *standing) held() bool {
	return s.state == "reserved" || s.state == "registered" || s.state == "inactive"
}

// holders folds the decisions, without looking at the log: a key has at most one holder at every position, and its version
// goes up by one with every change.
func (j *judge) holders() {
	decisions := slices.Clone(j.Decisions)
	slices.SortFunc(decisions, func(a, b Decision) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.LogEpoch, b.LogEpoch), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Seq, b.Seq))
	})
	names := make(map[[2]string]*standing)
	for i := range decisions {
		o := decisions[i].Outcome
		if o == nil || o.State == "" {
			continue
		}
		name := [2]string{o.Space, o.Key}
		s := names[name]
		if s == nil {
			s = new(standing)
			names[name] = s
		}
		j.fold(s, o)
	}
}

// fold checks one outcome or fact against what was before it.
func (j *judge) fold(s *standing, o *Outcome) {
	broken := func(what string) {
		j.broken(1, "%s/%s: %s of %q at %s %s: it is %s version %d, of %q by claim %s", o.Space, o.Key, o.Type, o.Owner, o.place(), what, s.state, s.version, s.owner, s.claim)
	}
	same := o.Version == s.version && o.State == s.state
	switch {
	case same && s.state == "registered" && s.owner == o.Owner && (o.Type == "Accepted" || o.Type == "Confirmed") && s.claim == o.ClaimID:
		return // asked again
	case same && s.state == "free" && o.Type == "Erased":
		return // too
	case o.Version != s.version+1:
		broken("is not the next version")
	}
	mine := s.held() && s.owner == o.Owner
	registered := mine && s.claim == o.ClaimID && s.state == "registered"
	reserved := mine && s.claim == o.ClaimID && s.state == "reserved"
	inactive := mine && s.state == "inactive"
	switch o.Type {
	case "Accepted":
		if (s.held() || s.state == "blocked") && !registered && (o.Space != spaceSignup || !reserved) {
			broken("while somebody has the name")
		}
	case "Voted":
		if !reserved {
			broken("is of no sign-up under way")
		}
	case "Begun":
		if s.version > 0 {
			broken("is of one that was there")
		}
	case "Abandoned":
		if !reserved && s.version > 0 {
			broken("is of no sign-up under way")
		}
	case "Confirmed", "Extended":
		if !reserved {
			broken("is not of its reservation")
		}
	case "Released", "Withdrawn", "Deactivated":
		if !mine || s.claim != o.ClaimID {
			broken("is not of its holder")
		}
	case "Erased": // it does not say of whom
		if s.state != "free" && (s.state == "blocked" || s.claim != o.ClaimID) {
			broken("is of another holder")
		}
	case "Expired":
		if s.state != "cooling" && !reserved {
			broken("is of nothing that expires")
		}
	case "Reactivated":
		if !inactive && s.state != "free" {
			broken("while somebody has the name")
		}
	case "Transferred":
		if !s.held() {
			broken("is of a name that nobody has")
		}
	case "Blocked":
		if s.held() {
			broken("while somebody has the name")
		}
	case "Unblocked":
		if s.state != "blocked" {
			broken("is of a name that is not blocked")
		}
	}
	*s = standing{o.State, o.Owner, o.ClaimID, o.Version}
}
