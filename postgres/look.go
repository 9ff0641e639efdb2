package postgres

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What a batch touches is looked up one by one through an index, for LATERAL … LIMIT 1 leaves the planner no other way.

var lookNames = &statement{"look_names", `
	SELECT k.i, ` + holdingFields + `
	FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (space, key, i)
	CROSS JOIN LATERAL (SELECT * FROM names n WHERE n.space = k.space AND n.key = k.key LIMIT 1) n`}

// lookRequests finds the outcome of each request, and beside it the marks: several owners may have withdrawn one claim
// id, all but one of them in vain, and OFFSET 0 does for them what LIMIT 1 does for the outcome. One statement is cheaper
// than two for a claim that is alone.
var lookRequests = &statement{"look_requests", `
	SELECT ` + outcomeFields + `
	FROM unnest($1::integer[], $2::uuid[]) AS k (partition, id)
	CROSS JOIN LATERAL (
		(SELECT * FROM decisions d WHERE d.request_id = k.id AND d.partition = k.partition AND d.kind = 'o' LIMIT 1)
		UNION ALL
		(SELECT * FROM decisions d WHERE d.request_id = k.id AND d.partition = k.partition AND d.kind = 'm' OFFSET 0)
	) d`}

// standing counts the partitions whose fence stands.
var standing = &statement{"standing", `
	SELECT count(*)
	FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::uuid[]) AS f (partition, log_epoch, next_offset, writer_epoch, writer_id)
	CROSS JOIN LATERAL (
		SELECT FROM partitions p
		WHERE p.topic = $1::text AND p.partition = f.partition AND p.log_epoch = f.log_epoch AND p.next_offset = f.next_offset
			AND p.writer_epoch = f.writer_epoch AND p.writer_id = f.writer_id
		LIMIT 1
	) p`}

var beginSnapshot = &statement{"begin_snapshot", "begin isolation level repeatable read read only"}

var refColumns = []column[names.Ref]{
	{"space", oidText, "text[]", func(b []byte, r *names.Ref) []byte { return appendText(b, r.Space) }},
	{"key", oidText, "text[]", func(b []byte, r *names.Ref) []byte { return appendText(b, r.Key) }},
}

var requestColumns = []column[processor.Request]{
	{"partition", oidInt4, "integer[]", func(b []byte, r *processor.Request) []byte { return appendInt4(b, r.Partition) }},
	{"request_id", oidUUID, "uuid[]", func(b []byte, r *processor.Request) []byte { return appendUUID(b, r.ID) }},
}

var fenceColumns = []column[processor.Fence]{
	{"partition", oidInt4, "integer[]", func(b []byte, f *processor.Fence) []byte { return appendInt4(b, f.Partition) }},
	{"log_epoch", oidInt8, "bigint[]", func(b []byte, f *processor.Fence) []byte { return appendInt8(b, f.LogEpoch) }},
	{"next_offset", oidInt8, "bigint[]", func(b []byte, f *processor.Fence) []byte { return appendInt8(b, f.NextOffset) }},
	{"writer_epoch", oidInt8, "bigint[]", func(b []byte, f *processor.Fence) []byte { return appendInt8(b, f.WriterEpoch) }},
	{"writer_id", oidUUID, "uuid[]", func(b []byte, f *processor.Fence) []byte { return appendUUID(b, f.WriterID) }},
}

// Look implements processor.Record.
func (r *Record) Look(ctx context.Context, fences []processor.Fence, refs []names.Ref, requests []processor.Request) (processor.Known, error) {
	var known processor.Known
	standing := r.standing(fences)
	err := r.do(ctx, "look up names and requests", func(ctx context.Context, c *pgx.Conn) error {
		known = processor.Known{
			Holdings: make(map[names.Ref]registrations.Holding),
			Outcomes: make(map[processor.Request]registrations.Outcome),
			Marks:    make(map[processor.Mark]struct{}),
		}
		return pipeline(ctx, c,
			step{statement: beginSnapshot},
			standing,
			r.lookingUp(refs, r.erased(fences), func(f fields) error {
				if err := f.must(1 + holdingWidth); err != nil {
					return err
				}
				ref := refs[f.int8(0)-1]
				h, err := readHolding(f[1:], string(ref.Key))
				known.Holdings[ref] = h
				return err
			}),
			step{lookRequests, arrays(requestColumns, requests), func(f fields) error {
				if err := f.must(outcomeWidth); err != nil {
					return err
				}
				if m, ok := readMark(f); ok {
					known.Marks[m] = struct{}{}
					return nil
				}
				o, err := readOutcome(f)
				known.Outcomes[processor.Request{Partition: o.Partition, ID: o.RequestID}] = o
				return err
			}},
			step{statement: commit},
		)
	})
	if err != nil {
		return processor.Known{}, err
	}
	return known, nil
}

// standing is the step that fails with ErrFenced unless every fence stands.
func (r *Record) standing(fences []processor.Fence) step {
	return step{standing, append([][]byte{[]byte(r.cfg.Topic)}, arrays(fenceColumns, fences)...), func(f fields) error {
		if err := f.must(1); err != nil {
			return err
		}
		if n := f.int8(0); n != int64(len(fences)) {
			return fmt.Errorf("%w: %d of %d partitions", processor.ErrFenced, int64(len(fences))-n, len(fences))
		}
		return nil
	}}
}

// Decided implements api.Lookup.
func (r *Record) Decided(ctx context.Context, ids []uuid.UUID) ([]registrations.Outcome, error) {
	var outcomes []registrations.Outcome
	err := r.read(ctx, "look up outcomes", func(ctx context.Context, c *pgx.Conn) error {
		outcomes = nil
		return pipeline(ctx, c, step{decided, arrays(idColumns, ids), func(f fields) error {
			if err := f.must(outcomeWidth); err != nil {
				return err
			}
			o, err := readOutcome(f)
			outcomes = append(outcomes, o)
			return err
		}})
	})
	return outcomes, err
}

// decided has no LIMIT that says one: an id that was used for two names has an outcome in each partition. OFFSET 0 keeps
// the lookups one by one.
var decided = &statement{"decided", `
	SELECT ` + outcomeFields + `
	FROM (SELECT DISTINCT id FROM unnest($1::uuid[]) AS k (id)) k
	CROSS JOIN LATERAL (SELECT * FROM decisions d WHERE d.request_id = k.id AND d.kind = 'o' OFFSET 0) d`}

var idColumns = []column[uuid.UUID]{
	{"id", oidUUID, "uuid[]", func(b []byte, id *uuid.UUID) []byte { return appendUUID(b, *id) }},
}

// Name implements api.Lookup.
func (r *Record) Name(ctx context.Context, ref names.Ref) (registrations.Holding, error) {
	var holding registrations.Holding
	err := r.read(ctx, "look up a name", func(ctx context.Context, c *pgx.Conn) error {
		holding = registrations.Holding{}
		return pipeline(ctx, c, r.lookingUp([]names.Ref{ref}, r.cfg.Eraser != nil, func(f fields) (err error) {
			if err := f.must(1 + holdingWidth); err != nil {
				return err
			}
			holding, err = readHolding(f[1:], string(ref.Key))
			return err
		}))
	})
	return holding, err
}
