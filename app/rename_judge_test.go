package app_test

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// decision is a row of decisions, with the moment it was written where that was kept.
type decision struct {
	Partition, LogEpoch                                 int32
	Offset                                              int64
	Seq                                                 int16
	Kind, Outcome, State, ID, Claim, Reason, Key, Owner string
	Principal                                           string
	Version                                             int64
	FollowKey                                           string
	FollowVersion                                       int64
	At                                                  *time.Time
}

func (r decision) String() string {
	return fmt.Sprintf("%d@%d.%d: %s %s%s of %s by %s, version %d, request %s", r.Partition, r.Offset, r.Seq, r.Kind, r.Outcome, r.Reason, r.Key, r.Owner, r.Version, r.ID)
}

type spot struct {
	partition int32
	offset    int64
}

// judge says whether the promises of a rename were kept, by what the topics, the tables and the watcher have.
func (c *renaming) judge(lives []*incarnation) {
	t := c.d.t
	t.Helper()
	all := rows[decision](c.d, `SELECT partition, log_epoch, "offset", seq, kind::text, coalesce(outcome::text, ''), coalesce(state::text, ''),
			request_id::text, coalesce(claim_id, request_id)::text, coalesce(reason, ''), coalesce(key, ''), coalesce(owner, ''), coalesce(principal, ''),
			coalesce(version, 0), coalesce(follow_key, ''), coalesce(follow_version, 0), at
		FROM decisions LEFT JOIN moments USING (partition, log_epoch, "offset", seq) ORDER BY partition, log_epoch, "offset", seq`)
	held := c.holders(all)
	c.records(all)
	c.published(all)
	c.watched(held)
	c.followUps(all, lives)

	for _, s := range c.d.standings() {
		if s.Halted != "" {
			t.Errorf("partition %d is halted: %s", s.Partition, s.Halted)
		}
	}
	t.Logf("%s; %d rows of decisions", c.done(), len(all))
}

// holders follows every name through its decisions: one is given only where it is free, and taken only from who has it.
// It returns all holdings there ever were.
func (c *renaming) holders(all []decision) map[seen]decision {
	ever, now, by := make(map[seen]decision), make(map[string]seen), make(map[string]decision)
	for _, r := range all {
		if r.Kind != "o" && r.Kind != "f" || r.Outcome == "N" {
			continue
		}
		was := now[r.Key]
		free := was.state == "" || was.state == "f"
		legal, changed := false, true
		switch r.Outcome {
		case "R":
			legal, changed = r.Reason != "taken" || !free, false
		case "A":
			legal = free && (r.State == "r" || r.State == "s")
		case "C":
			legal = was.state == "s" && r.State == "r" && was.owner == r.Owner && by[r.Key].Claim == r.Claim
		case "L":
			legal = !free && was.owner == r.Owner && r.State == "f"
		case "E":
			legal = was.state == "s" && r.State == "f"
		}
		if changed && r.Version != was.version+1 {
			legal = false
		}
		if !legal {
			c.d.t.Errorf("%s, when it was %+v", r, was)
		}
		if changed {
			s := seen{r.Key, r.State, r.Owner, r.Version}
			now[r.Key], by[r.Key] = s, r
			if r.State == "f" {
				s.owner = ""
			}
			ever[s] = r
		}
	}
	held := rows[struct {
		Key, State, Owner string
		Version           int64
	}](c.d, `SELECT key, state::text, coalesce(owner, ''), version FROM names`)
	if len(held) != len(now) {
		c.d.t.Errorf("%d names have a row, %d were decided", len(held), len(now))
	}
	last := make(map[string][]string)
	for _, h := range held {
		if _, won := ever[seen{h.Key, h.State, h.Owner, h.Version}]; !won || now[h.Key].version != h.Version {
			c.d.t.Errorf("names has %+v, the last decision made it %+v", h, now[h.Key])
		}
		if h.State == "r" {
			last[h.Owner] = append(last[h.Owner], h.Key)
		}
	}
	for i, w := range c.wishes {
		if got := last[owner(i)]; len(got) != 1 || got[0] != w.has {
			c.d.t.Errorf("%s holds %v in the end, want %s alone", owner(i), got, w.has)
		}
	}
	return ever
}

// records compares the decisions with the log: every record has one, and who got a name is who asked for it there.
func (c *renaming) records(all []decision) {
	log := c.d.topic.read(c.d.topic.claims)
	answers := make(map[spot][]decision)
	ids := make(map[[2]string]bool)
	for _, r := range all {
		if r.Kind == "f" {
			continue
		}
		at := spot{r.Partition, r.Offset}
		answers[at] = append(answers[at], r)
		if id := [2]string{r.ID, r.Key}; r.Kind == "o" && ids[id] {
			c.d.t.Errorf("%s: decided before", r)
		} else if r.Kind == "o" {
			ids[id] = true
		}
		if r.Kind != "o" && r.Kind != "d" {
			c.d.t.Errorf("%s: what is it?", r)
		}
	}
	for _, record := range log {
		got := answers[spot{record.Partition, record.Offset}]
		if len(got) != 1 {
			c.d.t.Errorf("claims %d@%d has %d answers: %v", record.Partition, record.Offset, len(got), got)
			continue
		}
		var asked struct{ Owner string }
		mustJSON(c.d.t, record.Value, &asked)
		if r := got[0]; r.ID != header(record, "ce_id") || r.Kind == "o" && (r.Key != string(record.Key[len("username/"):]) ||
			r.Outcome != "E" && r.Outcome != "N" && r.Owner != asked.Owner) {
			c.d.t.Errorf("%s: the record is %s of %s, %s", r, header(record, "ce_id"), record.Key, record.Value)
		}
		delete(answers, spot{record.Partition, record.Offset})
	}
	for at, r := range answers {
		c.d.t.Errorf("no record is at %v: %v", at, r)
	}
}

// spelt are the outcomes that occur here, as decisions has them.
var spelt = map[string]string{"A": "Accepted", "R": "Rejected", "C": "Confirmed", "L": "Released", "E": "Expired"}

// published compares the decisions with the topic registrations: what is there was committed, and what was committed is
// there.
func (c *renaming) published(all []decision) {
	type copied struct {
		*kgo.Record
		copies int
	}
	on := make(map[string]copied) // by ce_id
	outcomes := make(map[string]int)
	for _, record := range c.d.topic.read(c.d.topic.registrations) {
		id := header(record, "ce_id")
		first, known := on[id]
		if known && (!bytes.Equal(first.Value, record.Value) || !bytes.Equal(first.Key, record.Key)) {
			c.d.t.Errorf("two copies differ: %s and %s", first.Value, record.Value)
		}
		if !known {
			first.Record = record
			var body struct {
				RequestID string `json:"request_id"`
				Cause     string
				Key       string
				Version   int64
				Outcome   string
			}
			mustJSON(c.d.t, record.Value, &body)
			outcomes[fmt.Sprint(body.RequestID, body.Cause, body.Key, body.Outcome, body.Version)]++
		}
		first.copies++
		on[id] = first
	}
	want := 0
	for _, r := range all {
		if r.Kind != "o" && r.Kind != "f" || r.Outcome == "N" {
			continue
		}
		want++
		if outcomes[fmt.Sprint(r.ID, r.Key, spelt[r.Outcome], r.Version)] != 1 {
			c.d.t.Errorf("%s is not published, or twice", r)
		}
	}
	if len(on) != want {
		c.d.t.Errorf("%d outcomes and facts are on the topic, %d were decided", len(on), want)
	}
	copies := 0
	for _, r := range on {
		copies += r.copies - 1
	}
	c.d.t.Logf("%d outcomes and facts are published, %d of them once more", len(on), copies)
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// watched judges what was seen while it happened: nobody was without a name, and every holder had won the name in the log.
func (c *renaming) watched(ever map[seen]decision) {
	t := c.d.t
	if c.looks == 0 || len(c.seen) == 0 {
		t.Error("the watcher saw nothing")
	}
	for s, n := range c.seen {
		if _, won := ever[s]; !won {
			t.Errorf("seen %d times: %+v, which nobody has decided", n, s)
		}
	}
	for _, lost := range rows[struct{ At, Owner, Lost string }](c.d, `SELECT at::text, owner, lost FROM nameless ORDER BY at LIMIT 20`) {
		t.Errorf("%s: %s lost %s and had no other name", lost.At, lost.Owner, lost.Lost)
	}
	losses := value[int](c.d, `SELECT count(*) FROM losses`)
	if losses == 0 {
		t.Error("Postgres has looked at no loss of a name")
	}
	t.Logf("%d looks at names in one snapshot, %d holdings seen; Postgres looked at each of %d commits that took a name from an owner", c.looks, len(c.seen), losses)
}

// recovery is how long after it an old name may be held.
const recovery = 5 * time.Second

// followUps judges that every rename gives up its old name, that nothing else takes a name from an owner, and how long it
// takes: from the rename's own row, and, where the processor died in between, from the moment the next one was started.
// If that one died as well, the time goes on.
func (c *renaming) followUps(all []decision, lives []*incarnation) {
	t := c.d.t
	type version struct {
		key string
		n   int64
	}
	released := make(map[version]decision)
	for _, r := range all {
		if r.Kind == "o" && r.Outcome == "L" && r.Principal == "dibs" {
			released[version{r.Key, r.Version}] = r
		}
	}
	var usual, recovered []time.Duration
	died := 0 // on the way to the one that took longest
	for _, r := range all {
		if r.FollowKey == "" || r.Kind != "o" {
			continue
		}
		v := version{r.FollowKey, r.FollowVersion + 1}
		release, ok := released[v]
		delete(released, v)
		if !ok || release.Owner != r.Owner {
			t.Errorf("%s: %s is not released for it: %v", r, r.FollowKey, release)
			continue
		}
		if r.At == nil || release.At == nil || release.At.Before(*r.At) {
			t.Errorf("%s at %v, and the old name is released at %v", r, r.At, release.At)
			continue
		}
		if i := slices.IndexFunc(lives, func(l *incarnation) bool { return l.died != "" && l.when.After(*r.At) }); i >= 0 && lives[i].when.Before(*release.At) {
			took := max(0, release.At.Sub(lives[i+1].began))
			if recovered = append(recovered, took); took == slices.Max(recovered) {
				died = 0
				for _, l := range lives[i+1:] {
					if l.died != "" && l.when.Before(*release.At) {
						died++
					}
				}
			}
			continue
		}
		usual = append(usual, release.At.Sub(*r.At))
	}
	for _, r := range released {
		t.Errorf("%s: no rename has asked for it", r)
	}
	if len(usual) == 0 || len(recovered) == 0 {
		t.Fatalf("%d renames without a crash and %d with one", len(usual), len(recovered))
	}
	slices.Sort(usual)
	slices.Sort(recovered)
	t.Logf("%d renames without a crash: the old name is released %s after the new one (p50; p99 %s, at most %s)", len(usual), at(usual, .5), at(usual, .99), usual[len(usual)-1])
	longest := recovered[len(recovered)-1]
	t.Logf("%d renames with a crash in between: %s after the next processor has started (p50; p99 %s, at most %s, in which %d more died)", len(recovered), at(recovered, .5), at(recovered, .99), longest, died)
	if campaigning() && longest > recovery { // beside a suite that takes all processors it says nothing
		t.Errorf("an old name was released %s after recovery, want %s at most", longest, recovery)
	}
}

// at is a quantile of sorted times.
func at(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}
