package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
)

// lane is a processor's pipeline over the partitions it owns. Two stages work on it: one goroutine reconciles and fetches (the
// decide stage), and has what was fetched decided and committed, in one transaction or several beside it, each of other
// partitions; what is committed is published by one goroutine for each partition that has something (the publish stage).
type lane struct {
	rules     Rules
	signing   claims.SigningKey
	topic     string
	limits    Limits
	source    Source
	record    Record
	publisher Publisher
	clock     Clock
	metrics   *metrics
	log       *slog.Logger

	// Owned by the decide stage.
	retry    map[int32]*backoff // partitions to be taken over, after a failed attempt or a lost fence
	lookedAt time.Time          // when the rows were last looked at without a reason
	sweeper  sweeper
	running  int     // transactions under way beside the decide stage
	again    [][]run // to be tried in further ones, when there may be; their partitions are busy

	// beside runs a function beside the decide stage, which waits for it before it ends. A simulation has its own.
	beside  func(func())
	probes  sync.WaitGroup
	probing atomic.Int32 // probes under way
	wiping  atomic.Bool
	saving  atomic.Bool
	unsaved atomic.Bool // the last time it failed
	savedAt time.Time   // of the decide stage
	wipedAt time.Time   // of the decide stage
	// forgetAt is when something may be forgotten again. Of the decide stage.
	forgetAt time.Time

	mu sync.Mutex
	// What the generation gives this lane, and whether it still does. Written by assign, read by the decide stage.
	wanted map[int32]struct{}
	live   <-chan struct{}
	// owned is written by the decide stage alone, under mu; it reads without. The publish stage reads under mu.
	owned map[int32]*tenure
	task  task // of the decide stage
	// signer is what our own requests are signed with, as of the last look at the rows; nil before the first.
	signer atomic.Pointer[claims.SigningKey]
	// publishing has the partitions that something is being published of, and since when.
	publishing map[int32]time.Time
	// deciding has the partitions that are in a transaction beside the decide stage, or are to be in one again, and since when.
	// acquiring has those that are being taken over. Both are written by that stage under mu; it reads without.
	deciding, acquiring map[int32]time.Time
	// fullAt is since when no further transaction can be begun; zero where one can.
	fullAt time.Time
	// misrouted are the records that were forwarded, and not spoken of yet.
	misrouted misrouted
	// troubles has the partitions that the database does not let us work on.
	troubles map[int32]trouble

	wake      chan struct{}     // the assignment changed, or something has ended beside the decide stage; holds one
	committed chan struct{}     // there is something to publish; holds one
	published chan struct{}     // the queue is shorter; holds one
	over      chan *transaction // that are not concluded; has room for all
	acquired  chan *acquisition // likewise
}

// tenure is one partition while this lane owns it.
type tenure struct {
	// Standing is the row as of our last commit, and regime is by its InForce. They are written under lane.mu: by the transaction
	// that the partition is in, which reads them without, or else by the decide stage, which then does so too. A transaction is
	// begun and concluded by that stage, so one comes behind the other.
	Standing
	regime Regime
	// What follows is written by the decide stage alone, under lane.mu; it reads without.
	//
	// mustVerify: reading has stopped, and the log's identity is checked before it goes on.
	mustVerify bool
	aside      bool   // its outputs are not acknowledged: it is not read, for the sake of the others (setAside)
	probe      *probe // of the leader, before the next verification
	verifiedAt time.Time
	doubts     int      // verifications in a row that found another log
	pause      *backoff // before the next verification, or the next look at a halted row
	haltSaved  bool
	// erasures counts the reasons to look for what is to be wiped, and wiped is how many of them are seen to. Under lane.mu.
	erasures, wiped int
	// forgetAt is when to look again for what is to be forgotten; of the decide stage. oldestKept is the log time of the oldest
	// decision, as of the last look; zero before, or where there is none. Under lane.mu.
	forgetAt, oldestKept time.Time

	// Under lane.mu.
	queue []pending
	// questions are requests of ours that are to be published behind it. They are not kept anywhere: what is lost is asked
	// again.
	questions []Output
	queued    int   // rows in queue
	acked     int64 // the outputs of all rows below are acknowledged
	saved     int64 // of that, what the row says
	high      int64 // the log's end, as far as we have heard
	// oldest is the time of the first record in hand, zero where there is none.
	oldest time.Time
}

func newLane(cfg Config, source Source, record Record, publisher Publisher, m *metrics) *lane {
	l := &lane{
		rules: cfg.Rules, topic: cfg.Topic, limits: cfg.Limits, clock: cfg.Clock,
		source: source, record: record, publisher: publisher, metrics: m, log: cfg.Log,
		signing: cfg.Signing, sweeper: newSweeper(),
		retry: make(map[int32]*backoff), owned: make(map[int32]*tenure), wanted: make(map[int32]struct{}),
		publishing: make(map[int32]time.Time), troubles: make(map[int32]trouble),
		wake: make(chan struct{}, 1), committed: make(chan struct{}, 1), published: make(chan struct{}, 1),
		deciding: make(map[int32]time.Time), acquiring: make(map[int32]time.Time),
		over: make(chan *transaction, cfg.Limits.Transactions), acquired: make(chan *acquisition, mostAcquisitions),
	}
	l.beside = l.probes.Go
	return l
}

// assign says which partitions the lane should own from now on, and for how long that is certain.
func (l *lane) assign(partitions []int32, live <-chan struct{}) {
	l.mu.Lock()
	l.wanted = make(map[int32]struct{}, len(partitions))
	for _, p := range partitions {
		l.wanted[p] = struct{}{}
	}
	l.live = live
	l.mu.Unlock()
	signal(l.wake)
}

// decideStage runs until ctx ends. What goes wrong with the log or the record is waited out, never passed over.
func (l *lane) decideStage(ctx context.Context) {
	defer l.probes.Wait()
	defer l.concludeAll(ctx)
	for ctx.Err() == nil {
		l.reconcile(ctx)
		if l.backlogged() {
			over := l.at("waiting for outputs to be published")
			select {
			case <-l.published:
			case <-l.wake:
			case <-time.After(min(asideAfter, l.nextAgain())): // who holds it up may be set aside by now
			case <-ctx.Done():
			}
			over()
			continue
		}
		l.decideNext(ctx)
	}
}

// publishStage runs until the decide stage has ended and everything committed is published, or until hard ends.
func (l *lane) publishStage(hard context.Context, decided <-chan struct{}) {
	var partitions sync.WaitGroup
	for more := true; more; {
		l.publishQueued(hard, &partitions)
		select {
		case <-l.committed:
		case <-hard.Done():
			more = false
		case <-decided: // nothing more is coming
			more = false
			l.publishQueued(hard, &partitions)
		}
	}
	partitions.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(hard), lastSave)
	defer cancel()
	l.saveLast(ctx)
}

// lastSave is how long a stopping lane may take to write down what is published: it saves the next owner from publishing
// it again.
const lastSave = time.Second

// reconcile concludes what has ended beside the decide stage, lets go of what is no longer ours, takes over what is, and looks
// again at what is halted or in doubt.
func (l *lane) reconcile(ctx context.Context) {
	l.conclude(ctx)
	l.mu.Lock()
	wanted := make([]int32, 0, len(l.wanted))
	for p := range l.wanted {
		wanted = append(wanted, p)
	}
	live := l.live
	l.mu.Unlock()
	slices.Sort(wanted)

	l.again = slices.DeleteFunc(l.again, func(runs []run) bool {
		gone := !slices.ContainsFunc(runs, func(r run) bool { return slices.Contains(wanted, r.tenure.Partition) })
		if gone {
			l.free(runs, nil)
		}
		return gone
	})
	for _, p := range l.ownedPartitions() {
		if !slices.Contains(wanted, p) && !l.busy(p) {
			l.drop(p)
			delete(l.retry, p)
		}
	}
	for p := range l.retry {
		if !slices.Contains(wanted, p) {
			delete(l.retry, p)
			l.works(p)
		}
	}
	l.lookAtRows(ctx)
	l.sweep(ctx)
	l.wipe(ctx)
	l.forget(ctx)
	l.saveCursors(ctx)
	l.setAside(ctx)
	for _, p := range wanted {
		if ctx.Err() != nil {
			return
		}
		t := l.owned[p]
		switch {
		case t == nil:
			if b := l.retry[p]; !isDone(live) && (b == nil || b.due(l.clock)) {
				l.takeOver(ctx, p)
			}
		case t.Halted != "":
			l.lookAtHalted(ctx, t)
		case t.aside || l.busy(p):
		case t.mustVerify || t.probe != nil || l.clock.Now().Sub(t.verifiedAt) >= l.limits.VerifyEvery:
			l.verify(ctx, t)
		}
		l.takenOver(ctx) // there may be room for the next one
	}
}

// drop lets a partition go. What it has committed and not published, its next owner publishes.
func (l *lane) drop(p int32) {
	l.source.Drop(p)
	l.mu.Lock()
	delete(l.owned, p)
	l.mu.Unlock()
}

// lose lets go of a partition whose row no longer says it is ours. If the generation still gives it to us, it is taken
// over again, after a while that gives a rightful owner time to be known as such.
func (l *lane) lose(ctx context.Context, p int32) {
	l.drop(p)
	b := newBackoff(l.clock)
	b.wait(l.limits.FencedPause)
	l.retry[p] = b
	l.metrics.fenced.Inc()
	l.log.WarnContext(ctx, "lost partition: its row was changed by another writer", "partition", p)
}

// lookAtHalted goes on where an operator has said so.
func (l *lane) lookAtHalted(ctx context.Context, t *tenure) {
	if !t.pause.due(l.clock) {
		return
	}
	t.pause.wait(l.limits.HaltedPause)
	defer l.at(fmt.Sprintf("looking at partition %d, which is halted", t.Partition))()
	if !t.haltSaved {
		l.saveHalt(ctx, t)
		return
	}
	rows, err := l.record.Standings(ctx, []int32{t.Partition})
	switch {
	case err != nil:
		if ctx.Err() == nil {
			l.metrics.trouble("record", err)
		}
	case len(rows) == 0 || rows[0].WriterID != t.WriterID:
		l.lose(ctx, t.Partition)
	case rows[0].Halted == "":
		l.drop(t.Partition) // and taken over like any other
	}
}

// halt stops a partition until an operator acts. It goes on publishing what is committed.
func (l *lane) halt(ctx context.Context, t *tenure, reason string) {
	l.source.Drop(t.Partition)
	l.mu.Lock()
	t.Halted = reason
	l.mu.Unlock()
	t.pause = newBackoff(l.clock)
	l.log.ErrorContext(ctx, "halting partition: nothing is skipped until an operator decides (dibs partitions)",
		"partition", t.Partition, "offset", t.NextOffset, "reason", reason)
	l.saveHalt(ctx, t)
}

func (l *lane) saveHalt(ctx context.Context, t *tenure) {
	switch err := l.record.Halt(ctx, t.Fence, t.Halted); {
	case err == nil:
		t.haltSaved = true
	case errors.Is(err, ErrFenced):
		// Nobody halts what is somebody else's by now. Where it is still ours to take over, what was found is found again.
		l.lose(ctx, t.Partition)
	default:
		l.metrics.trouble("record", err)
		l.log.WarnContext(ctx, "halt is not recorded yet", "partition", t.Partition, "err", err)
	}
}

// verify checks that the log is still the one that NextOffset is about, and starts reading again if it is.
func (l *lane) verify(ctx context.Context, t *tenure) {
	if !l.probed(ctx, t) {
		return
	}
	defer l.at(fmt.Sprintf("checking the log of partition %d", t.Partition))()
	if t.mustVerify {
		// Reading comes first: a log that is replaced after it was compared then shows as an interruption. The other way
		// round it could be replaced in between, and be read from our offset on as if it were the old one.
		l.source.Seek(t.Partition, t.NextOffset)
	}
	doubt, end, err := l.compare(ctx, t.Standing)
	switch {
	case err != nil:
		if t.mustVerify {
			l.source.Drop(t.Partition)
		}
		l.unverified(ctx, t, err)
	case doubt != "":
		// A leader that has just come up may not show its whole log yet: only a doubt that stays is one.
		if t.doubts++; t.doubts >= l.limits.Doubts {
			l.halt(ctx, t, doubt)
			return
		}
		l.setMustVerify(t, true)
		t.pause.wait(l.limits.DoubtPause)
		l.source.Drop(t.Partition)
	default:
		t.doubts = 0
		t.verifiedAt = l.clock.Now()
		t.pause = newBackoff(l.clock)
		if t.mustVerify {
			l.setMustVerify(t, false)
		}
		l.heard(t, end)
	}
}

// unverified puts the next verification off.
func (l *lane) unverified(ctx context.Context, t *tenure, err error) {
	t.pause.failed()
	if ctx.Err() == nil {
		l.metrics.trouble("source", err)
		l.log.WarnContext(ctx, "partition waits", "partition", t.Partition, "doing", "check the log's identity", "err", err)
	}
}

// lookAtRows lets go of what the rows no longer give us. A batch finds that out by itself; where nothing arrives, a
// fail-over that lost commits would stay unknown, and what it undid undecided.
func (l *lane) lookAtRows(ctx context.Context) {
	if len(l.owned) == 0 || l.clock.Now().Sub(l.lookedAt) < l.limits.LookEvery {
		return
	}
	l.lookedAt = l.clock.Now()
	defer l.at("looking at the rows of the partitions")()
	rows, err := l.rows(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.metrics.trouble("record", err)
		}
		return
	}
	for _, p := range l.ownedPartitions() {
		if l.busy(p) {
			continue // its transaction finds that out by itself
		}
		t := l.owned[p]
		i := slices.IndexFunc(rows, func(s Standing) bool { return s.Partition == p })
		if i >= 0 && rows[i].Fence == t.Fence {
			l.mu.Lock()
			t.saved = min(t.saved, rows[i].PublishedThrough)
			l.mu.Unlock()
		} else if t.Halted == "" {
			l.lose(ctx, p)
		}
	}
}

// rows reads the rows of all partitions, and takes note of what is to be signed with.
func (l *lane) rows(ctx context.Context) ([]Standing, error) {
	all := l.ownedPartitions()
	for p := range int32(l.rules.Partitions) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	rows, err := l.record.Standings(ctx, all)
	if err == nil {
		l.signWith(rows)
	}
	return rows, err
}

func (l *lane) setMustVerify(t *tenure, must bool) {
	l.mu.Lock()
	t.mustVerify = must
	l.mu.Unlock()
}

// compareWithin bounds a check. One that fails here would hold up the other partitions: see probe.
const compareWithin = 3 * time.Second

// compare returns what speaks against the log being the one we read before, and where the log ends.
func (l *lane) compare(ctx context.Context, t Standing) (doubt string, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, compareWithin)
	defer cancel()
	start, end, err := l.source.Bounds(ctx, t.Partition)
	if err != nil {
		return "", 0, err
	}
	if start > t.NextOffset {
		return fmt.Sprintf("records are lost: the log starts at offset %d, and %d is next", start, t.NextOffset), end, nil
	}
	if end < t.NextOffset {
		return fmt.Sprintf("the log is not the one that was read: it ends at offset %d, and %d is next", end, t.NextOffset), end, nil
	}
	if t.LastOffset < start { // never read, or retention has passed it
		return "", end, nil
	}
	last, ok, err := l.source.At(ctx, t.Partition, t.LastOffset)
	if err != nil {
		return "", 0, err
	}
	if !ok || last.Hash() != t.LastHash {
		return fmt.Sprintf("the log is not the one that was read: another record, or none, is at offset %d", t.LastOffset), end, nil
	}
	return "", end, nil
}

// ownedPartitions lists what the lane owns, in order.
func (l *lane) ownedPartitions() []int32 {
	ps := make([]int32, 0, len(l.owned))
	for p := range l.owned {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}

// Clock is what a lane knows of time and chance; a simulation holds both.
type Clock interface {
	Now() time.Time
	// Sleep waits for d, or until ctx ends.
	Sleep(ctx context.Context, d time.Duration)
	// Jitter returns a random part of d.
	Jitter(d time.Duration) time.Duration
	// NewID returns an id that nobody has had.
	NewID() uuid.UUID
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
