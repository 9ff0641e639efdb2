package postgres

import (
	"context"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/names"
	"github.com/jackc/pgx/v5"
)

// ownedNames reads all that one owner holds and sorts it: an index in this order would cost every claim more than the
// few that hold many names are worth.
var ownedNames = &statement{"owned_names", `
	SELECT n.space, n.key, ` + holdingFields + `
	FROM (SELECT * FROM names n WHERE n.owner = $1::text OFFSET 0) n
	WHERE n.space <> 'signup' AND (n.space, n.key) > ($2::text, $3::text) AND ($5::text[] IS NULL OR n.space = ANY ($5::text[]))
	ORDER BY n.space, n.key
	LIMIT $4::bigint`}

var spaceColumn = column[string]{"space", oidText, "text[]", func(b []byte, s *string) []byte { return appendText(b, *s) }}

// ByOwner implements api.Lookup. A reservation may be over by now; that is for the reader's clock to say.
func (r *Record) ByOwner(ctx context.Context, owner string, within []string, limit int, after names.Ref) ([]api.Owned, error) {
	if limit <= 0 || owner == "" {
		return nil, nil
	}
	var all []api.Owned
	var spaces []byte // null: all
	if within != nil {
		spaces = appendArray(nil, &spaceColumn, within)
	}
	params := [][]byte{[]byte(owner), []byte(after.Space), []byte(after.Key), appendInt8(nil, int64(limit))[4:], spaces}
	err := r.read(ctx, "look up an owner's names", func(ctx context.Context, c *pgx.Conn) error {
		all = nil
		return pipeline(ctx, c, step{ownedNames, params, func(f fields) error {
			if err := f.must(2 + holdingWidth); err != nil {
				return err
			}
			ref := names.Ref{Space: names.Space(f.text(0)), Key: names.Key(f.text(1))}
			h, err := readHolding(f[2:], string(ref.Key))
			all = append(all, api.Owned{Ref: ref, Holding: h})
			return err
		}})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
