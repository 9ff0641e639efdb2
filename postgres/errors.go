package postgres

import (
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/processor"
	"github.com/jackc/pgx/v5/pgconn"
)

// The states that functions of ours raise, in a class that neither the standard nor Postgres uses.
const (
	stateFenced   = "ZF001"
	stateConflict = "ZN001"
)

// classify turns what Postgres answered into the sentinels of processor.Record. Each of them is raised before the
// commit, so that nothing was written. What is no sentinel (a lost connection, a deadlock, a full disk, a shutdown, a
// statement that took too long) leaves it open.
func classify(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return err
	}
	switch {
	case pg.Code == stateFenced:
		return fmt.Errorf("%w: %w", processor.ErrFenced, err)
	case pg.Code == stateConflict, pg.Code == uniqueViolation && behindTheLog[pg.ConstraintName]:
		return fmt.Errorf("%w: %w", processor.ErrConflict, err)
	}
	switch pg.Code[:2] {
	case "22", "23", "54": // data exception, integrity constraint, program limit exceeded
		return fmt.Errorf("%w: %w", processor.ErrData, err)
	}
	return err
}

const uniqueViolation = "23505"

// behindTheLog has the keys that no record can violate while its fence stands: a name that had no row when it was read,
// and a position that the fence says is not written yet. Whoever wrote there did not hold the partition, and no other
// request would fare better: the partition halts. The one other key, a request decided twice in its partition
// (decisions_request), is in a record's hands if the processor is wrong: that is ErrData, so the record is singled out
// and its neighbours are decided.
var behindTheLog = map[string]bool{
	"names_pkey":        true,
	"decisions_pkey":    true,
	"dead_letters_pkey": true,
}

// certain reports whether err says for certain that nothing was written, so that its connection is in order.
func certain(err error) bool {
	return errors.Is(err, processor.ErrFenced) || errors.Is(err, processor.ErrConflict) || errors.Is(err, processor.ErrData)
}

// hasState reports whether Postgres answered with one of these states.
func hasState(err error, states ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, s := range states {
		if pg.Code == s {
			return true
		}
	}
	return false
}
