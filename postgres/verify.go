package postgres

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/dibs-hq/dibs/verify"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	_ verify.Record   = verification{}
	_ verify.Snapshot = (*snapshot)(nil)
)

// verification is the record as package verify sees it.
type verification struct{ *Record }

// Verification is the record as it is verified.
func (r *Record) Verification() verify.Record { return verification{r} }

// storedDecision is a row of decisions with the dead letter beside it.
type storedDecision struct {
	decision
	letter *deadLetter
}

// storedDecisionColumns are all that is compared of a row: what is written, in the very bytes.
var storedDecisionColumns = func() []column[storedDecision] {
	var all []column[storedDecision]
	for _, c := range slices.Concat(decisionColumns, rareDecisionColumns) {
		all = append(all, column[storedDecision]{"d." + c.name, c.oid, c.cast, func(b []byte, d *storedDecision) []byte { return c.field(b, &d.decision) }})
	}
	all = append(all, column[storedDecision]{"d.erased", oidBool, "", func(b []byte, d *storedDecision) []byte { return appendTrueOrNull(b, d.erased) }})
	all = append(all, column[storedDecision]{"d.rules", oidInt2, "", func(b []byte, _ *storedDecision) []byte { return appendInt2(b, rules) }})
	for _, c := range deadLetterColumns {
		if c.name != "reason" && c.name != "raw" {
			continue // the rest is what they are joined by
		}
		all = append(all, column[storedDecision]{"x." + c.name, c.oid, c.cast, func(b []byte, d *storedDecision) []byte {
			if d.letter == nil {
				return appendNull(b)
			}
			return c.field(b, d.letter)
		}})
	}
	return all
}()

// storedNameColumns are all that is compared of a name.
var storedNameColumns = slices.Concat(nameColumns, rareNameColumns, firstClaimColumn, erasedColumn)

// The places of the columns that are read beside.
var (
	atLogEpoch, atOffset, atSeq, atKind, atRequest = placeOf(storedDecisionColumns, "d.log_epoch"), placeOf(storedDecisionColumns, "d.offset"),
		placeOf(storedDecisionColumns, "d.seq"), placeOf(storedDecisionColumns, "d.kind"), placeOf(storedDecisionColumns, "d.request_id")
	atSpace, atKey, atClaim, atFirst = placeOf(storedNameColumns, "space"), placeOf(storedNameColumns, "key"),
		placeOf(storedNameColumns, "claim_id"), placeOf(storedNameColumns, "first_claim")
	atReplaces, atReplacesVersion = placeOf(storedNameColumns, "replaces"), placeOf(storedNameColumns, "replaces_version")
)

func placeOf[T any](columns []column[T], name string) int {
	i := slices.IndexFunc(columns, func(c column[T]) bool { return c.name == name })
	if i < 0 {
		panic("postgres: there is no column " + name)
	}
	return i
}

// selected lists the columns as SQL has them.
func selected[T any](columns []column[T]) string {
	var b []byte
	for i, c := range columns {
		if i > 0 {
			b = append(b, ", "...)
		}
		table, name := "", c.name
		if len(name) > 2 && name[1] == '.' {
			table, name = name[:2], name[2:]
		}
		b = append(append(append(append(b, table...), '"'), name...), '"')
	}
	return string(b)
}

var verifyRows = &statement{"verify_rows", `
	SELECT ` + selected(storedDecisionColumns) + `
	FROM (
		SELECT * FROM decisions d
		WHERE d.partition = $1::integer AND (d.partition, d.log_epoch, d."offset", d.seq) > ($1::integer, $2::integer, $3::bigint, $4::smallint)
		ORDER BY d.partition, d.log_epoch, d."offset", d.seq
		LIMIT $5::bigint
	) d
	LEFT JOIN LATERAL (
		SELECT * FROM dead_letters x
		WHERE d.kind = 'x' AND x.partition = d.partition AND x.log_epoch = d.log_epoch AND x."offset" = d."offset"
		LIMIT 1
	) x ON true
	ORDER BY d.partition, d.log_epoch, d."offset", d.seq`}

// verifyDecided asks for the position last: it must not be what the rows are found by.
var verifyDecided = &statement{"verify_decided", `
	SELECT ` + outcomeFields + `
	FROM unnest($1::integer[], $2::uuid[]) AS k (partition, id)
	CROSS JOIN LATERAL (
		SELECT * FROM decisions d
		WHERE d.request_id = k.id AND d.partition = k.partition AND d.kind = 'o'
		LIMIT 1
	) d
	WHERE (d.log_epoch, d."offset") < ($3::integer, $4::bigint)`}

// verifyOutcomes finds all rows of each position: OFFSET 0 keeps the look-ups one by one.
var verifyOutcomes = &statement{"verify_outcomes", `
	SELECT ` + outcomeFields + `
	FROM (SELECT DISTINCT log_epoch, "offset" FROM unnest($2::integer[], $3::bigint[]) AS k (log_epoch, "offset")) k
	CROSS JOIN LATERAL (
		SELECT * FROM decisions d
		WHERE d.partition = $1::integer AND d.log_epoch = k.log_epoch AND d."offset" = k."offset" AND d.kind IN ('o', 'f')
		OFFSET 0
	) d
	ORDER BY d.log_epoch, d."offset", d.seq`}

var verifyNames = &statement{"verify_names", `SELECT ` + selected(storedNameColumns) + ` FROM names WHERE partition = $1::integer`}

// patience sets, for one transaction, what suits one that reads millions of rows: it may take its time, and its client is
// at work between two statements.
var patience = &statement{"patience", `
	SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '600000', true)`}

// wholly lets a table be read from one end to the other, which every other statement must not (see Config.pool), and by
// index not any more.
var (
	wholly  = &statement{"wholly", `SELECT set_config('enable_seqscan', 'on', true)`}
	byIndex = &statement{"by_index", `SELECT set_config('enable_seqscan', 'off', true)`}
)

// Partitions implements verify.Record. The index has a partition's rows together, so a few steps through it find all.
func (v verification) Partitions(ctx context.Context) (all []int32, err error) {
	err = v.read(ctx, "list the partitions", func(ctx context.Context, c *pgx.Conn) error {
		rows, _ := c.Query(ctx, `
			WITH RECURSIVE p (partition) AS (
				(SELECT d.partition FROM decisions d ORDER BY d.partition LIMIT 1)
				UNION ALL
				SELECT (SELECT d.partition FROM decisions d WHERE d.partition > p.partition ORDER BY d.partition LIMIT 1)
				FROM p WHERE p.partition IS NOT NULL
			)
			SELECT partition FROM p WHERE partition IS NOT NULL
			UNION
			SELECT partition FROM partitions WHERE topic = $1
			ORDER BY partition`, v.cfg.Topic)
		all, err = pgx.CollectRows(rows, pgx.RowTo[int32])
		return err
	})
	return all, err
}

// snapshot is a transaction that reads what one partition has, on a connection of its own.
type snapshot struct {
	conn      *pgxpool.Conn
	eraser    *names.Eraser
	partition int32
	standing  processor.Standing
	there     bool
	began     int64
	forgotten verify.Position
	forgot    *time.Time // log time of the last that is; nil for none
	last      verify.Stored
}

// Snapshot implements verify.Record. It keeps a connection, and Postgres from clearing away what was deleted since.
func (v verification) Snapshot(ctx context.Context, partition int32) (_ verify.Snapshot, err error) {
	conn, err := v.reading.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of partition %d: %w", partition, err)
	}
	s := &snapshot{conn: conn, eraser: v.cfg.Eraser, partition: partition, last: verify.Stored{Position: verify.Position{LogEpoch: -1}}}
	if err := s.open(ctx, v.Record); err != nil {
		s.Close()
		return nil, fmt.Errorf("take a snapshot of partition %d: %w", partition, err)
	}
	return s, nil
}

func (s *snapshot) open(ctx context.Context, r *Record) error {
	c := s.conn.Conn()
	if err := r.matchSchema(ctx, c); err != nil {
		return err
	}
	if err := pipeline(ctx, c, step{statement: beginSnapshot}, step{statement: patience}); err != nil {
		return err
	}
	rows, _ := c.Query(ctx, `SELECT `+standingFields+` FROM partitions p WHERE p.topic = $1 AND p.partition = $2`, r.cfg.Topic, s.partition)
	found, err := pgx.CollectRows(rows, r.scanStanding)
	if err != nil || len(found) == 0 {
		return err
	}
	s.standing, s.there = found[0], true
	err = c.QueryRow(ctx, `SELECT log_epoch, "offset", log_time FROM forgotten WHERE partition = $1`, s.partition).
		Scan(&s.forgotten.LogEpoch, &s.forgotten.Offset, &s.forgot)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return c.QueryRow(ctx, `
		SELECT coalesce(max(to_offset), 0) FROM gaps WHERE topic = $1 AND partition = $2 AND to_epoch = $3 AND from_epoch <> to_epoch`,
		r.cfg.Topic, s.partition, s.standing.LogEpoch).Scan(&s.began)
}

// Close implements verify.Snapshot.
func (s *snapshot) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := s.conn.Conn().PgConn().Exec(ctx, "rollback").ReadAll(); err != nil {
		_ = s.conn.Conn().Close(ctx) // which ends the transaction too
	}
	s.conn.Release()
}

// Standing implements verify.Snapshot.
func (s *snapshot) Standing() (processor.Standing, bool) { return s.standing, s.there }

// Began implements verify.Snapshot.
func (s *snapshot) Began() int64 { return s.began }

// Forgotten implements verify.Snapshot.
func (s *snapshot) Forgotten() (verify.Position, time.Time, bool) {
	if s.forgot == nil {
		return verify.Position{}, time.Time{}, false
	}
	return s.forgotten, s.forgot.UTC(), true
}

// LastPolicy implements verify.Snapshot. It goes through the partition's rows from their end: they are read whole anyway.
func (s *snapshot) LastPolicy(ctx context.Context) (at verify.Position, err error) {
	err = s.conn.Conn().QueryRow(ctx, `
		SELECT log_epoch, "offset" FROM decisions WHERE partition = $1 AND kind = 'p' ORDER BY log_epoch DESC, "offset" DESC LIMIT 1`,
		s.partition).Scan(&at.LogEpoch, &at.Offset)
	if err != nil {
		return at, fmt.Errorf("find the last policy of partition %d: %w", s.partition, err)
	}
	return at, nil
}

// param encodes the parameter of a statement.
func param(wire []byte) []byte { return wire[4:] }

// Rows implements verify.Snapshot. Pages follow each other through the primary key.
func (s *snapshot) Rows(ctx context.Context, most int) ([]verify.Stored, error) {
	all := make([]verify.Stored, 0, most)
	wire := make([]byte, 0, 200*most)
	params := [][]byte{
		param(appendInt4(nil, s.partition)), param(appendInt4(nil, int32(s.last.LogEpoch))), param(appendInt8(nil, s.last.Offset)),
		param(appendInt2(nil, int16(s.last.Seq))), param(appendInt8(nil, int64(most))),
	}
	err := pipeline(ctx, s.conn.Conn(), step{verifyRows, params, func(f fields) error {
		if err := f.must(len(storedDecisionColumns)); err != nil {
			return err
		}
		row := verify.Stored{
			Position: verify.Position{LogEpoch: int64(f.int4(atLogEpoch)), Offset: f.int8(atOffset)},
			Seq:      int(f.int2(atSeq)), RequestID: f.uuid(atRequest),
		}
		row.Kind, _ = kinds.value(f.char(atKind)) // one that is not known differs
		row.Erased = f.bool(atErased)
		from := len(wire)
		wire = appendFields(wire, f)
		row.Bytes = wire[from:len(wire):len(wire)]
		all = append(all, row)
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("read decisions of partition %d: %w", s.partition, err)
	}
	if n := len(all); n > 0 {
		s.last = all[n-1]
		s.last.Bytes = nil
	}
	return all, nil
}

// appendFields appends fields as they came.
func appendFields(b []byte, f fields) []byte {
	for _, v := range f {
		if v == nil {
			b = appendNull(b)
		} else {
			b = appendBytes(b, v)
		}
	}
	return b
}

// cutFields is the inverse of appendFields.
func cutFields(b []byte, n int) fields {
	f := make(fields, n)
	for i := range f {
		if len(b) < 4 {
			return f
		}
		size := int32(binary.BigEndian.Uint32(b))
		if b = b[4:]; size >= 0 {
			f[i], b = b[:size:size], b[size:]
		}
	}
	return f
}

// ofOutcome are the places of what readOutcome reads.
var ofOutcome = func() []int {
	var places []int
	for _, name := range []string{
		"partition", "log_epoch", "offset", "seq", "rules", "kind", "outcome", "state", "version", "current_version", "log_time", "policy_version",
		"request_id", "claim_id", "request_hash", "reason", "detail", "space", "key", "name", "owner", "expires_at", "request", "erased",
	} {
		places = append(places, placeOf(storedDecisionColumns, "d."+name))
	}
	return places
}()

var (
	atRaw, atOwner, atPrincipal  = placeOf(storedDecisionColumns, "d.raw"), placeOf(storedDecisionColumns, "d.owner"), placeOf(storedDecisionColumns, "d.principal")
	atFollowKey, atFollowVersion = placeOf(storedDecisionColumns, "d.follow_key"), placeOf(storedDecisionColumns, "d.follow_version")
	atErased                     = placeOf(storedDecisionColumns, "d.erased")
	atSignup                     = placeOf(storedDecisionColumns, "d.signup")
	atActor, atWhy               = placeOf(storedDecisionColumns, "d.actor"), placeOf(storedDecisionColumns, "d.why")
	atDeadReason                 = placeOf(storedDecisionColumns, "x.reason")
)

// Row implements verify.Snapshot.
func (s *snapshot) Row(stored verify.Stored) (row processor.Row, err error) {
	f := cutFields(stored.Bytes, len(storedDecisionColumns))
	row = processor.Row{
		Offset: stored.Offset, Seq: stored.Seq, RequestID: stored.RequestID, Principal: f.text(atPrincipal), Detail: f.text(atDeadReason),
		Actor: f.text(atActor), Why: f.text(atWhy),
	}
	if row.Kind, err = kinds.value(f.char(atKind)); err != nil {
		return row, err
	}
	switch row.Kind {
	case processor.KindOutcome, processor.KindFact:
		of := make(fields, len(ofOutcome))
		for i, place := range ofOutcome {
			of[i] = f[place]
		}
		row.Outcome, err = readOutcome(of)
		row.FollowUp = readFollowUp(f[atFollowKey], f[atFollowVersion], &row.Outcome)
	case processor.KindSent:
		of := make(fields, len(ofOutcome))
		for i, place := range ofOutcome {
			of[i] = f[place]
		}
		row.Sent = readSent(of, f[atSignup])
	case processor.KindMark:
		row.Outcome.Owner = f.text(atOwner)
	case processor.KindForwarded:
		if f[atRaw] != nil {
			raw, err := readRaw(f[atRaw])
			if err != nil {
				return row, err
			}
			row.Raw = &raw
		}
	}
	return row, err
}

// AppendRow implements verify.Snapshot.
func (s *snapshot) AppendRow(b []byte, logEpoch int64, row *processor.Row, erased bool) ([]byte, error) {
	d, err := newDecision(processor.Fence{Partition: s.partition, LogEpoch: logEpoch}, row)
	if err != nil {
		return b, err
	}
	stored := storedDecision{decision: d}
	if erased {
		if s.eraser == nil {
			return b, errNoSecret
		}
		stored.wipe(s.eraser)
	}
	if row.Kind == processor.KindDead {
		stored.letter = &deadLetter{d.partition, d.logEpoch, d.offset, storable(row.Detail), row.Raw}
		if erased {
			stored.letter.reason, stored.letter.raw = erasedReason(row.Detail), nil
		}
	}
	for i := range storedDecisionColumns {
		b = storedDecisionColumns[i].field(b, &stored)
	}
	return b, nil
}

// RowDiff implements verify.Snapshot.
func (s *snapshot) RowDiff(expected, found []byte) []verify.Field {
	return diff(storedDecisionColumns, expected, found)
}

// Decided implements verify.Snapshot.
func (s *snapshot) Decided(ctx context.Context, requests []uuid.UUID, before verify.Position) ([]registrations.Outcome, error) {
	asked := make([]processor.Request, len(requests))
	for i, id := range requests {
		asked[i] = processor.Request{Partition: s.partition, ID: id}
	}
	params := append(arrays(requestColumns, asked), param(appendInt4(nil, int32(before.LogEpoch))), param(appendInt8(nil, before.Offset)))
	return s.outcomes(ctx, step{verifyDecided, params, nil})
}

var positionColumns = []column[verify.Position]{
	{"log_epoch", oidInt4, "integer[]", func(b []byte, p *verify.Position) []byte { return appendInt4(b, int32(p.LogEpoch)) }},
	{"offset", oidInt8, "bigint[]", func(b []byte, p *verify.Position) []byte { return appendInt8(b, p.Offset) }},
}

// Outcomes implements verify.Snapshot.
func (s *snapshot) Outcomes(ctx context.Context, at []verify.Position) ([]registrations.Outcome, error) {
	return s.outcomes(ctx, step{verifyOutcomes, append([][]byte{param(appendInt4(nil, s.partition))}, arrays(positionColumns, at)...), nil})
}

func (s *snapshot) outcomes(ctx context.Context, q step) (all []registrations.Outcome, err error) {
	q.row = func(f fields) error {
		if err := f.must(outcomeWidth); err != nil {
			return err
		}
		if o, err := readOutcome(f); err == nil {
			all = append(all, o)
		}
		return nil
	}
	if err := pipeline(ctx, s.conn.Conn(), q); err != nil {
		return nil, fmt.Errorf("look up outcomes of partition %d: %w", s.partition, err)
	}
	return all, nil
}

// Names implements verify.Snapshot.
func (s *snapshot) Names(ctx context.Context, each func(verify.StoredName) error) error {
	var wire []byte
	err := pipeline(ctx, s.conn.Conn(), step{statement: wholly}, step{verifyNames, [][]byte{param(appendInt4(nil, s.partition))}, func(f fields) error {
		if err := f.must(len(storedNameColumns)); err != nil {
			return err
		}
		wire = appendFields(wire[:0], f)
		return each(verify.StoredName{
			Ref: names.Ref{Space: names.Space(f.text(atSpace)), Key: names.Key(f.text(atKey))}, ClaimID: f.uuid(atClaim), First: f.uuid(atFirst),
			Replaces: names.Key(f.text(atReplaces)), ReplacesVersion: f.int8(atReplacesVersion), Bytes: wire,
		})
	}}, step{statement: byIndex})
	if err != nil {
		return fmt.Errorf("read names of partition %d: %w", s.partition, err)
	}
	return nil
}

// ofHolding are the places of what readHolding reads.
var ofHolding = func() []int {
	var places []int
	for _, name := range []string{
		"version", "since", "partition", "policy_version", "state", "claim_id", "name", "owner",
		"expires_at", "settled", "previous", "replaces", "replaces_version", "erased", "signup", "ballot",
	} {
		places = append(places, placeOf(storedNameColumns, name))
	}
	return places
}()

// Holding implements verify.Snapshot.
func (s *snapshot) Holding(stored verify.StoredName) (registrations.Holding, error) {
	f := cutFields(stored.Bytes, len(storedNameColumns))
	of := make(fields, len(ofHolding))
	for i, place := range ofHolding {
		of[i] = f[place]
	}
	return readHolding(of, string(stored.Ref.Key))
}

// AppendName implements verify.Snapshot.
func (s *snapshot) AppendName(b []byte, ref names.Ref, h registrations.Holding, first uuid.UUID) ([]byte, error) {
	c, err := newChange(s.partition, &processor.Change{Ref: ref, Holding: h}, s.eraser)
	if err != nil {
		return b, err
	}
	c.first = first
	for i := range storedNameColumns {
		b = storedNameColumns[i].field(b, &c)
	}
	return b, nil
}

// NameDiff implements verify.Snapshot.
func (s *snapshot) NameDiff(expected, found []byte) []verify.Field {
	return diff(storedNameColumns, expected, found)
}

// diff says in which columns two rows differ.
func diff[T any](columns []column[T], expected, found []byte) (all []verify.Field) {
	a, b := cutFields(expected, len(columns)), cutFields(found, len(columns))
	for i, c := range columns {
		if (a[i] == nil) != (b[i] == nil) || string(a[i]) != string(b[i]) {
			all = append(all, verify.Field{Name: columnName(c.name), Expected: c.text(a, i), Found: c.text(b, i)})
		}
	}
	return all
}

// columnName is a column as people know it: of the table that is compared, or of the one beside it.
func columnName(name string) string {
	switch {
	case len(name) > 2 && name[:2] == "d.":
		return name[2:]
	case len(name) > 2 && name[:2] == "x.":
		return "dead_letters." + name[2:]
	}
	return name
}

// text spells the field of a column, for people.
func (c *column[T]) text(f fields, i int) string {
	if f[i] == nil {
		return "null"
	}
	switch c.oid {
	case oidInt2:
		return strconv.Itoa(int(f.int2(i)))
	case oidInt4:
		return strconv.Itoa(int(f.int4(i)))
	case oidInt8:
		return strconv.FormatInt(f.int8(i), 10)
	case oidBool:
		return strconv.FormatBool(f.bool(i))
	case oidTimestamptz:
		return time.UnixMicro(f.int8(i) + epoch*1000).UTC().Format(time.RFC3339Nano)
	case oidUUID:
		return f.uuid(i).String()
	case oidBytea:
		if v := f[i]; len(v) > 64 {
			return fmt.Sprintf("%s… (%d bytes)", hex.EncodeToString(v[:64]), len(v))
		}
		return hex.EncodeToString(f[i])
	}
	return strconv.Quote(f.text(i))
}
