// Package config reads the settings of dibs from flags, environment, file and defaults, in that order of precedence, into
// plain structs.
//
// It promises that every setting is known by name: one that is not is an error that names the nearest, wherever it was
// set. Secrets come from the environment or from files, never from flags, and are masked when printed. It is the only
// package that imports viper, and it does no I/O but reading the files it is told of.
package config

import (
	"fmt"
	"strings"
	"time"
)

// Config is all settings. Field names with dots between them are the keys: Kafka.TopicPrefix is kafka.topic_prefix.
type Config struct {
	Kafka     Kafka     `mapstructure:"kafka"`
	Postgres  Postgres  `mapstructure:"postgres"`
	API       API       `mapstructure:"api"`
	Ops       Ops       `mapstructure:"ops"`
	Security  Security  `mapstructure:"security"`
	Processor Processor `mapstructure:"processor"`
	Log       Log       `mapstructure:"log"`
}

// Kafka says where the topics are.
type Kafka struct {
	Brokers     []string `mapstructure:"brokers"`
	TopicPrefix string   `mapstructure:"topic_prefix"`
	TLS         struct {
		Enabled    bool   `mapstructure:"enabled"`
		CAFile     string `mapstructure:"ca_file"`
		CertFile   string `mapstructure:"cert_file"`
		KeyFile    string `mapstructure:"key_file"`
		ServerName string `mapstructure:"server_name"`
	} `mapstructure:"tls"`
	SASL struct {
		Mechanism      string `mapstructure:"mechanism"`
		Username       string `mapstructure:"username"`
		Password       string `mapstructure:"password"`
		AllowPlaintext bool   `mapstructure:"allow_plaintext"`
	} `mapstructure:"sasl"`
}

// Postgres says where the record is.
type Postgres struct {
	DSN      string        `mapstructure:"dsn"`
	Schema   string        `mapstructure:"schema"`
	MaxConns int           `mapstructure:"max_conns"`
	Timeout  time.Duration `mapstructure:"timeout"`
}

// API is the HTTP side.
type API struct {
	Addr        string        `mapstructure:"addr"`
	Auth        string        `mapstructure:"auth"`
	KeysFile    string        `mapstructure:"keys_file"`
	WaitDefault time.Duration `mapstructure:"wait_default"`
	WaitMax     time.Duration `mapstructure:"wait_max"`
	MaxWaiting  int           `mapstructure:"max_waiting"`
	MaxConns    int           `mapstructure:"max_connections"`
	MaxStreams  int           `mapstructure:"max_streams"`
	RatePerSec  float64       `mapstructure:"rate_per_second"`
	RateBurst   int           `mapstructure:"rate_burst"`
	LookupRate  float64       `mapstructure:"lookup_rate"`
}

// Ops is the operations side: health and metrics.
type Ops struct {
	Addr string `mapstructure:"addr"`
}

// Security is what privileged requests are trusted by, and what the keys of private spaces are made with.
type Security struct {
	RequestKeysFile   string `mapstructure:"request_keys_file"`
	RequireSignatures string `mapstructure:"require_signatures"`
	PeppersFile       string `mapstructure:"peppers_file"`
	ErasureSecretFile string `mapstructure:"erasure_secret_file"`
}

// What security.require_signatures may be: what an actor or dibs itself asks must be signed, or every request.
const (
	SignPrivileged = "privileged"
	SignAll        = "all"
)

// Processor is the deciding side.
type Processor struct {
	Group    string `mapstructure:"group"`
	Lanes    int    `mapstructure:"lanes"`
	BatchMax int    `mapstructure:"batch_max"`
	// DecisionsRetention is how long decisions are kept; 0 is for ever.
	DecisionsRetention time.Duration `mapstructure:"decisions_retention"`
}

// Log says how to log.
type Log struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

// key is one setting: where it is found, what it is when nobody says, and what it means.
type key struct {
	name   string
	value  any // the default; its type is the setting's
	help   string
	secret bool
}

// keys is every setting there is.
var keys = []key{
	{name: "kafka.brokers", value: []string{"localhost:9092"}, help: "brokers to start from, host:port, comma-separated"},
	{name: "kafka.topic_prefix", value: "", help: "prefix of the topics claims, registrations and claims.dlq"},
	{name: "kafka.tls.enabled", value: false, help: "connect to Kafka with TLS"},
	{name: "kafka.tls.ca_file", value: "", help: "PEM file of the authorities to trust; the system's where empty"},
	{name: "kafka.tls.cert_file", value: "", help: "PEM file of the client certificate"},
	{name: "kafka.tls.key_file", value: "", help: "PEM file of the client certificate's key"},
	{name: "kafka.tls.server_name", value: "", help: "name to expect in the brokers' certificates, where it is not their host"},
	{name: "kafka.sasl.mechanism", value: "", help: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; none where empty"},
	{name: "kafka.sasl.username", value: "", help: "SASL user"},
	{name: "kafka.sasl.password", value: "", help: "SASL password", secret: true},
	{name: "kafka.sasl.allow_plaintext", value: false, help: "let SASL go over a connection without TLS"},
	{name: "postgres.dsn", value: "", help: "connection string, postgres://user:password@host/database?sslmode=verify-full", secret: true},
	{name: "postgres.schema", value: "dibs", help: "schema that the tables are in"},
	{name: "postgres.max_conns", value: 16, help: "connections to Postgres at most: half for deciding, half for look-ups"},
	{name: "postgres.timeout", value: 10 * time.Second, help: "how long one call to Postgres may take"},
	{name: "api.addr", value: ":8080", help: "address of the HTTP API"},
	{name: "api.auth", value: "keys", help: "keys: callers need a key of api.keys_file; none: no authentication, loopback addresses only"},
	{name: "api.keys_file", value: "", help: "file of API keys"},
	{name: "api.wait_default", value: 5 * time.Second, help: "how long a request waits for its outcome unless it says"},
	{name: "api.wait_max", value: 30 * time.Second, help: "how long a request may ask to wait"},
	// Those whose wait runs out leave their claims in the log: what may wait is no more than a few seconds' work.
	{name: "api.max_waiting", value: 10_000, help: "requests that wait at once, at most: what is decided in a second or two"},
	{name: "api.max_connections", value: 15_000, help: "connections that callers have open at once, at most; further ones wait until one is closed. More than api.max_waiting: who is refused needs one, too"},
	{name: "api.max_streams", value: 64, help: "streams of registrations at once, at most; each reads the topic for itself"},
	{name: "api.rate_per_second", value: 0.0, help: "claims per second and principal; 0 for no limit"},
	{name: "api.rate_burst", value: 100, help: "claims that a principal may make at once under the limit"},
	{name: "api.lookup_rate", value: 10.0, help: "keys per second that POST /v1/lookups computes for each principal, ten times as many at once"},
	{name: "ops.addr", value: ":8081", help: "address of /livez, /readyz and /metrics"},
	{name: "security.request_keys_file", value: "", help: "file of the keys that requests are signed with: dibs' own, what an actor asks, and all of an API; dibs keys request makes one"},
	{name: "security.require_signatures", value: "privileged", help: "privileged: what an actor or dibs itself asks must be signed; all: every request, which dibs spaces apply makes hold"},
	{name: "security.peppers_file", value: "", help: "file of the secrets that the keys of private spaces are made with; dibs keys pepper makes one"},
	{name: "security.erasure_secret_file", value: "", help: "file of the secret that erased names are kept under, the same for all processes and for ever; dibs keys erasure makes one. Without it nothing can be erased"},
	{name: "processor.group", value: "dibs", help: "consumer group that deals out the partitions"},
	{name: "processor.lanes", value: 0, help: "in how many transactions at once claims are decided, each of other partitions, where enough wait; 0: one per core. At most one less than half of postgres.max_conns"},
	{name: "processor.batch_max", value: 8000, help: "records decided in one transaction, at most"},
	{name: "processor.decisions_retention", value: 400 * 24 * time.Hour, help: "how long decisions are kept: for so long a request that is repeated gets its outcome again. At least 7 d more than the topic claims keeps; 0: for ever"},
	{name: "log.level", value: "info", help: "debug, info, warn or error"},
	{name: "log.format", value: "auto", help: "text, json, or auto: text on a terminal"},
}

// check says what is wrong with values that are each of the right type.
func (c *Config) check() error {
	var wrong []string
	bad := func(key, format string, args ...any) { wrong = append(wrong, key+" "+fmt.Sprintf(format, args...)) }
	if len(c.Kafka.Brokers) == 0 {
		bad("kafka.brokers", "is empty: name at least one broker as host:port")
	}
	for _, b := range c.Kafka.Brokers {
		if !strings.Contains(b, ":") {
			bad("kafka.brokers", "has %q: a broker is host:port", b)
		}
	}
	switch c.Kafka.SASL.Mechanism {
	case "":
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		if c.Kafka.SASL.Username == "" || c.Kafka.SASL.Password == "" {
			bad("kafka.sasl.mechanism", "is set: kafka.sasl.username and kafka.sasl.password must be, too")
		}
	default:
		bad("kafka.sasl.mechanism", "is %q: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.Kafka.SASL.Mechanism)
	}
	switch c.API.Auth {
	case "keys", "none":
	default:
		bad("api.auth", "is %q: use keys or none", c.API.Auth)
	}
	switch c.Security.RequireSignatures {
	case SignPrivileged, SignAll:
	default:
		bad("security.require_signatures", "is %q: use privileged or all", c.Security.RequireSignatures)
	}
	switch c.Log.Format {
	case "auto", "text", "json":
	default:
		bad("log.format", "is %q: use auto, text or json", c.Log.Format)
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level", "is %q: use debug, info, warn or error", c.Log.Level)
	}
	for key, n := range map[string]int{"postgres.max_conns": c.Postgres.MaxConns, "api.max_waiting": c.API.MaxWaiting, "api.max_connections": c.API.MaxConns, "api.max_streams": c.API.MaxStreams, "processor.batch_max": c.Processor.BatchMax, "api.rate_burst": c.API.RateBurst} {
		if n < 1 {
			bad(key, "is %d: at least 1", n)
		}
	}
	if c.API.MaxConns <= c.API.MaxWaiting && c.API.MaxWaiting > 0 {
		bad("api.max_connections", "is %d: more than api.max_waiting (%d), for who is refused needs a connection, too", c.API.MaxConns, c.API.MaxWaiting)
	}
	if c.Processor.BatchMax > 8000 {
		bad("processor.batch_max", "is %d: at most 8000, larger batches gain nothing", c.Processor.BatchMax)
	}
	if d := c.Processor.DecisionsRetention; d < 0 {
		bad("processor.decisions_retention", "is %s: 0 for ever, or 7 d more than the topic claims keeps", d)
	}
	if c.Processor.Lanes < 0 {
		bad("processor.lanes", "is %d: 0 or more", c.Processor.Lanes)
	}
	for key, d := range map[string]time.Duration{"postgres.timeout": c.Postgres.Timeout, "api.wait_default": c.API.WaitDefault, "api.wait_max": c.API.WaitMax} {
		if d <= 0 {
			bad(key, "is %s: more than 0", d)
		}
	}
	if c.API.WaitDefault > c.API.WaitMax {
		bad("api.wait_default", "is longer than api.wait_max")
	}
	if c.API.RatePerSec < 0 {
		bad("api.rate_per_second", "is negative")
	}
	if c.API.LookupRate <= 0 {
		bad("api.lookup_rate", "is %g: more than 0", c.API.LookupRate)
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("settings: %s", strings.Join(wrong, "; "))
}
