package processor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

func msec(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// clients are APIs and other producers, good and bad, and those who wait for answers.
type clients struct {
	w       *world
	skews   []time.Duration
	asked   []sent
	answers []checker.Answer
	told    map[checker.Answer]bool

	policies           map[names.Space][]*claims.PolicyActivated // by version, from the first that was made up
	activations        []cloudevents.Record                      // that were sent
	unstorablePolicies map[uuid.UUID]bool
	lateKeyAsked       bool // somebody has activated a policy that asks for it
}

// sent is a request that was sent at least once.
type sent struct {
	id      uuid.UUID
	event   cloudevents.Event
	body    claims.Body
	ref     names.Ref
	signing signing
}

// clockBound is how far ahead of the broker's clock a record's may be; clockBehind, how far behind.
const (
	clockBound  = 10 * time.Second
	clockBehind = 10 * time.Minute
)

func newClients(w *world) *clients {
	c := &clients{
		w: w, told: make(map[checker.Answer]bool),
		policies: make(map[names.Space][]*claims.PolicyActivated), unstorablePolicies: make(map[uuid.UUID]bool),
	}
	for _, most := range []time.Duration{5 * time.Minute, 2 * time.Second, 0, time.Second} {
		c.skews = append(c.skews, -w.upTo(most))
	}
	c.skews = append(c.skews, w.upTo(clockBound-time.Second))
	return c
}

// stamp is the time of some producer's clock.
func (c *clients) stamp() time.Time {
	return c.w.clock().Add(c.skews[c.w.r.IntN(len(c.skews))]).Truncate(time.Millisecond)
}

// write appends a record, if the topic takes it.
func (c *clients) write(p int32, r cloudevents.Record) {
	w := c.w
	if ahead := r.Time.Sub(w.clock()); ahead > clockBound || -ahead > clockBehind {
		return
	}
	offset := w.claims[p].append(r)
	kind, _ := r.Header(cloudevents.Type)
	w.say("claims %d@%d: %s %s %s", p, offset, r.Key, kind, shortened(r.Value))
}

// send produces a record: acknowledged, or lost, or late, or twice.
func (c *clients) send(p int32, r cloudevents.Record) {
	w := c.w
	r.Time = c.stamp()
	write := func() { c.write(p, r) }
	f := w.rates.send
	x := w.r.Float64()
	if w.calm {
		x = 1
	}
	switch {
	case x < f:
	case x < 2*f:
		w.limbo = append(w.limbo, write)
		w.sometimes("a request arrives late")
	case x < 3*f:
		write()
		w.limbo = append(w.limbo, write)
		w.sometimes("a request arrives twice")
	default:
		write()
	}
}

func shortened(b []byte) string { return string(b[:min(len(b), 160)]) }

// spelling returns a name of few, so that they are contended for, in one of its spellings.
func (c *clients) spelling() string {
	all := []string{"alice", "bob.b", "carol_1", "dave-2", "erin", "frank", "grace99", "heidi"}
	s := all[c.w.r.IntN(min(len(all), c.w.rates.names))]
	switch c.w.r.IntN(4) {
	case 0:
		return strings.ToUpper(s)
	case 1:
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

// fresh is a claim not made before.
func (c *clients) fresh() sent {
	w := c.w
	b := &claims.UsernameClaimed{Space: names.Username, Spelling: c.spelling(), Owner: c.owner(), Mode: claims.ModeRegister}
	if w.r.IntN(4) == 0 {
		b.OnConflict = claims.OnConflictReturn
	}
	if w.r.IntN(5) == 0 {
		n := int64(w.r.IntN(3))
		b.ExpectedVersion = &n
	}
	if w.r.IntN(5) == 0 {
		b.Deadline = w.clock().Add(w.upTo(20 * time.Second))
	}
	if w.r.IntN(6) == 0 {
		b.Metadata = map[string]string{"b": "2", "a": "1é\"", "\U0001F600": "x", "\uFFFD": "y"}
	}
	return c.new(b)
}

// addressed finds the key of a request's name, as a producer does: by the policy, or as well as it can.
func (q sent) addressed() sent {
	space, spelling := q.body.Name()
	q.ref = names.Ref{Space: space, Key: names.Key(strings.ToLower(spelling))}
	if key := claims.KeyOf(q.body); key != "" {
		q.ref.Key = key
	} else if form, ok := simForm("", spelling); ok && space == spaceAlike {
		q.ref.Key = names.Key(form.Key)
	}
	return q
}

func (q *sent) partition() int32 { return claims.Partition(q.ref.RecordKey(), pinned) }

func (q *sent) record(extra ...cloudevents.Header) cloudevents.Record {
	return q.seal(claims.NewRecord(q.body, q.event, q.ref, extra...))
}

// act is one thing that some producer does.
func (c *clients) act() {
	w := c.w
	if w.r.IntN(10) < 6 || len(c.asked) == 0 {
		q := c.fresh()
		if !w.rates.claimsOnly {
			q = c.deed()
		}
		c.asked = append(c.asked, q)
		c.send(q.partition(), q.record())
		return
	}
	q := c.asked[len(c.asked)-1-w.r.IntN(min(len(c.asked), 12))]
	if w.chance(w.rates.large) {
		c.large(q)
		return
	}
	acts := []func(sent){
		c.again, c.again, c.again, c.otherContent, c.otherName, c.misrouted, c.misrouted, c.wrongKey, c.garbage, c.garbage,
		c.unreadable, c.refusedWords, c.refusedWords, c.marker, c.unstorable,
	}
	if !w.rates.claimsOnly {
		acts = append(acts, c.earlyWithdraw, c.earlyWithdraw, c.forged, c.lastMoment)
		if w.rates.policies {
			acts = append(acts, c.activate, c.activate, c.signedLate, c.signedLate)
		}
	}
	acts[w.r.IntN(len(acts))](q)
}

// again repeats a request: the same of it that counts, the rest different.
func (c *clients) again(q sent) {
	q = q.with("Deadline", c.w.clock().Add(c.w.upTo(time.Minute)))
	if space, spelling := q.body.Name(); spelling != "" && c.w.r.IntN(2) == 0 && space != claims.Signup {
		q = q.with("Spelling", strings.ToUpper(spelling))
	}
	c.send(q.partition(), q.record(cloudevents.Header{Name: "traceparent", Value: []byte(c.w.newID(4).String())}))
}

// otherContent asks something else under a used id.
func (c *clients) otherContent(q sent) {
	switch c.w.r.IntN(3) {
	case 0:
		q = q.with("Owner", ownerOf(q.body)+"x")
	case 1:
		q.event.Principal += "somebody"
	default:
		q = q.with("Metadata", map[string]string{"other": "content"})
	}
	c.send(q.partition(), q.record())
}

// otherName uses an id for another name as well.
func (c *clients) otherName(q sent) {
	space, _ := q.body.Name()
	q = q.with("Key", names.Key("")).with("Spelling", c.named(space, c.spelling()))
	q = c.secretly(q.addressed())
	c.send(q.partition(), q.record())
}

// misrouted sends a copy to a wrong partition, one that was forwarded before included.
func (c *clients) misrouted(q sent) {
	w := c.w
	if w.r.IntN(2) == 0 { // never sent to the right one
		if q = c.fresh(); !w.rates.claimsOnly {
			q = c.deed()
		}
		c.asked = append(c.asked, q)
	}
	r := q.record()
	if w.r.IntN(3) == 0 {
		space, _ := q.body.Name()
		r.Key = []byte(string(space) + "/" + claims.Asked(q.body))
	}
	if w.r.IntN(6) == 0 {
		r.Headers = append(r.Headers, cloudevents.Header{Name: claims.Rerouted, Value: []byte("1")})
	}
	c.send(w.r.Int32N(int32(w.rates.partitions)), r)
}

// wrongKey sends a claim to the right partition under a key that is not its name's.
func (c *clients) wrongKey(q sent) {
	r := q.record()
	r.Key = [][]byte{nil, {}, []byte("username/somebody"), []byte("x"), {0xff, 0xfe}}[c.w.r.IntN(5)]
	c.send(q.partition(), r)
}

// garbage puts a value that cannot be read under an id that is used, or under a new one.
func (c *clients) garbage(q sent) {
	w := c.w
	if w.r.IntN(2) == 0 {
		q.event.ID = w.newID(7)
	}
	r := q.record()
	good := string(r.Value)
	r.Value = []byte([]string{
		"", "nonsense", good + "x", `{"space":"username"}`, `{"space":"username","name":"alice","owner":7,"mode":"register"}`,
		strings.Replace(good, `"owner"`, `"name"`, 1), good[:len(good)-1] + `,"deadline":"tomorrow"}`,
		strings.Replace(good, `"owner":"`, `"owner":"\u0000`, 1), good[:len(good)-2] + "\xff\"}",
		good[:len(good)-1] + `,"expected_version":1.5}`, good[:len(good)-1] + `,"metadata":{"a":1}}`,
		good + strings.Repeat(" ", 9000), "[" + good + "]", "null",
	}[w.r.IntN(14)])
	if w.r.IntN(4) == 0 {
		r.Key = [][]byte{nil, []byte("no-space"), []byte("username/"), {0xff}, []byte(strings.Repeat("k", 600))}[w.r.IntN(5)]
	}
	c.send(w.r.Int32N(int32(w.rates.partitions)), r)
	c.send(q.partition(), r)
}

// unreadable sends what nobody could be told the outcome of.
func (c *clients) unreadable(q sent) {
	w := c.w
	r := q.record()
	set := func(name, value string) {
		r.Headers = slices.Clone(r.Headers)
		for i := range r.Headers {
			if r.Headers[i].Name == name {
				r.Headers[i].Value = []byte(value)
			}
		}
	}
	switch w.r.IntN(8) {
	case 0:
		set(cloudevents.ContentType, "application/cloudevents+json")
	case 1:
		set(cloudevents.ID, "17")
	case 2:
		set(cloudevents.ID, w.newID(8).String())
	case 3:
		set(cloudevents.ID, w.newID(1).String())
	case 4:
		set(cloudevents.Type, "dibs.UsernameClaimed.v2")
	case 5:
		set(cloudevents.SpecVersion, "0.3")
	case 6:
		r.Headers = nil
	default:
		r = cloudevents.Record{Value: []byte("\x00\x01")}
		r.Value = append(r.Value, undeliverableMark...)
	}
	c.send(w.r.Int32N(int32(w.rates.partitions)), r)
}

// refusedWords asks for what nobody gets.
func (c *clients) refusedWords(sent) {
	w := c.w
	q := c.fresh()
	n := int64(1)
	switch w.r.IntN(9) {
	case 0:
		q = q.with("Spelling", "Root")
	case 1:
		q = q.with("Spelling", one(w, "ab", ".dot", "späß", "", strings.Repeat("n", 33)))
	case 2:
		q = q.with("Space", "invoice-number")
	case 3:
		q = q.with("Mode", "Reserve")
	case 4:
		q = q.with("TTLSeconds", &n)
	case 5:
		q = q.with("Replaces", &claims.Replaces{Name: c.spelling(), Version: 0})
	case 6:
		q = q.with("Owner", strings.Repeat("o", 256))
	case 7:
		q = q.with("Mode", "Register")
	default:
		q = q.with("Metadata", map[string]string{"long": strings.Repeat("m", 1024)})
	}
	q = q.addressed()
	c.asked = append(c.asked, q)
	c.send(q.partition(), q.record())
}

// marker is what a transactional producer leaves: an offset without a record.
func (c *clients) marker(q sent) {
	c.w.claims[q.partition()].end += 1 + c.w.r.Int64N(3)
}

// The owner whose claims the database cannot store; with the second one, not even as dead.
const (
	unstorableOwner    = "unstorable"
	undeliverableMark  = "undeliverable"
	neverStorableOwner = unstorableOwner + "-ever"
)

// unstorable asks for something that the database refuses.
func (c *clients) unstorable(sent) {
	q := c.fresh().with("Owner", unstorableOwner)
	if c.w.rates.neverStorable && c.w.r.IntN(3) == 0 {
		q = q.with("Owner", neverStorableOwner)
	}
	c.send(q.partition(), q.record())
}

// unstorableRecord reports whether the outcome of a record cannot be stored.
func unstorableRecord(r cloudevents.Record) bool {
	return bytes.Contains(r.Value, []byte(unstorableOwner))
}

// unstorableRow is what the database says of a row.
func unstorableRow(row processor.Row) error {
	if row.Kind == processor.KindOutcome && strings.HasPrefix(row.Outcome.Owner, unstorableOwner) {
		return errors.New("invalid byte sequence")
	}
	if row.Kind == processor.KindDead && strings.Contains(string(row.Raw.Value), neverStorableOwner) {
		return errors.New("invalid byte sequence")
	}
	return nil
}

// large sends a misrouted record that its topic takes, compressed, and would not take from a processor.
func (c *clients) large(q sent) {
	r := q.record()
	r.Headers = append(r.Headers, cloudevents.Header{Name: "large", Value: bytes.Repeat([]byte("x"), mostAppended)})
	c.send((q.partition()+1)%pinned, r)
	c.w.sometimes("a misrouted record too large to be forwarded")
}

// mostAppended is the largest record that the topic claims takes uncompressed.
const mostAppended = 1 << 20

// refusedOutput reports whether an output's topic refuses it.
func refusedOutput(o *processor.Output) bool {
	return refusedLetter(o) || o.Topic == processor.ToClaims && o.Size() > mostAppended
}

// refusedLetter reports whether the dead letter topic refuses an output.
func refusedLetter(o *processor.Output) bool {
	return o.Topic == processor.ToDeadLetters && strings.HasSuffix(string(o.Value), undeliverableMark)
}

// told is an outcome as a client reads it.
type told struct {
	RequestID      string `json:"request_id"`
	Cause          string `json:"cause"`
	Space          string `json:"space"`
	Key            string `json:"key"`
	Owner          string `json:"owner"`
	Outcome        string `json:"outcome"`
	Reason         string `json:"reason"`
	State          string `json:"state"`
	Version        int64  `json:"version"`
	CurrentVersion int64  `json:"current_version"`
	LogEpoch       int64  `json:"log_epoch"`
	Offset         int64  `json:"offset"`
}

func requestIDOf(value []byte) string {
	var t told
	_ = json.Unmarshal(value, &t)
	return t.RequestID
}

// observe is somebody who asks for an outcome: of the topic, or of the database by way of any API.
func (c *clients) observe() {
	w := c.w
	if len(c.asked) == 0 {
		return
	}
	q := c.asked[len(c.asked)-1-w.r.IntN(min(len(c.asked), 20))]
	if w.r.IntN(2) == 0 {
		for _, r := range w.outputs.byRequest[q.id.String()] {
			var t told
			if err := json.Unmarshal(r.Value, &t); err == nil {
				c.hear(checker.Answer{RequestID: t.RequestID, RecordKey: string(r.Key), Outcome: t.Outcome, Reason: t.Reason, Version: t.Version})
			}
		}
		return
	}
	for p := range w.claims {
		if o, ok := w.db.mem.Decided(processor.Request{Partition: int32(p), ID: q.id}); ok {
			c.hear(checker.Answer{RequestID: q.id.String(), RecordKey: o.Ref.RecordKey(), Outcome: string(o.Type), Reason: string(o.Reason), Version: o.Version})
		}
	}
}

func (c *clients) hear(a checker.Answer) {
	if !c.told[a] {
		c.told[a] = true
		c.answers = append(c.answers, a)
	}
}
