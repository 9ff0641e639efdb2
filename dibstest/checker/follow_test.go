package checker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// renamed is a rename and all that goes with it, over a reservation that nobody confirms.
func renamed(t *testing.T) *story {
	return life(t,
		"0 1 UsernameClaimed owner=u-1",
		"1 2 UsernameClaimed name=bob owner=u-1 replaces=alice@1",                                                     // at 1, its release at 2
		"2 3 UsernameClaimed name=carol owner=u-1 mode=reserve replaces=bob@1",                                        // 3
		"3 4 UsernameClaimed name=dave owner=u-2 mode=reserve ttl_seconds=10",                                         // 4
		"14 "+expiryID(id(4), at(13))+" ExpiryDue name=dave claim_id=#4 expires_at=+13 dibs!",                         // 5
		"15 5 ExpiryDue name=dave claim_id=#4 expires_at=+13 dibs!",                                                   // 6: nothing to do
		"16 6 UsernameClaimed name=erin owner=u-1 replaces=frank@1",                                                   // 7, its release at 8 is rejected
		"17 7 UsernameClaimed space=cool name=gina owner=u-1", "18 8 ReleaseRequested space=cool name=gina owner=u-1", // 9, 10
		"19 9 UsernameClaimed owner=u-3", "20 10 WithdrawRequested claim_id=#9 owner=u-3", // 11, 12
		"21 11 UsernameClaimed name=hugo owner=u-1 mode=reserve ttl_seconds=1", "22 12 UsernameClaimed name=hugo owner=u-2", // 13, 14
		"23 13 BlockRequested name=hugo actor=ada reason=rude !", // 15
	)
}

// published finds the record about a position on registrations.
func (s *story) published(offset int64, kind string) *Record {
	for i := range s.Registrations {
		r := &s.Registrations[i]
		if v := string(r.Value); strings.Contains(v, fmt.Sprintf(`"offset":%d,`, offset)) && strings.Contains(v, `"outcome":"`+kind+`"`) {
			return r
		}
	}
	s.t.Fatalf("there is no %s of offset %d", kind, offset)
	return nil
}

func (s *story) name(key string) *Name {
	for i := range s.Names {
		if s.Names[i].Key == key {
			return &s.Names[i]
		}
	}
	s.t.Fatalf("there is no name %s", key)
	return nil
}

// forget takes a record of claims away with all that it left, as if the log ended before it.
func (s *story) forget(offset int64) {
	s.Claims = slices.DeleteFunc(s.Claims, func(r Record) bool { return r.Offset == offset })
	s.Decisions = slices.DeleteFunc(s.Decisions, func(d Decision) bool { return d.Offset == offset })
	s.Registrations = slices.DeleteFunc(s.Registrations, func(r Record) bool {
		return strings.Contains(string(r.Value), fmt.Sprintf(`"offset":%d}`, offset)) || strings.Contains(string(r.Value), fmt.Sprintf(`"offset":%d,`, offset))
	})
}

// another changes a signed record of dibs, which signs it again.
func (s *story) another(offset int64, change func(*Record)) {
	r := &s.Claims[offset]
	change(r)
	r.Headers = r.Headers[:len(r.Headers)-1]
	seal(r, "k1", "a secret")
}

// TestRenamed breaks what is not said by the decision of one record alone.
func TestRenamed(t *testing.T) {
	for _, v := range Check(renamed(t).History) {
		t.Fatal(v)
	}
	for _, c := range []struct {
		name, text string
		spoil      func(*story)
	}{
		{"a release that is never published", "was never published", func(s *story) { s.forget(8) }},
		{"a release that anybody may have written", "was never published", func(s *story) {
			r := &s.Claims[8]
			r.Headers = r.Headers[:len(r.Headers)-1]
		}},
		{"a release at another version", "expected that of username/alice", func(s *story) {
			s.another(2, func(r *Record) {
				r.Value = []byte(strings.Replace(string(r.Value), `"expected_version":1`, `"expected_version":2`, 1))
			})
		}},
		{"a release without a version", "expected that of username/alice", func(s *story) {
			s.another(2, func(r *Record) { r.Value = []byte(strings.Replace(string(r.Value), `"expected_version":1,`, ``, 1)) })
		}},
		{"a release by another owner", "expected that of username/alice", func(s *story) {
			s.another(2, func(r *Record) { r.Value = []byte(strings.Replace(string(r.Value), `u-1`, `u-2`, 1)) })
		}},
		{"a release under another key", "has the key", func(s *story) { s.another(2, func(r *Record) { r.Key = []byte("username/bob") }) }},
		{"a release that nobody asked for", "which no decision leads to", func(s *story) {
			s.another(2, func(r *Record) { r.Headers[2] = header("ce_id", releaseID(id(3), "username/carol")) })
		}},
		{"a release that was not decided", "was never decided", func(s *story) {
			s.decision(0, 2).RequestID = id(77)
		}},
		{"a release that ends for no reason", "that explains nothing", func(s *story) {
			s.decision(0, 8).Outcome.Reason = "deadline_passed"
		}},
		{"another outcome that leads to a release", "releases another name", func(s *story) {
			s.decision(0, 12).FollowKey = "bob"
		}},
		{"a question before the time", "before it is", func(s *story) { s.Claims[5].Time = at(12) }},
		{"nothing to do, and published", "nobody is told that", func(s *story) { s.publish(*s.decision(0, 6).Outcome) }},
		{"a fact that is never published", "was never published", func(s *story) {
			*s.published(14, "Expired") = s.Registrations[0]
		}},
		{"a fact that is told as an answer", "where none is committed", func(s *story) {
			r := s.published(5, "Expired")
			r.Value = []byte(strings.Replace(string(r.Value), `"request_id"`, `"cause"`, 1))
		}},
		{"a fact under another number", "header ce_id", func(s *story) {
			o := *s.decision(0, 14).Outcome
			o.Seq = 1
			s.published(14, "Expired").Headers[2] = header("ce_id", eventID(&o))
		}},
		{"a fact behind its outcome", "left a row fact", func(s *story) {
			for i := range s.Decisions {
				if d := &s.Decisions[i]; d.Offset == 14 {
					d.Seq = 1 - d.Seq
				}
			}
		}},
		{"settled, and not said", "Settled is false", func(s *story) { s.name("bob").Settled = false }},
		{"what a reservation gives up is lost", "Replaces is ,", func(s *story) { s.name("carol").Replaces = "" }},
		{"what it gives up has another version", "ReplacesVersion is 2", func(s *story) { s.name("carol").ReplacesVersion = 2 }},
		{"another expiry", "ExpiresAt is", func(s *story) { s.name("carol").ExpiresAt = at(99) }},
		{"nobody may come back", "Previous is ,", func(s *story) { s.name("gina").Previous = "" }},
		{"a freed name has an owner", "Owner is u-3", func(s *story) { s.name("alice").Owner = "u-3" }},
		{"a blocked name is free", "State is free", func(s *story) { s.name("hugo").State = "free" }},
		{"a client was told more than there is", "a client was told", func(s *story) {
			s.Answers = []Answer{{RequestID: id(6), Outcome: "withdrawn"}}
		}},
		{"a client was told of no rejection", "a client was told", func(s *story) {
			s.Answers = []Answer{{RequestID: releaseID(id(6), "username/erin"), Outcome: "accepted"}}
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			s := renamed(t)
			c.spoil(s)
			found := Check(s.History)
			if !slices.ContainsFunc(found, func(v Violation) bool { return strings.Contains(v.Text, c.text) }) {
				t.Errorf("want %q; found %s", c.text, strconv.Quote(fmt.Sprint(found)))
			}
		})
	}
}

// TestToldOf: what clients may be told of a claim that was withdrawn, and of what is no rejection.
func TestToldOf(t *testing.T) {
	s := renamed(t)
	s.Answers = []Answer{
		{RequestID: id(9), Outcome: "Accepted", Version: 3}, {RequestID: id(9), Outcome: "withdrawn"},
		{RequestID: id(9), Outcome: "Rejected", Reason: "withdrawn"}, {RequestID: id(8), Outcome: "accepted", Version: 2},
	}
	for _, v := range Check(s.History) {
		t.Error(v)
	}
}

// TestFold: the decisions are looked at without the log too. Each of these follows from what was before it in no way.
func TestFold(t *testing.T) {
	held := standing{"registered", "u-1", "c", 3}
	for _, c := range []struct {
		was standing
		is  Outcome
	}{
		{held, Outcome{Type: "Accepted", State: "registered", Owner: "u-2", ClaimID: "d", Version: 4}},
		{held, Outcome{Type: "Accepted", State: "reserved", Owner: "u-1", ClaimID: "d", Version: 4}},
		{standing{"blocked", "", "", 3}, Outcome{Type: "Accepted", State: "registered", Owner: "u-1", ClaimID: "d", Version: 4}},
		{standing{"free", "", "", 3}, Outcome{Type: "Accepted", State: "registered", Owner: "u-1", ClaimID: "d", Version: 3}},
		{standing{"free", "", "", 3}, Outcome{Type: "Accepted", State: "registered", Owner: "u-1", ClaimID: "d", Version: 5}},
		{standing{"free", "", "", 3}, Outcome{Type: "Confirmed", State: "registered", Owner: "u-1", ClaimID: "c", Version: 4}},
		{standing{"reserved", "u-1", "c", 3}, Outcome{Type: "Confirmed", State: "registered", Owner: "u-1", ClaimID: "d", Version: 4}},
		{standing{"reserved", "u-2", "c", 3}, Outcome{Type: "Extended", State: "reserved", Owner: "u-1", ClaimID: "c", Version: 4}},
		{held, Outcome{Type: "Released", State: "free", Owner: "u-2", ClaimID: "c", Version: 4}},
		{held, Outcome{Type: "Withdrawn", State: "free", Owner: "u-1", ClaimID: "d", Version: 4}},
		{standing{"free", "", "", 3}, Outcome{Type: "Deactivated", State: "free", Owner: "u-1", ClaimID: "c", Version: 4}},
		{held, Outcome{Type: "Expired", State: "free", Owner: "u-1", ClaimID: "c", Version: 4}},
		{held, Outcome{Type: "Reactivated", State: "registered", Owner: "u-1", ClaimID: "d", Version: 4}},
		{standing{"cooling", "", "c", 3}, Outcome{Type: "Transferred", State: "registered", Owner: "u-1", ClaimID: "d", Version: 4}},
		{held, Outcome{Type: "Blocked", State: "blocked", Version: 4}},
		{held, Outcome{Type: "Unblocked", State: "free", Version: 4}},
	} {
		j := new(judge)
		was := c.was
		j.fold(&was, &c.is)
		if len(j.violations) != 1 || j.violations[0].Promise != 1 {
			t.Errorf("%+v after %+v: %v", c.is, c.was, j.violations)
		}
	}
}

// policy is the step of a PolicyActivated.
func policy(second, n, version int, with string) string {
	value := `{"space":"username","version":` + strconv.Itoa(version) + `,"policy":{"min_length":3,"max_length":32,"reserved":["root"],"ttl_seconds":900,` +
		`"shortest_ttl_seconds":20,"longest_ttl_seconds":604800,"cool_down_seconds":60,"previous_may_return":true,"unique_among":"active"},"rules":1,"keys":["k1"],"signatures":"privileged"}`
	if old, is, ok := strings.Cut(with, "→"); ok {
		value = strings.Replace(value, old, is, 1)
	}
	return fmt.Sprintf("%d 00000000-0000-8000-8000-%012d PolicyActivated name= dibs! raw=%s", second, n, value)
}

// TestPolicies: from its record on a policy holds, and not before.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		says, left string
		steps      []string
	}{
		{"it leaves one row", "policy", []string{policy(0, 1, 2, "")}},
		{"a copy of it too", "policy", []string{policy(0, 1, 2, ""), policy(1, 1, 2, "")}},
		{"it starts a cool-down", "Released cooling 2 u-1 #1 +62", after("owner=u-1", policy(1, 1, 2, ""), "2 2 ReleaseRequested owner=u-1")},
		{"not before", "Released free 2 u-1 #1", after("owner=u-1", "2 2 ReleaseRequested owner=u-1")},
		{"not at the version that holds", "Released free 2 u-1 #1", after("owner=u-1", policy(1, 1, 1, ""), "2 2 ReleaseRequested owner=u-1")},
		{"nor at a lower one", "Released free 2 u-1 #1", after("owner=u-1", policy(1, 1, 3, `seconds":60,→seconds":0,`), policy(1, 2, 2, ""), "2 2 ReleaseRequested owner=u-1")},
		{"what was begun goes on", "Rejected cooling_down", after("owner=u-1", policy(1, 1, 2, ""), "2 2 ReleaseRequested owner=u-1", policy(3, 2, 3, `seconds":60,→seconds":0,`), "4 3 UsernameClaimed owner=u-2")},
		{"a new space is known from there", "Accepted registered 1 u-1", []string{policy(0, 1, 1, "username→planet"), "1 1 UsernameClaimed space=planet owner=u-1"}},
		{"its shortest ttl holds", "Rejected invalid_request", []string{policy(0, 1, 2, ""), "1 1 UsernameClaimed owner=u-1 mode=reserve ttl_seconds=19"}},
		{"its words are reserved", "Accepted registered 1 u-1", []string{policy(0, 1, 2, ""), "1 1 UsernameClaimed name=admin owner=u-1"}},
		{"its names are long enough", "Rejected invalid_name", []string{policy(0, 1, 2, "3→6"), "1 1 UsernameClaimed owner=u-1"}},
		{"who is not active loses the name", "Deactivated free 2 u-1 #1", after("owner=u-1", policy(1, 1, 2, ""), "2 2 DeactivateRequested owner=u-1")},
		{"a key that is retired signs no more", "Rejected not_allowed", []string{policy(0, 1, 2, ""), "1 1 BlockRequested actor=ada reason=rude !!"}},
		{"before that it did", "Blocked blocked 1 by ada", []string{"1 1 BlockRequested actor=ada reason=rude !!"}},
		{"everything may have to be signed", "Rejected not_allowed", []string{policy(0, 1, 2, "privileged→all"), "1 1 UsernameClaimed owner=u-1"}},
		{"and then is", "Accepted registered 1 u-1", []string{policy(0, 1, 2, "privileged→all"), "1 1 UsernameClaimed owner=u-1 !"}},
		{"a rename or what exists was the latter", "Accepted registered 1 u-1 #1", after("owner=u-1", policy(1, 1, 2, ""), "2 2 UsernameClaimed owner=u-1 replaces=bob@1 on_conflict=return_existing")},
		{"and is neither by rules 2", "Rejected invalid_request", after("owner=u-1", policy(1, 1, 2, `"rules":1→"rules":2`), "2 2 UsernameClaimed owner=u-1 replaces=bob@1 on_conflict=return_existing")},
		{"which stay", "Rejected invalid_request", after("owner=u-1", policy(1, 1, 2, `"rules":1→"rules":2`), policy(2, 2, 3, ""), "3 2 UsernameClaimed owner=u-1 replaces=bob@1 on_conflict=return_existing")},
		{"who is not dibs activates nothing", "dead", []string{strings.Replace(policy(0, 1, 2, ""), "dibs!", "!", 1)}},
		{"nor without a signature", "dead", []string{strings.Replace(policy(0, 1, 2, ""), "dibs!", "", 1)}},
		{"what is no policy is none", "dead", []string{policy(0, 1, 2, `"reserved":["root"],→`)}},
		{"nor what contradicts itself", "dead", []string{policy(0, 1, 2, `"ttl_seconds":900→"ttl_seconds":9`)}},
		{"nor what is unique among some", "dead", []string{policy(0, 1, 2, `active→most`)}},
	} {
		t.Run(strings.ReplaceAll(c.says, " ", "_"), func(t *testing.T) {
			s := life(t, c.steps...)
			if left := s.left(int64(len(s.Claims) - 1)); left != c.left {
				t.Errorf("it left %q, expected %q", left, c.left)
			}
			for _, v := range Check(s.History) {
				t.Error(v)
			}
		})
	}
	// A decider that knows nothing of the policy is found out, and one that forgets it.
	s := life(t, after("owner=u-1", policy(1, 1, 2, ""), "2 2 ReleaseRequested owner=u-1")...)
	for _, spoil := range []func(){
		func() { s.decision(0, 1).Kind = KindDead },
		func() { s.decision(0, 2).Outcome.PolicyVersion = 1 },
		func() {
			o := s.decision(0, 2).Outcome
			o.State, o.ExpiresAt = "free", time.Time{}
		},
	} {
		s = life(t, after("owner=u-1", policy(1, 1, 2, ""), "2 2 ReleaseRequested owner=u-1")...)
		spoil()
		if len(Check(s.History)) == 0 {
			t.Error("it is not seen")
		}
	}
}
