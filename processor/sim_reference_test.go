package processor_test

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
)

// reference decides a partition again, from its log alone. It is a second reading of the design, sections 2 to 4: of the
// processor it uses nothing but the words for kinds of rows, and of the rest the codec, the canonical form and the hash,
// which have golden files. (Of plain claims there is a third reading: dibstest/checker.)
type reference struct {
	rules      processor.Rules
	partition  int32
	epoch      int64
	unstorable func(cloudevents.Record) bool

	// What holds by now, by what the log has said.
	policies   names.Policies
	keys       claims.Keys
	signedOnly bool
	second     bool                      // by the second rules, not the first
	active     []*claims.PolicyActivated // all that made a difference

	now     time.Time
	names   map[names.Ref]*life
	said    map[uuid.UUID]said
	marks   map[uuid.UUID][]string // owners who withdrew a claim before it came
	signups map[names.Ref]*signingUp
}

// life is a name as the reference knows it.
type life struct {
	state, name, owner string // state is empty for free
	claim              uuid.UUID
	version            int64
	until              time.Time
	previous           string
	replaces           names.Key
	replacesVersion    int64
	settled            bool
	erased             bool // whose it was last
	signup             uuid.UUID
	ballot             string
}

// said is what a request was told, and what tells it from another one with its id.
type said struct {
	print string
	want  want
}

// want is a row that a record should have left.
type want struct {
	kind           processor.Kind
	seq            int
	request        uuid.UUID
	principal      string
	kindOf         string // the outcome's type
	reason, state  string
	ref            names.Ref
	version, found int64 // found: the version that a conflict saw
	policy         int   // version of the space's
	owner          string
	anyOwner       bool // the design does not say whom it names
	expires        time.Time
	logTime        time.Time
	follow         *processor.FollowUp
	claim          uuid.UUID // of an acceptance or a mark
	hash           *claims.Hash
	offset         int64
	epoch          int64
	to             int32 // of what is forwarded
	record         cloudevents.Record
	asked          claims.Body
	of             *want // of a duplicate: what was said before
	sent           *processor.Sent
}

func newReference(rules processor.Rules, partition int32) *reference {
	return &reference{
		rules: rules, policies: maps.Clone(rules.Policies), keys: rules.Keys, partition: partition, epoch: 1, unstorable: func(cloudevents.Record) bool { return false },
		names: make(map[names.Ref]*life), said: make(map[uuid.UUID]said), marks: make(map[uuid.UUID][]string), signups: make(map[names.Ref]*signingUp),
	}
}

func (y *reference) policy(s names.Space) *names.Policy { return y.policies[s] }

// mustSign reports whether a request counts only with a signature.
func (y *reference) mustSign(body claims.Body) bool {
	return body != nil && (y.signedOnly || needsSignature(body))
}

// activate takes in what a PolicyActivated says: from here on it holds.
func (y *reference) activate(a *claims.PolicyActivated) {
	if p := y.policies[a.Space]; p != nil && a.Version <= p.Version {
		return
	}
	y.policies[a.Space], y.signedOnly = a.Policy, a.SignedOnly
	y.second = y.second || a.Rules >= 2
	y.keys = make(claims.Keys)
	for _, id := range a.Keys {
		y.keys[id] = y.rules.Keys[id]
	}
	y.active = append(y.active, a)
}

// next says which rows the next record of the log leaves.
func (y *reference) next(m processor.Message) []want {
	if m.Time.After(y.now) && m.Time.Year() <= 9999 {
		y.now = m.Time
	}
	row := want{kind: processor.KindDead, offset: m.Offset, epoch: y.epoch, record: m.Record, logTime: y.now}
	dead := []want{row}
	q, err := claims.Read(m.Record)
	row.request, row.principal, row.asked = q.ID, q.Principal, q.Body
	var unanswerable *claims.UnanswerableError
	if errors.As(err, &unanswerable) {
		return dead
	}
	signed := y.keys.Signed(m.Record)
	if q.ID.Version() == 8 && (!signed || q.Principal != "dibs") {
		return dead
	}

	if a, ok := q.Body.(*claims.PolicyActivated); ok {
		if y.unstorable(m.Record) {
			return dead
		}
		y.activate(a)
		row.kind = processor.KindPolicy
		return []want{row}
	}

	// Where it belongs: by its name, or by its own key. A name that could not be claimed now may be held all the same.
	var p *names.Policy
	key, named, allowed, spelling := names.Key(""), false, false, ""
	own := q.ID.Version() == 8
	if q.Body != nil && claims.KeyOf(q.Body) != "" && !own {
		space, _ := q.Body.Name()
		if p := y.policy(space); space == claims.Signup || p != nil && p.Private == nil {
			q.Body, row.asked = nil, nil // only dibs knows names by their keys
		}
	}
	if !ofSignup(q, own) {
		q.Body, row.asked = nil, nil
	}
	if ref, ok := signupOf(q.Body); ok {
		p, key, named, allowed = simSignups, ref.Key, true, true
		row.policy = p.Version
		_, spelling = q.Body.Name()
	} else if q.Body != nil {
		space, _ := q.Body.Name()
		if spelling = claims.Asked(q.Body); y.policy(space) == nil && own && asksToErase(q.Body) && claims.KeyOf(q.Body) != "" {
			p, key, allowed, named = &names.Policy{Space: space}, claims.KeyOf(q.Body), true, true // of a space that there never was
		} else if y.policy(space) != nil {
			p = y.policy(space)
			row.policy = p.Version
			asked := claims.KeyOf(q.Body)
			var fits bool
			_, isClaim := q.Body.(*claims.UsernameClaimed)
			switch {
			case asked != "" && own && !isClaim:
				key, fits, allowed = asked, true, true
			case p.Private != nil:
				form := privateKey.FindStringSubmatch(string(asked))
				if key, fits = asked, form != nil; fits {
					allowed = form[1] == strconv.Itoa(p.Private.Pepper)
				}
			default:
				_, err := p.Key(spelling)
				allowed = err == nil
				key, err = p.HeldKey(spelling)
				fits = err == nil
			}
			named = fits && (allowed || !isClaim)
		}
	}
	if named {
		row.ref = names.Ref{Space: p.Space, Key: key}
	} else {
		if n := len(m.Key); n == 0 || n > 512 || !utf8.Valid(m.Key) || strings.ContainsRune(string(m.Key), 0) {
			return dead
		}
		row.ref = names.ParseRef(string(m.Key))
	}
	if row.to = claims.Partition(row.ref.RecordKey(), y.rules.Partitions); row.to != y.partition {
		if !q.Rerouted && m.Size() <= 512<<10 {
			row.kind = processor.KindForwarded
		}
		return []want{row}
	}

	prints := y.prints(m, q, p, spelling)
	if before, ok := y.said[q.ID]; ok {
		if !slices.Contains(prints, before.print) || y.mustSign(q.Body) && !signed && before.want.reason != "not_allowed" {
			return dead
		}
		row.kind, row.kindOf, row.of = processor.KindDuplicate, before.want.kindOf, &before.want
		return []want{row}
	}
	if s := y.signups[row.ref]; s != nil && s.open && s.id == q.ID {
		if row.kind = processor.KindPending; q.Body == nil || claims.HashOf(q.Body, row.ref, q.Principal, y.policies) != s.hash || y.mustSign(q.Body) && !signed {
			return dead
		}
		return []want{row}
	}
	if y.unstorable(m.Record) {
		return dead
	}
	row.kind = processor.KindOutcome
	print := prints[0]
	if named {
		h := claims.HashOf(q.Body, row.ref, q.Principal, y.policies)
		row.hash = &h
		print = string(h[:])
	}
	if n := y.names[row.ref]; named && n != nil && n.version > 0 {
		_, back := q.Body.(*claims.ReactivateRequested)
		back = back && p.KeepsLookalikesApart() && n.state != "registered" && n.state != "reserved" && n.state != "inactive"
		allowed = allowed || !y.another(n, p, q) && !back
	}
	rows := y.answer(row, q, signed, p, named && allowed)
	if rows[len(rows)-1].kind == processor.KindPending {
		return rows
	}
	if c, ok := q.Body.(*claims.UsernameClaimed); ok && c.Signup != uuid.Nil {
		rows = y.votes(rows, c)
	}
	y.said[q.ID] = said{print, rows[len(rows)-1]}
	return rows
}

// answer decides a request. The rows are facts and marks, then the outcome.
func (y *reference) answer(row want, q claims.Request, signed bool, p *names.Policy, isName bool) []want {
	var before []want
	row.kindOf = "Rejected"
	row.owner = ownerOf(q.Body)
	row.anyOwner = true
	no := func(reason string) []want {
		row.reason, row.seq = reason, len(before)
		return append(before, row)
	}
	if q.Body == nil {
		return no("malformed")
	}
	until := q.Body.Until()
	claim, isClaim := q.Body.(*claims.UsernameClaimed)
	switch {
	case y.mustSign(q.Body) && !signed:
		return no("not_allowed")
	case p == nil:
		return no("unknown_space")
	case !until.IsZero() && y.now.After(until):
		return no("deadline_passed")
	case isClaim && slices.Contains(y.marks[q.ID], claim.Owner):
		return no("withdrawn")
	case p == simSignups:
		return y.signup(row, q, p)
	case !isName:
		return no("invalid_name")
	}

	n := y.names[row.ref]
	if n == nil {
		n = &life{}
		y.names[row.ref] = n
	}
	lastOwner := ""
	due, isDue := q.Body.(*claims.ExpiryDue)
	var ended, expired uuid.UUID // the claim that was over; of a reservation
	if (n.state == "reserved" || n.state == "cooling") && !y.now.Before(n.until) && n.signup == uuid.Nil {
		was := *n
		*n = life{version: was.version + 1, erased: was.erased}
		if ended, lastOwner = was.claim, was.owner+was.previous; was.state == "reserved" {
			expired = ended
		}
		if !isDue || due.ClaimID != ended {
			f := row
			f.kind, f.kindOf, f.state, f.version, f.asked = processor.KindFact, "Expired", "free", n.version, nil
			f.owner, f.anyOwner = lastOwner, false
			before = append(before, f)
		}
	}
	if q.Body.Validate() != nil {
		return no("invalid_request")
	}
	if isClaim {
		if !y.sensible(claim, p, row.ref) {
			return no("invalid_request")
		}
		if claim.Signup != uuid.Nil && string(row.record.Key) != row.ref.RecordKey() {
			return no("invalid_name")
		}
		if p.IsReserved(row.ref.Key) {
			return no("reserved_word")
		}
	}
	_, isBlock := q.Body.(*claims.BlockRequested)
	_, isUnblock := q.Body.(*claims.UnblockRequested)
	withdrawal, isWithdraw := q.Body.(*claims.WithdrawRequested)
	if isWithdraw {
		_, isWithdraw = y.said[withdrawal.ClaimID]
		isWithdraw = !isWithdraw // of a claim that has not come: it leaves its mark
	}
	if n.state == "blocked" && !isBlock && !isUnblock && !isDue && !isWithdraw && !asksToErase(q.Body) {
		return no("blocked")
	}
	another := y.another(n, p, q)

	held := n.state == "registered" || n.state == "reserved" || n.state == "inactive"
	free := n.state == ""
	conflict := func(expected *int64) bool {
		bad := expected != nil && *expected != n.version && (*expected != 0 || held)
		if bad {
			row.found = n.version
		}
		return bad
	}
	// yes makes n what it is from now on.
	yes := func(what string, next life) []want {
		was := *n
		next.version = was.version + 1
		*n = next
		row.kindOf, row.version, row.state, row.anyOwner = what, n.version, n.stateName(), false
		row.expires, row.claim = n.until, n.claim
		if row.owner = n.owner; n.owner == "" && held {
			row.owner = was.owner
		}
		row.seq = len(before)
		return append(before, row)
	}
	same := func(what string) []want {
		row.kindOf, row.version, row.state, row.owner, row.anyOwner = what, n.version, n.stateName(), n.owner, false
		row.expires, row.claim = n.until, n.claim
		row.seq = len(before)
		return append(before, row)
	}
	lost := func(id uuid.UUID) []want { // a claim that holds nothing here
		c, ok := y.said[id]
		if another && held && id == n.claim {
			return no("unknown_claim")
		}
		if id == expired || ok && c.want.kindOf == "Accepted" && c.want.state == "reserved" && c.want.ref == row.ref && !y.now.Before(c.want.expires) {
			return no("reservation_expired")
		}
		return no("unknown_claim")
	}
	owns := func(owner string) bool {
		return !another && (held && n.owner == owner || n.state == "cooling" && n.previous == owner)
	}

	if another && needsSignature(q.Body) && !isDue {
		return no("confusable")
	}
	holds := func(claim uuid.UUID) bool { return held && !another && n.claim == claim }
	promised := n.signup != uuid.Nil // nobody but the sign-up has a say
	own := q.ID.Version() == 8
	switch b := q.Body.(type) {
	case *claims.UsernameClaimed:
		if conflict(b.ExpectedVersion) {
			return no("version_conflict")
		}
		var old names.Key
		again := false
		if b.Replaces != nil {
			old, _ = p.HeldKey(b.Replaces.Asked())
			again = old == row.ref.Key && p.Same(b.Replaces.Name, b.Spelling)
		}
		mine := n.state == "registered" && n.owner == b.Owner && !another
		switch {
		case mine && again: // only the spelling
			if conflict(&b.Replaces.Version) {
				return no("version_conflict")
			}
			next := *n
			next.name, next.settled = b.Spelling, true
			return yes("Accepted", next)
		case mine && b.OnConflict == claims.OnConflictReturn:
			return same("Accepted")
		case another:
			return no("confusable")
		case held:
			return no("taken")
		case n.state == "cooling" && (n.previous != b.Owner || !p.PreviousMayReturn):
			return no("cooling_down")
		}
		next := life{state: "registered", name: b.Spelling, owner: b.Owner, claim: q.ID}
		gives := old != "" && old != row.ref.Key
		if b.Signup != uuid.Nil {
			next.signup, next.state, next.until = b.Signup, "reserved", y.now.Add(min(p.TTL, time.Minute))
		} else if b.Mode == claims.ModeReserve {
			next.state, next.until = "reserved", y.now.Add(ttlOf(b, p))
			if gives {
				next.replaces, next.replacesVersion = old, b.Replaces.Version
			}
		} else if gives {
			row.follow = &processor.FollowUp{Claim: q.ID, Ref: names.Ref{Space: p.Space, Key: old}, Owner: b.Owner, Version: b.Replaces.Version}
			next.settled = true // else its owner could be left with neither
		}
		return yes("Accepted", next)

	case *claims.ConfirmRequested:
		switch {
		case !holds(b.ClaimID):
			return lost(b.ClaimID)
		case n.owner != b.Owner:
			return no("not_owner")
		case n.state == "registered":
			return same("Confirmed")
		case n.state != "reserved" || promised && !own:
			return no("wrong_state")
		}
		if n.replaces != "" {
			row.follow = &processor.FollowUp{Claim: n.claim, Ref: names.Ref{Space: p.Space, Key: n.replaces}, Owner: n.owner, Version: n.replacesVersion}
		}
		return yes("Confirmed", life{state: "registered", name: n.name, owner: n.owner, claim: n.claim, settled: n.replaces != "" || promised})

	case *claims.ExtendRequested:
		switch {
		case !holds(b.ClaimID):
			return lost(b.ClaimID)
		case n.owner != b.Owner:
			return no("not_owner")
		case n.state != "reserved" || promised:
			return no("wrong_state")
		}
		next := *n
		longest := y.said[n.claim].want.logTime.Add(p.LongestTTL)
		if u := y.now.Add(time.Duration(b.TTLSeconds) * time.Second); u.After(longest) {
			if !longest.After(n.until) {
				return no("limit_exceeded")
			}
			next.until = longest
		} else if u.After(n.until) {
			next.until = u
		}
		return yes("Extended", next)

	case *claims.WithdrawRequested:
		if holds(b.ClaimID) {
			switch {
			case n.owner != b.Owner:
				return no("not_owner")
			case n.state == "inactive" || n.settled || promised && !own:
				return no("wrong_state")
			}
			return yes("Withdrawn", life{})
		}
		if _, came := y.said[b.ClaimID]; came {
			return lost(b.ClaimID)
		}
		if !slices.Contains(y.marks[b.ClaimID], b.Owner) {
			y.marks[b.ClaimID] = append(y.marks[b.ClaimID], b.Owner)
			before = append(before, want{
				kind: processor.KindMark, seq: len(before), request: withdrawal.ClaimID, principal: row.principal,
				owner: b.Owner, offset: row.offset, epoch: row.epoch, logTime: row.logTime,
			})
		}
		row.kindOf, row.seq = "Withdrawn", len(before)
		return append(before, row)

	case *claims.ReleaseRequested:
		byActor := b.Actor != ""
		switch {
		case !byActor && !owns(b.Owner):
			return no("not_owner")
		case conflict(b.ExpectedVersion):
			return no("version_conflict")
		case !held || !byActor && n.state == "inactive" || promised:
			return no("wrong_state")
		}
		next := life{}
		if n.state != "reserved" && p.CoolDown > 0 {
			next = life{state: "cooling", previous: n.owner, claim: n.claim, until: y.now.Add(p.CoolDown)}
		}
		return yes("Released", next)

	case *claims.DeactivateRequested:
		switch {
		case !owns(b.Owner):
			return no("not_owner")
		case conflict(b.ExpectedVersion):
			return no("version_conflict")
		case n.state != "registered":
			return no("wrong_state")
		case p.UniqueAmong == names.AmongActive:
			return yes("Deactivated", life{previous: n.owner})
		}
		next := *n
		next.state = "inactive"
		return yes("Deactivated", next)

	case *claims.ReactivateRequested:
		name := n.name
		switch {
		case free && n.previous == b.Owner && b.Owner != "":
			name = b.Spelling
			if conflict(b.ExpectedVersion) {
				return no("version_conflict")
			}
		case held && !another && n.owner != b.Owner && p.UniqueAmong == names.AmongActive:
			if conflict(b.ExpectedVersion) {
				return no("version_conflict")
			}
			return no("taken")
		case !owns(b.Owner):
			return no("not_owner")
		case conflict(b.ExpectedVersion):
			return no("version_conflict")
		case n.state != "inactive":
			return no("wrong_state")
		}
		return yes("Reactivated", life{state: "registered", name: name, owner: b.Owner, claim: q.ID, settled: true})

	case *claims.TransferRequested:
		byActor := b.Actor != ""
		switch {
		case !byActor && !owns(b.Owner):
			return no("not_owner")
		case conflict(b.ExpectedVersion):
			return no("version_conflict")
		case !held || !byActor && n.state != "registered" || promised || n.owner == b.NewOwner:
			return no("wrong_state")
		}
		return yes("Transferred", life{state: "registered", name: n.name, owner: b.NewOwner, claim: q.ID, settled: true})

	case *claims.BlockRequested:
		if promised {
			return no("wrong_state")
		}
		if held {
			f := row
			f.kind, f.kindOf, f.state, f.version, f.asked, f.seq = processor.KindFact, "Released", "free", n.version+1, nil, len(before)
			f.owner, f.anyOwner = n.owner, false
			*n = life{version: n.version + 1}
			before, held = append(before, f), false
		}
		return yes("Blocked", life{state: "blocked"})

	case *claims.UnblockRequested:
		if n.state != "blocked" {
			return no("wrong_state")
		}
		return yes("Unblocked", life{})

	case *claims.ErasureRequested:
		mine := held && !another && n.owner == b.Owner
		if promised && n.owner == b.Owner {
			return no("wrong_state")
		}
		switch next, what := y.erased(n, b.Owner, mine, p); what {
		case "changed":
			all := yes("Erased", next)
			all[len(all)-1].owner = "" // whose it was is not said
			return all
		case "same":
			return same("Erased")
		}
		row.kindOf, row.owner, row.anyOwner, row.seq = "Erased", "", false, len(before)
		return append(before, row)

	case *claims.ExpiryDue:
		if promised && n.claim == b.ClaimID && !y.now.Before(n.until) {
			before = append(before, row.sends(claims.SignupVoteID(n.claim, n.until), processor.Sent{Request: "SignupVoted", Ref: row.ref, Owner: n.owner, Claim: n.claim, Signup: n.signup}, len(before)))
			next := *n
			next.until = y.now.Add(min(p.TTL, time.Minute))
			return yes("Extended", next)
		}
		row.anyOwner, row.seq = true, len(before)
		if row.kindOf = "Unchanged"; ended == b.ClaimID {
			row.kindOf, row.version, row.state = "Expired", n.version, "free"
			row.owner, row.anyOwner = lastOwner, false
		}
		return append(before, row)
	}
	panic("a request that the reference does not know")
}
