package postgres

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/processor"
	"github.com/jackc/pgx/v5"
)

// unpublished reads the rows of a partition from an offset on. What a row publishes is its own outcome, or for a
// duplicate that of the row that decided its request, which may be of an earlier log.
var unpublished = &statement{"unpublished", `
	SELECT r."offset", r.seq, r.kind, r.request_id, r.principal, coalesce(r.raw, x.raw), x.reason,
		r.follow_key, r.follow_version, r.actor, r.why, r.owner, r.signup, ` + outcomeFields + `
	FROM decisions r
	LEFT JOIN LATERAL (
		SELECT r.* WHERE r.kind IN ('o', 'f', 's')
		UNION ALL (
			SELECT * FROM decisions o
			WHERE r.kind = 'd' AND o.request_id = r.request_id AND o.partition = r.partition AND o.kind = 'o'
			LIMIT 1
		)
	) d ON true
	LEFT JOIN LATERAL (
		SELECT * FROM dead_letters x
		WHERE r.kind = 'x' AND x.partition = r.partition AND x.log_epoch = r.log_epoch AND x."offset" = r."offset"
		LIMIT 1
	) x ON true
	WHERE r.partition = $1::integer AND r.log_epoch = $2::bigint AND r."offset" >= $3::bigint
	ORDER BY r.partition, r.log_epoch, r."offset", r.seq`}

// ownStanding counts the row of a partition if its writer is still the one who asks.
var ownStanding = &statement{"own_standing", `
	SELECT count(*) FROM partitions p
	WHERE p.topic = $1::text AND p.partition = $2::integer AND p.log_epoch = $3::bigint AND p.writer_epoch = $4::bigint AND p.writer_id = $5::uuid`}

// Unpublished implements processor.Record.
func (r *Record) Unpublished(ctx context.Context, at processor.Fence, from int64) ([]processor.Row, error) {
	var all []processor.Row
	partition, logEpoch := appendInt4(nil, at.Partition)[4:], appendInt8(nil, at.LogEpoch)[4:]
	err := r.do(ctx, fmt.Sprintf("read what partition %d has to publish", at.Partition), func(ctx context.Context, c *pgx.Conn) error {
		all = nil
		return pipeline(ctx, c,
			step{statement: beginSnapshot},
			step{ownStanding, [][]byte{[]byte(r.cfg.Topic), partition, logEpoch, appendInt8(nil, at.WriterEpoch)[4:], at.WriterID[:]}, func(f fields) error {
				if f.int8(0) != 1 {
					return processor.ErrFenced
				}
				return nil
			}},
			step{unpublished, [][]byte{partition, logEpoch, appendInt8(nil, from)[4:]}, func(f fields) error {
				row, err := readRow(f)
				all = append(all, row)
				return err
			}},
			step{statement: commit},
		)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func readRow(f fields) (row processor.Row, err error) {
	const own = 13 // fields of the row, before those of the outcome
	if err := f.must(own + outcomeWidth); err != nil {
		return row, err
	}
	row = processor.Row{Offset: f.int8(0), Seq: int(f.int2(1)), RequestID: f.uuid(3), Principal: f.text(4), Detail: f.text(6), Actor: f.text(9), Why: f.text(10)}
	if row.Kind, err = kinds.value(f.char(2)); err != nil {
		return row, err
	}
	switch row.Kind {
	case processor.KindDuplicate:
		if f[own] == nil {
			return row, fmt.Errorf("%w: the request that offset %d repeats has no outcome", processor.ErrConflict, row.Offset)
		}
		row.Outcome, err = readOutcome(f[own:])
	case processor.KindOutcome, processor.KindFact:
		row.Outcome, err = readOutcome(f[own:])
		row.FollowUp = readFollowUp(f[7], f[8], &row.Outcome)
	case processor.KindSent:
		row.Sent = readSent(f[own:], f[12])
	case processor.KindMark:
		row.Outcome.Owner = f.text(11)
	case processor.KindForwarded, processor.KindDead:
		if f[5] == nil {
			return row, nil
		}
		raw, err := readRaw(append([]byte(nil), f[5]...))
		if err != nil {
			return row, fmt.Errorf("offset %d: %w", row.Offset, err)
		}
		row.Raw = &raw
	}
	return row, err
}
