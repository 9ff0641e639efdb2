package processor_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// judge compares a world, at its end, with what the reference makes of its logs, and checks the promises of the design,
// section 10, on what was recorded, published and told.
type judge struct {
	*world
	references []*reference // by partition
	expected   map[output]*published
	followUps  []want
	sent       []want
	asked      []want // outcomes of readable requests, with their bodies
}

// output names an outcome or a fact of one record.
type output struct {
	position
	what string
	fact bool
}

// published is an output that must be on registrations, and its copies there.
type published struct {
	want   want
	owed   int
	copies int
	bytes  string
}

func (w *world) judge() {
	j := &judge{world: w, expected: make(map[output]*published)}
	for p := range w.claims {
		j.partition(int32(p))
	}
	j.inForce()
	j.holdings()
	for p := range w.claims {
		j.fold(int32(p))
	}
	j.registrations()
	j.renames()
	j.signups()
	j.withdrawals()
	j.told()
}

// segment is the part of one log of a partition that is decided.
type segment struct {
	epoch    int64
	records  []processor.Message
	from, to int64
}

func (w *world) decidedLogs(p int32) []segment {
	row, _ := w.db.mem.Standing(p)
	var all []segment
	for _, old := range w.past {
		if old.partition != p {
			continue
		}
		next := old.next
		if next < 0 { // nobody has accepted the gap
			next = row.NextOffset
		}
		all = append(all, segment{old.epoch, old.records, 0, next})
	}
	if t := w.claims[p]; t.epoch == row.LogEpoch {
		start := t.start
		if t.epoch == 1 {
			start = 0 // retention takes nothing from the judge
		}
		all = append(all, segment{t.epoch, t.records, start, row.NextOffset})
	}
	return all
}

// partition replays a partition's logs and compares what each record left.
func (j *judge) partition(p int32) {
	y := newReference(simRules, p)
	y.unstorable = unstorableRecord
	j.references = append(j.references, y)
	left := make(map[position][]processor.Row)
	for _, row := range j.db.mem.Rows(p) {
		at := position{p, row.LogEpoch, row.Offset}
		left[at] = append(left[at], row.Row)
	}
	for _, s := range j.decidedLogs(p) {
		y.epoch = s.epoch
		for _, m := range s.records {
			if m.Offset < s.from || m.Offset >= s.to {
				continue
			}
			at := position{p, s.epoch, m.Offset}
			rows := left[at]
			delete(left, at)
			wants := y.next(m)
			for i := range wants {
				if i >= len(rows) {
					j.violated("promise 5: %v left %d rows, expected %d: %s", at, len(rows), len(wants), wants[i].text())
					break
				}
				if diff := wants[i].differs(&rows[i], p); diff != "" {
					j.violated("inv 4: row %d of %v (%s) is not what the log says: %s", i, at, wants[i].text(), diff)
				}
				j.expect(at, wants[i])
			}
			if len(rows) > len(wants) {
				j.violated("promise 3: %v left %d rows, expected %d", at, len(rows), len(wants))
			}
		}
	}
	for at := range left {
		j.violated("inv 3: there are rows of %v, and no record there that is decided", at)
	}
}

// inForce: the rows say what holds, and every policy that ever did is kept.
func (j *judge) inForce() {
	kept := j.db.mem.Policies()
	for p, y := range j.references {
		row, _ := j.db.mem.Standing(int32(p))
		if f := row.InForce; (f == nil) != (len(y.active) == 0) {
			j.violated("policies: partition %d has %v in force; the log has activated %d", p, f, len(y.active))
		} else if f != nil {
			last := y.active[len(y.active)-1]
			should := processor.InForce{Policies: make(names.Policies), Rules: last.Rules, Keys: last.Keys, SignedOnly: last.SignedOnly}
			for _, a := range y.active {
				should.Policies[a.Space], should.Rules = a.Policy, max(should.Rules, a.Rules)
			}
			if !f.Equal(&should) {
				j.violated("policies: partition %d has in force\n%s; the log says\n%s", p, f.JSON(), should.JSON())
			}
		}
		for _, a := range y.active {
			if kept[memory.Policy{Space: a.Space, Version: a.Version}] != string(a.Policy.AppendJSON(nil)) {
				j.violated("policies: version %d of %s was active, and is not kept", a.Version, a.Space)
			}
		}
	}
}

// expect notes what a row has to publish, and to lead to.
func (j *judge) expect(at position, x want) {
	j.sometimes(strings.TrimSpace("decided " + string(x.kind) + " " + kindOf(x.asked) + " " + x.kindOf + " " + x.reason))
	if asksToErase(x.asked) && x.kind == processor.KindOutcome && x.ref.Space == claims.Signup {
		j.sometimes("erasure of a sign-up: " + strings.TrimSpace(x.kindOf+" "+x.reason+" "+x.state))
	}
	if c, ok := x.asked.(*claims.UsernameClaimed); ok && c.Replaces != nil && c.OnConflict != "" && x.kind == processor.KindOutcome {
		j.sometimes("a rename or what exists: " + strings.TrimSpace(x.kindOf+" "+x.reason))
	}
	switch x.kind {
	case processor.KindOutcome, processor.KindFact:
		if registrations.Type(x.kindOf).Published() {
			j.expected[output{at, x.kindOf, x.kind == processor.KindFact}] = &published{want: x, owed: 1}
		}
		if x.follow != nil {
			j.followUps = append(j.followUps, x)
		}
		if x.kind == processor.KindOutcome && x.asked != nil {
			j.asked = append(j.asked, x)
		}
	case processor.KindSent:
		j.sent = append(j.sent, x)
	case processor.KindDuplicate:
		if e := j.expected[output{position{at.partition, x.of.epoch, x.of.offset}, x.of.kindOf, false}]; e != nil {
			e.owed++
		}
	}
}

func kindOf(body claims.Body) string {
	if body == nil {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(body.Type(), "dibs."), ".v1")
}

func (x *want) text() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s of %s", x.kind, kindOf(x.asked), x.kindOf, x.reason, x.request))
}

// differs says in what a row is not what it should be.
func (x *want) differs(row *processor.Row, p int32) string {
	var all []string
	differ := func(what string, is, should any) {
		if is != should {
			all = append(all, fmt.Sprintf("%s is %v, expected %v", what, is, should))
		}
	}
	differ("kind", row.Kind, x.kind)
	if row.Kind != x.kind || x.kind == processor.KindDead || x.kind == processor.KindForwarded {
		return strings.Join(all, "; ")
	}
	differ("request", row.RequestID, x.request)
	differ("principal", row.Principal, x.principal)
	o := &row.Outcome
	switch x.kind {
	case processor.KindSent:
		differ("seq", row.Seq, x.seq)
		is := *row.Sent
		is.Detail = ""
		differ("what is sent", is, *x.sent)
		return strings.Join(all, "; ")
	case processor.KindDuplicate, processor.KindPolicy, processor.KindPending:
		return strings.Join(all, "; ")
	case processor.KindMark:
		differ("owner", o.Owner, x.owner)
		return strings.Join(all, "; ")
	}
	differ("seq", row.Seq, x.seq)
	differ("seq of the outcome", o.Seq, x.seq)
	differ("fact", o.Fact, x.kind == processor.KindFact)
	differ("type", string(o.Type), x.kindOf)
	differ("reason", string(o.Reason), x.reason)
	differ("state", string(o.State), x.state)
	differ("name", o.Ref, x.ref)
	differ("policy version", o.PolicyVersion, x.policy)
	differ("version", o.Version, x.version)
	differ("current version", o.CurrentVersion, x.found)
	differ("log time", o.LogTime.UnixMilli(), x.logTime.UnixMilli())
	differ("position", position{o.Partition, o.LogEpoch, o.Offset}, position{p, x.epoch, x.offset})
	differ("expiry", o.ExpiresAt.UnixMilli(), x.expires.UnixMilli())
	if !x.anyOwner {
		differ("owner", o.Owner, x.owner)
	} else if o.Owner != "" {
		differ("owner", o.Owner, x.owner) // never another holder's
	}
	if x.hash != nil {
		differ("hash", o.RequestHash, *x.hash)
	}
	if x.kindOf == "Accepted" {
		differ("claim", o.ClaimID, x.claim)
	}
	if actor, ok := field(x.asked, "Actor").(string); ok && x.reason == "" && x.kind == processor.KindOutcome {
		differ("actor", row.Actor, actor)
		differ("why", row.Why, field(x.asked, "Reason"))
	}
	switch {
	case (row.FollowUp == nil) != (x.follow == nil):
		differ("follow-up", row.FollowUp != nil, x.follow != nil)
	case x.follow != nil:
		differ("follow-up", *row.FollowUp, *x.follow)
	}
	return strings.Join(all, "; ")
}

// holdings: the table is the fold of the log.
func (j *judge) holdings() {
	is := j.db.mem.Names()
	for p, y := range j.references {
		for ref, n := range y.names {
			if n.version == 0 {
				continue
			}
			h, ok := is[ref]
			delete(is, ref)
			got := life{
				state: string(h.State), name: h.Name, owner: h.Owner, claim: h.ClaimID, version: h.Version, until: h.ExpiresAt,
				previous: h.Previous, replaces: h.Replaces, replacesVersion: h.ReplacesVersion, settled: h.Settled, erased: h.Erased,
				signup: h.Signup, ballot: h.Ballot,
			}
			if got.state == "free" {
				got.state = ""
			}
			should := *n
			if got.until.Equal(should.until) {
				got.until = should.until
			}
			if !ok || got != should || h.Partition != int32(p) {
				j.violated("promise 1: %s is %+v on partition %d; the log says %+v on %d", ref, got, h.Partition, should, p)
			}
		}
	}
	for ref, h := range is {
		j.violated("promise 1: %s has a row, version %d, and the log does not know of it", ref, h.Version)
	}
}

// fold looks at the rows alone: one holder, versions one by one, nothing after its time, one outcome of each request.
func (j *judge) fold(p int32) {
	rows := j.db.mem.Rows(p)
	slices.SortStableFunc(rows, func(a, b memory.Row) int {
		return cmp.Or(cmp.Compare(a.LogEpoch, b.LogEpoch), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Seq, b.Seq))
	})
	decided := make(map[uuid.UUID]bool)
	last := make(map[names.Ref]registrations.Outcome)
	promised := make(map[uuid.UUID]bool) // claims of sign-ups, which no clock ends
	for _, row := range rows {
		o := row.Outcome
		if row.Kind == processor.KindSent && row.Sent.Yes() {
			promised[row.Sent.Claim] = true
		}
		if row.Kind == processor.KindOutcome {
			if decided[row.RequestID] {
				j.violated("promise 3: request %s is decided twice in partition %d", row.RequestID, p)
			}
			decided[row.RequestID] = true
		}
		if row.Kind != processor.KindOutcome && row.Kind != processor.KindFact || o.State == "" {
			continue
		}
		was, known := last[o.Ref]
		held := known && heldState(was.State)
		timed := was.State == registrations.Cooling || was.State == registrations.Reserved && !promised[was.ClaimID] && o.Ref.Space != claims.Signup
		switch {
		case o.Version == was.Version && known && o.State == was.State && o.Owner == was.Owner &&
			(o.Type == registrations.Confirmed || o.Type == registrations.Accepted),
			o.Version == was.Version && o.State == was.State && o.Type == registrations.Erased && !held:
			continue // said again
		case o.Version != was.Version+1:
			j.violated("promise 1: %s goes from version %d to %d (%s)", o.Ref, was.Version, o.Version, o.Type)
		case held && heldState(o.State) && o.Owner != was.Owner && o.Type != registrations.Transferred:
			j.violated("promise 1: %s is %s for %s while %s holds it", o.Ref, o.Type, o.Owner, was.Owner)
		case timed && o.Type != registrations.Expired && !o.LogTime.Before(was.ExpiresAt):
			j.violated("inv 12: %s at %s, when the %s name %s was over since %s", o.Type, o.LogTime, was.State, o.Ref, was.ExpiresAt)
		case o.Type == registrations.Expired && (!timed || o.LogTime.Before(was.ExpiresAt)):
			j.violated("inv 12: %s expires at %s; it was %s until %s", o.Ref, o.LogTime, was.State, was.ExpiresAt)
		}
		last[o.Ref] = o
	}
}

func heldState(s registrations.State) bool {
	return s == registrations.Registered || s == registrations.Reserved || s == registrations.Inactive
}

// registrations: every outcome and fact is on the topic, as often as it was asked for, and nothing else is.
func (j *judge) registrations() {
	for p, records := range j.outputs.registrations {
		for _, r := range records {
			var t told
			if err := json.Unmarshal(r.Value, &t); err != nil {
				j.violated("promise 4: %q on registrations is no outcome", shortened(r.Value))
				continue
			}
			at := output{position{int32(p), t.LogEpoch, t.Offset}, t.Outcome, t.Cause != ""}
			e := j.expected[at]
			if e == nil {
				j.violated("promise 4: %s %s of %s%s at %v is on registrations, and no such thing was decided", t.Outcome, t.Reason, t.RequestID, t.Cause, at.position)
				continue
			}
			bytes := printOf(&processor.Output{Partition: int32(p), Record: r})
			if e.copies++; e.copies > 1 {
				if bytes != e.bytes {
					j.violated("promise 3: the copies of %s of %s differ", t.Outcome, t.RequestID)
				}
				continue
			}
			e.bytes = bytes
			x := &e.want
			if t.RequestID+t.Cause != x.request.String() || t.Reason != x.reason || t.Version != x.version || t.State != x.state ||
				t.CurrentVersion != x.found || string(r.Key) != x.ref.RecordKey() || !r.Time.Equal(x.logTime) {
				j.violated("promise 4: %s is published as %s", x.text(), r.Value)
			}
			if t.Reason != "" && t.Owner != "" && t.Owner != x.owner {
				j.violated("a rejection names somebody else: %s", r.Value)
			}
		}
	}
	for at, e := range j.expected {
		if row, _ := j.db.mem.Standing(at.partition); e.copies < e.owed && (row.Halted == "" || e.copies == 0) {
			j.violated("promise 4: %s at %v is owed %d times and was published %d times", e.want.text(), at.position, e.owed, e.copies)
		}
	}
}

// renames: what a claim replaced is given up, or one can see why not.
func (j *judge) renames() {
	for _, x := range j.followUps {
		f := x.follow
		id := claims.ReleaseID(f.Claim, x.ref)
		p := claims.Partition(f.Ref.RecordKey(), pinned)
		there := false
		for _, t := range j.logs(p) {
			for _, m := range t.records {
				q, err := claims.Read(m.Record)
				b, ok := q.Body.(*claims.ReleaseRequested)
				if err != nil || !ok || q.ID != id {
					continue
				}
				fits := simKeys.Signed(m.Record) && q.Principal == "dibs" && b.Owner == f.Owner && b.ExpectedVersion != nil && *b.ExpectedVersion == f.Version &&
					b.Space == f.Ref.Space && b.Spelling+string(b.Key) == string(f.Ref.Key)
				there = there || fits
				if !fits && simKeys.Signed(m.Record) {
					j.violated("rename: the follow-up of %s asks for %s version %v of %s", f.Claim, b.Owner, b.ExpectedVersion, b.Spelling)
				}
			}
		}
		if !there {
			j.violated("rename: claim %s is accepted, and %s is never released", f.Claim, f.Ref)
			continue
		}
		if len(j.past) > 0 {
			continue // with its log, the request was lost; or it is another one's
		}
		if row, _ := j.db.mem.Standing(p); row.Halted != "" {
			continue
		}
		switch s := j.references[p].said[id].want; s.kindOf {
		case "Released":
			j.sometimes("rename: the old name is released")
		case "Rejected":
			j.sometimes("rename: the old name stays, " + s.reason)
		default:
			j.violated("rename: the release of %s for claim %s has no outcome", f.Ref, f.Claim)
		}
	}
}

// logs are all that a partition has had.
func (w *world) logs(p int32) []*topicLog {
	all := []*topicLog{w.claims[p]}
	for _, old := range w.past {
		if old.partition == p {
			all = append(all, old.topicLog)
		}
	}
	return all
}

// withdrawals: a claim that was withdrawn holds nothing.
func (j *judge) withdrawals() {
	holders := make(map[uuid.UUID][]registrations.Holding)
	for ref, h := range j.db.mem.Names() {
		if h.Held() && ref.Space != claims.Signup {
			holders[h.ClaimID] = append(holders[h.ClaimID], h)
		}
	}
	for _, x := range j.asked {
		b, ok := x.asked.(*claims.WithdrawRequested)
		if !ok || x.kindOf != "Withdrawn" {
			continue
		}
		for _, h := range holders[b.ClaimID] {
			if h.Owner == b.Owner && h.Partition == claims.Partition(x.ref.RecordKey(), pinned) {
				j.violated("claim %s was withdrawn, and holds a name of %s", b.ClaimID, h.Owner)
			}
		}
	}
}

// told: whoever asked for an outcome was told the one that stands.
func (j *judge) told() {
	for _, a := range j.clients.answers {
		id, fits := uuid.MustParse(a.RequestID), false
		for _, y := range j.references {
			s, ok := y.said[id]
			x := &s.want
			fits = fits || ok && a.RecordKey == x.ref.RecordKey() && a.Outcome == x.kindOf && a.Reason == x.reason && a.Version == x.version
		}
		if !fits {
			j.violated("promise 3: a client was told %+v, and that was not decided", a)
		}
	}
}

// checkRename looks at the release of an old name at the moment of its commit: the new one must be decided by then, or
// there was a moment with neither. Only a fail-over that lost the decision can show that, until it is taken again.
func (d *database) checkRename(row *processor.Row) {
	if row.Kind != processor.KindOutcome || row.Outcome.Type != registrations.Released || row.RequestID.Version() != 8 {
		return
	}
	for p := range d.w.claims {
		for _, r := range d.mem.Rows(int32(p)) {
			if r.FollowUp != nil && claims.ReleaseID(r.FollowUp.Claim, r.Outcome.Ref) == row.RequestID {
				return
			}
		}
	}
	if d.server > 0 {
		d.w.sometimes("rename: after a fail-over the old name was free before the new one was decided again")
		return
	}
	d.w.violated("rename: %s is released, and the claim in its place is not decided", row.Outcome.Ref)
}

// What the sweeper may take: to find what is over, to have it decided; and how long it is watched when nothing is left.
const (
	sweptWithin = 2 * time.Second
	watched     = 6 * time.Second
)

// linger waits until every reservation and cool-down is over: nobody asks for those names, and yet they must be free in
// time. Then nothing more may be asked.
func (w *world) linger(last *process) {
	began, turns := w.now, 0
	w.lingering = true
	quiet := time.Duration(-1)
	asked := 0
	for {
		if turns++; turns > calmTurns || !w.run() {
			w.violated("liveness: the sweeper does not come to an end")
			return
		}
		waiting, stuck := false, false // stuck: it is asked for ever what a partition cannot say
		for ref, h := range w.db.mem.Names() {
			if row, _ := w.db.mem.Standing(h.Partition); h.State != registrations.Reserved && h.State != registrations.Cooling || row.Halted != "" {
				continue
			}
			if h.Signup != uuid.Nil {
				at, _ := w.db.mem.Standing(claims.Partition(claims.SignupRef(h.Signup).String(), pinned))
				waiting, stuck = waiting || at.Halted == "", stuck || at.Halted != ""
				continue // how long it is promised is for the sign-up to say
			}
			waiting = true
			over := h.ExpiresAt.Sub(epoch) - last.skew // by its clock
			if over < began {
				over = began + 5*time.Second // a question that was asked then may have been lost, and is not asked again at once
			}
			if at, refused := w.outputs.refusedAt[claims.ExpiryID(h.ClaimID, h.ExpiresAt).String()]; refused {
				over = max(over, at+5*time.Second)
			}
			if w.now > over+sweptWithin {
				w.violated("liveness: %s is %s until %s, and still so at %s", ref, h.State, h.ExpiresAt, w.clock())
				return
			}
		}
		switch {
		case waiting || w.undone(last) != "":
			quiet = -1
		case w.seed%4 != 0 || stuck:
			return
		case quiet < 0:
			quiet, asked = w.now, w.questions
		case w.questions != asked:
			w.violated("liveness: the sweeper asks, and nothing is due")
			return
		case w.now-quiet > watched:
			return
		}
	}
}

// checkQuestion looks at what a processor asks of its own accord, when it is published: it stands behind no row.
func (x *outputs) checkQuestion(o *processor.Output, proc *process) {
	w := x.w
	q, err := claims.Read(o.Record)
	b, ok := q.Body.(*claims.ExpiryDue)
	now := (*procClock)(proc).Now()
	switch {
	case err != nil || !ok || !simKeys.Signed(o.Record) || q.Principal != "dibs" || q.ID != claims.ExpiryID(b.ClaimID, b.ExpiresAt):
		w.violated("promise 4: published before its decision was committed: %s", o.Value)
		return
	case o.Time.Before(b.ExpiresAt):
		w.violated("sweeper: asks at %s whether what holds until %s is over", o.Time, b.ExpiresAt)
	case o.Time.After(now):
		w.violated("sweeper: stamps %s when its clock says %s", o.Time, now)
	}
	w.sometimes("the sweeper asks")
	if b.Key != "" {
		w.sometimes("asked: by a key that is no name")
	}
	if o.Time.Before(proc.started) {
		return // it was on its way when the process died
	}
	was, again := proc.questions[q.ID]
	if again && o.Time.After(was) && o.Time.Sub(was) < 5*time.Second {
		w.violated("sweeper: asks %s at %s and at %s", q.ID, was, o.Time)
	}
	proc.questions[q.ID] = o.Time
}
