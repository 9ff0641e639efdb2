package postgres

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/jackc/pgx/v5"
)

// The rows that a sequel is read from.
const (
	rowOfClaim   = 1 // the claim's own
	rowBehind    = 2 // the first that did more to the name than extend it: perhaps its confirmation
	rowOfEnd     = 3 // the first that ended what the claim had: perhaps its withdrawal
	rowOfRelease = 4 // what became of the name that it gave up
)

// sequel needs no index of its own, which every claim would pay for. What ends a claim's hold raises the version and is in
// the history of its name, and the first row there that does is it: what comes behind is about another holder. Whatever
// a claim gives up, its own row says so, or that of the confirmation; and the release has an id that is derived.
var sequel = &statement{"sequel", `
	SELECT d.what, ` + outcomeFields + `, d.follow_key, d.follow_version
	FROM (
		(SELECT 1 AS what, d.* FROM decisions d WHERE d.request_id = $1::uuid AND d.partition = $2::integer AND d.kind = 'o' LIMIT 1)
		UNION ALL
		(SELECT 2, d.* FROM decisions d
			WHERE d.key = $4::text AND d.space = $3::text AND d.version >= $5::bigint
				AND d.state IS NOT NULL AND (d.version > 1 OR d.outcome <> 'A') AND d.outcome <> 'A' AND d.outcome <> 'X'
			ORDER BY d.version, d.log_epoch, d."offset", d.seq LIMIT 1)
		UNION ALL
		(SELECT 3, d.* FROM decisions d
			WHERE d.key = $4::text AND d.space = $3::text AND d.version >= $5::bigint
				AND d.state IS NOT NULL AND (d.version > 1 OR d.outcome <> 'A') AND d.outcome <> 'A' AND d.outcome <> 'X' AND d.outcome <> 'C'
			ORDER BY d.version, d.log_epoch, d."offset", d.seq LIMIT 1)
		UNION ALL
		(SELECT 4, d.* FROM decisions d WHERE d.request_id = $6::uuid AND d.kind = 'o' OFFSET 0)
	) d`}

// Sequel implements api.Lookup.
func (r *Record) Sequel(ctx context.Context, of registrations.Outcome) (api.Sequel, error) {
	var found api.Sequel
	if of.Erased { // what it gave up, and what became of that, is wiped too
		return found, nil
	}
	claim, release := of.ClaimID, claims.ReleaseID(of.ClaimID, of.Ref)
	params := [][]byte{
		claim[:], appendInt4(nil, of.Partition)[4:], []byte(of.Ref.Space), []byte(of.Ref.Key), appendInt8(nil, of.Version)[4:], release[:],
	}
	err := r.read(ctx, "look up what a claim led to", func(ctx context.Context, c *pgx.Conn) error {
		found = api.Sequel{}
		var released *registrations.Outcome
		err := pipeline(ctx, c, step{sequel, params, func(f fields) error {
			const follow = 1 + outcomeWidth
			if err := f.must(follow + 2); err != nil {
				return err
			}
			o, err := readOutcome(f[1:follow])
			if err != nil {
				return err
			}
			switch what := f.int4(0); {
			case what == rowOfRelease:
				released = &o
			case o.ClaimID != claim: // another holder, whatever is missing in between
			case what == rowOfEnd:
				if o.Type == registrations.Withdrawn {
					found.Withdrawal = &o
				}
			case f[follow] != nil && (what == rowOfClaim || what == rowBehind):
				follows := readFollowUp(f[follow], f[follow+1], &o)
				found.FollowUp = &api.GivenUp{Ref: follows.Ref, Version: follows.Version, Request: release}
			}
			return nil
		}})
		if found.FollowUp != nil {
			found.FollowUp.Outcome = released
		}
		return err
	})
	if err != nil {
		return api.Sequel{}, fmt.Errorf("%s: %w", of.RequestID, err)
	}
	return found, nil
}
