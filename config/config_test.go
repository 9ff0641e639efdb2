package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/config"
	"github.com/spf13/pflag"
)

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(f, "kafka", "postgres", "api", "ops", "processor", "log")
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

// settings has, for each kind of value, how it is spelt in each source and what comes out.
var settings = []struct{ key, text, want string }{
	{"kafka.brokers", "a:1,b:2", "a:1,b:2"},
	{"kafka.topic_prefix", "eu.", "eu."},
	{"kafka.tls.enabled", "true", "true"},
	{"postgres.max_conns", "7", "7"},
	{"api.wait_default", "2s", "2s"},
	{"api.rate_per_second", "1.5", "1.5"},
	{"ops.addr", "127.0.0.1:1", "127.0.0.1:1"},
	{"api.keys_file", "k.yaml", "k.yaml"},
	{"processor.group", "g", "g"},
	{"log.level", "warn", "warn"},
}

func printed(t *testing.T, l *config.Loaded) string {
	t.Helper()
	var b bytes.Buffer
	if err := l.Print(&b, true); err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func TestEachSettingFromEachSource(t *testing.T) {
	for _, s := range settings {
		env := "DIBS_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
		flag := "--" + strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
		parts := strings.Split(s.key, ".")
		yaml, value := "", s.text
		if s.key == "kafka.brokers" {
			value = "[a:1, 'b:2']"
		}
		for i, p := range parts {
			yaml += strings.Repeat("  ", i) + p + ":"
			if i == len(parts)-1 {
				yaml += " " + value
			}
			yaml += "\n"
		}
		for source, load := range map[string]func() (*config.Loaded, error){
			"flag":        func() (*config.Loaded, error) { return config.Load(flags(t, flag+"="+s.text), nil, "", nil) },
			"environment": func() (*config.Loaded, error) { return config.Load(flags(t), []string{env + "=" + s.text}, "", nil) },
			"file":        func() (*config.Loaded, error) { return config.Load(flags(t), nil, file(t, "c.yaml", yaml), nil) },
		} {
			l, err := load()
			if err != nil {
				t.Errorf("%s by %s: %v", s.key, source, err)
				continue
			}
			if want := s.key + ": " + s.want + " # " + source; !strings.Contains(printed(t, l), want) {
				t.Errorf("%s by %s: %q is not in %s", s.key, source, want, printed(t, l))
			}
		}
	}
}

func TestPrecedence(t *testing.T) {
	path := file(t, "c.yaml", "log:\n  level: error\n  format: json\napi:\n  addr: file:1\n")
	l, err := config.Load(flags(t, "--log-level=debug"), []string{"DIBS_LOG_LEVEL=warn", "DIBS_LOG_FORMAT=text", "DIBS_API_ADDR="}, path, map[string]any{"ops.addr": "changed:1"})
	if err != nil {
		t.Fatal(err)
	}
	if l.Log.Level != "debug" || l.Log.Format != "text" || l.API.Addr != "file:1" || l.Ops.Addr != "changed:1" || l.Postgres.Schema != "dibs" {
		t.Errorf("got %+v", l.Config)
	}
	if l.API.WaitDefault != 5*time.Second {
		t.Errorf("wait_default is %s", l.API.WaitDefault)
	}
}

func TestSecrets(t *testing.T) {
	secret := file(t, "dsn", "postgres://canary@h/d\n")
	path := file(t, "c.yaml", "postgres:\n  dsn_file: "+secret+"\n")
	for name, load := range map[string]func() (*config.Loaded, error){
		"environment": func() (*config.Loaded, error) {
			return config.Load(nil, []string{"DIBS_POSTGRES_DSN=postgres://canary@h/d"}, "", nil)
		},
		"file in environment": func() (*config.Loaded, error) {
			return config.Load(nil, []string{"DIBS_POSTGRES_DSN_FILE=" + secret}, "", nil)
		},
		"file in file": func() (*config.Loaded, error) { return config.Load(nil, nil, path, nil) },
		"environment over all": func() (*config.Loaded, error) {
			return config.Load(nil, []string{"DIBS_POSTGRES_DSN=postgres://canary@h/d"}, path, nil)
		},
	} {
		l, err := load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l.Postgres.DSN != "postgres://canary@h/d" {
			t.Errorf("%s: dsn is %q", name, l.Postgres.DSN)
		}
		if text := printed(t, l); strings.Contains(text, "canary") {
			t.Errorf("%s: the secret is printed: %s", name, text)
		}
	}
	f := flags(t)
	if f.Lookup("postgres-dsn") != nil || f.Lookup("kafka-sasl-password") != nil {
		t.Error("a secret has a flag: it would show in the process list")
	}
}

func TestErrorsNameWhatToDo(t *testing.T) {
	for _, c := range []struct {
		env  []string
		yaml string
		want []string
	}{
		{env: []string{"DIBS_KAFKA_BROKER=a:1"}, want: []string{"DIBS_KAFKA_BROKER", "did you mean DIBS_KAFKA_BROKERS?"}},
		{yaml: "kafka:\n  borkers: [a:1]\n", want: []string{"kafka.borkers", "did you mean kafka.brokers?"}},
		{yaml: "kafka: [\n", want: []string{"yaml"}},
		{env: []string{"DIBS_KAFKA_BROKERS=a"}, want: []string{"kafka.brokers", "host:port"}},
		{env: []string{"DIBS_API_WAIT_MAX=soon"}, want: []string{"wait_max"}},
		{env: []string{"DIBS_POSTGRES_MAX_CONNS=many"}, want: []string{"max_conns"}},
		{env: []string{"DIBS_POSTGRES_MAX_CONNS=0"}, want: []string{"postgres.max_conns", "at least 1"}},
		{env: []string{"DIBS_API_MAX_WAITING=15000"}, want: []string{"api.max_connections", "api.max_waiting (15000)"}},
		{env: []string{"DIBS_KAFKA_SASL_MECHANISM=GSSAPI"}, want: []string{"kafka.sasl.mechanism", "SCRAM-SHA-512"}},
		{env: []string{"DIBS_KAFKA_SASL_MECHANISM=PLAIN"}, want: []string{"kafka.sasl.username"}},
		{env: []string{"DIBS_POSTGRES_DSN_FILE=/nowhere"}, want: []string{"DIBS_POSTGRES_DSN_FILE", "/nowhere"}},
		{env: []string{"DIBS_API_AUTH=open"}, want: []string{"api.auth", "keys or none"}},
		{env: []string{"DIBS_API_WAIT_DEFAULT=40s"}, want: []string{"api.wait_default", "api.wait_max"}},
		{env: []string{"DIBS_LOG_LEVEL=loud"}, want: []string{"log.level"}},
	} {
		path := ""
		if c.yaml != "" {
			path = file(t, "c.yaml", c.yaml)
		}
		_, err := config.Load(nil, c.env, path, nil)
		if err == nil {
			t.Errorf("%v %q: no error", c.env, c.yaml)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v %q: %q does not say %q", c.env, c.yaml, err, w)
			}
		}
	}
	if _, err := config.Load(nil, []string{"DIBS_TEST_KAFKA=a:1", "DIBS_CONFIG=x", "DIBS_API_KEY=k", "HOME=/"}, "", nil); err != nil {
		t.Errorf("exempt variables: %v", err)
	}
}
