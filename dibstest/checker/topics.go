package checker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// published is the value of a record on registrations.
type published struct {
	RequestID      string    `json:"request_id"`
	Cause          string    `json:"cause"`
	ClaimID        string    `json:"claim_id"`
	Space          string    `json:"space"`
	Key            string    `json:"key"`
	Name           string    `json:"name"`
	Owner          string    `json:"owner"`
	Outcome        string    `json:"outcome"`
	Reason         string    `json:"reason"`
	Detail         string    `json:"detail"`
	CurrentVersion int64     `json:"current_version"`
	State          string    `json:"state"`
	Request        string    `json:"request"`
	ExpiresAt      time.Time `json:"expires_at"`
	Version        int64     `json:"version"`
	LogTime        time.Time `json:"log_time"`
	PolicyVersion  int       `json:"policy_version"`
	RequestHash    string    `json:"request_hash"`
	Partition      int32     `json:"partition"`
	LogEpoch       int64     `json:"log_epoch"`
	Offset         int64     `json:"offset"`
}

func (p *published) outcomeRow() Outcome {
	return Outcome{
		Request: p.Request, ExpiresAt: p.ExpiresAt,
		Type: p.Outcome, Reason: p.Reason, RequestID: p.RequestID, ClaimID: p.ClaimID, Space: p.Space, Key: p.Key,
		Name: p.Name, Owner: p.Owner, State: p.State, Version: p.Version, CurrentVersion: p.CurrentVersion,
		LogTime: p.LogTime, PolicyVersion: p.PolicyVersion, RequestHash: p.RequestHash,
		Partition: p.Partition, LogEpoch: p.LogEpoch, Offset: p.Offset,
	}
}

// registrations: what is on the topic is what was decided, all of it, and every copy has the same bytes.
func (j *judge) registrations() {
	copies := make(map[output]int)
	type copied struct {
		output
		wiped bool // what is repeated behind an erasure says less
	}
	first := make(map[copied]string)
	requests := make(map[[2]string]place)
	known := make(map[string]output) // by bytes and partition
	for i := range j.Registrations {
		r := &j.Registrations[i]
		text := strconv.Itoa(int(r.Partition)) + " " + r.bytes(true)
		at, ok := known[text]
		if !ok {
			if at, ok = j.published(r, requests); !ok {
				continue
			}
			known[text] = at
			as := copied{at, j.wipedAt[at] && strings.HasPrefix(keyIn(r), "erased ")}
			if other, twice := first[as]; twice && other != text {
				j.broken(3, "the copies of the outcome of %s differ: %q and %q", at, other, text)
			}
			first[as] = text
		}
		copies[at]++
	}
	for i := range j.Decisions {
		d := &j.Decisions[i]
		if d.Outcome == nil || silent(d.Outcome.Type) {
			continue
		}
		at := d.Outcome.output()
		row := j.progress[d.Partition]
		below := row != nil && (d.LogEpoch < row.LogEpoch || d.Offset < row.PublishedThrough)
		switch {
		case copies[at] == 0 && (below || !j.Running):
			j.broken(4, "the outcome of request %s at %s is committed and was never published (below published_through: %t, inv 6, 13)", d.RequestID, at, below)
		case copies[at] < j.owed[at] && !j.Running:
			j.broken(3, "request %s at %s was asked %d times and answered %d times", d.RequestID, at, j.owed[at], copies[at])
		}
	}
}

// published checks one record against the decision that it is of.
func (j *judge) published(r *Record, requests map[[2]string]place) (output, bool) {
	where := fmt.Sprintf("registrations %d@%d", r.Partition, r.Offset)
	var p published
	if err := json.Unmarshal(r.Value, &p); err != nil {
		j.broken(4, "%s is no outcome: %v", where, err)
		return output{}, false
	}
	at := place{p.Partition, p.LogEpoch, p.Offset}
	kind := KindOutcome
	is := p.outcomeRow()
	if p.RequestID == "" {
		kind, is.RequestID = KindFact, p.Cause
	}
	i := slices.IndexFunc(j.decisions[at], func(d *Decision) bool {
		return d.Kind == kind && d.Outcome != nil && (kind == KindOutcome && d.Outcome.RequestID == p.RequestID || kind == KindFact && d.Outcome.Type == p.Outcome)
	})
	if i < 0 {
		j.broken(4, "%s is the %s %s %s of request %s at %s, where none is committed (inv 7)", where, kind, p.Outcome, p.Reason, is.RequestID, at)
		return output{place: at}, false
	}
	want := *j.decisions[at][i].Outcome
	is.Seq = want.Seq
	if want.LogTime.Equal(is.LogTime) {
		is.LogTime = want.LogTime
	}
	if want.ExpiresAt.Equal(is.ExpiresAt) {
		is.ExpiresAt = want.ExpiresAt
	}
	if want != is && !j.sameWiped(want, is) {
		j.broken(4, "%s differs from the decision at %s: %s", where, at, difference(want, is))
	}
	if silent(is.Type) {
		j.broken(4, "%s says that nothing was to be done at %s: nobody is told that", where, at)
	}
	if r.Partition != p.Partition {
		j.broken(4, "%s is on partition %d, its request on %d", where, r.Partition, p.Partition)
	}
	if kind == KindOutcome {
		q := [2]string{p.RequestID, want.recordKey()}
		if other, twice := requests[q]; twice && other != at {
			j.broken(3, "request %s has outcomes of %s and of %s", p.RequestID, other, at)
		}
		requests[q] = at
	}
	j.envelope(r, where, &is)
	return is.output(), true
}

// keyIn is the key in a record key.
func keyIn(r *Record) string {
	_, key := split(string(r.Key))
	return key
}

// envelope checks key, headers and time of an outcome.
func (j *judge) envelope(r *Record, where string, o *Outcome) {
	if string(r.Key) != o.recordKey() {
		j.broken(4, "%s has the key %q and is about %s", where, r.Key, o.recordKey())
	}
	if !r.Time.Equal(o.LogTime) {
		j.broken(4, "%s has the time %s, its log time is %s", where, r.Time, o.LogTime)
	}
	for name, want := range map[string]string{
		"content-type": "application/json", "ce_specversion": "1.0", "ce_type": "dibs." + o.Type + ".v1",
		"ce_subject": o.recordKey(), "ce_time": timeText(o.LogTime), "ce_id": eventID(o),
	} {
		if is, ok := r.header(name); is != want {
			j.broken(4, "%s: header %s is %q (there: %t), expected %q", where, name, is, ok, want)
		}
	}
}

// forwards: what was forwarded is on claims, at its right place, as it was but for the mark and the key.
func (j *judge) forwards() {
	if j.Running {
		return
	}
	type forward struct {
		partition int32
		bytes     string
	}
	there := make(map[forward]int)
	for i := range j.Claims {
		there[forward{j.Claims[i].Partition, j.Claims[i].bytes(false)}]++
	}
	for _, x := range j.expected {
		if x.kind != KindForwarded {
			continue
		}
		r := *x.request.record
		r.Key = []byte(x.request.recordKey())
		r.Headers = append(slices.Clone(r.Headers), Header{"dibs-rerouted", []byte("1")})
		f := forward{x.to, r.bytes(false)}
		if there[f]--; there[f] < 0 {
			j.broken(5, "the record at %d-%d-%d belongs on partition %d, and was not forwarded there: it is lost", x.request.record.Partition, x.request.record.epoch(), x.request.record.Offset, x.to)
		}
	}
}

// letters: what is dead is on the dead letter topic, as it was, with a reason, and nothing else is.
func (j *judge) letters() {
	delivered := make(map[place]*Record)
	for i := range j.DeadLetters {
		r := &j.DeadLetters[i]
		number := func(name string) int64 {
			text, _ := r.header("dibs-dead-" + name)
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return -1
			}
			return n
		}
		delivered[place{int32(number("partition")), number("log-epoch"), number("offset")}] = r
	}
	dead := make(map[place]bool)
	for _, x := range j.expected {
		if x.kind != KindDead {
			continue
		}
		was := x.request.record
		at := place{was.Partition, was.epoch(), was.Offset}
		dead[at] = true
		r := delivered[at]
		if r == nil {
			if !j.Running && (j.Undeliverable == nil || !j.Undeliverable(*was)) {
				j.broken(4, "the record at %s is dead (%s), and is not on the dead letter topic", at, x.why)
			}
			continue
		}
		reason, _ := r.header("dibs-dead-reason")
		topic, _ := r.header("dibs-dead-topic")
		headers := r.Headers[:min(len(r.Headers), len(was.Headers))]
		if string(r.Key) != string(was.Key) || string(r.Value) != string(was.Value) || (&Record{Headers: headers}).bytes(false) != (&Record{Headers: was.Headers}).bytes(false) {
			j.broken(4, "the dead letter of %s is not the record as it was read", at)
		}
		if reason == "" || topic != j.Topic {
			j.broken(4, "the dead letter of %s says topic %q, reason %q", at, topic, reason)
		}
	}
	for at, r := range delivered {
		trusted := slices.ContainsFunc(j.decisions[at], func(d *Decision) bool { return d.Kind == KindDead })
		if !dead[at] && !trusted {
			j.broken(4, "dead letter %d@%d is of %s, which is not dead (inv 7)", r.Partition, r.Offset, at)
		}
	}
}
