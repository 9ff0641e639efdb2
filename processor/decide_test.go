package processor_test

import (
	"fmt"
	"reflect"
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

var (
	tenOClock = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	rules48   = processor.Rules{Partitions: 48, Policies: names.Builtin(), Keys: testKeys}
	aliceRef  = names.Ref{Space: names.Username, Key: "alice"}
	onAlice   = claims.Partition("username/alice", 48)
)

// idOf is the request id of a label: the same one in every test.
func idOf(label string) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte(label)) }

// asking is a record that asks for a name, with what a test changes of it.
type asking struct {
	id, name, owner string
	more            func(*claims.UsernameClaimed)
	key             string // of the record; the name's own where it has one, else username/<name>
	principal       string
	at              time.Duration // after ten o'clock
	headers         []cloudevents.Header
	value           []byte // instead of the claim
}

func (a asking) message(offset int64) processor.Message {
	c := claims.UsernameClaimed{Space: names.Username, Spelling: a.name, Owner: a.owner, Mode: claims.ModeRegister}
	if a.more != nil {
		a.more(&c)
	}
	ref := names.Ref{Space: names.Username, Key: names.Key(strings.ToLower(a.name))}
	if a.key != "" {
		ref = names.ParseRef(a.key)
	}
	r := c.Record(cloudevents.Event{ID: idOf(a.id), Source: "test", Principal: a.principal}, ref, a.headers...)
	r.Key = []byte(ref.RecordKey())
	if a.value != nil {
		r.Value = a.value
	}
	r.Time = tenOClock.Add(a.at)
	return processor.Message{Offset: offset, Record: r}
}

func receiveAll(rules processor.Rules, from int64, all ...asking) []processor.Received {
	var received []processor.Received
	for i, a := range all {
		received = append(received, processor.Receive(a.message(from+int64(i)), rules))
	}
	return received
}

// aliceLedger is that of alice's partition, where the names are held as said.
func aliceLedger(held ...processor.Change) processor.Ledger {
	return carried(processor.Ledger{Partition: onAlice, LogEpoch: 1, Rules: rules48}, processor.Decision{Changes: held})
}

// carried is the ledger after a decision, as the record would have it at the next look-up.
func carried(l processor.Ledger, d processor.Decision) processor.Ledger {
	known := processor.Known{
		Holdings: make(map[names.Ref]registrations.Holding),
		Outcomes: make(map[processor.Request]registrations.Outcome),
		Marks:    make(map[processor.Mark]struct{}),
	}
	for k := range l.Known.Marks {
		known.Marks[k] = struct{}{}
	}
	for k, v := range l.Known.Holdings {
		known.Holdings[k] = v
	}
	for k, v := range l.Known.Outcomes {
		known.Outcomes[k] = v
	}
	for _, c := range d.Changes {
		known.Holdings[c.Ref] = c.Holding
	}
	for _, row := range d.Rows {
		switch row.Kind {
		case processor.KindOutcome:
			known.Outcomes[processor.Request{Partition: l.Partition, ID: row.RequestID}] = row.Outcome
		case processor.KindMark:
			known.Marks[processor.Mark{Partition: l.Partition, Claim: row.RequestID, Owner: row.Outcome.Owner}] = struct{}{}
		}
	}
	if !d.LogTime.IsZero() {
		l.LogTime = d.LogTime
	}
	l.Known = known
	return l
}

func heldBy(owner string, version int64) processor.Change {
	return processor.Change{Ref: aliceRef, Holding: registrations.Holding{
		State: registrations.Registered, Name: "aLICE", Owner: owner, ClaimID: idOf("the claim of " + owner), Version: version,
		PolicyVersion: 1, Since: tenOClock.Add(-time.Hour), Partition: onAlice,
	}}
}

func freeAt(version int64) processor.Change {
	return processor.Change{Ref: aliceRef, Holding: registrations.Holding{State: registrations.Free, Version: version, Partition: onAlice}}
}

func expecting(n int64) func(*claims.UsernameClaimed) {
	return func(c *claims.UsernameClaimed) { c.ExpectedVersion = &n }
}

func returnExisting(c *claims.UsernameClaimed) { c.OnConflict = claims.OnConflictReturn }

// What one claim of Alice by u-1 leaves on what was there.
func TestDecideClaim(t *testing.T) {
	both := func(fs ...func(*claims.UsernameClaimed)) func(*claims.UsernameClaimed) {
		return func(c *claims.UsernameClaimed) {
			for _, f := range fs {
				f(c)
			}
		}
	}
	accepted := func(version int64) registrations.Outcome {
		return registrations.Outcome{Type: registrations.Accepted, ClaimID: idOf("c1"), Name: "Alice", State: registrations.Registered, Version: version}
	}
	rejected := func(why registrations.Reason, detail string) registrations.Outcome {
		return registrations.Outcome{Type: registrations.Rejected, ClaimID: idOf("c1"), Name: "Alice", Reason: why, Detail: detail}
	}
	conflict := func(current int64) registrations.Outcome {
		o := rejected(registrations.VersionConflict, fmt.Sprintf("the name is at version %d", current))
		o.CurrentVersion = current
		return o
	}
	existing := accepted(3)
	existing.ClaimID, existing.Name = idOf("the claim of u-1"), "aLICE"

	for name, test := range map[string]struct {
		before []processor.Change
		more   func(*claims.UsernameClaimed)
		want   registrations.Outcome
		read   int64 // the version that an accepted change goes over
	}{
		"never held":               {nil, nil, accepted(1), 0},
		"free again":               {[]processor.Change{freeAt(4)}, nil, accepted(5), 4},
		"held by another":          {[]processor.Change{heldBy("u-2", 1)}, nil, rejected(registrations.Taken, ""), 0},
		"held by the same":         {[]processor.Change{heldBy("u-1", 1)}, nil, rejected(registrations.Taken, ""), 0},
		"never held, expecting 0":  {nil, expecting(0), accepted(1), 0},
		"never held, expecting 1":  {nil, expecting(1), conflict(0), 0},
		"free at 4, expecting 0":   {[]processor.Change{freeAt(4)}, expecting(0), accepted(5), 4},
		"free at 4, expecting 4":   {[]processor.Change{freeAt(4)}, expecting(4), accepted(5), 4},
		"free at 4, expecting 3":   {[]processor.Change{freeAt(4)}, expecting(3), conflict(4), 0},
		"free at 4, expecting 5":   {[]processor.Change{freeAt(4)}, expecting(5), conflict(4), 0},
		"held at 3, expecting 0":   {[]processor.Change{heldBy("u-2", 3)}, expecting(0), conflict(3), 0},
		"held at 3, expecting 2":   {[]processor.Change{heldBy("u-2", 3)}, expecting(2), conflict(3), 0},
		"held at 3, expecting 3":   {[]processor.Change{heldBy("u-2", 3)}, expecting(3), rejected(registrations.Taken, ""), 0},
		"one's own, to return":     {[]processor.Change{heldBy("u-1", 3)}, returnExisting, existing, 0},
		"another's, to return":     {[]processor.Change{heldBy("u-2", 3)}, returnExisting, rejected(registrations.Taken, ""), 0},
		"free, to return":          {[]processor.Change{freeAt(4)}, returnExisting, accepted(5), 4},
		"one's own, wrong version": {[]processor.Change{heldBy("u-1", 3)}, both(returnExisting, expecting(2)), conflict(3), 0},
		"one's own, right version": {[]processor.Change{heldBy("u-1", 3)}, both(returnExisting, expecting(3)), existing, 0},
		"one's own, of who is not active": {
			[]processor.Change{{Ref: aliceRef, Holding: registrations.Holding{State: "inactive", Owner: "u-1", Version: 3}}}, returnExisting, rejected(registrations.Taken, ""), 0,
		},
		"deadline to come":       {nil, func(c *claims.UsernameClaimed) { c.Deadline = tenOClock.Add(time.Second) }, accepted(1), 0},
		"deadline now":           {nil, func(c *claims.UsernameClaimed) { c.Deadline = tenOClock }, accepted(1), 0},
		"deadline a moment ago":  {nil, func(c *claims.UsernameClaimed) { c.Deadline = tenOClock.Add(-time.Millisecond) }, rejected(registrations.DeadlinePassed, ""), 0},
		"metadata":               {nil, func(c *claims.UsernameClaimed) { c.Metadata = map[string]string{"a": "b"} }, accepted(1), 0},
		"too much metadata":      {nil, func(c *claims.UsernameClaimed) { c.Metadata = map[string]string{"a": strings.Repeat("b", 1100)} }, rejected(registrations.InvalidRequest, "metadata is larger than 1024 bytes of JSON"), 0},
		"mode unknown":           {nil, func(c *claims.UsernameClaimed) { c.Mode = "borrow" }, rejected(registrations.InvalidRequest, `mode must be "register" or "reserve"`), 0},
		"ttl longer than can be": {nil, func(c *claims.UsernameClaimed) { c.Mode, c.TTLSeconds = claims.ModeReserve, new(int64(604801)) }, rejected(registrations.InvalidRequest, "ttl_seconds must be at most 604800 in this space"), 0},
		"ttl":                    {nil, func(c *claims.UsernameClaimed) { c.TTLSeconds = new(int64(60)) }, rejected(registrations.InvalidRequest, `ttl_seconds does not go with mode "register"`), 0},
		"replaces no name":       {nil, func(c *claims.UsernameClaimed) { c.Replaces = &claims.Replaces{Name: "-ab", Version: 1} }, rejected(registrations.InvalidRequest, "replaces.name must start and end with a letter or a digit"), 0},
		"replaces no version":    {nil, func(c *claims.UsernameClaimed) { c.Replaces = &claims.Replaces{Name: "bob"} }, rejected(registrations.InvalidRequest, "replaces.version must be 1 or more"), 0},
		"on_conflict unknown":    {nil, func(c *claims.UsernameClaimed) { c.OnConflict = "fight" }, rejected(registrations.InvalidRequest, `on_conflict must be "return_existing" or left out`), 0},
		"expecting less than 0":  {nil, expecting(-1), rejected(registrations.InvalidRequest, "expected_version must be 0 or more"), 0},
		"reserve, of a held one": {[]processor.Change{heldBy("u-2", 1)}, func(c *claims.UsernameClaimed) { c.Mode = claims.ModeReserve }, rejected(registrations.Taken, ""), 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiveAll(rules48, 4711, asking{id: "c1", name: "Alice", owner: "u-1", principal: "gateway", more: test.more})
			d := processor.Decide(aliceLedger(test.before...), r)

			want := test.want
			want.RequestID, want.Ref, want.Owner = idOf("c1"), aliceRef, "u-1"
			want.LogTime, want.PolicyVersion, want.RequestHash = tenOClock, 1, r[0].Hash
			want.Partition, want.LogEpoch, want.Offset = onAlice, 1, 4711
			row := processor.Row{Offset: 4711, Kind: processor.KindOutcome, RequestID: idOf("c1"), Principal: "gateway", Outcome: want}
			if !reflect.DeepEqual(d.Rows, []processor.Row{row}) {
				t.Errorf("rows\n%+v\nwant\n%+v", d.Rows, row)
			}
			var changes []processor.Change
			if want.Type == registrations.Accepted && want.ClaimID == want.RequestID {
				changes = []processor.Change{{Ref: aliceRef, Version: test.read, Holding: registrations.Holding{
					State: registrations.Registered, Name: "Alice", Owner: "u-1", ClaimID: idOf("c1"), Version: want.Version,
					PolicyVersion: 1, Since: tenOClock, Partition: onAlice,
				}}}
			}
			if !reflect.DeepEqual(d.Changes, changes) {
				t.Errorf("changes\n%+v\nwant\n%+v", d.Changes, changes)
			}
			if !d.LogTime.Equal(tenOClock) {
				t.Errorf("log time %v", d.LogTime)
			}
		})
	}
}

// An owner that is none is not repeated anywhere; the name is, as typed.
func TestDecideInvalidOwner(t *testing.T) {
	for _, owner := range []string{"", "ü", strings.Repeat("o", 256)} {
		for reason, more := range map[registrations.Reason]func(*claims.UsernameClaimed){
			registrations.InvalidRequest: nil,
			registrations.UnknownSpace:   func(c *claims.UsernameClaimed) { c.Space = "nope" },
			registrations.DeadlinePassed: func(c *claims.UsernameClaimed) { c.Deadline = tenOClock.Add(-1) },
			registrations.InvalidName:    func(c *claims.UsernameClaimed) { c.Spelling = "-" },
		} {
			d := processor.Decide(aliceLedger(), receiveAll(rules48, 0, asking{id: "c1", name: "Alice", key: "username/alice", owner: owner, more: more}))
			if o := d.Rows[0].Outcome; o.Reason != reason || o.Owner != "" || o.Name == "" {
				t.Errorf("%.8q: %s for %.8q as %q, want %s for nobody", owner, o.Reason, o.Owner, o.Name, reason)
			}
		}
	}
	// A valid one is, also where something else is invalid.
	d := processor.Decide(aliceLedger(), receiveAll(rules48, 0, asking{id: "c1", name: "Alice", owner: "u-1", more: expecting(-1)}))
	if o := d.Rows[0].Outcome; o.Reason != registrations.InvalidRequest || o.Owner != "u-1" {
		t.Errorf("%s for %q, want invalid_request for u-1", o.Reason, o.Owner)
	}
}

// trial is a claim that fails some checks.
type trial struct {
	asking
	ledger processor.Ledger
	front  []cloudevents.Header
	seen   bool
	away   bool // on a partition that is not the name's
}

func (s *trial) held(h registrations.Holding) {
	for _, key := range []names.Key{"alice", "admin"} {
		s.ledger.Known.Holdings[names.Ref{Space: names.Username, Key: key}] = h
	}
}

// The checks in the order of the design. A record that fails several is answered by the first: every pair.
func TestDecideChecksInOrder(t *testing.T) {
	checks := []struct {
		name   string
		fail   func(*trial)
		kind   processor.Kind
		reason registrations.Reason
	}{
		{"dead", func(s *trial) {
			s.front = []cloudevents.Header{{Name: cloudevents.SpecVersion, Value: []byte("0.3")}}
		}, processor.KindDead, ""},
		{"forward", func(s *trial) { s.away = true }, processor.KindForwarded, ""},
		{"seen before", func(s *trial) { s.seen = true }, processor.KindDuplicate, ""},
		{"malformed", func(s *trial) { s.value = []byte("hello") }, processor.KindOutcome, registrations.Malformed},
		{"not_allowed", func(s *trial) { s.ledger.Rules.SignedOnly = true }, processor.KindOutcome, registrations.NotAllowed},
		{"unknown_space", func(s *trial) { s.change(func(c *claims.UsernameClaimed) { c.Space = "nope" }) }, processor.KindOutcome, registrations.UnknownSpace},
		{"deadline_passed", func(s *trial) { s.change(func(c *claims.UsernameClaimed) { c.Deadline = tenOClock.Add(-1) }) }, processor.KindOutcome, registrations.DeadlinePassed},
		{"withdrawn", func(s *trial) {
			for p := range int32(48) {
				s.ledger.Known.Marks[processor.Mark{Partition: p, Claim: idOf("c1"), Owner: "u-1"}] = struct{}{}
			}
		}, processor.KindOutcome, registrations.ClaimWithdrawn},
		{"invalid_name", func(s *trial) { s.change(func(c *claims.UsernameClaimed) { c.Spelling = "-" }) }, processor.KindOutcome, registrations.InvalidName},
		{"invalid_request", func(s *trial) { s.change(func(c *claims.UsernameClaimed) { c.Mode = "borrow" }) }, processor.KindOutcome, registrations.InvalidRequest},
		{"reserved_word", func(s *trial) {
			s.change(func(c *claims.UsernameClaimed) {
				if c.Spelling != "-" {
					c.Spelling = "admin"
				}
			})
		}, processor.KindOutcome, registrations.ReservedWord},
		{"blocked", func(s *trial) { s.held(registrations.Holding{State: registrations.StateBlocked, Version: 3}) }, processor.KindOutcome, registrations.NameBlocked},
		{"version_conflict", func(s *trial) { s.change(expecting(7)) }, processor.KindOutcome, registrations.VersionConflict},
		{"cooling_down", func(s *trial) {
			s.held(registrations.Holding{State: registrations.Cooling, Previous: "u-2", Version: 3, ExpiresAt: tenOClock.Add(1)})
		}, processor.KindOutcome, registrations.CoolingDown},
		{"taken", func(s *trial) { s.held(heldBy("u-2", 3).Holding) }, processor.KindOutcome, registrations.Taken},
		{"none", func(*trial) {}, processor.KindOutcome, ""},
	}
	for i, first := range checks {
		for _, second := range checks[i:] {
			t.Run(first.name+" before "+second.name, func(t *testing.T) {
				s := trial{asking: asking{id: "c1", name: "alice", owner: "u-1", key: "username/alice"}, ledger: aliceLedger()}
				second.fail(&s)
				if first.name != second.name {
					first.fail(&s)
				}
				m := s.message(1)
				m.Headers = append(s.front, m.Headers...) // the first of a name counts
				r := processor.Receive(m, rules48)
				s.ledger.Partition = claims.Partition(r.Ref.RecordKey(), 48)
				if s.seen {
					before := registrations.Outcome{Type: registrations.Rejected, Reason: registrations.NotAllowed, RequestID: idOf("c1"), RequestHash: r.Hash}
					s.ledger.Known.Outcomes[processor.Request{Partition: s.ledger.Partition, ID: idOf("c1")}] = before
				}
				if s.away {
					s.ledger.Partition = (s.ledger.Partition + 1) % 48
				}
				d := processor.Decide(s.ledger, []processor.Received{r})
				if len(d.Rows) != 1 || d.Rows[0].Kind != first.kind {
					t.Fatalf("rows %+v, want %s", d.Rows, first.kind)
				}
				if first.kind == processor.KindOutcome && d.Rows[0].Outcome.Reason != first.reason {
					t.Errorf("%q, want %q", d.Rows[0].Outcome.Reason, first.reason)
				}
				if accepted := first.name == "none"; accepted != (len(d.Changes) == 1) {
					t.Errorf("changes %+v", d.Changes)
				}
			})
		}
	}
}

func (a *asking) change(more func(*claims.UsernameClaimed)) {
	before := a.more
	a.more = func(c *claims.UsernameClaimed) {
		if before != nil {
			before(c)
		}
		more(c)
	}
}

// kinds is what a decision left, in short.
func kinds(d processor.Decision) string {
	var all []string
	for _, row := range d.Rows {
		text := string(row.Kind)
		if row.Kind == processor.KindOutcome {
			text = string(row.Outcome.Type)
			if row.Outcome.Reason != "" {
				text = string(row.Outcome.Reason)
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// A request id that comes again, in the same run of records and in a later one.
func TestDecideAgain(t *testing.T) {
	first := asking{id: "c1", name: "Alice", owner: "u-1", principal: "gateway"}
	change := func(f func(*asking)) asking {
		a := first
		f(&a)
		return a
	}
	unread := asking{id: "c1", key: "username/alice", value: []byte("hello"), principal: "gateway"}
	nameless := asking{id: "c1", name: "-", key: "username/alice", owner: "u-1"}
	for name, test := range map[string]struct {
		first, second asking
		want          string
	}{
		"a copy":              {first, first, "Accepted duplicate"},
		"later":               {first, change(func(a *asking) { a.at = time.Hour }), "Accepted duplicate"},
		"spelt otherwise":     {first, change(func(a *asking) { a.name = "ALICE" }), "Accepted duplicate"},
		"under another key":   {first, change(func(a *asking) { a.key = "username/bob" }), "Accepted duplicate"},
		"traced":              {first, change(func(a *asking) { a.headers = []cloudevents.Header{{Name: "traceparent", Value: []byte("00-1-2-00")}} }), "Accepted duplicate"},
		"rerouted":            {first, change(func(a *asking) { a.headers = []cloudevents.Header{{Name: claims.Rerouted, Value: []byte("1")}} }), "Accepted duplicate"},
		"with a deadline":     {first, change(func(a *asking) { a.more = func(c *claims.UsernameClaimed) { c.Deadline = tenOClock.Add(-1) } }), "Accepted duplicate"},
		"for another":         {first, change(func(a *asking) { a.owner = "u-2" }), "Accepted dead"},
		"from another":        {first, change(func(a *asking) { a.principal = "other" }), "Accepted dead"},
		"from nobody":         {first, change(func(a *asking) { a.principal = "" }), "Accepted dead"},
		"expecting a version": {first, change(func(a *asking) { a.more = expecting(0) }), "Accepted dead"},
		"unreadable now":      {first, unread, "Accepted dead"},
		"of no space": {first, change(func(a *asking) {
			a.key, a.more = "username/alice", func(c *claims.UsernameClaimed) { c.Space = "nope" }
		}), "Accepted dead"},
		"of no name": {first, change(func(a *asking) { a.key, a.name = "username/alice", "-" }), "Accepted dead"},
		"too large now": {first, change(func(a *asking) {
			a.more = func(c *claims.UsernameClaimed) { c.Metadata = map[string]string{"a": strings.Repeat("b", 9000)} }
		}), "Accepted dead"},

		"unreadable, a copy":             {unread, unread, "malformed duplicate"},
		"unreadable, other bytes":        {unread, asking{id: "c1", key: "username/alice", value: []byte("hallo"), principal: "gateway"}, "malformed dead"},
		"unreadable, from another":       {unread, asking{id: "c1", key: "username/alice", value: []byte("hello"), principal: "other"}, "malformed dead"},
		"unreadable, then as it should":  {unread, first, "malformed dead"},
		"nameless, a copy":               {nameless, nameless, "invalid_name duplicate"},
		"nameless, another":              {nameless, asking{id: "c1", name: "_", key: "username/alice", owner: "u-1"}, "invalid_name dead"},
		"nameless, then as it should":    {nameless, asking{id: "c1", name: "alice", owner: "u-1"}, "invalid_name dead"},
		"nameless, then of no space":     {nameless, asking{id: "c1", name: "-", key: "username/alice", owner: "u-1", more: func(c *claims.UsernameClaimed) { c.Space = "nope" }}, "invalid_name dead"},
		"of no space, then as it should": {asking{id: "c1", name: "alice", key: "username/alice", owner: "u-1", more: func(c *claims.UsernameClaimed) { c.Space = "nope" }}, asking{id: "c1", name: "alice", owner: "u-1"}, "unknown_space dead"},
		"refused before, a copy":         {change(func(a *asking) { a.more = expecting(3) }), change(func(a *asking) { a.more = expecting(3) }), "version_conflict duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiveAll(rules48, 10, test.first, test.second)
			once := processor.Decide(aliceLedger(), r)
			if got := kinds(once); got != test.want {
				t.Fatalf("%s, want %s", got, test.want)
			}
			checkSplits(t, aliceLedger(), r)
			row := once.Rows[1]
			if row.RequestID != idOf("c1") || row.Offset != 11 || row.Principal != r[1].Request.Principal {
				t.Errorf("row %+v", row)
			}
			switch row.Kind {
			case processor.KindDuplicate: // the very outcome, with the place of the first
				if row.Outcome != once.Rows[0].Outcome {
					t.Errorf("again it is %+v\nand was %+v", row.Outcome, once.Rows[0].Outcome)
				}
			case processor.KindDead:
				if row.Detail != "ce_id was used before for a request with other content" || row.Outcome != (registrations.Outcome{}) {
					t.Errorf("dead of %q with %+v", row.Detail, row.Outcome)
				}
				if !reflect.DeepEqual(*row.Raw, r[1].Record) {
					t.Errorf("raw %+v, want %+v", *row.Raw, r[1].Record)
				}
			}
		})
	}
	// Without a name of its own a record is about its key: another one is another request.
	other := nameless
	for i := 0; claims.Partition(other.key, 48) != onAlice || other.key == nameless.key; i++ {
		other.key = fmt.Sprintf("username/-%d", i)
	}
	if d := processor.Decide(aliceLedger(), receiveAll(rules48, 0, nameless, other)); kinds(d) != "invalid_name dead" {
		t.Errorf("nameless, under another key: %s", kinds(d))
	}
	// The third copy gets what the first got, however much has changed since.
	d := processor.Decide(aliceLedger(heldBy("u-2", 1)), receiveAll(rules48, 0, first, first, first))
	if kinds(d) != "taken duplicate duplicate" || d.Rows[2].Outcome != d.Rows[0].Outcome {
		t.Errorf("%s", kinds(d))
	}
	freed := carried(aliceLedger(freeAt(2)), processor.Decision{Rows: d.Rows})
	if later := processor.Decide(freed, receiveAll(rules48, 3, first)); kinds(later) != "duplicate" || later.Rows[0].Outcome != d.Rows[0].Outcome || later.Changes != nil {
		t.Errorf("after a release: %s", kinds(later))
	}
}

// An id that another partition has decided is not this partition's business.
func TestDecideAgainElsewhere(t *testing.T) {
	l := aliceLedger()
	l.Known.Outcomes[processor.Request{Partition: onAlice + 1, ID: idOf("c1")}] = registrations.Outcome{RequestID: idOf("c1")}
	if d := processor.Decide(l, receiveAll(rules48, 0, asking{id: "c1", name: "alice", owner: "u-1"})); kinds(d) != "Accepted" {
		t.Errorf("%s", kinds(d))
	}
}

func TestDecideMalformed(t *testing.T) {
	r := receiveAll(rules48, 9, asking{id: "c1", key: "username/alice", principal: "gateway", value: []byte(`{"space":"username","name":"alice","owner":7,"mode":"register"}`)})
	d := processor.Decide(aliceLedger(), r)
	want := registrations.Outcome{
		Type: registrations.Rejected, RequestID: idOf("c1"), ClaimID: idOf("c1"), Ref: aliceRef,
		Reason: registrations.Malformed, Detail: "owner is not a string",
		LogTime: tenOClock, RequestHash: r[0].Hash, Partition: onAlice, LogEpoch: 1, Offset: 9,
	}
	if d.Rows[0].Outcome != want || d.Rows[0].Principal != "gateway" {
		t.Errorf("got  %+v\nwant %+v", d.Rows[0].Outcome, want)
	}
}

// Every record moves the partition's time, whatever becomes of it, and none moves it back.
func TestDecideLogTime(t *testing.T) {
	sec := func(n int) time.Duration { return time.Duration(n) * time.Second }
	deadline := func(n int) func(*claims.UsernameClaimed) {
		return func(c *claims.UsernameClaimed) { c.Deadline = tenOClock.Add(sec(n)) }
	}
	all := receiveAll(rules48, 0,
		asking{id: "c1", name: "alice", owner: "u-1", at: sec(5)},
		asking{id: "c2", name: "alice", owner: "u-2", at: sec(3)},                              // an earlier clock
		asking{id: "c3", name: "alice", owner: "u-3", at: sec(4), more: deadline(4)},           // in time by its own clock
		asking{id: "c4", name: "alice", owner: "u-4", at: sec(5), more: deadline(5)},           // the same time
		asking{id: "c1", name: "alice", owner: "u-1", at: sec(7)},                              // a duplicate
		asking{id: "c5", name: "alice", owner: "u-5", more: deadline(6)},                       // late by that
		asking{id: "c6", key: "x", value: []byte("hello"), at: sec(9)},                         // not for here
		asking{id: "c7", name: "alice", owner: "u-7", more: deadline(8)},                       // late by that
		asking{id: "c1", name: "alice", owner: "u-8", at: sec(11)},                             // dead
		asking{id: "c9", name: "alice", owner: "u-9", more: deadline(10)},                      // late by that
		asking{id: "ca", name: "alice", owner: "u-a", at: -24 * time.Hour, more: deadline(11)}, // just in time
	)
	d := processor.Decide(aliceLedger(), all)
	const want = "Accepted taken deadline_passed taken duplicate deadline_passed forwarded deadline_passed dead deadline_passed taken"
	if got := kinds(d); got != want {
		t.Fatalf("%s\nwant %s", got, want)
	}
	for i, seconds := range []int{5, 5, 5, 5, -1, 7, -1, 9, -1, 11, 11} {
		if seconds >= 0 && !d.Rows[i].Outcome.LogTime.Equal(tenOClock.Add(sec(seconds))) {
			t.Errorf("record %d at %v, want %d s", i, d.Rows[i].Outcome.LogTime, seconds)
		}
	}
	if !d.LogTime.Equal(tenOClock.Add(sec(11))) {
		t.Errorf("log time %v", d.LogTime)
	}
	checkSplits(t, aliceLedger(), all)

	// What the ledger says counts as well, also where nothing comes.
	l := aliceLedger()
	l.LogTime = tenOClock.Add(time.Minute)
	if d := processor.Decide(l, all[:1]); !d.LogTime.Equal(l.LogTime) || !d.Rows[0].Outcome.LogTime.Equal(l.LogTime) {
		t.Errorf("log time %v went back", d.LogTime)
	}
	if d := processor.Decide(l, nil); !d.LogTime.Equal(l.LogTime) || len(d.Rows) != 0 || d.Changes != nil {
		t.Errorf("of no records: %+v", d)
	}
}

// What the database cannot store is dead, and its neighbours are not; it moves the time, and its id stays unused.
func TestDecideRefused(t *testing.T) {
	all := receiveAll(rules48, 20,
		asking{id: "c1", name: "alice", owner: "u-1", at: time.Second},
		asking{id: "c2", name: "alice", owner: "u-2"},
		asking{id: "c1", name: "alice", owner: "u-1"},
		asking{id: "c4", key: "x", value: []byte("hello")},
		asking{id: "c5", name: "alice", owner: "u-5"})
	all = append(all, processor.Receive(processor.Message{Offset: 25}, rules48))
	l := aliceLedger()
	l.Refused = map[int64]string{20: "no room", 23: "too odd", 25: "too short"}
	d := processor.Decide(l, all)
	if got, want := kinds(d), "dead Accepted taken dead taken dead"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	for i, want := range map[int]string{0: "the database refuses it: no room", 3: "the database refuses it: too odd", 5: "the database refuses it: too short"} {
		if row := d.Rows[i]; row.Detail != want || !reflect.DeepEqual(*row.Raw, all[i].Record) || row.RequestID != all[i].Request.ID {
			t.Errorf("dead of %q: %+v", row.Detail, row)
		}
	}
	if !d.Rows[1].Outcome.LogTime.Equal(tenOClock.Add(time.Second)) {
		t.Error("a refused record did not move the time")
	}
	checkSplits(t, l, all)
}

// Of several changes to one name in a run, the last stands, over the version that was read first.
func TestDecideManyNames(t *testing.T) {
	// All on one partition, as in a small deployment.
	rules := processor.Rules{Partitions: 1, Policies: names.Builtin()}
	l := processor.Ledger{LogEpoch: 2, Rules: rules}
	d := processor.Decide(l, receiveAll(rules, 0,
		asking{id: "c1", name: "Alice", owner: "u-1"}, asking{id: "c2", name: "Bob", owner: "u-1"},
		asking{id: "c3", name: "ALICE", owner: "u-3"}, asking{id: "c4", name: "alice", owner: "u-1", more: returnExisting},
		asking{id: "c5", name: "bob", owner: "u-5", more: expecting(1)}, asking{id: "c6", name: "carol", owner: "u-6"}))
	if got, want := kinds(d), "Accepted Accepted taken Accepted taken Accepted"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	var changed []string
	for _, c := range d.Changes {
		changed = append(changed, fmt.Sprintf("%s by %s as %s", c.Ref, c.Owner, c.Name))
	}
	if got := strings.Join(changed, ", "); got != "username/alice by u-1 as Alice, username/bob by u-1 as Bob, username/carol by u-6 as carol" {
		t.Errorf("changes: %s", got)
	}
	if o := d.Rows[3].Outcome; o.ClaimID != idOf("c1") || o.RequestID != idOf("c4") || o.Name != "Alice" || o.Version != 1 {
		t.Errorf("what stood is %+v", o)
	}
}

// TestDecideLogTimeThatCannotBeSpelt: a topic without its bound on clocks may hold a time that RFC 3339 has no digits
// for, and that Postgres refuses. The record is decided, and time does not follow it.
func TestDecideLogTimeThatCannotBeSpelt(t *testing.T) {
	all := receiveAll(rules48, 0,
		asking{id: "c1", name: "alice", owner: "u-1"},
		asking{id: "c2", name: "alice", owner: "u-2"},
	)
	all[1].Time = time.UnixMilli(1 << 52)
	d := processor.Decide(aliceLedger(), all)
	if got, want := kinds(d), "Accepted taken"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if !d.LogTime.Equal(tenOClock) || !d.Rows[1].Outcome.LogTime.Equal(tenOClock) {
		t.Errorf("log time %v, of the record %v; want %v", d.LogTime, d.Rows[1].Outcome.LogTime, tenOClock)
	}
}
