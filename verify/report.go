package verify

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// Difference is one thing that is not as the log says.
type Difference struct {
	Partition int32 `json:"partition"`
	LogEpoch  int64 `json:"log_epoch"`
	// Offset is that of the record on claims; -1 where it is about no record.
	Offset int64 `json:"offset"`
	Seq    int   `json:"seq"`
	// Where is a table or a topic.
	Where     string     `json:"where"`
	RequestID *uuid.UUID `json:"request_id,omitempty"`
	Name      string     `json:"name,omitempty"` // space and key, where it is about a name
	Field     string     `json:"field"`
	Expected  string     `json:"expected"`
	Found     string     `json:"found"`
}

func (d *Difference) String() string {
	at := fmt.Sprintf("%d-%d-%d", d.Partition, d.LogEpoch, d.Offset)
	if d.Offset < 0 {
		at = fmt.Sprintf("%d-%d", d.Partition, d.LogEpoch)
	}
	at = fmt.Sprintf("%s %s", d.Where, at)
	if d.Name != "" {
		at += " " + d.Name
	}
	if d.RequestID != nil {
		at += " request " + d.RequestID.String()
	}
	return fmt.Sprintf("%s: %s: expected %s, found %s", at, d.Field, d.Expected, d.Found)
}

// The tables and topics that a difference is in.
const (
	inDecisions     = "decisions"
	inNames         = "names"
	inPartitions    = "partitions"
	inRegistrations = "registrations"
)

// Counts say how much was compared.
type Counts struct {
	Records    int64 `json:"records"`    // of claims, replayed
	Rows       int64 `json:"rows"`       // of decisions, compared
	Names      int64 `json:"names"`      // compared
	Outcomes   int64 `json:"outcomes"`   // and facts, found on registrations
	Duplicates int64 `json:"duplicates"` // further copies of those
	// Trusted rows of decisions lie before the start of the log, or are what only the database can know.
	Trusted int64 `json:"trusted"`
	// TrustedOutcomes are records on registrations that were compared with a trusted row.
	TrustedOutcomes int64 `json:"trusted_outcomes"`
	// Expired outcomes are not looked for: retention has taken that part of registrations.
	Expired int64 `json:"expired"`
	// Unpublished outcomes are decided, and not all acknowledged yet.
	Unpublished int64 `json:"unpublished"`
	// Later records on registrations were published after the moment that is compared.
	Later  int64 `json:"later"`
	Erased int64 `json:"erased"`
	// Forgotten records on registrations are of decisions that are not kept any more.
	Forgotten int64 `json:"forgotten"`
}

func (c *Counts) add(o Counts) {
	c.Records += o.Records
	c.Rows += o.Rows
	c.Names += o.Names
	c.Outcomes += o.Outcomes
	c.Duplicates += o.Duplicates
	c.Trusted += o.Trusted
	c.TrustedOutcomes += o.TrustedOutcomes
	c.Expired += o.Expired
	c.Unpublished += o.Unpublished
	c.Later += o.Later
	c.Erased += o.Erased
	c.Forgotten += o.Forgotten
}

// Report is what a run has found.
type Report struct {
	Partitions int `json:"partitions"` // that are done
	Of         int `json:"of"`
	Counts
	Differences []Difference `json:"differences"`
	// Found is how many differences there are, those that are not listed included.
	Found int64    `json:"found"`
	Notes []string `json:"notes,omitempty"`
	// Complete: every partition that was asked for is done.
	Complete bool `json:"complete"`
}

// collector gathers what the workers find. It is safe for concurrent use.
type collector struct {
	most int

	mu     sync.Mutex
	report Report
}

// differ takes note of a difference, and reports whether it is among those that are listed.
func (c *collector) differ(d Difference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Found++
	if len(c.report.Differences) < c.most {
		c.report.Differences = append(c.report.Differences, d)
	}
}

// more counts differences that are like others, and are not listed.
func (c *collector) more(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Found += n
}

// full reports whether no further difference is listed.
func (c *collector) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.report.Differences) >= c.most
}

func (c *collector) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
}

// done adds what a partition has come to, whole or broken off.
func (c *collector) done(counts Counts, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.add(counts)
	if whole {
		c.report.Partitions++
	}
}

func (c *collector) end() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	slices.SortStableFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.LogEpoch, b.LogEpoch), cmp.Compare(a.Offset, b.Offset))
	})
	slices.Sort(r.Notes)
	r.Complete = r.Partitions == r.Of
	return r
}
