package postgres

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/names"
	"github.com/jackc/pgx/v5"
)

const (
	entryFields = outcomeFields + `, d.principal, d.actor, d.why`
	entryWidth  = outcomeWidth + 3
)

// historyFirst finds the claim that made a name's first version by its id, for it is in no index by name: nearly every
// claim is the first and the last of its name, and would pay for an entry that nobody reads.
var historyFirst = &statement{"history_first", `
	SELECT ` + entryFields + `
	FROM (SELECT * FROM names n WHERE n.space = $1::text AND n.key IN ($2::text, $3::text) LIMIT 1) n
	CROSS JOIN LATERAL (
		SELECT * FROM decisions d
		WHERE d.request_id = coalesce(n.first_claim, n.claim_id) AND d.partition = n.partition AND d.kind = 'o'
		LIMIT 1
	) d
	WHERE d.space = $1::text AND d.key IN ($2::text, $3::text) AND d.version = 1 AND d.outcome = 'A'`}

// history reads what comes behind it, through an index that has it in order. A row that repeats a version (a
// confirmation that is repeated, a claim that was answered with what stands) comes behind the one that made it.
var history = &statement{"history", `
	SELECT DISTINCT ON (d.version) ` + entryFields + `
	FROM (
		(SELECT * FROM decisions d
		WHERE d.key = $2::text AND d.space = $1::text AND d.version >= $4::bigint
			AND d.state IS NOT NULL AND (d.version > 1 OR d.outcome <> 'A')
		ORDER BY d.version, d.log_epoch, d."offset", d.seq)
		UNION ALL
		(SELECT * FROM decisions d
		WHERE d.key = $3::text AND d.space = $1::text AND d.version >= $4::bigint
			AND d.state IS NOT NULL AND (d.version > 1 OR d.outcome <> 'A')
		ORDER BY d.version, d.log_epoch, d."offset", d.seq)
	) d
	ORDER BY d.version, d.log_epoch, d."offset", d.seq
	LIMIT $5::bigint`}

// History implements api.Lookup.
func (r *Record) History(ctx context.Context, ref names.Ref, from int64, limit int) ([]api.Entry, error) {
	if limit <= 0 {
		return nil, nil
	}
	var entries []api.Entry
	name := [][]byte{[]byte(ref.Space), []byte(ref.Key), nil}
	if r.cfg.Eraser != nil { // what was erased of it is kept under the other form
		name[2] = []byte(r.cfg.Eraser.Ref(ref).Key)
	}
	err := r.read(ctx, "read the history of a name", func(ctx context.Context, c *pgx.Conn) error {
		entries = nil
		add := func(f fields) error {
			if err := f.must(entryWidth); err != nil {
				return err
			}
			o, err := readOutcome(f[:outcomeWidth])
			if n := len(entries); err == nil && (n == 0 || entries[n-1].Version != o.Version) {
				entries = append(entries, api.Entry{Outcome: o, Principal: f.text(outcomeWidth), Actor: f.text(outcomeWidth + 1), Why: f.text(outcomeWidth + 2)})
			}
			return err
		}
		steps := []step{{statement: beginSnapshot}}
		if from <= 1 {
			steps = append(steps, step{historyFirst, name, add})
		}
		rest := append(name[:3:3], appendInt8(nil, from)[4:], appendInt8(nil, int64(limit))[4:])
		return pipeline(ctx, c, append(steps, step{history, rest, add}, step{statement: commit})...)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return entries[:min(limit, len(entries))], nil
}
