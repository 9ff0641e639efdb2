package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// erasedLetter is why a record is dead that was wiped.
const erasedLetter = "erased"

// wipe makes of a row what Wipe leaves of it.
func (d *decision) wipe(e *names.Eraser) {
	d.erased = true
	switch d.kind {
	case 'm':
		o := *d.Outcome
		o.Owner = e.Owner(o.Owner)
		d.Outcome, d.principal = &o, ""
		return
	case 'w', 'x', 'g':
		d.raw, d.principal = nil, ""
		return
	}
	o := *d.Outcome
	o.Ref, o.Name, o.Owner = e.Ref(o.Ref), string(e.Ref(o.Ref).Key), "" // a name that is the key is null
	if d.Outcome, d.detail = &o, ""; d.outcome != 'Z' {
		d.principal, d.actor, d.why = "", "", ""
	}
	if d.followUp != nil {
		f := *d.followUp
		f.Ref, f.Owner = e.Ref(f.Ref), ""
		d.followUp = &f
	}
}

// toErase reads what is to be done, oldest first, as far as everything up to there is published, and how much else there is.
const toErase = `
	SELECT e.log_epoch, e."offset", e.partition, e.whole, e.space, e.key, coalesce(e.owner, ''),
		e.log_epoch < p.log_epoch OR e."offset" < p.published_through
	FROM erasures e JOIN partitions p ON p.topic = $1 AND p.partition = e.partition
	WHERE e.partition = ANY ($2) AND e.done_at IS NULL
	ORDER BY e.partition, e.log_epoch, e."offset"`

// mostWiped is how many erasures one call does: it shall not take for ever.
const mostWiped = 200

// wipeWithin bounds the wiping of one erasure: it reads a partition's decisions from one end to the other, for no index that
// every claim would pay for has them by owner.
const wipeWithin = 10 * time.Minute

// Wipe implements processor.Record. What is below published_through is never published again, and who reads it besides gets
// the same answers of a row that is wiped: so it matters to nobody when that is done, by whom, or twice.
func (r *Record) Wipe(ctx context.Context, partitions []int32) (left int, err error) {
	var due []erasure
	err = r.read(ctx, "look for what is to be erased", func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, toErase, r.cfg.Topic, partitions)
		if err != nil {
			return err
		}
		left, due = 0, nil
		e := erasure{Erase: new(processor.Erase)}
		published := false
		_, err = pgx.ForEachRow(rows, []any{&e.logEpoch, &e.offset, &e.partition, &e.Whole, &e.Ref.Space, &e.Ref.Key, &e.Owner, &published}, func() error {
			left++
			if published && len(due) < mostWiped {
				one, wiped := e, *e.Erase
				one.Erase = &wiped
				due = append(due, one)
			}
			return nil
		})
		return err
	})
	if err != nil || len(due) == 0 {
		return left, err
	}
	if r.cfg.Eraser == nil {
		return left, errNoSecret
	}
	for i := range due {
		done, err := r.wipe(ctx, &due[i])
		if err != nil {
			return left, err
		}
		if done {
			left--
		}
	}
	return left, nil
}

// wipe does one erasure in one transaction, and reports whether it is done.
func (r *Record) wipe(ctx context.Context, e *erasure) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, wipeWithin)
	defer cancel()
	conn, err := r.reading.acquire(ctx)
	if err != nil {
		return false, fmt.Errorf("erase: %w", err)
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn.Conn(), func(tx pgx.Tx) (err error) {
		done, err = r.wipeIn(ctx, tx, e)
		return err
	})
	if err != nil {
		_ = conn.Conn().Close(ctx)
		return false, fmt.Errorf("erase what is to be wiped up to %d-%d-%d: %w", e.partition, e.logEpoch, e.offset, classify(err))
	}
	return done, nil
}

func (r *Record) wipeIn(ctx context.Context, tx pgx.Tx, e *erasure) (bool, error) {
	for _, s := range []*statement{patience, wholly} {
		if _, err := tx.Exec(ctx, s.sql); err != nil {
			return false, err
		}
	}
	at := []any{e.partition, e.logEpoch, e.offset}
	var over bool
	err := tx.QueryRow(ctx, `
		SELECT done_at IS NOT NULL FROM erasures WHERE partition = $1 AND log_epoch = $2 AND "offset" = $3 FOR UPDATE SKIP LOCKED`, at...).Scan(&over)
	if errors.Is(err, pgx.ErrNoRows) { // somebody else is doing it, and may fail
		return false, nil
	}
	if err != nil || over {
		return over, err
	}
	wiped, err := r.wipeDecisions(ctx, tx, e)
	if err != nil {
		return false, err
	}
	letters, later, err := r.wipeRaw(ctx, tx, e)
	if err != nil {
		return false, err
	}
	set := `done_at = now(), space = NULL, key = NULL, owner = NULL,`
	if later {
		set = ""
	}
	_, err = tx.Exec(ctx, `
		UPDATE erasures SET `+set+` decisions = coalesce(decisions, 0) + $4, dead_letters = coalesce(dead_letters, 0) + $5
		WHERE partition = $1 AND log_epoch = $2 AND "offset" = $3`, append(at, wiped, letters)...)
	return err == nil && !later, err
}

// position is that of a row of decisions within its partition.
type position struct {
	logEpoch int32
	offset   int64
	seq      int16
}

// wipeDecisions wipes the partition's rows of the owner and the name, and those of the name that are nobody's; and the marks of
// the owner. Of a sign-up it wipes what that led to as well, whatever name it is about. They are found by reading all.
func (r *Record) wipeDecisions(ctx context.Context, tx pgx.Tx, e *erasure) (int64, error) {
	var signup *uuid.UUID
	if id := claims.SignupID(e.Ref); id != uuid.Nil {
		signup = &id
	}
	rows, err := tx.Query(ctx, `
		SELECT log_epoch, "offset", seq, kind = 'm', coalesce(space, ''), key, follow_key
		FROM decisions
		WHERE partition = $1 AND (log_epoch, "offset") <= ($2, $3) AND erased IS NULL
			AND (kind IN ('o', 'f', 's') AND coalesce(key, '') = $5 AND coalesce(space, '') = $4 AND (owner = $6 OR owner IS NULL AND $7)
				OR kind = 'm' AND owner = $6 OR kind = 's' AND signup = $8 AND owner = $6 OR kind = 'g' AND request_id = $8)`,
		e.partition, e.logEpoch, e.offset, string(e.Ref.Space), string(e.Ref.Key), e.Owner, e.Whole, signup)
	if err != nil {
		return 0, err
	}
	var epochs []int32
	var offsets []int64
	var seqs []int16
	var marks []bool
	var keys, follows []*string
	var mark bool
	var space string
	var key, follow *string
	var p position
	form := func(key *string) *string {
		if key == nil {
			return nil
		}
		form := string(r.cfg.Eraser.Ref(names.Ref{Space: names.Space(space), Key: names.Key(*key)}).Key)
		return &form
	}
	if _, err := pgx.ForEachRow(rows, []any{&p.logEpoch, &p.offset, &p.seq, &mark, &space, &key, &follow}, func() error {
		epochs, offsets, seqs, marks = append(epochs, p.logEpoch), append(offsets, p.offset), append(seqs, p.seq), append(marks, mark)
		keys, follows = append(keys, form(key)), append(follows, form(follow))
		key, follow = nil, nil
		return nil
	}); err != nil {
		return 0, err
	}
	if len(epochs) == 0 {
		return 0, nil
	}
	tag, err := tx.Exec(ctx, `
		UPDATE decisions d SET
			erased = true,
			key = w.key, name = NULL, detail = NULL, follow_key = w.follow,
			owner = CASE WHEN w.mark THEN $8::text END,
			principal = CASE WHEN d.outcome = 'Z' THEN d.principal END,
			actor = CASE WHEN d.outcome = 'Z' THEN d.actor END, why = CASE WHEN d.outcome = 'Z' THEN d.why END
		FROM unnest($2::integer[], $3::bigint[], $4::smallint[], $5::boolean[], $6::text[], $7::text[]) AS w (log_epoch, "offset", seq, mark, key, follow)
		WHERE d.partition = $1 AND d.log_epoch = w.log_epoch AND d."offset" = w."offset" AND d.seq = w.seq`,
		e.partition, epochs, offsets, seqs, marks, keys, follows, r.cfg.Eraser.Owner(e.Owner))
	return tag.RowsAffected(), err
}

// wipeRaw wipes the records that are kept as they were read, forwarded and dead ones, in whatever partition they lie. later: one of
// them is not published yet.
func (r *Record) wipeRaw(ctx context.Context, tx pgx.Tx, e *erasure) (n int64, later bool, err error) {
	rows, err := tx.Query(ctx, `
		SELECT d.partition, d.log_epoch, d."offset", x.reason, coalesce(x.raw, d.raw), d.log_epoch < p.log_epoch OR d."offset" < p.published_through
		FROM (
			SELECT partition, log_epoch, "offset", raw, reason FROM dead_letters WHERE raw IS NOT NULL
			UNION ALL
			SELECT partition, log_epoch, "offset", NULL, '' FROM decisions WHERE raw IS NOT NULL
		) x
		JOIN decisions d ON d.partition = x.partition AND d.log_epoch = x.log_epoch AND d."offset" = x."offset" AND d.kind IN ('w', 'x')
		JOIN partitions p ON p.topic = $1 AND p.partition = d.partition`, r.cfg.Topic)
	if err != nil {
		return 0, false, err
	}
	var partitions, epochs []int32
	var offsets []int64
	var reasons []string
	var partition, epoch int32
	var offset int64
	var reason string
	var raw []byte
	var published bool
	_, err = pgx.ForEachRow(rows, []any{&partition, &epoch, &offset, &reason, &raw, &published}, func() error {
		record, err := readRaw(raw)
		if err != nil || !e.concerns(&record) {
			return err
		}
		later = later || !published
		partitions, epochs, offsets, reasons = append(partitions, partition), append(epochs, epoch), append(offsets, offset), append(reasons, erasedReason(reason))
		return nil
	})
	if err != nil || later || len(offsets) == 0 {
		return 0, later, err
	}
	_, err = tx.Exec(ctx, `
		UPDATE decisions d SET raw = NULL, principal = NULL, erased = true
		FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS w (partition, log_epoch, "offset")
		WHERE d.partition = w.partition AND d.log_epoch = w.log_epoch AND d."offset" = w."offset" AND d.kind IN ('w', 'x')`, partitions, epochs, offsets)
	if err != nil {
		return 0, false, err
	}
	_, err = tx.Exec(ctx, `
		UPDATE dead_letters x SET raw = NULL, reason = w.reason
		FROM unnest($1::integer[], $2::integer[], $3::bigint[], $4::text[]) AS w (partition, log_epoch, "offset", reason)
		WHERE x.partition = w.partition AND x.log_epoch = w.log_epoch AND x."offset" = w."offset"`, partitions, epochs, offsets, reasons)
	return int64(len(offsets)), false, err
}

// erasedReason is what is left of why a record is dead: its words may be the record's own. That the database refused it is
// needed to decide again what comes behind it.
func erasedReason(reason string) string {
	if _, refused := processor.RefusedBecause(reason); refused {
		return processor.Refusal(erasedLetter)
	}
	return erasedLetter
}

// concerns reports whether a record as it was read says something of the owner; or of the name, where nobody can tell whose it is.
func (e *erasure) concerns(r *cloudevents.Record) bool {
	if e.Owner != "" {
		if principal, _ := r.Header(cloudevents.Principal); string(principal) == e.Owner {
			return true
		}
	}
	var value any
	if json.Unmarshal(r.Value, &value) != nil {
		return e.Owner != "" && bytes.Contains(r.Value, []byte(e.Owner)) || e.Whole && string(r.Key) == e.Ref.RecordKey()
	}
	return e.Owner != "" && says(value, e.Owner)
}

// says reports whether a value of JSON has a text in it somewhere.
func says(value any, text string) bool {
	switch v := value.(type) {
	case string:
		return v == text
	case []any:
		for _, one := range v {
			if says(one, text) {
				return true
			}
		}
	case map[string]any:
		for _, one := range v {
			if says(one, text) {
				return true
			}
		}
	}
	return false
}
