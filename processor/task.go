package processor

import (
	"slices"
	"time"
)

// task is what the decide stage is at, and since when without getting on. It is for people: a call that is not answered
// fails nowhere.
type task struct {
	what  string // empty while it waits for records
	since time.Time
}

// at notes what the decide stage is at until over is called. Where one task is part of another, the end of the part shows
// that the whole gets on.
func (l *lane) at(what string) (over func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	whole := l.task
	l.task = task{what, l.clock.Now()}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.task = whole; whole.what != "" {
			l.task.since = l.clock.Now()
		}
	}
}

// trouble is what the database answers to every try since then.
type trouble struct {
	err   error
	since time.Time
}

// fails notes that the database does not let us get on with partition p.
func (l *lane) fails(p int32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, known := l.troubles[p]
	if t.err = err; !known {
		t.since = l.clock.Now()
	}
	l.troubles[p] = t
}

// works notes that it does.
func (l *lane) works(p int32) {
	l.mu.Lock()
	delete(l.troubles, p)
	l.mu.Unlock()
}

// inHand notes how old the records are that wait to be decided.
func (l *lane) inHand(runs []run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range runs {
		if r := &runs[i]; len(r.records) > 0 {
			r.tenure.oldest = r.records[0].Time
		}
	}
}

// heard notes where a partition's log ends.
func (l *lane) heard(t *tenure, end int64) {
	l.mu.Lock()
	t.high = end
	l.mu.Unlock()
}

// Status is how a partition that this process owns, or should own, is doing.
type Status struct {
	Partition  int32
	NextOffset int64
	// State is one of "taking over", "running", "waiting" (for its outputs to be acknowledged; it is not read),
	// "checking" (the log's identity) and "halted".
	State  string
	Reason string // why it is halted
	// Doing is what the partition has been waiting for since Since, whatever its state: something of its own, or of
	// another partition of its processor. It is empty while it waits for records only. What takes long is stuck.
	Doing string
	Since time.Time
	// Trouble is what the database answers to every try since Since: nothing of the partition is decided until it answers
	// otherwise. It has no name and no owner in it.
	Trouble string
}

// Status lists the partitions that this process should own. It is for readiness and for people; it is safe for
// concurrent use.
func (p *Processor) Status() []Status {
	var all []Status
	l := p.lane
	l.mu.Lock()
	for n := range l.wanted {
		all = append(all, l.status(n))
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Status) int { return int(a.Partition - b.Partition) })
	return all
}

// status is one partition's. The caller holds mu.
func (l *lane) status(n int32) Status {
	s := Status{Partition: n, State: "taking over", Doing: l.task.what, Since: l.task.since}
	if t := l.owned[n]; t != nil {
		s.NextOffset, s.State, s.Reason = t.NextOffset, "running", t.Halted
		switch {
		case t.Halted != "":
			s.State = "halted"
		case t.aside:
			s.State = "waiting"
		case t.mustVerify:
			s.State = "checking"
		}
	}
	if since, ok := l.publishing[n]; ok && (s.Doing == "" || since.Before(s.Since)) {
		s.Doing, s.Since = "publishing", since
	}
	since, deciding := l.deciding[n]
	if !deciding && !l.fullAt.IsZero() {
		since, deciding = l.fullAt, true // it waits for those under way
	}
	if deciding && (s.Doing == "" || since.Before(s.Since)) {
		s.Doing, s.Since = "deciding", since
	}
	if since, ok := l.acquiring[n]; ok && (s.Doing == "" || since.Before(s.Since)) {
		s.Doing, s.Since = "taking over", since
	}
	if s.Doing == "" {
		s.Since = time.Time{}
	}
	if t, ok := l.troubles[n]; ok {
		s.Trouble, s.Since = t.err.Error(), t.since
	}
	return s
}
