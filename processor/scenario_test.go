package processor_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

var updateScripts = flag.Bool("update", false, "write what the scripts of testdata lead to anew")

// TestScenarios plays the scripts in testdata: above the line who sends what when, below it what becomes of it.
//
//	partitions 12                        of the topic; 1 where nothing is said
//	given Alice registered by u-1, version 3      or: given alice free, version 3
//	10:00:00.000  c1: u-1 claims Alice   a claim with the id c1; more of it behind commas:
//	    expecting version 3 · expecting it free · returning what exists · before 10:00:05 · in space email ·
//	    as reserve · for 900 seconds · replacing bob at version 1 · from gateway · signed · signed with an older key ·
//	    signed with a wrong key
//	10:00:00.000  r1: u-1 releases alice   also: confirms, extends, withdraws (by claim c1), deactivates, reactivates,
//	    transfers (to u-2); and by an actor, because "of this", signed:
//	10:00:00.000  r1: actor ada releases alice, because "of this", signed     also: transfers, blocks, unblocks, erases (of u-1; also signup/s1)
//	10:00:00.000  e1: dibs asks about alice, by claim c1, due 10:15:00      what a sweeper asks; signed, but for: unsigned
//	10:00:00.000  c2: sends hello        a record whose value is just that
//	    and of both: keyed username/bob · on partition 3 · typed dibs.Other.v1 · rerouted
//	10:00:00.000  s1: u-1 signs up Alice and bob     several names at once
//	restart                              whoever decides from here on knows only what is recorded
//	then                                 what was sent so far is decided before the rest is sent, follow-ups and all
//	policy cool-down 3600 seconds        of the space; also: previous owner may not return · unique among active ·
//	    longest reservation 3600 seconds · shortest reservation 20 seconds · everything signed · look-alikes apart
//
// A name or value with a space or a comma is written as a Go string. What is forwarded is decided where it lands, after
// what lay there before. Each script is played twice, in runs as long as they come and record by record.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			const line = "\n----\n"
			told, want, _ := strings.Cut(string(text), line)
			got := playScript(t, told, false)
			if *updateScripts {
				if err := os.WriteFile(file, []byte(strings.TrimRight(told, "\n")+"\n"+line+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("it leads to\n%s\nwant\n%s", got, want)
			}
			if single := playScript(t, told, true); single != got {
				t.Errorf("record by record it leads to\n%s\nin longer runs to\n%s", single, got)
			}
		})
	}
}

// stage is the topic claims and what is recorded of it, while a script is played.
type stage struct {
	t       *testing.T
	rules   processor.Rules
	single  bool
	labels  map[uuid.UUID]string
	ledgers map[int32]processor.Ledger
	logs    map[int32][]processor.Message
	next    map[int32]int // in logs
	runs    int
	lines   map[int32][]string // what is printed, by partition
	watch   func(processor.Ledger, []processor.Message, processor.Decision)
}

func playScript(t *testing.T, script string, single bool) string {
	return play(t, script, single, nil).print()
}

// play plays a script to its end. Every decision is shown to watch.
func play(t *testing.T, script string, single bool, watch func(processor.Ledger, []processor.Message, processor.Decision)) *stage {
	s := &stage{
		t: t, rules: processor.Rules{Partitions: 1, Policies: names.Builtin(), Keys: testKeys}, single: single,
		labels:  make(map[uuid.UUID]string),
		ledgers: make(map[int32]processor.Ledger), logs: make(map[int32][]processor.Message), next: make(map[int32]int),
		lines: make(map[int32][]string), watch: watch,
	}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		switch word, rest, _ := strings.Cut(line, " "); {
		case line == "" || word[0] == '#':
		case word == "partitions":
			s.rules.Partitions = int(s.number(rest))
		case word == "given":
			s.given(rest)
		case word == "policy":
			s.policy(rest)
		case word == "restart", word == "then":
			s.decideAll()
		default:
			s.send(line)
		}
	}
	s.decideAll()
	return s
}

// policy changes the policy of the space username, before anything is sent.
func (s *stage) policy(text string) {
	p := *s.rules.Policies[names.Username]
	words := strings.Fields(text)
	seconds := func(i int) time.Duration { return time.Duration(s.number(words[i])) * time.Second }
	switch {
	case words[0] == "cool-down":
		p.CoolDown = seconds(1)
	case text == "previous owner may not return":
		p.PreviousMayReturn = false
	case text == "unique among active":
		p.UniqueAmong = names.AmongActive
	case words[0] == "longest":
		p.LongestTTL = seconds(2)
	case words[0] == "shortest":
		p.ShortestTTL = seconds(2)
	case text == "look-alikes apart":
		form, err := names.Precis{Tables: names.TablesLatest, Confusables: names.ConfusablesAsTyped}.Form()
		if err != nil {
			s.t.Fatal(err)
		}
		p.Form, p.Reserved = form, (&names.Policy{Form: form}).ReservedKeys("root", "admin")
	case text == "everything signed":
		s.rules.SignedOnly = true
	default:
		s.t.Fatalf("not a policy: %q", text)
	}
	s.rules.Policies = names.Policies{names.Username: &p}
}

func (s *stage) ledger(p int32) processor.Ledger {
	l, ok := s.ledgers[p]
	if !ok {
		l = carried(processor.Ledger{Partition: p, LogEpoch: 1, Rules: s.rules}, processor.Decision{})
		s.ledgers[p] = l
	}
	return l
}

var givenLine = regexp.MustCompile(`^(\S+) (?:registered by (\S+)|free), version (\d+)$`)

func (s *stage) given(line string) {
	m := s.match(givenLine, line)
	ref := names.Ref{Space: names.Username, Key: names.Key(strings.ToLower(m[1]))}
	p := claims.Partition(ref.String(), s.rules.Partitions)
	h := registrations.Holding{State: registrations.Free, Version: s.number(m[3]), Partition: p}
	if m[2] != "" {
		h.State, h.Name, h.Owner, h.ClaimID = registrations.Registered, m[1], m[2], s.id("earlier")
	}
	s.ledgers[p] = carried(s.ledger(p), processor.Decision{Changes: []processor.Change{{Ref: ref, Holding: h}}})
}

var (
	sentLine = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d{3}) +(\S+): (?:(actor )?(\S+) (claims|confirms|extends|releases|withdraws|deactivates|reactivates|transfers|blocks|unblocks|erases|asks about)|sends) ("(?:[^"\\]|\\.)*"|[^\s,]+)((?:, .*)?)$`)
	clauses  = []struct {
		form *regexp.Regexp
		do   func(*stage, *asking, []string)
	}{
		{regexp.MustCompile(`^expecting version (-?\d+)$`), func(s *stage, a *asking, m []string) { a.change(expecting(s.number(m[1]))) }},
		{regexp.MustCompile(`^expecting it free$`), func(_ *stage, a *asking, _ []string) { a.change(expecting(0)) }},
		{regexp.MustCompile(`^returning what exists$`), func(_ *stage, a *asking, _ []string) { a.change(returnExisting) }},
		{regexp.MustCompile(`^before (\S+)$`), func(s *stage, a *asking, m []string) {
			at := s.time(m[1] + ".000")
			a.change(func(c *claims.UsernameClaimed) { c.Deadline = at })
		}},
		{regexp.MustCompile(`^in space (\S+)$`), func(_ *stage, a *asking, m []string) {
			a.change(func(c *claims.UsernameClaimed) { c.Space = names.Space(m[1]) })
			a.key = m[1] + "/" + strings.ToLower(a.name)
		}},
		{regexp.MustCompile(`^as (\S+)$`), func(_ *stage, a *asking, m []string) {
			a.change(func(c *claims.UsernameClaimed) { c.Mode = claims.Mode(m[1]) })
		}},
		{regexp.MustCompile(`^for (-?\d+) seconds$`), func(s *stage, a *asking, m []string) {
			n := s.number(m[1])
			a.change(func(c *claims.UsernameClaimed) { c.TTLSeconds = &n })
		}},
		{regexp.MustCompile(`^replacing (\S+) at version (\d+)$`), func(s *stage, a *asking, m []string) {
			r := claims.Replaces{Name: m[1], Version: s.number(m[2])}
			a.change(func(c *claims.UsernameClaimed) { c.Replaces = &r })
		}},
		{regexp.MustCompile(`^from (\S+)$`), func(_ *stage, a *asking, m []string) { a.principal = m[1] }},
		{regexp.MustCompile(`^keyed (\S+)$`), func(_ *stage, a *asking, m []string) { a.key = m[1] }},
		{regexp.MustCompile(`^rerouted$`), func(_ *stage, a *asking, _ []string) {
			a.headers = append(a.headers, cloudevents.Header{Name: claims.Rerouted, Value: []byte("1")})
		}},
	}
	onPartition = regexp.MustCompile(`^on partition (\d+)$`)
	typed       = regexp.MustCompile(`^typed (\S+)$`)
)

// send puts a record on the topic: where its key leads, or where the script says.
func (s *stage) send(line string) {
	if m := signupLine.FindStringSubmatch(line); m != nil {
		s.signUp(m)
		return
	}
	m := s.match(sentLine, line)
	a := asking{id: m[2], at: s.time(m[1]).Sub(tenOClock), owner: m[4], name: s.text(m[6])}
	s.id(m[2])
	if a.owner == "" {
		a.value, a.name = []byte(a.name), ""
	}
	on, kind := int32(-1), ""
	var sign *claims.SigningKey
	said := make(map[string]string)
next:
	for _, clause := range split(m[7]) {
		if m := onPartition.FindStringSubmatch(clause); m != nil {
			on = int32(s.number(m[1]))
			continue
		}
		if m := typed.FindStringSubmatch(clause); m != nil {
			kind = m[1]
			continue
		}
		if key, ok := signed[clause]; ok {
			sign = key
			said["signed"] = clause
			continue
		}
		if m := saying.FindStringSubmatch(clause); m != nil {
			said[m[1]] = s.text(m[2])
			continue
		}
		for _, c := range clauses {
			if m := c.form.FindStringSubmatch(clause); m != nil {
				c.do(s, &a, m)
				continue next
			}
		}
		s.t.Fatalf("%q means nothing in %q", clause, line)
	}
	r := a.message(0).Record
	if verb := m[5]; verb != "" && verb != "claims" {
		r = s.request(verb, m[3] != "", a, said)
		if verb == "asks about" && said["signed"] == "" {
			sign = &testKey
		}
	}
	if sign != nil {
		r = sign.Sign(r)
	}
	if kind != "" {
		r.Headers = append([]cloudevents.Header{{Name: cloudevents.Type, Value: []byte(kind)}}, r.Headers...)
	}
	if on < 0 {
		on = claims.Partition(string(r.Key), s.rules.Partitions)
	}
	s.append(on, r)
}

var (
	signed = map[string]*claims.SigningKey{
		"signed": &testKey, "signed with an older key": &olderKey, "signed with a wrong key": &unknownKey, "unsigned": nil,
	}
	saying = regexp.MustCompile(`^(by claim|to|of|because|due) ("(?:[^"\\]|\\.)*"|\S+)$`)
)

// split cuts what stands behind a name at its commas, but for those in a Go string.
func split(text string) (clauses []string) {
	quoted, from := false, 0
	for i, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			clauses = append(clauses, strings.TrimSpace(text[from:i]))
			from = i + 1
		}
	}
	return slices.DeleteFunc(append(clauses, strings.TrimSpace(text[from:])), func(c string) bool { return c == "" })
}

// request is the record of a request beside a claim. What it shares with a claim is said as of one.
func (s *stage) request(verb string, byActor bool, a asking, said map[string]string) cloudevents.Record {
	var c claims.UsernameClaimed
	if a.more != nil {
		a.more(&c)
	}
	about, owner, actor := claims.About{Space: names.Username, Spelling: a.name, Deadline: c.Deadline}, a.owner, ""
	if byActor {
		owner, actor = "", a.owner
	}
	if label, of := strings.CutPrefix(a.name, "signup/"); of {
		about.Space, about.Spelling = claims.Signup, s.id(label).String()
	}
	claim, why := s.id(said["by claim"]), said["because"]
	q := request{id: idOf(a.id), at: a.at, principal: a.principal}
	switch verb {
	case "confirms":
		q.body = &claims.ConfirmRequested{About: about, ClaimID: claim, Owner: owner}
	case "extends":
		q.body = &claims.ExtendRequested{About: about, ClaimID: claim, Owner: owner, TTLSeconds: *c.TTLSeconds}
	case "withdraws":
		q.body = &claims.WithdrawRequested{About: about, ClaimID: claim, Owner: owner}
	case "releases":
		q.body = &claims.ReleaseRequested{About: about, Owner: owner, ExpectedVersion: c.ExpectedVersion, Actor: actor, Reason: why}
	case "deactivates":
		q.body = &claims.DeactivateRequested{About: about, Owner: owner, ExpectedVersion: c.ExpectedVersion}
	case "reactivates":
		q.body = &claims.ReactivateRequested{About: about, Owner: owner, ExpectedVersion: c.ExpectedVersion}
	case "transfers":
		q.body = &claims.TransferRequested{About: about, Owner: owner, NewOwner: said["to"], ExpectedVersion: c.ExpectedVersion, Actor: actor, Reason: why}
	case "blocks":
		q.body = &claims.BlockRequested{About: about, Actor: actor, Reason: why}
	case "unblocks":
		q.body = &claims.UnblockRequested{About: about, Actor: actor, Reason: why}
	case "erases":
		q.body = &claims.ErasureRequested{About: about, Owner: said["of"], Actor: actor, Reason: why}
	case "asks about":
		due := s.time(said["due"] + ".000")
		q.id, q.principal = claims.ExpiryID(claim, due), claims.Principal
		s.labels[q.id] = a.id
		if p := s.rules.Policies[names.Username]; p.KeepsLookalikesApart() {
			key, err := p.HeldKey(a.name)
			if err != nil {
				s.t.Fatal(err)
			}
			about = claims.AboutKey(names.Ref{Space: names.Username, Key: key})
		}
		q.body = &claims.ExpiryDue{About: about, ClaimID: claim, ExpiresAt: due}
	}
	return q.message(0).Record
}

func (s *stage) append(p int32, r cloudevents.Record) {
	s.logs[p] = append(s.logs[p], processor.Message{Offset: int64(len(s.logs[p])), Record: r})
}

// decideAll decides what lies undecided, partition by partition, until nothing more is forwarded.
func (s *stage) decideAll() {
	for again := true; again; {
		again = false
		for p := range int32(64) {
			for s.next[p] < len(s.logs[p]) {
				again = true
				end := len(s.logs[p])
				if s.single {
					end = s.next[p] + 1
				}
				s.decide(p, s.logs[p][s.next[p]:end])
				s.next[p] = end
			}
		}
	}
}

func (s *stage) decide(p int32, messages []processor.Message) {
	if s.runs++; s.runs > 1000 {
		s.t.Fatal("it never ends: something is forwarded for ever")
	}
	l := s.ledger(p)
	d := processor.Decide(l, receiveMessages(messages, s.rules))
	s.ledgers[p] = carried(l, d)
	if s.watch != nil {
		s.watch(l, messages, d)
	}
	at := processor.Fence{Partition: p, LogEpoch: l.LogEpoch}
	for i := range d.Rows {
		row := &d.Rows[i]
		if r := row.Sent; r != nil {
			s.labels[row.RequestID] = s.sent(r)
		}
		s.lines[p] = append(s.lines[p], s.describe(p, *row))
		if row.FollowUp != nil {
			s.labels[claims.ReleaseID(row.FollowUp.Claim, row.Outcome.Ref)] = "follow-up of " + s.labels[row.FollowUp.Claim]
		}
		for _, o := range processor.OutputsOf("claims", s.rules, testKey, at, d.Rows[i:i+1]) {
			if o.Topic == processor.ToClaims {
				sent := slices.IndexFunc(messages, func(m processor.Message) bool { return m.Offset == row.Offset })
				o.Time = messages[sent].Time // the writer's clock
				s.append(o.Partition, o.Record)
			}
		}
	}
}

// describe says what one row stands for.
func (s *stage) describe(p int32, row processor.Row) string {
	what := ""
	switch o := row.Outcome; row.Kind {
	case processor.KindOutcome:
		what = s.outcome(o)
		if row.Actor != "" {
			what += fmt.Sprintf(", by actor %s because %q", row.Actor, row.Why)
		}
		if e := row.Erase; e != nil {
			what += fmt.Sprintf("; to be wiped: rows of %s", cmp.Or(e.Owner, "nobody"))
			if e.Whole {
				what += ", and the key with them"
			}
		}
		if f := row.FollowUp; f != nil {
			what += fmt.Sprintf(", and %s is to be released by %s at version %d", f.Ref, f.Owner, f.Version)
		}
	case processor.KindFact:
		what = "fact: " + s.outcome(o)
	case processor.KindMark:
		what = fmt.Sprintf("marked: should this claim by %s come, it is withdrawn", o.Owner)
	case processor.KindDuplicate:
		what = fmt.Sprintf("again (offset %d): %s", o.Offset, s.outcome(o))
	case processor.KindForwarded:
		what = fmt.Sprintf("forwarded to partition %d as %s", claims.Partition(string(row.Raw.Key), s.rules.Partitions), row.Raw.Key)
	case processor.KindPending:
		what = "under way"
	case processor.KindSent:
		what = "is sent"
	case processor.KindDead:
		what = "dead letter: " + row.Detail
	}
	label := s.labels[row.RequestID]
	if label == "" {
		label = "?"
	}
	where := fmt.Sprintf("offset %d", row.Offset)
	if s.rules.Partitions > 1 {
		where = fmt.Sprintf("partition %d, %s", p, where)
	}
	return fmt.Sprintf("%s  %s: %s", where, label, what)
}

func (s *stage) outcome(o registrations.Outcome) string {
	at := o.LogTime.Format("15:04:05.000")
	switch {
	case o.Type == registrations.Rejected:
		return fmt.Sprintf("%s  Rejected %s: %s: %s", at, o.Ref.RecordKey(), o.Reason, o.FullDetail())
	case o.Type == registrations.Unchanged && o.Ref.Space == claims.Signup:
		return fmt.Sprintf("%s  counted", at)
	case o.Type == registrations.Unchanged:
		return fmt.Sprintf("%s  Unchanged %s: nothing to do, nothing is published", at, o.Ref)
	case o.Type == registrations.Erased && o.State == "":
		return fmt.Sprintf("%s  %s %s: the name is not the owner's, and stays", at, o.Type, o.Ref)
	case o.State == "":
		return fmt.Sprintf("%s  %s %s: %s by %s, version %d", at, o.Type, o.Ref, s.labels[o.ClaimID], o.Owner, o.Version)
	}
	text := fmt.Sprintf("%s  %s %s: %s", at, o.Type, o.Ref, o.State)
	switch held := (&registrations.Holding{State: o.State}).Held(); {
	case held:
		text += fmt.Sprintf(" by %s as %q", o.Owner, o.Name)
	case o.Owner != "":
		text += fmt.Sprintf(", was of %s", o.Owner)
		if o.Name != "" {
			text += fmt.Sprintf(" as %q", o.Name)
		}
	}
	text += fmt.Sprintf(", version %d", o.Version)
	if o.ClaimID != o.RequestID && o.ClaimID != uuid.Nil {
		text += ", since " + s.labels[o.ClaimID]
	}
	return text + until(o.ExpiresAt)
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + t.Format("15:04:05.000")
}

// print is the history of every partition, and who holds what in the end.
func (s *stage) print() string {
	var b strings.Builder
	var held []string
	for p := range int32(64) {
		for _, line := range s.lines[p] {
			b.WriteString(line + "\n")
		}
		for ref, h := range s.ledgers[p].Known.Holdings {
			line := fmt.Sprintf("%s is %s, version %d", ref, h.State, h.Version)
			if h.Held() {
				line = fmt.Sprintf("%s is %s by %s as %q, version %d, since %s", ref, h.State, h.Owner, h.Name, h.Version, s.labels[h.ClaimID])
			}
			if line += until(h.ExpiresAt); h.Previous != "" {
				line += ", before by " + h.Previous
			}
			if h.Erased {
				line += ", erased"
			}
			if h.Signup != uuid.Nil {
				line += ", promised to " + s.labels[h.Signup]
			}
			if h.Replaces != "" {
				line += fmt.Sprintf(", in place of %s at version %d", h.Replaces, h.ReplacesVersion)
			}
			held = append(held, line)
		}
	}
	slices.Sort(held)
	b.WriteString("\n")
	if len(held) == 0 {
		b.WriteString("nobody holds a name\n")
	}
	for _, line := range held {
		b.WriteString(line + "\n")
	}
	text := b.String()
	for id, label := range s.labels {
		text = strings.ReplaceAll(text, id.String(), label) // a sign-up has it for its name
	}
	return text
}

func (s *stage) match(form *regexp.Regexp, line string) []string {
	m := form.FindStringSubmatch(line)
	if m == nil {
		s.t.Fatalf("not a line of a script: %q", line)
	}
	return m
}

func (s *stage) id(label string) uuid.UUID {
	s.labels[idOf(label)] = label
	return idOf(label)
}

func (s *stage) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *stage) text(word string) string {
	if word[0] != '"' {
		return word
	}
	text, err := strconv.Unquote(word)
	if err != nil {
		s.t.Fatalf("%s: %v", word, err)
	}
	return text
}

// time is a time of day, on the day that everything happens.
func (s *stage) time(text string) time.Time {
	at, err := time.Parse("15:04:05.000", text)
	if err != nil {
		s.t.Fatal(err)
	}
	return tenOClock.Truncate(24 * time.Hour).Add(at.Sub(at.Truncate(24 * time.Hour)))
}
