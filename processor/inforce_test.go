package processor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// policyLog is a log of one partition, and what it has come to: each record is decided alone, or all of them in one run.
type policyLog struct {
	t       *testing.T
	rules   processor.Rules
	records []processor.Message
}

func newPolicyLog(t *testing.T) *policyLog {
	keys := claims.Keys{"k1": []byte("first"), "k2": []byte("second")}
	return &policyLog{t: t, rules: processor.Rules{Partitions: 1, Policies: names.Builtin(), Keys: keys}}
}

func (l *policyLog) key(id string) claims.SigningKey {
	return claims.SigningKey{ID: id, Secret: l.rules.Keys[id]}
}

func (l *policyLog) add(r cloudevents.Record) {
	r.Time = time.Date(2026, 11, 21, 10, 0, len(l.records), 0, time.UTC)
	l.records = append(l.records, processor.Message{Offset: int64(len(l.records)), Record: r})
}

// ask appends a request, under an id that its number gives.
func (l *policyLog) ask(n byte, body claims.Body) {
	space, name := body.Name()
	id := uuid.UUID{6: 0x40, 8: 0x80, 15: n}
	l.add(claims.NewRecord(body, cloudevents.Event{ID: id, Source: "test"}, names.Ref{Space: space, Key: names.Key(strings.ToLower(name))}))
}

func (l *policyLog) claim(n byte, space names.Space, name, owner string) {
	l.ask(n, &claims.UsernameClaimed{Space: space, Spelling: name, Owner: owner, Mode: claims.ModeRegister})
}

func (l *policyLog) activate(key string, a claims.PolicyActivated, change func(*names.Policy)) {
	p := *names.Builtin()[names.Username]
	p.Space, p.Version = a.Space, a.Version
	if change != nil {
		change(&p)
	}
	a.Policy, a.Rules = &p, max(a.Rules, 1)
	if p.Form != nil {
		a.Rules = max(a.Rules, 2)
	}
	if a.Keys == nil {
		a.Keys = []string{"k1", "k2"}
	}
	r, err := a.Record("test", time.Time{}, l.key(key))
	if err != nil {
		l.t.Fatal(err)
	}
	l.add(r)
}

// decide decides the log in runs of so many records, and says what became of each.
func (l *policyLog) decide(size int) (said []string, f *processor.InForce) {
	l.t.Helper()
	known := processor.Known{
		Holdings: make(map[names.Ref]registrations.Holding), Outcomes: make(map[processor.Request]registrations.Outcome), Marks: make(map[processor.Mark]struct{}),
	}
	var logTime time.Time
	for from := 0; from < len(l.records); from += size {
		g, err := processor.NewRegime(l.rules, f)
		if err != nil {
			l.t.Fatal(err)
		}
		run, err := processor.ReceiveAll(l.records[from:min(from+size, len(l.records))], g)
		d := processor.Decide(processor.Ledger{LogEpoch: 1, LogTime: logTime, Rules: g.Rules, InForce: f, Known: known}, run)
		logTime = d.LogTime
		if d.InForce != nil {
			f = d.InForce
		}
		for _, row := range d.Rows {
			what := string(row.Kind)
			if row.Kind == processor.KindOutcome {
				o := row.Outcome
				known.Outcomes[processor.Request{ID: row.RequestID}] = o
				what = strings.TrimSpace(fmt.Sprintf("%s %s %s v%d", o.Type, o.Reason, o.State, o.PolicyVersion))
			}
			said = append(said, what)
		}
		for _, c := range d.Changes {
			known.Holdings[c.Ref] = c.Holding
		}
		if err != nil {
			return append(said, err.Error()), f
		}
	}
	return said, f
}

// becomes checks what a log leads to, in one run and record by record.
func (l *policyLog) becomes(want ...string) *processor.InForce {
	l.t.Helper()
	var last *processor.InForce
	for _, size := range []int{len(l.records), 1, 2, 3} {
		got, f := l.decide(size)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			l.t.Errorf("in runs of %d it leads to\n  %s\nwant\n  %s", size, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		last = f
	}
	return last
}

func on(name string) claims.About { return claims.About{Space: names.Username, Spelling: name} }

// TestPolicyHoldsFromItsRecordOn: not before, not later, and only with a higher version.
func TestPolicyHoldsFromItsRecordOn(t *testing.T) {
	l := newPolicyLog(t)
	l.claim(1, names.Username, "alice", "u-1")
	l.claim(2, "invoice-number", "2026-1", "acme")
	l.activate("k1", claims.PolicyActivated{Space: "invoice-number", Version: 1}, nil)
	l.claim(3, "invoice-number", "2026-1", "acme")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 3}, func(p *names.Policy) { p.CoolDown = time.Hour })
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2}, nil) // lower
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 3}, nil) // no higher
	l.ask(4, &claims.ReleaseRequested{About: on("alice"), Owner: "u-1"})
	f := l.becomes(
		"Accepted  registered v1", "Rejected unknown_space  v0", "policy", "Accepted  registered v1",
		"policy", "policy", "policy", "Released  cooling v3",
	)
	if f.Policies.Version(names.Username) != 3 || f.Policies.Version("invoice-number") != 1 || len(f.Policies) != 2 {
		t.Errorf("in force is %s", f.JSON())
	}
}

// TestRequestRepeatedUnderAnotherPolicy has its one answer, although its name had no key then, or has none now.
func TestRequestRepeatedUnderAnotherPolicy(t *testing.T) {
	l := newPolicyLog(t)
	l.claim(1, "invoice-number", "2026-1", "acme")
	l.claim(2, names.Username, "Alice", "u-1")
	l.claim(3, names.Username, "ab", "u-1")
	l.activate("k1", claims.PolicyActivated{Space: "invoice-number", Version: 1}, nil)
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2}, func(p *names.Policy) { p.MinLength, p.MaxLength = 1, 4 })
	l.claim(1, "invoice-number", "2026-1", "acme")
	l.claim(2, names.Username, "ALICE", "u-1")
	l.claim(3, names.Username, "ab", "u-1")
	l.claim(1, "invoice-number", "2026-2", "acme") // something else under a used id
	l.claim(2, names.Username, "alice", "u-2")
	l.becomes(
		"Rejected unknown_space  v0", "Accepted  registered v1", "Rejected invalid_name  v1", "policy", "policy",
		"duplicate", "duplicate", "duplicate", "dead", "dead",
	)
}

// TestHolderOfANameThatIsTooShort: a policy takes nothing from anybody. Who holds a name can do with it what any holder
// can, and nobody else gets it.
func TestHolderOfANameThatIsTooShort(t *testing.T) {
	l := newPolicyLog(t)
	for n, name := range []string{"ann", "bob", "cat", "dan", "eve"} {
		l.claim(byte(1+n), names.Username, name, "u-1")
	}
	l.ask(6, &claims.UsernameClaimed{Space: names.Username, Spelling: "fay", Owner: "u-1", Mode: claims.ModeReserve})
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2}, func(p *names.Policy) {
		p.MinLength, p.Reserved = 5, map[names.Key]struct{}{"ann": {}}
	})
	l.ask(11, &claims.ReleaseRequested{About: on("Ann"), Owner: "u-2"})
	l.ask(12, &claims.ReleaseRequested{About: on("Ann"), Owner: "u-1"})
	l.claim(13, names.Username, "ann", "u-1") // and not back
	l.ask(14, &claims.TransferRequested{About: on("bob"), Owner: "u-1", NewOwner: "u-2"})
	l.ask(15, &claims.DeactivateRequested{About: on("cat"), Owner: "u-1"})
	l.ask(16, &claims.ReactivateRequested{About: on("cat"), Owner: "u-1"})
	l.ask(17, &claims.WithdrawRequested{About: on("dan"), ClaimID: uuid.UUID{6: 0x40, 8: 0x80, 15: 4}, Owner: "u-1"})
	l.ask(18, &claims.ConfirmRequested{About: on("fay"), ClaimID: uuid.UUID{6: 0x40, 8: 0x80, 15: 6}, Owner: "u-1"})
	l.ask(19, &claims.UsernameClaimed{Space: names.Username, Spelling: "evelyn", Owner: "u-1", Mode: claims.ModeRegister, Replaces: &claims.Replaces{Name: "eve", Version: 1}})
	l.ask(20, &claims.ReleaseRequested{About: on("gus"), Owner: "u-1"}) // never a name
	l.becomes(
		"Accepted  registered v1", "Accepted  registered v1", "Accepted  registered v1", "Accepted  registered v1", "Accepted  registered v1",
		"Accepted  reserved v1", "policy",
		"Rejected not_owner  v2", "Released  free v2", "Rejected invalid_name  v2", "Transferred  registered v2", "Deactivated  inactive v2",
		"Reactivated  registered v2", "Withdrawn  free v2", "Confirmed  registered v2", "Accepted  registered v2", "Rejected invalid_name  v2",
	)
}

// TestKeysAndSignatures: what a signature counts for is a matter of where it lies.
func TestKeysAndSignatures(t *testing.T) {
	l := newPolicyLog(t)
	block := func(n byte, key string) {
		id := uuid.UUID{6: 0x40, 8: 0x80, 15: n}
		name := fmt.Sprintf("name-%d", n)
		b := &claims.BlockRequested{About: on(name), Actor: "ada", Reason: "why"}
		l.add(l.key(key).Sign(claims.NewRecord(b, cloudevents.Event{ID: id, Source: "test"}, names.Ref{Space: names.Username, Key: names.Key(name)})))
	}
	block(1, "k1")
	block(2, "k2")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2, Keys: []string{"k2"}, SignedOnly: true}, nil)
	block(3, "k1") // retired
	block(4, "k2")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 3}, nil) // by a retired key: nobody's
	l.claim(5, names.Username, "alice", "u-1")
	l.activate("k2", claims.PolicyActivated{Space: "handle", Version: 1, Keys: []string{"k2"}}, nil)
	l.claim(6, names.Username, "alice", "u-1")
	block(1, "k1") // once more: what it was signed with does not count any more
	f := l.becomes(
		"Blocked  blocked v1", "Blocked  blocked v1", "policy", "Rejected not_allowed  v2", "Blocked  blocked v2", "dead",
		"Rejected not_allowed  v2", "policy", "Accepted  registered v2", "dead",
	)
	if f.SignedOnly || len(f.Keys) != 1 {
		t.Errorf("in force is %s", f.JSON())
	}
}

// TestWhatIsLackingIsNotDecided: the records before it are, and it is not.
func TestWhatIsLackingIsNotDecided(t *testing.T) {
	l := newPolicyLog(t)
	l.claim(1, names.Username, "alice", "u-1")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2, Keys: []string{"k1", "k9"}}, nil)
	l.claim(2, names.Username, "bobby", "u-1")
	l.becomes("Accepted  registered v1",
		"signatures of the key k9 hold from here on, and this process has no such key: add it to security.request_keys_file and restart, then dibs partitions resume")

	l = newPolicyLog(t)
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2}, nil)
	newer := l.records[0].Record
	newer.Value = []byte(strings.Replace(strings.Replace(string(newer.Value), `"rules":1`, `"rules":4`, 1), `"min_length"`, `"min_runes"`, 1))
	l.records = nil
	l.claim(1, names.Username, "alice", "u-1")
	l.add(l.key("k1").Sign(newer))
	l.becomes("Accepted  registered v1", "rules 4 hold from here on, and this dibs knows rules 3: run a newer one, then dibs partitions resume")
}

// TestRulesHoldFromTheirRecordOn: what earlier rules decided stands, and rules never go down.
func TestRulesHoldFromTheirRecordOn(t *testing.T) {
	l := newPolicyLog(t)
	both := func(n byte, name string) {
		l.ask(n, &claims.UsernameClaimed{
			Space: names.Username, Spelling: name, Owner: "u-1", Mode: claims.ModeRegister, OnConflict: claims.OnConflictReturn,
			Replaces: &claims.Replaces{Name: "alice", Version: 1},
		})
	}
	l.claim(1, names.Username, "alice", "u-1")
	l.claim(2, names.Username, "bobby", "u-1")
	both(3, "bobby")
	both(4, "alice")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2}, nil)
	both(5, "bobby")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 3, Rules: 2}, nil)
	both(6, "bobby")
	both(7, "ALICE")
	both(8, "carol")
	both(3, "bobby")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 4}, nil)
	both(9, "bobby")
	l.becomes(
		"Accepted  registered v1", "Accepted  registered v1", "Accepted  registered v1", "Accepted  registered v1",
		"policy", "Accepted  registered v2",
		"policy", "Rejected invalid_request  v3", "Rejected invalid_request  v3", "Rejected invalid_request  v3", "duplicate",
		"policy", "Rejected invalid_request  v4")
}

// TestReservedWordsHoldAsTheyWereApplied: what rules 2 applied compares names with reserved words by their canonical form, also
// once rules 3 hold; what was applied by rules 3 does by what they look like. A log of before is decided as it was.
func TestReservedWordsHoldAsTheyWereApplied(t *testing.T) {
	form := func(by names.ReservedBy) func(*names.Policy) {
		return func(p *names.Policy) {
			var err error
			if p.Form, err = (names.Precis{Tables: names.TablesLatest, Reserved: by}).Form(); err != nil {
				t.Fatal(err)
			}
			p.Reserved = p.ReservedKeys("admin", "root")
		}
	}
	l := newPolicyLog(t)
	l.activate("k1", claims.PolicyActivated{Space: "handle", Version: 1, Rules: 2}, form(names.ReservedByForm))
	l.claim(1, "handle", "Admin", "u-1")
	l.claim(2, "handle", "adm1n", "u-1")
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2, Rules: 3}, nil)
	l.claim(3, "handle", "r00t", "u-1")
	l.activate("k1", claims.PolicyActivated{Space: "handle", Version: 2, Rules: 3}, form(names.ReservedByLook))
	l.claim(4, "handle", "Admin", "u-1")
	l.claim(5, "handle", "Adrnin", "u-1")
	l.claim(6, "handle", "ro0t", "u-1")
	l.claim(7, "handle", "roots", "u-1")
	l.ask(8, &claims.TransferRequested{About: claims.About{Space: "handle", Spelling: "adm1n"}, Owner: "u-1", NewOwner: "u-2"}) // who has it keeps it
	l.claim(2, "handle", "adm1n", "u-1")
	f := l.becomes("policy", "Rejected reserved_word  v1", "Accepted  registered v1", "policy", "Accepted  registered v1",
		"policy", "Rejected reserved_word  v2", "Rejected reserved_word  v2", "Rejected reserved_word  v2", "Accepted  registered v2", "Transferred  registered v2", "duplicate")
	if read, err := processor.ReadInForce(f.JSON()); err != nil || !read.Equal(f) {
		t.Errorf("%s is read as %+v, %v", f.JSON(), read, err)
	}
}

// TestTablesThatAreLacking: a policy whose keys this build does not make halts the partition before its record, also where
// it holds already.
func TestTablesThatAreLacking(t *testing.T) {
	l := newPolicyLog(t)
	form, err := names.Precis{Tables: names.TablesLatest, Confusables: names.ConfusablesAsTyped}.Form()
	if err != nil {
		t.Fatal(err)
	}
	l.activate("k1", claims.PolicyActivated{Space: "handle", Version: 1}, func(p *names.Policy) {
		p.Form, p.Reserved = form, nil
	})
	l.claim(1, "handle", "paypal", "u-1")
	l.claim(2, "handle", "PAYPA1", "u-2")
	f := l.becomes("policy", "Accepted  registered v1", "Rejected confusable  v1")
	read, err := processor.ReadInForce(f.JSON())
	if err != nil || !read.Equal(f) {
		t.Errorf("%s is read as %+v, %v", f.JSON(), read, err)
	}

	other := func(text []byte) []byte {
		return []byte(strings.Replace(string(text), string(names.TablesLatest), "unicode-99.0.0/confusables-99.0.0/1", 1))
	}
	newer := l.records[0].Record
	newer.Value = other(newer.Value)
	l.records = nil
	l.claim(1, names.Username, "alice", "u-1")
	l.add(l.key("k1").Sign(newer))
	l.claim(2, "handle", "paypal", "u-1")
	said, _ := l.decide(3)
	if len(said) != 2 || !strings.Contains(said[1], "lacks the Unicode tables") || !strings.Contains(said[1], "then dibs partitions resume") {
		t.Errorf("it leads to %q", said)
	}
	read, err = processor.ReadInForce(other(f.JSON()))
	var lacking *processor.LackingError
	if _, under := l.rules.Under(read); err != nil || !errors.As(under, &lacking) || lacking.Tables == nil {
		t.Errorf("where it holds: %v, %v", err, under)
	}
}

func TestInForceJSON(t *testing.T) {
	l := newPolicyLog(t)
	l.activate("k1", claims.PolicyActivated{Space: names.Username, Version: 2, SignedOnly: true}, func(p *names.Policy) { p.Reserved = nil })
	l.activate("k1", claims.PolicyActivated{Space: "handle", Version: 1, Keys: []string{"k2"}, SignedOnly: true}, nil)
	f := l.becomes("policy", "policy")
	read, err := processor.ReadInForce(f.JSON())
	if err != nil || !read.Equal(f) || !read.SignedOnly || read.Policies.Version("handle") != 1 {
		t.Errorf("%s is read as %+v, %v", f.JSON(), read, err)
	}
	if f.Equal(nil) || (*processor.InForce)(nil).Equal(f) || !(*processor.InForce)(nil).Equal(nil) {
		t.Error("nothing is not something")
	}
	newer, err := processor.ReadInForce([]byte(`{"rules":99,"keys":["k1"],"signatures":"all","spaces":{"username":{"version":9,"policy":{"unicode":"precis"}}}}`))
	var lacking *processor.LackingError
	if _, under := l.rules.Under(newer); err != nil || !errors.As(under, &lacking) || lacking.Rules != 99 {
		t.Errorf("of a newer dibs: %v, %v", err, under)
	}
	for _, text := range []string{``, `{`, `{"rules":1,"spaces":{"username":{"version":2,"policy":{}}}}`, `{"rules":1,"spaces":{"username":{"version":2}}}`} {
		if f, err := processor.ReadInForce([]byte(text)); err == nil {
			t.Errorf("%s is %+v", text, f)
		}
	}
}

// TestPolicyBeyondThePinnedCount: a partition that was added to the topic takes policies like any other. Where it does,
// what was put there by mistake is forwarded under the key that its name has.
func TestPolicyBeyondThePinnedCount(t *testing.T) {
	start := processor.Rules{Partitions: 3, Policies: names.Builtin(), Keys: claims.Keys{"k1": []byte("one")}}
	p := *names.Builtin()[names.Username]
	p.Space, p.Version = "handle", 1
	activation, err := (&claims.PolicyActivated{Space: p.Space, Version: 1, Policy: &p, Rules: 1, Keys: []string{"k1"}}).Record("test", time.Time{}, claims.SigningKey{ID: "k1", Secret: start.Keys["k1"]})
	if err != nil {
		t.Fatal(err)
	}
	messages := []processor.Message{{Record: activation}}
	body := &claims.UsernameClaimed{Space: "handle", Spelling: "ALICE", Owner: "u-1", Mode: claims.ModeRegister}
	for i, wrong := range []string{"ALICE", "aLICE", "AlICE"} {
		e := cloudevents.Event{ID: uuid.UUID{6: 0x40, 8: 0x80, 15: byte(i)}, Source: "test"}
		messages = append(messages, processor.Message{Offset: int64(i + 1), Record: claims.NewRecord(body, e, names.Ref{Space: "handle", Key: names.Key(wrong)})})
	}
	decide := func(partition int32, f *processor.InForce, messages []processor.Message) processor.Decision {
		g, err := processor.NewRegime(start, f)
		if err != nil {
			t.Fatal(err)
		}
		run, err := processor.ReceiveAll(messages, g)
		if err != nil {
			t.Fatal(err)
		}
		return processor.Decide(processor.Ledger{Partition: partition, LogEpoch: 1, Rules: g.Rules, InForce: f}, run)
	}
	d := decide(7, nil, messages)
	if got := kinds(d); got != "policy forwarded forwarded forwarded" || d.InForce == nil || d.InForce.Policies.Version("handle") != 1 {
		t.Fatalf("partition 7 of 3: %s", got)
	}
	for _, row := range d.Rows[1:] {
		to := claims.Partition(string(row.Raw.Key), 3)
		if there := decide(to, d.InForce, []processor.Message{{Record: *row.Raw}}); kinds(there) != "Accepted" {
			t.Errorf("forwarded under %s to partition %d: %s", row.Raw.Key, to, kinds(there))
		}
	}
}

// TestUnreadableHalts: nothing is decided where it cannot be known what holds.
func TestUnreadableHalts(t *testing.T) {
	var lacking *processor.LackingError
	f := &processor.InForce{Unreadable: "space username: its ttl is odd"}
	if _, err := newPolicyLog(t).rules.Under(f); !errors.As(err, &lacking) || !strings.Contains(err.Error(), f.Unreadable) {
		t.Errorf("under what cannot be read: %v", err)
	}
}
