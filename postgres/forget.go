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

// mostUntimed is in how many rows one is looked for that says its log time: of those that say none, there may be many.
const mostUntimed = 100_000

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
	end := place{int32(at.LogEpoch), published}
	if erasing {
		end = from
	}
	cut, err := cutAt(ctx, tx, at.Partition, from, end, logTime.Add(-keep), most, &f)
	if err != nil || !from.before(cut.place) {
		return f, err
	}
	var again cutting
	err = tx.QueryRow(ctx, repeated.sql, at.Partition, int32(at.LogEpoch), published).Scan(&again.logEpoch, &again.offset, &again.logTime)
	switch {
	case err == nil && again.before(cut.place):
		if cut, f.More = again, false; !from.before(cut.place) { // until that is published
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

// cutting is where to cut, and the log time of the last that is cut off, or of what lies there.
type cutting struct {
	place
	logTime time.Time
}

// cutAt finds the place behind the last record that is too old, looking at so many rows. Log time never goes back from one
// position to the next, so that what says none is older than the first that comes behind it.
func cutAt(ctx context.Context, tx pgx.Tx, partition int32, from, end place, before time.Time, most int, f *processor.Forgotten) (cutting, error) {
	cut := cutting{place: from}
	for limit := most; ; limit *= 10 {
		rows, _ := tx.Query(ctx, oldestRows.sql, partition, from.logEpoch, from.offset, end.logEpoch, end.offset, int64(limit))
		var p place
		var at *time.Time
		seen, timed := 0, false
		f.Oldest = time.Time{}
		_, err := pgx.ForEachRow(rows, []any{&p.logEpoch, &p.offset, &at}, func() error {
			seen++
			if at == nil || !f.Oldest.IsZero() {
				return nil
			}
			if timed = true; at.Before(before) {
				cut = cutting{place{p.logEpoch, p.offset + 1}, *at}
			} else {
				f.Oldest = at.UTC()
			}
			return nil
		})
		if err != nil || timed || seen < limit || limit >= mostUntimed {
			f.More = timed && seen == limit && f.Oldest.IsZero()
			if f.More {
				f.Oldest = cut.logTime.UTC()
			}
			return cut, err
		}
	}
}
