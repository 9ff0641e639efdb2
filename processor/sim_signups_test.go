package processor_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// simSignups stands for the policy of the space of sign-ups, which has none.
var simSignups = &names.Policy{Space: claims.Signup, Version: 1}

// signingUp is a sign-up as the reference knows it.
type signingUp struct {
	id        uuid.UUID
	body      *claims.SignupRequested
	principal string
	hash      claims.Hash
	open      bool
	names     []names.Ref
	votes     []string // "yes", a reason, or nothing yet
}

// ofSignup reports whether a record may be what it says, as far as sign-ups go: they are named by their ids, and only dibs
// claims for them.
func ofSignup(q claims.Request, own bool) bool {
	switch b := q.Body.(type) {
	case *claims.UsernameClaimed:
		if !own {
			b.Signup = uuid.Nil
		}
	case *claims.SignupRequested:
		return b.Space == "signup" && b.Spelling == q.ID.String()
	case *claims.SignupVoted:
		return b.Space == "signup"
	}
	return true
}

// signupOf is the sign-up that a request is about, if it is about one.
func signupOf(body claims.Body) (ref names.Ref, ok bool) {
	switch body.(type) {
	case *claims.SignupRequested, *claims.SignupVoted, *claims.ExpiryDue, *claims.ErasureRequested:
	default:
		return ref, false
	}
	space, name := body.Name()
	name += string(claims.KeyOf(body))
	id, err := uuid.Parse(name)
	return names.Ref{Space: space, Key: names.Key(name)}, err == nil && space == "signup" && id.String() == name
}

// sends is the row of a request that dibs makes itself, beside that of an answer.
func (x *want) sends(id uuid.UUID, s processor.Sent, seq int) want {
	return want{kind: processor.KindSent, seq: seq, request: id, sent: &s, offset: x.offset, epoch: x.epoch, logTime: x.logTime}
}

// votes puts the vote on a sign-up's claim before its outcome.
func (y *reference) votes(rows []want, c *claims.UsernameClaimed) []want {
	last := rows[len(rows)-1]
	vote := processor.Sent{Request: "SignupVoted", Ref: last.ref, Owner: c.Owner, Claim: last.request, Signup: c.Signup, Reason: registrations.Reason(last.reason)}
	rows[len(rows)-1] = last.sends(claims.SignupVoteID(last.request, time.Time{}), vote, last.seq)
	last.seq++
	return append(rows, last)
}

// signup decides what is asked of a sign-up.
func (y *reference) signup(row want, q claims.Request, p *names.Policy) []want {
	var rows []want
	done := func(kindOf, reason string) []want {
		row.kindOf, row.reason, row.seq = kindOf, reason, len(rows)
		row.anyOwner = true
		return append(rows, row)
	}
	n := y.names[row.ref]
	if n == nil {
		n = &life{}
		y.names[row.ref] = n
	}
	s := y.signups[row.ref]
	if q.Body.Validate() != nil {
		return done("Rejected", "invalid_request")
	}
	send := func(what string, of names.Ref, owner string, id, claim uuid.UUID) {
		rows = append(rows, row.sends(id, processor.Sent{Request: what, Ref: of, Owner: owner, Claim: claim, Signup: uuid.MustParse(string(row.ref.Key))}, len(rows)))
	}
	withdraw := func(of names.Ref, owner string, claim uuid.UUID) {
		send("WithdrawRequested", of, owner, claims.SignupWithdrawID(claim), claim)
	}
	confirm := func(of names.Ref, owner string, claim uuid.UUID) {
		send("ConfirmRequested", of, owner, claims.SignupConfirmID(claim), claim)
	}
	fact := func(kindOf, state, owner string) {
		f := row
		f.kind, f.kindOf, f.state, f.version, f.owner, f.asked = processor.KindFact, kindOf, state, n.version, owner, nil
		f.seq, f.expires = len(rows), n.until
		rows = append(rows, f)
	}
	said := func(kindOf, reason string) {
		o := row
		o.request, o.principal, o.kindOf, o.reason, o.owner, o.hash = s.id, s.principal, kindOf, reason, s.body.Owner, &s.hash
		o.claim, o.asked, o.seq = s.id, s.body, len(rows)
		if kindOf == "Accepted" {
			o.state, o.version = "registered", n.version
		}
		s.open = false
		if _, used := y.said[s.id]; used {
			o.kind = processor.KindFact
		} else {
			y.said[s.id] = tell(string(s.hash[:]), o)
		}
		rows = append(rows, o)
	}
	giveUp := func(reason string) {
		*n = life{version: n.version + 1, ballot: s.ballot()}
		fact("Abandoned", "free", s.body.Owner)
		for i, of := range s.names {
			if v := s.votes[i]; v == "" || v == "yes" {
				withdraw(of, s.body.Owner, claims.SignupClaimID(s.id, of))
			}
		}
		said("Rejected", reason)
	}
	if s != nil && s.open && !y.now.Before(n.until) {
		if giveUp("deadline_passed"); !asksToErase(q.Body) {
			return done("Unchanged", "")
		}
	}
	switch b := q.Body.(type) {
	case *claims.SignupRequested:
		switch {
		case n.version > 0 && s == nil:
			return done("Rejected", "withdrawn")
		case n.version > 0:
			return done("Rejected", "wrong_state")
		}
		s = &signingUp{id: q.ID, body: b, principal: q.Principal, hash: *row.hash, open: true}
		for _, asked := range b.Names {
			p := y.policy(asked.Space)
			if p == nil {
				return done("Rejected", "unknown_space")
			}
			text := asked.Spelling + string(asked.Key)
			key, err := p.Key(text)
			ref := names.Ref{Space: asked.Space, Key: key}
			switch {
			case p.Private == nil && asked.Key != "":
				return done("Rejected", "invalid_request")
			case p.Private != nil && asked.Key == "", err != nil:
				return done("Rejected", "invalid_name")
			case p.IsReserved(key):
				return done("Rejected", "reserved_word")
			case slices.Contains(s.names, ref):
				return done("Rejected", "invalid_request")
			}
			s.names, s.votes = append(s.names, ref), append(s.votes, "")
		}
		ttl := time.Minute
		if b.TTLSeconds != nil {
			ttl = time.Duration(*b.TTLSeconds) * time.Second
		}
		*n = life{state: "reserved", name: b.Spelling, owner: b.Owner, claim: q.ID, version: 1, until: y.now.Add(ttl), ballot: s.ballot()}
		y.signups[row.ref] = s
		fact("Begun", "reserved", b.Owner)
		for i, of := range s.names {
			claim := claims.SignupClaimID(s.id, of)
			send("", of, b.Owner, claim, claim)
			rows[len(rows)-1].sent.Name = b.Names[i].Spelling
		}
		row.kind, row.seq = processor.KindPending, len(rows)
		return append(rows, row)

	case *claims.SignupVoted:
		i := -1
		if s != nil {
			i = slices.IndexFunc(s.names, func(of names.Ref) bool { return claims.SignupClaimID(s.id, of) == b.ClaimID })
		}
		yes := b.Reason == ""
		switch {
		case s == nil && n.version == 0 && yes:
			*n = life{version: 1}
			withdraw(b.Of, b.Owner, b.ClaimID)
			row.state, row.version = "free", 1
			return done("Abandoned", "")
		case s != nil && !s.open && n.state == "registered" && i >= 0 && yes:
			confirm(b.Of, b.Owner, b.ClaimID)
		case s == nil || !s.open || i < 0:
			if yes {
				withdraw(b.Of, b.Owner, b.ClaimID)
			}
		case !yes:
			s.votes[i] = b.Reason
			giveUp(b.Reason)
		case s.votes[i] == "":
			s.votes[i] = "yes"
			n.version++
			if n.ballot = s.ballot(); slices.ContainsFunc(s.votes, func(v string) bool { return v != "yes" }) {
				row.state, row.version, row.owner, row.expires, row.claim = "reserved", n.version, s.body.Owner, n.until, s.id
				return done("Voted", "")
			}
			n.state, n.until = "registered", time.Time{}
			for _, of := range s.names {
				confirm(of, s.body.Owner, claims.SignupClaimID(s.id, of))
			}
			said("Accepted", "")
		}

	case *claims.ErasureRequested:
		mine := n.owner == b.Owner && (n.state == "reserved" || n.state == "registered")
		if mine && n.state == "reserved" {
			return done("Rejected", "wrong_state")
		}
		next, what := y.erased(n, b.Owner, mine, p)
		row.owner, row.anyOwner = "", false
		if what == "changed" {
			y.signups[row.ref] = nil // there is nothing left to say of it
			next.version = n.version + 1
			row.claim = n.claim
			*n = next
		}
		if what != "" {
			row.state, row.version = "free", n.version
		}
		row.kindOf, row.seq = "Erased", len(rows)
		return append(rows, row)
	}
	return done("Unchanged", "")
}

func tell(print string, w want) said { return said{print, w} }

func (s *signingUp) ballot() string {
	b := registrations.Ballot{Hash: s.hash, Principal: s.principal}
	for i, of := range s.names {
		b.Names = append(b.Names, registrations.Candidate{Ref: of, Name: s.body.Names[i].Spelling, Vote: s.votes[i]})
	}
	return b.Text()
}

// signup asks for several names at once.
func (c *clients) signup() sent {
	w := c.w
	b := &claims.SignupRequested{About: c.about(claims.Signup, ""), Owner: c.owner()}
	if w.r.IntN(3) > 0 {
		b.TTLSeconds = one(w, seconds(1), seconds(3), seconds(20), seconds(20), seconds(60))
	}
	n := one(w, 2, 2, 2, 2, 1, 3)
	for len(b.Names) < n {
		space := c.space()
		n := claims.SignupName{Space: space, Spelling: c.named(space, c.spelling())}
		if space == spaceSecret && w.r.IntN(12) > 0 {
			n = claims.SignupName{Space: space, Key: c.secret(n.Spelling)}
			w.sometimes("asked: a sign-up with a private name")
		}
		if w.r.IntN(2) == 0 {
			n = claims.SignupName{Space: names.Username, Spelling: fmt.Sprintf("guest%d", w.r.IntN(20))}
		}
		b.Names = append(b.Names, n)
	}
	switch w.r.IntN(30) {
	case 0:
		b.Names[n-1].Spelling = "Root"
	case 1:
		b.Names[n-1].Spelling = "-"
	case 2:
		b.Names[n-1].Space = one[names.Space](w, "invoice-number", claims.Signup)
	case 3:
		b.Names = nil
	case 4:
		b.Names[n-1] = claims.SignupName{Space: names.Username, Key: "alice"}
	case 5:
		b.TTLSeconds = seconds(one[int64](w, 0, 3601))
	}
	q := c.new(b)
	b.Spelling = q.id.String()
	w.sometimes("asked: a sign-up")
	return q.addressed()
}

func seconds(n int64) *int64 { return &n }

// signups: what a sign-up leads to is asked for; and where no log was lost, it has all of its names or none, and none is left
// promised.
func (j *judge) signups() {
	there := make(map[uuid.UUID][]claims.Body)
	for p := range j.claims {
		for _, t := range j.logs(int32(p)) {
			for _, m := range t.records {
				if q, err := claims.Read(m.Record); err == nil && q.ID.Version() == 8 && simKeys.Signed(m.Record) && q.Principal == "dibs" {
					there[q.ID] = append(there[q.ID], q.Body)
				}
			}
		}
	}
	for _, x := range j.sent {
		if len(there[x.request]) == 0 {
			j.violated("sign-up: %s of %s for %s is decided, and never asked for", x.sent.Request, x.sent.Ref, x.sent.Signup)
		}
	}
	whole := len(j.past) == 0 && !j.rates.neverStorable
	for p := range j.claims {
		row, _ := j.db.mem.Standing(int32(p))
		whole = whole && row.Halted == ""
	}
	if !whole {
		return
	}
	confirmed := make(map[uuid.UUID]bool)
	for p := range j.claims {
		for _, row := range j.db.mem.Rows(int32(p)) {
			if row.Kind == processor.KindOutcome && row.Outcome.Type == registrations.Confirmed {
				confirmed[row.Outcome.ClaimID] = true
			}
		}
	}
	holders := make(map[uuid.UUID]bool)
	for ref, h := range j.db.mem.Names() {
		if h.Held() {
			holders[h.ClaimID] = true
		}
		if h.Signup != uuid.Nil {
			j.violated("sign-up: %s is left promised to %s", ref, h.Signup)
		}
		if ref.Space == claims.Signup && h.State == registrations.Reserved {
			j.violated("sign-up: %s is never decided", ref)
		}
	}
	for ref, h := range j.db.mem.Names() {
		if ref.Space != claims.Signup || h.Ballot == "" {
			continue
		}
		b, err := registrations.ReadBallot(h.Ballot)
		if err != nil {
			j.violated("sign-up: %v", err)
			continue
		}
		all := h.State == registrations.Registered
		for _, c := range b.Names {
			claim := claims.SignupClaimID(uuid.MustParse(string(ref.Key)), c.Ref)
			switch {
			case all && !confirmed[claim]:
				j.violated("sign-up: %s is accepted, and %s was never its owner's", ref, c.Ref)
			case !all && (confirmed[claim] || holders[claim]):
				j.violated("sign-up: %s is given up, and %s is its owner's", ref, c.Ref)
			}
		}
		if all {
			j.sometimes("sign-up: all")
		} else {
			j.sometimes("sign-up: none")
		}
	}
}
