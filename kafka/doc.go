// Package kafka is how the topics claims, registrations and claims.dlq are written, read and owned by partition, on
// segmentio/kafka-go.
//
// It promises that a record is acknowledged by all in-sync replicas before anybody is told so, that the records of one
// partition keep their order over retries, that a record whose fate is unknown is never reported as not written, and
// that reading never passes over a data record: where the log is not what was expected, reading stops and says why.
//
// It refuses to decide anything: it knows neither names nor outcomes, takes no partition number from cached metadata,
// resets no offset, and reads no offset back from the consumer group.
//
// kafka-go gives connections (TLS, SASL, pools, versions), the frames of requests, the group protocol and the
// compression codecs. What it does not give (which leader is meant, whether a request was sent, what lies behind the
// last record of a batch) is done here: see exchange, metadata and recordbatch.
package kafka
