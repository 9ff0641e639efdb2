package verify_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/dibs-hq/dibs/verify"
	"github.com/google/uuid"
)

// row finds a row that is as asked for, of any partition: the last one, so that what is wrong with it changes nothing else.
func (w *world) row(t testing.TB, which func(*processor.Row) bool) *memory.Row {
	t.Helper()
	for p := range w.claims {
		rows := w.rows[int32(p)]
		for i := len(rows) - 1; i >= 0; i-- {
			if which(&rows[i].Row) {
				return &rows[i]
			}
		}
	}
	t.Fatal("the history has no such row")
	return nil
}

func ofKind(k processor.Kind) func(*processor.Row) bool {
	return func(r *processor.Row) bool { return r.Kind == k }
}

func ofType(o registrations.Type) func(*processor.Row) bool {
	return func(r *processor.Row) bool { return r.Kind == processor.KindOutcome && r.Outcome.Type == o }
}

func (w *world) drop(row *memory.Row) {
	rows := w.rows[row.Partition]
	i := slices.IndexFunc(rows, func(r memory.Row) bool {
		return r.LogEpoch == row.LogEpoch && r.Offset == row.Offset && r.Seq == row.Seq
	})
	w.rows[row.Partition] = slices.Delete(rows, i, i+1)
}

// copies finds the records that a row published.
func (w *world) copies(row *memory.Row) (at []int) {
	want := row.Outcome.Record()
	for i, m := range w.registrations[row.Partition].records {
		if string(m.Value) == string(want.Value) {
			at = append(at, i)
		}
	}
	return at
}

// TestBroken: whatever one thing is not as it should be, it is named, where it is.
func TestBroken(t *testing.T) {
	t.Parallel()
	whole := history(t, 42, 1500)
	whole.agrees(t, "whole")
	type named struct {
		where, field string
		offset       int64
	}
	change := func(which func(*processor.Row) bool, field string, f func(*processor.Row)) func(testing.TB, *world) named {
		return func(t testing.TB, w *world) named {
			row := w.row(t, which)
			f(&row.Row)
			return named{"decisions", field, row.Offset}
		}
	}
	standing := func(field string, f func(*processor.Standing)) func(testing.TB, *world) named {
		return func(t testing.TB, w *world) named {
			s := w.standings[1]
			f(&s)
			w.standings[1] = s
			return named{"partitions", field, -1}
		}
	}
	name := func(field string, f func(*registrations.Holding)) func(testing.TB, *world) named {
		return func(t testing.TB, w *world) named {
			ref := w.someName(t)
			h := w.names[ref]
			f(&h)
			w.names[ref] = h
			return named{"names", field, -1}
		}
	}
	published := func(field string, f func(w *world, row *memory.Row, at []int)) func(testing.TB, *world) named {
		return func(t testing.TB, w *world) named {
			row := w.row(t, func(r *processor.Row) bool {
				return r.Kind == processor.KindOutcome && r.Outcome.Type == registrations.Accepted
			})
			f(w, row, w.copies(row))
			return named{"registrations", field, row.Offset}
		}
	}
	for what, break1 := range map[string]func(testing.TB, *world) named{
		"a row is missing": func(t testing.TB, w *world) named {
			row := *w.row(t, ofType(registrations.Rejected))
			w.drop(&row)
			return named{"decisions", "row", row.Offset}
		},
		"a mark is missing": func(t testing.TB, w *world) named {
			row := *w.row(t, ofKind(processor.KindMark))
			w.drop(&row)
			return named{"decisions", "row", row.Offset}
		},
		"a fact is missing": func(t testing.TB, w *world) named {
			row := *w.row(t, ofKind(processor.KindFact))
			w.drop(&row)
			return named{"decisions", "row", row.Offset}
		},
		"a duplicate is missing": func(t testing.TB, w *world) named {
			row := *w.row(t, ofKind(processor.KindDuplicate))
			w.drop(&row)
			return named{"decisions", "row", row.Offset}
		},
		"a row beyond the end": func(t testing.TB, w *world) named {
			row := *w.row(t, ofType(registrations.Rejected))
			row.Offset = w.standings[row.Partition].NextOffset + 3
			row.Outcome.Offset = row.Offset
			w.rows[row.Partition] = append(w.rows[row.Partition], row)
			return named{"decisions", "row", row.Offset}
		},
		"a row of a later log": func(t testing.TB, w *world) named {
			row := *w.row(t, ofType(registrations.Rejected))
			row.LogEpoch = 2
			w.rows[row.Partition] = append(w.rows[row.Partition], row)
			return named{"decisions", "row", row.Offset}
		},
		"a row too many": func(t testing.TB, w *world) named {
			row := *w.row(t, ofType(registrations.Rejected))
			row.Seq, row.Outcome.Seq = 7, 7
			rows := w.rows[row.Partition]
			i := slices.IndexFunc(rows, func(r memory.Row) bool { return r.Offset > row.Offset })
			if i < 0 {
				i = len(rows)
			}
			w.rows[row.Partition] = slices.Insert(rows, i, row)
			return named{"decisions", "row", row.Offset}
		},
		"version":         change(ofType(registrations.Accepted), "version", func(r *processor.Row) { r.Outcome.Version++ }),
		"owner":           change(ofType(registrations.Accepted), "owner", func(r *processor.Row) { r.Outcome.Owner = "u-9" }),
		"hash":            change(ofType(registrations.Rejected), "request_hash", func(r *processor.Row) { r.Outcome.RequestHash[3]++ }),
		"log time":        change(ofType(registrations.Rejected), "log_time", func(r *processor.Row) { r.Outcome.LogTime = r.Outcome.LogTime.Add(time.Millisecond) }),
		"reason":          change(ofType(registrations.Rejected), "reason", func(r *processor.Row) { r.Outcome.Reason = registrations.Confusable }),
		"state":           change(ofType(registrations.Released), "state", func(r *processor.Row) { r.Outcome.State = registrations.Inactive }),
		"policy version":  change(ofType(registrations.Rejected), "policy_version", func(r *processor.Row) { r.Outcome.PolicyVersion = 9 }),
		"principal":       change(ofType(registrations.Rejected), "principal", func(r *processor.Row) { r.Principal = "somebody" }),
		"request":         change(ofType(registrations.Rejected), "request", func(r *processor.Row) { r.Outcome.Request = "Nothing" }),
		"claim id":        change(ofType(registrations.Confirmed), "claim_id", func(r *processor.Row) { r.Outcome.ClaimID = uuid.New() }),
		"request id":      change(ofType(registrations.Rejected), "request_id", func(r *processor.Row) { r.RequestID = uuid.New() }),
		"actor":           change(func(r *processor.Row) bool { return r.Actor != "" }, "actor", func(r *processor.Row) { r.Actor = "nobody" }),
		"why":             change(func(r *processor.Row) bool { return r.Why != "" }, "why", func(r *processor.Row) { r.Why = "" }),
		"follow-up":       change(func(r *processor.Row) bool { return r.FollowUp != nil }, "follow_key", func(r *processor.Row) { r.FollowUp = nil }),
		"mark's owner":    change(ofKind(processor.KindMark), "owner", func(r *processor.Row) { r.Outcome.Owner = "u-9" }),
		"fact's version":  change(ofKind(processor.KindFact), "version", func(r *processor.Row) { r.Outcome.Version++ }),
		"dead's reason":   change(ofKind(processor.KindDead), "detail", func(r *processor.Row) { r.Detail = "something else" }),
		"dead's record":   change(ofKind(processor.KindDead), "raw", func(r *processor.Row) { raw := *r.Raw; raw.Value = []byte("x"); r.Raw = &raw }),
		"forwarded":       change(ofKind(processor.KindForwarded), "raw", func(r *processor.Row) { raw := *r.Raw; raw.Key = []byte("x"); r.Raw = &raw }),
		"duplicate's id":  change(ofKind(processor.KindDuplicate), "request_id", func(r *processor.Row) { r.RequestID = uuid.New() }),
		"duplicate's who": change(ofKind(processor.KindDuplicate), "principal", func(r *processor.Row) { r.Principal = "x" }),

		"partition's log time": standing("log_time", func(s *processor.Standing) { s.LogTime = s.LogTime.Add(time.Second) }),
		"partition's hash":     standing("last_record_hash", func(s *processor.Standing) { s.LastHash++ }),
		"partition's offset":   standing("last_record_offset", func(s *processor.Standing) { s.LastOffset-- }),
		"next offset too high": standing("next_offset", func(s *processor.Standing) { s.NextOffset++ }),
		"next offset too low": func(t testing.TB, w *world) named {
			s := w.standings[1]
			s.NextOffset--
			s.PublishedThrough--
			w.standings[1] = s
			return named{"decisions", "row", s.NextOffset}
		},

		"name's owner":    name("owner", func(h *registrations.Holding) { h.Owner += "x" }),
		"name's version":  name("version", func(h *registrations.Holding) { h.Version-- }),
		"name's state":    name("state", func(h *registrations.Holding) { h.State = registrations.Cooling }),
		"name's claim":    name("claim_id", func(h *registrations.Holding) { h.ClaimID = uuid.New() }),
		"name's spelling": name("name", func(h *registrations.Holding) { h.Name += "x" }),
		"name's since":    name("since", func(h *registrations.Holding) { h.Since = h.Since.Add(time.Millisecond) }),
		"name's settled":  name("settled", func(h *registrations.Holding) { h.Settled = !h.Settled }),
		"name's previous": name("previous", func(h *registrations.Holding) { h.Previous = "u-9" }),
		"name's replaces": name("replaces", func(h *registrations.Holding) { h.Replaces = "zoe" }),
		"name's expiry":   name("expires_at", func(h *registrations.Holding) { h.ExpiresAt = h.ExpiresAt.Add(time.Hour) }),
		"a name is missing": func(t testing.TB, w *world) named {
			delete(w.names, w.someName(t))
			return named{"names", "row", -1}
		},
		"a name too many": func(t testing.TB, w *world) named {
			w.names[names.Ref{Space: names.Username, Key: "zoe"}] = registrations.Holding{State: registrations.Registered, Version: 1}
			return named{"names", "row", -1}
		},
		"a name in the wrong partition": func(t testing.TB, w *world) named {
			ref := w.someName(t)
			h := w.names[ref]
			h.Partition = (h.Partition + 1) % 3
			w.names[ref] = h
			return named{"names", "row", -1}
		},

		"an outcome is not published": published("record", func(w *world, row *memory.Row, at []int) {
			log := &w.registrations[row.Partition]
			for _, i := range slices.Backward(at) {
				log.records = slices.Delete(log.records, i, i+1)
			}
		}),
		"an outcome's value":  published("value", func(w *world, row *memory.Row, at []int) { w.change(row, at[0], 'v') }),
		"an outcome's key":    published("key", func(w *world, row *memory.Row, at []int) { w.change(row, at[0], 'k') }),
		"an outcome's header": published("header", func(w *world, row *memory.Row, at []int) { w.change(row, at[0], 'h') }),
		"an outcome's time":   published("timestamp", func(w *world, row *memory.Row, at []int) { w.change(row, at[0], 't') }),
		"a further header":    published("header", func(w *world, row *memory.Row, at []int) { w.change(row, at[0], '+') }),
		"a copy that differs": published("value", func(w *world, row *memory.Row, at []int) {
			log := &w.registrations[row.Partition]
			log.append(log.records[at[0]].Record)
			w.change(row, len(log.records)-1, 'v')
		}),
		"an outcome that was never committed": func(t testing.TB, w *world) named {
			row := *w.row(t, ofType(registrations.Accepted))
			row.Outcome.Offset = w.standings[row.Partition].NextOffset + 1
			w.registrations[row.Partition].append(row.Outcome.Record())
			return named{"registrations", "record", row.Outcome.Offset}
		},
		"an outcome of a record that publishes none": func(t testing.TB, w *world) named {
			at := w.row(t, ofKind(processor.KindDead))
			o := w.row(t, ofType(registrations.Accepted)).Outcome
			o.Partition, o.Offset = at.Partition, at.Offset
			w.registrations[at.Partition].append(o.Record())
			return named{"registrations", "record", at.Offset}
		},
		"an outcome on another partition": func(t testing.TB, w *world) named {
			row := w.row(t, ofType(registrations.Accepted))
			w.registrations[(row.Partition+1)%3].append(row.Outcome.Record())
			return named{"registrations", "record", -1}
		},
		"nonsense on registrations": func(t testing.TB, w *world) named {
			r := w.row(t, ofType(registrations.Accepted)).Outcome.Record()
			r.Value = []byte(`{"partition":1}`)
			w.registrations[1].append(r)
			return named{"registrations", "record", -1}
		},
		"a fact is not published": func(t testing.TB, w *world) named {
			row := w.row(t, func(r *processor.Row) bool { return r.Kind == processor.KindFact && r.Outcome.Type.Published() })
			log := &w.registrations[row.Partition]
			for _, i := range slices.Backward(w.copies(row)) {
				log.records = slices.Delete(log.records, i, i+1)
			}
			return named{"registrations", "record", row.Offset}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := whole.copy()
			want := break1(t, w)
			r, err := w.verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			differs(t, &r, want.where, want.field, want.offset)
			if r.Found > 12 {
				t.Errorf("one thing is broken, and %d differences are found", r.Found)
			}
		})
	}
}

// someName is one that somebody holds.
func (w *world) someName(t testing.TB) names.Ref {
	t.Helper()
	var found names.Ref
	for ref, h := range w.names {
		if h.Held() && (found.Key == "" || ref.String() < found.String()) {
			found = ref
		}
	}
	if found.Key == "" {
		t.Fatal("nobody holds a name")
	}
	return found
}

// change alters one thing of a record on registrations.
func (w *world) change(row *memory.Row, at int, what byte) {
	m := &w.registrations[row.Partition].records[at]
	m.Headers = slices.Clone(m.Headers)
	switch what {
	case 'v':
		m.Value = append([]byte(`{ `), m.Value[1:]...)
	case 'k':
		m.Key = append(slices.Clone(m.Key), 'x')
	case 'h':
		m.Headers[2].Value = []byte(uuid.NewString())
	case 't':
		m.Time = m.Time.Add(time.Millisecond)
	case '+':
		m.Headers = append(m.Headers, m.Headers[0])
	}
}

// TestAnotherLog: what an operator has given up is trusted, and what came behind it in the new log is replayed.
func TestAnotherLog(t *testing.T) {
	t.Parallel()
	w := history(t, 11, 500)
	p := int32(1)
	s := w.standings[p]
	// Everything so far is of log 1, which is gone; in log 2 the same records have come again, from offset 5 on.
	old := w.claims[p]
	fresh := memoryLog{start: 3, end: 3}
	for range 2 { // what an operator has passed over
		fresh.append(old.records[0].Record)
	}
	state := processor.Ledger{Partition: p, LogEpoch: 2, LogTime: s.LogTime, Rules: w.rules, Known: processor.Known{
		Holdings: w.names, Outcomes: make(map[processor.Request]registrations.Outcome), Marks: make(map[processor.Mark]struct{}),
	}}
	for _, row := range w.rows[p] {
		switch row.Kind {
		case processor.KindOutcome:
			state.Known.Outcomes[processor.Request{Partition: p, ID: row.RequestID}] = row.Outcome
		case processor.KindMark:
			state.Known.Marks[processor.Mark{Partition: p, Claim: row.RequestID, Owner: row.Outcome.Owner}] = struct{}{}
		}
	}
	var received []processor.Received
	for i, m := range old.records {
		if i%2 == 0 { // under a new id, where it is a request that can be read
			if h := m.Headers; len(h) > 2 {
				m.Headers = slices.Clone(h)
				m.Headers[2].Value = []byte(uuid.NewString())
			}
		}
		fresh.append(m.Record)
		received = append(received, processor.Receive(fresh.records[len(fresh.records)-1], w.rules))
	}
	d := processor.Decide(state, received)
	for _, c := range d.Changes {
		w.names[c.Ref] = c.Holding
	}
	for _, row := range d.Rows {
		w.rows[p] = append(w.rows[p], memory.Row{Partition: p, LogEpoch: 2, Row: row})
		publishes := row.Kind == processor.KindOutcome || row.Kind == processor.KindFact || row.Kind == processor.KindDuplicate
		if publishes && row.Outcome.Type.Published() {
			w.registrations[p].append(row.Outcome.Record())
		}
	}
	last := fresh.records[len(fresh.records)-1]
	s.LogEpoch, s.NextOffset, s.PublishedThrough, s.LogTime = 2, fresh.end, fresh.end, d.LogTime
	s.LastOffset, s.LastHash = last.Offset, last.Hash()
	w.claims[p], w.standings[p], w.began[p] = fresh, s, 5
	r := w.agrees(t, "in the second log")
	if r.Trusted == 0 || r.TrustedOutcomes == 0 || len(r.Notes) == 0 {
		t.Errorf("nothing is taken on trust: %+v", r)
	}

	row := &w.rows[p][len(w.rows[p])-1]
	row.Principal = "somebody"
	r, err := w.verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	differs(t, &r, "decisions", "principal", row.Offset)
}

// TestHaltedOnAnotherLog: a partition that is halted because its log is another one has nothing to be replayed.
func TestHaltedOnAnotherLog(t *testing.T) {
	t.Parallel()
	w := history(t, 12, 300)
	s := w.standings[0]
	s.Halted = "the log is not the one that was read"
	w.standings[0] = s
	r := w.agrees(t, "halted, on its own log")
	if r.Trusted > 0 {
		t.Errorf("%d rows are trusted", r.Trusted)
	}
	fresh := memoryLog{}
	for fresh.end <= s.NextOffset { // as long as the one that was
		for _, m := range w.claims[1].records {
			fresh.append(m.Record)
		}
	}
	w.claims[0] = fresh
	if r = w.agrees(t, "halted, on another log"); r.Trusted == 0 {
		t.Error("nothing is trusted")
	}
}

// TestSignedWithoutKeys: without the keys, what a signature decided cannot be replayed; it is no difference.
func TestSignedWithoutKeys(t *testing.T) {
	t.Parallel()
	w := history(t, 13, 300)
	w.rules.Keys = nil
	if _, err := w.verify(t.Context()); !errors.Is(err, verify.ErrKeys) {
		t.Errorf("without keys: %v, want %v", err, verify.ErrKeys)
	}
	w.rules.Keys = claims.Keys{"k0": []byte("another secret")}
	if r, err := w.verify(t.Context()); err != nil || r.Found == 0 || len(r.Notes) == 0 {
		t.Errorf("with another key: %d differences, %v", r.Found, err)
	}
}

// TestSignedForNothing: a signature that decides nothing needs no key.
func TestSignedForNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t, 1)
	for _, id := range []string{"a1", "b1", "c1"} {
		ref := names.Ref{Space: names.Username, Key: names.Key("signed-" + id)}
		claim := &claims.UsernameClaimed{Space: ref.Space, Spelling: string(ref.Key), Owner: "u-1", Mode: claims.ModeRegister}
		g.send(0, testSigning.Sign(claims.NewRecord(claim, cloudevents.Event{ID: uuid.New(), Source: "test", Time: time.Now()}, ref)))
	}
	g.settled()
	w := g.left()
	w.rules.Keys = nil
	if r, err := w.verify(t.Context()); err != nil || r.Found != 0 || r.Records != 3 || len(r.Notes) != 0 {
		t.Errorf("without keys: %+v, %v", r, err)
	}
	w.rules.Keys = claims.Keys{"k0": []byte("another secret")}
	if r, err := w.verify(t.Context()); err != nil || r.Found != 0 || len(r.Notes) != 0 {
		t.Errorf("with another key: %+v, %v", r, err)
	}
}

// TestRefusedRecord: what the database could not store only it can know.
func TestRefusedRecord(t *testing.T) {
	t.Parallel()
	g := newRig(t, 3)
	refused := 0
	g.mem.Refuse = func(r processor.Row) error {
		if r.Kind == processor.KindOutcome && r.Outcome.Owner == "u-3" {
			refused++
			return errors.New("it does not like u-3")
		}
		return nil
	}
	g.walk(21, 60)
	g.settled()
	if r := g.left().agrees(t, "with refused records"); refused == 0 || r.Trusted == 0 {
		t.Errorf("%d were refused, %d are trusted", refused, r.Trusted)
	}
}

// TestOnePartition: only what is asked for is verified, and it must exist.
func TestOnePartition(t *testing.T) {
	t.Parallel()
	w := history(t, 14, 300)
	only := func(partitions ...int32) func(*verify.Config) {
		return func(c *verify.Config) { c.Partitions = partitions }
	}
	s := w.standings[2]
	s.LastHash++
	w.standings[2] = s
	if r, err := w.verify(t.Context(), only(0, 1)); err != nil || r.Found > 0 || r.Of != 2 {
		t.Errorf("partitions 0 and 1: %+v, %v", r, err)
	}
	if r, err := w.verify(t.Context(), only(2)); err != nil || r.Found == 0 || r.Of != 1 {
		t.Errorf("partition 2: %+v, %v", r, err)
	}
	if _, err := w.verify(t.Context(), only(3)); !errors.Is(err, verify.ErrPartition) {
		t.Errorf("partition 3: %v", err)
	}
}

// TestManyDifferences: a few are listed, all are counted.
func TestManyDifferences(t *testing.T) {
	t.Parallel()
	w := history(t, 15, 300)
	n := int64(0)
	for p := range w.rows {
		for i := range w.rows[p] {
			w.rows[p][i].Principal += "x"
			n++
		}
	}
	r, err := w.verify(t.Context(), func(c *verify.Config) { c.MaxDifferences = 5 })
	if err != nil || len(r.Differences) != 5 || r.Found != n {
		t.Errorf("%d listed, %d of %d found, %v", len(r.Differences), r.Found, n, err)
	}
}

// TestBrokenOff: a run that is stopped reports what it has seen.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	w := history(t, 16, 300)
	ctx, stop := context.WithCancel(t.Context())
	w.meanwhile = func(p int32) {
		if p == 1 {
			stop()
		}
	}
	r, err := w.verify(ctx, func(c *verify.Config) { c.Workers = 1 })
	if !errors.Is(err, context.Canceled) || r.Complete || r.Partitions != 1 || r.Records == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
