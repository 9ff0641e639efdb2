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
	rules3       = processor.Rules{Partitions: 3, Policies: names.Builtin()}
	propertyName = []string{"alice", "Alice", "bob", "carol", "dave", "erin", "admin", "-", "frank"}
)

// drawMessage draws a record from few values, so that names, ids and times meet often.
func drawMessage(t *rapid.T, offset int64) processor.Message {
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	a := asking{
		id: few("id", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"), name: rapid.SampledFrom(propertyName).Draw(t, "name"),
		owner: few("owner", "u-1", "u-2", ""), principal: few("principal", "gateway", ""),
		at: time.Duration(rapid.IntRange(0, 10).Draw(t, "at")) * time.Second,
	}
	if rapid.IntRange(0, 3).Draw(t, "plain") > 0 {
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

// drawLog draws the ledger of a partition and the records that lie on it next.
func drawLog(t *rapid.T) (processor.Ledger, []processor.Message) {
	l := processor.Ledger{
		Partition: int32(rapid.IntRange(0, 3).Draw(t, "partition")), LogEpoch: 1, Rules: rules3,
		Known: processor.Known{
			Holdings: make(map[names.Ref]registrations.Holding), Outcomes: make(map[processor.Request]registrations.Outcome),
		},
	}
	if rapid.Bool().Draw(t, "not new") {
		l.LogTime = tenOClock.Add(5 * time.Second)
	}
	for _, name := range propertyName {
		ref := names.Ref{Space: names.Username, Key: names.Key(name)}
		if _, err := rules3.Policies[names.Username].Canonical(name); err != nil || claims.Partition(ref.String(), 3) != l.Partition {
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
	messages := make([]processor.Message, rapid.IntRange(0, 25).Draw(t, "records"))
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
		outputs := processor.OutputsOf("claims", l.Rules, at, first.Rows)
		if !reflect.DeepEqual(l, ledger) || !reflect.DeepEqual(received, kept) {
			t.Fatalf("deciding changed what it was given")
		}
		again := processor.Decide(ledger, receiveMessages(messages, l.Rules))
		if !reflect.DeepEqual(again, first) {
			t.Fatalf("decided again it is\n%+v\nand was\n%+v", again, first)
		}
		if o := processor.OutputsOf("claims", l.Rules, at, again.Rows); !reflect.DeepEqual(o, outputs) {
			t.Fatalf("published again it is\n%+v\nand was\n%+v", o, outputs)
		}
		// What the record stores of an outcome is what is published: it reads back from its own bytes.
		for _, row := range first.Rows {
			if row.Kind != processor.KindOutcome {
				continue
			}
			r := row.Outcome.Record()
			back, err := registrations.Decode(r)
			if err != nil || !reflect.DeepEqual(back.Record(), r) {
				t.Fatalf("%s reads back as %+v, %v", r.Value, back, err)
			}
		}
	})
}

// What holds of every decision, told without the rule.
func TestDecideInvariants(t *testing.T) {
	accepted, duplicates, forwarded, dead := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		l, messages := drawLog(t)
		d := processor.Decide(l, receiveMessages(messages, l.Rules))
		if len(d.Rows) != len(messages) {
			t.Fatalf("%d rows of %d records", len(d.Rows), len(messages))
		}
		outcomes := make(map[processor.Request]registrations.Outcome)
		holders := make(map[names.Ref]registrations.Holding)
		for ref, h := range l.Known.Holdings {
			holders[ref] = h
		}
		logTime := l.LogTime
		for i, row := range d.Rows {
			if row.Offset != messages[i].Offset || row.Seq != 0 {
				t.Fatalf("row %d is %+v, and the record is at %d", i, row, messages[i].Offset)
			}
			if messages[i].Time.After(logTime) {
				logTime = messages[i].Time
			}
			id, o := processor.Request{Partition: l.Partition, ID: row.RequestID}, row.Outcome
			before, seen := outcomes[id]
			switch row.Kind {
			case processor.KindForwarded:
				forwarded++
				continue
			case processor.KindDead:
				dead++
				continue
			case processor.KindDuplicate:
				duplicates++
				if !seen || o != before {
					t.Fatalf("row %d repeats %+v, and the outcome was %+v", i, o, before)
				}
				continue
			}
			if seen {
				t.Fatalf("request %s has a second outcome: %+v after %+v", row.RequestID, o, before)
			}
			outcomes[id] = o
			if !o.LogTime.Equal(logTime) || o.Offset != row.Offset || o.Partition != l.Partition || o.RequestID != row.RequestID || o.Fact {
				t.Fatalf("row %d: %+v", i, o)
			}
			if claims.Partition(o.Ref.RecordKey(), 3) != l.Partition {
				t.Fatalf("row %d decides %s, which belongs elsewhere", i, o.Ref)
			}
			holder := holders[o.Ref]
			if o.Type == registrations.Rejected {
				if o.Reason == "" || o.FullDetail() == "" || o.Version != 0 || o.State != "" {
					t.Fatalf("row %d: %+v", i, o)
				}
				if o.Reason == registrations.Taken && !holder.Held() {
					t.Fatalf("row %d: %s is taken by nobody", i, o.Ref)
				}
				continue
			}
			accepted++
			if o.ClaimID != row.RequestID { // what stood
				if !holder.Held() || holder.Owner != o.Owner || holder.Version != o.Version || holder.ClaimID != o.ClaimID {
					t.Fatalf("row %d: %+v, and the holder is %+v", i, o, holder)
				}
				continue
			}
			if holder.Held() || o.Version != holder.Version+1 {
				t.Fatalf("row %d: %+v, and the holder was %+v", i, o, holder)
			}
			holders[o.Ref] = registrations.Holding{
				State: registrations.Registered, Name: o.Name, Owner: o.Owner, ClaimID: o.ClaimID, Version: o.Version,
				PolicyVersion: 1, Since: logTime, Partition: l.Partition,
			}
		}
		if !d.LogTime.Equal(logTime) {
			t.Fatalf("log time %v, want %v", d.LogTime, logTime)
		}
		for _, c := range d.Changes {
			if c.Version != l.Known.Holdings[c.Ref].Version || c.Holding != holders[c.Ref] {
				t.Fatalf("change %+v, and the outcomes say %+v", c, holders[c.Ref])
			}
			delete(holders, c.Ref)
		}
		for ref, h := range holders { // without a change it is as it was
			if h != l.Known.Holdings[ref] {
				t.Fatalf("%s is held by %+v, and no change says so", ref, h)
			}
		}
	})
	if accepted == 0 || duplicates == 0 || forwarded == 0 || dead == 0 {
		t.Errorf("%d accepted, %d duplicates, %d forwarded, %d dead: nothing was drawn of one kind", accepted, duplicates, forwarded, dead)
	}
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
			processor.OutputsOf("claims", rules3, processor.Fence{Partition: partition}, d.Rows)
		}
		if decided > 1 {
			t.Fatalf("decided on %d partitions", decided)
		}
	})
}
