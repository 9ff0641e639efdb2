package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says where the record is and how it is reached.
type Config struct {
	// DSN is a connection string, URL or key=value, with everything libpq knows: several hosts, sslmode, a service.
	// Empty means the PG… environment variables.
	DSN string
	// Schema holds the tables. Defaults to "dibs".
	Schema string
	// Topic is the full name of the topic of claims, whose partitions these are. Defaults to "claims".
	Topic string
	// MaxConns bounds the connections, all together; they are made when they are needed. One half, and the odd one, is
	// for deciding and for knowing where the partitions are, the other half for what callers and waiters look up: so
	// many slow look-ups never keep a decision waiting. A single one is for both. Defaults to 8.
	MaxConns int
	// Eraser has the secret that erased names are kept under; nil for none.
	Eraser *names.Eraser
	// Timeout bounds every call. Defaults to 10 s.
	Timeout time.Duration
	// Application is shown in pg_stat_activity. Defaults to "dibs".
	Application string
	// Logger is told of what nobody asked for, such as an evicted writer. Nil means none.
	Logger *slog.Logger
}

const (
	defaultSchema = "dibs"
	// connectTimeout is how long one address may take to answer.
	connectTimeout = 5 * time.Second
	// lockTimeout is how long a statement waits for a row: a batch takes a hundredth of it.
	lockTimeout = 2 * time.Second
	// statementTimeout ends what runs for too long, idleTimeout a transaction whose client has gone silent.
	statementTimeout = 5 * time.Second
	idleTimeout      = 5 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = defaultSchema
	}
	if c.Topic == "" {
		c.Topic = "claims"
	}
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Application == "" {
		c.Application = "dibs"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if len(c.Schema) > 63 || c.Schema == "" {
		return errors.New("postgres.schema must have 1 to 63 bytes")
	}
	if c.MaxConns < 0 || c.Timeout < 0 {
		return errors.New("postgres: a number of connections or a timeout is negative")
	}
	return nil
}

// parse reads the DSN and adds what holds for every connection of ours. It does no I/O beyond what the DSN refers to.
func (c Config) parse() (*pgxpool.Config, error) {
	pool, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	conn := pool.ConnConfig
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	// After a fail-over one of several hosts is a standby: it would refuse every write, for ever.
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3}}
	conn.DialFunc = dialer.DialContext
	setting(conn, "application_name", c.Application)
	// SQL names no schema: this is the one place where it is spelt.
	conn.RuntimeParams["search_path"] = pgx.Identifier{c.Schema}.Sanitize()
	return pool, nil
}

// pool returns a pool of at most so many of the record's connections.
func (c Config) pool(connections int) (*pool, error) {
	config, err := c.parse()
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(min(connections, 1<<15))
	config.PingTimeout = connectTimeout
	for name, value := range map[string]string{
		"statement_timeout":                   milliseconds(statementTimeout),
		"lock_timeout":                        milliseconds(lockTimeout),
		"idle_in_transaction_session_timeout": milliseconds(idleTimeout),
		// The server, too, finds out that a host is gone.
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3",
		// Every statement of ours finds its rows through an index, whatever the planner knew of the table when it
		// planned: one that was empty then has millions of rows by now. The shape of the SQL sees to it (LATERAL …
		// LIMIT 1); these see to it that a table of one page is no exception, and that planning is not repeated.
		"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off",
	} {
		setting(config.ConnConfig, name, value)
	}
	return &pool{config: config}, nil
}

// setting sets a parameter of the session, unless the DSN does.
func setting(conn *pgx.ConnConfig, name, value string) {
	if _, ok := conn.RuntimeParams[name]; !ok {
		conn.RuntimeParams[name] = value
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
