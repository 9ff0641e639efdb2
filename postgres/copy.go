package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// copying is a COPY … FROM STDIN BINARY with its whole input, framed as it is sent.
type copying struct {
	sql   string
	input []byte
}

func (t *table[T]) copying(rows []T) copying {
	b := make([]byte, 5, 256*len(rows))
	b = appendCopy(b, t.columns, rows)
	b[0] = 'd'
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return copying{t.copy, b}
}

// commitByCopy takes two round trips, for COPY costs less than INSERT does. The fence comes first: while it is held nobody
// else writes, and a successor that waits for it ends this connection rather than wait for a client that was paused (see
// evict).
//
// What is behind the fence is sent without waiting for answers in between: the server works while we do, and the fence is
// held for no longer than that takes. It must not be sent before the fence has answered: if for any reason there was no
// transaction, each COPY would be one of its own.
func (r *Record) commitByCopy(ctx context.Context, c *pgx.Conn, w *writing) error {
	copies := []copying{w.toDecisions.copying(w.decisions)} // encoded before anything is locked
	byCopy := len(w.added) >= r.copyFrom
	if byCopy {
		copies = append(copies, w.toNames.copying(w.added))
	}
	steps := w.activated(w.erase(w.rest(nil, len(w.added) > 0 && !byCopy), r.cfg.Eraser), r.cfg.Topic)
	prepared, err := prepare(ctx, c, append(steps, step{statement: commit}))
	if err != nil {
		return err
	}
	if err := pipeline(ctx, c, step{statement: begin}, r.advance(w)); err != nil {
		return rollback(ctx, c, err)
	}
	deadline, _ := ctx.Deadline() // the timeout of do
	if err := c.PgConn().Conn().SetDeadline(deadline); err != nil {
		return err
	}
	defer func() { _ = c.PgConn().Conn().SetDeadline(time.Time{}) }() // one that is closed needs none
	if err := send(c.PgConn().Frontend(), copies, steps, prepared); err != nil {
		return errors.Join(err, c.Close(ctx)) // the rest of a message that was cut off would be read into the next one
	}
	return answers(c.PgConn(), len(copies), steps)
}

// send writes copies, then steps up to one Sync, then the commit, which has one for itself: where something before it has
// failed it ends the transaction all the same.
func send(f *pgproto3.Frontend, copies []copying, steps []step, prepared []*pgconn.StatementDescription) error {
	for i := range copies {
		f.SendQuery(&pgproto3.Query{String: copies[i].sql})
		if err := f.Flush(); err != nil {
			return err
		}
		if err := f.SendUnbufferedEncodedCopyData(copies[i].input); err != nil {
			return err
		}
		f.Send(&pgproto3.CopyDone{})
	}
	for i := range prepared {
		bind := pgproto3.Bind{PreparedStatement: prepared[i].Name, ParameterFormatCodes: binary1, ResultFormatCodes: binary1}
		if i < len(steps) {
			bind.Parameters = steps[i].params
		} else if i > 0 {
			f.SendSync(&pgproto3.Sync{})
		}
		f.SendBind(&bind)
		f.SendExecute(&pgproto3.Execute{})
	}
	f.SendSync(&pgproto3.Sync{})
	return f.Flush()
}

// answers reads what the server says to send, up to its last word. The error is the first one; that of the commit is
// another: it answers that it has rolled back.
func answers(c *pgconn.PgConn, copies int, steps []step) error {
	parts := copies + 1
	if len(steps) > 0 {
		parts++
	}
	var failed error
	tag := ""
	for done := 0; done < parts; {
		m, err := c.ReceiveMessage(context.Background()) // the connection has a deadline
		if err != nil {
			return errors.Join(failed, err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			if failed == nil {
				failed = fmt.Errorf("part %d of %d: %w", done+1, parts, pgconn.ErrorResponseToPgError(m))
			}
		case *pgproto3.CommandComplete:
			tag = string(m.CommandTag)
		case *pgproto3.ReadyForQuery:
			if done++; done < parts {
				tag = ""
			}
		}
	}
	if failed == nil && tag != "COMMIT" {
		failed = fmt.Errorf("commit: answered %q", tag)
	}
	return failed
}
