package postgres

import (
	"context"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/jackc/pgx/v5"
)

// due reads each partition's share through names_due, which has them in order.
var due = &statement{"due", `
	SELECT n.partition, n.space, n.key, n.claim_id, n.expires_at
	FROM (SELECT DISTINCT partition FROM unnest($1::integer[]) AS k (partition)) k
	CROSS JOIN LATERAL (
		SELECT * FROM names n
		WHERE n.partition = k.partition AND n.expires_at <= $2::timestamptz AND n.state IN ('s', 'c')
		ORDER BY n.partition, n.expires_at LIMIT $3::bigint
	) n
	ORDER BY n.expires_at LIMIT $3::bigint`}

var partitionColumns = []column[int32]{
	{"partition", oidInt4, "integer[]", func(b []byte, p *int32) []byte { return appendInt4(b, *p) }},
}

// Due implements processor.Record. The time is the caller's: what the server's clock says is of no consequence.
func (r *Record) Due(ctx context.Context, partitions []int32, at time.Time, most int) ([]processor.Due, error) {
	if most <= 0 || len(partitions) == 0 || at.IsZero() {
		return nil, nil
	}
	var all []processor.Due
	params := append(arrays(partitionColumns, partitions), appendTime(nil, at)[4:], appendInt8(nil, int64(most))[4:])
	err := r.read(ctx, "look for what has expired", func(ctx context.Context, c *pgx.Conn) error {
		all = nil
		return pipeline(ctx, c, step{due, params, func(f fields) error {
			if err := f.must(5); err != nil {
				return err
			}
			all = append(all, processor.Due{
				Partition: f.int4(0), Ref: names.Ref{Space: names.Space(f.text(1)), Key: names.Key(f.text(2))},
				ClaimID: f.uuid(3), ExpiresAt: f.time(4),
			})
			return nil
		}})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
