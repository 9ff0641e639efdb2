package processor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges say how each owned partition is doing. They are worked out when they are asked for: those of a lane that is stuck
// go on growing, and a partition that is somebody else's by now has none.
type gauges struct {
	p                                            *Processor
	lag, undecided, owned, halted, stuck, beyond *prometheus.Desc
}

var _ prometheus.Collector = (*gauges)(nil)

func newGauges(p *Processor) *gauges {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"partition"}, nil)
	}
	return &gauges{
		p:         p,
		lag:       desc("dibs_consumer_lag_records", "Records of a partition that are known and not decided yet."),
		undecided: desc("dibs_oldest_undecided_seconds", "Age of the oldest record that is known and not decided yet; 0 where there is none."),
		owned:     desc("dibs_partition_owned", "1 for each partition that this process owns."),
		halted:    desc("dibs_partition_halted", "1 for each owned partition that is halted until an operator decides."),
		stuck:     desc("dibs_partition_stuck_seconds", "For how long a partition has waited for one and the same call to a broker or the database, or every call has failed; 0 while it waits for records."),
		beyond:    desc("dibs_decisions_overdue_seconds", "How much longer than processor.decisions_retention the oldest decision of a partition has been kept; 0 where forgetting keeps up."),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.lag, g.undecided, g.owned, g.halted, g.stuck, g.beyond} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	l := g.p.lane
	now := l.clock.Now()
	var all []prometheus.Metric // sent when mu is free: nobody knows when they are taken
	l.mu.Lock()
	for n, t := range l.owned {
		put := func(d *prometheus.Desc, v float64) {
			all = append(all, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label(n)))
		}
		put(g.owned, 1)
		halted := 0.0
		if t.Halted != "" {
			halted = 1
		}
		put(g.halted, halted)
		put(g.lag, float64(t.lag()))
		put(g.undecided, age(now, t.oldestUndecided()))
		put(g.stuck, age(now, l.status(n).Since))
		if keep := l.limits.Retention; keep > 0 {
			put(g.beyond, age(t.LogTime.Add(-keep), t.oldestKept))
		}
	}
	for n := range l.wanted {
		if l.owned[n] == nil { // it is not taken over, for which there may be a reason
			all = append(all, prometheus.MustNewConstMetric(g.stuck, prometheus.GaugeValue, age(now, l.status(n).Since), label(n)))
		}
	}
	l.mu.Unlock()
	for _, m := range all {
		out <- m
	}
}

func (t *tenure) lag() int64 { return max(0, t.high-t.NextOffset) }

// oldestUndecided is the time of the oldest record that waits, zero where none is known to. Of one that is not in hand the
// time is not known; that of the last one decided is the nearest below it.
func (t *tenure) oldestUndecided() time.Time {
	if t.oldest.IsZero() && t.lag() > 0 {
		return t.LogTime
	}
	return t.oldest
}

// age is in seconds, 0 for no time at all.
func age(now, at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, now.Sub(at).Seconds())
}
