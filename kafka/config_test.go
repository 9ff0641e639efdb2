package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestValidate(t *testing.T) {
	good := Config{Brokers: []string{"a:9092", "[::1]:9092"}, TopicPrefix: "eu.", SASL: SASL{Mechanism: Plain, Username: "u", Password: "p"}, TLS: TLS{Enabled: true}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Config){
		"brokers":             func(c *Config) { c.Brokers = nil },
		"host:port":           func(c *Config) { c.Brokers = []string{"a"} },
		"topic_prefix":        func(c *Config) { c.TopicPrefix = "a b" },
		"249":                 func(c *Config) { c.TopicPrefix = strings.Repeat("a", 245) },
		"belong together":     func(c *Config) { c.TLS.CertFile = "x" },
		"enabled is false":    func(c *Config) { c.TLS = TLS{CAFile: "x"}; c.SASL = SASL{} },
		"without TLS":         func(c *Config) { c.TLS = TLS{} },
		"none of":             func(c *Config) { c.SASL.Mechanism = "GSSAPI" },
		"needs username":      func(c *Config) { c.SASL.Password = "" },
		"no mechanism":        func(c *Config) { c.SASL.Mechanism = "" },
		"must not be negativ": func(c *Config) { c.RequestTimeout = -1 },
	} {
		c := good
		edit(&c)
		err := c.Validate()
		wantIs(t, err, ErrConfig)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not say %q", err, name)
		}
		if err != nil && strings.Contains(err.Error(), `"p"`) {
			t.Errorf("%v shows the password", err)
		}
		if _, err := New(c, nil, nil); err == nil {
			t.Errorf("New takes it: %s", name)
		}
	}
	plain := good
	plain.TLS, plain.SASL.AllowPlaintext = TLS{}, true
	if err := plain.Validate(); err != nil || len(plain.Warnings()) != 1 {
		t.Errorf("%v, %v", err, plain.Warnings())
	}
	open := good
	open.TLS.InsecureSkipVerify = true
	if w := open.Warnings(); len(w) != 2 {
		t.Errorf("warnings are %v", w)
	}
}

// certificate writes a self-signed certificate for a host, and returns the files.
func certificate(t testing.TB, host string) (certFile, keyFile string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", keyDER), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// The group has connections of its own: it is part of every check that we get in, or do not.
func getIn(t *testing.T, cfg Config) error {
	t.Helper()
	cfg.RequestTimeout, cfg.DialTimeout = time.Second, time.Second
	c, err := New(cfg, nil, nil)
	if err != nil {
		return err
	}
	t.Cleanup(c.Close)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	if _, err := p.Claims().Publish(within(t, time.Second), 0, value("x")); err != nil {
		return err
	}
	g := NewGroup(c, GroupConfig{})
	run(t, g)
	_, err = g.Next(within(t, 5*time.Second))
	return err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	serverCert, _, server := certificate(t, "127.0.0.1")
	namedCert, _, named := certificate(t, "kafka.example")
	clientCert, clientKey, _ := certificate(t, "client")
	clients := x509.NewCertPool()
	raw, err := os.ReadFile(clientCert)
	if err != nil || !clients.AppendCertsFromPEM(raw) {
		t.Fatal(err)
	}
	plain := fake(t, 1, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}}))
	other := fake(t, 1, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{named}}))
	mutual := fake(t, 1, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}))
	for name, tt := range map[string]struct {
		cluster *kfake.Cluster
		tls     TLS
		ok      bool
	}{
		"authority known":        {plain, TLS{Enabled: true, CAFile: serverCert}, true},
		"authority unknown":      {plain, TLS{Enabled: true}, false},
		"not verified":           {plain, TLS{Enabled: true, InsecureSkipVerify: true}, true},
		"no TLS":                 {plain, TLS{}, false},
		"certificate of another": {other, TLS{Enabled: true, CAFile: namedCert}, false},
		"server name":            {other, TLS{Enabled: true, CAFile: namedCert, ServerName: "kafka.example"}, true},
		"client certificate":     {mutual, TLS{Enabled: true, CAFile: serverCert, CertFile: clientCert, KeyFile: clientKey}, true},
		"no client certificate":  {mutual, TLS{Enabled: true, CAFile: serverCert}, false},
		"no such file":           {plain, TLS{Enabled: true, CAFile: serverCert + "x"}, false},
		"not a certificate":      {mutual, TLS{Enabled: true, CAFile: clientKey}, false},
		"key of another":         {mutual, TLS{Enabled: true, CertFile: serverCert, KeyFile: clientKey}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := getIn(t, Config{Brokers: tt.cluster.ListenAddrs(), TLS: tt.tls}); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

// Brokers that answer, and turn us away, are not asked until the time is over.
func TestDenied(t *testing.T) {
	t.Parallel()
	for _, refusal := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1},
		{Keys: []kmsg.Key{kmsg.SASLHandshake}, Err: kerr.UnsupportedSaslMechanism, Count: -1},
	} {
		cluster := fake(t, 1, kfake.EnableSASL(), kfake.Superuser(ScramSHA512, "u", "pw"))
		cluster.Fault(refusal) // by itself the fake hangs up without a word
		c := connect(t, Config{Brokers: cluster.ListenAddrs(), SASL: SASL{Mechanism: ScramSHA512, Username: "u", Password: "pw", AllowPlaintext: true}})
		began := time.Now()
		_, err := c.ClusterID(t.Context())
		wantIs(t, err, ErrDenied)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

func TestSASL(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1, kfake.EnableSASL(), kfake.Superuser(Plain, "p", "pw"), kfake.Superuser(ScramSHA256, "s2", "pw"), kfake.Superuser(ScramSHA512, "s5", "pw"))
	for name, tt := range map[string]struct {
		sasl SASL
		ok   bool
	}{
		"plain":                {SASL{Mechanism: Plain, Username: "p", Password: "pw"}, true},
		"scram 256":            {SASL{Mechanism: ScramSHA256, Username: "s2", Password: "pw"}, true},
		"scram 512":            {SASL{Mechanism: ScramSHA512, Username: "s5", Password: "pw"}, true},
		"plain wrong":          {SASL{Mechanism: Plain, Username: "p", Password: "x"}, false},
		"scram wrong":          {SASL{Mechanism: ScramSHA512, Username: "s5", Password: "x"}, false},
		"user of another kind": {SASL{Mechanism: ScramSHA512, Username: "p", Password: "pw"}, false},
		"none":                 {SASL{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.sasl.AllowPlaintext = true
			if err := getIn(t, Config{Brokers: cluster.ListenAddrs(), SASL: tt.sasl}); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}
