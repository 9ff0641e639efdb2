package config

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Source is where a setting's value came from.
type Source string

// The sources of settings, the strongest first.
const (
	FromFlag    Source = "flag"
	FromEnv     Source = "environment"
	FromFile    Source = "file"
	FromDefault Source = "default"
)

// Loaded is a configuration, with where each value came from.
type Loaded struct {
	Config
	sources map[string]Source
}

// AddFlags adds a flag for each setting under the given sections, but for secrets: kafka.topic_prefix becomes
// --kafka-topic-prefix.
func AddFlags(f *pflag.FlagSet, sections ...string) {
	for _, k := range keys {
		section, _, _ := strings.Cut(k.name, ".")
		if k.secret || !slices.Contains(sections, section) {
			continue
		}
		name := flagName(k.name)
		switch v := k.value.(type) {
		case string:
			f.String(name, v, k.help)
		case []string:
			f.StringSlice(name, v, k.help)
		case bool:
			f.Bool(name, v, k.help)
		case int:
			f.Int(name, v, k.help)
		case float64:
			f.Float64(name, v, k.help)
		case time.Duration:
			f.Duration(name, v, k.help)
		}
	}
}

func flagName(key string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(key) }

func envName(key string) string {
	return "DIBS_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Load reads the configuration: flags that were set on the command line, environment (as os.Environ gives it), the file
// where one is named, defaults. change, if not nil, may change defaults before anything else is read, by key.
func Load(flags *pflag.FlagSet, environ []string, file string, change map[string]any) (*Loaded, error) {
	v := viper.New()
	for _, k := range keys {
		value := k.value
		if other, ok := change[k.name]; ok {
			value = other
		}
		v.SetDefault(k.name, value)
	}
	l := &Loaded{sources: make(map[string]Source)}
	if file != "" {
		if err := readFile(v, l, file); err != nil {
			return nil, err
		}
	}
	if err := readEnv(v, l, environ); err != nil {
		return nil, err
	}
	if flags != nil {
		for _, k := range keys {
			if f := flags.Lookup(flagName(k.name)); f != nil && f.Changed {
				v.Set(k.name, flagValue(flags, f))
				l.sources[k.name] = FromFlag
			}
		}
	}
	err := v.UnmarshalExact(&l.Config, func(c *mapstructure.DecoderConfig) {
		c.DecodeHook = mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","))
	})
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	for i, b := range l.Kafka.Brokers {
		l.Kafka.Brokers[i] = strings.TrimSpace(b)
	}
	return l, l.check()
}

func flagValue(flags *pflag.FlagSet, f *pflag.Flag) any {
	if f.Value.Type() == "stringSlice" {
		if s, err := flags.GetStringSlice(f.Name); err == nil {
			return s
		}
	}
	return f.Value.String()
}

// readFile sets what the file says. Each layer is set over the one before it, in the order of precedence.
func readFile(v *viper.Viper, l *Loaded, path string) error {
	file := viper.New()
	file.SetConfigFile(path)
	file.SetConfigType("yaml")
	if err := file.ReadInConfig(); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	known := make(map[string]key, 2*len(keys))
	for _, k := range keys {
		known[k.name] = k
		if k.secret {
			known[k.name+"_file"] = k
		}
	}
	names := file.AllKeys()
	sort.Strings(names)
	for _, name := range names {
		k, ok := known[name]
		if !ok {
			return fmt.Errorf("settings: %s has %s, which is no setting%s", path, name, nearest(name, maps.Keys(known)))
		}
		value := file.Get(name)
		if name != k.name {
			secret, err := readSecret(resolve(path, file.GetString(name)))
			if err != nil {
				return fmt.Errorf("settings: %s: %w", name, err)
			}
			value = secret
		}
		v.Set(k.name, value)
		l.sources[k.name] = FromFile
	}
	return nil
}

// resolve takes a relative path to be beside the file that names it.
func resolve(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// exempt reports whether a variable begins like ours and is no setting: it is the tests', or that of a command.
func exempt(name string) bool {
	switch name {
	case "DIBS_CONFIG", "DIBS_API_KEY", "DIBS_API_KEY_FILE":
		return true
	}
	return strings.HasPrefix(name, "DIBS_TEST_")
}

func readEnv(v *viper.Viper, l *Loaded, environ []string) error {
	known := make(map[string]key, 2*len(keys))
	for _, k := range keys {
		known[envName(k.name)] = k
		if k.secret {
			known[envName(k.name)+"_FILE"] = k
		}
	}
	environ = slices.Clone(environ)
	sort.Strings(environ)
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "DIBS_") || exempt(name) {
			continue
		}
		k, ok := known[name]
		if !ok {
			return fmt.Errorf("settings: the environment has %s, which is no setting%s", name, nearest(name, maps.Keys(known)))
		}
		if value == "" {
			continue // as if it were not set
		}
		if name != envName(k.name) {
			secret, err := readSecret(value)
			if err != nil {
				return fmt.Errorf("settings: %s: %w", name, err)
			}
			value = secret
		}
		v.Set(k.name, value)
		l.sources[k.name] = FromEnv
	}
	return nil
}

func readSecret(path string) (string, error) {
	if path == "" {
		return "", errors.New("names no file")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// nearest suggests the known name that a wrong one was probably meant to be.
func nearest(name string, known iter.Seq[string]) string {
	best, distance := "", len(name)/2+1
	for k := range known {
		if d := editDistance(name, k); d < distance || d == distance && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
