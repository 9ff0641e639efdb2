package checker

import "strings"

// followUp is the release that a rename leads to.
type followUp struct {
	from    place // of the decision
	claim   string
	ref     [2]string // that is released
	owner   string
	version int64
}

func (f *followUp) recordKey() string { return f.ref[0] + "/" + f.ref[1] }

// followUps: what a rename gives up is asked for on claims, by dibs, with the owner and the version; and decided there: the
// old name is released, or the rejection says why it stays. Nothing else is asked under such an id.
func (j *judge) followUps() {
	owed := make(map[string]*followUp) // by id
	decided := make(map[string]*Decision)
	for i := range j.Decisions {
		d := &j.Decisions[i]
		if d.Kind == KindOutcome && d.Outcome != nil && d.Outcome.Request == typeRelease {
			decided[d.RequestID] = d
		}
		if d.FollowKey == "" || d.Outcome == nil {
			continue
		}
		o := d.Outcome
		if o.Type != "Accepted" && o.Type != "Confirmed" {
			j.broken(4, "%s of %s at %s releases another name", o.Type, o.recordKey(), d.place())
		}
		owed[releaseID(o.ClaimID, o.recordKey())] = &followUp{d.place(), o.ClaimID, [2]string{o.Space, d.FollowKey}, o.Owner, d.FollowVersion}
	}
	asked := make(map[string]bool)
	for i := range j.Claims {
		j.question(&j.Claims[i])
		j.asked(&j.Claims[i], owed, asked)
	}
	if j.Running {
		return
	}
	for id, f := range owed {
		if !asked[id] {
			if j.whole(partitionOf(f.recordKey(), j.Partitions)) { // else retention may have taken it
				j.broken(4, "the release of %s that the decision at %s leads to was never published", f.recordKey(), f.from)
			}
			continue
		}
		j.explained(id, f, decided)
	}
}

// asked checks a record of claims that may be the release of a rename.
func (j *judge) asked(r *Record, owed map[string]*followUp, asked map[string]bool) {
	id, _ := r.header("ce_id")
	kind, _ := r.header("ce_type")
	principal, _ := r.header("ce_dibsprincipal")
	if id, ok := uuidOf(id); !ok || id[14] != '8' || kind != "dibs."+typeRelease+".v1" || principal != ownPrincipal || !signed(r, j.Secrets) {
		return
	}
	at := place{r.Partition, r.epoch(), r.Offset}
	f := owed[id]
	if f == nil {
		if !j.Running && !j.cut() {
			j.broken(4, "dibs asks at %s to release %s, which no decision leads to (inv 7)", at, r.Key)
		}
		return
	}
	asked[id] = true
	q := request{kind: typeRelease}
	switch {
	case !q.value(r.Value), q.space != f.ref[0], q.byKey && q.key != f.ref[1], !q.byKey && q.name != f.ref[1], q.owner != f.owner, q.expectedVersion == nil || *q.expectedVersion != f.version,
		q.actor != "", q.reason != "", !q.deadline.IsZero():
		j.broken(4, "the release at %s is %q, expected that of %s by %q at version %d (decision at %s)", at, r.Value, f.recordKey(), f.owner, f.version, f.from)
	case string(r.Key) != f.recordKey() || r.Partition != partitionOf(f.recordKey(), j.Partitions):
		j.broken(4, "the release at %s has the key %q, expected %s on its partition", at, r.Key, f.recordKey())
	}
}

// whole reports whether all that a partition of claims ever had is in the history.
func (j *judge) whole(p int32) bool {
	for _, l := range j.logs[p] {
		if l.Start > 0 || l.LogEpoch > 1 {
			return false
		}
	}
	return true
}

// question checks a record of claims that may be a sweeper's: it does not ask before the time, by the clock that is on it.
func (j *judge) question(r *Record) {
	id, _ := r.header("ce_id")
	kind, _ := r.header("ce_type")
	q := request{kind: typeExpiry}
	if kind != "dibs."+typeExpiry+".v1" || !q.value(r.Value) || id != expiryID(q.claimID, q.expiresAt) || !signed(r, j.Secrets) {
		return
	}
	if r.Time.Before(q.expiresAt) {
		j.broken(5, "dibs asks at %s whether claim %s is over, %s before it is", place{r.Partition, r.epoch(), r.Offset}, q.claimID, q.expiresAt.Sub(r.Time))
	}
}

// cut reports whether some partition has lost a log: what was decided there may be gone, and what it led to is not.
func (j *judge) cut() bool {
	for _, row := range j.progress {
		if row.LogEpoch > 1 || row.Halted != "" {
			return true
		}
	}
	return false
}

// explained looks for what became of a release. A claim may replace what never was anybody's: that may be no name by now.
func (j *judge) explained(id string, f *followUp, decided map[string]*Decision) {
	p := partitionOf(f.recordKey(), j.Partitions)
	if d := decided[id]; d != nil && d.Partition == p {
		o := d.Outcome
		if o.Type != "Released" && !strings.Contains(" not_owner version_conflict wrong_state blocked invalid_name ", " "+o.Reason+" ") {
			j.broken(3, "the release of %s at %s ended as %s %s: that explains nothing", f.recordKey(), d.place(), o.Type, o.Reason)
		}
		return
	}
	if row := j.progress[p]; row == nil || row.Halted == "" && !j.cut() {
		j.broken(5, "the release of %s that the decision at %s leads to was never decided", f.recordKey(), f.from)
	}
}
