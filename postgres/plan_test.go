package postgres_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The tables that grow are read through an index whatever the planner knew of them when it planned: one that was empty,
// never looked at or found empty, is large soon after. EXPLAIN shows the plans, and the counters of the server what the
// functions and the prepared statements of real calls did.

// How large the tables become behind the planner's back: the ways in which it is asked most, and the others.
const (
	grown       = 200_000
	grownLittle = 20_000
)

var modes = []string{"auto", "force_generic_plan", "force_custom_plan"}

// indexed lists the statements that look something up, with parameters and the indexes that each must go through.
var indexed = map[string]struct{ params, indexes string }{
	"look_names":    {`'{username}', '{alice}'`, "names_pkey"},
	"look_requests": {`'{0}', '{6f0c0000-0000-4000-8000-000000000000}'`, "decisions_request decisions_mark"},
	"due":           {`'{0,1,2,3,4,5,6,7,8,9,10,11}', '2026-11-21', 2000`, "names_due"},
	"owned_names":   {`'u-1', '', '', 50, '{username}'`, "names_owner"},
	"look_either":   {`'{username}', '{alice}', '{erased 00}'`, "names_pkey"},
	"history":       {`'username', 'alice', 'erased 00', 1, 50`, "decisions_history"},
	"history_first": {`'username', 'alice', 'erased 00'`, "names_pkey decisions_request"},
	"sequel": {`'6f0c0000-0000-4000-8000-000000000000', 0, 'username', 'alice', 1, '6f0c0000-0000-4000-8000-000000000001'`,
		"decisions_request decisions_history"},
	"decided":     {`'{6f0c0000-0000-4000-8000-000000000000}'`, "decisions_request"},
	"unpublished": {`0, 1, 0`, "decisions_pkey"},

	"oldest_rows":    {`0, 1, 0, 1, 100, 1000`, "decisions_pkey"},
	"repeated":       {`0, 1, 0`, "decisions_pkey decisions_request"},
	"forget":         {`0, 1, 0, 1, 100`, "decisions_pkey"},
	"forget_letters": {`0, 1, 0, 1, 100`, "dead_letters_pkey"},

	"verify_rows":     {`0, 1, 0, 0, 4096`, "decisions_pkey dead_letters_pkey"},
	"verify_decided":  {`'{0}', '{6f0c0000-0000-4000-8000-000000000000}', 1, 100`, "decisions_request"},
	"verify_outcomes": {`0, '{1}', '{100}'`, "decisions_pkey"},
}

func TestPlans(t *testing.T) {
	for _, emptied := range []bool{false, true} {
		for _, mode := range modes {
			for _, seqscan := range []string{"on", "off"} {
				if emptied && seqscan == "on" {
					continue // a table known to be empty is read whole by anybody's planner: why the record switches it off
				}
				t.Run(fmt.Sprintf("vacuumed=%t/%s/seqscan=%s", emptied, mode, seqscan), func(t *testing.T) {
					t.Parallel()
					testPlans(t, emptied, mode, seqscan)
				})
			}
		}
	}
}

func testPlans(t *testing.T, emptied bool, mode, seqscan string) {
	cfg := configure(t)
	c := connect(t, cfg)
	for _, table := range []string{"names", "decisions", "dead_letters"} {
		exec(t, c, `ALTER TABLE `+table+` SET (autovacuum_enabled = off)`)
		if emptied {
			exec(t, c, `VACUUM ANALYZE `+table)
		}
	}
	exec(t, c, `SET plan_cache_mode = `+mode)
	exec(t, c, `SET enable_seqscan = `+seqscan)
	for name := range indexed {
		exec(t, c, `PREPARE `+name+` AS `+postgres.Statements()[name])
	}
	explain := func(when string) {
		t.Helper()
		for name, want := range indexed {
			for range 7 { // the generic plan comes in with the sixth
				rows, _ := c.Query(t.Context(), `EXPLAIN EXECUTE `+name+`(`+want.params+`)`)
				lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					t.Fatal(err)
				}
				plan := strings.Join(lines, "\n")
				for _, index := range strings.Fields(want.indexes) {
					if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index Scan using "+index) && !strings.Contains(plan, "Bitmap Index Scan on "+index) {
						t.Fatalf("%s, %s, not through %s:\n%s", name, when, index, plan)
					}
				}
			}
		}
	}
	explain("empty")
	switch {
	case emptied: // TestNoTableIsReadWhole goes on from there
		return
	case mode == "auto" && seqscan == "on":
		grow(t, c, grown)
	default:
		grow(t, c, grownLittle)
	}
	explain("grown, not analyzed")
	exec(t, c, `ANALYZE names, decisions`)
	explain("grown, analyzed")
}

func grow(t *testing.T, c *pgx.Conn, rows int) {
	t.Helper()
	exec(t, c, `INSERT INTO names (version, partition, policy_version, state, space, key, owner)
		SELECT 1, i % 12, 1, 'r', 'username', 'grown-' || i, 'u-' || i FROM generate_series(1, $1::int) i`, rows)
	exec(t, c, `INSERT INTO names (version, partition, policy_version, state, space, key, owner, expires_at)
		SELECT 1, i % 12, 1, 's', 'username', 'reserved-' || i, 'u-' || i, '2027-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, $1::int) i`, rows/4)
	exec(t, c, `INSERT INTO decisions (partition, log_epoch, "offset", seq, kind, outcome, state, version, request_id, space, key)
		SELECT 200 + i % 12, 1, i, 0, 'o', 'C', 'r', 2, gen_random_uuid(), 'username', 'grown-' || i FROM generate_series(1, $1::int) i`, rows/4)
	exec(t, c, `INSERT INTO decisions (partition, log_epoch, "offset", seq, kind, request_id, owner)
		SELECT 300 + i % 12, 1, i, 0, 'm', gen_random_uuid(), 'u' FROM generate_series(1, $1::int) i`, rows/20)
	exec(t, c, `INSERT INTO decisions (partition, log_epoch, "offset", seq, kind, outcome, request_id, key)
		SELECT 100 + i % 12, 1, i, 0, 'o', 'A', gen_random_uuid(), 'grown-' || i FROM generate_series(1, $1::int) i`, rows)
}

// TestNoTableIsReadWhole runs a lane's calls on connections that planned while everything was empty, then on large
// tables that nobody has analyzed, in every plan_cache_mode, and asks the server what it did.
func TestNoTableIsReadWhole(t *testing.T) {
	for _, mode := range modes {
		for _, emptied := range []bool{false, true} {
			for _, erased := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/vacuumed=%t/erased=%t", mode, emptied, erased), func(t *testing.T) {
					t.Parallel()
					testNoTableIsReadWhole(t, mode, emptied, erased)
				})
			}
		}
	}
}

// erased: something was in the partition, so that names are looked for and written in two forms.
func testNoTableIsReadWhole(t *testing.T, mode string, emptied, erased bool) {
	cfg := configure(t)
	c := connect(t, cfg)
	if cfg.Eraser = eraser; erased {
		exec(t, c, `INSERT INTO erasures (partition, log_epoch, "offset", at, done_at, whole, request_id)
			VALUES (0, 0, 0, now(), now(), true, gen_random_uuid())`)
	}
	for _, table := range []string{"names", "decisions", "dead_letters"} {
		exec(t, c, `ALTER TABLE `+table+` SET (autovacuum_enabled = off)`)
		if emptied {
			exec(t, c, `VACUUM ANALYZE `+table)
		}
	}
	before := scans(t, c)
	cfg.MaxConns = 1 // every statement is planned once, while the tables are empty
	if strings.Contains(cfg.DSN, "?") {
		cfg.DSN += "&plan_cache_mode=" + mode
	} else if strings.Contains(cfg.DSN, "://") {
		cfg.DSN += "?plan_cache_mode=" + mode
	} else {
		cfg.DSN += " plan_cache_mode=" + mode
	}
	r := open(t, cfg)
	s := acquire(t, r, 0)
	// An owner's names are read all, and those of versions before as well while somebody on the server still sees them: every round
	// has an owner of its own, else that is most of what is read, and more beside other tests than alone.
	round := func(n int, prefix string) {
		t.Helper()
		owner := "owner-of-" + prefix
		accepting := func() processor.Batch {
			b := accepting(s, n, prefix)
			for i := range b.Rows {
				b.Rows[i].Outcome.Owner, b.Changes[i].Holding.Owner = owner, owner
			}
			return b
		}
		b := accepting()
		var refs []names.Ref
		var requests []processor.Request
		for i := range b.Rows {
			refs = append(refs, b.Rows[i].Outcome.Ref)
			requests = append(requests, processor.Request{Partition: 0, ID: b.Rows[i].RequestID})
		}
		if _, err := r.Look(t.Context(), []processor.Fence{s.Fence}, refs, requests); err != nil {
			t.Fatal(err)
		}
		commit(t, r, b)
		s = standing(t, r, 0)
		again := accepting()
		for i := range again.Changes {
			again.Changes[i].Version, again.Changes[i].Holding.Version = 1, 2
		}
		commit(t, r, again)
		s = standing(t, r, 0)
		if _, err := r.Unpublished(t.Context(), s.Fence, s.NextOffset-int64(n)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Decided(t.Context(), []uuid.UUID{uuid.New(), b.Rows[0].RequestID}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Name(t.Context(), refs[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Sequel(t.Context(), b.Rows[0].Outcome); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Due(t.Context(), []int32{0, 1, 2}, logTime, 2000); err != nil {
			t.Fatal(err)
		}
		if owned, err := r.ByOwner(t.Context(), owner, nil, 10, names.Ref{}); err != nil || len(owned) == 0 {
			t.Fatalf("owned are %v, %v", owned, err)
		}
		if entries, err := r.History(t.Context(), refs[0], 1, 10); err != nil || len(entries) != 1 {
			t.Fatalf("the history is %v, %v", entries, err)
		}
		if entries, err := r.History(t.Context(), refs[0], 2, 10); err != nil || len(entries) != 0 {
			t.Fatalf("the history is %v, %v", entries, err)
		}
	}
	for i := range 7 {
		round(2, fmt.Sprintf("small%d-", i))
		round(200, fmt.Sprintf("large%d-", i))
	}
	if mode == "force_generic_plan" && emptied { // what the record asks for, at its worst
		grow(t, c, grown)
	} else {
		grow(t, c, grownLittle)
	}
	grew := scans(t, c)
	for i := range 7 {
		round(2, fmt.Sprintf("grown-small%d-", i))
		round(200, fmt.Sprintf("grown-large%d-", i))
	}
	r.Close() // which brings its counters home
	after := scans(t, c)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); { // from one backend after the other
		before := after
		<-time.After(100 * time.Millisecond)
		if after = scans(t, c); after["idx"] >= grew["idx"]+1000 && maps.Equal(after, before) {
			break
		}
	}
	for _, table := range []string{"names", "decisions", "dead_letters"} {
		if n := after[table] - before[table]; n != 0 {
			t.Errorf("%s was read whole %d times", table, n)
		}
	}
	if after["idx"] < grew["idx"]+1000 {
		t.Errorf("the counters did not come home: %v, then %v", grew, after)
	}
	// Without seq_scan the planner that finds no other way reads an index from one end to the other.
	if entries, times := after["entries"]-grew["entries"], after["idx"]-grew["idx"]; entries > 10*times {
		t.Errorf("%d entries of indexes were read in %d scans", entries, times)
	} else {
		t.Logf("%d entries of indexes were read in %d scans", entries, times)
	}
}

// scans counts how often each table was read whole, under "idx" how often any was read through an index, and under "entries"
// what was read of those.
func scans(t *testing.T, c *pgx.Conn) map[string]int64 {
	t.Helper()
	exec(t, c, `SELECT pg_stat_clear_snapshot()`)
	rows, _ := c.Query(t.Context(), `SELECT relname::text, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE schemaname = current_schema()`)
	counts := make(map[string]int64)
	var table string
	var seq, idx int64
	if _, err := pgx.ForEachRow(rows, []any{&table, &seq, &idx}, func() error {
		counts[table] = seq
		counts["idx"] += idx
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var entries int64
	if err := c.QueryRow(t.Context(), `SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = current_schema()`).Scan(&entries); err != nil {
		t.Fatal(err)
	}
	counts["entries"] = entries
	return counts
}

// TestIndexedIsEverything: a statement that reads a table that grows is among those whose plans are looked at.
func TestIndexedIsEverything(t *testing.T) {
	t.Parallel()
	for name, sql := range postgres.Statements() {
		reads := slices.ContainsFunc([]string{"FROM names", "FROM decisions", "FROM dead_letters", "JOIN names", "JOIN decisions"}, func(s string) bool { return strings.Contains(sql, s) })
		if _, ok := indexed[name]; reads && !ok {
			t.Errorf("nobody looks at the plan of %s", name)
		}
	}
}
