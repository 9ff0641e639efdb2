package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// BenchmarkRecord is a lane's work in Postgres: look up and commit batch after batch, on one connection at a time. One
// claim in five is of a name that is taken.
func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{1, 16, 64, 128, 256, 512, 1024, 4096, 8000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) { benchmarkRecord(b, size, false) })
	}
}

// BenchmarkRecordErased is the same where something was erased in every partition: names are looked up in two forms.
func BenchmarkRecordErased(b *testing.B) {
	for _, size := range []int{1, 64, 1024, 8000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) { benchmarkRecord(b, size, true) })
	}
}

// BenchmarkRecordGrown is the same on tables that were filled before (dibs bench --grow), one schema after the other and batch by
// batch in turn, right behind a checkpoint: what each claim costs in time and write-ahead log.
//
//	DIBS_TEST_GROWN_DSN=postgres://… DIBS_TEST_GROWN=small,large go test ./postgres -run '^$' -bench RecordGrown -benchtime 200x
func BenchmarkRecordGrown(b *testing.B) {
	dsn, schemas := os.Getenv("DIBS_TEST_GROWN_DSN"), os.Getenv("DIBS_TEST_GROWN")
	if dsn == "" || schemas == "" {
		b.Skip("DIBS_TEST_GROWN_DSN and DIBS_TEST_GROWN say where something has grown")
	}
	type grown struct {
		*lanes
		looking, committing time.Duration
		wal                 int64
		c                   *pgx.Conn
	}
	for _, size := range []int{64, 1024, 8000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			all := make(map[string]*grown)
			order := strings.Split(schemas, ",")
			for _, schema := range order {
				cfg := postgres.Config{DSN: dsn, Schema: schema}
				if _, err := postgres.Migrate(b.Context(), cfg); err != nil {
					b.Fatal(err)
				}
				g := &grown{lanes: newLanes(b, open(b, cfg)), c: connect(b, cfg)}
				g.load.first = int(time.Now().UnixNano() % 1e15) // names of its own
				for range 5 {
					g.batch(b, size)
				}
				all[schema] = g
			}
			exec(b, all[order[0]].c, `CHECKPOINT`)
			b.ResetTimer()
			for b.Loop() {
				for _, schema := range order {
					g := all[schema]
					wal := walAt(b, g.c)
					looking, committing := g.batch(b, size)
					g.wal += walAt(b, g.c) - wal
					g.looking, g.committing = g.looking+looking, g.committing+committing
				}
			}
			for _, schema := range order {
				g := all[schema]
				b.ReportMetric(float64(b.N*size)/(g.looking+g.committing).Seconds(), schema+"-claims/s")
				b.ReportMetric(float64(g.looking.Microseconds())/float64(b.N)/1000, schema+"-look-ms")
				b.ReportMetric(float64(g.committing.Microseconds())/float64(b.N)/1000, schema+"-commit-ms")
				b.ReportMetric(float64(g.wal)/float64(b.N*size), schema+"-WAL-B/claim")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkForgetGrown forgets what is older than 300 days there, a thousand rows at a time as a lane does.
func BenchmarkForgetGrown(b *testing.B) {
	dsn, schemas := os.Getenv("DIBS_TEST_GROWN_DSN"), os.Getenv("DIBS_TEST_GROWN")
	if dsn == "" || schemas == "" {
		b.Skip("DIBS_TEST_GROWN_DSN and DIBS_TEST_GROWN say where something has grown")
	}
	for _, schema := range strings.Split(schemas, ",") {
		b.Run(schema, func(b *testing.B) {
			cfg := postgres.Config{DSN: dsn, Schema: schema}
			l := newLanes(b, open(b, cfg))
			l.batch(b, 1024) // which gives every partition a log time
			c := connect(b, cfg)
			rows, wal, calls := 0, walAt(b, c), 0
			for b.Loop() {
				f, err := l.record.Forget(b.Context(), l.standings[calls%partitions].Fence, 300*24*time.Hour, 1000)
				if err != nil {
					b.Fatal(err)
				}
				rows, calls = rows+f.Rows, calls+1
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(walAt(b, c)-wal)/float64(max(1, rows)), "WAL-B/row")
		})
	}
}

func walAt(b *testing.B, c *pgx.Conn) (at int64) {
	b.Helper()
	if err := c.QueryRow(b.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&at); err != nil {
		b.Fatal(err)
	}
	return at
}

func benchmarkRecord(b *testing.B, size int, erased bool) {
	cfg := configure(b)
	cfg.Eraser = eraser
	record := open(b, cfg)
	if erased {
		exec(b, connect(b, cfg), `INSERT INTO erasures (partition, log_epoch, "offset", at, done_at, whole, request_id)
			SELECT p, 0, 0, now(), now(), true, gen_random_uuid() FROM generate_series(0, $1::int - 1) p`, partitions)
	}
	lanes := newLanes(b, record)
	decided := 0
	var looking, committing time.Duration
	for b.Loop() {
		l, c := lanes.batch(b, size)
		looking, committing = looking+l, committing+c
		decided += size
	}
	b.ReportMetric(float64(decided)/(looking+committing).Seconds(), "claims/s")
	b.ReportMetric(float64(looking.Microseconds())/float64(b.N)/1000, "look-ms")
	b.ReportMetric(float64(committing.Microseconds())/float64(b.N)/1000, "commit-ms")
	b.ReportMetric(0, "ns/op")
}

const partitions = 12

// lanes decide claims on all partitions of a record.
type lanes struct {
	record    *postgres.Record
	standings []processor.Standing
	load      *load
}

func newLanes(b *testing.B, record *postgres.Record) *lanes {
	b.Helper()
	l := &lanes{record: record, standings: make([]processor.Standing, partitions), load: newLoad()}
	for p := range l.standings {
		var err error
		if l.standings[p], err = record.Acquire(b.Context(), int32(p), uuid.New()); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// batch decides one batch, and says how long looking up and committing took.
func (l *lanes) batch(b *testing.B, size int) (looking, committing time.Duration) {
	b.Helper()
	batches, refs, requests := l.load.batches(l.standings, size)
	fences := make([]processor.Fence, len(batches))
	for i := range batches {
		fences[i] = batches[i].Fence
	}
	began := time.Now()
	known, err := l.record.Look(b.Context(), fences, refs, requests)
	if err != nil {
		b.Fatal(err)
	}
	looking = time.Since(began)
	l.load.decide(batches, known)
	began = time.Now()
	if err := l.record.Commit(b.Context(), batches); err != nil {
		b.Fatal(err)
	}
	committing = time.Since(began)
	for i := range batches {
		l.standings[batches[i].Partition].NextOffset = batches[i].Next
	}
	return looking, committing
}

// load makes up claims: of new names, and one in five of one that is taken.
type load struct {
	rand  *rand.Rand
	first int // number of the first
	made  int
}

func newLoad() *load { return &load{rand: rand.New(rand.NewPCG(1, 2))} }

func spell(i int) string { return fmt.Sprintf("User_%x.%d", uint32(i)*2654435761, i) }

func (l *load) batches(standings []processor.Standing, size int) (batches []processor.Batch, refs []names.Ref, requests []processor.Request) {
	parts := min(len(standings), size)
	first := l.made
	batches = make([]processor.Batch, parts)
	for p := range batches {
		s := &standings[(p+first)%len(standings)]
		n := size / parts
		if p < size%parts {
			n++
		}
		b := &batches[p]
		b.Fence, b.Next, b.LogTime = s.Fence, s.NextOffset+int64(n), time.Now().UTC().Truncate(time.Millisecond)
		b.LastOffset, b.LastHash, b.PublishedThrough = b.Next-1, 1, s.NextOffset
		for i := range n {
			id := l.made
			if l.made > 100 && l.rand.IntN(5) == 0 {
				id = l.rand.IntN(l.made)
			}
			l.made++
			name := spell(l.first + id)
			o := registrations.Outcome{
				Type: registrations.Accepted, RequestID: uuid.New(), Ref: names.Ref{Space: "username", Key: names.Key(strings.ToLower(name))},
				Name: name, Owner: fmt.Sprintf("u-%d", l.made), State: registrations.Registered, Version: 1, PolicyVersion: 1,
				LogTime: b.LogTime, RequestHash: claims.Hash{1, 2, byte(l.made)}, Partition: s.Partition, LogEpoch: s.LogEpoch, Offset: s.NextOffset + int64(i),
			}
			o.ClaimID = o.RequestID
			b.Rows = append(b.Rows, processor.Row{Offset: o.Offset, Kind: processor.KindOutcome, RequestID: o.RequestID, Principal: "gateway", Outcome: o})
			refs = append(refs, o.Ref)
			requests = append(requests, processor.Request{Partition: s.Partition, ID: o.RequestID})
		}
	}
	return batches, refs, requests
}

func (l *load) decide(batches []processor.Batch, known processor.Known) {
	mine := make(map[names.Ref]bool)
	for i := range batches {
		b := &batches[i]
		for j := range b.Rows {
			o := &b.Rows[j].Outcome
			if _, taken := known.Holdings[o.Ref]; taken || mine[o.Ref] {
				o.Type, o.Reason, o.State, o.Version = registrations.Rejected, registrations.Taken, "", 0
				continue
			}
			mine[o.Ref] = true
			b.Changes = append(b.Changes, processor.Change{Ref: o.Ref, Holding: registrations.Holding{
				State: registrations.Registered, Name: o.Name, Owner: o.Owner, ClaimID: o.ClaimID, Version: 1, PolicyVersion: 1, Since: o.LogTime, Partition: b.Partition,
			}})
		}
	}
}
