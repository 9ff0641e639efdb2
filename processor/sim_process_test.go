package processor_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

const (
	pinned    = 3 // partitions of the routing contract
	topicName = "claims"
)

// rules are those of a process that starts now: it may lack a key that operators hand out later.
func (w *world) rules() processor.Rules {
	rules := simRules
	if !w.handedOut {
		rules.Keys = maps.Clone(simKeys)
		delete(rules.Keys, lateKey)
	}
	return rules
}

var simRules = processor.Rules{Partitions: pinned, Policies: simPolicies(), Keys: simKeys, Eraser: names.NewEraser([]byte("a secret"))}

// process is one simulated process: a lane, its stages as fibers, a clock of its own.
type process struct {
	w           *world
	id          int
	skew        time.Duration
	up          bool
	lacks       bool // the late key
	began       time.Duration
	pausedUntil time.Duration

	lane     *processor.Lane
	source   *source
	fibers   []*fiber
	stop     context.CancelFunc // of the decide stage
	stopping bool               // told to stop
	decided  bool               // the decide stage has ended
	drained  int                // partitions of which nothing more is to be published
	// questions says when the sweeper has asked what, since it was started.
	questions map[uuid.UUID]time.Time
	started   time.Time // by its clock
	assigned  []int32
	live      chan struct{} // of the generation; closed when that is over
}

func (p *process) String() string { return fmt.Sprintf("p%d", p.id) }

// start starts the process anew, with nothing in memory.
func (p *process) start() {
	w := p.w
	p.source = &source{w: w, proc: p}
	lane, err := processor.NewLane(processor.Config{
		Rules: w.rules(), Signing: simSigning, Topic: topicName, Clock: (*procClock)(p), Log: slog.New(&logLines{p: p}),
		Limits: processor.Limits{
			Batch: w.rates.batch, Unpublished: 3 * w.rates.batch, PollWait: 100 * time.Millisecond, VerifyEvery: 20 * time.Second,
			Transactions: 1 + int(w.seed%3), Beside: 1 + int(w.seed/3%4),
			FencedPause: 300 * time.Millisecond, HaltedPause: 500 * time.Millisecond, LookEvery: 2 * time.Second,
		},
	}, &dbConn{w.db, make(map[int32]bool)}, (*publisher)(p), p.source)
	if err != nil {
		panic(err)
	}
	p.lane, p.up, p.stopping, p.decided, p.drained, p.pausedUntil = lane, true, false, false, 0, 0
	p.assigned, p.live, p.lacks, p.began = nil, nil, !w.handedOut, w.now
	p.questions, p.started = make(map[uuid.UUID]time.Time), (*procClock)(p).Now().Truncate(time.Millisecond)
	ctx, stop := context.WithCancel(context.Background())
	hard, cut := context.WithCancel(context.Background())
	p.stop = func() {
		p.stopping = true
		stop()
		w.after(time.Second, cut)
	}
	p.fibers = []*fiber{w.spawn(p, p.String()+" decide", func() { p.decideStage(ctx) })}
	for n := range int32(w.rates.partitions) {
		p.fibers = append(p.fibers, w.spawn(p, fmt.Sprintf("%s publish %d", p, n), func() { p.publishStage(hard, n) }))
	}
	lane.Beside(func(f func()) {
		p.fibers = slices.DeleteFunc(p.fibers, func(f *fiber) bool { return f.ended })
		p.fibers = append(p.fibers, w.spawn(p, p.String()+" beside", f))
	})
	w.say("%s starts", p)
}

// decideStage does what lane.decideStage does; where that waits on a channel, this lets others go on.
func (p *process) decideStage(ctx context.Context) {
	defer func() { p.decided = true }()
	for ctx.Err() == nil {
		p.lane.Reconcile(ctx)
		if p.lane.Backlogged() {
			p.w.sometimes("deciding waits for publishing")
			p.w.pause(wait{p.w.now + 2*time.Second, func() bool {
				return len(p.lane.Published()) > 0 || len(p.lane.Wake()) > 0 || ctx.Err() != nil
			}})
			for _, c := range []<-chan struct{}{p.lane.Published(), p.lane.Wake()} {
				select {
				case <-c:
				default:
				}
			}
			continue
		}
		p.lane.DecideNext(ctx)
		if p.lane.Running() > 1 {
			p.w.sometimes("several transactions at once")
		}
	}
	for p.lane.Conclude(ctx); p.lane.Running() > 0; p.lane.Conclude(ctx) { // as lane.concludeAll does
		p.w.pause(wait{forever, func() bool { return len(p.lane.Wake()) > 0 }})
		<-p.lane.Wake()
	}
}

// publishStage does what lane.publishStage does for one partition.
func (p *process) publishStage(hard context.Context, n int32) {
	for {
		for p.lane.PublishNext(hard, n) {
		}
		if hard.Err() != nil {
			p.w.sometimes("stop before everything was published")
			return
		}
		p.w.pause(wait{forever, func() bool { return hard.Err() != nil || p.decided || p.lane.Queued(n) }})
		if p.decided && hard.Err() == nil && !p.lane.Queued(n) {
			break
		}
	}
	if p.drained++; p.drained == p.w.rates.partitions {
		p.lane.SaveLast(hard)
		p.w.sometimes("clean stop, drained")
	}
}

// crash ends the process wherever its stages are.
func (p *process) crash() {
	for _, f := range p.fibers {
		f.kill()
	}
	p.up, p.lane, p.source, p.fibers = false, nil, nil, nil
}

// ended reports whether a stopped process has nothing more to do.
func (p *process) ended() bool {
	return !slices.ContainsFunc(p.fibers, func(f *fiber) bool { return !f.ended })
}

// assign gives the process a new generation, or a copy of one that others know of too.
func (p *process) assign(partitions []int32) {
	if p.live != nil && !isClosed(p.live) {
		close(p.live)
	}
	p.live = make(chan struct{})
	p.assigned = partitions
	p.lane.Assign(partitions, p.live)
	p.w.say("%s is assigned %v", p, partitions)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// procClock is the process's clock and chance.
type procClock process

func (c *procClock) Now() time.Time { return epoch.Add(c.w.now + c.skew) }

func (c *procClock) Sleep(ctx context.Context, d time.Duration) {
	c.w.pause(wait{c.w.now + d, func() bool { return ctx.Err() != nil }})
}

func (c *procClock) Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.w.r.Int64N(int64(d)))
}

func (c *procClock) NewID() uuid.UUID { return c.w.newID(4) }

// newID returns a random UUID of the version.
func (w *world) newID(version byte) uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.r.Uint32())
	}
	id[6] = id[6]&0x0f | version<<4
	id[8] = id[8]&0x3f | 0x80
	return id
}

// logLines puts what a lane logs into the history.
type logLines struct{ p *process }

func (h *logLines) Enabled(context.Context, slog.Level) bool { return h.p.w.keep }
func (h *logLines) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *logLines) WithGroup(string) slog.Handler            { return h }

func (h *logLines) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	h.p.w.lines = append(h.p.w.lines, fmt.Sprintf("%9.3f   %s logs: %s", h.p.w.now.Seconds(), h.p, line))
	return nil
}
