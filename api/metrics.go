package api

import (
	"github.com/dibs-hq/dibs/registrations"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// seconds are the buckets of everything that a caller waits for: 1 ms to 30 s.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

type claimerMetrics struct {
	received prometheus.Counter
	replays  prometheus.Counter
	timeouts prometheus.Counter
	endToEnd prometheus.Histogram
}

func newClaimerMetrics(reg prometheus.Registerer, waiter *registrations.Waiter) *claimerMetrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dibs_http_waiters",
		Help: "Tickets that wait for an outcome.",
	}, func() float64 { return float64(waiter.Counts().Waiting) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "dibs_waiter_lookups_total",
		Help: "Questions to Postgres for outcomes that did not come over Kafka.",
	}, func() float64 { return float64(waiter.Counts().LookUps) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "dibs_waiter_lookups_found_total",
		Help: "Tickets that got their outcome from Postgres instead of Kafka.",
	}, func() float64 { return float64(waiter.Counts().Found) })
	return &claimerMetrics{
		received: f.NewCounter(prometheus.CounterOpts{
			Name:        "dibs_claims_received_total",
			Help:        "Claims that came in.",
			ConstLabels: prometheus.Labels{"source": "http"},
		}),
		replays: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_claims_replayed_total",
			Help: "Claims that were answered with the outcome of an earlier request with the same id.",
		}),
		timeouts: f.NewCounter(prometheus.CounterOpts{
			Name: "dibs_wait_timeouts_total",
			Help: "Waits of claims for an outcome that ran out.",
		}),
		endToEnd: f.NewHistogram(prometheus.HistogramOpts{
			Name:                        "dibs_claim_end_to_end_seconds",
			Help:                        "Time from a claim's coming in to its outcome, of those that got one within their wait.",
			Buckets:                     seconds,
			NativeHistogramBucketFactor: 1.1,
		}),
	}
}

type serverMetrics struct {
	duration *prometheus.HistogramVec
	refusals *prometheus.CounterVec
}

func newServerMetrics(reg prometheus.Registerer) *serverMetrics {
	f := promauto.With(reg)
	return &serverMetrics{
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "dibs_http_request_duration_seconds",
			Help:                        "Time to answer a request.",
			Buckets:                     seconds,
			NativeHistogramBucketFactor: 1.1,
		}, []string{"route", "method", "code"}),
		refusals: f.NewCounterVec(prometheus.CounterOpts{
			Name: "dibs_http_refusals_total",
			Help: "Requests that the API refused by itself, by the reason of the problem.",
		}, []string{"reason"}),
	}
}
