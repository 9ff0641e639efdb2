package checker

import "time"

// erase forgets whose a name was; of a name that is not the owner's it changes nothing. Either way the outcome says nobody's
// name.
func (d *decision) erase() {
	q := d.q
	d.whole = true
	switch h := &d.h; {
	case h.held() && h.owner == q.owner:
		state := "free"
		h.name, h.owner = "", ""
		if d.p.CoolDown > 0 && h.state != "reserved" {
			state, h.expires = "cooling", d.logTime.Add(d.p.CoolDown)
		}
		d.wipe(state)
	case h.state == "cooling" && h.previous == q.owner:
		d.wipe("cooling")
	case h.state == "free" && (h.previous == "" || h.previous == q.owner):
		if h.erased && h.previous == "" {
			o := d.row(KindOutcome, "Erased")
			o.State, o.Version = "free", h.version
			return
		}
		d.wipe("free")
	default:
		d.whole = h.version == 0 || h.state == "cooling" && h.erased
		d.row(KindOutcome, "Erased")
	}
}

func (d *decision) wipe(state string) {
	if state == "free" {
		d.h.expires = time.Time{}
	}
	d.change(KindOutcome, "Erased", state)
	d.leave()
	d.h.previous, d.h.erased = "", true
}
