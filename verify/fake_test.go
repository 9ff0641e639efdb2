package verify_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/dibs-hq/dibs/verify"
	"github.com/google/uuid"
)

// world is what a deployment has left: a test breaks one thing in it.
type world struct {
	rules         processor.Rules
	standings     map[int32]processor.Standing
	began         map[int32]int64
	rows          map[int32][]memory.Row
	names         map[names.Ref]registrations.Holding
	claims        []memoryLog
	registrations []memoryLog
	forgotten     map[int32]forgotten
	// meanwhile, if set, is called when a snapshot has been taken.
	meanwhile func(partition int32)
	workers   int
}

// left is what the rig has left, as a copy.
func (g *rig) left() *world {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &world{
		rules: g.rules, standings: make(map[int32]processor.Standing), began: make(map[int32]int64), rows: make(map[int32][]memory.Row),
		forgotten: make(map[int32]forgotten), workers: 2, names: g.mem.Names(), claims: slices.Clone(g.claims), registrations: slices.Clone(g.registrations),
	}
	for _, s := range g.mem.All() {
		w.standings[s.Partition] = s
		w.rows[s.Partition] = g.mem.Rows(s.Partition)
	}
	return w.copy()
}

func (w *world) copy() *world {
	c := *w
	c.standings, c.began, c.names = maps.Clone(w.standings), maps.Clone(w.began), maps.Clone(w.names)
	c.forgotten = maps.Clone(w.forgotten)
	c.rows = make(map[int32][]memory.Row)
	for p, rows := range w.rows {
		c.rows[p] = slices.Clone(rows)
	}
	logs := func(all []memoryLog) []memoryLog {
		all = slices.Clone(all)
		for i := range all {
			all[i].records = slices.Clone(all[i].records)
		}
		return all
	}
	c.claims, c.registrations = logs(w.claims), logs(w.registrations)
	return &c
}

// verify runs over the world.
func (w *world) verify(ctx context.Context, change ...func(*verify.Config)) (verify.Report, error) {
	cfg := verify.Config{Rules: w.rules, Workers: max(w.workers, 1), MaxDifferences: 50}
	for _, f := range change {
		f(&cfg)
	}
	return verify.New(cfg, w, topicLogs(w.claims), topicLogs(w.registrations)).Run(ctx)
}

type topicLogs []memoryLog

func (l topicLogs) Bounds(_ context.Context, partition int32) (start, end int64, err error) {
	if int(partition) >= len(l) {
		return 0, 0, processor.ErrOutOfLog
	}
	return l[partition].start, l[partition].end, nil
}

func (l topicLogs) At(_ context.Context, partition int32, offset int64) (cloudevents.Record, bool, error) {
	for _, m := range l[partition].records {
		if m.Offset == offset {
			return m.Record, true, nil
		}
	}
	return cloudevents.Record{}, false, nil
}

// Read hands out runs of a few records, so that what spans two runs is seen.
func (l topicLogs) Read(ctx context.Context, partition int32, from, to int64, run func([]processor.Message, int64) error) error {
	var messages []processor.Message
	for _, m := range l[partition].records {
		if m.Offset >= from && m.Offset < to {
			messages = append(messages, m)
		}
	}
	for len(messages) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(37, len(messages))
		next := to
		if n < len(messages) {
			next = messages[n].Offset
		}
		if err := run(messages[:n], next); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// Partitions implements verify.Record.
func (w *world) Partitions(context.Context) ([]int32, error) {
	return slices.Sorted(maps.Keys(w.rows)), nil
}

// Snapshot implements verify.Record.
func (w *world) Snapshot(_ context.Context, partition int32) (verify.Snapshot, error) {
	s := &fakeSnapshot{world: w.copy(), partition: partition}
	s.left = s.rows[partition]
	if w.meanwhile != nil {
		w.meanwhile(partition)
	}
	return s, nil
}

type fakeSnapshot struct {
	*world
	partition int32
	left      []memory.Row
}

func (s *fakeSnapshot) Close() {}

func (s *fakeSnapshot) Standing() (processor.Standing, bool) {
	st, ok := s.standings[s.partition]
	return st, ok
}

func (s *fakeSnapshot) Began() int64 { return s.began[s.partition] }

func (s *fakeSnapshot) Forgotten() (verify.Position, time.Time, bool) {
	f, is := s.forgotten[s.partition]
	return f.before, f.logTime, is
}

func (s *fakeSnapshot) Holding(stored verify.StoredName) (registrations.Holding, error) {
	return s.names[stored.Ref], nil
}

func (s *fakeSnapshot) Rows(_ context.Context, most int) (all []verify.Stored, err error) {
	n := min(most, len(s.left), 50)
	for _, row := range s.left[:n] {
		b, err := s.AppendRow(nil, row.LogEpoch, &row.Row, false)
		if err != nil {
			return nil, err
		}
		all = append(all, verify.Stored{
			Position: verify.Position{LogEpoch: row.LogEpoch, Offset: row.Offset}, Seq: row.Seq, Kind: row.Kind, RequestID: row.RequestID, Bytes: b,
		})
	}
	s.left = s.left[n:]
	return all, nil
}

func (s *fakeSnapshot) LastPolicy(context.Context) (last verify.Position, err error) {
	for _, row := range s.rows[s.partition] {
		if row.Kind == processor.KindPolicy {
			last = verify.Position{LogEpoch: row.LogEpoch, Offset: row.Offset}
		}
	}
	return last, nil
}

func (s *fakeSnapshot) find(at verify.Position, seq int) *memory.Row {
	i := slices.IndexFunc(s.rows[s.partition], func(r memory.Row) bool {
		return r.LogEpoch == at.LogEpoch && r.Offset == at.Offset && r.Seq == seq
	})
	return &s.rows[s.partition][i]
}

func (s *fakeSnapshot) Row(stored verify.Stored) (processor.Row, error) {
	row := s.find(stored.Position, stored.Seq).Row
	if row.Kind == processor.KindDuplicate {
		row.Outcome = registrations.Outcome{}
	}
	return row, nil
}

// columns are what the fake stores, in order.
type columns [][2]string

func (c columns) bytes(b []byte) ([]byte, error) {
	text, err := json.Marshal(c)
	return append(b, text...), err
}

func columnsDiff(expected, found []byte) (all []verify.Field) {
	var a, b columns
	if json.Unmarshal(expected, &a) != nil || json.Unmarshal(found, &b) != nil || len(a) != len(b) {
		return []verify.Field{{Name: "row"}}
	}
	for i := range a {
		if a[i][1] != b[i][1] {
			all = append(all, verify.Field{Name: a[i][0], Expected: a[i][1], Found: b[i][1]})
		}
	}
	return all
}

func (s *fakeSnapshot) AppendRow(b []byte, logEpoch int64, row *processor.Row, _ bool) ([]byte, error) {
	o, follow, raw := row.Outcome, "", ""
	if row.Kind == processor.KindDuplicate {
		o = registrations.Outcome{}
	}
	if row.FollowUp != nil {
		follow = fmt.Sprintf("%+v", *row.FollowUp)
	}
	if row.Raw != nil {
		raw = fmt.Sprintf("%q %q %q %s", row.Raw.Key, row.Raw.Value, row.Raw.Headers, row.Raw.Time.UTC())
	}
	sent := ""
	if row.Sent != nil {
		sent = fmt.Sprintf("%+v", *row.Sent)
	}
	return columns{
		{"sent", sent}, {"log_epoch", fmt.Sprint(logEpoch)}, {"kind", string(row.Kind)}, {"request_id", row.RequestID.String()}, {"principal", row.Principal},
		{"actor", row.Actor}, {"why", row.Why}, {"detail", row.Detail}, {"raw", raw}, {"follow_key", follow},
		{"outcome", string(o.Type)}, {"request", o.Request}, {"claim_id", o.ClaimID.String()}, {"ref", o.Ref.String()}, {"name", o.Name},
		{"owner", o.Owner}, {"state", string(o.State)}, {"version", fmt.Sprint(o.Version)}, {"expires_at", o.ExpiresAt.UTC().String()},
		{"reason", string(o.Reason)}, {"outcome_detail", o.Detail}, {"current_version", fmt.Sprint(o.CurrentVersion)}, {"log_time", o.LogTime.UTC().String()},
		{"policy_version", fmt.Sprint(o.PolicyVersion)}, {"request_hash", fmt.Sprintf("%x", o.RequestHash)}, {"fact", fmt.Sprint(o.Fact)},
	}.bytes(b)
}

func (s *fakeSnapshot) RowDiff(expected, found []byte) []verify.Field {
	return columnsDiff(expected, found)
}

func (s *fakeSnapshot) Decided(_ context.Context, requests []uuid.UUID, before verify.Position) (all []registrations.Outcome, err error) {
	for _, row := range s.rows[s.partition] {
		earlier := row.LogEpoch < before.LogEpoch || row.LogEpoch == before.LogEpoch && row.Offset < before.Offset
		if row.Kind == processor.KindOutcome && earlier && slices.Contains(requests, row.RequestID) {
			all = append(all, row.Outcome)
		}
	}
	return all, nil
}

func (s *fakeSnapshot) Outcomes(_ context.Context, at []verify.Position) (all []registrations.Outcome, err error) {
	for _, row := range s.rows[s.partition] {
		here := slices.Contains(at, verify.Position{LogEpoch: row.LogEpoch, Offset: row.Offset})
		if here && (row.Kind == processor.KindOutcome || row.Kind == processor.KindFact) {
			all = append(all, row.Outcome)
		}
	}
	return all, nil
}

func (s *fakeSnapshot) Names(_ context.Context, each func(verify.StoredName) error) error {
	refs := slices.SortedFunc(maps.Keys(s.names), func(a, b names.Ref) int { return cmp.Compare(a.String(), b.String()) })
	for _, ref := range refs {
		h := s.names[ref]
		if h.Partition != s.partition {
			continue
		}
		b, err := s.AppendName(nil, ref, h, uuid.Nil)
		if err != nil {
			return err
		}
		if err := each(verify.StoredName{Ref: ref, ClaimID: h.ClaimID, Replaces: h.Replaces, ReplacesVersion: h.ReplacesVersion, Bytes: b}); err != nil {
			return err
		}
	}
	return nil
}

// AppendName leaves out the first claim: the record in memory has none.
func (s *fakeSnapshot) AppendName(b []byte, ref names.Ref, h registrations.Holding, _ uuid.UUID) ([]byte, error) {
	spell := func(t time.Time) string { return t.UTC().String() }
	return columns{
		{"name", h.Name}, {"state", string(h.State)}, {"owner", h.Owner}, {"claim_id", h.ClaimID.String()}, {"version", fmt.Sprint(h.Version)},
		{"policy_version", fmt.Sprint(h.PolicyVersion)}, {"since", spell(h.Since)}, {"settled", fmt.Sprint(h.Settled)}, {"expires_at", spell(h.ExpiresAt)},
		{"previous", h.Previous}, {"replaces", fmt.Sprintf("%s %d", h.Replaces, h.ReplacesVersion)}, {"signup", h.Signup.String()}, {"ballot", h.Ballot},
	}.bytes(b)
}

func (s *fakeSnapshot) NameDiff(expected, found []byte) []verify.Field {
	return columnsDiff(expected, found)
}
