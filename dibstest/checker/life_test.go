package checker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The keys of the stories that are signed, and the policies beside the built-in one: with a cool-down from which the
// previous owner may come back, with one from which nobody may, and unique among the active only.
var (
	secrets  = map[string][]byte{"k1": []byte("a secret"), "k2": []byte("another")}
	policies = []Policy{
		policyOf("cool", func(p *Policy) { p.CoolDown = time.Minute }),
		policyOf("cold", func(p *Policy) { p.CoolDown, p.PreviousMayReturn = time.Minute, false }),
		policyOf("active", func(p *Policy) { p.UniqueAmong = "active" }),
		policyOf("brief", func(p *Policy) { p.ShortestTTL, p.LongestTTL = 20*time.Second, 100*time.Second }),
	}
)

func policyOf(space string, change func(*Policy)) Policy {
	p := username()
	p.Space = space
	change(&p)
	return p
}

// a step of a life is written as "<second> <id> <request> <field>=<value>…". A claim's is #<id>, a time +<second>, what is
// replaced <name>@<version>; space, name and mode are username, alice and register where nothing is said. Signed it ends
// with ! (with the second key !!, with a wrong one !?); by dibs, with "dibs!".
func step(t *testing.T, offset int64, text string) Record {
	t.Helper()
	words := strings.Fields(text)
	second, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	q := map[string]any{"space": spaceUsername, "name": "alice"}
	if words[2] == typeClaim {
		q["mode"] = "register"
	}
	var key string
	principal, secret := "gateway", ""
	for _, w := range words[3:] {
		name, v, _ := strings.Cut(w, "=")
		switch {
		case name == "!" || name == "!!" || name == "!?":
			key, secret = map[string]string{"!": "k1", "!!": "k2", "!?": "k1"}[name], map[string]string{"!": "a secret", "!!": "another", "!?": "a guess"}[name]
		case name == "dibs!":
			key, secret, principal = "k1", "a secret", ownPrincipal
		case name == "ttl_seconds" || name == "expected_version":
			n, _ := strconv.ParseInt(v, 10, 64)
			q[name] = n
		case strings.HasPrefix(v, "#"):
			n, _ := strconv.Atoi(v[1:])
			q[name] = id(n)
		case strings.HasPrefix(v, "+"):
			n, _ := strconv.Atoi(v[1:])
			q[name] = timeText(at(n))
		case name == "replaces":
			old, version, _ := strings.Cut(v, "@")
			n, _ := strconv.ParseInt(version, 10, 64)
			q[name] = map[string]any{"name": old, "version": n}
		default:
			q[name] = v
		}
	}
	value, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.Index(text, "raw="); i >= 0 {
		value = []byte(text[i+4:])
	}
	n, err := strconv.Atoi(words[1])
	eventID := id(n)
	if err != nil { // an id of dibs' own
		eventID = words[1]
	}
	r := Record{
		LogEpoch: 1, Offset: offset, Time: at(second), Value: value,
		Key: fmt.Appendf(nil, "%s/%s", q["space"], strings.ToLower(fmt.Sprint(q["name"]))),
		Headers: []Header{
			header("content-type", "application/json"), header("ce_specversion", "1.0"), header("ce_id", eventID),
			header("ce_type", "dibs."+words[2]+".v1"), header("ce_source", "test"), header("ce_dibsprincipal", principal),
		},
	}
	if key != "" {
		seal(&r, key, secret)
	}
	return r
}

// life is the history of steps, with one partition: as the replay has it, published, and with the releases that renames
// lead to.
func life(t *testing.T, steps ...string) *story {
	t.Helper()
	s := &story{t: t}
	s.Partitions, s.Topic, s.Secrets, s.Policies = 1, "claims", secrets, policies
	y := newReplay(&s.History, 0)
	add := func(r Record) {
		s.Claims = append(s.Claims, r)
		x := y.next(&s.Claims[len(s.Claims)-1])
		switch x.kind {
		case KindDuplicate:
			s.publish(*x.outcome())
			x.rows = []Decision{{Kind: KindDuplicate, RequestID: x.request.id, Principal: x.request.principal}}
		case KindDead:
			s.DeadLetters = append(s.DeadLetters, Record{Key: r.Key, Value: r.Value, Headers: append(slices.Clone(r.Headers),
				header("dibs-dead-topic", "claims"), header("dibs-dead-partition", "0"), header("dibs-dead-log-epoch", "1"),
				header("dibs-dead-offset", strconv.FormatInt(r.Offset, 10)), header("dibs-dead-reason", x.why))})
			x.rows = []Decision{{Kind: KindDead}}
		case KindPolicy:
			x.rows = []Decision{{Kind: KindPolicy, RequestID: x.request.id, Principal: x.request.principal}}
		}
		for _, d := range x.rows {
			d.LogEpoch, d.Offset = 1, r.Offset
			if d.Outcome != nil {
				o := *d.Outcome
				d.Outcome = &o
			}
			s.Decisions = append(s.Decisions, d)
			if d.Outcome != nil && d.Outcome.Type != unpublished {
				s.publish(*d.Outcome)
			}
		}
	}
	for _, text := range steps {
		add(step(t, int64(len(s.Claims)), text))
		if d := s.last(); d.FollowKey != "" {
			o := d.Outcome
			add(step(t, int64(len(s.Claims)), fmt.Sprintf("0 %s ReleaseRequested space=%s name=%s owner=%s expected_version=%d dibs!",
				releaseID(o.ClaimID, o.recordKey()), o.Space, d.FollowKey, o.Owner, d.FollowVersion)))
		}
	}
	for ref, h := range y.held {
		s.Names = append(s.Names, Name{
			Space: ref[0], Key: ref[1], State: h.state, Name: h.name, Owner: h.owner, ClaimID: h.claimID, Version: h.version,
			PolicyVersion: h.policyVersion, Since: h.since, ExpiresAt: h.expires, Settled: h.settled, Previous: h.previous,
			Replaces: h.replaces, ReplacesVersion: h.replacesVersion,
		})
	}
	end := int64(len(s.Claims))
	s.Logs = []Log{{End: end}}
	s.Progress = []Progress{{LogEpoch: 1, NextOffset: end, PublishedThrough: end}}
	return s
}

func (s *story) last() *Decision { return &s.Decisions[len(s.Decisions)-1] }

// left is what a record has left, in words.
func (s *story) left(offset int64) string {
	var all []string
	for i := range s.Decisions {
		if d := &s.Decisions[i]; d.Offset == offset {
			all = append(all, d.words())
		}
	}
	return strings.Join(all, "; ")
}

func (d *Decision) words() string {
	var b strings.Builder
	short := func(id string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(id, "00000000-0000-4000-8000-"))
		if err != nil {
			return id
		}
		return "#" + strconv.Itoa(n)
	}
	o := d.Outcome
	switch {
	case d.Kind == KindMark:
		return "mark " + short(d.RequestID) + " of " + d.Owner
	case o == nil:
		return d.Kind
	case d.Kind == KindFact:
		b.WriteString("fact ")
	}
	b.WriteString(o.Type)
	switch {
	case o.Type == "Rejected":
		b.WriteString(" " + o.Reason)
		if o.Reason == "version_conflict" {
			fmt.Fprintf(&b, " %d", o.CurrentVersion)
		}
	case o.State != "":
		fmt.Fprintf(&b, " %s %d", o.State, o.Version)
		if o.Owner != "" {
			b.WriteString(" " + o.Owner)
		}
		if o.ClaimID != o.RequestID && o.ClaimID != "" {
			b.WriteString(" " + short(o.ClaimID))
		}
		if !o.ExpiresAt.IsZero() {
			fmt.Fprintf(&b, " +%d", int(o.ExpiresAt.Sub(start).Seconds()))
		}
	}
	if d.FollowKey != "" {
		fmt.Fprintf(&b, " → %s@%d", d.FollowKey, d.FollowVersion)
	}
	if d.Actor != "" {
		b.WriteString(" by " + d.Actor)
	}
	return b.String()
}

// seal signs a record. That the signature is the right one the golden files say: see TestGoldenRequests.
func seal(r *Record, key, secret string) {
	r.Headers = append(r.Headers, header("ce_dibssig", key+":"+signatureOf(r, secret)))
}

// lives are what the design says of each request, each in the state it finds, and what the last record must leave.
var lives = []struct {
	says  string
	left  string
	steps []string
}{
	{"a free name is registered", "Accepted registered 1 u-1", claims("owner=u-1")},
	{"or reserved, for as long as the space says", "Accepted reserved 1 u-1 +900", claims("owner=u-1 mode=reserve")},
	{"or for as long as is asked", "Accepted reserved 1 u-1 +60", claims("owner=u-1 mode=reserve ttl_seconds=60")},
	{"a ttl goes with a reservation", "Rejected invalid_request", claims("owner=u-1 ttl_seconds=60")},
	{"of at least a second", "Rejected invalid_request", claims("owner=u-1 mode=reserve ttl_seconds=0")},
	{"not below the space's shortest", "Rejected invalid_request", claims("space=brief owner=u-1 mode=reserve ttl_seconds=19")},
	{"not above its longest", "Rejected invalid_request", claims("space=brief owner=u-1 mode=reserve ttl_seconds=101")},
	{"a reservation is somebody's", "Rejected taken", claims("owner=u-1 mode=reserve", "owner=u-2")},
	{"until it is over: then it is free first", "fact Expired free 2 u-1 #1; Accepted registered 3 u-2", claims("owner=u-1 mode=reserve ttl_seconds=1", "owner=u-2")},
	{"not a moment before", "Rejected taken", claims("owner=u-1 mode=reserve ttl_seconds=2", "owner=u-2")},
	{"whatever is asked finds it free", "fact Expired free 2 u-1 #1; Rejected invalid_request", claims("owner=u-1 mode=reserve ttl_seconds=1", "owner=u-2 mode=borrow")},
	{"but for what is not decided", "Rejected deadline_passed", claims("owner=u-1 mode=reserve ttl_seconds=1", "owner=u-2 deadline=+0")},
	{"a deadline counts to its end", "Accepted registered 1 u-1", claims("owner=u-1 deadline=+0")},
	{"the same owner again is told taken", "Rejected taken", claims("owner=u-1", "owner=u-1")},
	{"or what there is", "Accepted registered 1 u-1 #1", claims("owner=u-1", "owner=u-1 on_conflict=return_existing")},
	{"nobody else is", "Rejected taken", claims("owner=u-1", "owner=u-2 on_conflict=return_existing")},
	{"nor of a reservation", "Rejected taken", claims("owner=u-1 mode=reserve", "owner=u-1 on_conflict=return_existing")},
	{"0 is expected of what is free", "Accepted registered 1 u-1", claims("owner=u-1 expected_version=0")},
	{"and not of what is held", "Rejected version_conflict 1", claims("owner=u-1", "owner=u-2 expected_version=0")},
	{"n is exactly n", "Rejected version_conflict 0", claims("owner=u-1 expected_version=1")},
	{"also where it is free again", "Accepted registered 3 u-2", after("owner=u-1", "1 2 ReleaseRequested owner=u-1", "2 3 UsernameClaimed owner=u-2 expected_version=2")},
	{"less than nothing cannot be expected", "Rejected invalid_request", claims("owner=u-1 expected_version=-1")},
	{"a reserved word is nobody's", "Rejected reserved_word", claims("name=root owner=u-1")},
	{"what is no name is none", "Rejected invalid_name", claims("name=ab owner=u-1")},
	{"a space must be known", "Rejected unknown_space", claims("space=planet owner=u-1")},

	{"a reservation is confirmed by its claim", "Confirmed registered 2 u-1 #1", after("owner=u-1 mode=reserve", "1 2 ConfirmRequested claim_id=#1 owner=u-1")},
	{"again it changes nothing", "Confirmed registered 2 u-1 #1", after("owner=u-1 mode=reserve", "1 2 ConfirmRequested claim_id=#1 owner=u-1", "2 3 ConfirmRequested claim_id=#1 owner=u-1")},
	{"not by another owner", "Rejected not_owner", after("owner=u-1 mode=reserve", "1 2 ConfirmRequested claim_id=#1 owner=u-2")},
	{"not by another claim", "Rejected unknown_claim", after("owner=u-1 mode=reserve", "1 2 ConfirmRequested claim_id=#9 owner=u-1")},
	{"not when its time is over", "fact Expired free 2 u-1 #1; Rejected reservation_expired", after("owner=u-1 mode=reserve ttl_seconds=1", "1 2 ConfirmRequested claim_id=#1 owner=u-1")},
	{"nor later, although nobody has the name", "Rejected reservation_expired", after("owner=u-1 mode=reserve ttl_seconds=1", "1 2 UsernameClaimed owner=u-2 mode=borrow", "2 3 ConfirmRequested claim_id=#1 owner=u-1")},
	{"what was given up is unknown", "Rejected unknown_claim", after("owner=u-1 mode=reserve", "1 2 ReleaseRequested owner=u-1", "2 3 ConfirmRequested claim_id=#1 owner=u-1")},
	{"not what is inactive", "Rejected wrong_state", after("owner=u-1", "1 2 DeactivateRequested owner=u-1", "2 3 ConfirmRequested claim_id=#1 owner=u-1")},

	{"a reservation is extended from now", "Extended reserved 2 u-1 #1 +61", after("owner=u-1 mode=reserve ttl_seconds=30", "1 2 ExtendRequested claim_id=#1 owner=u-1 ttl_seconds=60")},
	{"never shortened", "Extended reserved 2 u-1 #1 +30", after("owner=u-1 mode=reserve ttl_seconds=30", "1 2 ExtendRequested claim_id=#1 owner=u-1 ttl_seconds=20")},
	{"up to the longest since it was claimed", "Extended reserved 2 u-1 #1 +100", after("space=brief owner=u-1 mode=reserve ttl_seconds=30", "9 2 ExtendRequested space=brief claim_id=#1 owner=u-1 ttl_seconds=99")},
	{"and then no more", "Rejected limit_exceeded", after("space=brief owner=u-1 mode=reserve ttl_seconds=100", "9 2 ExtendRequested space=brief claim_id=#1 owner=u-1 ttl_seconds=99")},
	{"what is registered has nothing to extend", "Rejected wrong_state", after("owner=u-1", "1 2 ExtendRequested claim_id=#1 owner=u-1 ttl_seconds=20")},

	{"its owner releases a name", "Released free 2 u-1 #1", after("owner=u-1", "1 2 ReleaseRequested owner=u-1")},
	{"nobody else does", "Rejected not_owner", after("owner=u-1", "1 2 ReleaseRequested owner=u-2")},
	{"at its version", "Rejected version_conflict 1", after("owner=u-1", "1 2 ReleaseRequested owner=u-1 expected_version=2")},
	{"not what is inactive", "Rejected wrong_state", after("owner=u-1", "1 2 DeactivateRequested owner=u-1", "2 3 ReleaseRequested owner=u-1")},
	{"into a cool-down, where there is one", "Released cooling 2 u-1 #1 +61", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1")},
	{"which a reservation does not leave", "Released free 2 u-1 #1", after("space=cool owner=u-1 mode=reserve", "1 2 ReleaseRequested space=cool owner=u-1")},
	{"in which others wait", "Rejected cooling_down", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1", "2 3 UsernameClaimed space=cool owner=u-2")},
	{"and it is expected free", "Rejected cooling_down", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1", "2 3 UsernameClaimed space=cool owner=u-2 expected_version=0")},
	{"and the previous owner may return", "Accepted registered 3 u-1", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1", "2 3 UsernameClaimed space=cool owner=u-1")},
	{"where the policy says so", "Rejected cooling_down", after("space=cold owner=u-1", "1 2 ReleaseRequested space=cold owner=u-1", "2 3 UsernameClaimed space=cold owner=u-1")},
	{"until it is over", "fact Expired free 3 u-1 #1; Accepted registered 4 u-2", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1", "61 3 UsernameClaimed space=cool owner=u-2")},
	{"an actor releases whatever is held", "Released free 3 u-1 #1 by ada", after("owner=u-1", "1 2 DeactivateRequested owner=u-1", "2 3 ReleaseRequested actor=ada reason=abuse !")},
	{"and nothing else", "Rejected wrong_state by ada", []string{"0 1 ReleaseRequested actor=ada reason=abuse !"}},
	{"either an owner or an actor", "Rejected invalid_request", after("owner=u-1", "1 2 ReleaseRequested owner=u-1 actor=ada reason=abuse !")},

	{"a claim is withdrawn", "Withdrawn free 2 u-1 #1", after("owner=u-1", "1 2 WithdrawRequested claim_id=#1 owner=u-1")},
	{"also what was confirmed", "Withdrawn free 3 u-1 #1", after("owner=u-1 mode=reserve", "1 2 ConfirmRequested claim_id=#1 owner=u-1", "2 3 WithdrawRequested claim_id=#1 owner=u-1")},
	{"not by another", "Rejected not_owner", after("owner=u-1", "1 2 WithdrawRequested claim_id=#1 owner=u-2")},
	{"not after its name has changed", "Rejected wrong_state", after("owner=u-1", "1 2 UsernameClaimed name=ALICE owner=u-1 replaces=alice@1", "2 3 WithdrawRequested claim_id=#1 owner=u-1")},
	{"not what was only answered with what there is", "Rejected unknown_claim", after("owner=u-1", "1 2 UsernameClaimed owner=u-1 on_conflict=return_existing", "2 3 WithdrawRequested claim_id=#2 owner=u-1")},
	{"before it comes that leaves a mark", "mark #2 of u-1; Withdrawn", []string{"0 1 WithdrawRequested claim_id=#2 owner=u-1"}},
	{"once", "Withdrawn", []string{"0 1 WithdrawRequested claim_id=#2 owner=u-1", "1 3 WithdrawRequested claim_id=#2 owner=u-1"}},
	{"and the claim gets nothing", "Rejected withdrawn", []string{"0 1 WithdrawRequested claim_id=#2 owner=u-1", "1 2 UsernameClaimed owner=u-1"}},
	{"unless it is another's", "Accepted registered 1 u-2", []string{"0 1 WithdrawRequested claim_id=#2 owner=u-1", "1 2 UsernameClaimed owner=u-2"}},

	{"who is not active keeps the name", "Deactivated inactive 2 u-1 #1", after("owner=u-1", "1 2 DeactivateRequested owner=u-1")},
	{"against all others", "Rejected taken", after("owner=u-1", "1 2 DeactivateRequested owner=u-1", "2 3 UsernameClaimed owner=u-2")},
	{"and has it again", "Reactivated registered 3 u-1", after("owner=u-1", "1 2 DeactivateRequested owner=u-1", "2 3 ReactivateRequested owner=u-1")},
	{"nobody else has", "Rejected not_owner", after("owner=u-1", "1 2 DeactivateRequested owner=u-1", "2 3 ReactivateRequested owner=u-2")},
	{"what is active is not reactivated", "Rejected wrong_state", after("owner=u-1", "1 2 ReactivateRequested owner=u-1")},
	{"a reservation is not deactivated", "Rejected wrong_state", after("owner=u-1 mode=reserve", "1 2 DeactivateRequested owner=u-1")},
	{"among the active it is free", "Deactivated free 2 u-1 #1", after("space=active owner=u-1", "1 2 DeactivateRequested space=active owner=u-1")},
	{"for anybody", "Accepted registered 3 u-2", after("space=active owner=u-1", "1 2 DeactivateRequested space=active owner=u-1", "2 3 UsernameClaimed space=active owner=u-2")},
	{"and back if it still is", "Reactivated registered 3 u-1", after("space=active owner=u-1", "1 2 DeactivateRequested space=active owner=u-1", "2 3 ReactivateRequested space=active owner=u-1")},
	{"not back if it is taken", "Rejected taken", after("space=active owner=u-1", "1 2 DeactivateRequested space=active owner=u-1", "2 3 UsernameClaimed space=active owner=u-2", "3 4 ReactivateRequested space=active owner=u-1")},
	{"not for another", "Rejected not_owner", after("space=active owner=u-1", "1 2 DeactivateRequested space=active owner=u-1", "2 3 ReactivateRequested space=active owner=u-2")},

	{"a name is handed over", "Transferred registered 2 u-2", after("owner=u-1", "1 2 TransferRequested owner=u-1 new_owner=u-2")},
	{"by its owner", "Rejected not_owner", after("owner=u-1", "1 2 TransferRequested owner=u-2 new_owner=u-3")},
	{"to another", "Rejected invalid_request", after("owner=u-1", "1 2 TransferRequested owner=u-1 new_owner=u-1")},
	{"a reservation by an actor only", "Rejected wrong_state", after("owner=u-1 mode=reserve", "1 2 TransferRequested owner=u-1 new_owner=u-2")},
	{"and then for good", "Transferred registered 2 u-2 by ada", after("owner=u-1 mode=reserve", "1 2 TransferRequested actor=ada reason=sold new_owner=u-2 !")},
	{"not what is free", "Rejected wrong_state by ada", []string{"1 2 TransferRequested actor=ada reason=sold new_owner=u-2 !"}},
	{"nobody withdraws it any more", "Rejected wrong_state", after("owner=u-1", "1 2 TransferRequested owner=u-1 new_owner=u-2", "2 3 WithdrawRequested claim_id=#2 owner=u-2")},

	{"what is blocked is nobody's", "Blocked blocked 1 by ada", []string{"0 1 BlockRequested actor=ada reason=rude !"}},
	{"whoever had it", "fact Released free 2 u-1 #1; Blocked blocked 3 by ada", after("owner=u-1", "1 2 BlockRequested actor=ada reason=rude !")},
	{"with nothing to cool", "fact Released free 2 u-1 #1; Blocked blocked 3 by ada", after("space=cool owner=u-1", "1 2 BlockRequested space=cool actor=ada reason=rude !")},
	{"or has had it", "Blocked blocked 3 by ada", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1", "2 3 BlockRequested space=cool actor=ada reason=rude !")},
	{"after its time it had nobody", "fact Expired free 2 u-1 #1; Blocked blocked 3 by ada", after("owner=u-1 mode=reserve ttl_seconds=1", "1 2 BlockRequested actor=ada reason=rude !")},
	{"nobody claims it", "Rejected blocked", []string{"0 1 BlockRequested actor=ada reason=rude !", "1 2 UsernameClaimed owner=u-1"}},
	{"before any other reason", "Rejected blocked", []string{"0 1 BlockRequested actor=ada reason=rude !", "1 2 ReleaseRequested owner=u-1 expected_version=7"}},
	{"but for a mark", "mark #9 of u-1; Withdrawn", []string{"0 1 BlockRequested actor=ada reason=rude !", "1 2 WithdrawRequested claim_id=#9 owner=u-1"}},
	{"unblocked it is free", "Unblocked free 2 by bea", []string{"0 1 BlockRequested actor=ada reason=rude !", "1 2 UnblockRequested actor=bea reason=well !!"}},
	{"where it was blocked", "Rejected wrong_state by bea", []string{"1 2 UnblockRequested actor=bea reason=well !!"}},

	{"what an actor asks is signed", "Rejected not_allowed", []string{"0 1 BlockRequested actor=ada reason=rude"}},
	{"by one who has the key", "Rejected not_allowed", []string{"0 1 BlockRequested actor=ada reason=rude !?"}},
	{"before anything else is looked at", "Rejected not_allowed", []string{"0 1 BlockRequested space=planet name=ab actor=ada reason=rude"}},
	{"a copy that is not signed is not that request", "dead", []string{"0 1 BlockRequested actor=ada reason=rude !", "1 1 BlockRequested actor=ada reason=rude"}},
	{"a copy of a refused one is", "duplicate", []string{"0 1 BlockRequested actor=ada reason=rude", "1 1 BlockRequested actor=ada reason=rude"}},
	{"an id of dibs' own is for dibs", "dead", []string{"0 00000000-0000-8000-8000-000000000001 UsernameClaimed owner=u-1"}},
	{"and for nobody who only has a key", "dead", []string{"0 00000000-0000-8000-8000-000000000001 UsernameClaimed owner=u-1 !"}},
	{"a reason without an actor is none", "Rejected invalid_request", after("owner=u-1", "1 2 ReleaseRequested owner=u-1 reason=so")},
	{"a field must be there", "Rejected malformed", []string{`0 1 ConfirmRequested raw={"space":"username","name":"alice","owner":"u-1"}`}},

	{"dibs asks what is over", "Expired free 2 u-1 #1", after("owner=u-1 mode=reserve ttl_seconds=1", "1 2 ExpiryDue claim_id=#1 expires_at=+1 dibs!")},
	{"a cool-down too", "Expired free 3 u-1 #1", after("space=cool owner=u-1", "1 2 ReleaseRequested space=cool owner=u-1", "61 3 ExpiryDue space=cool claim_id=#1 expires_at=+61 dibs!")},
	{"too early there is nothing to do", "Unchanged", after("owner=u-1 mode=reserve ttl_seconds=2", "1 2 ExpiryDue claim_id=#1 expires_at=+2 dibs!")},
	{"about another's the fact is beside it", "fact Expired free 2 u-1 #1; Unchanged", after("owner=u-1 mode=reserve ttl_seconds=1", "1 2 ExpiryDue claim_id=#9 expires_at=+1 dibs!")},
	{"of a blocked name there is nothing to do", "Unchanged", []string{"0 1 BlockRequested actor=ada reason=rude !", "1 2 ExpiryDue claim_id=#9 expires_at=+1 dibs!"}},
	{"nobody else asks", "Rejected not_allowed", after("owner=u-1 mode=reserve ttl_seconds=1", "1 2 ExpiryDue claim_id=#1 expires_at=+1")},

	{"a rename gives the old name up", "Accepted registered 1 u-1 → alice@1", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 replaces=alice@1")},
	{"when it is confirmed", "Confirmed registered 2 u-1 #2 → alice@1", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 mode=reserve replaces=alice@1", "2 3 ConfirmRequested name=bob claim_id=#2 owner=u-1")},
	{"not before", "Accepted reserved 1 u-1 +901", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 mode=reserve replaces=alice@1")},
	{"once", "Confirmed registered 2 u-1 #2", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 mode=reserve replaces=alice@1", "2 3 ConfirmRequested name=bob claim_id=#2 owner=u-1", "3 4 ConfirmRequested name=bob claim_id=#2 owner=u-1")},
	{"with the owner's version", "Accepted registered 1 u-1 → alice@7", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 replaces=alice@7")},
	{"and is not withdrawn", "Rejected wrong_state", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 replaces=alice@1", "2 3 WithdrawRequested name=bob claim_id=#2 owner=u-1")},
	{"what is no name is not given up", "Rejected invalid_request", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 replaces=-@1")},
	{"nor at no version", "Rejected invalid_request", after("owner=u-1", "1 2 UsernameClaimed name=bob owner=u-1 replaces=alice@0")},
	{"spelt anew nothing is given up", "Accepted registered 2 u-1 #1", after("owner=u-1", "1 2 UsernameClaimed name=ALICE owner=u-1 replaces=alice@1")},
	{"at its version", "Rejected version_conflict 1", after("owner=u-1", "1 2 UsernameClaimed name=ALICE owner=u-1 replaces=alice@2")},
	{"by its owner", "Rejected taken", after("owner=u-1", "1 2 UsernameClaimed name=ALICE owner=u-2 replaces=alice@1")},
	{"not for a while", "Rejected invalid_request", after("owner=u-1", "1 2 UsernameClaimed name=ALICE owner=u-1 mode=reserve replaces=alice@1")},
}

// claims are claims, one a second.
func claims(all ...string) (steps []string) {
	for i, c := range all {
		steps = append(steps, fmt.Sprintf("%d %d UsernameClaimed %s", i, i+1, c))
	}
	return steps
}

// after is a claim, and what follows.
func after(claim string, steps ...string) []string { return append(claims(claim), steps...) }

// TestLives: the replay says of each record what the design does, and no change of what it left goes unseen.
func TestLives(t *testing.T) {
	for _, c := range lives {
		t.Run(strings.ReplaceAll(c.says+" "+c.left, " ", "_"), func(t *testing.T) {
			good := life(t, c.steps...)
			offset := int64(len(good.Claims) - 1)
			if strings.Contains(c.left, "→") { // the release comes behind it
				offset--
			}
			if left := good.left(offset); left != c.left {
				t.Fatalf("it left %q, expected %q", left, c.left)
			}
			for _, v := range Check(good.History) {
				t.Error(v)
			}
			for i := range good.Decisions {
				if d := &good.Decisions[i]; d.Offset == offset && d.Kind != KindDead {
					spoiled(t, i, c.steps)
				}
			}
		})
	}
}

// spoilings change one thing about a row of decisions.
var spoilings = map[string]func(*Decision) bool{
	"kind": func(d *Decision) bool {
		d.Kind = map[bool]string{true: KindFact, false: KindOutcome}[d.Kind == KindOutcome]
		return true
	},
	"request":          func(d *Decision) bool { d.RequestID = id(99); return true },
	"mark":             func(d *Decision) bool { d.Owner += "x"; return d.Kind == KindMark },
	"actor":            func(d *Decision) bool { d.Actor += "x"; return d.Outcome != nil },
	"why":              func(d *Decision) bool { d.Why += "x"; return d.Outcome != nil },
	"follow":           func(d *Decision) bool { d.FollowKey += "carol"; return d.Outcome != nil },
	"version followed": func(d *Decision) bool { d.FollowVersion++; return d.Outcome != nil },
	"number":           func(d *Decision) bool { d.Seq += 3; return d.Kind != KindDuplicate },
	"outcome": func(d *Decision) bool {
		if d.Outcome == nil {
			return false
		}
		if d.Outcome.Type == "Accepted" {
			d.Outcome.Type = "Extended"
		} else {
			d.Outcome.Type = "Accepted"
		}
		return true
	},
	"reason":  ofOutcome(func(o *Outcome) { o.Reason += "x" }),
	"asked":   ofOutcome(func(o *Outcome) { o.Request += "x" }),
	"claim":   ofOutcome(func(o *Outcome) { o.ClaimID = id(98) }),
	"name":    ofOutcome(func(o *Outcome) { o.Name += "x" }),
	"owner":   ofOutcome(func(o *Outcome) { o.Owner += "x" }),
	"state":   ofOutcome(func(o *Outcome) { o.State += "x" }),
	"version": ofOutcome(func(o *Outcome) { o.Version++ }),
	"found":   ofOutcome(func(o *Outcome) { o.CurrentVersion++ }),
	"expiry":  ofOutcome(func(o *Outcome) { o.ExpiresAt = o.ExpiresAt.Add(time.Millisecond) }),
	"time":    ofOutcome(func(o *Outcome) { o.LogTime = o.LogTime.Add(time.Millisecond) }),
	"policy":  ofOutcome(func(o *Outcome) { o.PolicyVersion++ }),
}

func ofOutcome(spoil func(*Outcome)) func(*Decision) bool {
	return func(d *Decision) bool {
		if d.Outcome == nil {
			return false
		}
		spoil(d.Outcome)
		return true
	}
}

// spoiled spoils the i-th row of a life in every way, with what is published of it, and looks that it is found.
func spoiled(t *testing.T, i int, steps []string) {
	t.Helper()
	for what, spoil := range spoilings {
		s := life(t, steps...)
		d := &s.Decisions[i]
		if !spoil(d) {
			continue
		}
		if o := d.Outcome; o != nil {
			s.Registrations = slices.DeleteFunc(s.Registrations, func(r Record) bool {
				var p published
				return json.Unmarshal(r.Value, &p) == nil && p.Offset == o.Offset && (p.RequestID == "") == (d.Kind == KindFact)
			})
			s.publish(*o)
		}
		if len(Check(s.History)) == 0 {
			t.Errorf("another %s of row %d (%s) is not seen", what, i, d.words())
		}
	}
	s := life(t, steps...)
	s.Decisions = without(s.Decisions, i)
	if len(Check(s.History)) == 0 {
		t.Errorf("that row %d is missing is not seen", i)
	}
}
