package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/processor"
	"github.com/jackc/pgx/v5"
)

// The statements of Forget. A range of the primary key is compared as rows are, with the partition in front: so it is found
// through the index in every plan.
var (
	// forgettable locks the partition's row: no batch of it is committed meanwhile. What is still to be erased is not deleted
	// under the eraser's hands.
	forgettable = &statement{"forgettable", `
		SELECT p.log_time, p.published_through, EXISTS (SELECT FROM erasures e WHERE e.partition = p.partition AND e.done_at IS NULL)
		FROM partitions p
		WHERE p.topic = $1::text AND p.partition = $2::integer AND p.log_epoch = $3::bigint AND p.next_offset = $4::bigint
			AND p.writer_epoch = $5::bigint AND p.writer_id = $6::uuid
		FOR UPDATE OF p`}

	oldestRows = &statement{"oldest_rows", `
		SELECT d.log_epoch, d."offset", d.log_time
		FROM decisions d
		WHERE d.partition = $1::integer AND (d.partition, d.log_epoch, d."offset") >= ($1::integer, $2::integer, $3::bigint)
			AND (d.partition, d.log_epoch, d."offset") < ($1::integer, $4::integer, $5::bigint)
		ORDER BY d.partition, d.log_epoch, d."offset", d.seq
		LIMIT $6::bigint`}

	// repeated finds the first outcome that a duplicate publishes again which is not published yet. The partition is asked for by the
	// row: by the parameter, the planner goes through all of the partition instead of looking up the id.
	repeated = &statement{"repeated", `
		SELECT o.log_epoch, o."offset", o.log_time
		FROM (SELECT d.request_id, d.partition FROM decisions d
			WHERE d.partition = $1::integer AND d.log_epoch = $2::integer AND d."offset" >= $3::bigint AND d.kind = 'd' OFFSET 0) d
		CROSS JOIN LATERAL (
			SELECT o.log_epoch, o."offset", o.log_time FROM decisions o
			WHERE o.request_id = d.request_id AND o.partition = d.partition AND o.kind = 'o'
			LIMIT 1
		) o
		ORDER BY o.log_epoch, o."offset" LIMIT 1`}

	forget = &statement{"forget", `
		DELETE FROM decisions d
		WHERE d.partition = $1::integer AND (d.partition, d.log_epoch, d."offset") >= ($1::integer, $2::integer, $3::bigint)
			AND (d.partition, d.log_epoch, d."offset") < ($1::integer, $4::integer, $5::bigint) AND d.kind <> 'p'`}

	forgetLetters = &statement{"forget_letters", `
		DELETE FROM dead_letters x
		WHERE x.partition = $1::integer AND (x.partition, x.log_epoch, x."offset") >= ($1::integer, $2::integer, $3::bigint)
			AND (x.partition, x.log_epoch, x."offset") < ($1::integer, $4::integer, $5::bigint)`}
)

// place is a position of a partition, before which everything is forgotten or may be.
type place struct {
	logEpoch int32
	offset   int64
}

func (p place) before(o place) bool {
	return p.logEpoch < o.logEpoch || p.logEpoch == o.logEpoch && p.offset < o.offset
}

// farUntimed is how many rows are looked through at once for one that says its log time, behind those that may go now: of those
// that say none there may be many, as where a file was imported twice.
const farUntimed = 10_000

// Forget implements processor.Record.
func (r *Record) Forget(ctx context.Context, at processor.Fence, keep time.Duration, most int) (processor.Forgotten, error) {
	var f processor.Forgotten
	err := r.do(ctx, fmt.Sprintf("forget old decisions of partition %d", at.Partition), func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) (err error) {
			f, err = r.forgetIn(ctx, tx, at, keep, most)
			return err
		})
	})
	if err != nil {
		return processor.Forgotten{}, err
	}
	return f, nil
}

func (r *Record) forgetIn(ctx context.Context, tx pgx.Tx, at processor.Fence, keep time.Duration, most int) (f processor.Forgotten, err error) {
	var logTime *time.Time
	var published int64
	var erasing bool
	err = tx.QueryRow(ctx, forgettable.sql, r.cfg.Topic, at.Partition, at.LogEpoch, at.NextOffset, at.WriterEpoch, at.WriterID).Scan(&logTime, &published, &erasing)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, processor.ErrFenced
	}
	if err != nil || logTime == nil || most <= 0 {
		return f, err
	}
	from, err := r.forgotten(ctx, tx, at.Partition)
	if err != nil {
		return f, err
	}
	cut, err := r.cutAt(ctx, tx, at.Partition, from, place{int32(at.LogEpoch), published}, logTime.Add(-keep), most, &f)
	if err != nil || !from.before(cut.place) {
		return f, err
	}
	if erasing {
		f.More, f.Oldest = false, cut.oldest.UTC()
		return f, nil
	}
	var again cutting
	err = tx.QueryRow(ctx, repeated.sql, at.Partition, int32(at.LogEpoch), published).Scan(&again.logEpoch, &again.offset, &again.logTime)
	switch {
	case err == nil && again.before(cut.place):
		f.More, f.Oldest = false, again.logTime.UTC()
		if cut = again; !from.before(cut.place) { // until that is published
			return f, nil
		}
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return f, err
	}
	within := []any{at.Partition, from.logEpoch, from.offset, cut.logEpoch, cut.offset}
	tag, err := tx.Exec(ctx, forget.sql, within...)
	if err != nil {
		return f, err
	}
	f.Rows = int(tag.RowsAffected())
	if _, err := tx.Exec(ctx, forgetLetters.sql, within...); err != nil {
		return f, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO forgotten AS f (partition, log_epoch, "offset", log_time, rows) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (partition) DO UPDATE SET log_epoch = excluded.log_epoch, "offset" = excluded."offset", log_time = excluded.log_time, rows = f.rows + excluded.rows`,
		at.Partition, cut.logEpoch, cut.offset, cut.logTime, f.Rows)
	return f, err
}

// forgotten is before which place everything is gone.
func (r *Record) forgotten(ctx context.Context, tx pgx.Tx, partition int32) (p place, err error) {
	err = tx.QueryRow(ctx, `SELECT log_epoch, "offset" FROM forgotten WHERE partition = $1`, partition).Scan(&p.logEpoch, &p.offset)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, nil
	}
	return p, err
}

// cutting is where to cut, and the log time of the last that is cut off, or of what lies there or behind it.
type cutting struct {
	place
	logTime time.Time
	oldest  time.Time // of what is cut off
}

// cutAt finds the place behind the last of so many rows that is too old. Log time never goes back from one position to the next, so
// that what says none is no younger than the first that comes behind it.
func (r *Record) cutAt(ctx context.Context, tx pgx.Tx, partition int32, from, end place, before time.Time, most int, f *processor.Forgotten) (cutting, error) {
	cut := cutting{place: from}
	last, seen, err := oldestOf(ctx, tx, partition, from, end, most, func(p place, at time.Time) (enough bool) {
		if !at.Before(before) {
			f.Oldest = at.UTC()
			return true
		}
		if cut.oldest.IsZero() {
			cut.oldest = at
		}
		cut.place, cut.logTime = p, at
		return false
	})
	switch {
	case err != nil || seen < most || !f.Oldest.IsZero():
		return cut, err
	case !cut.oldest.IsZero():
		f.More, f.Oldest = true, cut.logTime.UTC()
		return cut, nil
	}
	// None of them says when it was. What is found out about those behind them is kept: to look there again for every few that
	// go would take the square of the time.
	var known cutting
	if k, ok := r.untimed.Load(partition); ok {
		known = k.(cutting)
	}
	if known.before(last) {
		known = cutting{place: last}
	}
	if known.logTime.IsZero() {
		if known.place, seen, err = oldestOf(ctx, tx, partition, known.place, end, farUntimed, func(_ place, at time.Time) bool {
			known.logTime = at
			return true
		}); err != nil {
			return cut, err
		}
		f.More = seen == farUntimed
		r.untimed.Store(partition, known)
	}
	switch {
	case known.logTime.IsZero():
		return cut, nil
	case known.logTime.Before(before):
		f.More, f.Oldest = true, known.logTime.UTC()
		return cutting{last, known.logTime, known.logTime}, nil
	}
	f.More, f.Oldest = false, known.logTime.UTC()
	return cut, nil
}

// oldestOf reads so many rows. It hands out the log times of those that say one, with the places behind them, until it is enough;
// and returns the place behind the last row, or that it was enough at.
func oldestOf(ctx context.Context, tx pgx.Tx, partition int32, from, end place, most int, timed func(behind place, at time.Time) (enough bool)) (last place, seen int, err error) {
	rows, _ := tx.Query(ctx, oldestRows.sql, partition, from.logEpoch, from.offset, end.logEpoch, end.offset, int64(most))
	last = from
	var p place
	var at *time.Time
	enough := false
	_, err = pgx.ForEachRow(rows, []any{&p.logEpoch, &p.offset, &at}, func() error {
		if seen++; enough {
			return nil
		}
		last = place{p.logEpoch, p.offset + 1}
		enough = at != nil && timed(last, *at)
		return nil
	})
	return last, seen, err
}
