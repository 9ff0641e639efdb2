package processor_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mutant is a mistake that somebody could make, as edits of the code.
type mutant struct {
	name  string
	edits []edit
}

// edit replaces a text that occurs exactly once in a file (a path from this folder).
type edit struct{ file, old, new string }

// TestMutants makes each mistake in a copy of the code, and fails where the simulation does not find it. It runs where
// DIBS_MUTANTS is set (make mutants): each one is a build and a campaign.
func TestMutants(t *testing.T) {
	only := os.Getenv("DIBS_MUTANTS")
	if only == "" {
		t.Skip("DIBS_MUTANTS is not set: 1 for all of them, or a part of a name")
	}
	for _, m := range mutants {
		if only != "1" && !strings.Contains(m.name, only) {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) { m.mustBeFound(t) })
	}
}

// foundBy is a seed that breaks a promise, or something that never happened in any of them.
var foundBy = regexp.MustCompile(`(seed \d+|it never happened): (.*)`)

func (m mutant) mustBeFound(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "simulation")
	build := exec.Command("go", "test", "-c", "-overlay", m.overlay(t, dir), "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.run", "^TestSimulation$", "-sim.seeds", strconv.Itoa(cmp.Or(*simSeeds, 3000)), "-sim.first", strconv.FormatUint(*simFirst, 10), "-sim.failures", "1")
	began := time.Now()
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		t.Error("the simulation does not find it")
	case ctx.Err() != nil:
		t.Error("the simulation does not end")
	case !errors.As(err, &exit):
		t.Fatal(err)
	default:
		first := foundBy.FindSubmatch(out)
		if first == nil {
			t.Fatalf("it failed without a seed:\n%s", out)
		}
		t.Logf("found in %.1f s by %s: %.160s", time.Since(began).Seconds(), first[1], first[2])
	}
}

// overlay writes the edited files, and the list of them that the go command reads.
func (m mutant) overlay(t *testing.T, dir string) string {
	texts := make(map[string]string)
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.FromSlash(e.file))
		if err != nil {
			t.Fatal(err)
		}
		text, ok := texts[path]
		if !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("the mutant is out of date: %s has %d times %q", e.file, n, e.old)
		}
		texts[path] = strings.Replace(text, e.old, e.new, 1)
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for path, text := range texts {
		copied := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = copied
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}

const (
	recordGo = "memory/record.go"
	seenOK   = "if before, ok := d.seen(r.Request.ID); ok {"
	fenceOK  = "if s.Fence != b.Fence || s.Halted != \"\" {"
	lookOK   = "if r.standing[f.Partition].Fence != f {"
)

// What a fence may not be without.
var (
	noFence     = edit{recordGo, fenceOK, "if s.Halted != \"\" {"}
	noLookFence = edit{recordGo, lookOK, "if false {"}
	blindUpsert = edit{recordGo, "if there != (c.Version > 0) || there && (was.Version != c.Version || was.Partition != b.Partition) {", "if false {"}
	noRoutes    = edit{"decide.go", "); right != d.Partition {", "); right < 0 {"}
)

var mutants = []mutant{
	{"publish before commit", []edit{{"commit.go", "err = l.record.Commit(", "for _, b := range batches {\nl.publish(ctx, l.owned[b.Partition], l.outputs(nil, b.Fence, b.Rows))\n}\nerr = l.record.Commit("}}},
	{"no dedup", []edit{{"decide.go", seenOK, strings.Replace(seenOK, "; ok", "; ok && false", 1)}}},
	{"group offset trusted", []edit{
		{"takeover.go", "delete(l.retry, p)\n\tl.mu.Lock()\n\tl.owned[p] = t", "st.NextOffset = max(st.NextOffset, l.group[p])\nt.NextOffset = st.NextOffset\ndelete(l.retry, p)\n\tl.mu.Lock()\n\tl.owned[p] = t"},
		{"lane.go", "mu sync.Mutex\n", "group map[int32]int64\nmu sync.Mutex\n"},
		{"lane.go", "retry: make(map[int32]*backoff),", "retry: make(map[int32]*backoff), group: make(map[int32]int64),"},
		{"commit.go", "r := receive(t, f)\n", "r := receive(t, f)\nl.group[f.Partition] = f.Next\n"},
		{recordGo, fenceOK, "if s.WriterID != b.WriterID {"},
		{recordGo, lookOK, "if r.standing[f.Partition].WriterID != f.WriterID {"},
	}},
	{"no fence", []edit{noFence, noLookFence}},
	{"no fence in Look", []edit{noLookFence}},
	{"epoch-only fence", []edit{
		{recordGo, fenceOK, "if s.WriterEpoch != b.WriterEpoch {"},
		{recordGo, lookOK, "if r.standing[f.Partition].WriterEpoch != f.WriterEpoch {"},
	}},
	{"no re-publication", []edit{{"takeover.go", "if a.broken == nil && st.PublishedThrough < st.NextOffset {", "if false {"}}},
	{"cursor before ack", []edit{{"commit.go", "PublishedThrough: l.acked(t),", "PublishedThrough: r.next,"}}},
	{"idle cursor before ack", []edit{{"publish.go", "t.acked > t.saved && (last || t.queued == 0) {\n\t\t\tsave[t] = Cursor{t.Fence, t.acked}", "t.NextOffset > t.saved {\n\t\t\tsave[t] = Cursor{t.Fence, t.NextOffset}"}}},
	{"acknowledged before published", []edit{{"publish.go", "if !l.publish(ctx, t, append(outputs, next.questions...)) {", "if len(outputs) > 1 {\noutputs = outputs[:len(outputs)-1]\n}\nif !l.publish(ctx, t, append(outputs, next.questions...)) {"}}},
	{"unknown commit taken for committed", []edit{{"commit.go", "case err == nil:\n", "case err == nil || batches != nil && class(err) == \"other\":\n"}}},
	{"unknown commit taken for failed", []edit{{"commit.go", "case ours && runs[i].sent != nil && now.NextOffset == runs[i].sent.Next:", "case false:"}, {"commit.go", "default:\n\t\t\ttx.lose(t)", "default:\n\t\t\tagain = append(again, runs[i])"}}},
	{"somebody else's commit taken for ours", []edit{{"commit.go", "ours := now.WriterID == t.WriterID && now.WriterEpoch == t.WriterEpoch && now.LogEpoch == t.LogEpoch", "ours := true"}}},
	{"forward without a row", []edit{{recordGo, "r.rows[b.Partition] = append(r.rows[b.Partition], Row{b.Partition, b.LogEpoch, row})", "if row.Kind != processor.KindForwarded {\nr.rows[b.Partition] = append(r.rows[b.Partition], Row{b.Partition, b.LogEpoch, row})\n}"}}},
	{"duplicate without a row", []edit{{recordGo, "r.rows[b.Partition] = append(r.rows[b.Partition], Row{b.Partition, b.LogEpoch, row})", "if row.Kind != processor.KindDuplicate {\nr.rows[b.Partition] = append(r.rows[b.Partition], Row{b.Partition, b.LogEpoch, row})\n}"}}},
	{"duplicate not answered", []edit{{"outputs.go", "case KindOutcome, KindFact, KindDuplicate:", "case KindDuplicate:\ncase KindOutcome, KindFact:"}}},
	{"blind upsert of names", []edit{blindUpsert}},
	{"blind upsert without routes", []edit{blindUpsert, noRoutes}},
	{"no routes", []edit{noRoutes}},
	{"forwarded twice", []edit{{"decide.go", "case r.Request.Rerouted:", "case false:"}}},
	{"seen before checked after malformed", []edit{{"decide.go", seenOK, strings.Replace(seenOK, "; ok", "; ok && r.Request.Body != nil", 1)}}},
	{"other content under a used id answered", []edit{{"decide.go", "if !r.repeats(before.RequestHash, d.Rules.Policies) || d.unsigned(r)", "if d.unsigned(r)"}}},
	{"hash with the deadline", []edit{{"../claims/fields.go", "b = appendID(b, `,\"claim_id\":\"`, f.ClaimID)\n\tb = appendNonEmpty(b, `,\"detail\":`", "b = appendTime(appendID(b, `,\"claim_id\":\"`, f.ClaimID), `,\"deadline\":\"`, f.Deadline)\n\tb = appendNonEmpty(b, `,\"detail\":`"}}},
	{"deadline by the wall clock", []edit{{"answer.go", "a.LogTime.After(until)", "time.Now().After(until)"}}},
	{"log time not monotone", []edit{{"decide.go", "t.After(d.LogTime) && !t.After(latest)", "!t.After(latest)"}}},
	{"log identity not checked", []edit{{"lane.go", "doubt, end, err := l.compare(ctx, t.Standing)", "doubt, end, err := l.compare(ctx, t.Standing)\nif err == nil {\ndoubt = \"\"\n}"}}},
	{"log identity by offsets only", []edit{{"lane.go", "if !ok || last.Hash() != t.LastHash {", "if _ = last; !ok {"}}},
	{"log identity not checked after an interruption", []edit{{"commit.go", "case f.Err != nil:\n\t\t\tl.setMustVerify(t, true)", "case f.Err != nil:\n\t\t\tl.source.Seek(f.Partition, t.NextOffset)"}}},
	{"log identity checked before reading", []edit{
		{"lane.go", "if t.mustVerify {\n\t\t// Reading", "if false {\n\t\t// Reading"},
		{"lane.go", "if t.mustVerify {\n\t\t\tl.setMustVerify(t, false)\n", "if t.mustVerify {\n\t\t\tl.setMustVerify(t, false)\n\t\t\tl.source.Seek(t.Partition, t.NextOffset)\n"},
	}},
	{"lost records skipped", []edit{
		{"lane.go", "if start > t.NextOffset {", "if start > t.NextOffset {\nt.NextOffset = start\n}\nif false {"},
		{recordGo, fenceOK, "if s.WriterID != b.WriterID {"},
		{recordGo, lookOK, "if r.standing[f.Partition].WriterID != f.WriterID {"},
	}},
	{"halt never lets go", []edit{{"lane.go", "case errors.Is(err, ErrFenced):\n\t\t// Nobody", "case false && errors.Is(err, ErrFenced):\n\t\t// Nobody"}}},
	{"idle rows never looked at", []edit{{"lane.go", "l.lookAtRows(ctx)\n", "\n"}}},
	{"too large a record forwarded", []edit{{"decide.go", "case r.Size() > maxForwarded:", "case false:"}}},
	{"refused dead letter retried for ever", []edit{{"publish.go", "errors.Is(err, ErrRefused) && outputs[0].Topic == ToDeadLetters", "false"}}},
	{"refused record takes its neighbours along", []edit{{"commit.go", "case n > 1:", "case n > 1 && r.refused == nil:\nr.refused = make(map[int64]string)\nfor _, m := range r.records {\nr.refused[m.Offset] = err.Error()\n}\nl.decide(ctx, tx, []run{r})\ncase n > 1:"}}},
	{"gap at the end not passed", []edit{{"commit.go", "PublishedThrough: l.acked(t), Rows: d.Rows", "PublishedThrough: l.acked(t), Rows: d.Rows"}, {"commit.go", "if n := len(r.records); n > 0 {", "if n := len(r.records); n > 0 {\nb.Next = r.records[n-1].Offset + 1"}}},
	// Several transactions at once.
	{"partition in two transactions", []edit{{"beside.go", "l.deciding[p] = now", "_ = p"}}},
	{"partition divided among transactions", []edit{{"beside.go", "parts = append(parts, runs[:i:i])\n\t\truns,", "parts = append(parts, runs[:i:i])\n\t\truns,"}, {"beside.go", "i, records := 0, 0\n", "i, records := 0, 0\nif r := &runs[0]; len(r.records) > 1 {\nrest := *r\nr.records, r.next = r.records[:1], r.records[1].Offset\nrest.records, rest.from = rest.records[1:], r.next\nruns = append(runs, rest)\n}\n"}}},
	{"partition free before its transaction is concluded", []edit{{"beside.go", "l.decide(ctx, tx, runs)\n\t\tl.over", "clear(l.deciding)\nl.decide(ctx, tx, runs)\n\t\tl.over"}}},
	{"partition let go beside a transaction", []edit{{"lane.go", "!slices.Contains(wanted, p) && !l.busy(p) {", "!slices.Contains(wanted, p) {"}}},
	{"rows looked at beside a transaction", []edit{{"lane.go", "if l.busy(p) {\n\t\t\tcontinue // its", "if false {\n\t\t\tcontinue // its"}}},
	{"partition never free again", []edit{{"beside.go", "delete(l.deciding, p)", "_ = p"}}},
	{"partition free while it is to be tried again", []edit{{"beside.go", "again [][]run) {\n", "again [][]run) {\nagain = nil\n"}}},
	{"nothing tried again", []edit{{"beside.go", "l.again = append(l.again, tx.again...)", "tx.again = nil"}}},
	{"lost partition kept", []edit{{"commit.go", "default:\n\t\t\ttx.lose(t)", "default:"}}},
	{"taken over twice at once", []edit{{"takeover.go", "under || len(l.acquiring)", "under && false || len(l.acquiring)"}}},
	// The life of a name.
	{"follow-up not published again after a take-over", []edit{{"takeover.go", "if a.broken == nil && st.PublishedThrough < st.NextOffset {", "for i := range a.rows {\na.rows[i].FollowUp = nil\n}\nif a.broken == nil && st.PublishedThrough < st.NextOffset {"}}},
	{"follow-up published before commit", []edit{{"commit.go", "err = l.record.Commit(", "for _, b := range batches {\nfor _, row := range b.Rows {\nif row.FollowUp != nil {\n_ = l.publisher.Publish(ctx, []Output{l.release(row.FollowUp, row.Outcome.Ref)})\n}\n}\n}\nerr = l.record.Commit("}}},
	{"follow-up before its outcome is decided to stand", []edit{{"outputs.go", "if row.FollowUp != nil {", "if row.FollowUp != nil && i == 0 {"}}},
	{"follow-up without the expected version", []edit{{"outputs.go", ", ExpectedVersion: &f.Version", ""}}},
	{"follow-up unsigned", []edit{{"outputs.go", "l.signer.Load().Sign(claims.NewRecord(body, event, ref))", "claims.NewRecord(body, event, ref)"}}},
	{"no follow-up of a confirmed reservation", []edit{{"answer.go", "next.Settled = a.follow(h.Replaces, &claims.Replaces{Version: h.ReplacesVersion}, h.Owner)", "next.Settled = h.Replaces != \"\""}}},
	{"a claim that gave up a name withdrawn", []edit{{"answer.go", "next.Settled = a.follow(replaces,", "a.follow(replaces,"}}},
	{"expiry by the wall clock", []edit{{"answer.go", "!a.held.Due(a.LogTime)", "!a.held.Due(time.Now())"}}},
	{"expiry by the time of the record", []edit{{"answer.go", "!a.held.Due(a.LogTime)", "!a.held.Due(a.received.Time)"}}},
	{"expiry one instant late", []edit{{"../registrations/holding.go", "!at.Before(h.ExpiresAt)", "at.After(h.ExpiresAt)"}}},
	{"confirmed after expiry", []edit{{"answer.go", "if !a.held.Due(a.LogTime) {", "if _, late := body.(*claims.ConfirmRequested); late || !a.held.Due(a.LogTime) {"}}},
	{"expired without a fact", []edit{{"answer.go", "a.fact(registrations.Expired, was, lastOwner(&was))", "_ = was"}}},
	{"fact taken for an outcome", []edit{{"answer.go", "f.Type, f.Fact, f.Seq = what, true, a.seq", "f.Type, f.Fact, f.Seq = what, false, a.seq"}}},
	{"extended for ever", []edit{{"answer.go", "until.After(longest) {", "false && until.After(longest) {"}}},
	{"mark of a withdrawal not looked up", []edit{{"decide.go", "_, ok := d.Known.Marks[m]", "_, ok := d.Known.Marks[Mark{Claim: m.Claim}]"}}},
	{"mark of a withdrawal not kept in its batch", []edit{{"answer.go", "a.marked[mark] = struct{}{}", "_ = a.marked"}}},
	{"named claim not looked up", []edit{{"commit.go", "id != uuid.Nil {", "id != uuid.Nil && false {"}}},
	{"transferred name withdrawn by the first claim", []edit{{"answer.go", "case h.State == registrations.Registered && h.Settled, !may(", "case !may("}, {"answer.go", "Owner: b.NewOwner, ClaimID: a.o.RequestID,", "Owner: b.NewOwner, ClaimID: h.ClaimID,"}}},
	{"dedup dropped after release", []edit{{"decide.go", "o, ok := d.Known.Outcomes[Request{d.Partition, id}]", "o, ok := d.Known.Outcomes[Request{d.Partition, id}]\nok = ok && d.Known.Holdings[o.Ref].State != registrations.Free"}}},
	{"version reset by a release", []edit{{"life.go", "State: registrations.Free, Version: h.Version + 1,", "State: registrations.Free, Version: 1,"}}},
	{"release without a look at the version", []edit{{"answer.go", "if !a.expects(expected) {", "if _ = expected; false {"}}},
	{"cool-down for nobody", []edit{{"answer.go", "case h.State == registrations.Cooling && ", "case false && "}}},
	{"blocked name keeps its holder", []edit{{"answer.go", "a.fact(registrations.Released, was, was.Owner)", "_ = was"}}},
	{"privileged without a signature", []edit{{"decide.go", "return body != nil && !r.signed && (", "return body != nil && false && ("}}},
	{"own ids for everybody", []edit{{"decide.go", "r.own && (!r.signed || r.Request.Principal != claims.Principal) {", "false {"}}},
	{"nothing to do published", []edit{{"outputs.go", "if row.Outcome.Type.Published() {", "if true {"}}},
	{"no sweeper", []edit{{"lane.go", "l.sweep(ctx)\n", "\n"}}},
	{"question stamped later than compared", []edit{{"sweep.go", "l.own(body, id, d.Ref, reading)", "l.own(body, id, d.Ref, reading.Add(time.Second))"}}},
	{"question stamped earlier than compared", []edit{{"sweep.go", "l.own(body, id, d.Ref, reading)", "l.own(body, id, d.Ref, reading.Add(-time.Second))"}}},
	{"question without its time", []edit{{"sweep.go", "reading := now.Truncate(time.Millisecond)", "reading := time.Time{}"}}},
	{"question by another clock", []edit{
		{"sweep.go", "l.record.Due(ctx, partitions, now.", "l.record.Due(ctx, partitions, now.Add(time.Second)."},
		{"sweep.go", "|| d.ExpiresAt.After(reading) {", "{"}, // what is not over yet is not asked
	}},
	{"question asked at every look", []edit{{"sweep.go", "return asked\n", "return asked && false\n"}}},
	{"question asked for ever", []edit{{"publish.go", "t.questions = t.questions[len(next.questions):]", "_ = t.questions"}}},
	{"question asked once and never again", []edit{{"sweep.go", "if now.Sub(at) >= sweptFor {", "if now.Sub(at) < 0 {"}}},
	{"refused question retried for ever", []edit{{"publish.go", "&& outputs[0].isQuestion():", "&& false:"}}},
	// Policies.
	{"policies kept over a take-over", []edit{
		{"takeover.go", "regime, lacking := NewRegime(l.rules, st.InForce)", "if was := l.was[p]; was != nil {\nst.InForce = was\n}\nregime, lacking := NewRegime(l.rules, st.InForce)"},
		{"lane.go", "mu sync.Mutex\n", "was map[int32]*InForce\nmu sync.Mutex\n"},
		{"lane.go", "retry: make(map[int32]*backoff),", "retry: make(map[int32]*backoff), was: make(map[int32]*InForce),"},
		{"commit.go", "t.InForce = b.InForce\n", "t.InForce = b.InForce\nl.was[t.Partition] = b.InForce\n"},
	}},
	{"policy holds before its record", []edit{{"inforce.go", "g = next\n\t}\n\treturn all, nil", "g = next\nfor j := range all[:i] {\nall[j] = Receive(messages[j], g.Rules)\n}\n\t}\n\treturn all, nil"}}},
	{"policy holds from the next batch on", []edit{{"inforce.go", "g = next\n\t}\n\treturn all, nil", "_ = next\n\t}\n\treturn all, nil"}}},
	{"policy not written", []edit{{"commit.go", "InForce: d.InForce, Activated", "Activated"}}},
	{"policy not taken note of", []edit{{"commit.go", "t.regime, _ = NewRegime(l.rules, b.InForce)", "_, _ = NewRegime(l.rules, b.InForce)"}}},
	{"policy of one partition holds in another", []edit{{"commit.go", "t.InForce = b.InForce\n", "t.InForce = b.InForce\nfor _, o := range l.owned {\no.regime, _ = NewRegime(l.rules, b.InForce)\n}\n"}}},
	{"policies of all before are forgotten", []edit{{"inforce.go", "before = f.Policies", "_ = before"}}},
	{"rules before they were activated", []edit{{"answer.go", "c.ValidUnder(a.InForce.rules())", "c.ValidUnder(claims.Rules)"}}},
	{"rules never activated", []edit{{"answer.go", "c.ValidUnder(a.InForce.rules())", "c.ValidUnder(1)"}}},
	{"rules taken back", []edit{{"inforce.go", "next.Rules = max(f.Rules, a.Rules)", "_ = f.Rules"}}},
	{"lower version activated", []edit{{"inforce.go", "a.Version <= policies.Version(a.Space)", "a.Version < policies.Version(a.Space)"}}},
	{"superseded policy not kept", []edit{{"decide.go", "d.activated = append(d.activated, a.Policy)", "d.activated = []*names.Policy{a.Policy}"}}},
	{"refused policy holds all the same", []edit{{"commit.go", "rest.refused = r.refused\n", "rest.refused = r.refused\nrest.records = r.records[n/2:]\n"}}},
	{"retired key signs on", []edit{{"inforce.go", "r.Keys, r.SignedOnly = keys, f.SignedOnly", "_, r.SignedOnly = keys, f.SignedOnly"}}},
	{"lacking key passed over", []edit{{"inforce.go", "if len(lacking) > 0 {", "if false {"}}},
	{"lacking key halts before what lies before it", []edit{{"commit.go", "r.next = f.Messages[len(r.records)].Offset\n", "r.records, r.next = nil, f.From\n"}}},
	{"signatures of all not asked for", []edit{{"decide.go", "d.Rules.Policies.With(a.Policy), a.SignedOnly", "d.Rules.Policies.With(a.Policy), false"}}},
	{"request repeated under another policy taken for another", []edit{{"decide.go", "if !r.repeats(before.RequestHash, d.Rules.Policies) ||", "if before.RequestHash != r.Hash ||"}}},
	{"holder of a name that is too short locked out", []edit{{"answer.go", "if r.nameErr != nil && (!r.named || a.held.Version == 0 || a.onlyAlike() || a.spells(body)) {", "if r.nameErr != nil {"}}},
	// Names that look alike. That a name that is none does not come back in place of one: TestScenarios/look_alikes_reactivated.
	{"name that looks alike taken for the holder's", []edit{{"alike.go", "return a.held.Held() && !a.received.ofKey && !a.same(a.held.Name)", "return false"}}},
	{"dibs' own request taken for one about a look-alike", []edit{{"alike.go", "!a.received.ofKey && ", ""}}},
	{"name that looks alike is the name spelt anew", []edit{{"answer.go", "respelt := sameKey && a.same(c.Replaces.Name)", "respelt := sameKey"}, {"answer.go", "h.Owner == c.Owner && !alike", "h.Owner == c.Owner"}}},
	{"claim of a look-alike taken for its copy", []edit{{"../claims/fields.go", "if p != nil && !f.byKey {", "if false {"}}},
	{"key of dibs' own request taken for a name", []edit{{"../claims/requests.go", "if ref.Key.Plain() {", "if true {"}}},
	{"key in place of a name for everybody", []edit{{"decide.go", "body != nil && !r.own && claims.KeyOf(body)", "false && body != nil && !r.own && claims.KeyOf(body)"}}},
	{"holder of a name that looks like an outgrown one found by it", []edit{{"answer.go", "a.held.Version == 0 || a.onlyAlike() ||", "a.held.Version == 0 ||"}}},
	// Erasures.
	{"erasure of somebody else's name", []edit{{"erase.go", "case h.Held() && h.Owner == b.Owner:", "case h.Held():"}}},
	{"erasure cuts somebody else's cool-down", []edit{{"erase.go", "registrations.Cooling && h.Previous == b.Owner:", "registrations.Cooling:"}}},
	{"erasure of what somebody else has left", []edit{{"erase.go", "(h.Previous == \"\" || h.Previous == b.Owner):", "true:"}}},
	{"erased owner may come back", []edit{{"erase.go", "next.Previous, next.Erased = \"\", true", "next.Previous, next.Erased = b.Owner, true"}}},
	{"erased owner is told", []edit{{"erase.go", "a.o.ClaimID = h.ClaimID\n", "a.o.ClaimID, a.o.Owner = h.ClaimID, h.Owner\n"}}},
	{"erasure changes what is erased", []edit{{"erase.go", "if h.Hidden() {", "if false {"}}},
	{"erasure forgotten when it has cooled", []edit{{"answer.go", "next.Erased = was.Erased\n", ""}}},
	{"erasure unsigned", []edit{{"../claims/requests.go", "func (*ErasureRequested) Privileged() bool { return true }", "func (*ErasureRequested) Privileged() bool { return false }"}}},
	// Sign-ups. That the vote for a lost one gives it up: TestVoteForALostSignup.
	{"sign-up accepted before all have voted", []edit{{"signup.go", "if b.Complete() {", "if true {"}}},
	{"sign-up counts a vote twice", []edit{{"signup.go", "case b.Names[i].Vote == \"\":", "default:"}}},
	{"sign-up given up forgets what is on its way", []edit{{"signup.go", "c.Vote == \"\" || c.Vote == registrations.VoteYes", "c.Vote == registrations.VoteYes"}}},
	{"sign-up given up forgets the last", []edit{{"signup.go", "if c := &b.Names[i]; c.Vote", "if c := &b.Names[i]; i < len(b.Names)-1 && c.Vote"}}},
	{"sign-up decided twice", []edit{{"signup.go", "case a.held.State != registrations.Reserved || i < 0:", "case i < 0:"}}},
	{"sign-up never given up", []edit{{"signup.go", "if a.held.Due(a.LogTime) {\n\t\ta.abandon", "if false {\n\t\ta.abandon"}}},
	{"sign-up does not repeat its decision", []edit{{"signup.go", "i >= 0 && yes:\n", "i >= 0 && yes && false:\n"}}},
	{"sign-up repeated begins again", []edit{{"decide.go", "if underWay, same := d.undecided(r); underWay {", "if underWay, same := d.undecided(r); false && underWay {"}}},
	{"sign-up's name expires", []edit{{"../registrations/holding.go", "return h.Signup == uuid.Nil && h.Asked(at)", "return h.Asked(at)"}}},
	{"sign-up's name released by its owner", []edit{{"answer.go", "if a.promised() {\n\t\treturn false", "if false {\n\t\treturn false"}}},
	{"sign-up's name withdrawn by its owner", []edit{{"answer.go", "case !a.received.own && a.promised():\n\t\tcase h.State == registrations.Registered && h.Settled,", "case h.State == registrations.Registered && h.Settled,"}}},
	{"sign-up's name confirmed by its owner", []edit{{"answer.go", "case !a.received.own && a.promised():\n\tcase !may", "case !may"}}},
	{"sign-up's name blocked", []edit{{"answer.go", "if !a.promised() {\n\t\t\ta.block()", "if true {\n\t\t\ta.block()"}}},
	{"sign-up not asked again", []edit{{"answer.go", "if a.voteAgain(b) {", "if false {"}}},
	{"sign-up's vote lost with its writer", []edit{{"publish.go", "outputs = l.outputs(outputs, q.at, q.rows)", "outputs = l.outputs(outputs, q.at, q.rows)\nfor i := range q.rows {\nif r := &q.rows[i]; r.Kind == KindSent && r.Sent.Request == sentVote && l.clock.Now().UnixMilli()%16 == 0 {\noutputs = outputs[:len(outputs)-1]\n}\n}"}}},
	{"sign-up erased while it is under way", []edit{{"signup.go", "if a.held.State == registrations.Reserved && a.held.Owner == q.Owner {", "if false {"}}},
	{"sign-up erased is not given up first", []edit{{"signup.go", "if !a.received.erases() {", "if true {"}}},
	{"sign-up's name erased", []edit{{"answer.go", "if a.held.Owner != b.Owner || !a.promised() {", "if true {"}}},
	{"sign-up's private name claimed without its key", []edit{{"signup.go", "c.Key = s.Ref.Key\n", "_ = c\n"}}},
	{"sign-up's private key not looked at", []edit{{"decide.go", "key != \"\" && r.own && !isClaim:", "key != \"\" && r.own:"}}},
	// Private spaces.
	{"name in a private space hashed into a key of its own", []edit{{"decide.go", "r.nameErr = errNotPrivate\n\t\treturn false", "r.Ref = names.Ref{Space: space, Key: names.Key(name)}\n\t\treturn true"}}},
	{"private key of another pepper claimed", []edit{{"../names/lookalike.go", "canonical, err := p.Canonical(name)", "if p.Private != nil {\nreturn p.HeldKey(name)\n}\ncanonical, err := p.Canonical(name)"}}},
	{"private key of another pepper locked out", []edit{{"../names/lookalike.go", "key, _, err := privateKey(name)\n\t\treturn key, err", "return p.activeKey(name)"}}},
	{"private key not looked at", []edit{{"decide.go", "default:\n\t\tname = string(key)\n\t}", "default:\n\t\tr.Ref = names.Ref{Space: space, Key: key}\n\t\treturn true\n\t}"}}},
	{"key of a private space for dibs alone", []edit{{"decide.go", "p != nil && p.Private == nil", "p != nil"}}},
	{"name replaced in a private space", []edit{{"answer.go", "case private && c.Replaces.Key == \"\":", "case false:"}}},
	{"request for a key repeated before its space taken for another", []edit{{"decide.go", "key, err := p.HeldKey(claims.Asked(body))", "_, spelling := body.Name()\n\tkey, err := p.HeldKey(spelling)"}}},
	{"policy forwarded", []edit{{"decide.go", "if r.activation != nil {\n\t\td.activate(r)", "if r.activation != nil && claims.Partition(string(r.Key), d.Rules.Partitions) != d.Partition {\n\t\td.forward(r)\n\t\treturn\n\t}\n\tif r.activation != nil {\n\t\td.activate(r)"}}},
}

// TestMutantsAreUpToDate: what they edit is there.
func TestMutantsAreUpToDate(t *testing.T) {
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) { m.overlay(t, t.TempDir()) })
	}
}
