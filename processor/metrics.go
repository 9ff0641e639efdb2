package processor

import (
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what an operator asks of a processor. No label holds a name or an owner.
type metrics struct {
	received       prometheus.Counter
	rows           *prometheus.CounterVec
	decidedBy      *prometheus.CounterVec
	followUps      *prometheus.CounterVec
	commitSeconds  prometheus.Histogram
	batchRecords   prometheus.Histogram
	publishSeconds prometheus.Histogram
	published      prometheus.Counter
	takeOvers      prometheus.Counter
	takeOverTime   prometheus.Histogram
	republished    prometheus.Counter
	fenced         prometheus.Counter
	troubles       *prometheus.CounterVec
	refusedLetters prometheus.Counter
	forgotten      prometheus.Counter
}

// buckets reach from 1 ms to 30 s.
var buckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: 1.1})
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		received:       counter("dibs_records_read_total", "Records read from the topic claims."),
		rows:           counters("dibs_rows_total", "Rows that records left, by kind: outcome, fact, duplicate, forwarded (misrouted: mend that producer's partitioner), dead, mark, policy.", "kind"),
		decidedBy:      counters("dibs_claims_decided_total", "Outcomes of requests; the reason is empty but for rejections.", "outcome", "reason"),
		followUps:      counters("dibs_follow_ups_total", "Releases of names that were given up for another one; where one is rejected, or a dead letter, its owner has both.", "outcome"),
		commitSeconds:  histogram("dibs_commit_duration_seconds", "Time that the transaction of one batch took.", buckets),
		batchRecords:   histogram("dibs_batch_rows", "Rows committed in one transaction.", prometheus.ExponentialBuckets(1, 4, 8)),
		publishSeconds: histogram("dibs_publish_duration_seconds", "Time until one lot of outputs was acknowledged.", buckets),
		published:      counter("dibs_outputs_published_total", "Outputs acknowledged by the brokers."),
		takeOvers:      counter("dibs_takeovers_total", "Partitions taken over."),
		takeOverTime:   histogram("dibs_takeover_duration_seconds", "Time from the start of a take-over until the row was ours.", buckets),
		republished:    counter("dibs_republished_rows_total", "Rows whose outputs were published again at a take-over."),
		fenced:         counter("dibs_fenced_total", "Partitions lost because another writer had changed the row."),
		troubles:       counters("dibs_troubles_total", "Calls that failed and are tried again, by what was called and the class of the error.", "of", "class"),
		refusedLetters: counter("dibs_dead_letters_refused_total", "Dead letters that their topic refused; they are kept in Postgres only."),
		forgotten:      counter("dibs_decisions_forgotten_total", "Rows of decisions that were deleted because they were older than processor.decisions_retention."),
	}
	for _, outcome := range []string{followedUp, notFollowedUp, deadFollowUp} { // from the start, so that the first one shows as a rise
		m.followUps.WithLabelValues(outcome)
	}
	return m
}

// What became of a follow-up.
const (
	followedUp    = "released"
	notFollowedUp = "rejected"
	deadFollowUp  = "dead"
)

// followed says what became of a release that a processor has asked for; it is empty for any other row. Nobody else's
// outcomes have an id of version 8. A dead letter may: it counts if it is signed with one of the keys, holding or not.
func (r *Row) followed(keys claims.Keys) string {
	switch {
	case r.RequestID.Version() != 8:
		return ""
	case r.Kind == KindDead:
		kind, _ := r.Raw.Header(cloudevents.Type)
		principal, _ := r.Raw.Header(cloudevents.Principal)
		if string(kind) == claims.TypeReleaseRequested && string(principal) == claims.Principal && keys.Signed(*r.Raw) {
			return deadFollowUp
		}
		return ""
	case r.Kind != KindOutcome || r.Outcome.Request != claims.ShortType(claims.TypeReleaseRequested):
		return ""
	case r.Outcome.Type == registrations.Rejected:
		return notFollowedUp
	}
	return followedUp
}

func label(p int32) string { return strconv.Itoa(int(p)) }

func (m *metrics) tookOver(d time.Duration, rows int) {
	m.takeOvers.Inc()
	m.takeOverTime.Observe(d.Seconds())
	m.republished.Add(float64(rows))
}

func (m *metrics) commit(d time.Duration, batches []Batch) {
	m.commitSeconds.Observe(d.Seconds())
	n := 0
	for i := range batches {
		n += len(batches[i].Rows)
	}
	m.batchRecords.Observe(float64(n))
}

// decided counts a batch's rows; keys are all that this process has. Looking a counter up by its labels costs more than
// deciding, so it is done per batch.
func (m *metrics) decided(b Batch, keys claims.Keys) {
	type answer struct {
		outcome registrations.Type
		reason  registrations.Reason
	}
	kinds, answers := make(map[Kind]int, 4), make(map[answer]int, 4)
	for i := range b.Rows {
		row := &b.Rows[i]
		kinds[row.Kind]++
		if row.Kind == KindOutcome {
			answers[answer{row.Outcome.Type, row.Outcome.Reason}]++
		}
		if outcome := row.followed(keys); outcome != "" {
			m.followUps.WithLabelValues(outcome).Inc()
		}
	}
	for kind, n := range kinds {
		m.rows.WithLabelValues(string(kind)).Add(float64(n))
	}
	for a, n := range answers {
		m.decidedBy.WithLabelValues(string(a.outcome), string(a.reason)).Add(float64(n))
	}
}

func (m *metrics) publish(d time.Duration, acknowledged int) {
	m.publishSeconds.Observe(d.Seconds())
	m.published.Add(float64(acknowledged))
}

// trouble counts a failed call. The class is bounded: a sentinel's or "other".
func (m *metrics) trouble(of string, err error) { m.troubles.WithLabelValues(of, class(err)).Inc() }
