package peers

import (
	"context"
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/bench"
	"github.com/jackc/pgx/v5"
)

// version reads a name's version and owner, and writes only where the version is still the same: nobody waits for
// anybody, and who comes second reads again.
type version struct {
	*table
	look, write string
}

func openVersion(ctx context.Context, o *opening) (bench.Peer, error) {
	t, err := openTable(ctx, o, columns+", version bigint NOT NULL")
	if err != nil {
		return nil, err
	}
	return &version{
		table: t, look: "SELECT owner, version FROM " + t.name + " WHERE key = lower($1)",
		write: "INSERT INTO " + t.name + " AS u (key, name, owner, version) VALUES (lower($1), $1, $2, 1)" +
			" ON CONFLICT (key) DO UPDATE SET name = $1, owner = $2, version = u.version + 1 WHERE u.version = $3",
	}, nil
}

// Name implements bench.Peer.
func (*version) Name() string { return VersionName }

// Claim implements bench.Peer.
func (v *version) Claim(ctx context.Context, name, owner string) (bool, error) {
	for {
		var holder string
		var seen int64
		err := v.pool.QueryRow(ctx, v.look, name).Scan(&holder, &seen)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return false, fmt.Errorf("look up: %w", err)
		}
		if holder != "" {
			return false, nil
		}
		tag, err := v.pool.Exec(ctx, v.write, name, owner, seen)
		if err != nil {
			return false, fmt.Errorf("write at version %d: %w", seen, err)
		}
		if tag.RowsAffected() == 1 {
			return true, nil
		}
	}
}
