package dibstest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sweepWithin bounds one look at a server.
const sweepWithin = time.Minute

// sweep looks for traces of private values in what tests have written, and keeps what it finds.
type sweep struct {
	traces traces
	found  []string
}

func newSweep() *sweep { return &sweep{traces: canaryTraces} }

// enough are the findings that are shown: a value that is written down once is written down often.
const enough = 20

func (s *sweep) look(where string, text []byte) (found bool) {
	trace := s.traces.in(text)
	if trace != "" && len(s.found) < enough {
		s.found = append(s.found, where+": "+trace)
	}
	return trace != ""
}

// report fails a test for what was found, and for what could not be looked at.
func (s *sweep) report(t testing.TB, err error) {
	t.Helper()
	for _, what := range s.found {
		t.Errorf("a private value is written down: %s", what)
	}
	if err != nil {
		t.Errorf("look for private values: %v", err)
	}
}

// err is the same for who has no test to fail.
func (s *sweep) err() error {
	if len(s.found) == 0 {
		return nil
	}
	return fmt.Errorf("a private value is written down: %s", strings.Join(s.found, "\n  and: "))
}

// SweepFiles looks for private values in what a server has written into its folder, data and logs alike. A test that
// starts a server without this package calls it before the folder is deleted.
func SweepFiles(t testing.TB, dir string) {
	t.Helper()
	s := newSweep()
	s.report(t, s.files(dir))
}

// servers looks for private values in all that is left on servers which tests have shared, and in their files: tests
// have deleted what was theirs, and it was looked at before that. On servers that somebody else has started nothing but
// tests' own topics and schemas is anybody's business.
func (s *sweep) servers(kafka *kafkaServer, postgres *postgresServer) error {
	ctx, cancel := context.WithTimeout(context.Background(), sweepWithin)
	defer cancel()
	var errs []error
	if kafka != nil && kafka.kind != Environment {
		errs = append(errs, s.topics(ctx, kafka.addrs, ""), s.files(kafka.dir))
	}
	if postgres != nil && postgres.kind != Environment {
		errs = append(errs, s.tables(ctx, postgres.dsn, "%"), s.files(postgres.config.DataDir))
	}
	return errors.Join(append(errs, s.err())...)
}

// topics reads all records of the topics whose names begin with a prefix, from the first to the last of now: keys,
// values and headers.
func (s *sweep) topics(ctx context.Context, addrs []string, prefix string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.KeepRetryableFetchErrors())
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	all, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, topic := range all.Names() {
		if strings.HasPrefix(topic, prefix) {
			names = append(names, topic)
		}
	}
	if len(names) == 0 {
		return nil
	}
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return err
	}
	from := make(map[string]map[int32]kgo.Offset)
	left := make(map[string]map[int32]int64) // the offset to read to
	waiting := 0
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if !ok || start.Err != nil || end.Err != nil || start.Offset >= end.Offset {
			return // it is gone, or empty
		}
		if from[end.Topic] == nil {
			from[end.Topic], left[end.Topic] = make(map[int32]kgo.Offset), make(map[int32]int64)
		}
		from[end.Topic][end.Partition] = kgo.NewOffset().At(start.Offset)
		left[end.Topic][end.Partition] = end.Offset
		waiting++
	})
	if waiting == 0 {
		return nil
	}
	client.AddConsumePartitions(from)
	for waiting > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d partitions of %s… are not read to their end: %w", waiting, prefix, errors.Join(err, fetches.Err()))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			s.look(fmt.Sprintf("topic %s, partition %d, offset %d", r.Topic, r.Partition, r.Offset), recordBytes(r))
			if end, waits := left[r.Topic][r.Partition]; waits && r.Offset >= end-1 {
				delete(left[r.Topic], r.Partition)
				waiting--
			}
		})
	}
	return nil
}

// recordBytes is everything in a record that somebody has written.
func recordBytes(r *kgo.Record) []byte {
	b := append(append(append([]byte(nil), r.Key...), '\n'), r.Value...)
	for _, h := range r.Headers {
		b = append(append(append(append(b, '\n'), h.Key...), '\n'), h.Value...)
	}
	return b
}

// tables reads all rows of the schemas whose names are like a pattern: every column as text, and bytes as they are.
func (s *sweep) tables(ctx context.Context, dsn, like string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(ctx, "SET bytea_output = 'escape'"); err != nil { // letters stay letters
		return err
	}
	found, err := conn.Query(ctx, `SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname LIKE $1 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'm')`, like)
	if err != nil {
		return err
	}
	type table struct{ Schema, Name string }
	tables, err := pgx.CollectRows(found, pgx.RowToStructByPos[table])
	if err != nil {
		return err
	}
	for _, t := range tables {
		name := pgx.Identifier{t.Schema, t.Name}.Sanitize()
		rows := bufio.NewWriterSize(s.stream("table "+name), 1<<17)
		_, err := conn.PgConn().CopyTo(ctx, rows, "COPY (SELECT * FROM "+name+") TO STDOUT")
		if err = errors.Join(err, rows.Flush()); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
	}
	return nil
}

// files reads all files of a folder, such as a server's data and its logs: what was deleted or changed is still in the
// log of the database. It looks for the word alone, as it is: there is much to read.
func (s *sweep) files(dir string) error {
	if dir == "" {
		return nil
	}
	all := s.traces
	s.traces = all[:1]
	defer func() { s.traces = all }()
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // the server goes on deleting
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "binaries", d.IsDir() && d.Name() == "runtime": // the server itself
			return filepath.SkipDir
		case !d.Type().IsRegular(), strings.HasSuffix(path, "index"): // Kafka makes these large, and they hold numbers
			return nil
		}
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if _, err := io.CopyBuffer(struct{ io.Writer }{s.stream("file " + path)}, struct{ io.Reader }{file}, make([]byte, 1<<20)); err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
		return nil
	})
}

// stream looks at what is written to it, also over the ends of what it gets at once, until it finds something.
func (s *sweep) stream(where string) io.Writer { return &stream{sweep: s, where: where} }

type stream struct {
	sweep *sweep
	where string
	kept  []byte
	found bool
}

func (w *stream) Write(b []byte) (int, error) {
	if w.found {
		return len(b), nil
	}
	w.kept = append(w.kept, b...)
	w.found = w.sweep.look(w.where, w.kept)
	w.kept = w.kept[:copy(w.kept, w.kept[max(0, len(w.kept)-w.sweep.traces.longest()):])]
	return len(b), nil
}
