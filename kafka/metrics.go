package kafka

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics is what an operator sees of the brokers from here. No label carries a name.
type metrics struct {
	errors   *prometheus.CounterVec // by operation and class of error
	requests *prometheus.HistogramVec

	produced      *prometheus.CounterVec // by topic
	producedBytes *prometheus.CounterVec
	retried       prometheus.Counter
	refused       prometheus.Counter
	queued        *prometheus.GaugeVec // by who waits
	queuedBytes   *prometheus.GaugeVec

	fetched      *prometheus.CounterVec // by topic
	fetchedBytes *prometheus.CounterVec
	interrupted  *prometheus.CounterVec // by topic

	assigned    prometheus.Gauge
	generations prometheus.Counter

	tailBehind prometheus.Gauge
	tailJumps  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_kafka_errors_total",
			Help: "Failures in talking to the brokers, by what was tried and what went wrong. Each was tried again unless it says refused.",
		}, []string{"operation", "class"}),
		requests: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "dibs_kafka_request_duration_seconds",
			Help:                        "How long a request took that was answered, by what was asked. A fetch waits for records.",
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"operation"}),
		produced: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_kafka_produced_records_total", Help: "Records acknowledged by all in-sync replicas, by topic.",
		}, []string{"topic"}),
		producedBytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_kafka_produced_bytes_total", Help: "Bytes of acknowledged batches, by topic.",
		}, []string{"topic"}),
		retried: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_kafka_produce_retries_total", Help: "Records that were sent once more after a failure.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_kafka_produce_refused_total", Help: "Records that the broker will never take.",
		}),
		queued: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dibs_kafka_produce_queue_records", Help: "Records that wait for the broker's answer, by who waits: api or processor.",
		}, []string{"caller"}),
		queuedBytes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dibs_kafka_produce_queue_bytes", Help: "Bytes of the records that wait for the broker's answer, by who waits.",
		}, []string{"caller"}),
		fetched: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_kafka_fetched_records_total", Help: "Records read, by topic.",
		}, []string{"topic"}),
		fetchedBytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_kafka_fetched_bytes_total", Help: "Bytes of fetch answers, by topic.",
		}, []string{"topic"}),
		interrupted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_kafka_read_interruptions_total",
			Help: "How often the reading of a partition stopped, by topic and reason: interrupted or out_of_log.",
		}, []string{"topic", "reason"}),
		assigned: f.NewGauge(prometheus.GaugeOpts{
			Name: "dibs_kafka_assigned_partitions", Help: "Partitions that the consumer group gives to this process.",
		}),
		generations: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_rebalances_total", Help: "Generations of the consumer group that this process was in.",
		}),
		tailBehind: f.NewGauge(prometheus.GaugeOpts{
			Name: "dibs_tail_behind_records", Help: "Records of registrations that are on the topic and not read here yet, as of the last answer.",
		}),
		tailJumps: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_tail_jumps_total", Help: "How often the tail of registrations lost its place in a partition and went on at its end.",
		}),
	}
}

// failed counts an error.
func (m *metrics) failed(operation string, err error) {
	if err != nil {
		m.errors.WithLabelValues(operation, label(err)).Inc()
	}
}
