package checker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// erasure is what a decision has wiped of the rows up to its own: those of the name that are the owner's, and what the owner
// withdrew before it came.
type erasure struct {
	at    place
	ref   [2]string
	owner string
	whole bool // rows of the name that are nobody's as well
	// loose: whether the row that has wiped it says an owner is not for the checker to know, and so not whether it has.
	loose bool
}

// unsaid reports whether an outcome may leave its owner out: see differ.
func unsaid(o *Outcome) bool {
	return o.Reason == "malformed" || o.Reason == "invalid_request" || o.Owner != "" && !printable(o.Owner)
}

func (p place) before(o place) bool {
	return p.epoch < o.epoch || p.epoch == o.epoch && p.offset <= o.offset
}

// covers reports whether a row, as it was before, is to be wiped.
func (e *erasure) covers(d *Decision) bool {
	if d.Partition != e.at.partition || !d.place().before(e.at) {
		return false
	}
	mine := func(owner string) bool { return owner == e.owner && owner != "" || owner == "" && e.whole }
	switch {
	case d.Kind == KindMark:
		return d.Owner == e.owner && e.owner != ""
	case d.Kind == KindPending:
		return e.ref == [2]string{spaceSignup, d.RequestID}
	case d.Sent != nil:
		return e.ref == [2]string{d.Sent.Space, d.Sent.Key} && mine(d.Sent.Owner) ||
			e.ref == [2]string{spaceSignup, d.Sent.Signup} && e.owner != "" && d.Sent.Owner == e.owner
	case d.Outcome != nil:
		return e.ref == [2]string{d.Outcome.Space, d.Outcome.Key} && (mine(d.Outcome.Owner) || d.Erased && e.whole && unsaid(d.Outcome))
	}
	return false
}

// wipes takes note of what a decision has wiped.
func (d *decision) wipes() {
	last := &d.rows[len(d.rows)-1]
	o := last.Outcome
	if o == nil {
		return
	}
	e := erasure{at: place{d.partition, d.q.record.epoch(), d.q.record.Offset}, ref: d.ref}
	switch {
	case o.Type == "Erased":
		e.owner, e.whole = d.q.owner, d.whole
	case d.looked && d.h.hidden() && o.Owner == "": // it says of an erased name that there is one
		e.whole = true
	case d.looked && d.h.hidden() && unsaid(o):
		e.whole, e.loose = true, true
	default:
		return
	}
	d.erasures[d.ref] = append(d.erasures[d.ref], e)
	if e.owner != "" {
		d.owners[e.owner] = append(d.owners[e.owner], e)
	}
}

// hidden reports whether not even the key of a name is kept.
func (h *holding) hidden() bool { return h.state == "free" && h.erased }

// erased is the form that is kept of what is erased: an HMAC-SHA-256 of the parts, each behind its length.
func (h *History) erased(parts ...string) string {
	m := hmac.New(sha256.New, h.ErasureSecret)
	for _, part := range parts {
		m.Write(append(binary.AppendUvarint(nil, uint64(len(part))), part...))
	}
	return "erased " + hex.EncodeToString(m.Sum(nil))
}

// wiped is what is left of a row.
func (h *History) wiped(d Decision) Decision {
	switch {
	case d.Kind == KindMark:
		d.Owner, d.Principal = h.erased("owner", d.Owner), ""
	case d.Kind == KindPending:
		d.Principal = ""
	case d.Sent != nil:
		s := *d.Sent
		s.Name, s.Owner, s.Key = "", "", h.erased("key", s.Space, s.Key)
		d.Sent, d.Principal = &s, ""
	case d.Outcome != nil:
		o := h.wipedOutcome(*d.Outcome)
		if d.FollowKey != "" {
			d.FollowKey = h.erased("key", o.Space, d.FollowKey)
		}
		if d.Outcome = &o; o.Type != "Erased" { // who had it erased, and why, stays
			d.Principal, d.Actor, d.Why = "", "", ""
		}
	}
	return d
}

func (h *History) wipedOutcome(o Outcome) Outcome {
	o.Name, o.Owner, o.Key = "", "", h.erased("key", o.Space, o.Key)
	return o
}

// restore makes a wiped row what it was, when it is what is left of what the log says: so all else is judged as if nothing had
// been wiped.
func (j *judge) restore(want, is *Decision) {
	was := *want
	if is.Outcome != nil && was.Outcome != nil {
		o := *was.Outcome
		o.RequestHash = is.Outcome.RequestHash
		was.Outcome = &o
		j.wipedAt[o.output()] = true
	}
	was.Partition, was.LogEpoch, was.Offset, was.Erased = is.Partition, is.LogEpoch, is.Offset, true
	*is = was
}

// erasures: a row is wiped if somebody has asked for it, and then all are.
func (j *judge) erasures() {
	asked := func(d *Decision, strictly bool) bool {
		covers := func(e erasure) bool { return (!strictly || !e.loose) && e.covers(d) }
		y := j.replays[d.Partition]
		switch {
		case y == nil:
			return false
		case d.Kind == KindMark:
			return slices.ContainsFunc(y.owners[d.Owner], covers)
		case d.Kind == KindPending:
			return slices.ContainsFunc(y.erasures[[2]string{spaceSignup, d.RequestID}], covers)
		case d.Sent != nil:
			return slices.ContainsFunc(y.erasures[[2]string{d.Sent.Space, d.Sent.Key}], covers) ||
				slices.ContainsFunc(y.erasures[[2]string{spaceSignup, d.Sent.Signup}], covers)
		case d.Outcome != nil:
			return slices.ContainsFunc(y.erasures[[2]string{d.Outcome.Space, d.Outcome.Key}], covers)
		}
		return false
	}
	for i := range j.Decisions {
		d := &j.Decisions[i]
		switch {
		case d.Kind == KindForwarded || d.Kind == KindDead:
		case d.Erased && !j.below(d.place()) && !asked(d, false):
			j.broken(3, "the row %d at %s (%s, request %s) is wiped, and nobody has asked for that", d.Seq, d.place(), d.Kind, d.RequestID)
		case !d.Erased && !j.Running && len(j.ErasureSecret) > 0 && asked(d, true):
			j.broken(3, "the row %d at %s (%s, request %s) was to be wiped, and is not", d.Seq, d.place(), d.Kind, d.RequestID)
		}
	}
	for _, x := range j.rawWiped {
		if !j.erasedIn(x.request.record) {
			r := x.request.record
			j.broken(3, "the record at %d-%d-%d (%q: %.300q) is wiped where it is kept, and says nothing of anybody who was erased", r.Partition, r.epoch(), r.Offset, r.Key, r.Value)
		}
	}
}

// below reports whether retention has taken the record of a row.
func (j *judge) below(at place) bool {
	for _, l := range j.logs[at.partition] {
		if l.LogEpoch == at.epoch {
			return at.offset < l.Start
		}
	}
	return true
}

// erasedIn reports whether a record says anything of an owner who was erased anywhere; or what cannot be read, of a name.
func (j *judge) erasedIn(r *Record) bool {
	principal, _ := r.header("ce_dibsprincipal")
	var value any
	_ = json.Unmarshal(r.Value, &value) // what cannot be read says what its bytes say
	for _, y := range j.replays {
		for owner := range y.owners {
			if principal == owner || strings.Contains(string(r.Value), owner) || says(value, owner) {
				return true
			}
		}
		for ref, all := range y.erasures {
			about := &Outcome{Space: ref[0], Key: ref[1]} // of a record whose name cannot be read there is its key
			if string(r.Key) == about.recordKey() && slices.ContainsFunc(all, func(e erasure) bool { return e.whole }) {
				return true
			}
		}
	}
	return false
}

// says reports whether a value of JSON has a text in it, however that is written there.
func says(value any, text string) bool {
	switch v := value.(type) {
	case string:
		return v == text
	case []any:
		return slices.ContainsFunc(v, func(one any) bool { return says(one, text) })
	case map[string]any:
		for _, one := range v {
			if says(one, text) {
				return true
			}
		}
	}
	return false
}

// sameWiped reports whether a record of registrations says what is left of an outcome whose row is wiped, or what it was.
func (j *judge) sameWiped(want, is Outcome) bool {
	return j.wipedAt[want.output()] && (j.wipedOutcome(want) == is || differ(want, is) == "")
}
