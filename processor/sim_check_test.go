package processor_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// simulate runs one world to its end and returns it, judged.
func simulate(seed uint64, steps int, keep bool) *world {
	w := newWorld(seed, keep)
	w.say("seed %d: %+v", seed, w.rates)
	for _, p := range w.procs {
		p.start()
	}
	w.rebalance()
	for range steps {
		if len(w.violations) > 0 {
			break
		}
		w.happen()
	}
	if len(w.violations) == 0 {
		w.settle()
	}
	if len(w.violations) == 0 {
		w.judge()
	}
	if len(w.violations) == 0 {
		for _, v := range checker.Check(w.history()) {
			w.violated("%s", v)
		}
	}
	for _, p := range w.procs {
		if p.up {
			p.crash()
		}
	}
	return w
}

// What the end may take: simulated time, and turns.
const (
	calmTime  = 10 * time.Minute
	calmTurns = 50_000
)

// settle ends the faults. Everything that was late arrives, one process gets all partitions, and must get them done.
func (w *world) settle() {
	w.calm = true
	w.say("calm")
	w.timers = nil
	for len(w.db.flights) > 0 {
		w.db.land()
	}
	for len(w.limbo) > 0 {
		w.arrive()
	}
	last := w.procs[w.r.IntN(len(w.procs))]
	w.handedOut = true
	for _, p := range w.procs {
		if p != last && p.up {
			p.crash()
		}
	}
	if w.r.IntN(2) == 0 && last.up {
		last.crash()
	}
	if last.up && (last.stopping || last.lacks && w.clients.lateKeyAsked) {
		last.crash()
	}
	if !last.up {
		last.start()
	} else if len(last.lane.Owns()) > 0 { // what it does not know by then it must find out by itself
		w.sometimes("a process goes on with what it owns when the faults are over")
	}
	last.pausedUntil = 0
	all := make([]int32, w.rates.partitions)
	for p := range all {
		all[p] = int32(p)
	}
	last.assign(all)
	done := w.getDone(last)
	if done && w.tryOnceMore() {
		done = w.getDone(last)
	}
	if !done {
		return
	}
	w.linger(last)
	w.say("done")
}

// getDone reports whether a process gets everything done.
func (w *world) getDone(last *process) bool {
	began := w.now
	for turns := 0; !w.done(last); turns++ {
		if w.now-began > calmTime || turns > calmTurns || !w.run() {
			w.violated("liveness: not done %s and %d turns after the faults have ended: %s", w.now-began, turns, w.undone(last))
			return false
		}
		if turns%50 == 0 {
			w.operate()
		}
	}
	return true
}

// tryOnceMore may break one more thing when all is done: nothing that arrives will tell of it, and no other process comes
// and takes over. It reports whether it did.
func (w *world) tryOnceMore() bool {
	if w.rates.failOver == 0 {
		return false
	}
	switch w.r.IntN(4) {
	case 0:
		w.sometimes("fail-over when all was done")
		w.db.failOver(1 + w.r.IntN(8))
	case 1: // while a partition is being halted
		w.db.trapped = true
		q := w.clients.new(&claims.UsernameClaimed{Space: names.Username, Spelling: "louise", Owner: w.clients.owner(), Mode: claims.ModeRegister})
		q.signing = signedWell
		r := q.record()
		r.Time = w.clock()
		w.clients.write(q.partition(), r)
	default:
		return false
	}
	return true
}

// done reports whether everything is decided and published, and written down as such.
func (w *world) done(p *process) bool { return p.lane.Idle() && w.undone(p) == "" }

func (w *world) undone(p *process) string {
	owned := p.lane.Owns()
	for n, t := range w.claims {
		row, ok := w.db.mem.Standing(int32(n))
		switch {
		case !slices.Contains(owned, int32(n)):
			return fmt.Sprintf("partition %d is not owned", n)
		case !ok:
			return fmt.Sprintf("partition %d has no row", n)
		case row.Halted == "" && (row.LogEpoch != t.epoch || row.NextOffset != t.end):
			return fmt.Sprintf("partition %d: log epoch %d, next %d; the log has epoch %d, end %d", n, row.LogEpoch, row.NextOffset, t.epoch, t.end)
		case row.Halted != "" && !w.mayHalt(t, row):
			return fmt.Sprintf("partition %d is halted: %s", n, row.Halted)
		case row.PublishedThrough != row.NextOffset:
			return fmt.Sprintf("partition %d: published through %d of %d", n, row.PublishedThrough, row.NextOffset)
		}
	}
	return ""
}

// mayHalt reports whether a partition has reason to be halted at the end, when operators have mended what they could.
func (w *world) mayHalt(t *topicLog, row processor.Standing) bool {
	return t.epoch > row.LogEpoch || t.start > row.NextOffset || w.rates.neverStorable
}

// history is everything that the checker judges.
func (w *world) history() checker.History {
	h := checker.History{
		Partitions: pinned, Topic: topicName, Forms: simForm, Answers: w.clients.answers, Secrets: simKeys, Policies: w.policies(),
		Unstorable:    func(r checker.Record) bool { return unstorableRecord(cloudevents.Record{Value: r.Value}) },
		Undeliverable: func(r checker.Record) bool { return bytes.HasSuffix(r.Value, []byte(undeliverableMark)) },
	}
	for n, t := range w.claims {
		p := int32(n)
		row, _ := w.db.mem.Standing(p)
		for _, old := range w.past {
			if old.partition != p {
				continue
			}
			if old.next < 0 { // nobody has accepted the gap
				old.next = row.NextOffset
			}
			h.Claims = append(h.Claims, recordsOf(old.topicLog)...)
			h.Logs = append(h.Logs, checker.Log{Partition: p, LogEpoch: old.epoch, End: old.next})
		}
		h.Claims = append(h.Claims, recordsOf(t)...)
		if t.epoch == row.LogEpoch {
			start := t.start
			if t.epoch == 1 {
				start = 0 // retention takes nothing from the checker
			}
			h.Logs = append(h.Logs, checker.Log{Partition: p, LogEpoch: t.epoch, Start: start, End: t.end})
		}
		h.Progress = append(h.Progress, progressOf(row))
		for _, d := range w.db.mem.Rows(p) {
			h.Decisions = append(h.Decisions, decisionOf(d))
		}
		for i, r := range w.outputs.registrations[p] {
			h.Registrations = append(h.Registrations, recordOf(p, 0, int64(i), r))
		}
	}
	for i, r := range w.outputs.letters {
		h.DeadLetters = append(h.DeadLetters, recordOf(r.partition, 0, int64(i), r.Record))
	}
	for ref, n := range w.db.mem.Names() {
		h.Names = append(h.Names, nameOf(ref, n))
	}
	return h
}

// policies are those of the world, for the checker.
func (w *world) policies() (all []checker.Policy) {
	for space, p := range simPolicies() {
		q := checker.Policy{
			Space: string(space), Version: p.Version, MinLength: p.MinLength, MaxLength: p.MaxLength,
			TTL: p.TTL, ShortestTTL: p.ShortestTTL, LongestTTL: p.LongestTTL,
			Unicode:  map[bool]string{true: "as in simForm"}[p.Form != nil],
			CoolDown: p.CoolDown, PreviousMayReturn: p.PreviousMayReturn, UniqueAmong: string(p.UniqueAmong),
		}
		if p.Private != nil {
			q.Pepper = p.Private.Pepper
		}
		for word := range p.Reserved {
			q.Reserved = append(q.Reserved, string(word))
		}
		all = append(all, q)
	}
	return all
}

// simForm is what alikeForm makes of names of ASCII, by another reading of UTS 39: what looks alike of what is used here.
func simForm(_, name string) (checker.Form, bool) {
	canonical := []byte(name)
	for i, c := range canonical {
		if c <= ' ' || c >= 0x7f {
			return checker.Form{}, false
		}
		if 'A' <= c && c <= 'Z' {
			canonical[i] = c + 32
		}
	}
	key := strings.NewReplacer("i", "l", "1", "l", "0", "o", "m", "rn").Replace(string(canonical))
	return checker.Form{Canonical: string(canonical), Key: key, Fits: true}, name != ""
}

func nameOf(ref names.Ref, n registrations.Holding) checker.Name {
	return checker.Name{
		Space: string(ref.Space), Key: string(ref.Key), Partition: n.Partition, State: string(n.State), Name: n.Name, Owner: n.Owner,
		ClaimID: idText(n.ClaimID), Version: n.Version, PolicyVersion: n.PolicyVersion, Since: n.Since, ExpiresAt: n.ExpiresAt,
		Settled: n.Settled, Erased: n.Erased, Previous: n.Previous, Replaces: string(n.Replaces), ReplacesVersion: n.ReplacesVersion,
		Signup: idText(n.Signup), Ballot: n.Ballot,
	}
}

func progressOf(s processor.Standing) checker.Progress {
	return checker.Progress{
		Partition: s.Partition, LogEpoch: s.LogEpoch, NextOffset: s.NextOffset, LogTime: s.LogTime, WriterEpoch: s.WriterEpoch,
		PublishedThrough: s.PublishedThrough, Halted: s.Halted,
	}
}

func recordsOf(t *topicLog) []checker.Record {
	all := make([]checker.Record, len(t.records))
	for i, m := range t.records {
		all[i] = recordOf(t.partition, t.epoch, m.Offset, m.Record)
	}
	return all
}

func recordOf(p int32, logEpoch, offset int64, r cloudevents.Record) checker.Record {
	c := checker.Record{Partition: p, LogEpoch: logEpoch, Offset: offset, Key: r.Key, Value: r.Value, Time: r.Time}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, checker.Header(h))
	}
	return c
}

func decisionOf(row memory.Row) checker.Decision {
	d := checker.Decision{
		Partition: row.Partition, LogEpoch: row.LogEpoch, Offset: row.Offset, Seq: row.Seq, Kind: string(row.Kind),
		RequestID: idText(row.RequestID), Principal: row.Principal, Actor: row.Actor, Why: row.Why,
	}
	if row.Kind == processor.KindMark {
		d.Owner = row.Outcome.Owner
	}
	if s := row.Sent; s != nil {
		d.Sent = &checker.Sent{
			Request: s.Request, Space: string(s.Ref.Space), Key: string(s.Ref.Key), Name: s.Name, Owner: s.Owner, ClaimID: idText(s.Claim),
			Signup: idText(s.Signup), Reason: string(s.Reason),
		}
	}
	if f := row.FollowUp; f != nil {
		d.FollowKey, d.FollowVersion = string(f.Ref.Key), f.Version
	}
	if row.Kind == processor.KindOutcome || row.Kind == processor.KindFact {
		o := &row.Outcome
		d.Outcome = &checker.Outcome{
			Type: string(o.Type), Reason: string(o.Reason), RequestID: idText(o.RequestID), ClaimID: idText(o.ClaimID),
			Space: string(o.Ref.Space), Key: string(o.Ref.Key), Name: o.Name, Owner: o.Owner, State: string(o.State), Version: o.Version,
			CurrentVersion: o.CurrentVersion, Request: o.Request, ExpiresAt: o.ExpiresAt, Seq: o.Seq, LogTime: o.LogTime, PolicyVersion: o.PolicyVersion, RequestHash: hex.EncodeToString(o.RequestHash[:]),
			Partition: o.Partition, LogEpoch: o.LogEpoch, Offset: o.Offset,
		}
	}
	return d
}

func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}
