package verify_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/dibs-hq/dibs/verify"
)

// history is what a walk has left.
func history(t testing.TB, seed uint64, requests int) *world {
	t.Helper()
	g := newRig(t, 3)
	g.walk(seed, requests)
	g.settled()
	return g.left()
}

// agrees fails the test for every difference.
func (w *world) agrees(t testing.TB, when string) verify.Report {
	t.Helper()
	r, err := w.verify(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for i := range r.Differences {
		t.Errorf("%s: %s", when, &r.Differences[i])
	}
	if r.Found > 0 || !r.Complete {
		t.Fatalf("%s: %d differences, complete %v", when, r.Found, r.Complete)
	}
	return r
}

// TestNoDifference: what the processor has done is what the replay does.
func TestNoDifference(t *testing.T) {
	t.Parallel()
	kinds := make(map[string]int)
	for seed := range uint64(4) {
		w := history(t, seed, 1200)
		r := w.agrees(t, fmt.Sprintf("seed %d", seed))
		var records, rows, published int64
		for p := range w.claims {
			records += int64(len(w.claims[p].records))
			rows += int64(len(w.rows[int32(p)]))
			published += int64(len(w.registrations[p].records))
			for _, row := range w.rows[int32(p)] {
				kinds[string(row.Kind)]++
				if row.Kind == processor.KindOutcome {
					kinds[string(row.Outcome.Type)+" "+string(row.Outcome.Reason)]++
				}
				if row.FollowUp != nil {
					kinds["follow-up"]++
				}
			}
		}
		if r.Records != records || r.Rows != rows || r.Names != int64(len(w.names)) || r.Outcomes+r.Duplicates != published {
			t.Errorf("compared %+v of %d records, %d rows, %d names, %d outcomes", r.Counts, records, rows, len(w.names), published)
		}
	}
	for _, kind := range []string{
		"outcome", "fact", "duplicate", "forwarded", "dead", "mark", "follow-up", "Accepted ", "Confirmed ", "Extended ", "Released ", "Withdrawn ",
		"Deactivated ", "Reactivated ", "Transferred ", "Blocked ", "Unblocked ", "Rejected taken", "Rejected not_owner", "Rejected reservation_expired",
		"Rejected cooling_down", "Rejected blocked", "Rejected withdrawn", "Rejected deadline_passed", "Rejected not_allowed", "Rejected malformed",
	} {
		if kinds[kind] == 0 {
			t.Errorf("the histories have no %s: %v", kind, kinds)
		}
	}
}

// TestTrusted: wherever retention has cut the log, what was decided before is folded, and the rest is the same.
func TestTrusted(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		whole := history(t, 100+seed, 700)
		for cut := int64(0); cut < 240; cut += 1 + cut/6 {
			w := whole.copy()
			for p := range w.claims {
				w.claims[p].cut(min(cut, w.claims[p].end))
				w.registrations[p].cut(min(cut/2, w.registrations[p].end))
			}
			r := w.agrees(t, fmt.Sprintf("seed %d, cut at %d", seed, cut))
			if cut > 0 && r.Trusted == 0 {
				t.Fatalf("cut at %d: nothing is taken on trust", cut)
			}
		}
	}
}

// TestFold: at whatever record the log begins, what is folded of all before it is what the processor has made of them.
func TestFold(t *testing.T) {
	t.Parallel()
	states := make(map[registrations.State]int)
	for seed := range uint64(4) {
		whole := history(t, 200+seed, 400)
		for next := int64(1); next < 180; next += 7 {
			w := whole.copy()
			for p := range w.claims {
				w.asOf(int32(p), next)
				w.claims[p].cut(w.standings[int32(p)].NextOffset)
				w.registrations[p] = memoryLog{}
			}
			for _, h := range w.names {
				states[h.State]++
				if h.Previous != "" {
					states[h.State+", and whose it was"]++
				}
			}
			if r := w.agrees(t, fmt.Sprintf("seed %d, begins at %d", seed, next)); r.Records > 0 || r.Rows > 0 {
				t.Fatalf("it was not folded: %+v", r)
			}
		}
	}
	for _, s := range []registrations.State{"registered", "reserved", "inactive", "free", "cooling", "blocked", "cooling, and whose it was", "free, and whose it was"} {
		if states[s] == 0 {
			t.Errorf("no name is %s: %v", s, states)
		}
	}
}

// TestFoldOverPolicies: a policy's version stays with a name that only expires under the next one.
func TestFoldOverPolicies(t *testing.T) {
	t.Parallel()
	g := newRig(t, 1)
	w := &walk{rig: g, r: rand.New(rand.NewPCG(1, 1)), clock: time.Now().UTC().Truncate(time.Millisecond)}
	ttl := int64(20)
	w.as(askedClaim{w.id(), names.Username, "alice", "u-1"}, &claims.UsernameClaimed{
		Space: names.Username, Spelling: "alice", Owner: "u-1", Mode: claims.ModeReserve, TTLSeconds: &ttl}, false)
	g.settled()
	policies := testPolicies()
	for _, p := range policies {
		p.Version += 10
	}
	g.rules.Policies, g.assigned = policies, false
	g.run()
	w.clock = w.clock.Add(time.Hour)
	w.ask(&claims.ReleaseRequested{About: claims.About{Space: names.Username, Spelling: "alice"}, Owner: "u-9"}, false)
	g.settled()
	left := g.left()
	h := left.names[names.Ref{Space: names.Username, Key: "alice"}]
	if last := left.rows[0][len(left.rows[0])-1]; h.State != registrations.Free || h.PolicyVersion != 1 || last.Outcome.PolicyVersion != 11 {
		t.Fatalf("alice is %+v, by %+v", h, last)
	}
	left.claims[0].cut(left.claims[0].end)
	left.agrees(t, "two policies")
}

// TestRetentionOfOutcomes: what retention has taken of registrations is not looked for, what it has not is.
func TestRetentionOfOutcomes(t *testing.T) {
	t.Parallel()
	whole := history(t, 51, 600)
	w := whole.copy()
	for p := range w.registrations {
		log := &w.registrations[p]
		log.cut(log.end / 2)
	}
	if r := w.agrees(t, "half of it is gone"); r.Expired == 0 {
		t.Errorf("nothing is expired: %+v", r)
	}
}

// TestUnpublished: what is decided and not acknowledged yet may be missing, and only that.
func TestUnpublished(t *testing.T) {
	t.Parallel()
	w := history(t, 52, 400)
	s := w.standings[0]
	s.PublishedThrough -= 20
	w.standings[0] = s
	log := &w.registrations[0]
	for i, m := range log.records {
		if o, err := registrations.Decode(m.Record); err != nil || o.Offset >= s.PublishedThrough {
			log.records, log.end = log.records[:i], m.Offset
			break
		}
	}
	if r := w.agrees(t, "not all is published"); r.Unpublished == 0 {
		t.Errorf("nothing is unpublished: %+v", r)
	}
	s.PublishedThrough += 20
	w.standings[0] = s
	r, err := w.verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	differs(t, &r, "registrations", "record", -1)
	if r.Found < 10 {
		t.Errorf("%d are missing", r.Found)
	}
}

// TestLaterIsNoDifference: what is decided and published after the moment that is compared is none.
func TestLaterIsNoDifference(t *testing.T) {
	t.Parallel()
	whole := history(t, 7, 600)
	for next := int64(0); next < 150; next += 7 {
		w := whole.copy()
		w.workers = 1 // what comes meanwhile comes to all partitions
		for p := range w.claims {
			p := int32(p)
			w.asOf(p, next)
			// The rest is on its topic by the time that the topic is read, and was not when the snapshot was taken.
			all := w.registrations[p]
			kept := all.records
			for i, m := range all.records {
				if o, err := registrations.Decode(m.Record); err != nil || o.Offset >= next {
					kept = all.records[:i:i]
					break
				}
			}
			before := all
			before.records = kept
			if before.end = 0; len(kept) > 0 {
				before.end = kept[len(kept)-1].Offset + 1
			}
			w.registrations[p] = before
		}
		now := w.registrations
		w.meanwhile = func(p int32) { now[p] = whole.registrations[p] }
		w.registrations = now
		w.agrees(t, fmt.Sprintf("as of %d", next))
	}
}

// asOf makes a partition what it was at an offset.
func (w *world) asOf(p int32, next int64) {
	s := w.standings[p]
	next = min(next, s.NextOffset)
	rules := processor.Ledger{Partition: p, LogEpoch: 1, Rules: w.rules}
	var received []processor.Received
	s.LastOffset, s.LastHash = -1, 0
	for _, m := range w.claims[p].records {
		if m.Offset < next {
			received = append(received, processor.Receive(m, w.rules))
			s.LastOffset, s.LastHash = m.Offset, m.Hash()
		}
	}
	d := processor.Decide(rules, received)
	s.NextOffset, s.PublishedThrough, s.LogTime = next, next, d.LogTime
	w.standings[p] = s
	for ref, h := range w.names {
		if h.Partition == p {
			delete(w.names, ref)
		}
	}
	for _, c := range d.Changes {
		w.names[c.Ref] = c.Holding
	}
	rows := w.rows[p][:0:0]
	for _, row := range w.rows[p] {
		if row.Offset < next {
			rows = append(rows, row)
		}
	}
	w.rows[p] = rows
}

// differs fails the test unless a difference is found there, in that field.
func differs(t testing.TB, r *verify.Report, where, field string, offset int64) {
	t.Helper()
	for _, d := range r.Differences {
		if d.Where == where && strings.HasPrefix(d.Field, field) && (offset < 0 || d.Offset == offset) {
			return
		}
	}
	var all []string
	for i := range r.Differences {
		all = append(all, r.Differences[i].String())
	}
	t.Errorf("no difference of %s in %s at offset %d among %d:\n%s", field, where, offset, r.Found, strings.Join(all, "\n"))
}
