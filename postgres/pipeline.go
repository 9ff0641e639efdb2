package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statement is one that is prepared once per connection.
type statement struct{ name, sql string }

// step is a statement with its parameters in the binary format, and what is done with each row.
type step struct {
	*statement
	params [][]byte
	row    func(fields) error
}

var binary1 = []int16{1} // for all parameters, or all columns

// pipeline runs steps in one round trip (plus one for each statement that this connection sees for the first time).
// Where no transaction is open, or they open none, they are one: the server commits behind the last step. The error is
// the first one; what the commit answers is an error too.
func pipeline(ctx context.Context, c *pgx.Conn, steps ...step) (err error) {
	prepared, err := prepare(ctx, c, steps)
	if err != nil {
		return err
	}
	p := c.PgConn().StartPipeline(ctx)
	defer func() {
		// Reads up to the server's last word, which is that on the commit.
		if closing := p.Close(); err == nil {
			err = closing
		}
	}()
	for i, s := range steps {
		p.SendQueryStatement(prepared[i], s.params, binary1, binary1)
	}
	if err := p.Sync(); err != nil {
		return err
	}
	for _, s := range steps {
		if err := s.read(p); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// prepare prepares what this connection has not seen before.
func prepare(ctx context.Context, c *pgx.Conn, steps []step) (prepared []*pgconn.StatementDescription, err error) {
	prepared = make([]*pgconn.StatementDescription, len(steps))
	for i, s := range steps {
		if prepared[i], err = c.Prepare(ctx, s.name, s.sql); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", s.name, err)
		}
	}
	return prepared, nil
}

func (s *step) read(p *pgconn.Pipeline) error {
	results, err := p.GetResults()
	if err != nil {
		return err
	}
	rows, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("a %T instead of rows", results)
	}
	for rows.NextRow() {
		if s.row == nil {
			continue
		}
		if err := s.row(rows.Values()); err != nil {
			_, closing := rows.Close()
			return errors.Join(err, closing)
		}
	}
	tag, err := rows.Close()
	if err != nil {
		return err
	}
	// COMMIT of a transaction that has failed answers so, without an error.
	if s.statement == commit && tag.String() != "COMMIT" {
		return fmt.Errorf("answered %s", tag)
	}
	return nil
}

var (
	begin  = &statement{"begin", "begin"}
	commit = &statement{"commit", "commit"}
)
