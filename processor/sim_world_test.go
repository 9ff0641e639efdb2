package processor_test

import (
	"fmt"
	"hash"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"
)

// A world is one simulated deployment: the two topics, the record, clients, and a few processes that run the real lane.
// It is one thread of execution. Each stage of a lane is a fiber that runs until it calls a port; there it stops, and the
// world decides by its seed who goes on, and what becomes of the call. The same seed gives the same history.
type world struct {
	seed  uint64
	r     *rand.Rand
	rates rates
	calm  bool // faults are over
	// lingering: everything is done; what is reserved is waited for.
	lingering bool
	now       time.Duration
	// handedOut: processes that start from now on have the late key.
	handedOut bool

	claims  []*topicLog // by partition
	past    []givenUp   // logs that operators have given up
	outputs *outputs
	db      *database
	procs   []*process
	clients *clients
	limbo   []func() // what may arrive later
	timers  []timer

	running *fiber
	resumes int

	line       []byte   // the last one
	lines      []string // kept for a replay
	keep       bool
	sum        hash.Hash64
	count      map[string]int
	questions  int // of sweepers, on their topic
	violations []string
}

type timer struct {
	at time.Duration
	do func()
}

// epoch is the simulated time 0.
var epoch = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func (w *world) clock() time.Time { return epoch.Add(w.now).Truncate(time.Millisecond) }

// say writes a line of the history.
func (w *world) say(format string, args ...any) {
	w.line = fmt.Appendf(w.line[:0], "%9.3f ", w.now.Seconds())
	w.line = append(fmt.Appendf(w.line, format, args...), '\n')
	_, _ = w.sum.Write(w.line)
	if w.keep {
		w.lines = append(w.lines, strings.TrimSuffix(string(w.line), "\n"))
	}
}

// sometimes counts a rare path: over a campaign each must have been taken.
func (w *world) sometimes(what string) { w.count[what]++ }

func (w *world) violated(format string, args ...any) {
	v := fmt.Sprintf(format, args...)
	w.violations = append(w.violations, v)
	w.say("VIOLATION %s", v)
}

// chance is true with the given probability, while there are faults.
func (w *world) chance(p float64) bool { return !w.calm && p > 0 && w.r.Float64() < p }

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.r.Int64N(int64(d) + 1)) }

func (w *world) after(d time.Duration, do func()) {
	w.timers = append(w.timers, timer{w.now + d, do})
}

// wait is what a fiber waits for: a time, a condition, whichever is first. The zero wait is over at once.
type wait struct {
	until time.Duration
	ready func() bool
}

const forever = time.Duration(1<<63 - 1)

// fiber is a goroutine of the simulated program, run in turns.
type fiber struct {
	name   string
	proc   *process
	resume func() (wait, bool)
	kill   func()
	yield  func(wait) bool
	wait   wait
	ended  bool
}

// killed unwinds a fiber whose process has crashed.
type killed struct{}

func (w *world) spawn(p *process, name string, body func()) *fiber {
	f := &fiber{name: name, proc: p}
	f.resume, f.kill = iter.Pull(func(yield func(wait) bool) {
		f.yield = yield
		defer func() {
			switch v := recover(); v {
			case nil, killed{}:
			default:
				w.violated("panic in %s: %v\n%s", f.name, v, debug.Stack())
			}
		}()
		body()
	})
	return f
}

// pause stops the running fiber until the wait is over. It does not return when the process crashes meanwhile.
func (w *world) pause(until wait) {
	if !w.running.yield(until) {
		panic(killed{})
	}
}

// turn gives others a chance to go on before the running fiber does.
func (w *world) turn() {
	switch {
	case w.calm:
		w.pause(wait{})
	case w.chance(w.rates.slow):
		w.pause(wait{until: w.now + w.upTo(3*time.Second)})
	default:
		w.pause(wait{until: w.now + w.upTo(4*time.Millisecond)})
	}
}

func (f *fiber) runnable(now time.Duration) bool {
	return !f.ended && f.proc.pausedUntil <= now && (f.wait.until <= now || f.wait.ready != nil && f.wait.ready())
}

// fibers are those of all processes, in a fixed order.
func (w *world) fibers() []*fiber {
	var all []*fiber
	for _, p := range w.procs {
		if p.up {
			all = append(all, p.fibers...)
		}
	}
	return all
}

// run lets one fiber go on that can, or moves time to when one can. It reports false when none ever will by itself.
func (w *world) run() bool {
	w.fire()
	fibers := w.fibers()
	var able []*fiber
	next := forever
	for _, f := range fibers {
		switch {
		case f.ended:
		case f.runnable(w.now):
			able = append(able, f)
		default:
			next = min(next, max(f.wait.until, f.proc.pausedUntil))
		}
	}
	for _, t := range w.timers {
		next = min(next, t.at)
	}
	if len(able) == 0 {
		if next == forever {
			return false
		}
		w.now = max(w.now, next)
		return true
	}
	f := able[w.r.IntN(len(able))]
	w.running = f
	w.resumes++
	var more bool
	if f.wait, more = f.resume(); !more {
		f.ended = true
	}
	w.running = nil
	return true
}

// fire does what is due.
func (w *world) fire() {
	for i := 0; i < len(w.timers); {
		if t := w.timers[i]; t.at <= w.now {
			w.timers = append(w.timers[:i], w.timers[i+1:]...)
			t.do()
		} else {
			i++
		}
	}
}

// arrive lets one thing arrive that was late.
func (w *world) arrive() {
	if n := len(w.limbo); n > 0 {
		i := w.r.IntN(n)
		do := w.limbo[i]
		w.limbo = append(w.limbo[:i], w.limbo[i+1:]...)
		do()
	}
}

func newWorld(seed uint64, keep bool) *world {
	w := &world{
		seed: seed, r: rand.New(rand.NewPCG(seed, 0x64696273)), keep: keep,
		sum: fnv.New64a(), count: make(map[string]int),
	}
	w.rates = w.swarm()
	w.outputs = &outputs{w: w, refused: make(map[string]bool), refusedAt: make(map[string]time.Duration)}
	w.db = newDatabase(w)
	w.clients = newClients(w)
	for p := range w.rates.partitions {
		w.claims = append(w.claims, &topicLog{partition: int32(p), epoch: 1})
		w.outputs.registrations = append(w.outputs.registrations, nil)
	}
	for i := range w.rates.processes {
		w.procs = append(w.procs, &process{w: w, id: i, skew: w.upTo(2*time.Second) - time.Second})
	}
	return w
}
