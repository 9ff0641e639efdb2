package checker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// wipedStory is a history in which alice was u-1's, who was erased: what is u-1's up to then is wiped, and what others asked is not.
func wipedStory(t *testing.T) *story {
	s := life(t,
		"0 1 UsernameClaimed owner=u-1",
		"1 2 UsernameClaimed owner=u-2",
		"2 3 WithdrawRequested claim_id=#9 owner=u-1",
		"3 4 ErasureRequested owner=u-1 actor=ada reason=asked !",
		"4 1 UsernameClaimed owner=u-1",
		"5 5 ReleaseRequested owner=u-1",
		"6 6 UsernameClaimed owner=u-3",
		"7 7 ErasureRequested owner=u-2 actor=ada reason=asked !", // not theirs any more, nor ever
		"8 8 UsernameClaimed name=bob owner=u-1",
		"9 9 ErasureRequested name=bob owner=u-1 actor=ada reason=asked !",
	)
	s.ErasureSecret = []byte("a secret that is kept apart")
	for i := range s.Decisions {
		switch d := &s.Decisions[i]; d.Offset {
		case 0, 1, 2, 3, 8, 9:
			*d = s.wiped(*d)
			d.Erased = true
		}
	}
	for i := range s.Names {
		if n := &s.Names[i]; n.Key == "bob" {
			n.Key, n.Erased = s.erased("key", "username", "bob"), true
		}
	}
	// The repeated claim was answered behind the erasure.
	again := &s.Registrations[len(s.Registrations)-6]
	if !strings.Contains(string(again.Value), id(1)) {
		t.Fatalf("%s is no answer of the first claim", again.Value)
	}
	s.wipeCopy(again)
	s.Answers = []Answer{
		{RequestID: id(1), RecordKey: alice, Outcome: "Accepted", Version: 1},
		{RequestID: id(1), RecordKey: "username/" + s.erased("key", "username", "alice"), Outcome: "Accepted", Version: 1},
	}
	return s
}

// wipeCopy makes a published outcome what is published of it once its row is wiped.
func (s *story) wipeCopy(r *Record) {
	var all map[string]any
	if err := json.Unmarshal(r.Value, &all); err != nil {
		s.t.Fatal(err)
	}
	form := s.erased("key", "username", fmt.Sprint(all["key"]))
	all["key"], all["name"], all["owner"] = form, "", ""
	r.Value, _ = json.Marshal(all)
	r.Key = []byte("username/" + form)
	r.Headers[len(r.Headers)-1].Value = r.Key
}

func TestWipedHistory(t *testing.T) {
	for _, v := range Check(wipedStory(t).History) {
		t.Error(v)
	}
}

// TestWipedViolations: what is wrong about wiped rows is seen.
func TestWipedViolations(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		spoil func(*story)
	}{
		"not wiped":              {"was to be wiped, and is not", func(s *story) { *s.decision(0, 0) = *life(s.t, "0 1 UsernameClaimed owner=u-1").decision(0, 0) }},
		"a mark that is not":     {"was to be wiped, and is not", func(s *story) { s.decision(0, 2).Owner, s.decision(0, 2).Erased = "u-1", false }},
		"wiped and not asked":    {"nobody has asked for that", func(s *story) { *s.decision(0, 6) = s.wiped(*s.decision(0, 6)); s.decision(0, 6).Erased = true }},
		"wiped before its time":  {"nobody has asked for that", func(s *story) { *s.decision(0, 5) = s.wiped(*s.decision(0, 5)); s.decision(0, 5).Erased = true }},
		"the owner is left":      {"Owner is u-1", func(s *story) { s.decision(0, 0).Outcome.Owner = "u-1" }},
		"the name is left":       {"Name is alice", func(s *story) { s.decision(0, 0).Outcome.Name = "alice" }},
		"the key is left":        {"Key is alice", func(s *story) { s.decision(0, 0).Outcome.Key = "alice" }},
		"another version":        {"Version is 2", func(s *story) { s.decision(0, 0).Outcome.Version = 2 }},
		"another outcome":        {"Type is Rejected", func(s *story) { s.decision(0, 0).Outcome.Type = "Rejected" }},
		"another hash":           {"RequestHash", func(s *story) { s.decision(0, 0).Outcome.RequestHash = strings.Repeat("0", 64) }},
		"a mark of another":      {"the mark", func(s *story) { s.decision(0, 2).Owner = s.erased("owner", "u-2") }},
		"the principal is left":  {"is of request", func(s *story) { s.decision(0, 0).Principal = "gateway" }},
		"an actor who is gone":   {"by actor", func(s *story) { s.decision(0, 3).Actor = "" }},
		"a name by its key":      {"knows of no holder", func(s *story) { s.nameOf("erased").Key = "bob" }},
		"a name not as erased":   {"Erased is false", func(s *story) { s.nameOf("erased").Erased = false }},
		"another secret":         {"", func(s *story) { s.ErasureSecret = []byte("another") }},
		"published, not wiped":   {"differs from the decision", func(s *story) { s.wipeCopy(&s.Registrations[len(s.Registrations)-4]) }},
		"told under another key": {"is not decided", func(s *story) { s.Answers[1].RecordKey = "username/" + s.erased("key", "username", "bob") }},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s := wipedStory(t)
			c.spoil(s)
			found := Check(s.History)
			for _, v := range found {
				if strings.Contains(v.Text, c.text) {
					return
				}
			}
			t.Errorf("want %q; found %q", c.text, found)
		})
	}
}

// nameOf finds the row whose key begins so.
func (s *story) nameOf(prefix string) *Name {
	for i := range s.Names {
		if strings.HasPrefix(s.Names[i].Key, prefix) {
			return &s.Names[i]
		}
	}
	s.t.Fatalf("there is no name %s", prefix)
	return nil
}
