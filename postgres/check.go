package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// oldest is the oldest Postgres that is supported, as server_version_num says it.
const oldest = 140000

// ErrUnfit says that the database cannot be dibs' record, whoever connects and whenever.
var ErrUnfit = errors.New("the database will not do")

// Check makes sure that the record can be worked on, and returns what its operator should hear about how durable it is.
func (r *Record) Check(ctx context.Context) (warnings []string, err error) {
	err = r.do(ctx, "check the database", func(ctx context.Context, c *pgx.Conn) error {
		var version int
		var encoding, synchronousCommit, standbys, fsync, fullPageWrites string
		if err := c.QueryRow(ctx, `
			SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_setting('synchronous_commit'),
				current_setting('synchronous_standby_names'), current_setting('fsync'), current_setting('full_page_writes')`,
		).Scan(&version, &encoding, &synchronousCommit, &standbys, &fsync, &fullPageWrites); err != nil {
			return err
		}
		if version < oldest {
			return fmt.Errorf("%w: Postgres %d is too old: %d or newer is needed", ErrUnfit, version/10000, oldest/10000)
		}
		if encoding != "UTF8" {
			return fmt.Errorf("%w: it is encoded in %s: create it with ENCODING 'UTF8'", ErrUnfit, encoding)
		}
		warnings = nil
		if fsync == "off" {
			warnings = append(warnings, "fsync is off: a crash of the database's host may destroy the record")
		}
		if fullPageWrites == "off" {
			warnings = append(warnings, "full_page_writes is off: a crash of the database's host may destroy the record, unless its file system writes pages whole")
		}
		switch {
		case synchronousCommit == "off":
			warnings = append(warnings, "synchronous_commit is off: decisions that were published may be lost in a crash of the database, and are made again from the log")
		case standbys != "" && synchronousCommit == "local":
			warnings = append(warnings, "synchronous_commit is local: a fail-over to a standby may lose decisions that were published; they are made again from the log")
		}
		return nil
	})
	return warnings, err
}
