package grow

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says what to fill.
type Config struct {
	// DSN and Schema are where the tables are; they are migrated and have no names yet.
	DSN, Schema string
	// Names is how many names there are to be, and Partitions over how many partitions they are spread.
	Names      int64
	Partitions int
	// Over is how long ago the first claim was. Defaults to 390 days.
	Over time.Duration
	// Progress is told of every step, by several at once; nil for nobody.
	Progress func(step string)
}

// ErrFilled says that a schema is filled already.
var ErrFilled = errors.New("it is filled already")

// ErrNotFilled says that a schema has names that no Fill made, or one that did not come to its end.
var ErrNotFilled = errors.New("it has names, and dibs bench --grow has not filled it to its end: name another schema")

// mark is the comment on the names of a schema that Fill has filled: what is in any other is not ours to delete.
const mark = "filled by dibs bench --grow"

// Check refuses a schema that has names and was not filled: with ErrNotFilled.
func Check(ctx context.Context, dsn, schema string) error {
	c, err := connect(ctx, dsn, schema)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	_, err = filled(ctx, c)
	if err != nil {
		return fmt.Errorf("schema %s: %w", schema, err)
	}
	return nil
}

// filled reports whether the schema is; a schema without names or without tables may become so.
func filled(ctx context.Context, c *pgx.Conn) (bool, error) {
	var tables, marked, used bool
	if err := c.QueryRow(ctx, `SELECT to_regclass('names') IS NOT NULL AND to_regclass('decisions') IS NOT NULL,
		coalesce(obj_description(to_regclass('names'), 'pg_class') = $1, false)`, mark).Scan(&tables, &marked); err != nil {
		return false, err
	}
	if !tables || marked {
		return marked, nil
	}
	if err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM names) OR EXISTS (SELECT FROM decisions)`).Scan(&used); err != nil {
		return false, err
	}
	if used {
		return false, ErrNotFilled
	}
	return false, nil
}

// lot is how many names one statement makes.
const lot = 500_000

// logEpoch is that of what is filled: whatever is decided on these tables comes behind it.
const logEpoch = 0

// What a number is spread over the indexes by: the same number gives the same, and another seed something else.
func hash(seed int) string {
	return fmt.Sprintf(`hashint8extended(i, %d)`, seed)
}

// id makes a UUID of the variant and version of those that the API derives, but for the time that a lot would take.
func id(seed int) string {
	return fmt.Sprintf(`(overlay(overlay(lpad(to_hex(%s), 16, '0') placing '5' from 13 for 1) || lpad(to_hex(%s), 16, '0') placing 'a' from 17 for 1))::uuid`, hash(seed), hash(seed+1))
}

func text(seed int) string { return fmt.Sprintf(`lpad(to_hex(%s), 16, '0')`, hash(seed)) }

var (
	// The hash alone is not unique: of 25 million numbers two had the same.
	numbers = `(SELECT i, left(` + text(1) + `, 10) || lpad(to_hex(i), 8, '0') k, ` + text(2) + ` owner, $4::timestamptz + $5::interval * (i::float8 / $6::float8) AS since, i % $3::bigint AS partition
		FROM generate_series($1::bigint + 1, $2::bigint) i) i`

	// fillNames makes names of the numbers of ($1, $2], of $3 partitions.
	fillNames = `
	INSERT INTO names (version, since, partition, policy_version, state, claim_id, space, key, name, owner)
	SELECT 1, since, partition, 1, 'r', ` + id(3) + `, 'username', 'grown.' || k, 'Grown.' || k, 'u-' || owner
	FROM ` + numbers

	// fillDecisions makes the claims of those, and every fourth again, by somebody who did not get it.
	fillDecisions = `
	INSERT INTO decisions ("offset", version, log_time, partition, log_epoch, policy_version, seq, kind, outcome, state, request_id,
		request_hash, reason, space, key, name, owner, principal)
	SELECT 2 * (i / $3::bigint) + n, CASE n WHEN 0 THEN 1 END, since, partition, ` + strconv.Itoa(logEpoch) + `, 1, 0, 'o',
		CASE n WHEN 0 THEN 'A' ELSE 'R' END, CASE n WHEN 0 THEN 'r' END, CASE n WHEN 0 THEN ` + id(3) + ` ELSE ` + id(5) + ` END,
		int8send(` + hash(7) + `) || int8send(` + hash(8) + `) || int8send(` + hash(9) + `) || int8send(` + hash(10) + `),
		CASE n WHEN 1 THEN 'taken' END, 'username', 'grown.' || k, 'Grown.' || k, CASE n WHEN 0 THEN 'u-' ELSE 'x-' END || owner, 'gateway'
	FROM ` + numbers + `
	CROSS JOIN LATERAL generate_series(0, CASE WHEN i % 4 = 0 THEN 1 ELSE 0 END) n`
)

// Among returns a name and an owner that lie anywhere among those that are filled, as those of real claims do: the same for
// the same, and others for all others.
func Among(name, owner string) (amongNames, amongOwners string) {
	place := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:8])
	}
	return "grown." + place(name), "u-" + place(owner)
}

// Fill fills the tables. The indexes are taken off meanwhile, and made again as full as they would have become.
func Fill(ctx context.Context, cfg Config) error {
	if cfg.Over == 0 {
		cfg.Over = 390 * 24 * time.Hour
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	c, err := connect(ctx, cfg.DSN, cfg.Schema)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	there, err := filled(ctx, c)
	if there {
		err = ErrFilled
	}
	if err != nil {
		return fmt.Errorf("fill schema %s: %w", cfg.Schema, err)
	}
	indexes, err := takeOff(ctx, c)
	if err != nil {
		return fmt.Errorf("take off the indexes: %w", err)
	}
	began := time.Now().Add(-cfg.Over).UTC()
	decisions := make(chan error, 1)
	go func() { decisions <- cfg.fill(ctx, "decisions", fillDecisions, began) }()
	if err := errors.Join(cfg.fill(ctx, "names", fillNames, began), <-decisions); err != nil {
		return err
	}
	for name, sql := range indexes {
		cfg.Progress("make " + name)
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
		if _, err := c.Exec(ctx, `ALTER INDEX `+pgx.Identifier{name}.Sanitize()+` RESET (fillfactor)`); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
	}
	cfg.Progress("vacuum")
	if _, err := c.Exec(ctx, `VACUUM (ANALYZE) names, decisions`); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	if _, err := c.Exec(ctx, `COMMENT ON TABLE names IS '`+mark+`'`); err != nil {
		return fmt.Errorf("mark what is filled: %w", err)
	}
	return nil
}

// fill fills one table, on a connection of its own.
func (cfg *Config) fill(ctx context.Context, table, sql string, began time.Time) error {
	c, err := connect(ctx, cfg.DSN, cfg.Schema)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	for from := int64(0); from < cfg.Names; from += lot {
		to := min(from+lot, cfg.Names)
		if _, err := c.Exec(ctx, sql, from, to, cfg.Partitions, began, cfg.Over, cfg.Names); err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
		cfg.Progress(fmt.Sprintf("%s of %d of %d names", table, to, cfg.Names))
	}
	return nil
}

// asFull is how full, in percent, inserting at random leaves the pages of an index.
const asFull = 70

// takeOff drops the indexes of the tables, and returns what makes each again.
func takeOff(ctx context.Context, c *pgx.Conn) (map[string]string, error) {
	rows, _ := c.Query(ctx, `
		SELECT t.relname::text, i.relname::text, pg_get_indexdef(x.indexrelid), coalesce(pg_get_constraintdef(k.oid), '')
		FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
			LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype = 'p'
		WHERE t.relnamespace = current_schema()::regnamespace AND t.relname IN ('names', 'decisions')`)
	all := make(map[string]string)
	var drop []string
	var table, name, index, key string
	if _, err := pgx.ForEachRow(rows, []any{&table, &name, &index, &key}, func() error {
		full := asFull
		if name == "decisions_pkey" { // a partition's rows come in order, and Postgres halves the page where they do
			full = 50
		}
		with := fmt.Sprintf(" WITH (fillfactor = %d)", full)
		quoted := pgx.Identifier{name}.Sanitize()
		if key != "" {
			drop = append(drop, `ALTER TABLE `+table+` DROP CONSTRAINT `+quoted)
			all[name] = `ALTER TABLE ` + table + ` ADD CONSTRAINT ` + quoted + ` ` + key + with
			return nil
		}
		drop = append(drop, `DROP INDEX `+quoted)
		columns, where, partial := strings.Cut(index, " WHERE ")
		if all[name] = columns + with; partial {
			all[name] += " WHERE " + where
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, sql := range drop {
		if _, err := c.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func connect(ctx context.Context, dsn, schema string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	config.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	config.RuntimeParams["synchronous_commit"] = "off" // what is half filled is of no use anyway
	config.RuntimeParams["maintenance_work_mem"] = "512MB"
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return c, nil
}

// Begin makes a filled schema, and no other, ready for a deployment of its own, as often as asked: of what was claimed there since it was filled
// nothing is left, and the partitions of the topic have decided nothing yet.
func Begin(ctx context.Context, dsn, schema string) error {
	c, err := connect(ctx, dsn, schema)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	if there, err := filled(ctx, c); err != nil || !there {
		return fmt.Errorf("begin anew in schema %s: %w", schema, cmp.Or(err, ErrNotFilled))
	}
	for _, sql := range []string{
		`DELETE FROM names n USING decisions d, (SELECT DISTINCT partition FROM partitions) p
			WHERE d.partition = p.partition AND d.log_epoch > ` + strconv.Itoa(logEpoch) + ` AND n.space = d.space AND n.key = d.key AND n.claim_id = d.request_id`,
		`DELETE FROM decisions d USING (SELECT DISTINCT partition FROM partitions) p WHERE d.partition = p.partition AND d.log_epoch > ` + strconv.Itoa(logEpoch),
		`DELETE FROM partitions`, `DELETE FROM topics`,
		`VACUUM (ANALYZE) names, decisions, partitions`,
		`CHECKPOINT`,
	} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("begin anew in schema %s: %w", schema, err)
		}
	}
	return nil
}

// Drop drops schemas, those that are not there left out.
func Drop(ctx context.Context, dsn string, schemas ...string) error {
	c, err := connect(ctx, dsn, "public")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	for _, schema := range schemas {
		if _, err := c.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
			return fmt.Errorf("drop schema %s: %w", schema, err)
		}
	}
	return nil
}
