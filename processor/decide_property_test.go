package processor_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkSplits decides the records in two runs, split at every point, and wants what one run leaves: wherever a batch
// happens to end, and wherever a processor dies and its heir goes on, the log gives the same.
func checkSplits(t fataler, l processor.Ledger, all []processor.Received) {
	t.Helper()
	whole := processor.Decide(l, all)
	for at := range len(all) + 1 {
		first := processor.Decide(l, all[:at])
		next := carried(l, first)
		second := processor.Decide(next, all[at:])
		if rows := slices.Concat(first.Rows, second.Rows); !reflect.DeepEqual(rows, whole.Rows) && len(all) > 0 {
			t.Fatalf("split at %d of %d the rows are\n%+v\nand in one run\n%+v", at, len(all), rows, whole.Rows)
		}
		if !second.LogTime.Equal(whole.LogTime) {
			t.Fatalf("split at %d the log time is %v, and in one run %v", at, second.LogTime, whole.LogTime)
		}
		for _, c := range second.Changes {
			if read := next.Known.Holdings[c.Ref].Version; c.Version != read {
				t.Fatalf("split at %d, %s changes over version %d, and is at %d", at, c.Ref, c.Version, read)
			}
		}
		if got, want := carried(next, second).Known, carried(l, whole).Known; !reflect.DeepEqual(got, want) {
			t.Fatalf("split at %d what is known is\n%+v\nand in one run\n%+v", at, got, want)
		}
	}
}

var (
	rules3       = processor.Rules{Partitions: 3, Policies: names.Builtin(), Keys: testKeys}
	propertyName = []string{"alice", "Alice", "bob", "carol", "dave", "erin", "admin", "-", "frank"}
)

// drawMessage draws a record from few values, so that names, ids and times meet often.
func drawMessage(t *rapid.T, offset int64) processor.Message {
	if rapid.Bool().Draw(t, "beside a claim") {
		return drawRequest(t).message(offset)
	}
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	a := asking{
		id: few("id", "c1", "c2", "c2", "c3", "c4", "c5", "c6", "c7", "c8"), name: rapid.SampledFrom(propertyName).Draw(t, "name"),
		owner: few("owner", "u-1", "u-2", ""), principal: few("principal", "gateway", ""),
		at: time.Duration(rapid.IntRange(0, 20).Draw(t, "at")) * time.Second,
	}
	switch rapid.IntRange(0, 5).Draw(t, "plain") {
	case 0, 1:
		a.more = func(c *claims.UsernameClaimed) {
			c.Mode, c.TTLSeconds = claims.ModeReserve, new(rapid.Int64Range(1, 8).Draw(t, "ttl"))
			if rapid.Bool().Draw(t, "renames") {
				c.Replaces = &claims.Replaces{Name: few("old", "alice", "bob", "carol"), Version: rapid.Int64Range(1, 3).Draw(t, "old version")}
			}
		}
		fallthrough
	case 2, 3, 4:
		if a.owner == "" {
			a.owner = "u-1"
		}
		return a.message(offset)
	}
	a.more = func(c *claims.UsernameClaimed) {
		c.ExpectedVersion = rapid.SampledFrom([]*int64{nil, nil, new(int64(0)), new(int64(1)), new(int64(2))}).Draw(t, "expected_version")
		c.OnConflict = rapid.SampledFrom([]claims.OnConflict{"", claims.OnConflictReturn}).Draw(t, "on_conflict")
		c.Space = rapid.SampledFrom([]names.Space{names.Username, names.Username, "nope"}).Draw(t, "space")
		c.Mode = rapid.SampledFrom([]claims.Mode{claims.ModeRegister, claims.ModeRegister, claims.ModeReserve}).Draw(t, "mode")
		if rapid.IntRange(0, 3).Draw(t, "renames") == 0 {
			c.Replaces = &claims.Replaces{Name: few("old", "alice", "bob", "carol"), Version: rapid.Int64Range(1, 3).Draw(t, "old version")}
		}
		if rapid.Bool().Draw(t, "has deadline") {
			c.Deadline = tenOClock.Add(time.Duration(rapid.IntRange(0, 10).Draw(t, "deadline")) * time.Second)
		}
	}
	a.key = few("key", "", "", "username/alice", "username/bob", "stray")
	if rapid.IntRange(0, 3).Draw(t, "rerouted") == 0 {
		a.headers = []cloudevents.Header{{Name: claims.Rerouted, Value: []byte("1")}}
	}
	switch rapid.IntRange(0, 5).Draw(t, "garbled") {
	case 0:
		a.value = []byte(few("value", "hello", "hallo", "{}"))
	case 1:
		m := a.message(offset)
		m.Headers = m.Headers[:rapid.IntRange(0, len(m.Headers)).Draw(t, "headers")]
		return m
	}
	return a.message(offset)
}

// drawRequest draws a request beside a claim, from the same few values.
func drawRequest(t *rapid.T) request {
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	a := about(few("name", "alice", "alice", "Alice", "bob", "carol", "dave"))
	if rapid.IntRange(0, 9).Draw(t, "has deadline") == 0 {
		a.Deadline = tenOClock.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "deadline")) * time.Second)
	}
	claim := idOf(few("claim", "c1", "c1", "c2", "c2", "c3", "c4"))
	owner, other := few("owner", "u-1", "u-2"), few("new owner", "u-2", "u-3")
	version := rapid.SampledFrom([]*int64{nil, nil, new(int64(1)), new(int64(2)), new(int64(3))}).Draw(t, "expected_version")
	q := request{id: idOf(few("id", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "c1")), at: time.Duration(rapid.IntRange(0, 20).Draw(t, "at")) * time.Second}
	actor, why := "", ""
	if rapid.Bool().Draw(t, "by an actor") {
		owner, actor, why, q.sign = "", "ada", "asked for", rapid.SampledFrom([]*claims.SigningKey{&testKey, &testKey, &olderKey, &unknownKey, nil}).Draw(t, "key")
	}
	switch kind := few("kind", "confirm", "extend", "release", "withdraw", "deactivate", "reactivate", "transfer", "block", "unblock", "due"); kind {
	case "release":
		q.body = &claims.ReleaseRequested{About: a, Owner: owner, ExpectedVersion: version, Actor: actor, Reason: why}
	case "transfer":
		q.body = &claims.TransferRequested{About: a, Owner: owner, NewOwner: other, ExpectedVersion: version, Actor: actor, Reason: why}
	case "block":
		q.body = &claims.BlockRequested{About: a, Actor: actor, Reason: why}
	case "unblock":
		q.body = &claims.UnblockRequested{About: a, Actor: actor, Reason: why}
	case "due":
		due := tenOClock.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "due")) * time.Second)
		q.id, q.body = claims.ExpiryID(claim, due), &claims.ExpiryDue{About: a, ClaimID: claim, ExpiresAt: due}
		q.principal, q.sign = claims.Principal, &testKey
	default:
		if owner == "" {
			owner = "u-1"
		}
		q.body = map[string]claims.Body{
			"confirm":    &claims.ConfirmRequested{About: a, ClaimID: claim, Owner: owner},
			"extend":     &claims.ExtendRequested{About: a, ClaimID: claim, Owner: owner, TTLSeconds: rapid.Int64Range(-1, 8).Draw(t, "ttl")},
			"withdraw":   &claims.WithdrawRequested{About: a, ClaimID: claim, Owner: owner},
			"deactivate": &claims.DeactivateRequested{About: a, Owner: owner, ExpectedVersion: version},
			"reactivate": &claims.ReactivateRequested{About: a, Owner: owner, ExpectedVersion: version},
		}[kind]
	}
	return q
}

// drawLog draws the ledger of a partition and the records that lie on it next.
func drawLog(t *rapid.T) (processor.Ledger, []processor.Message) {
	l := processor.Ledger{
		Partition: int32(rapid.SampledFrom([]int{0, 0, 1, 2, 2, 3}).Draw(t, "partition")), LogEpoch: 1, Rules: rules3,
		Known: processor.Known{
			Holdings: make(map[names.Ref]registrations.Holding), Outcomes: make(map[processor.Request]registrations.Outcome),
			Marks: make(map[processor.Mark]struct{}),
		},
	}
	policy := *names.Builtin()[names.Username]
	policy.LongestTTL = 15 * time.Minute
	policy.CoolDown = time.Duration(rapid.SampledFrom([]int{0, 0, 4}).Draw(t, "cool-down")) * time.Second
	policy.PreviousMayReturn = rapid.Bool().Draw(t, "previous may return")
	policy.UniqueAmong = rapid.SampledFrom([]names.Among{names.AmongAll, names.AmongActive}).Draw(t, "unique among")
	l.Rules.Policies = names.Policies{names.Username: &policy}
	if rapid.Bool().Draw(t, "not new") {
		l.LogTime = tenOClock.Add(5 * time.Second)
	}
	for _, name := range propertyName {
		ref := names.Ref{Space: names.Username, Key: names.Key(name)}
		if _, err := rules3.Policies[names.Username].Key(name); err != nil || claims.Partition(ref.String(), 3) != l.Partition {
			continue
		}
		if version := rapid.Int64Range(0, 3).Draw(t, name); version > 0 {
			h := registrations.Holding{State: registrations.Free, Version: version, Partition: l.Partition}
			if rapid.Bool().Draw(t, name+" held") {
				h.State, h.Owner, h.Name, h.ClaimID = registrations.Registered, "u-1", name, idOf("earlier "+name)
			}
			l.Known.Holdings[ref] = h
		}
	}
	offset := rapid.Int64Range(0, 1000).Draw(t, "offset")
	messages := make([]processor.Message, rapid.IntRange(0, 40).Draw(t, "records"))
	for i := range messages {
		messages[i] = drawMessage(t, offset)
		offset += rapid.Int64Range(1, 3).Draw(t, "gap")
	}
	if len(messages) > 0 && rapid.IntRange(0, 3).Draw(t, "refused") == 0 {
		l.Refused = map[int64]string{rapid.SampledFrom(messages).Draw(t, "which").Offset: "too odd"}
	}
	return l, messages
}

func receiveMessages(messages []processor.Message, rules processor.Rules) []processor.Received {
	received := make([]processor.Received, len(messages))
	for i := range messages {
		received[i] = processor.Receive(messages[i], rules)
	}
	return received
}

// The key of replay: the log alone decides, wherever it is cut into batches.
func TestDecideSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, messages := drawLog(t)
		checkSplits(t, l, receiveMessages(messages, l.Rules))
	})
}

// What is published again after a replay is what was published before, byte for byte; and nothing that went in is
// changed by deciding.
func TestDecideReplays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, messages := drawLog(t)
		ledger := carried(l, processor.Decision{})
		ledger.LogTime = l.LogTime
		kept := receiveMessages(messages, l.Rules)

		received := receiveMessages(messages, l.Rules)
		first := processor.Decide(l, received)
		at := processor.Fence{Partition: l.Partition, LogEpoch: l.LogEpoch}
		outputs := processor.OutputsOf("claims", l.Rules, testKey, at, first.Rows)
		if !reflect.DeepEqual(l, ledger) || !reflect.DeepEqual(received, kept) {
			t.Fatalf("deciding changed what it was given")
		}
		again := processor.Decide(ledger, receiveMessages(messages, l.Rules))
		if !reflect.DeepEqual(again, first) {
			t.Fatalf("decided again it is\n%+v\nand was\n%+v", again, first)
		}
		if o := processor.OutputsOf("claims", l.Rules, testKey, at, again.Rows); !reflect.DeepEqual(o, outputs) {
			t.Fatalf("published again it is\n%+v\nand was\n%+v", o, outputs)
		}
		// What the record stores of an outcome is what is published: it reads back from its own bytes.
		for _, row := range first.Rows {
			if row.Kind != processor.KindOutcome && row.Kind != processor.KindFact {
				continue
			}
			r := row.Outcome.Record()
			back, err := registrations.Decode(r)
			back.Seq = row.Seq // which the value does not say
			if err != nil || !reflect.DeepEqual(back.Record(), r) {
				t.Fatalf("%s reads back as %+v, %v", r.Value, back, err)
			}
		}
	})
}

// standing is what the outcomes so far say of a name: all that a reader of registrations knows.
type standing struct {
	state     registrations.State
	owner     string
	claim     uuid.UUID
	version   int64
	expiresAt time.Time
}

func (s standing) held() bool {
	return s.state == registrations.Reserved || s.state == registrations.Registered || s.state == registrations.Inactive
}

// apply checks that an outcome or a fact follows from what stood, by what its type means and not by any rule, and makes it
// what stands.
func (s *standing) apply(t *rapid.T, o registrations.Outcome) {
	over := !s.expiresAt.IsZero() && !o.LogTime.Before(s.expiresAt)
	mine := s.held() && s.owner == o.Owner
	is := func(states ...registrations.State) bool { return slices.Contains(states, s.state) }
	leaves := o.Type == registrations.Withdrawn && o.State == "" // a mark, and the name as it is
	if !o.Fact && over && o.Type != registrations.Expired && !leaves {
		t.Fatalf("%+v, and what stood was over: %+v", o, *s)
	}
	ok, stays := false, false
	switch o.Type {
	case registrations.Accepted:
		stays = o.ClaimID != o.RequestID && o.Version == s.version
		free := !s.held() && !is(registrations.StateBlocked)
		ok = mine && is(registrations.Registered) && o.ClaimID == s.claim || free && o.ClaimID == o.RequestID
	case registrations.Confirmed:
		stays = is(registrations.Registered)
		ok = mine && is(registrations.Reserved, registrations.Registered) && o.ClaimID == s.claim && o.State == registrations.Registered
	case registrations.Extended:
		ok = mine && is(registrations.Reserved) && o.ClaimID == s.claim && !o.ExpiresAt.Before(s.expiresAt)
	case registrations.Released:
		ok = mine && (o.State == registrations.Free || o.State == registrations.Cooling)
	case registrations.Withdrawn:
		stays = o.State == ""
		ok = stays && o.ClaimID != s.claim || mine && is(registrations.Reserved, registrations.Registered) && o.ClaimID == s.claim && o.State == registrations.Free
	case registrations.Deactivated:
		ok = mine && is(registrations.Registered) && (o.State == registrations.Free || o.State == registrations.Inactive)
	case registrations.Reactivated:
		ok = (mine && is(registrations.Inactive) || is(registrations.Free)) && o.State == registrations.Registered
	case registrations.Transferred:
		ok = s.held() && s.owner != o.Owner && o.State == registrations.Registered
	case registrations.Blocked:
		ok = !s.held() && o.State == registrations.StateBlocked
	case registrations.Unblocked:
		ok = is(registrations.StateBlocked) && o.State == registrations.Free
	case registrations.Expired:
		ok = is(registrations.Reserved, registrations.Cooling) && over && o.ClaimID == s.claim && o.State == registrations.Free
	}
	want := s.version + 1
	switch {
	case o.Type == registrations.Withdrawn && stays:
		want = 0 // a mark: no event of the name's
	case stays:
		want = s.version
	}
	if !ok || o.Version != want {
		t.Fatalf("%+v does not follow from %+v", o, *s)
	}
	if stays {
		return
	}
	claim := s.claim // a name that cools keeps it
	*s = standing{state: o.State, version: o.Version, expiresAt: o.ExpiresAt}
	if s.held() {
		s.owner, s.claim = o.Owner, o.ClaimID
	}
	if s.state == registrations.Cooling {
		s.claim = claim
	}
	if until := !s.expiresAt.IsZero(); until != (s.state == registrations.Reserved || s.state == registrations.Cooling) {
		t.Fatalf("%+v says until when, %v", o, until)
	}
}

// What holds of every decision, told without the rule: what is published is a history that can be, and the names are what
// it says.
func TestDecideInvariants(t *testing.T) {
	saw := make(map[string]int)
	check := func(t *rapid.T) {
		l, messages := drawLog(t)
		d := processor.Decide(l, receiveMessages(messages, l.Rules))
		outcomes := make(map[processor.Request]registrations.Outcome)
		marks := make(map[processor.Mark]bool)
		names := make(map[names.Ref]standing)
		for ref, h := range l.Known.Holdings {
			names[ref] = standing{h.State, h.Owner, h.ClaimID, h.Version, h.ExpiresAt}
		}
		logTime, rows := l.LogTime, d.Rows
		for _, m := range messages {
			if m.Time.After(logTime) {
				logTime = m.Time
			}
			for seq := 0; ; seq++ {
				if len(rows) == 0 || rows[0].Offset != m.Offset || rows[0].Seq != seq {
					t.Fatalf("row %d of the record at %d is missing: %+v", seq, m.Offset, rows)
				}
				row := rows[0]
				rows = rows[1:]
				saw[string(row.Kind)]++
				o := row.Outcome
				id := processor.Request{Partition: l.Partition, ID: row.RequestID}
				before, seen := outcomes[id]
				switch row.Kind {
				case processor.KindMark:
					marks[processor.Mark{Partition: l.Partition, Claim: row.RequestID, Owner: o.Owner}] = true
					if seen {
						t.Fatalf("%+v is marked, and was %+v", row, before)
					}
					continue
				case processor.KindDuplicate:
					if !seen || o != before || row.FollowUp != nil {
						t.Fatalf("%+v repeats, and the outcome was %+v", row, before)
					}
				case processor.KindOutcome:
					if seen {
						t.Fatalf("request %s has a second outcome: %+v after %+v", row.RequestID, o, before)
					}
					outcomes[id] = o
				}
				if row.Kind != processor.KindOutcome && row.Kind != processor.KindFact {
					break
				}
				if !o.LogTime.Equal(logTime) || o.Offset != row.Offset || o.Partition != l.Partition || o.RequestID != row.RequestID || o.Seq != seq || o.Fact != (row.Kind == processor.KindFact) {
					t.Fatalf("%+v", row)
				}
				if claims.Partition(o.Ref.RecordKey(), 3) != l.Partition {
					t.Fatalf("%+v decides what belongs elsewhere", row)
				}
				saw[string(o.Type)+string(o.Reason)]++
				s := names[o.Ref]
				switch o.Type {
				case registrations.Rejected:
					if o.Reason == "" || o.FullDetail() == "" || o.Version != 0 || o.State != "" || row.FollowUp != nil {
						t.Fatalf("%+v", row)
					}
					withdrawn := marks[processor.Mark{Partition: l.Partition, Claim: row.RequestID, Owner: o.Owner}]
					if o.Reason == registrations.Taken && !s.held() || o.Reason == registrations.ClaimWithdrawn && !withdrawn ||
						o.Reason == registrations.CoolingDown && s.state != registrations.Cooling || o.Reason == registrations.NameBlocked && s.state != registrations.StateBlocked {
						t.Fatalf("%+v, and what stands is %+v", row, s)
					}
				case registrations.Unchanged:
				default:
					if o.Type == registrations.Accepted && marks[processor.Mark{Partition: l.Partition, Claim: row.RequestID, Owner: o.Owner}] {
						t.Fatalf("%+v, and it was withdrawn before", row)
					}
					s.apply(t, o)
					names[o.Ref] = s
				}
				if row.Kind == processor.KindOutcome {
					break
				}
			}
		}
		if len(rows) > 0 {
			t.Fatalf("rows of no record: %+v", rows)
		}
		if !d.LogTime.Equal(logTime) {
			t.Fatalf("log time %v, want %v", d.LogTime, logTime)
		}
		for _, c := range d.Changes {
			got := standing{c.State, c.Owner, c.ClaimID, c.Holding.Version, c.ExpiresAt}
			if c.Version != l.Known.Holdings[c.Ref].Version || got != names[c.Ref] || c.Partition != l.Partition || c.Since.Before(l.LogTime) {
				t.Fatalf("change %+v, and the outcomes say %+v", c, names[c.Ref])
			}
			delete(names, c.Ref)
		}
		for ref, s := range names { // without a change it is as it was
			if s.version != l.Known.Holdings[ref].Version {
				t.Fatalf("%s is %+v, and no change says so", ref, s)
			}
		}
	}
	kinds := []string{
		"duplicate", "forwarded", "dead", "mark", "fact", "Accepted", "Confirmed", "Extended", "Released", "Withdrawn", "Deactivated", "Reactivated",
		"Transferred", "Blocked", "Unblocked", "Expired", "Unchanged", "Rejectedtaken", "Rejectedcooling_down", "Rejectedblocked", "Rejectedwithdrawn",
		"Rejectedunknown_claim", "Rejectedreservation_expired", "Rejectednot_owner", "Rejectednot_allowed", "Rejectedversion_conflict", "Rejectedwrong_state",
	}
	missing := func(kind string) bool { return saw[kind] == 0 }
	for round := range 400 { // as many logs as it takes for every kind to come
		rapid.Check(t, check)
		if t.Failed() || round >= 20 && !slices.ContainsFunc(kinds, missing) {
			return
		}
	}
	t.Errorf("some of %v was never drawn: %v", kinds, saw)
}

// FuzzReceive: whatever lies on the topic leaves one row, on every partition, and never a panic.
func FuzzReceive(f *testing.F) {
	good := asking{id: "c1", name: "Alice", owner: "u-1"}.message(0)
	f.Add(good.Key, good.Value, idOf("c1").String(), claims.TypeUsernameClaimed, int64(1), false)
	f.Add([]byte("\xff"), []byte("hello"), "", "", int64(-1), true)
	f.Add([]byte("nope/alice"), []byte(`{"space":"nope","name":"alice","owner":"","mode":""}`), idOf("c1").String(), claims.TypeUsernameClaimed, int64(0), false)
	f.Fuzz(func(t *testing.T, key, value []byte, id, kind string, ms int64, rerouted bool) {
		m := processor.Message{Offset: 1, Record: cloudevents.Record{Key: key, Value: value, Time: time.UnixMilli(ms)}}
		for _, h := range [][2]string{{"ce_specversion", "1.0"}, {"ce_id", id}, {"ce_type", kind}} {
			m.Headers = append(m.Headers, cloudevents.Header{Name: h[0], Value: []byte(h[1])})
		}
		if rerouted {
			m.Headers = append(m.Headers, cloudevents.Header{Name: claims.Rerouted})
		}
		decided := 0
		for partition := range int32(4) {
			l := processor.Ledger{Partition: partition, Rules: rules3}
			r := []processor.Received{processor.Receive(m, rules3), processor.Receive(m, rules3)}
			d := processor.Decide(l, r)
			switch got := d.Rows[0].Kind; got {
			case processor.KindOutcome:
				decided++
				if d.Rows[1].Kind != processor.KindDuplicate || d.Rows[1].Outcome != d.Rows[0].Outcome {
					t.Fatalf("a copy is %+v, and the outcome was %+v", d.Rows[1], d.Rows[0])
				}
			case processor.KindForwarded, processor.KindDead:
				if d.Rows[1].Kind != got || got == processor.KindForwarded && rerouted {
					t.Fatalf("rows %+v", d.Rows)
				}
			default:
				t.Fatalf("row %+v", d.Rows[0])
			}
			processor.OutputsOf("claims", rules3, testKey, processor.Fence{Partition: partition}, d.Rows)
		}
		if decided > 1 {
			t.Fatalf("decided on %d partitions", decided)
		}
	})
}
