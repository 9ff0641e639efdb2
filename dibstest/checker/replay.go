package checker

import "time"

// expected is what a record should have left.
type expected struct {
	kind    string
	outcome *Outcome // of an outcome; of a duplicate, the earlier one
	request request
	to      int32 // of a forwarded record
	why     string
}

// holding is who has a name.
type holding struct {
	owner, claimID, name string
	version              int64
	policyVersion        int
	since                time.Time
}

// replay decides a partition again, from its log alone.
type replay struct {
	history   *History
	partition int32
	logTime   time.Time
	seen      map[string]seen
	held      map[[2]string]holding // by space and key
}

type seen struct {
	print   string
	outcome *Outcome
}

func newReplay(h *History, partition int32) *replay {
	return &replay{history: h, partition: partition, seen: make(map[string]seen), held: make(map[[2]string]holding)}
}

// trust takes over a decision whose record is gone.
func (y *replay) trust(d Decision) {
	o := d.Outcome
	if o == nil {
		return
	}
	if o.LogTime.After(y.logTime) {
		y.logTime = o.LogTime
	}
	y.seen[o.RequestID] = seen{o.RequestHash, o}
	if o.Type == "Accepted" && o.ClaimID == o.RequestID {
		y.held[[2]string{o.Space, o.Key}] = holding{o.Owner, o.ClaimID, o.Name, o.Version, o.PolicyVersion, o.LogTime}
	}
}

// maxForwarded is how large a record may be to be forwarded: what a topic takes compressed it may not take from us.
const maxForwarded = 512 << 10

// next says what the next record of the log leaves. The checks come in the order of the design, section 2.
func (y *replay) next(r *Record) expected {
	if r.Time.After(y.logTime) && r.Time.Year() <= 9999 { // a later one cannot be spelt, and moves nothing
		y.logTime = r.Time
	}
	q := read(r)
	x := expected{request: q}
	switch {
	case y.history.Unstorable != nil && y.history.Unstorable(*r) && y.storesAnOutcome(&q):
		x.kind, x.why = KindDead, "the database refuses it"
		return x
	case q.dead != "":
		x.kind, x.why = KindDead, q.dead
		return x
	}
	if x.to = partitionOf(q.recordKey(), y.history.Partitions); x.to != y.partition {
		x.kind = KindForwarded
		switch {
		case q.rerouted:
			x.kind, x.why = KindDead, "forwarded twice"
		case r.size() > maxForwarded:
			x.kind, x.why = KindDead, "too large to be forwarded"
		}
		return x
	}
	if before, ok := y.seen[q.id]; ok {
		x.kind, x.outcome = KindDuplicate, before.outcome
		if before.print != q.print {
			x.kind, x.why, x.outcome = KindDead, "other content under a used id", nil
		}
		return x
	}
	x.kind, x.outcome = KindOutcome, y.decide(&q)
	y.seen[q.id] = seen{q.print, x.outcome}
	return x
}

// storesAnOutcome reports whether the record would leave an outcome: the rows of all others hold bytes as they were.
func (y *replay) storesAnOutcome(q *request) bool {
	_, before := y.seen[q.id]
	return q.dead == "" && !before && partitionOf(q.recordKey(), y.history.Partitions) == y.partition
}

func (y *replay) decide(q *request) *Outcome {
	r := q.record
	o := &Outcome{
		Type: "Rejected", RequestID: q.id, ClaimID: q.id, LogTime: y.logTime,
		Partition: y.partition, LogEpoch: r.epoch(), Offset: r.Offset,
	}
	o.Space, o.Key = split(q.recordKey())
	if q.malformed {
		o.Reason = "malformed"
		return o
	}
	o.Name, o.Owner, o.RequestHash = q.name, q.owner, q.hash
	if q.space != spaceUsername {
		o.Reason = "unknown_space"
		return o
	}
	o.PolicyVersion = 1
	h, held := y.held[[2]string{o.Space, o.Key}]
	switch {
	case !q.deadline.IsZero() && y.logTime.After(q.deadline):
		o.Reason = "deadline_passed"
	case !q.nameOK:
		o.Reason = "invalid_name"
	case q.invalid():
		o.Reason = "invalid_request"
	case isReserved(o.Key):
		o.Reason = "reserved_word"
	case q.expectedVersion != nil && (*q.expectedVersion != h.version) && (*q.expectedVersion != 0 || held):
		o.Reason, o.CurrentVersion = "version_conflict", h.version
	case !held:
		h = holding{q.owner, q.id, q.name, h.version + 1, 1, y.logTime}
		y.held[[2]string{o.Space, o.Key}] = h
		o.Type, o.State, o.Version = "Accepted", "registered", h.version
	case q.onConflict == "return_existing" && h.owner == q.owner:
		o.Type, o.State, o.Version, o.ClaimID, o.Name = "Accepted", "registered", h.version, h.claimID, h.name
	default:
		o.Reason = "taken"
	}
	return o
}

func isReserved(key string) bool {
	for _, word := range reserved {
		if word == key {
			return true
		}
	}
	return false
}
