package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
)

func TestSpaces(t *testing.T) {
	policies, err := config.ParseSpaces([]byte(`
# what we allow
spaces:
  username:
    version: 2
    min_length: 4
    max_length: 20
    reserved: [root, our.brand]
    ttl: 10m
    shortest_ttl: 20s
    longest_ttl: 168h
    cool_down: 720h
    previous_may_return: false
    unique_among: active
  invoice-number: {version: 1, reserved: []}
  handle: {version: 3}
`))
	if err != nil || len(policies) != 3 {
		t.Fatal(policies, err)
	}
	handle, invoice, username := policies[0], policies[1], policies[2]
	if want := names.Builtin()[names.Username]; handle.Space != "handle" || handle.Version != 3 || string(handle.AppendJSON(nil)) != string(want.AppendJSON(nil)) {
		t.Errorf("what is left out is %s", handle.AppendJSON(nil))
	}
	if invoice.Space != "invoice-number" || len(invoice.Reserved) != 0 {
		t.Errorf("%s", invoice.AppendJSON(nil))
	}
	want := names.Policy{
		Space: "username", Version: 2, MinLength: 4, MaxLength: 20, Reserved: map[names.Key]struct{}{"root": {}, "our.brand": {}},
		TTL: 10 * time.Minute, ShortestTTL: 20 * time.Second, LongestTTL: 168 * time.Hour, CoolDown: 720 * time.Hour, UniqueAmong: names.AmongActive,
	}
	if !username.SameAs(&want) || username.Version != 2 {
		t.Errorf("%s", username.AppendJSON(nil))
	}
}

// TestUnicodeSpaces: what is left out is written out, the tables above all, and what is reserved is so in all its looks.
func TestUnicodeSpaces(t *testing.T) {
	policies, err := config.ParseSpaces([]byte(`
spaces:
  handle:
    version: 1
    reserved: [admin, Root]
    confusables: as_typed
    unicode: precis
    scripts: [Latn, "Latn+Cyrl"]
  plain: {version: 1, unicode: precis, characters: all, reserved: [admin]}
`))
	if err != nil || len(policies) != 2 {
		t.Fatal(policies, err)
	}
	handle, plain := policies[0], policies[1]
	if want := (names.Precis{Tables: names.TablesLatest, Scripts: []string{"Latn", "Latn+Cyrl"}, Confusables: names.ConfusablesAsTyped}); !reflect.DeepEqual(handle.Form.Spec(), want) {
		t.Errorf("handle has %+v", handle.Form.Spec())
	}
	if words := handle.ReservedWords(); !slices.Equal(words, []names.Key{"adrnln", "root"}) {
		t.Errorf("reserved are %q", words)
	}
	if words := plain.ReservedWords(); !slices.Equal(words, []names.Key{"adrnln"}) || !plain.ReservesLooks() || handle.ReservesLooks() {
		t.Errorf("plain reserves %q", words)
	}
	if plain.KeepsLookalikesApart() || plain.Form.Spec().Characters != names.CharactersAll {
		t.Errorf("plain has %+v", plain.Form.Spec())
	}
	again, err := names.ReadPolicy(handle.Space, 1, handle.AppendJSON(nil))
	if err != nil || !again.SameAs(handle) {
		t.Errorf("in a record it is %s, %v", handle.AppendJSON(nil), err)
	}
}

func TestSpacesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":           `it is empty: it needs "spaces" with at least one of them`,
		"# nothing":  `it is empty: it needs "spaces" with at least one of them`,
		"spaces: {}": `there are no spaces: it needs "spaces" with at least one of them`,
		"spaces: 7":  `line 1: spaces is "7", which is no mapping`,
		"- spaces":   `line 1: it is a list, which is no mapping`,
		"space: {}":  `line 1: space is no setting: did you mean spaces?`,
		"spaces:\n  username: {version: 2, min_lenth: 3}":                                                            `line 2: spaces.username.min_lenth is no setting: did you mean min_length?`,
		"spaces:\n  username: {version: 2, cooldown: 3h}":                                                            `line 2: spaces.username.cooldown is no setting: did you mean cool_down?`,
		"spaces:\n  username:\n    min_length: 3":                                                                    `line 3: spaces.username has no version: the first one of a new space is 1, and each change raises it`,
		"spaces:\n  username: {version: two}":                                                                        `line 2: spaces.username.version is "two", which is no whole number`,
		"spaces:\n  username: {version: '2'}":                                                                        `line 2: spaces.username.version is "2", which is no whole number`,
		"spaces:\n  username: {version: 0}":                                                                          `line 2: spaces.username version must be 1 to 2147483647`,
		"spaces:\n  username: {version: 99999999999}":                                                                `line 2: spaces.username version must be 1 to 2147483647`,
		"spaces:\n  username:\n    version: 2\n    ttl: 15":                                                          `line 4: spaces.username.ttl is "15", which is no time such as 15m or 720h`,
		"spaces:\n  username:\n    version: 2\n    ttl: 30d":                                                         `line 4: spaces.username.ttl is "30d", which is no time such as 15m or 720h`,
		"spaces:\n  username:\n    version: 2\n    ttl: 1ms":                                                         `line 4: spaces.username ttl must be whole seconds`,
		"spaces:\n  username:\n    version: 2\n    ttl: 200h":                                                        `line 4: spaces.username ttl is more than longest_ttl`,
		"spaces:\n  username: {version: 2, reserved: root}":                                                          `line 2: spaces.username.reserved is "root", which is no list of words; [] reserves none`,
		"spaces:\n  username: {version: 2, reserved: [Root]}":                                                        `line 2: spaces.username reserved has "Root", which is no key of a name: write it as it is compared, in lower case`,
		"spaces:\n  username: {version: 2, unicode: precis, reserved: [a b]}":                                        `line 2: spaces.username.reserved has "a b", which no name can be: it may not have spaces such as U+0020 (character 2): leave it out, or write . _ or -`,
		"spaces:\n  handle: {version: 1, unicode: precis, confusables: as_typed, reserved: [root, \"ad\u200bmin\"]}": `line 2: spaces.handle.reserved has "ad\u200bmin", which no name can be: it may not have U+200B (character 3): it cannot be seen; leave it out`,
		"spaces:\n  username: {version: 2, reserved: [a, a]}":                                                        `line 2: spaces.username.reserved has "a" twice`,
		"spaces:\n  username: {version: 2, reserved: [[a]]}":                                                         `line 2: spaces.username.reserved has a list, which is no word`,
		"spaces:\n  username: {version: 2, previous_may_return: maybe}":                                              `line 2: spaces.username.previous_may_return is "maybe": use true or false`,
		"spaces:\n  username: {version: 2, unique_among: some}":                                                      `line 2: spaces.username unique_among must be "all" or "active"`,
		"spaces:\n  username: {version: 2, unique_among: [all]}":                                                     `line 2: spaces.username.unique_among is neither all nor active`,
		"spaces:\n  User Names: {version: 2}":                                                                        `line 2: spaces.User Names space must be 1 to 32 of a to z, digits and -, and begin with a letter`,
		"spaces:\n  username: {version: 2}\n  username: {version: 3}":                                                `line 3: spaces has "username" in line 2 already`,
		"spaces:\n  username: {version: 2, version: 3}":                                                              `line 2: spaces.username has "version" in line 2 already`,
		"spaces:\n  a: {version: 1, unicode: yes}":                                                                   `line 2: spaces.a.unicode is "yes", which is not precis; left out, names are ASCII`,
		"spaces:\n  a:\n    version: 1\n    confusables: allowed":                                                    `line 4: spaces.a.confusables needs unicode: precis`,
		"spaces:\n  a: {version: 1, confusable: allowed}":                                                            `line 2: spaces.a.confusable is no setting: did you mean confusables?`,
		"spaces:\n  a: {version: 1, unicode: precis, scripts: Latn}":                                                 `line 2: spaces.a.scripts is "Latn", which is no list of words`,
		"spaces:\n  a: {version: 1, unicode: precis, confusables: none}":                                             `line 2: spaces.a confusables "none": allowed, as_typed or lower_case`,
		"spaces:\n  a: &p {version: 2}\n  b: *p":                                                                     `line 3: spaces has an alias, or a key that is no word: write it out`,
		"spaces:\n  a: {version: 1}\n---\nspaces: {}":                                                                `it holds more than one document`,
	} {
		if _, err := config.ParseSpaces([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q:\n  %v, want\n  %s", text, err, want)
		}
	}
	for _, text := range []string{"spaces: {a\x00b: {version: 1}}", "spaces:\n  username: {version: 2, reserved: [\"a\\0b\"]}", "spaces: {\xff: {}}", "spaces: [", "\x00"} {
		if _, err := config.ParseSpaces([]byte(text)); err == nil {
			t.Errorf("%q is a file of spaces", text)
		}
	}
}

func TestReadSpaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spaces.yaml")
	if _, err := config.ReadSpaces(path); !errors.Is(err, config.ErrSpaces) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Repeat("# far too much\n", 100_000))
	if _, err := config.ReadSpaces(path); !errors.Is(err, config.ErrSpaces) || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("a huge file: %v", err)
	}
	write("spaces: {username: {version: 2}}")
	if policies, err := config.ReadSpaces(path); err != nil || len(policies) != 1 {
		t.Errorf("%v, %v", policies, err)
	}
	if _, err := config.ReadSpaces(t.TempDir()); !errors.Is(err, config.ErrSpaces) {
		t.Errorf("a folder: %v", err)
	}
}
