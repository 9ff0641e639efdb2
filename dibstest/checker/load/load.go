// Package load reads a history for package checker from a real Kafka and a real Postgres: every record of the three
// topics, and the tables.
//
// Like the checker it shares no code with what is judged: the SQL is its own, written from the schema, and records are
// fetched partition by partition with kafka-go's client. It only reads. Take a history when nothing is being written,
// or set History.Running.
package load

import (
	"context"
	"slices"

	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/segmentio/kafka-go"
)

// Config says where a deployment is. Everything is required.
type Config struct {
	// Kafka is a client of the brokers.
	Kafka *kafka.Client
	// Claims, Registrations and DeadLetters are the full names of the topics.
	Claims, Registrations, DeadLetters string
	// DSN and Schema lead to the tables.
	DSN, Schema string
	// Secrets are those of the keys that privileged requests are signed with, by key id.
	Secrets map[string][]byte
	// Erasure is the secret that is kept of erased names; nil where nobody is erased.
	Erasure []byte
}

// History reads everything but what clients were told.
//
// Where an operator has accepted a gap the records of the former log are gone, and the decisions about them are taken on
// trust. So are those of a partition that is halted: the log that is there may be another.
func History(ctx context.Context, cfg Config) (checker.History, error) {
	h := checker.History{Topic: cfg.Claims, Secrets: cfg.Secrets, ErasureSecret: cfg.Erasure}
	// The topics first: what is decided and published meanwhile is then at worst unknown to the tables' history, not the
	// other way round.
	claims, err := readTopic(ctx, cfg.Kafka, cfg.Claims)
	if err != nil {
		return h, err
	}
	rows, err := readTables(ctx, cfg)
	if err != nil {
		return h, err
	}
	h.Partitions, h.Decisions, h.Names, h.Progress = rows.partitions, rows.decisions, rows.names, rows.progress
	for _, log := range claims {
		h.Logs = append(h.Logs, rows.logs(log)...)
		epoch := rows.row(log.partition).LogEpoch
		for _, r := range log.records {
			r.LogEpoch = epoch
			h.Claims = append(h.Claims, r)
		}
	}
	for topic, to := range map[string]*[]checker.Record{cfg.Registrations: &h.Registrations, cfg.DeadLetters: &h.DeadLetters} {
		logs, err := readTopic(ctx, cfg.Kafka, topic)
		if err != nil {
			return h, err
		}
		for _, log := range logs {
			*to = append(*to, log.records...)
		}
	}
	return h, nil
}

// row is how far a partition is; one that was never owned is at the start of its first log.
func (t *tables) row(partition int32) checker.Progress {
	if i := slices.IndexFunc(t.progress, func(p checker.Progress) bool { return p.Partition == partition }); i >= 0 {
		return t.progress[i]
	}
	return checker.Progress{Partition: partition, LogEpoch: 1}
}

// logs says what of a partition there is to be judged.
func (t *tables) logs(l topicLog) []checker.Log {
	row := t.row(l.partition)
	is := checker.Log{Partition: l.partition, LogEpoch: row.LogEpoch, Start: l.start, End: l.end}
	var all []checker.Log
	for _, g := range t.gaps {
		if g.partition != l.partition || g.fromEpoch == g.toEpoch { // the latter went on as it was
			continue
		}
		all = append(all, checker.Log{Partition: l.partition, LogEpoch: g.fromEpoch, Start: g.fromOffset, End: g.fromOffset})
		if g.toEpoch == row.LogEpoch {
			is.Start = max(is.Start, g.toOffset)
		}
	}
	if row.Halted != "" {
		is.Start, is.End = row.NextOffset, max(l.end, row.NextOffset)
	}
	return append(all, is)
}
