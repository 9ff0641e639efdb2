package checker

import (
	"strings"
	"time"
)

// judge decides, in the order of the design, section 2, what section 3 says.
func (d *decision) judge() {
	q := d.q
	switch {
	case q.malformed:
		d.reject("malformed")
		return
	case d.unsigned(q):
		if d.p.Version = d.laws.policies[q.space].Version; q.ofSignup() && q.nameOK {
			d.p = lawOfSignups
		}
		d.reject("not_allowed")
		return
	}
	known := false
	if d.p, known = d.laws.policies[q.space]; q.ofSignup() && q.nameOK {
		d.p, known = lawOfSignups, true
	}
	if !known && (q.kind != typeErase || !q.nameOK) {
		d.reject("unknown_space")
		return
	}
	switch {
	case !q.deadline.IsZero() && d.logTime.After(q.deadline):
		d.reject("deadline_passed")
		return
	case q.kind == typeClaim && d.marks[[2]string{q.id, q.owner}]:
		d.reject("withdrawn")
		return
	}
	d.looked = true
	if q.ofSignup() {
		d.signup()
		return
	}
	switch {
	case d.noName():
		d.reject("invalid_name")
		return
	case q.kind == typeExpiry:
		d.question()
		return
	}
	d.expire()
	switch {
	case q.invalid(&d.laws):
		d.reject("invalid_request")
	case q.signup != "" && string(q.record.Key) != q.recordKey():
		d.reject("invalid_name")
	case q.kind == typeClaim && d.p.isReserved(&d.laws, q.key):
		d.reject("reserved_word")
	case q.kind == typeWithdraw && d.early():
	case d.h.state == "blocked" && q.kind != typeBlock && q.kind != typeUnblock && q.kind != typeErase:
		d.reject("blocked")
	default:
		d.act()
	}
}

// noName reports whether the name is none. One that was held once is, although nobody may claim it any more.
func (d *decision) noName() bool {
	return !d.q.nameOK || d.q.outgrown && (d.h.version == 0 || d.alike() || d.spells())
}

// spells reports whether the request says how a name is written that nobody has: of names that look alike it may be
// another one than it was.
func (d *decision) spells() bool {
	return d.q.kind == typeReactivate && !d.h.held() && d.p.Unicode != "" && !strings.Contains(d.p.Unicode, `"confusables":"allowed"`)
}

// alike reports whether another name is held that only looks like the one that is asked about. What dibs asks itself is
// about the key.
func (d *decision) alike() bool {
	if !d.h.held() || d.q.id[14] == '8' && d.q.kind != typeClaim {
		return false
	}
	form, ok := d.laws.form(d.ref[0], d.h.name)
	return ok && form.Canonical != d.q.canonical
}

// other answers about a name that nobody has, beside one that looks like it.
func (d *decision) other() {
	q := d.q
	switch q.kind {
	case typeConfirm, typeExtend, typeWithdraw:
		if q.claimID != d.h.claimID && d.lapsed() {
			d.reject("reservation_expired")
			return
		}
		d.reject("unknown_claim")
	default:
		if q.privileged() {
			d.reject("confusable")
			return
		}
		d.reject("not_owner")
	}
}

// due reports whether what holds the name for a while is over.
func (d *decision) due() bool {
	return (d.h.state == "reserved" || d.h.state == "cooling") && !d.promised() && !d.logTime.Before(d.h.expires)
}

// expire frees a name whose time is over.
func (d *decision) expire() {
	if d.due() {
		d.over(KindFact)
	}
}

func (d *decision) over(kind string) {
	if d.h.state == "cooling" {
		d.h.owner = d.h.previous
	}
	d.h.previous = ""
	by := d.h.policyVersion
	d.free(kind, "Expired")
	d.h.policyVersion = by // time has ended it, and no policy
}

// question answers an ExpiryDue.
func (d *decision) question() {
	q := d.q
	if d.ask() {
		return
	}
	if d.due() && d.h.claimID == q.claimID {
		d.over(KindOutcome)
		return
	}
	d.expire()
	d.row(KindOutcome, unpublished).ClaimID = q.claimID
}

// early leaves a mark where a claim is withdrawn that was not seen yet.
func (d *decision) early() bool {
	q := d.q
	if _, came := d.seen[q.claimID]; came {
		return false
	}
	if mark := [2]string{q.claimID, q.owner}; !d.marks[mark] {
		d.marks[mark] = true
		d.rows = append(d.rows, Decision{Kind: KindMark, RequestID: q.claimID, Owner: q.owner})
	}
	o := d.row(KindOutcome, "Withdrawn")
	o.ClaimID, o.Name, o.Owner = q.claimID, q.told(), q.owner
	return true
}

func (d *decision) act() {
	if d.q.kind != typeClaim && d.alike() {
		d.other()
		return
	}
	switch d.q.kind {
	case typeClaim:
		d.claim()
	case typeConfirm, typeExtend, typeWithdraw:
		d.ofClaim()
	case typeRelease:
		d.release()
	case typeDeactivate:
		d.deactivate()
	case typeReactivate:
		d.reactivate()
	case typeTransfer:
		d.transfer()
	case typeBlock:
		if d.promised() {
			d.reject("wrong_state")
			return
		}
		if d.h.held() {
			d.free(KindFact, "Released")
		}
		d.h = holding{version: d.h.version}
		d.change(KindOutcome, "Blocked", "blocked")
	case typeErase:
		if d.promised() && d.h.owner == d.q.owner {
			d.reject("wrong_state")
			return
		}
		d.erase()
	case typeUnblock:
		if d.h.state != "blocked" {
			d.reject("wrong_state")
			return
		}
		d.change(KindOutcome, "Unblocked", "free")
	}
}

// conflict rejects a request that expects another version: 0 is never held, or free.
func (d *decision) conflict() bool {
	want := d.q.expectedVersion
	if want == nil || *want == d.h.version || *want == 0 && !d.h.held() {
		return false
	}
	d.reject("version_conflict")
	return true
}

func (d *decision) claim() {
	q, p := d.q, &d.p
	old, again := "", false
	if q.replaces != nil {
		form, _ := d.laws.form(q.space, q.replaces.asked())
		old, again = form.Key, form.Canonical == q.canonical
	}
	alike := d.alike()
	mine := d.h.state == "registered" && d.h.owner == q.owner && !alike
	returns := p.PreviousMayReturn && d.h.previous == q.owner
	switch {
	case d.conflict():
	case d.h.state == "cooling" && !returns:
		d.reject("cooling_down")
	case mine && old == q.key && again: // it is spelt anew
		if q.replaces.version != d.h.version {
			d.reject("version_conflict")
			return
		}
		d.h.name, d.h.settled = q.name, true
		d.change(KindOutcome, "Accepted", "registered")
	case mine && q.onConflict == "return_existing":
		o := d.row(KindOutcome, "Accepted")
		o.ClaimID, o.Name, o.Owner, o.State, o.Version = d.h.claimID, d.h.name, d.h.owner, "registered", d.h.version
	case alike:
		d.reject("confusable")
	case d.h.held():
		d.reject("taken")
	default:
		d.hold(q.owner, q.name)
		if old != "" && old != q.key {
			d.h.replaces, d.h.replacesVersion = old, q.replaces.version
		}
		if q.signup != "" {
			d.h.signup, d.h.expires = q.signup, d.logTime.Add(d.promiseFor())
			d.change(KindOutcome, "Accepted", "reserved")
			return
		}
		if q.mode == "reserve" {
			ttl := p.TTL
			if q.ttl != nil {
				ttl = time.Duration(*q.ttl) * time.Second
			}
			d.h.expires = d.logTime.Add(ttl)
			d.change(KindOutcome, "Accepted", "reserved")
			return
		}
		d.change(KindOutcome, "Accepted", "registered")
		d.follow()
	}
}

// follow makes the last row lead to the release of the name that is replaced.
func (d *decision) follow() {
	if d.h.replaces == "" {
		return
	}
	row := &d.rows[len(d.rows)-1]
	row.FollowKey, row.FollowVersion = d.h.replaces, d.h.replacesVersion
	d.h.replaces, d.h.replacesVersion, d.h.settled = "", 0, true
}

// ofClaim decides what is asked about a claim.
func (d *decision) ofClaim() {
	q := d.q
	switch {
	case !d.h.held() || d.h.claimID != q.claimID:
		if d.lapsed() {
			d.reject("reservation_expired")
		} else {
			d.reject("unknown_claim")
		}
	case d.h.owner != q.owner:
		d.reject("not_owner")
	case d.promised() && (q.kind == typeExtend || q.id[14] != '8'):
		d.reject("wrong_state")
	case q.kind == typeConfirm && d.h.state == "reserved":
		d.h.settled, d.h.signup = d.promised(), ""
		d.h.expires = time.Time{}
		d.change(KindOutcome, "Confirmed", "registered")
		d.follow()
	case q.kind == typeConfirm && d.h.state == "registered":
		o := d.row(KindOutcome, "Confirmed")
		o.ClaimID, o.Name, o.Owner, o.State, o.Version = d.h.claimID, d.h.name, d.h.owner, "registered", d.h.version
	case q.kind == typeExtend && d.h.state == "reserved":
		d.extend()
	case q.kind == typeWithdraw && (d.h.state == "reserved" || d.h.state == "registered" && !d.h.settled):
		d.free(KindOutcome, "Withdrawn")
	default:
		d.reject("wrong_state")
	}
}

// lapsed reports whether the claim that is named was accepted once, and expired: by its decision, whatever became of it
// before. The reservation that expired at this very record counts however it was extended.
func (d *decision) lapsed() bool {
	for i := range d.rows {
		if o := d.rows[i].Outcome; o != nil && o.Type == "Expired" && o.ClaimID == d.q.claimID && o.Name != "" {
			return true
		}
	}
	o := d.seen[d.q.claimID].outcome
	return o != nil && o.Type == "Accepted" && o.State == "reserved" && o.Space == d.ref[0] && o.Key == d.ref[1] && !d.logTime.Before(o.ExpiresAt)
}

// extend moves the expiry of a reservation, up to the space's longest; never back.
func (d *decision) extend() {
	until, most := d.logTime.Add(time.Duration(*d.q.ttl)*time.Second), d.h.claimed.Add(d.p.LongestTTL)
	if until.After(most) {
		if until = most; !until.After(d.h.expires) {
			d.reject("limit_exceeded")
			return
		}
	}
	if until.After(d.h.expires) {
		d.h.expires = until
	}
	d.change(KindOutcome, "Extended", "reserved")
}

// byOwner rejects what is asked by another than who has the name.
func (d *decision) byOwner() bool {
	if d.h.held() && d.h.owner == d.q.owner || d.h.state == "cooling" && d.h.previous == d.q.owner {
		return true
	}
	d.reject("not_owner")
	return false
}

func (d *decision) release() {
	q := d.q
	if q.actor == "" && !d.byOwner() || d.conflict() {
		return
	}
	if !d.h.held() || d.promised() || q.actor == "" && d.h.state == "inactive" {
		d.reject("wrong_state")
		return
	}
	if d.p.CoolDown == 0 || d.h.state == "reserved" {
		d.free(KindOutcome, "Released")
		return
	}
	d.h.expires = d.logTime.Add(d.p.CoolDown)
	d.h.previous = d.h.owner
	d.change(KindOutcome, "Released", "cooling")
	d.leave()
}

func (d *decision) deactivate() {
	switch {
	case !d.byOwner(), d.conflict():
	case d.h.state != "registered":
		d.reject("wrong_state")
	case d.p.UniqueAmong == "active":
		d.h.previous = d.h.owner
		d.free(KindOutcome, "Deactivated")
	default:
		d.change(KindOutcome, "Deactivated", "inactive")
	}
}

func (d *decision) reactivate() {
	q := d.q
	switch {
	case d.h.state == "free" && d.h.previous == q.owner:
	case d.h.held() && d.h.owner != q.owner && d.p.UniqueAmong == "active": // taken meanwhile, as it can be there
		if !d.conflict() {
			d.reject("taken")
		}
		return
	case !d.byOwner():
		return
	}
	switch {
	case d.conflict():
	case d.h.state == "inactive":
		d.hold(q.owner, d.h.name)
		d.h.settled = true
		d.change(KindOutcome, "Reactivated", "registered")
	case d.h.state == "free":
		d.hold(q.owner, q.name)
		d.h.settled = true
		d.change(KindOutcome, "Reactivated", "registered")
	default:
		d.reject("wrong_state")
	}
}

func (d *decision) transfer() {
	q := d.q
	if q.actor == "" && !d.byOwner() || d.conflict() {
		return
	}
	if !d.h.held() || d.promised() || q.actor == "" && d.h.state != "registered" || d.h.owner == q.newOwner {
		d.reject("wrong_state")
		return
	}
	d.hold(q.newOwner, d.h.name)
	d.h.settled = true
	d.change(KindOutcome, "Transferred", "registered")
}
