package app_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/jackc/pgx/v5"
)

// deployment is one deployment of dibs: topics and a schema of its test's own, and the processes that work on them.
type deployment struct {
	t          testing.TB
	kafka      *dibstest.Broker
	database   *dibstest.Database
	partitions int
	topic      *topics
	keys       string   // file
	eraser     string   // file of the erasure secret
	more       []string // environment of all processes
	secrets    []string // which no process may say
	// calm fails the test for everything that a process calls an error: nothing may halt, and nothing be dead.
	calm bool
	// program is another build of dibs than that which is tested, to start from now on.
	program string

	mu      sync.Mutex
	started map[string]int
	answers []checker.Answer // what clients were told
}

// deploy makes the topics and the tables on the shared servers.
func deploy(t testing.TB, partitions int) *deployment {
	t.Helper()
	d := prepare(t, dibstest.Kafka(t), dibstest.Postgres(t), partitions)
	d.mustRun("migrate", "up")
	d.mustRun("topics", "create", "--partitions", strconv.Itoa(partitions), "--clock-bound", "1s") // so that a test can reserve for 2 s
	return d
}

// prepare is a deployment on which nothing has been made yet.
func prepare(t testing.TB, kafka *dibstest.Broker, database *dibstest.Database, partitions int) *deployment {
	t.Helper()
	d := &deployment{t: t, kafka: kafka, database: database, partitions: partitions, started: make(map[string]int)}
	d.topic = newTopics(t, kafka)
	d.keys = filepath.Join(t.TempDir(), "request-keys.yaml")
	if err := auth.MakeRequestKeys(d.keys, "k1"); err != nil {
		t.Fatal(err)
	}
	d.eraser = filepath.Join(t.TempDir(), "erasure-secret")
	if err := auth.MakeErasureSecret(d.eraser); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(d.keys)
	if err != nil {
		t.Fatal(err)
	}
	d.secret(string(text))
	secret, err := auth.ReadErasureSecret(d.eraser)
	if err != nil {
		t.Fatal(err)
	}
	d.secrets = append(d.secrets, hex.EncodeToString(secret))
	return d
}

// secretForm is a secret in a file of keys or peppers.
var secretForm = regexp.MustCompile(`secret: ?"?([0-9a-f]{64})`)

// secret takes note of the secrets of a file: no process may ever say them.
func (d *deployment) secret(file string) {
	d.t.Helper()
	found := secretForm.FindAllStringSubmatch(file, -1)
	for _, s := range found {
		d.secrets = append(d.secrets, s[1])
	}
	if len(found) == 0 {
		d.t.Fatal("there is no secret in the file")
	}
}

// env is the environment of a process, which Postgres knows by its name.
func (d *deployment) env(name string) []string {
	dsn, err := url.Parse(d.database.DSN)
	if err != nil {
		d.t.Fatal(err)
	}
	q := dsn.Query()
	q.Set("application_name", name)
	dsn.RawQuery = q.Encode()
	return append([]string{
		"DIBS_KAFKA_BROKERS=" + strings.Join(d.kafka.Addrs, ","), "DIBS_KAFKA_TOPIC_PREFIX=" + d.kafka.Prefix,
		"DIBS_POSTGRES_DSN=" + dsn.String(), "DIBS_POSTGRES_SCHEMA=" + d.database.Schema,
		"DIBS_API_ADDR=127.0.0.1:0", "DIBS_API_AUTH=none", "DIBS_OPS_ADDR=127.0.0.1:0", "DIBS_LOG_FORMAT=json",
		"DIBS_SECURITY_REQUEST_KEYS_FILE=" + d.keys, "DIBS_SECURITY_ERASURE_SECRET_FILE=" + d.eraser,
	}, d.more...)
}

// start starts another process of a role, such as "processor".
func (d *deployment) start(args ...string) *process {
	d.t.Helper()
	d.mu.Lock()
	d.started[args[0]]++
	name := fmt.Sprintf("%s-%d", args[0], d.started[args[0]])
	d.mu.Unlock()
	var p *process
	if d.program == "" {
		p = start(d.t, name, d.env(name), args...)
	} else {
		p = startProgram(d.t, d.program, name, d.env(name), args...)
	}
	p.never = append(p.never, d.secrets...)
	if d.calm {
		p.never = append(p.never, `"level":"ERROR"`)
	}
	return p
}

// again starts a process like one that has ended.
func (d *deployment) again(p *process) *process {
	d.t.Helper()
	return d.start(p.cmd.Args[1:]...)
}

// run runs a command to its end.
func (d *deployment) run(args ...string) (p *process, code int) {
	d.t.Helper()
	p = d.start(args...)
	return p, p.wait(2 * time.Minute)
}

// mustRun runs a command that succeeds, and returns what it says.
func (d *deployment) mustRun(args ...string) string {
	d.t.Helper()
	p, code := d.run(args...)
	if code != 0 {
		d.t.Fatalf("dibs %s: exit code %d\n%s", strings.Join(args, " "), code, p.errors())
	}
	return p.output()
}

// assigned waits until the processors own all partitions between them, and work on all that are not halted.
func (d *deployment) assigned(within time.Duration, processors ...*process) {
	d.t.Helper()
	eventually(d.t, within, func() error {
		owned := 0
		for _, p := range processors {
			n := d.owned(p)
			if n == 0 && len(processors) <= d.partitions {
				return fmt.Errorf("%s owns nothing", p.name)
			}
			owned += n
			for _, line := range strings.Split(p.readiness(), "\n") {
				if strings.HasPrefix(line, "[-] partitions") && !strings.Contains(line, "halted") {
					return fmt.Errorf("%s: %s", p.name, line)
				}
			}
		}
		if owned != d.partitions {
			return fmt.Errorf("%d of %d partitions are owned", owned, d.partitions)
		}
		return nil
	})
}

// owned counts the partitions that a processor owns.
func (d *deployment) owned(p *process) (n int) {
	for name, v := range p.metrics() {
		if strings.HasPrefix(name, "dibs_partition_owned{") && v == 1 {
			n++
		}
	}
	return n
}

// standing is a row of partitions.
type standing struct {
	Partition, LogEpoch          int32
	Next, Published, WriterEpoch int64
	Writer, Halted               string
}

// standings reads all rows of partitions, in order.
func (d *deployment) standings() []standing {
	d.t.Helper()
	return rows[standing](d, `SELECT partition, log_epoch, next_offset, published_through, writer_epoch, writer_id::text, coalesce(halted, '')
		FROM partitions ORDER BY partition`)
}

// settled waits until everything on claims is decided and published, but for what is halted.
func (d *deployment) settled(within time.Duration) {
	d.t.Helper()
	eventually(d.t, within, func() error {
		ends, err := d.topic.ends()
		if err != nil {
			return err
		}
		for _, s := range d.standings() {
			switch {
			case s.Halted != "":
			case s.Next < ends[s.Partition]:
				return fmt.Errorf("partition %d: next is %d, the log ends at %d", s.Partition, s.Next, ends[s.Partition])
			case s.Published < s.Next:
				return fmt.Errorf("partition %d: published through %d of %d", s.Partition, s.Published, s.Next)
			}
			delete(ends, s.Partition)
		}
		for p, end := range ends {
			if end > 0 {
				return fmt.Errorf("partition %d has records and no owner", p)
			}
		}
		return nil
	})
}

// written counts the records on claims.
func (d *deployment) written() (n int64) {
	d.t.Helper()
	ends, err := d.topic.ends()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, end := range ends {
		n += end
	}
	return n
}

// query runs f on a connection whose search path is the schema.
func (d *deployment) query(f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig(d.database.DSN)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["search_path"] = d.database.Schema
	cfg.RuntimeParams["application_name"] = "test"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, conn), conn.Close(ctx))
}

// hold runs a statement and keeps its transaction open, with the locks that it took, until release is called.
func (d *deployment) hold(sql string) (release func()) {
	d.t.Helper()
	held, let, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- d.query(func(ctx context.Context, conn *pgx.Conn) error {
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
				close(held)
				<-let
				return nil
			})
		})
	}()
	select {
	case <-held:
	case err := <-ended:
		d.t.Fatalf("%s: %v", sql, err)
	}
	return func() {
		d.t.Helper()
		close(let)
		if err := <-ended; err != nil {
			d.t.Fatal(err)
		}
	}
}

// rows reads all rows of a query into structs, by position.
func rows[T any](d *deployment, sql string, args ...any) (all []T) {
	d.t.Helper()
	err := d.query(func(ctx context.Context, conn *pgx.Conn) error {
		found, err := conn.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(found, pgx.RowToStructByPos[T])
		return err
	})
	if err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// value reads the one value of a query.
func value[T any](d *deployment, sql string, args ...any) (v T) {
	d.t.Helper()
	err := d.query(func(ctx context.Context, conn *pgx.Conn) error { return conn.QueryRow(ctx, sql, args...).Scan(&v) })
	if err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// exec runs statements.
func (d *deployment) exec(sql string) {
	d.t.Helper()
	if err := d.query(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	}); err != nil {
		d.t.Fatal(err)
	}
}

// metrics reads a process's metrics; none where it does not answer.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	all := make(map[string]float64)
	text, err := p.ask("/metrics")
	if err != nil {
		return all
	}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
				all[line[:i]] = v
			}
		}
	}
	return all
}

// readiness is what /readyz?verbose says.
func (p *process) readiness() string {
	text, err := p.ask("/readyz?verbose")
	if err != nil {
		return err.Error()
	}
	return text
}

func (p *process) ask(path string) (string, error) {
	a := get(p.opsAddr(), path)
	if a.err == nil && a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
		return "", fmt.Errorf("%s: %d", path, a.status)
	}
	return string(a.body), a.err
}

// sorted lists the keys of a map.
func sorted[K interface{ ~int32 | ~string }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
