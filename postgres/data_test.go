package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestRefusedData: what the database cannot hold is ErrData, leaves nothing, and costs the neighbours nothing once it
// is taken out. In both ways to write.
func TestRefusedData(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	partition := int32(0)
	for why, spoil := range map[string]func(*processor.Batch){
		"NUL in an owner":             func(b *processor.Batch) { b.Rows[0].Outcome.Owner = "a\x00b" },
		"NUL in a key":                func(b *processor.Batch) { b.Rows[0].Outcome.Ref.Key = "a\x00b" },
		"NUL in a name's row":         func(b *processor.Batch) { b.Changes[0].Holding.Name = "a\x00b" },
		"a detail that is not UTF-8":  func(b *processor.Batch) { b.Rows[0].Outcome.Detail = "\xff" },
		"a principal of an outcome":   func(b *processor.Batch) { b.Rows[0].Principal = "\xff" },
		"a log time without end":      func(b *processor.Batch) { b.LogTime = time.UnixMilli(math.MaxInt64) },
		"a log time without begin":    func(b *processor.Batch) { b.LogTime = time.UnixMilli(math.MinInt64 + 1) },
		"a log time of an outcome":    func(b *processor.Batch) { b.Rows[0].Outcome.LogTime = time.UnixMilli(math.MaxInt64 / 10) },
		"a key too long for an index": func(b *processor.Batch) { b.Changes[0].Ref.Key = names.Key(long()) },
		"a version of zero":           func(b *processor.Batch) { b.Changes[0].Holding.Version = 0 },
		"an unknown state":            func(b *processor.Batch) { b.Changes[0].State = "strange" },
		"an unknown outcome":          func(b *processor.Batch) { b.Rows[0].Outcome.Type = "Strange" },
		"an unknown kind":             func(b *processor.Batch) { b.Rows[0].Kind = "strange" },
		"an outcome's unknown state":  func(b *processor.Batch) { b.Rows[0].Outcome.State = "strange" },
		"a seq out of range":          func(b *processor.Batch) { b.Rows[0].Seq, b.Rows[0].Outcome.Seq = 1<<15, 1<<15 },
		"a policy version too large":  func(b *processor.Batch) { b.Rows[0].Outcome.PolicyVersion = 1 << 31 },
		"a holding's policy version":  func(b *processor.Batch) { b.Changes[0].PolicyVersion = 1 << 31 },
		"an outcome of another place": func(b *processor.Batch) { b.Rows[0].Outcome.Offset++ },
		"a fact said to be an answer": func(b *processor.Batch) { b.Rows[0].Outcome.Fact = true },
		"NUL in an actor":             func(b *processor.Batch) { b.Rows[0].Actor = "a\x00b" },
		"a reason that is not UTF-8":  func(b *processor.Batch) { b.Rows[0].Why = "\xff" },
		"NUL in a previous owner":     func(b *processor.Batch) { b.Changes[0].Previous = "a\x00b" },
		"NUL in a replaced name":      func(b *processor.Batch) { b.Changes[0].Replaces = "a\x00b" },
		"an outcome's endless expiry": func(b *processor.Batch) { b.Rows[0].Outcome.ExpiresAt = time.UnixMilli(math.MaxInt64 / 10) },
		"a name's endless expiry":     func(b *processor.Batch) { b.Changes[0].ExpiresAt = time.UnixMilli(math.MaxInt64 / 10) },
		"a mark's owner":              func(b *processor.Batch) { b.Rows[0] = marking(0, "\xff") },
		"NUL in a follow-up":          func(b *processor.Batch) { b.Rows[0].FollowUp = following(b, "a\x00b") },
		"a follow-up of no name":      func(b *processor.Batch) { b.Rows[0].FollowUp = following(b, "") },
		"another claim's follow-up":   func(b *processor.Batch) { b.Rows[0].FollowUp = following(b, "old"); b.Rows[0].FollowUp.Claim[0]++ },
		"another owner's follow-up":   func(b *processor.Batch) { b.Rows[0].FollowUp = following(b, "old"); b.Rows[0].FollowUp.Owner = "u-2" },
		"another space's follow-up": func(b *processor.Batch) {
			b.Rows[0].FollowUp = following(b, "old")
			b.Rows[0].FollowUp.Ref.Space = "email"
		},
		"what follows a mark": func(b *processor.Batch) {
			f := following(b, "old")
			b.Rows[0] = marking(0, "u")
			b.Rows[0].FollowUp = f
		},
		"who marked":          func(b *processor.Batch) { b.Rows[0] = marking(0, "u"); b.Rows[0].Actor = "ops" },
		"why there is a mark": func(b *processor.Batch) { b.Rows[0] = marking(0, "u"); b.Rows[0].Why = "because" },
		"what follows a death": func(b *processor.Batch) {
			f := following(b, "old")
			b.Rows[0] = processor.Row{Kind: processor.KindDead, FollowUp: f}
		},
	} {
		for _, size := range []int{1, 600} {
			partition++
			s, other := acquire(t, r, 2*partition), acquire(t, r, 2*partition+1)
			prefix := fmt.Sprintf("%s of %d ", why, size)
			b, neighbour := accepting(s, size, prefix), accepting(other, 1, "beside "+prefix)
			spoil(&b)
			if err := r.Commit(t.Context(), []processor.Batch{b, neighbour}); !errors.Is(err, processor.ErrData) || errors.Is(err, processor.ErrConflict) {
				t.Errorf("%s, size %d: %v", why, size, err)
			}
			if now := standing(t, r, 2*partition); now != s {
				t.Errorf("%s, size %d: the row is %+v", why, size, now)
			}
			commit(t, r, accepting(s, size, prefix), neighbour)
		}
	}
	_, err := r.Look(t.Context(), nil, []names.Ref{ref("a\x00b")}, nil)
	if !errors.Is(err, processor.ErrData) {
		t.Errorf("look: %v", err)
	}
}

func marking(offset int64, owner string) processor.Row {
	return processor.Row{Offset: offset, Kind: processor.KindMark, RequestID: uuid.New(), Outcome: registrations.Outcome{Owner: owner}}
}

// following is what the first row of a batch leads to: the release of a key.
func following(b *processor.Batch, key string) *processor.FollowUp {
	o := &b.Rows[0].Outcome
	return &processor.FollowUp{Claim: o.ClaimID, Ref: ref(key), Owner: o.Owner, Version: 1}
}

// long is a text that an index cannot hold, however it is compressed.
func long() string {
	var b strings.Builder
	chars := rand.New(rand.NewPCG(1, 2))
	for range 8000 {
		b.WriteByte('!' + byte(chars.IntN(90)))
	}
	return b.String()
}

// TestBehindTheLog: what is written at a place that the fence says is not reached is no record's fault.
func TestBehindTheLog(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	r := open(t, cfg)
	c := connect(t, cfg)
	for _, size := range []int{1, 600} {
		s := acquire(t, r, int32(size))
		b := accepting(s, size, fmt.Sprint(size))
		b.Rows[0] = processor.Row{Kind: processor.KindDead}
		for _, behind := range []string{
			`INSERT INTO decisions (partition, log_epoch, "offset", seq, kind) VALUES ($1, 1, 0, 0, 'x')`,
			`INSERT INTO dead_letters (partition, log_epoch, "offset", reason) VALUES ($1, 1, 0, 'x')`,
		} {
			exec(t, c, behind, size)
			if err := r.Commit(t.Context(), []processor.Batch{b}); !errors.Is(err, processor.ErrConflict) {
				t.Errorf("%s, size %d: %v", behind, size, err)
			}
			exec(t, c, `TRUNCATE decisions, dead_letters`)
		}
		commit(t, r, b)
	}
}

// TestDeadRowsCanAlwaysBeWritten: there is no other place for them.
func TestDeadRowsCanAlwaysBeWritten(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	s := acquire(t, r, 0)
	odd := "nul \x00 and \xff\xfe and " + long()
	b := processor.Batch{Fence: s.Fence, Next: 2, LogTime: logTime, Rows: []processor.Row{
		{Offset: 0, Kind: processor.KindDead, Principal: odd, Detail: odd, Raw: &cloudevents.Record{Key: []byte(odd)}},
		{Offset: 1, Kind: processor.KindForwarded, Principal: odd, Raw: &cloudevents.Record{Key: []byte(odd)}},
	}}
	commit(t, r, b)
	rows, err := r.Unpublished(t.Context(), s.Fence, 0)
	if err != nil || len(rows) != 2 || string(rows[0].Raw.Key) != odd || !strings.HasPrefix(rows[0].Detail, "nul \ufffd and \ufffd") {
		t.Errorf("rows are %+v, %v", rows, err)
	}
}

// TestNewerRows: a row that this version cannot encode again is not published as something else.
func TestNewerRows(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	r := open(t, cfg)
	c := connect(t, cfg)
	s := acquire(t, r, 0)
	b := accepting(s, 1, "alice")
	commit(t, r, b)
	for _, sql := range []string{`rules = 2`, `rules = 1, kind = '?'`, `kind = 'o', outcome = '?'`, `outcome = 'A', state = '?'`} {
		exec(t, c, `UPDATE decisions SET `+sql)
		if rows, err := r.Unpublished(t.Context(), s.Fence, 0); err == nil {
			t.Errorf("%s is read as %+v", sql, rows)
		}
	}
	exec(t, c, `UPDATE decisions SET state = 'r', raw = NULL`)
	if rows, err := r.Unpublished(t.Context(), s.Fence, 0); err != nil || rows[0].Outcome != b.Rows[0].Outcome {
		t.Errorf("rows are %+v, %v", rows, err)
	}
	exec(t, c, `UPDATE decisions SET kind = 'd'`) // the outcome that it repeats is gone
	if _, err := r.Unpublished(t.Context(), s.Fence, 0); !errors.Is(err, processor.ErrConflict) {
		t.Errorf("a duplicate of nothing: %v", err)
	}
	exec(t, c, `UPDATE decisions SET kind = 'w', raw = '\x02'`)
	if _, err := r.Unpublished(t.Context(), s.Fence, 0); err == nil {
		t.Error("a raw record of another version is read")
	}
	exec(t, c, `UPDATE names SET state = '?'`)
	if h, err := r.Name(t.Context(), ref("alice0")); err == nil {
		t.Errorf("an unknown state is read as %+v", h)
	}
}

func FuzzReadRaw(f *testing.F) {
	for _, r := range []cloudevents.Record{
		{}, {Key: []byte{}}, {Value: []byte("v"), Time: logTime},
		{Key: []byte("k"), Headers: []cloudevents.Header{{Name: "n", Value: []byte{}}, {Name: "m"}}, Time: time.UnixMilli(-1)},
	} {
		f.Add(postgres.AppendRaw(nil, &r))
	}
	f.Add([]byte{1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80})
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, stored []byte) {
		r, err := postgres.ReadRaw(stored)
		if err != nil {
			return
		}
		again, err := postgres.ReadRaw(postgres.AppendRaw(nil, &r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%x is read as %+v, and again as %+v, %v", stored, r, again, err)
		}
		if clipped := stored[:len(stored)-1]; len(clipped) > 0 {
			if _, err := postgres.ReadRaw(bytes.Clone(clipped)); err == nil {
				t.Fatalf("%x is read although it lacks its end", clipped)
			}
		}
	})
}
