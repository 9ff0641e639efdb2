package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// standingFields are what scanStanding reads.
const standingFields = placeFields + `, ` + hashOfPolicies + `, p.policies::text`

const placeFields = `p.partition, p.log_epoch, p.next_offset, p.writer_epoch, p.writer_id, p.log_time,
	p.last_record_offset, p.last_record_hash, p.published_through, coalesce(p.halted, '')`

func (r *Record) scanStanding(row pgx.CollectableRow) (processor.Standing, error) {
	return r.scanKnown(row, nil)
}

// scanKnown reads placeFields, the hash of the policies, and their text, which may be left out where they are known.
func (r *Record) scanKnown(row pgx.CollectableRow, known map[string]*processor.InForce) (s processor.Standing, err error) {
	var logTime *time.Time
	var hashed []byte
	var policies *string
	var hash int64
	var writer [16]byte
	err = row.Scan(&s.Partition, &s.LogEpoch, &s.NextOffset, &s.WriterEpoch, &writer, &logTime,
		&s.LastOffset, &hash, &s.PublishedThrough, &s.Halted, &hashed, &policies)
	if err != nil {
		return s, err
	}
	if policies != nil {
		s.InForce = r.inForce.read(hashed, *policies)
	} else if hashed != nil {
		s.InForce = known[string(hashed)]
	}
	s.WriterID, s.LastHash = writer, uint32(hash)
	if logTime != nil {
		s.LogTime = logTime.UTC()
	}
	return s, nil
}

// Acquire implements processor.Record.
func (r *Record) Acquire(ctx context.Context, partition int32, writer uuid.UUID) (processor.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	for {
		s, err := r.tryAcquire(ctx, partition, writer)
		if err == nil || !hasState(err, "55P03") || ctx.Err() != nil {
			return s, err
		}
		// The row was locked for as long as we wait for a lock: see who holds it.
		if err := r.evict(ctx, partition); err != nil {
			return s, err
		}
	}
}

func (r *Record) tryAcquire(ctx context.Context, partition int32, writer uuid.UUID) (s processor.Standing, err error) {
	err = r.do(ctx, fmt.Sprintf("take over partition %d", partition), func(ctx context.Context, c *pgx.Conn) error {
		rows, _ := c.Query(ctx, `
			INSERT INTO partitions AS p (topic, partition, writer_epoch, writer_id) VALUES ($1, $2, 1, $3)
			ON CONFLICT (topic, partition) DO UPDATE SET writer_epoch = p.writer_epoch + 1, writer_id = excluded.writer_id
			RETURNING `+standingFields, r.cfg.Topic, partition, [16]byte(writer))
		if s, err = pgx.CollectExactlyOneRow(rows, r.scanStanding); err != nil {
			return err
		}
		return r.learnErasures(ctx, c, partition)
	})
	return s, err
}

// evict ends the connection that holds the partition's row locked while the server waits for its client: a writer that
// was paused, or whose host is gone, in the middle of a transaction. No timeout of Postgres ends a COPY whose client is
// silent, nor a transaction whose next statement is still on its way. The former writer's fence is about to fail in any
// case; to it, this is a lost connection. A writer that Postgres is working for is left alone.
func (r *Record) evict(ctx context.Context, partition int32) error {
	return r.do(ctx, fmt.Sprintf("evict the writer of partition %d", partition), func(ctx context.Context, c *pgx.Conn) error {
		rows, _ := c.Query(ctx, `
			SELECT a.pid, a.application_name, pg_terminate_backend(a.pid)
			FROM partitions p JOIN pg_stat_activity a ON a.backend_xid = p.xmax
			WHERE p.topic = $1 AND p.partition = $2 AND a.wait_event_type = 'Client' AND a.pid <> pg_backend_pid()`,
			r.cfg.Topic, partition)
		var pid int32
		var application string
		var ended bool
		_, err := pgx.ForEachRow(rows, []any{&pid, &application, &ended}, func() error {
			r.log.WarnContext(ctx, "ended the connection of a writer that kept its partition locked and was silent",
				"partition", partition, "pid", pid, "application", application)
			return nil
		})
		if hasState(err, "42501") { // it belongs to another role: wait on
			return nil
		}
		return err
	})
}

// Standings implements processor.Record.
func (r *Record) Standings(ctx context.Context, partitions []int32) ([]processor.Standing, error) {
	return r.standings(ctx, `p.partition = ANY ($3)`, partitions)
}

// All returns the rows of all partitions, in order: what `dibs partitions` shows.
func (r *Record) All(ctx context.Context) ([]processor.Standing, error) {
	return r.standings(ctx, `true`)
}

func (r *Record) standings(ctx context.Context, where string, args ...any) (all []processor.Standing, err error) {
	known, hashes := r.inForce.known()
	err = r.do(ctx, "read partitions", func(ctx context.Context, c *pgx.Conn) error {
		// OFFSET 0: the hash is made once.
		rows, _ := c.Query(ctx, `
			SELECT `+placeFields+`, p.hash, CASE WHEN p.hash = ANY ($2::bytea[]) THEN NULL ELSE p.policies::text END
			FROM (SELECT p.*, `+hashOfPolicies+` AS hash FROM partitions p WHERE p.topic = $1 AND `+where+` OFFSET 0) p
			ORDER BY p.partition`, append([]any{r.cfg.Topic, hashes}, args...)...)
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (processor.Standing, error) { return r.scanKnown(row, known) })
		return err
	})
	return all, err
}

// Partitions implements api.Lookup.
func (r *Record) Partitions(ctx context.Context) ([]api.Partition, error) {
	all, err := r.All(ctx)
	if err != nil {
		return nil, err
	}
	partitions := make([]api.Partition, len(all))
	for i, s := range all {
		partitions[i] = api.Partition{Partition: s.Partition, LogEpoch: s.LogEpoch, NextOffset: s.NextOffset, Halted: s.Halted}
		if f := s.InForce; f != nil {
			partitions[i].Policies, partitions[i].Keys, partitions[i].Rules = f.Policies, f.Keys, f.Rules
		}
	}
	return partitions, nil
}

var publishedThrough = &statement{"published", `SELECT published($1::text, $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[], $6::bigint[])`}

// asynchronous: to lose this is to publish a little more once more, and nobody waits for a disk meanwhile, nor for long for
// rows that we hold while we wait for one that somebody else has locked.
var asynchronous = &statement{"asynchronous", `SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '50ms', true)`}

var cursorColumns = []column[processor.Cursor]{
	{"partition", oidInt4, "integer[]", func(b []byte, c *processor.Cursor) []byte { return appendInt4(b, c.Partition) }},
	{"log_epoch", oidInt8, "bigint[]", func(b []byte, c *processor.Cursor) []byte { return appendInt8(b, c.LogEpoch) }},
	{"writer_epoch", oidInt8, "bigint[]", func(b []byte, c *processor.Cursor) []byte { return appendInt8(b, c.WriterEpoch) }},
	{"writer_id", oidUUID, "uuid[]", func(b []byte, c *processor.Cursor) []byte { return appendUUID(b, c.WriterID) }},
	{"through", oidInt8, "bigint[]", func(b []byte, c *processor.Cursor) []byte { return appendInt8(b, c.Through) }},
}

// Published implements processor.Record.
func (r *Record) Published(ctx context.Context, cursors []processor.Cursor) error {
	if len(cursors) == 0 {
		return nil
	}
	cursors = slices.Clone(cursors)
	slices.SortStableFunc(cursors, func(a, b processor.Cursor) int { return cmp.Compare(a.Partition, b.Partition) })
	params := append([][]byte{[]byte(r.cfg.Topic)}, arrays(cursorColumns, cursors)...)
	return r.do(ctx, "move published_through", func(ctx context.Context, c *pgx.Conn) error {
		return pipeline(ctx, c, step{statement: asynchronous}, step{publishedThrough, params, nil})
	})
}

// Halt implements processor.Record.
func (r *Record) Halt(ctx context.Context, at processor.Fence, reason string) error {
	reason = storable(reason)
	if strings.TrimSpace(reason) == "" {
		reason = "halted without a reason"
	}
	return r.do(ctx, fmt.Sprintf("halt partition %d", at.Partition), func(ctx context.Context, c *pgx.Conn) error {
		tag, err := c.Exec(ctx, `
			UPDATE partitions SET halted = $7
			WHERE topic = $1 AND partition = $2 AND log_epoch = $3 AND next_offset = $4 AND writer_epoch = $5 AND writer_id = $6`,
			r.cfg.Topic, at.Partition, at.LogEpoch, at.NextOffset, at.WriterEpoch, [16]byte(at.WriterID), reason)
		if err == nil && tag.RowsAffected() == 0 {
			return processor.ErrFenced
		}
		return err
	})
}
