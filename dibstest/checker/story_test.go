package checker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)

// story is a history told record by record.
type story struct {
	History
	t *testing.T
}

// The keys of the story, and their partitions among two: alice and carol on 0, bob on 1.
const alice, bob, carol = "username/alice", "username/bob", "username/carol"

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func header(name, value string) Header { return Header{name, []byte(value)} }

// claim is a record of claims, as an API writes it.
func claim(p int32, offset int64, n int, key, value string, more ...Header) Record {
	return Record{
		Partition: p, LogEpoch: 1, Offset: offset, Key: []byte(key), Value: []byte(value), Time: at(int(offset)),
		Headers: append([]Header{
			header("content-type", "application/json"), header("ce_specversion", "1.0"), header("ce_id", id(n)),
			header("ce_type", "dibs.UsernameClaimed.v1"), header("ce_source", "test"), header("ce_dibsprincipal", "gateway"),
		}, more...),
	}
}

func ask(name, owner string) string {
	return fmt.Sprintf(`{"space":"username","name":%q,"owner":%q,"mode":"register"}`, name, owner)
}

// decide adds a record and its outcome, published once.
func (s *story) decide(r Record, o Outcome) {
	s.Claims = append(s.Claims, r)
	reqID, _ := r.header("ce_id")
	space, key, _ := strings.Cut(string(r.Key), "/")
	o.RequestID, o.Space, o.Key, o.LogTime, o.Partition, o.LogEpoch, o.Offset = reqID, space, key, r.Time, r.Partition, 1, r.Offset
	if o.ClaimID == "" {
		o.ClaimID = reqID
	}
	if q := read(&r, &builtin); !q.malformed {
		o.Name, o.Owner, o.RequestHash, o.PolicyVersion = q.name, q.owner, q.hash, 1
	}
	s.Decisions = append(s.Decisions, Decision{Partition: r.Partition, LogEpoch: 1, Offset: r.Offset, Kind: KindOutcome, RequestID: reqID, Principal: "gateway", Outcome: &o})
	s.publish(o)
}

// publish puts an outcome on registrations.
func (s *story) publish(o Outcome) {
	all := map[string]any{
		"request_id": o.RequestID, "claim_id": o.ClaimID, "space": o.Space, "key": o.Key, "name": o.Name, "owner": o.Owner,
		"request": o.Request, "outcome": o.Type, "reason": o.Reason, "state": o.State, "version": o.Version, "log_time": o.LogTime,
		"policy_version": o.PolicyVersion, "request_hash": o.RequestHash, "partition": o.Partition, "log_epoch": o.LogEpoch, "offset": o.Offset,
		"current_version": o.CurrentVersion,
	}
	if !o.ExpiresAt.IsZero() {
		all["expires_at"] = o.ExpiresAt
	}
	if s.fact(&o) {
		delete(all, "request_id")
		all["cause"] = o.RequestID
	}
	value, err := json.Marshal(all)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Registrations = append(s.Registrations, Record{
		Partition: o.Partition, Offset: int64(len(s.Registrations)), Key: []byte(o.recordKey()), Value: value, Time: o.LogTime,
		Headers: []Header{
			header("content-type", "application/json"), header("ce_specversion", "1.0"),
			header("ce_id", eventID(&o)),
			header("ce_type", "dibs."+o.Type+".v1"), header("ce_source", "dibs"),
			header("ce_time", o.LogTime.Format("2006-01-02T15:04:05.000Z")), header("ce_subject", o.recordKey()),
		},
	})
}

// fact reports whether an outcome is a fact, by its row.
func (s *story) fact(o *Outcome) bool {
	for i := range s.Decisions {
		if d := &s.Decisions[i]; d.Outcome != nil && d.place() == o.place() && d.Outcome.Type == o.Type {
			return d.Kind == KindFact
		}
	}
	return false
}

// row adds a record and a row about it that has no outcome of its own.
func (s *story) row(r Record, kind string) {
	s.Claims = append(s.Claims, r)
	reqID, _ := r.header("ce_id")
	s.Decisions = append(s.Decisions, Decision{Partition: r.Partition, LogEpoch: 1, Offset: r.Offset, Kind: kind, RequestID: reqID, Principal: "gateway"})
}

// good is a history in which everything is as it should be: accepted, taken, repeated, misrouted, malformed and dead.
func good(t *testing.T) *story {
	s := &story{t: t}
	s.Partitions, s.Topic = 2, "claims"
	s.decide(claim(0, 0, 1, alice, ask("Alice", "u-1")), Outcome{Type: "Accepted", State: "registered", Version: 1})
	s.decide(claim(0, 1, 2, alice, ask("alice", "u-2")), Outcome{Type: "Rejected", Reason: "taken"})
	s.row(claim(0, 2, 1, alice, ask("ALICE", "u-1"), header("traceparent", "x")), KindDuplicate)
	s.publish(*s.Decisions[0].Outcome)
	s.decide(claim(0, 4, 4, alice, "nonsense"), Outcome{Type: "Rejected", Reason: "malformed"}) // offset 3 is a marker
	misrouted := claim(1, 0, 5, carol, ask("carol", "u-3"))
	s.row(misrouted, KindForwarded)
	dead := claim(1, 1, 6, bob, ask("bob", "u-1"))
	dead.Headers[2].Value = []byte("17")
	s.row(dead, KindDead)
	s.Decisions[len(s.Decisions)-1].RequestID = ""
	s.DeadLetters = []Record{{Partition: 1, Key: dead.Key, Value: dead.Value, Headers: append(append([]Header{}, dead.Headers...),
		header("dibs-dead-topic", "claims"), header("dibs-dead-partition", "1"), header("dibs-dead-log-epoch", "1"),
		header("dibs-dead-offset", "1"), header("dibs-dead-reason", "ce_id is not a UUID"))}}
	s.decide(claim(0, 5, 5, carol, string(misrouted.Value), header("dibs-rerouted", "1")), Outcome{Type: "Accepted", State: "registered", Version: 1})
	s.Logs = []Log{{Partition: 1, End: 2}, {Partition: 0, End: 6}}
	s.Progress = []Progress{
		{Partition: 1, LogEpoch: 1, NextOffset: 2, LogTime: at(1), WriterEpoch: 3, PublishedThrough: 2},
		{Partition: 0, LogEpoch: 1, NextOffset: 6, LogTime: at(5), WriterEpoch: 2, PublishedThrough: 6},
	}
	s.Names = []Name{
		{Space: "username", Key: "alice", Partition: 0, State: "registered", Name: "Alice", Owner: "u-1", ClaimID: id(1), Version: 1, PolicyVersion: 1, Since: at(0)},
		{Space: "username", Key: "carol", Partition: 0, State: "registered", Name: "carol", Owner: "u-3", ClaimID: id(5), Version: 1, PolicyVersion: 1, Since: at(5)},
	}
	s.Answers = []Answer{
		{RequestID: id(1), RecordKey: alice, Outcome: "Accepted", Version: 1}, {RequestID: id(1), Outcome: "Accepted"},
		{RequestID: id(2), RecordKey: alice, Outcome: "Rejected", Reason: "taken"}, {RequestID: id(99)},
	}
	return s
}

// decision finds the row at a position of the story.
func (s *story) decision(p int32, offset int64) *Decision {
	for i := range s.Decisions {
		if d := &s.Decisions[i]; d.Partition == p && d.Offset == offset {
			return d
		}
	}
	s.t.Fatalf("there is no decision at %d@%d", p, offset)
	return nil
}

// without removes the i-th element.
func without[T any](all []T, i int) []T { return append(append([]T{}, all[:i]...), all[i+1:]...) }

func TestGoodHistory(t *testing.T) {
	for _, v := range Check(good(t).History) {
		t.Error(v)
	}
}

// TestViolations breaks the good history in every way that the checker is for, and looks that it says so.
func TestViolations(t *testing.T) {
	for _, c := range []struct {
		name    string
		promise int
		text    string
		spoil   func(*story)
	}{
		{"two holders", 1, "while somebody has the name", func(s *story) {
			o := s.decision(0, 1).Outcome
			o.Type, o.Reason, o.State, o.Version = "Accepted", "", "registered", 2
		}},
		{"the second claim wins", 2, "not what the log says", func(s *story) {
			a, b := s.decision(0, 0).Outcome, s.decision(0, 1).Outcome
			a.Type, b.Type = b.Type, a.Type
			a.Reason, b.Reason = b.Reason, a.Reason
			a.State, b.State = b.State, a.State
			a.Version, b.Version = b.Version, a.Version
		}},
		{"first version is not 1", 1, "is not the next version", func(s *story) { s.decision(0, 5).Outcome.Version = 2 }},
		{"another owner in names", 1, "Owner is u-9", func(s *story) { s.Names[0].Owner = "u-9" }},
		{"another version in names", 1, "Version is 2", func(s *story) { s.Names[0].Version = 2 }},
		{"a name is missing", 1, "has no row of username/carol", func(s *story) { s.Names = s.Names[:1] }},
		{"a name too many", 1, "knows of no holder", func(s *story) {
			s.Names = append(s.Names, Name{Space: "username", Key: "bob", Owner: "u-1"})
		}},
		{"a name twice", 8, "two rows of username/alice", func(s *story) { s.Names = append(s.Names, s.Names[0]) }},
		{"an answer by the holder's data", 2, "Owner is u-1, expected u-2", func(s *story) { s.decision(0, 1).Outcome.Owner = "u-1" }},
		{"an early log time", 2, "LogTime", func(s *story) { s.decision(0, 1).Outcome.LogTime = at(0) }},
		{"another hash", 2, "RequestHash", func(s *story) { s.decision(0, 1).Outcome.RequestHash = strings.Repeat("0", 64) }},
		{"another request's row", 2, "is of request", func(s *story) { s.decision(0, 1).RequestID = id(7) }},
		{"a request decided twice", 3, "is decided twice", func(s *story) {
			d := *s.decision(0, 0)
			d.Offset = 2
			*s.decision(0, 2) = d
		}},
		{"a duplicate decided again", 3, "expected duplicate", func(s *story) { s.decision(0, 2).Kind = KindDead }},
		{"a duplicate not answered", 3, "asked 2 times and answered 1 times", func(s *story) { s.Registrations = without(s.Registrations, 2) }},
		{"two rows of one record", 3, "left 2 rows", func(s *story) { s.Decisions = append(s.Decisions, *s.decision(0, 1)) }},
		{"a fact too many", 3, "left 2 rows (outcome, fact)", func(s *story) {
			d := *s.decision(0, 1)
			d.Kind, d.Seq = KindFact, 1
			s.Decisions = append(s.Decisions, d)
		}},
		{"copies differ in a header", 3, "copies of the outcome", func(s *story) {
			s.Registrations[2].Headers = append(s.Registrations[2].Headers, header("traceparent", "y"))
		}},
		{"copies differ in time", 3, "copies of the outcome", func(s *story) { s.Registrations[2].Time = at(9) }},
		{"copies differ in spacing", 3, "copies of the outcome", func(s *story) { s.Registrations[2].Value = append([]byte{' '}, s.Registrations[2].Value...) }},
		{"one event id for two outcomes", 4, "header ce_id", func(s *story) {
			s.Registrations[1].Headers[2] = s.Registrations[0].Headers[2]
		}},
		{"a client was told otherwise", 3, "decided is [Rejected taken", func(s *story) { s.Answers[2].Outcome, s.Answers[2].Reason = "Accepted", "" }},
		{"a client was told another version", 3, "version 2", func(s *story) { s.Answers[0].Version = 2 }},
		{"a client was told what is not decided", 3, "is not decided", func(s *story) { s.Answers[3].Outcome = "Accepted" }},
		{"published without a commit", 4, "where none is committed", func(s *story) {
			o := *s.decision(0, 0).Outcome
			o.Offset = 17
			s.publish(o)
		}},
		{"published is not what was decided", 4, "differs from the decision", func(s *story) {
			r := &s.Registrations[1]
			r.Value = []byte(strings.Replace(string(r.Value), `"taken"`, `"blocked"`, 1))
		}},
		{"committed and not published", 4, "never published", func(s *story) { s.Registrations = without(s.Registrations, 1) }},
		{"garbage on registrations", 4, "is no outcome", func(s *story) { s.Registrations[1].Value = []byte("x") }},
		{"a fact on registrations", 4, "where none is committed", func(s *story) {
			r := &s.Registrations[1]
			r.Value = []byte(strings.Replace(string(r.Value), `"request_id"`, `"cause"`, 1))
		}},
		{"published on another partition", 4, "its request on 0", func(s *story) { s.Registrations[1].Partition = 1 }},
		{"published under another key", 4, "has the key", func(s *story) { s.Registrations[1].Key = []byte("username/bob") }},
		{"published at another time", 4, "its log time is", func(s *story) { s.Registrations[1].Time = at(7) }},
		{"published with another header", 4, "header ce_type", func(s *story) { s.Registrations[1].Headers[3] = header("ce_type", "dibs.Accepted.v1") }},
		{"published with a random id", 4, "header ce_id", func(s *story) { s.Registrations[1].Headers[2] = header("ce_id", id(3)) }},
		{"cursor ahead of the offset", 4, "is above next_offset", func(s *story) { s.Progress[1].PublishedThrough = 7 }},
		{"cursor left behind", 4, "has not come to next_offset", func(s *story) { s.Progress[1].PublishedThrough = 5 }},
		{"cursor over what is not published", 4, "below published_through: true", func(s *story) {
			s.Running = true
			s.Registrations = without(s.Registrations, 1)
		}},
		{"a dead letter is missing", 4, "is not on the dead letter topic", func(s *story) { s.DeadLetters = nil }},
		{"a dead letter is changed", 4, "not the record as it was read", func(s *story) { s.DeadLetters[0].Value = []byte("x") }},
		{"a dead letter without a reason", 4, "reason \"\"", func(s *story) {
			s.DeadLetters[0].Headers = s.DeadLetters[0].Headers[:len(s.DeadLetters[0].Headers)-1]
		}},
		{"a dead letter of a living record", 4, "which is not dead", func(s *story) {
			r := s.DeadLetters[0]
			r.Headers = append([]Header{}, r.Headers...)
			r.Headers[len(r.Headers)-2] = header("dibs-dead-offset", "0")
			s.DeadLetters = append(s.DeadLetters, r)
		}},
		{"a record passed over", 5, "was passed over", func(s *story) { s.Decisions = without(s.Decisions, 1) }},
		{"a row without a record", 5, "no record there", func(s *story) {
			d := *s.decision(0, 2)
			d.Offset = 3
			s.Decisions = append(s.Decisions, d)
		}},
		{"not decided to the end", 5, "not decided to its end", func(s *story) { s.Logs[1].End = 7 }},
		{"past the end", 5, "past the end of its log", func(s *story) { s.Logs[0].End = 1 }},
		{"records lost", 5, "has lost records", func(s *story) { s.Logs[0].Start = 3; s.Logs[0].End = 9 }},
		{"never owned", 5, "was never owned", func(s *story) { s.Progress = s.Progress[1:] }},
		{"another log epoch", 5, "in log epoch 2", func(s *story) { s.Progress[0].LogEpoch = 2 }},
		{"misrouted and decided", 2, "expected forwarded to partition 0", func(s *story) { s.decision(1, 0).Kind = KindOutcome }},
		{"misrouted and lost", 5, "was not forwarded", func(s *story) {
			s.Claims = without(s.Claims, len(s.Claims)-1)
			s.Decisions = without(s.Decisions, len(s.Decisions)-1)
			s.Registrations = s.Registrations[:len(s.Registrations)-1]
			s.Names = s.Names[:1]
			s.Logs[1].End, s.Progress[1].NextOffset, s.Progress[1].PublishedThrough = 5, 5, 5
		}},
		{"other content under a used id", 3, "expected dead (other content under a used id)", func(s *story) {
			s.Claims[2].Value = []byte(ask("alice", "u-7"))
		}},
		{"a record twice in the history", 2, "twice in the history", func(s *story) { s.Claims = append(s.Claims, s.Claims[0]) }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			s := good(t)
			c.spoil(s)
			found := Check(s.History)
			for _, v := range found {
				if v.Promise == c.promise && strings.Contains(v.Text, c.text) {
					return
				}
			}
			t.Errorf("want promise %d, %q; found %s", c.promise, c.text, strconv.Quote(fmt.Sprint(found)))
		})
	}
}

// TestAllowed: what is no violation although it looks like one.
func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(*story)
	}{
		{"a halted partition is not decided to its end", func(s *story) {
			s.Logs[1].End = 9
			s.Progress[1].Halted = "for a reason"
		}},
		{"decided and published are behind while it runs", func(s *story) {
			s.Running = true
			s.Logs[1].End = 9
			s.Progress[1].PublishedThrough = 5
			s.Registrations = s.Registrations[:len(s.Registrations)-1]
		}},
		{"more copies than asked for", func(s *story) { s.Registrations = append(s.Registrations, s.Registrations[0], s.Registrations[1]) }},
		{"what the database refuses is dead", func(s *story) {
			s.Unstorable = func(r Record) bool { return r.Partition == 0 && r.Offset == 1 }
			s.decision(0, 1).Kind, s.decision(0, 1).Outcome = KindDead, nil
			s.Registrations = without(s.Registrations, 1)
			s.Undeliverable = func(Record) bool { return true }
			s.Answers = s.Answers[:2]
		}},
		{"an accepted gap: the next log starts anew", func(s *story) {
			r := claim(0, 3, 8, alice, ask("alice", "u-8"))
			r.LogEpoch, r.Time = 2, at(50)
			s.decide(r, Outcome{Type: "Rejected", Reason: "taken"})
			d := &s.Decisions[len(s.Decisions)-1]
			d.LogEpoch, d.Outcome.LogEpoch = 2, 2
			s.Registrations = s.Registrations[:len(s.Registrations)-1]
			s.publish(*d.Outcome)
			s.Logs = append(s.Logs, Log{Partition: 0, LogEpoch: 2, Start: 3, End: 4})
			s.Progress[1] = Progress{Partition: 0, LogEpoch: 2, NextOffset: 4, PublishedThrough: 4}
		}},
		{"records that retention has taken are trusted", func(s *story) {
			s.Claims = s.Claims[2:]
			s.Logs[1].Start = 2
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			s := good(t)
			c.make(s)
			for _, v := range Check(s.History) {
				t.Error(v)
			}
		})
	}
}

func TestRegressed(t *testing.T) {
	before := []Progress{{Partition: 3, LogEpoch: 1, NextOffset: 7, LogTime: at(7), WriterEpoch: 2, PublishedThrough: 5}}
	for name, spoil := range map[string]func(*Progress){
		"next_offset":       func(p *Progress) { p.NextOffset-- },
		"log_time":          func(p *Progress) { p.LogTime = at(6) },
		"writer_epoch":      func(p *Progress) { p.WriterEpoch-- },
		"published_through": func(p *Progress) { p.PublishedThrough-- },
		"log_epoch":         func(p *Progress) { p.LogEpoch-- },
		"the row":           func(p *Progress) { p.Partition++ },
	} {
		after := before[0]
		spoil(&after)
		if v := Regressed(before, []Progress{after}); len(v) != 1 {
			t.Errorf("%s went back: %v", name, v)
		}
	}
	for name, change := range map[string]func(*Progress){
		"nothing":    func(*Progress) {},
		"progress":   func(p *Progress) { p.NextOffset++; p.PublishedThrough = 8 },
		"an own log": func(p *Progress) { p.LogEpoch, p.NextOffset, p.PublishedThrough = 2, 0, 0 },
	} {
		after := before[0]
		change(&after)
		if v := Regressed(before, []Progress{after}); len(v) != 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
}
