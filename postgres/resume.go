package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/processor"
	"github.com/jackc/pgx/v5"
)

// Why a partition is not resumed.
var (
	// ErrNoPartition: nobody ever owned a partition of this number.
	ErrNoPartition = errors.New("there is no such partition in the record")
	// ErrNotHalted: the partition is at work; there is nothing to accept.
	ErrNotHalted = errors.New("the partition is not halted")
	// ErrUnpublished: what was decided is not all published, and the new log's rows would hide it. Its processor does
	// that also while it is halted, or does it when it is started.
	ErrUnpublished = errors.New("the partition has outcomes that are not published yet")
)

// Resume lets a halted partition go on as it is: what halted it was put right. It is written down with who said so.
func (r *Record) Resume(ctx context.Context, partition int32, actor, reason string) (processor.Standing, error) {
	return r.resume(ctx, partition, actor, reason, func(s *processor.Standing) error { return nil })
}

// AcceptGap lets a halted partition go on although it has got another log, or lost a part of its own: at start, in the
// next log epoch. What lies between is given up, and written down with who accepted it.
func (r *Record) AcceptGap(ctx context.Context, partition int32, start int64, actor, reason string) (processor.Standing, error) {
	return r.resume(ctx, partition, actor, reason, func(s *processor.Standing) error {
		switch {
		case start < 0:
			return fmt.Errorf("offset %d is negative", start)
		case s.PublishedThrough != s.NextOffset:
			return fmt.Errorf("%w: through offset %d of %d", ErrUnpublished, s.PublishedThrough, s.NextOffset)
		}
		s.LogEpoch++
		s.NextOffset, s.PublishedThrough = start, start
		s.LastOffset, s.LastHash = -1, 0
		return nil // log time stays: it never goes back, whatever log it is of
	})
}

// resume takes the halt off a partition and fences its writer, who takes it over again.
func (r *Record) resume(ctx context.Context, partition int32, actor, reason string, change func(*processor.Standing) error) (s processor.Standing, err error) {
	// The first look at a policy checks its tables, which takes a process a while: not while the row is locked.
	if _, err := r.Standings(ctx, []int32{partition}); err != nil {
		return s, fmt.Errorf("resume partition %d: %w", partition, err)
	}
	err = r.do(ctx, fmt.Sprintf("resume partition %d", partition), func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, `SELECT `+standingFields+` FROM partitions p WHERE p.topic = $1 AND p.partition = $2 FOR UPDATE`, r.cfg.Topic, partition)
			was, err := pgx.CollectExactlyOneRow(rows, r.scanStanding)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return ErrNoPartition
			case err != nil:
				return err
			case was.Halted == "":
				return ErrNotHalted
			}
			s = was
			if err := change(&s); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `
				INSERT INTO gaps (topic, partition, from_epoch, to_epoch, from_offset, to_offset, halted, actor, reason)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
				r.cfg.Topic, partition, was.LogEpoch, s.LogEpoch, was.NextOffset, s.NextOffset, was.Halted, actor, reason); err != nil {
				return err
			}
			rows, _ = tx.Query(ctx, `
				UPDATE partitions p SET log_epoch = $3, next_offset = $4, published_through = $5, last_record_offset = $6,
					last_record_hash = $7, writer_epoch = writer_epoch + 1, halted = NULL
				WHERE p.topic = $1 AND p.partition = $2 RETURNING `+standingFields,
				r.cfg.Topic, partition, s.LogEpoch, s.NextOffset, s.PublishedThrough, s.LastOffset, int64(s.LastHash))
			s, err = pgx.CollectExactlyOneRow(rows, r.scanStanding)
			return err
		})
	})
	return s, err
}
