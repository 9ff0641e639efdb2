package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/dibs-hq/dibs/processor"
	kafkago "github.com/segmentio/kafka-go"
)

// ErrDenied says that the brokers answer, and turn us away: wrong credentials, a SASL mechanism or a version of the
// protocol that they don't have. Waiting does not mend it.
var ErrDenied = errors.New("the brokers turn us away")

// codeError is nil for code 0.
func codeError(code int16) error {
	if code == 0 {
		return nil
	}
	return kafkago.Error(code)
}

// class is what a failure means to a record that was to be written.
type class int

const (
	// notWritten: the broker did not append it; it may at the next attempt.
	notWritten class = iota
	// unclear: it may have been appended, or be appended yet.
	unclear
	// refused: it was not appended, nor will it be however often it is tried.
	refused
	// forbidden: it was not appended, and will not be until an operator changes something.
	forbidden
)

// classify says what a broker's answer to a produce request means for the records of that partition.
//
// NOT_LEADER is unclear: a leader that loses its office while it waits for its followers answers so too, and what it has
// appended may outlive it. The same goes for UNKNOWN_TOPIC_OR_PARTITION while a topic is deleted.
func classify(err error) class {
	var code kafkago.Error
	if !errors.As(err, &code) {
		return unclear
	}
	switch code {
	case kafkago.LeaderNotAvailable, kafkago.BrokerNotAvailable, kafkago.NotEnoughReplicas, kafkago.InvalidMessage,
		kafkago.FencedLeaderEpoch, kafkago.UnknownLeaderEpoch:
		return notWritten
	case kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge, kafkago.InvalidTimestamp, kafkago.InvalidRecord,
		kafkago.UnsupportedForMessageFormat, kafkago.UnsupportedCompressionType, kafkago.InvalidRequiredAcks,
		kafkago.InvalidTopic:
		return refused
	case kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed, kafkago.PolicyViolation,
		kafkago.SASLAuthenticationFailed, kafkago.SecurityDisabled:
		return forbidden
	}
	return unclear
}

// readError says what a broker's answer means to a reader: its offset or topic is gone, or somebody else should be
// asked.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kafkago.OffsetOutOfRange), errors.Is(err, kafkago.UnknownTopicOrPartition),
		errors.Is(err, kafkago.UnknownTopicID), errors.Is(err, kafkago.InconsistentTopicID):
		return fmt.Errorf("%w: %w", processor.ErrOutOfLog, err)
	}
	return fmt.Errorf("%w: %w", processor.ErrInterrupted, err)
}

// label is the bounded set of values that an error has as a metric's label.
func label(err error) string {
	var code kafkago.Error
	var network net.Error
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &code):
		return codeLabel(code)
	case errors.Is(err, errCorrupt):
		return "corrupt"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return "connection"
	}
	return "other"
}

func codeLabel(code kafkago.Error) string {
	switch code {
	case kafkago.NotLeaderForPartition, kafkago.LeaderNotAvailable, kafkago.BrokerNotAvailable,
		kafkago.FencedLeaderEpoch, kafkago.UnknownLeaderEpoch, kafkago.ReplicaNotAvailable, kafkago.OffsetNotAvailable:
		return "leader"
	case kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID, kafkago.InconsistentTopicID:
		return "unknown_topic"
	case kafkago.OffsetOutOfRange:
		return "out_of_range"
	case kafkago.RequestTimedOut:
		return "timeout"
	case kafkago.NotEnoughReplicas, kafkago.NotEnoughReplicasAfterAppend:
		return "replicas"
	case kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge:
		return "too_large"
	case kafkago.InvalidTimestamp:
		return "timestamp"
	case kafkago.InvalidMessage, kafkago.InvalidRecord, kafkago.UnsupportedForMessageFormat:
		return "invalid_record"
	case kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.SASLAuthenticationFailed:
		return "authorization"
	case kafkago.NotCoordinatorForGroup, kafkago.GroupCoordinatorNotAvailable, kafkago.GroupLoadInProgress:
		return "coordinator"
	case kafkago.RebalanceInProgress, kafkago.UnknownMemberId, kafkago.IllegalGeneration:
		return "rebalance"
	}
	return "broker"
}
