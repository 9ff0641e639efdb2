package processor_test

import (
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/processor"
)

// rates says how this world is: how large, and how often each fault comes. Each seed has its own mix; a fault that is
// absent lets others be seen.
type rates struct {
	processes, partitions, batch, names int

	slow, interrupt, brokerTrouble, stale        float64
	send, publish, betweenOutputs, refuse        float64
	readLost, writeLost, tamper, failOverAt      float64
	loseLogAt, large                             float64
	act, observe, arrive, land                   float64
	crash, stop, hang, failOver, assign, overlap float64
	logLoss                                      logLoss
	resume, neverStorable                        bool
	policies                                     bool // policies change
	claimsOnly                                   bool // nothing but plain claims
	signups                                      bool // of several names at once
}

// logLoss is a way to lose a log. Worlds that lose one lose no transactions: who loses both has lost what he was told.
type logLoss int

const (
	keepsLogs logLoss = iota
	recreated
	truncated
	retentionPassed
)

func (w *world) swarm() rates {
	often := func(p float64) float64 { return p * []float64{0, 0.3, 1, 1, 3}[w.r.IntN(5)] }
	f := rates{
		processes: 2 + w.r.IntN(2), partitions: pinned, batch: 2 + w.r.IntN(7), names: 3 + w.r.IntN(6),
		slow: often(0.01), interrupt: often(0.02), brokerTrouble: often(0.02), stale: often(0.2),
		send: often(0.06), publish: often(0.04), betweenOutputs: 0.2, refuse: often(0.15),
		readLost: often(0.03), writeLost: often(0.04), tamper: often(0.01), failOverAt: often(0.01), loseLogAt: often(0.03),
		act: 0.06 + 0.1*w.r.Float64(), observe: 0.03, arrive: 0.03, land: 0.02,
		crash: often(0.003), stop: often(0.002), hang: often(0.004), failOver: often(0.004), assign: often(0.008), overlap: often(0.5),
		neverStorable: w.r.IntN(20) == 0,
	}
	f.claimsOnly = w.r.IntN(5) == 0
	f.policies = w.r.IntN(3) > 0
	f.signups = w.r.IntN(2) == 0
	if w.r.IntN(20) == 0 {
		f.large = 0.02
	}
	if f.neverStorable { // what is halted for good cannot be decided again after a fail-over
		f.failOver, f.failOverAt, f.tamper = 0, 0, 0
	}
	if w.r.IntN(4) == 0 {
		f.partitions++ // more than the routing contract says
	}
	if w.r.IntN(5) == 0 {
		f.logLoss = logLoss(1 + w.r.IntN(3))
		f.resume = w.r.IntN(2) == 0
		f.failOver, f.failOverAt = 0, 0
	}
	return f
}

// happen lets one thing happen: a client acts, something breaks, or a fiber goes on.
func (w *world) happen() {
	w.now += w.upTo(2 * time.Millisecond)
	p := w.procs[w.r.IntN(len(w.procs))]
	f := &w.rates
	for _, e := range []struct {
		rate float64
		do   func()
	}{
		{f.act, w.clients.act}, {f.observe, w.clients.observe}, {f.arrive, w.arrive}, {f.land, w.db.land},
		{f.crash, func() { w.crash(p) }},
		{f.stop, func() { w.stop(p) }},
		{f.hang, func() { w.hang(p) }},
		{f.failOver, func() { w.db.failOver([]int{0, 1, 2, 4, 8, 25}[w.r.IntN(6)]) }},
		{f.assign, w.rebalance},
		{0.004, w.expire},
		{0.002, func() { w.loseLog(w.r.Int32N(pinned)) }},
		{0.01, w.operate},
	} {
		if w.chance(e.rate) {
			e.do()
			return
		}
	}
	if !w.run() {
		w.rebalance()
	}
}

func (w *world) crash(p *process) {
	if p.up {
		w.say("%s crashes", p)
		w.sometimes("crash")
		p.crash()
		w.after(w.upTo(3*time.Second), func() { w.restart(p) })
	}
}

func (w *world) restart(p *process) {
	if !p.up {
		p.start()
		w.after(w.upTo(500*time.Millisecond), w.rebalance)
	}
}

// stop ends a process as SIGTERM does.
func (w *world) stop(p *process) {
	if !p.up {
		return
	}
	w.say("%s is told to stop", p)
	p.stop()
	w.after(2*time.Second+w.upTo(2*time.Second), func() {
		if p.up && p.ended() {
			w.say("%s has stopped", p)
			p.crash()
			w.restart(p)
		} else {
			w.crash(p)
		}
	})
}

// hang pauses a process for a while, as SIGSTOP or a bad disk does. Whatever it has sent goes on.
func (w *world) hang(p *process) {
	if p.up && p.pausedUntil <= w.now {
		p.pausedUntil = w.now + w.upTo(10*time.Second)
		w.say("%s hangs until %.3f", p, p.pausedUntil.Seconds())
		w.sometimes("hang")
		w.after(w.upTo(2*time.Second), w.rebalance)
	}
}

// rebalance begins a generation. Processes hear of it one after the other, and one that does not hear of it in time
// keeps what it had.
func (w *world) rebalance() {
	if w.calm {
		return
	}
	w.sometimes("rebalance")
	shares := make([][]int32, len(w.procs))
	for p := range w.rates.partitions {
		i := w.r.IntN(len(w.procs))
		shares[i] = append(shares[i], int32(p))
		if w.chance(w.rates.overlap) {
			if j := w.r.IntN(len(w.procs)); j != i {
				shares[j] = append(shares[j], int32(p))
				w.sometimes("two processes are assigned one partition")
			}
		}
	}
	for i, p := range w.procs {
		w.after(w.upTo(time.Second), func() {
			if p.up && !w.calm {
				p.assign(shares[i])
			}
		})
	}
}

// expire ends a process's generation without telling it of the next one.
func (w *world) expire() {
	p := w.procs[w.r.IntN(len(w.procs))]
	if p.up && p.live != nil && !isClosed(p.live) {
		close(p.live)
		w.say("the generation of %s is over", p)
		w.sometimes("a generation is over before the next")
		w.after(w.upTo(2*time.Second), w.rebalance)
	}
}

// loseLog loses the log of a partition, if none is lost yet.
func (w *world) loseLog(p int32) {
	if w.rates.logLoss == keepsLogs || len(w.past) > 0 || slices.ContainsFunc(w.claims, func(t *topicLog) bool { return t.lost }) {
		return
	}
	row, ok := w.db.mem.Standing(p)
	was := w.claims[p]
	if !ok || row.LastOffset < was.start || row.NextOffset < 2 || row.Halted != "" {
		return
	}
	switch w.rates.logLoss {
	case retentionPassed:
		if was.end <= row.NextOffset+1 {
			return
		}
		was.start = row.NextOffset + 1 + w.r.Int64N(was.end-row.NextOffset-1)
		w.say("retention passes the partition %d: it starts at %d", p, was.start)
		w.sometimes("retention passed a partition")
		return // who reads there is told so by the broker
	case truncated:
		w.sometimes("a log was truncated")
	case recreated:
		w.sometimes("a topic was created again")
	}
	is := &topicLog{partition: p, epoch: was.epoch + 1, lost: true, before: was}
	if w.rates.logLoss == truncated {
		cut := was.at(row.LastOffset)
		is.records = slices.Clone(was.records[:w.r.IntN(cut+1)])
		if n := len(is.records); n > 0 {
			is.end = is.records[n-1].Offset + 1
		}
	}
	if w.r.IntN(2) == 0 { // and grows past where the old one was, at once
		for is.end <= row.NextOffset+w.r.Int64N(3) {
			q := w.clients.fresh()
			r := q.record()
			r.Time = w.clock()
			is.append(r)
		}
	}
	w.claims[p] = is
	w.past = append(w.past, givenUp{was, -1})
	w.say("the log of %d is lost: another one, of %d offsets", p, is.end)
	for _, proc := range w.procs {
		w.cut(proc, p, []error{processor.ErrInterrupted, processor.ErrOutOfLog}[w.r.IntN(2)])
	}
}

// cut ends what a process is reading of a partition.
func (w *world) cut(proc *process, p int32, err error) {
	if proc.up {
		if e := proc.source.session(p); e != nil {
			proc.source.interrupt(e, err)
		}
	}
}

// operate is an operator, who looks after halted partitions.
func (w *world) operate() {
	for _, row := range w.db.mem.All() {
		if row.Halted == "" || w.db.locked([]int32{row.Partition}) {
			continue
		}
		t := w.claims[row.Partition]
		// A log that is not the old one, or has lost what was next: a gap. Anything else was somebody's doing, and is
		// mended.
		if gap := t.lost && t.epoch > row.LogEpoch || t.start > row.NextOffset; !gap {
			if strings.Contains(row.Halted, lateKey) {
				w.sometimes("halted: a key is lacking")
				if !w.handedOut { // to one process at first
					w.handedOut = true
					w.crash(one(w, w.procs...))
				}
			}
			if !w.rates.neverStorable && w.db.mem.Resume(row.Partition) == nil {
				w.say("operator resumes %d", row.Partition)
				w.sometimes("operator resumed a partition")
			}
			continue
		}
		w.sometimes("halted: the log is another")
		if !w.rates.resume {
			continue
		}
		if t.epoch == row.LogEpoch { // retention: the same log, from its start on
			w.claims[row.Partition] = &topicLog{partition: t.partition, epoch: t.epoch + 1, start: t.start, end: t.end, records: t.records[t.at(t.start):], lost: true}
			w.past = append(w.past, givenUp{t, -1})
			t = w.claims[row.Partition]
		}
		if w.db.mem.AcceptGap(row.Partition, t.start) != nil {
			continue
		}
		for i := range w.past {
			if w.past[i].partition == row.Partition {
				w.past[i].next = row.NextOffset
			}
		}
		w.say("operator accepts the gap of %d", row.Partition)
		w.sometimes("operator accepted a gap")
	}
}
