package checker

// trust takes over a row whose record is gone. What a reservation replaces is in no row: that is read from the names.
func (y *replay) trust(d Decision) {
	o := d.Outcome
	if d.Kind == KindMark {
		y.marks[[2]string{d.RequestID, d.Owner}] = true
	}
	if o == nil {
		return
	}
	if o.LogTime.After(y.logTime) {
		y.logTime = o.LogTime
	}
	if d.Kind == KindOutcome {
		y.seen[o.RequestID] = seen{o.RequestHash, o}
	}
	ref := [2]string{o.Space, o.Key}
	h := y.held[ref]
	if o.State == "" || o.Version <= h.version {
		return
	}
	was := h
	h.state, h.version, h.policyVersion, h.since, h.expires = o.State, o.Version, o.PolicyVersion, o.LogTime, o.ExpiresAt
	switch o.Type {
	case "Accepted", "Transferred", "Reactivated":
		h.name, h.owner = o.Name, o.Owner
		h.settled = o.Type != "Accepted" || o.ClaimID == was.claimID || d.FollowKey != ""
		if o.ClaimID != was.claimID {
			h.claimed, h.previous = o.LogTime, ""
		}
		h.claimID, h.replaces, h.replacesVersion = o.ClaimID, "", 0
		if o.State == "reserved" {
			h.replaces, h.replacesVersion = y.history.replacedBy(o.ClaimID)
		}
	case "Confirmed":
		h.settled, h.replaces, h.replacesVersion = d.FollowKey != "", "", 0
	case "Extended":
	default:
		h = holding{state: o.State, claimID: h.claimID, version: o.Version, policyVersion: o.PolicyVersion, since: o.LogTime, expires: o.ExpiresAt, previous: h.previous}
		switch {
		case o.State == "cooling" || o.Type == "Deactivated" && o.State == "free":
			h.previous = o.Owner
		case o.Type == "Deactivated":
			h = was
			h.state, h.version, h.policyVersion, h.since = o.State, o.Version, o.PolicyVersion, o.LogTime
		case o.State == "blocked" || o.Type == "Unblocked":
			h.claimID, h.previous = "", ""
		case o.Type == "Expired":
			h.previous = ""
		}
	}
	y.held[ref] = h
}

// replacedBy is what names says that a reservation will give up.
func (h *History) replacedBy(claim string) (string, int64) {
	for i := range h.Names {
		if n := &h.Names[i]; n.ClaimID == claim {
			return n.Replaces, n.ReplacesVersion
		}
	}
	return "", 0
}
