package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// sweptLane is a lane on a record in memory, logs that are lists, and a clock that is set by hand. Its stages are called
// one after the other.
type sweptLane struct {
	t      *testing.T
	now    time.Time
	lane   *processor.Lane
	record *dueRecord
	logs   [2][]processor.Message
	next   map[int32]int64 // where reading goes on
	asked  []processor.Output
	told   []processor.Output
	// lose swallows questions on their way, refuse has their topic refuse them.
	lose, refuse bool
	meanwhile    func() // is done once, while something is being published
	deciding     bool
}

// dueRecord says what is asked of the record's Due, and can answer in its place.
type dueRecord struct {
	*memory.Record
	calls []dueCall
	say   func(call int, most int) ([]processor.Due, error)
}

type dueCall struct {
	partitions []int32
	at         time.Time
}

func (r *dueRecord) Due(ctx context.Context, partitions []int32, at time.Time, most int) ([]processor.Due, error) {
	r.calls = append(r.calls, dueCall{slices.Clone(partitions), at})
	if r.say != nil {
		return r.say(len(r.calls)-1, most)
	}
	return r.Record.Due(ctx, partitions, at, most)
}

func newSweptLane(t *testing.T, assigned ...int32) *sweptLane {
	t.Helper()
	s := &sweptLane{t: t, now: tenOClock.Add(123456789 * time.Nanosecond), record: &dueRecord{Record: memory.New()}, next: make(map[int32]int64)}
	lane, err := processor.NewLane(processor.Config{
		Rules: processor.Rules{Partitions: len(s.logs), Policies: simPolicies(), Keys: simKeys}, Signing: simSigning, Topic: "claims", Clock: (*handClock)(s),
		Limits: processor.Limits{SweepRate: 4000},
	}, s.record, (*sweptPublisher)(s), (*listSource)(s))
	if err != nil {
		t.Fatal(err)
	}
	s.lane = lane
	s.lane.Beside(func(f func()) { f() })
	s.lane.Assign(assigned, make(chan struct{}))
	return s
}

// step is a turn of each stage.
func (s *sweptLane) step() {
	s.lane.Reconcile(s.t.Context()) // whose leader answers
	s.lane.Reconcile(s.t.Context())
	s.publish()
	s.decide()
	s.publish()
}

// decide is a turn of the decide stage, with what it has begun beside it.
func (s *sweptLane) decide() {
	s.deciding = true
	s.lane.DecideNext(s.t.Context())
	s.deciding = false
	s.lane.Conclude(s.t.Context())
}

func (s *sweptLane) publish() {
	for p := range s.logs {
		for s.lane.PublishNext(s.t.Context(), int32(p)) {
		}
	}
}

// reserve has a claim in the log that reserves a name for a while, and returns its id.
func (s *sweptLane) reserve(name string, ttl int64) uuid.UUID {
	ref := names.Ref{Space: names.Username, Key: names.Key(name)}
	c := &claims.UsernameClaimed{Space: names.Username, Spelling: name, Owner: "u-1", Mode: claims.ModeReserve, TTLSeconds: &ttl}
	s.write(claims.NewRecord(c, cloudevents.Event{ID: idOf(name), Source: "test"}, ref))
	return idOf(name)
}

func (s *sweptLane) write(r cloudevents.Record) {
	if r.Time.IsZero() {
		r.Time = s.now.Truncate(time.Millisecond)
	}
	p := claims.Partition(string(r.Key), len(s.logs))
	s.logs[p] = append(s.logs[p], processor.Message{Offset: int64(len(s.logs[p])), Record: r})
}

func (s *sweptLane) state(name string) registrations.State {
	return s.record.Names()[names.Ref{Space: names.Username, Key: names.Key(name)}].State
}

// on finds a name whose partition is p.
func (s *sweptLane) on(p int32) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("name%d", i); claims.Partition("username/"+name, len(s.logs)) == p {
			return name
		}
	}
}

type handClock sweptLane

func (c *handClock) Now() time.Time                           { return c.now }
func (c *handClock) Sleep(_ context.Context, d time.Duration) { c.now = c.now.Add(d) }
func (c *handClock) Jitter(time.Duration) time.Duration       { return 0 }
func (c *handClock) NewID() uuid.UUID                         { return uuid.New() }

type listSource sweptLane

func (l *listSource) Seek(p int32, offset int64) { l.next[p] = offset }
func (l *listSource) Drop(p int32)               { delete(l.next, p) }

func (l *listSource) Poll(_ context.Context, _ processor.Beside, most int, _ time.Duration) ([]processor.Fetched, error) {
	var all []processor.Fetched
	for p, log := range l.logs {
		from, reading := l.next[int32(p)]
		if n := min(int64(len(log))-from, int64(most)); reading && n > 0 {
			all = append(all, processor.Fetched{Partition: int32(p), From: from, Next: from + n, Messages: log[from : from+n]})
			l.next[int32(p)] = from + n
			most -= int(n)
		}
	}
	return all, nil
}

func (l *listSource) Bounds(_ context.Context, p int32) (start, end int64, err error) {
	return 0, int64(len(l.logs[p])), nil
}

func (l *listSource) At(_ context.Context, p int32, offset int64) (cloudevents.Record, bool, error) {
	return l.logs[p][offset].Record, true, nil
}

type sweptPublisher sweptLane

func (p *sweptPublisher) Publish(_ context.Context, outputs []processor.Output) error {
	if f := p.meanwhile; f != nil {
		p.meanwhile = nil
		f()
	}
	for _, o := range outputs {
		switch {
		case o.Topic != processor.ToClaims:
			p.told = append(p.told, o)
		case p.refuse:
			return fmt.Errorf("CreateTime: %w", processor.ErrRefused)
		default:
			if p.asked = append(p.asked, o); !p.lose {
				(*sweptLane)(p).write(o.Record)
			}
		}
	}
	return nil
}

// A reservation that nobody confirms is asked about once it is over, by the processor's clock, in a request that carries
// that very reading, and is free.
func TestSweep(t *testing.T) {
	s := newSweptLane(t, 0, 1)
	s.step()
	claim := s.reserve("alice", 2)
	s.step()
	reserved := s.now.Truncate(time.Millisecond)
	if got := s.state("alice"); got != registrations.Reserved {
		t.Fatalf("alice is %q", got)
	}
	s.now = reserved.Add(2*time.Second - time.Nanosecond)
	s.step()
	if len(s.asked) > 0 {
		t.Fatalf("asked at %s", s.now)
	}
	s.now = reserved.Add(2*time.Second + 500*time.Millisecond + 700*time.Microsecond)
	before := s.now
	s.step()
	if len(s.asked) != 1 {
		t.Fatalf("asked %d times", len(s.asked))
	}
	o := s.asked[0]
	q, err := claims.Read(o.Record)
	if err != nil {
		t.Fatal(err)
	}
	expires := reserved.Add(2 * time.Second)
	want := &claims.ExpiryDue{About: claims.About{Space: names.Username, Spelling: "alice"}, ClaimID: claim, ExpiresAt: expires}
	if b, ok := q.Body.(*claims.ExpiryDue); !ok || *b != *want {
		t.Errorf("asked %+v, want %+v", q.Body, want)
	}
	reading := before.Truncate(time.Millisecond)
	if !o.Time.Equal(reading) || !q.Time.Equal(reading) || !s.record.calls[len(s.record.calls)-1].at.Equal(reading) {
		t.Errorf("the record's time is %s, its ce_time %s, compared was %s; the clock said %s", o.Time, q.Time, s.record.calls[len(s.record.calls)-1].at, reading)
	}
	if q.ID != claims.ExpiryID(claim, expires) || q.Principal != claims.Principal || !simKeys.Signed(o.Record) {
		t.Errorf("id %s, principal %q, signed %t", q.ID, q.Principal, simKeys.Signed(o.Record))
	}
	if string(o.Key) != "username/alice" || o.Partition != claims.Partition("username/alice", len(s.logs)) {
		t.Errorf("key %s, partition %d", o.Key, o.Partition)
	}
	if got := s.state("alice"); got != registrations.Free {
		t.Errorf("alice is %q", got)
	}
	if last := s.told[len(s.told)-1]; !strings.Contains(string(last.Value), `"outcome":"Expired"`) {
		t.Errorf("told was %s", last.Value)
	}
	for range 30 {
		s.now = s.now.Add(time.Second)
		s.step()
	}
	if len(s.asked) != 1 {
		t.Errorf("asked %d times in all", len(s.asked))
	}
}

// What is asked is not asked again for a while: the answer is on its way. After that it may be lost.
func TestSweepAsksAgain(t *testing.T) {
	s := newSweptLane(t, 0, 1)
	s.step()
	s.reserve("alice", 1)
	s.step()
	s.lose = true
	s.now = s.now.Add(2 * time.Second)
	first := s.now.Truncate(time.Millisecond)
	for ; s.now.Truncate(time.Millisecond).Sub(first) < 5*time.Second; s.now = s.now.Add(100 * time.Millisecond) {
		s.step()
		if len(s.asked) != 1 {
			t.Fatalf("asked %d times, %s after the first", len(s.asked), s.now.Sub(first))
		}
	}
	s.lose = false
	looked := len(s.record.calls)
	if looked < 8 || looked > 12 {
		t.Errorf("%d looks in 7 s, want one each 500 ms", looked)
	}
	s.now = s.now.Add(500 * time.Millisecond)
	second := s.now.Truncate(time.Millisecond)
	s.step()
	if len(s.asked) != 2 || !s.asked[1].Time.Equal(second) {
		t.Fatalf("asked %d times; again at %s, want %s", len(s.asked), s.asked[len(s.asked)-1].Time, second)
	}
	if got := s.state("alice"); got != registrations.Free {
		t.Errorf("alice is %q", got)
	}
}

// What a look finds is asked about at a rate that leaves claims their place. A look that found as much as it may is followed
// by another one as soon as that is asked and published; one that found less, half a second later.
func TestSweepAtTheLimit(t *testing.T) {
	s := newSweptLane(t, 0)
	s.lane.Reconcile(t.Context()) // takes over
	s.record.say = func(call, most int) ([]processor.Due, error) {
		n := most
		if call > 1 {
			n = 1
		}
		due := make([]processor.Due, n)
		for i := range due {
			name := fmt.Sprintf("n%d-%d", call, i)
			due[i] = processor.Due{Ref: names.Ref{Space: names.Username, Key: names.Key(name)}, ClaimID: idOf(name), ExpiresAt: s.now.Truncate(time.Millisecond)}
		}
		return due, nil
	}
	s.record.calls = nil
	s.lose = true
	turn := func(after time.Duration, looks, asked int, when string) {
		t.Helper()
		s.now = s.now.Add(after)
		s.lane.Reconcile(t.Context())
		if got := len(s.record.calls); got != looks {
			t.Fatalf("%d looks %s, want %d", got, when, looks)
		}
		s.publish()
		if got := len(s.asked); got != asked {
			t.Fatalf("asked %d times %s, want %d", got, when, asked)
		}
	}
	// 4,000 a second, 120 of them at once.
	turn(time.Second, 1, 120, "at first")
	turn(time.Millisecond, 1, 120, "after a moment")
	turn(4*time.Millisecond, 1, 140, "after a little")
	turn(time.Second, 1, 260, "after a pause")
	for len(s.asked) < 2000 {
		turn(10*time.Millisecond, 1, min(len(s.asked)+40, 2000), "in its time")
	}
	turn(10*time.Millisecond, 2, 2060, "behind the limit")
	for len(s.asked) < 4000 {
		turn(10*time.Millisecond, 2, min(len(s.asked)+40, 4000), "again")
	}
	turn(10*time.Millisecond, 3, 4001, "after it was hit again")
	turn(489*time.Millisecond, 3, 4001, "after a look that found less")
	turn(12*time.Millisecond, 4, 4002, "half a second later")
	seen := make(map[uuid.UUID]bool)
	for _, o := range s.asked {
		q, _ := claims.Read(o.Record)
		if seen[q.ID] {
			t.Fatalf("%s was asked twice", q.Body.(*claims.ExpiryDue).Spelling)
		}
		seen[q.ID] = true
	}
}

// A question never carries a time at which there was nothing to do: where the clock is set back behind a look, what was
// found is not asked, but found again.
func TestSweepClockSetBack(t *testing.T) {
	s := newSweptLane(t, 0)
	s.lane.Reconcile(t.Context()) // takes over
	expires := s.now
	s.record.say = func(int, int) ([]processor.Due, error) {
		due := make([]processor.Due, 200)
		for i := range due {
			name := fmt.Sprintf("n%d", i)
			due[i] = processor.Due{Ref: names.Ref{Space: names.Username, Key: names.Key(name)}, ClaimID: idOf(name), ExpiresAt: expires}
		}
		return due, nil
	}
	turn := func(to time.Time, want int) {
		t.Helper()
		s.now = to
		s.lane.Reconcile(t.Context())
		s.publish()
		if got := len(s.asked); got != want {
			t.Fatalf("asked %d times, want %d", got, want)
		}
	}
	s.lose = true
	turn(expires.Add(time.Second), 120) // as many as may be asked at once
	turn(expires.Add(-time.Minute), 120)
	turn(expires.Add(-time.Minute+time.Second), 120)
	turn(expires.Add(2*time.Second), 200)
	for _, o := range s.asked {
		if o.Time.Before(expires) {
			t.Fatalf("asked at %s what is over at %s", o.Time, expires)
		}
	}
}

// Nothing more is looked for, or asked, before it is published.
func TestSweepUnpublished(t *testing.T) {
	s := newSweptLane(t, 0)
	s.step()
	s.reserve(s.on(0), 1)
	s.step()
	s.now = s.now.Add(2 * time.Second)
	s.lane.Reconcile(t.Context())
	looks := len(s.record.calls)
	s.now = s.now.Add(10 * time.Second)
	s.lane.Reconcile(t.Context())
	if got := len(s.record.calls); got != looks {
		t.Errorf("%d looks before the question is published", got-looks)
	}
	s.publish()
	s.lane.Reconcile(t.Context())
	if got := len(s.record.calls); got != looks+1 || len(s.asked) != 1 {
		t.Errorf("%d looks behind it; asked %d times", got-looks, len(s.asked))
	}
}

// Only a partition's owner asks, and nobody of one that is halted.
func TestSweepOwnPartitionsOnly(t *testing.T) {
	s := newSweptLane(t)
	s.step()
	s.now = s.now.Add(time.Second)
	s.step()
	if len(s.record.calls) > 0 {
		t.Errorf("looked for %v, and owns nothing", s.record.calls)
	}
	s.lane.Assign([]int32{0, 1}, make(chan struct{}))
	s.step()
	s.reserve(s.on(0), 1)
	s.reserve(s.on(1), 1)
	s.step()
	s.lane.Assign([]int32{1}, make(chan struct{}))
	s.now = s.now.Add(2 * time.Second)
	s.step()
	if len(s.asked) != 1 || s.asked[0].Partition != 1 || s.state(s.on(0)) != registrations.Reserved || s.state(s.on(1)) != registrations.Free {
		t.Errorf("asked %d times, of partition %d; it is %q on 0, %q on 1", len(s.asked), s.asked[0].Partition, s.state(s.on(0)), s.state(s.on(1)))
	}
	if last := s.record.calls[len(s.record.calls)-1]; !slices.Equal(last.partitions, []int32{1}) {
		t.Errorf("looked on %v", last.partitions)
	}

	row, _ := s.record.Standing(0)
	if err := s.record.Halt(t.Context(), row.Fence, "for a reason"); err != nil {
		t.Fatal(err)
	}
	s.lane.Assign([]int32{0, 1}, make(chan struct{}))
	s.now = s.now.Add(10 * time.Second)
	s.step()
	s.now = s.now.Add(time.Second)
	s.step()
	if !slices.Equal(s.lane.Owns(), []int32{0, 1}) {
		t.Fatalf("owns %v", s.lane.Owns())
	}
	if last := s.record.calls[len(s.record.calls)-1]; len(s.asked) != 1 || !slices.Equal(last.partitions, []int32{1}) {
		t.Errorf("asked %d times, looked on %v; 0 is halted", len(s.asked), last.partitions)
	}
}

// What a look finds while outcomes of the partition are being published is asked behind them.
func TestSweepWhilePublishing(t *testing.T) {
	s := newSweptLane(t, 0)
	s.step()
	s.reserve(s.on(0), 1)
	s.step()
	s.now = s.now.Add(2 * time.Second)
	s.write(s.logs[0][0].Record) // a copy: its outcome is published again
	s.decide()
	s.meanwhile = func() { s.lane.Reconcile(t.Context()) }
	s.publish()
	if len(s.asked) != 1 {
		t.Errorf("asked %d times", len(s.asked))
	}
	s.decide()
	if got := s.state(s.on(0)); got != registrations.Free {
		t.Errorf("it is %q", got)
	}
}

// A look takes its time, and claims are decided meanwhile. There is one at a time, and what it finds is asked by the clock of
// then, of the partitions that are owned then.
func TestSweepLooksBeside(t *testing.T) {
	s := newSweptLane(t, 0, 1)
	s.step()
	s.reserve(s.on(0), 1)
	s.reserve(s.on(1), 1)
	s.step()
	var looks []func() // and one that writes down what is published
	s.lane.Beside(func(f func()) {
		if s.deciding {
			f()
		} else {
			looks = append(looks, f)
		}
	})
	s.record.calls = nil
	began := s.now.Add(2 * time.Second)
	for s.now = began; s.now.Sub(began) < 3*time.Second; s.now = s.now.Add(300 * time.Millisecond) {
		name := fmt.Sprintf("meanwhile%d", s.now.UnixMilli())
		s.reserve(name, 9)
		s.step()
		if got := s.state(name); got != registrations.Reserved {
			t.Fatalf("%s is %q while a look is under way", name, got)
		}
	}
	if len(looks) == 0 || len(s.record.calls)+len(s.asked) > 0 {
		t.Fatalf("%d looks are under way; asked %d times", len(looks), len(s.asked))
	}
	for _, f := range looks {
		f()
	}
	looks = nil
	if n := len(s.record.calls); n != 1 {
		t.Fatalf("%d looks were under way", n)
	}
	if got := s.record.calls[0].at; !got.Equal(began.Truncate(time.Millisecond)) {
		t.Errorf("looked for what is over at %s, want %s", got, began)
	}
	s.lane.Assign([]int32{1}, make(chan struct{}))
	s.step()
	if len(s.asked) != 1 || s.asked[0].Partition != 1 || !s.asked[0].Time.Equal(s.now.Truncate(time.Millisecond)) {
		t.Fatalf("asked %d times at %s: %+v", len(s.asked), s.now, s.asked)
	}
	s.now = s.now.Add(500 * time.Millisecond)
	s.step()
	for _, f := range looks {
		f()
	}
	if n := len(s.record.calls); n != 2 {
		t.Errorf("%d looks, want another one", n)
	}
}

// A look that fails is made again.
func TestSweepTrouble(t *testing.T) {
	s := newSweptLane(t, 0, 1)
	s.step()
	s.reserve("alice", 1)
	s.step()
	s.record.calls = nil
	s.record.say = func(int, int) ([]processor.Due, error) { return nil, errors.New("the database is away") }
	for range 5 {
		s.now = s.now.Add(500 * time.Millisecond)
		s.step()
		s.step()
	}
	if len(s.asked) > 0 || len(s.record.calls) != 5 {
		t.Errorf("asked %d times after %d looks, want 5 looks", len(s.asked), len(s.record.calls))
	}
	s.record.say = nil
	s.now = s.now.Add(500 * time.Millisecond)
	s.step()
	if len(s.asked) != 1 || s.state("alice") != registrations.Free {
		t.Errorf("asked %d times; alice is %q", len(s.asked), s.state("alice"))
	}
}

// A topic may refuse a question for its time: the clock is off, or there was no broker for long. That holds up nobody.
func TestSweepRefused(t *testing.T) {
	s := newSweptLane(t, 0, 1)
	s.step()
	s.reserve("alice", 1)
	s.reserve("bob", 1)
	s.step()
	s.refuse = true
	s.now = s.now.Add(2 * time.Second)
	s.step()
	s.reserve("carol", 9)
	told := len(s.told)
	s.step()
	if len(s.told) != told+1 {
		t.Fatalf("%d outcomes behind refused questions, want 1", len(s.told)-told)
	}
	s.refuse = false
	s.now = s.now.Add(5500 * time.Millisecond)
	s.step()
	if a, b := s.state("alice"), s.state("bob"); a != registrations.Free || b != registrations.Free {
		t.Errorf("alice is %q, bob is %q", a, b)
	}
}

// What is owed to many at once: each is asked about once, and all are free within 5 s. (Against the databases and brokers
// there are, the same is measured elsewhere.)
func TestSweepTenThousand(t *testing.T) {
	const n = 10_000
	s := newSweptLane(t, 0, 1)
	s.step()
	for i := range n {
		s.reserve(fmt.Sprintf("name-%d", i), 3)
	}
	for range 4 {
		s.step()
	}
	reserved := func() int {
		k := 0
		for _, h := range s.record.Names() {
			if h.State == registrations.Reserved {
				k++
			}
		}
		return k
	}
	if got := reserved(); got != n {
		t.Fatalf("%d are reserved", got)
	}
	s.now = s.now.Add(3 * time.Second)
	over := s.now
	for reserved() > 0 {
		if s.now = s.now.Add(20 * time.Millisecond); s.now.Sub(over) > 5*time.Second {
			t.Fatalf("%d are reserved %s after it was over", reserved(), s.now.Sub(over))
		}
		s.step()
	}
	if len(s.asked) != n {
		t.Errorf("asked %d times about %d names", len(s.asked), n)
	}
	t.Logf("free after %s of 20 ms a turn, in %d looks", s.now.Sub(over), len(s.record.calls))
}
