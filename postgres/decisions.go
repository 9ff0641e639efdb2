package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// rules is the version of the encoder of registrations.Outcome: what is stored are its fields, and a row that is read
// back encodes to the same bytes for as long as the encoder of its version is there.
const rules = 1

// decision is a row on its way into the table decisions.
type decision struct {
	partition int32
	logEpoch  int32
	offset    int64
	seq       int16
	kind      byte
	outcome   byte // 0 for a row without one of its own
	state     byte
	requestID uuid.UUID
	principal string
	*registrations.Outcome
	detail   string
	followUp *processor.FollowUp
	actor    string
	why      string
	signup   uuid.UUID // of what is sent
	raw      *cloudevents.Record
	erased   bool // as it is stored once it is wiped; it is never written so
}

// newDecision checks what the columns cannot hold. An outcome repeats what its row says, and the row is what is read
// back: where they differ, what is published now and what is published again would differ too.
func newDecision(f processor.Fence, row *processor.Row) (d decision, err error) {
	if f.LogEpoch != int64(int32(f.LogEpoch)) || row.Seq != int(int16(row.Seq)) {
		return d, fmt.Errorf("%w: log epoch %d or seq %d is too large", processor.ErrData, f.LogEpoch, row.Seq)
	}
	d = decision{
		partition: f.Partition, logEpoch: int32(f.LogEpoch), offset: row.Offset, seq: int16(row.Seq),
		requestID: row.RequestID, principal: row.Principal, Outcome: &noOutcome,
	}
	if d.kind, err = kinds.letter(row.Kind); err != nil {
		return d, err
	}
	answers := row.Kind == processor.KindOutcome || row.Kind == processor.KindFact
	if !answers && (row.FollowUp != nil || row.Actor != "" || row.Why != "") {
		return d, fmt.Errorf("%w: offset %d of partition %d leads to something and decides nothing", processor.ErrData, row.Offset, f.Partition)
	}
	switch row.Kind {
	case processor.KindOutcome, processor.KindFact:
		o := &row.Outcome
		if o.Partition != f.Partition || o.LogEpoch != f.LogEpoch || o.Offset != row.Offset || o.Seq != row.Seq ||
			o.Fact != (row.Kind == processor.KindFact) || o.RequestID != row.RequestID {
			return d, fmt.Errorf("%w: the outcome of offset %d of partition %d is of another record", processor.ErrData, row.Offset, f.Partition)
		}
		if o.PolicyVersion != int(int32(o.PolicyVersion)) {
			return d, fmt.Errorf("%w: policy version %d is too large", processor.ErrData, o.PolicyVersion)
		}
		if d.outcome, err = types.letter(o.Type); err != nil {
			return d, err
		}
		if o.State != "" {
			if d.state, err = states.letter(o.State); err != nil {
				return d, err
			}
		}
		if !follows(row.FollowUp, o) {
			return d, fmt.Errorf("%w: the follow-up of offset %d of partition %d is of another claim", processor.ErrData, row.Offset, f.Partition)
		}
		d.Outcome, d.detail = o, o.Detail
		d.followUp, d.actor, d.why = row.FollowUp, row.Actor, row.Why
	case processor.KindSent:
		s := row.Sent
		d.Outcome = &registrations.Outcome{Request: s.Request, Ref: s.Ref, Name: s.Name, Owner: s.Owner, ClaimID: s.Claim, Reason: s.Reason}
		d.detail, d.signup = s.Detail, s.Signup
	case processor.KindMark:
		d.Outcome = &registrations.Outcome{Owner: row.Outcome.Owner}
	case processor.KindForwarded:
		d.raw = row.Raw
		d.principal = storable(d.principal)
	case processor.KindDead:
		// There is no other place for what cannot be decided: its row must be one that can be written.
		d.principal = storable(d.principal)
	}
	return d, nil
}

var noOutcome registrations.Outcome

// follows reports whether a follow-up repeats what its outcome says: only the rest of it is stored.
func follows(f *processor.FollowUp, o *registrations.Outcome) bool {
	return f == nil || f.Claim == o.ClaimID && f.Owner == o.Owner && f.Ref.Space == o.Ref.Space && f.Ref.Key != ""
}

// readSent reads the fields of an outcome as what is sent, if that is what the row is.
func readSent(f fields, signup []byte) *processor.Sent {
	s := &processor.Sent{
		Request: f.text(22), Ref: names.Ref{Space: names.Space(f.text(17)), Key: names.Key(f.text(18))}, Name: f.text(19), Owner: f.text(20),
		Claim: f.uuid(13), Reason: registrations.Reason(f.text(15)), Detail: f.text(16), Signup: fields{signup}.uuid(0),
	}
	if f[13] == nil {
		s.Claim = f.uuid(12)
	}
	if f[19] == nil {
		s.Name = string(s.Ref.Key)
	}
	return s
}

func readFollowUp(key, version []byte, o *registrations.Outcome) *processor.FollowUp {
	if key == nil {
		return nil
	}
	return &processor.FollowUp{
		Claim: o.ClaimID, Ref: names.Ref{Space: o.Ref.Space, Key: names.Key(key)}, Owner: o.Owner, Version: fields{version}.int8(0),
	}
}

// storable makes a text of bytes that a text column can hold.
func storable(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// decisionColumns are written in this order. Rules is left to its default: there is one version so far.
var decisionColumns = []column[decision]{
	{"offset", oidInt8, "bigint[]", func(b []byte, d *decision) []byte { return appendInt8(b, d.offset) }},
	{"version", oidInt8, "bigint[]", func(b []byte, d *decision) []byte { return appendInt8OrNull(b, d.Version) }},
	{"current_version", oidInt8, "bigint[]", func(b []byte, d *decision) []byte { return appendInt8OrNull(b, d.CurrentVersion) }},
	{"log_time", oidTimestamptz, "timestamptz[]", func(b []byte, d *decision) []byte { return appendTime(b, d.LogTime) }},
	{"partition", oidInt4, "integer[]", func(b []byte, d *decision) []byte { return appendInt4(b, d.partition) }},
	{"log_epoch", oidInt4, "integer[]", func(b []byte, d *decision) []byte { return appendInt4(b, d.logEpoch) }},
	{"policy_version", oidInt4, "integer[]", func(b []byte, d *decision) []byte { return appendInt4OrNull(b, int32(d.PolicyVersion)) }},
	{"seq", oidInt2, "smallint[]", func(b []byte, d *decision) []byte { return appendInt2(b, d.seq) }},
	{"kind", oidChar, `"char"[]`, func(b []byte, d *decision) []byte { return appendChar(b, d.kind) }},
	{"outcome", oidChar, `"char"[]`, func(b []byte, d *decision) []byte { return appendCharOrNull(b, d.outcome) }},
	{"state", oidChar, `"char"[]`, func(b []byte, d *decision) []byte { return appendCharOrNull(b, d.state) }},
	{"request_id", oidUUID, "uuid[]", func(b []byte, d *decision) []byte { return appendUUIDOrNull(b, d.requestID) }},
	{"claim_id", oidUUID, "uuid[]", func(b []byte, d *decision) []byte {
		if d.outcome == 0 && d.signup == uuid.Nil || d.ClaimID == d.requestID {
			return appendNull(b)
		}
		return appendUUID(b, d.ClaimID)
	}},
	{"request_hash", oidBytea, "bytea[]", func(b []byte, d *decision) []byte {
		if d.outcome == 0 {
			return appendNull(b)
		}
		return appendBytes(b, d.RequestHash[:])
	}},
	{"reason", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.Reason) }},
	{"detail", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.detail) }},
	{"space", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.Ref.Space) }},
	{"key", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.Ref.Key) }},
	{"name", oidText, "text[]", func(b []byte, d *decision) []byte {
		if d.Name == string(d.Ref.Key) {
			return appendNull(b)
		}
		return appendText(b, d.Name)
	}},
	{"owner", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.Owner) }},
	{"principal", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.principal) }},
	{"raw", oidBytea, "bytea[]", func(b []byte, d *decision) []byte {
		if d.raw == nil {
			return appendNull(b)
		}
		return appendBytes(b, appendRaw(nil, d.raw))
	}},
}

// rareDecisionColumns come behind them, in a batch that has something to say there: nulls in a claim's way are not free
// either.
var rareDecisionColumns = []column[decision]{
	{"expires_at", oidTimestamptz, "timestamptz[]", func(b []byte, d *decision) []byte { return appendTime(b, d.ExpiresAt) }},
	{"follow_key", oidText, "text[]", func(b []byte, d *decision) []byte {
		if d.followUp == nil {
			return appendNull(b)
		}
		return appendText(b, d.followUp.Ref.Key)
	}},
	{"follow_version", oidInt8, "bigint[]", func(b []byte, d *decision) []byte {
		if d.followUp == nil {
			return appendNull(b)
		}
		return appendInt8OrNull(b, d.followUp.Version)
	}},
	{"request", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.Outcome.Request) }},
	{"actor", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.actor) }},
	{"why", oidText, "text[]", func(b []byte, d *decision) []byte { return appendTextOrNull(b, d.why) }},
	{"signup", oidUUID, "uuid[]", func(b []byte, d *decision) []byte { return appendUUIDOrNull(b, d.signup) }},
}

// outcomeFields is what readOutcome reads, of the table or alias d.
const (
	outcomeFields = `d.partition, d.log_epoch, d."offset", d.seq, d.rules, d.kind, d.outcome, d.state, d.version, d.current_version,
	d.log_time, d.policy_version, d.request_id, d.claim_id, d.request_hash, d.reason, d.detail, d.space, d.key, d.name, d.owner, d.expires_at, d.request, d.erased`
	outcomeWidth = 24
)

func readOutcome(f fields) (o registrations.Outcome, err error) {
	if v := f.int2(4); v != rules {
		return o, fmt.Errorf("rules %d were written by a newer dibs", v)
	}
	o = registrations.Outcome{
		Partition: f.int4(0), LogEpoch: int64(f.int4(1)), Offset: f.int8(2), Seq: int(f.int2(3)),
		Version: f.int8(8), CurrentVersion: f.int8(9), LogTime: f.time(10), PolicyVersion: int(f.int4(11)),
		RequestID: f.uuid(12), ClaimID: f.uuid(13), Reason: registrations.Reason(f.text(15)), Detail: f.text(16),
		Ref:  names.Ref{Space: names.Space(f.text(17)), Key: names.Key(f.text(18))},
		Name: f.text(19), Owner: f.text(20), ExpiresAt: f.time(21), Request: f.text(22), Erased: f.bool(23),
	}
	kind, err := kinds.value(f.char(5))
	if err != nil {
		return o, err
	}
	o.Fact = kind == processor.KindFact
	if o.Type, err = types.value(f.char(6)); err != nil {
		return o, err
	}
	if c := f.char(7); c != 0 {
		if o.State, err = states.value(c); err != nil {
			return o, err
		}
	}
	if f[13] == nil {
		o.ClaimID = o.RequestID
	}
	if f[19] == nil && !o.Erased {
		o.Name = string(o.Ref.Key)
	}
	copy(o.RequestHash[:], f[14])
	return o, nil
}

// readMark reads the fields of an outcome as a mark, if that is what the row is.
func readMark(f fields) (processor.Mark, bool) {
	return processor.Mark{Partition: f.int4(0), Claim: f.uuid(12), Owner: f.text(20)}, f.char(5) == 'm'
}

// deadLetter is a row on its way into the table dead_letters.
type deadLetter struct {
	partition int32
	logEpoch  int32
	offset    int64
	reason    string
	raw       *cloudevents.Record
}

var deadLetterColumns = []column[deadLetter]{
	{"offset", oidInt8, "bigint[]", func(b []byte, d *deadLetter) []byte { return appendInt8(b, d.offset) }},
	{"partition", oidInt4, "integer[]", func(b []byte, d *deadLetter) []byte { return appendInt4(b, d.partition) }},
	{"log_epoch", oidInt4, "integer[]", func(b []byte, d *deadLetter) []byte { return appendInt4(b, d.logEpoch) }},
	{"reason", oidText, "text[]", func(b []byte, d *deadLetter) []byte { return appendText(b, d.reason) }},
	{"raw", oidBytea, "bytea[]", func(b []byte, d *deadLetter) []byte {
		if d.raw == nil {
			return appendNull(b)
		}
		return appendBytes(b, appendRaw(nil, d.raw))
	}},
}

func (d *decision) usual() bool {
	return d.ExpiresAt.IsZero() && d.Outcome.Request == "" && d.followUp == nil && d.actor == "" && d.why == "" && d.signup == uuid.Nil
}

// table is how rows of a table are written: those columns of it.
type table[T any] struct {
	columns []column[T]
	insert  *statement
	copy    string
}

func newTable[T any](insertName, name string, columns ...[]column[T]) *table[T] {
	all := slices.Concat(columns...)
	return &table[T]{all, insert(insertName, name, all), copyFrom(name, all)}
}

func (t *table[T]) inserting(rows []T) step { return step{t.insert, arrays(t.columns, rows), nil} }

// insert is the statement that writes rows given as one array for each column.
func insert[T any](name, table string, columns []column[T]) *statement {
	return &statement{name, fmt.Sprintf("INSERT INTO %s (%s) SELECT * FROM unnest(%s)", table, list(columns), placeholders(columns))}
}

// calling is the statement that calls a function with one array for each column.
func calling[T any](function string, columns []column[T]) *statement {
	return &statement{function, fmt.Sprintf("SELECT %s(%s)", function, placeholders(columns))}
}

func placeholders[T any](columns []column[T]) string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = fmt.Sprintf("$%d::%s", i+1, c.cast)
	}
	return strings.Join(all, ", ")
}

// copyFrom is the statement that writes rows given as appendCopy writes them.
func copyFrom[T any](table string, columns []column[T]) string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN BINARY", table, list(columns))
}

func list[T any](columns []column[T]) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = `"` + c.name + `"`
	}
	return strings.Join(quoted, ", ")
}
