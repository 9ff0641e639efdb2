package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Config says where the brokers are and how to talk to them.
type Config struct {
	// Brokers are the host:port to ask for the others. At least one.
	Brokers []string
	// TopicPrefix is put before the names of the topics. One deployment of dibs is one prefix. Defaults to none.
	TopicPrefix string
	// ClientID is what brokers see in their logs and quotas. Defaults to "dibs".
	ClientID string
	TLS      TLS
	SASL     SASL
	// RequestTimeout is how long a broker may take for one request before the connection is given up. Defaults to 5 s.
	RequestTimeout time.Duration
	// DialTimeout is how long a connection may take, with TLS and SASL. Defaults to 3 s.
	DialTimeout time.Duration
}

// TLS says how connections are encrypted and who proves what.
type TLS struct {
	// Enabled turns it on. The other fields mean nothing without it.
	Enabled bool
	// CAFile is a PEM file with the authorities that may sign a broker's certificate. Defaults to those of the system.
	CAFile string
	// CertFile and KeyFile are our own certificate, where the brokers ask for one.
	CertFile, KeyFile string
	// ServerName is what the brokers' certificates must be for. Defaults to the host that is dialled.
	ServerName string
	// InsecureSkipVerify takes any certificate: whoever is in the way can read and change everything.
	InsecureSkipVerify bool
}

// The SASL mechanisms.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// SASL says who we are.
type SASL struct {
	// Mechanism is one of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512; empty for none.
	Mechanism          string
	Username, Password string
	// AllowPlaintext lets the password, or what it can be guessed from, travel without TLS. For a developer's machine.
	AllowPlaintext bool
}

// ErrConfig is what every complaint about a Config is.
var ErrConfig = errors.New("kafka configuration")

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "dibs"
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 5 * time.Second
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 3 * time.Second
	}
	return c
}

// Validate says what is wrong, without a look at files or brokers.
func (c Config) Validate() error {
	var errs []error
	complain := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...)))
	}
	if len(c.Brokers) == 0 {
		complain("brokers: name at least one, as host:port")
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			complain("brokers: %q is not host:port", b)
		}
	}
	if !validTopic(c.TopicPrefix + deadLettersName) {
		complain("topic_prefix: %q: a topic's name may have 249 letters, digits, '.', '_' and '-'", c.TopicPrefix)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		complain("tls: cert_file and key_file belong together")
	}
	if !c.TLS.Enabled && (c.TLS.CAFile != "" || c.TLS.CertFile != "" || c.TLS.ServerName != "" || c.TLS.InsecureSkipVerify) {
		complain("tls: there are settings, but enabled is false")
	}
	switch c.SASL.Mechanism {
	case "":
		if c.SASL.Username != "" || c.SASL.Password != "" {
			complain("sasl: username or password is set, but no mechanism")
		}
	case Plain, ScramSHA256, ScramSHA512:
		if c.SASL.Username == "" || c.SASL.Password == "" {
			complain("sasl: %s needs username and password", c.SASL.Mechanism)
		}
		if !c.TLS.Enabled && !c.SASL.AllowPlaintext {
			complain("sasl: %s without TLS shows the credentials to the network; set tls.enabled, or sasl.allow_plaintext on a developer's machine", c.SASL.Mechanism)
		}
	default:
		complain("sasl: mechanism %q is none of %s, %s, %s", c.SASL.Mechanism, Plain, ScramSHA256, ScramSHA512)
	}
	if c.RequestTimeout < 0 || c.DialTimeout < 0 {
		complain("timeouts must not be negative")
	}
	return errors.Join(errs...)
}

// Warnings says what works but should not be used in production.
func (c Config) Warnings() []string {
	var w []string
	if c.SASL.Mechanism != "" && !c.TLS.Enabled {
		w = append(w, "kafka.sasl without kafka.tls: the credentials travel in the clear")
	}
	if c.TLS.Enabled && c.TLS.InsecureSkipVerify {
		w = append(w, "kafka.tls.insecure_skip_verify: the brokers' certificates are not verified")
	}
	if c.SASL.Mechanism == Plain && c.TLS.InsecureSkipVerify {
		w = append(w, "kafka.sasl PLAIN over unverified TLS gives the password to whoever asks for it")
	}
	return w
}

// config is nil without TLS. It reads the files.
func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // asked for by name, and warned about
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: tls: ca_file: %w", ErrConfig, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: tls: ca_file: %s holds no certificate in PEM", ErrConfig, t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: tls: cert_file and key_file: %w", ErrConfig, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// mechanism is nil without SASL.
func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case Plain:
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case ScramSHA256, ScramSHA512:
		algorithm := scram.SHA256
		if s.Mechanism == ScramSHA512 {
			algorithm = scram.SHA512
		}
		m, err := scram.Mechanism(algorithm, s.Username, s.Password)
		if err != nil {
			return nil, fmt.Errorf("%w: sasl: %w", ErrConfig, err)
		}
		return m, nil
	}
	return nil, nil
}

// validTopic applies Kafka's rule for a topic's name.
func validTopic(name string) bool {
	return name != "" && len(name) <= 249 && name != "." && name != ".." &&
		!slices.ContainsFunc([]byte(name), func(c byte) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", rune(c))
		})
}
